//! Time: "now" in the store's terms, and waiting.
//!
//! Owns the only reads of the operating system's clocks. Two kinds of time are kept apart: the *wall* (instants; it is
//! corrected by an offset, and may be stepped) and the *monotonic* (durations; it only grows). `sleep_until` follows
//! the wall, `sleep` the monotonic. A manual clock moves only when a test says so.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use model::time::{Timestamp, duration_ms};
use tokio::sync::watch;

/// The longest nap within one `sleep_until`. The wall may be stepped, its offset corrected, or the host suspended
/// while we sleep on a timer that knows nothing of it: so look again this often.
const NAP_MAX: Duration = Duration::from_secs(1);

/// A handle to the time. Clones share it, its offset included.
///
/// ```
/// use ecron_ambient::Clock;
/// use model::time::Timestamp;
/// let clock = Clock::manual(Timestamp::from_ms(1_000));
/// clock.advance(std::time::Duration::from_millis(250));
/// assert_eq!(clock.now(), Timestamp::from_ms(1_250));
/// ```
#[derive(Clone)]
pub struct Clock(Arc<Source>);

enum Source {
    System { offset_ms: AtomicI64, started: tokio::time::Instant },
    Manual { offset_ms: AtomicI64, reading: watch::Sender<Reading> },
}

/// What a manual clock shows.
#[derive(Clone, Copy)]
struct Reading {
    wall: Timestamp,
    monotonic: Duration,
}

impl Clock {
    /// The operating system's clock, with an offset of zero.
    #[must_use]
    pub fn system() -> Self {
        Self(Arc::new(Source::System { offset_ms: AtomicI64::new(0), started: tokio::time::Instant::now() }))
    }

    /// A clock that stands still at `now` until a test moves it.
    #[must_use]
    pub fn manual(now: Timestamp) -> Self {
        let (reading, _) = watch::channel(Reading { wall: now, monotonic: Duration::ZERO });
        Self(Arc::new(Source::Manual { offset_ms: AtomicI64::new(0), reading }))
    }

