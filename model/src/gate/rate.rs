//! A token bucket in one number: when the next start would be due if starts came evenly (GCRA).
//!
//! That instant (µs, the *due mark*) moves one interval on with each start, and a start may come up to `burst` − 1
//! intervals before it. Whole numbers only: the scripts of the store do the same arithmetic.

use std::time::Duration;

use crate::rate::Rate;
use crate::time::{Timestamp, duration_ms};

/// How much later than it was let go a run may start without its start falling into the period before: what executors
/// start a little late must not make a period too full. At most a twentieth of the period.
const START_LAG: Duration = Duration::from_millis(25);

/// One start after this much time, in µs, keeps a rate: in any window *w* there are at most `burst` + *w* / interval.
#[must_use]
pub fn interval_us(rate: &Rate) -> i64 {
    let period_us = duration_ms(rate.per).saturating_mul(1_000);
    let lag_us = (period_us / 20).min(duration_ms(START_LAG) * 1_000);
    let limit = i64::from(rate.limit.max(1));
    (period_us.saturating_add(lag_us) + limit - 1) / limit
}

/// By how much a start may come before the due mark, in µs.
#[must_use]
pub fn tolerance_us(rate: &Rate) -> i64 {
    i64::from(rate.burst.max(1) - 1).saturating_mul(interval_us(rate))
}

/// When the next start may come, in µs, if the due mark is there.
#[must_use]
pub fn free_at_us(rate: &Rate, mark_us: i64) -> i64 {
    mark_us - tolerance_us(rate)
}

/// The due mark after a start.
#[must_use]
pub fn after_start_us(rate: &Rate, mark_us: Option<i64>, now_us: i64) -> i64 {
    mark_us.map_or(now_us, |mark| mark.max(now_us)) + interval_us(rate)
}

/// How many may start at this instant.
#[must_use]
pub fn tokens(rate: &Rate, mark: Option<i64>, now: Timestamp) -> u32 {
    let now_us = us(now);
    let room = (now_us - free_at_us(rate, mark.unwrap_or(now_us).max(now_us))).max(-1);
    let whole = if room < 0 { 0 } else { room / interval_us(rate) + 1 };
    u32::try_from(whole).unwrap_or(rate.burst).min(rate.burst)
}

/// An instant in the unit of due marks.
#[must_use]
pub fn us(at: Timestamp) -> i64 {
    at.as_ms().saturating_mul(1_000)
}

/// The first instant that isn't before this one.
#[must_use]
pub fn instant(us: i64) -> Timestamp {
    Timestamp::from_ms(us.div_euclid(1_000) + i64::from(us.rem_euclid(1_000) > 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rate(text: &str) -> Rate {
        text.parse().unwrap()
    }

    #[test]
    fn intervals_are_the_period_and_a_little_more_divided_evenly() {
        for (text, us) in [
            ("10/s", 102_500),
            ("100/1m", 600_250),
            ("1/100ms", 105_000),
            ("3/s", 341_667),
            ("1/d", 86_400_025_000),
        ] {
            assert_eq!(interval_us(&rate(text)), us, "{text}");
        }
    }

    #[test]
    fn tokens_come_back_one_by_one_up_to_the_burst() {
        let rate = rate("10/s burst 3");
        let at = |ms: i64| Timestamp::from_ms(1_000_000 + ms);
        assert_eq!(tokens(&rate, None, at(0)), 3);
        let mut mark = None;
        for left in [2, 1, 0] {
            mark = Some(after_start_us(&rate, mark, us(at(0))));
            assert_eq!(tokens(&rate, mark, at(0)), left);
        }
        let table = [(102, 0), (103, 1), (205, 2), (308, 3), (99_999, 3)];
        for (ms, expected) in table {
            assert_eq!(tokens(&rate, mark, at(ms)), expected, "after {ms} ms");
        }
        assert_eq!(instant(free_at_us(&rate, mark.unwrap())), at(103));
    }

    proptest! {
        /// Whatever the instants that somebody tries at: no window of the period has more than `limit` + `burst` − 1 starts,
        /// even if each of them comes up to the allowed lag late.
        #[test]
        fn no_window_is_too_full(
            limit in 1u32..20, burst in 1u32..20, per_ms in 10i64..5_000, gaps in proptest::collection::vec(0i64..400, 1..300),
            lags in proptest::collection::vec(0u64..1_000, 300),
        ) {
            let burst = burst.min(limit);
            let rate = Rate { limit, burst, per: Duration::from_millis(per_ms.unsigned_abs()) };
            let (mut now, mut mark, mut starts) = (0, None, Vec::new());
            let lag_us = (per_ms * 50).min(25_000);
            for (gap, lag) in gaps.iter().zip(&lags) {
                now += gap * 1_000;
                if mark.is_none_or(|mark| now >= free_at_us(&rate, mark)) {
                    mark = Some(after_start_us(&rate, mark, now));
                    starts.push(now + i64::try_from(*lag).unwrap() * lag_us / 1_001);
                }
            }
            starts.sort_unstable();
            for (first, start) in starts.iter().enumerate() {
                let within = starts[first..].iter().take_while(|at| *at - start < per_ms * 1_000).count();
                prop_assert!(within < (limit + burst) as usize, "{within} starts in a period of {rate}");
            }
        }
    }
}
