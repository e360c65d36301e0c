//! Time: "now" in the store's terms, and waiting.
//!
//! Owns the only reads of the operating system's clocks. Two kinds of time are kept apart: the *wall* (instants; it is
//! corrected by an offset, and may be stepped as long as none is known) and the *monotonic* (durations; it only grows). `sleep_until` follows
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
    System {
        offset_ms: AtomicI64,
        started: tokio::time::Instant,
        wall: Wall,
        /// What the wall showed when this clock was made, once an offset is known: from then on only durations are taken from
        /// the host, and steps of its wall don't matter.
        steady_since_ms: AtomicI64,
    },
    Manual {
        offset_ms: AtomicI64,
        reading: watch::Sender<Reading>,
    },
}

/// What a system clock's wall is.
enum Wall {
    Host,
    /// It goes with tokio's time, which a simulation lets pass as it likes, and is stepped now and then.
    Simulated {
        began: Timestamp,
        step_ms: AtomicI64,
    },
}

impl Wall {
    fn now(&self, started: &tokio::time::Instant) -> Timestamp {
        match self {
            Self::Host => system_now(),
            Self::Simulated { began, step_ms } => {
                began.plus(started.elapsed()).plus_ms(step_ms.load(Ordering::Relaxed))
            }
        }
    }
}

/// No offset is known yet.
const NOT_STEADY: i64 = i64::MIN;

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
        Self::beginning_now(Wall::Host)
    }

    /// A clock that shows `now` and goes with tokio's time: for simulations, which pause that.
    #[must_use]
    pub fn simulated(now: Timestamp) -> Self {
        Self::beginning_now(Wall::Simulated { began: now, step_ms: AtomicI64::new(0) })
    }

    fn beginning_now(wall: Wall) -> Self {
        let (offset_ms, started) = (AtomicI64::new(0), tokio::time::Instant::now());
        Self(Arc::new(Source::System {
            offset_ms,
            started,
            wall,
            steady_since_ms: AtomicI64::new(NOT_STEADY),
        }))
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

    /// The present instant by this host's own clock: what an offset is measured against. Once an offset is known, it goes on
    /// evenly, however the host's wall is stepped: what the store's clock says is all that matters from then on, and until it
    /// is asked again nobody knows how far the host's was stepped.
    #[must_use]
    pub fn local_now(&self) -> Timestamp {
        match &*self.0 {
            Source::System { started, wall, steady_since_ms, .. } => {
                match steady_since_ms.load(Ordering::Relaxed) {
                    NOT_STEADY => wall.now(started),
                    since_ms => Timestamp::from_ms(since_ms).plus(started.elapsed()),
                }
            }
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
        if let Source::System { started, wall, steady_since_ms, .. } = &*self.0
            && steady_since_ms.load(Ordering::Relaxed) == NOT_STEADY
        {
            let since_ms = wall.now(started).plus_ms(-duration_ms(started.elapsed())).as_ms();
            steady_since_ms.store(since_ms, Ordering::Relaxed);
        }
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

    /// Simulated clocks: steps the wall, as somebody does who sets a host's clock. Nothing on others.
    pub fn step_ms(&self, by_ms: i64) {
        if let Source::System { wall: Wall::Simulated { step_ms, .. }, .. } = &*self.0 {
            step_ms.fetch_add(by_ms, Ordering::Relaxed);
        }
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

    #[test]
    fn steps_of_the_wall_do_not_matter_once_an_offset_is_known() {
        let hour_ms = 3_600_000;
        let clock = Clock::simulated(at(hour_ms));
        clock.step_ms(2 * hour_ms);
        assert!(clock.now() >= at(3 * hour_ms));
        clock.set_offset_ms(-2 * hour_ms);
        clock.step_ms(9 * hour_ms);
        assert!(clock.now() >= at(hour_ms) && clock.now() < at(2 * hour_ms));
        // Measured against the same reading, the next offset goes as far as the one before.
        let (before, local) = (clock.offset_ms(), clock.local_now());
        assert!(local >= at(3 * hour_ms) && local < at(4 * hour_ms), "{local} with {before}");
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
