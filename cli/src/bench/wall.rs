//! The wall clock in microseconds. `ambient` tells milliseconds, which are as coarse as the lateness to be measured: so
//! its tick is caught once, and counted on from there with the monotonic clock.

use std::time::Duration;

use ambient::Clock;
use model::time::Timestamp;
use tokio::time::Instant;

/// Ticks that are looked at; the one seen soonest counts.
const TICKS: usize = 5;

/// A reading of the wall clock, and when it was taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wall {
    base_us: i64,
    base: Instant,
}

impl Wall {
    /// Watches a few milliseconds begin, for some milliseconds.
    pub(super) fn catch(clock: &Clock) -> Self {
        let mut best: Option<Self> = None;
        for _ in 0..TICKS {
            let before = clock.local_now();
            let mut now = before;
            while now == before {
                now = clock.local_now();
            }
            let seen = Self { base_us: now.as_ms() * 1_000, base: Instant::now() };
            // A tick that was seen late makes all later instants look early: the reading that is furthest on is best.
            let better = best.is_none_or(|best| seen.base_us > best.at_us(seen.base));
            if better {
                best = Some(seen);
            }
        }
        best.unwrap_or(Self { base_us: clock.local_now().as_ms() * 1_000, base: Instant::now() })
    }

    fn at_us(&self, at: Instant) -> i64 {
        let since = at.saturating_duration_since(self.base);
        self.base_us + i64::try_from(since.as_micros()).unwrap_or(i64::MAX / 2)
    }

    /// Microseconds since 1970.
    pub(super) fn now_us(&self) -> i64 {
        self.at_us(Instant::now())
    }

    pub(super) fn now(&self) -> Timestamp {
        Timestamp::from_ms(self.now_us() / 1_000)
    }

    /// Waits for an instant, as well as tokio's timer can: up to a millisecond longer.
    pub(super) async fn sleep_until_us(&self, at_us: i64) {
        if let Ok(left) = u64::try_from(at_us - self.base_us) {
            tokio::time::sleep_until(self.base + Duration::from_micros(left)).await;
        }
    }
}