    /// The present instant, by the store's clock as far as its offset is known.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.local_now().plus_ms(self.offset_ms())
    }

    /// The present instant by this host's own clock: what an offset is measured against.
    #[must_use]
    pub fn local_now(&self) -> Timestamp {
        match &*self.0 {
            Source::System { .. } => system_now(),
            Source::Manual { reading, .. } => reading.borrow().wall,
        }
    }

    /// How much the store's clock is ahead of this host's.
    #[must_use]
    pub fn offset_ms(&self) -> i64 {
        self.offset().load(Ordering::Relaxed)
    }

    /// Corrects every clone of this handle: `now` is the host's clock plus `offset_ms`.
    pub fn set_offset_ms(&self, offset_ms: i64) {
        self.offset().store(offset_ms, Ordering::Relaxed);
        if let Source::Manual { reading, .. } = &*self.0 {
            reading.send_modify(|_| ());
        }
    }

    /// Time since this clock was made. It never goes back, whatever happens to the wall: for leases and durations.
    #[must_use]
    pub fn monotonic(&self) -> Duration {
        match &*self.0 {
            Source::System { started, .. } => started.elapsed(),
            Source::Manual { reading, .. } => reading.borrow().monotonic,
        }
    }

    /// Waits until `now` has reached `at`; never returns early. Follows corrections and steps of the wall within a second.
    pub async fn sleep_until(&self, at: Timestamp) {
        match &*self.0 {
            Source::System { .. } => loop {
                let Some(left) = until(self.now(), at) else { return };
                tokio::time::sleep(left.min(NAP_MAX)).await;
            },
            Source::Manual { offset_ms, reading } => {
                let reached =
                    |r: &Reading| until(r.wall.plus_ms(offset_ms.load(Ordering::Relaxed)), at).is_none();
                moved(reading, reached).await;
            }
        }
    }

    /// Waits for a duration, counted from this call (not from the first poll).
    pub fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send + use<> {
        let source = Arc::clone(&self.0);
        let wake_at = self.monotonic().saturating_add(duration);
        async move {
            match &*source {
                Source::System { started, .. } => match started.checked_add(wake_at) {
                    Some(instant) => tokio::time::sleep_until(instant).await,
                    None => std::future::pending().await,
                },
                Source::Manual { reading, .. } => moved(reading, |r| r.monotonic >= wake_at).await,
            }
        }
    }

    /// Manual clocks: lets this much time pass. Panics on a system clock.
    pub fn advance(&self, duration: Duration) {
        self.reading().send_modify(|r| {
            r.wall = r.wall.plus_ms(duration_ms(duration));
            r.monotonic = r.monotonic.saturating_add(duration);
        });
    }

    /// Manual clocks: shows `at`. Forward, that much time passes; backward, only the wall is stepped. Panics on a
    /// system clock.
    pub fn set(&self, at: Timestamp) {
        self.reading().send_modify(|r| {
            r.monotonic = r.monotonic.saturating_add(until(r.wall, at).unwrap_or_default());
            r.wall = at;
        });
    }

    fn offset(&self) -> &AtomicI64 {
        match &*self.0 {
            Source::System { offset_ms, .. } | Source::Manual { offset_ms, .. } => offset_ms,
        }
    }

    fn reading(&self) -> &watch::Sender<Reading> {
        match &*self.0 {
            Source::Manual { reading, .. } => reading,
            Source::System { .. } => panic!("only a manual clock can be moved"),
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").field("now", &self.now()).field("offset_ms", &self.offset_ms()).finish()
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
fn system_now() -> Timestamp {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp::from_ms(since_epoch.map_or(0, duration_ms))
}

/// The time from `now` to `at`, or `None` if `at` has come.
fn until(now: Timestamp, at: Timestamp) -> Option<Duration> {
    let left_ms = u64::try_from(at.ms_since(now)).ok().filter(|ms| *ms > 0)?;
    Some(Duration::from_millis(left_ms))
}

async fn moved(reading: &watch::Sender<Reading>, reached: impl Fn(&Reading) -> bool) {
    // The sender lives in the handle that is borrowed here, so the channel can't close.
    let _ = reading.subscribe().wait_for(|r| reached(r)).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_ms(ms)
    }

    #[test]
    fn a_manual_clock_stands_still_until_it_is_moved() {
        let clock = Clock::manual(at(1_000));
        let mut sleep = Box::pin(clock.sleep(Duration::from_millis(500)));
        let mut until = Box::pin(clock.sleep_until(at(1_500)));
        assert!(sleep.as_mut().now_or_never().is_none());
        clock.advance(Duration::from_millis(499));
        assert!(sleep.as_mut().now_or_never().is_none());
        assert!(until.as_mut().now_or_never().is_none());
        clock.set(at(1_500));
        assert!(sleep.as_mut().now_or_never().is_some());
        assert!(until.as_mut().now_or_never().is_some());
    }

    #[test]
    fn stepping_the_wall_back_takes_no_time_back() {
        let clock = Clock::manual(at(10_000));
        clock.advance(Duration::from_secs(1));
        clock.set(at(5_000));
        assert_eq!((clock.now(), clock.monotonic()), (at(5_000), Duration::from_secs(1)));
        assert!(clock.sleep_until(at(5_001)).now_or_never().is_none());
    }

    #[test]
    fn clones_share_the_offset() {
        let clock = Clock::manual(at(10_000));
        let twin = clock.clone();
        let mut sleep = Box::pin(twin.sleep_until(at(12_000)));
        assert!(sleep.as_mut().now_or_never().is_none());
        clock.set_offset_ms(2_000);
        assert_eq!((twin.now(), twin.local_now()), (at(12_000), at(10_000)));
        assert!(sleep.as_mut().now_or_never().is_some());
    }

    #[tokio::test]
    async fn the_system_clock_is_never_early() {
        let clock = Clock::system();
        let due = clock.now().plus_ms(20);
        clock.sleep_until(due).await;
        assert!(clock.now() >= due);
        let before = clock.monotonic();
        clock.sleep(Duration::from_millis(5)).await;
        assert!(clock.monotonic() - before >= Duration::from_millis(5));
    }
}
