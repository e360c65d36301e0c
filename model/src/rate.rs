//! Rates: so many starts in a period, with a burst. What `catchUp.rate` and a queue's limits say.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::limits::{RATE_PERIOD_MAX, RATE_STARTS_MAX};
use crate::manifest::duration_text;
use crate::schedule::parse_duration;
use crate::time::duration_ms;

/// `limit` starts per `per`, evenly, of which `burst` may come at once after a rest: in any window *w* at most `burst` +
/// *w* · `limit` / `per`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    pub limit: u32,
    pub per: Duration,
    /// How many may start at the same instant after a rest: 1 to `limit`.
    pub burst: u32,
}

/// Why a text is no rate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}; expected a number of starts and a period, for example 10/s, 100/1m or 5/10s burst 2")]
pub struct RateError(String);

impl Rate {
    /// One start after this much time, in microseconds, keeps the rate exactly (rounded up, never above it).
    #[must_use]
    pub fn interval_us(&self) -> i64 {
        let period_us = duration_ms(self.per).saturating_mul(1_000);
        let limit = i64::from(self.limit.max(1));
        (period_us + limit - 1) / limit
    }
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let (rate, burst) = match text.split_once(" burst ") {
            Some((rate, burst)) => (rate, Some(burst)),
            None => (text, None),
        };
        let (limit, period) =
            rate.split_once('/').ok_or_else(|| RateError(format!("{text:?} has no slash")))?;
        let starts = |what: &str, text: &str| match text.trim().parse() {
            Ok(count) if (1..=RATE_STARTS_MAX).contains(&count) => Ok(count),
            _ => Err(RateError(format!(
                "{what} is {text:?}: it must be between 1 and {RATE_STARTS_MAX} (RATE_STARTS_MAX)"
            ))),
        };
        let limit: u32 = starts("the number of starts", limit)?;
        let period = period.trim();
        let unit = !period.starts_with(|first: char| first.is_ascii_digit());
        let period = if unit { format!("1{period}") } else { period.to_owned() };
        let per = parse_duration(&period).map_err(|error| RateError(format!("the period: {error}")))?;
        if per < Duration::from_millis(1) || per > RATE_PERIOD_MAX {
            let longest = duration_text(RATE_PERIOD_MAX);
            return Err(RateError(format!("the period must be between 1ms and {longest} (RATE_PERIOD_MAX)")));
        }
        let burst = burst.map_or(Ok(1), |burst| starts("the burst", burst))?;
        if burst > limit {
            return Err(RateError(format!("a burst of {burst} is more than the {limit} starts of a period")));
        }
        Ok(Self { limit, per, burst })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.limit, duration_text(self.per))?;
        if self.burst > 1 { write!(f, " burst {}", self.burst) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_read_as_people_write_them() {
        for (text, limit, per_ms, burst, shown) in [
            ("10/s", 10, 1_000, 1, "10/1s"),
            ("100/1m", 100, 60_000, 1, "100/1m"),
            ("5/10s burst 2", 5, 10_000, 2, "5/10s burst 2"),
            ("1/d", 1, 86_400_000, 1, "1/1d"),
        ] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!(rate, Rate { limit, per: Duration::from_millis(per_ms), burst }, "{text}");
            assert_eq!(rate.to_string(), shown);
            assert_eq!(shown.parse(), Ok(rate));
        }
    }

    #[test]
    fn what_is_no_rate_says_why() {
        for (text, why) in [
            ("10", "no slash"),
            ("0/s", "between 1 and"),
            ("x/s", "between 1 and"),
            ("10/parsec", "the period"),
            ("10/0s", "the period must be"),
            ("10/400d", "the period must be"),
            ("2/s burst 3", "a burst of 3"),
        ] {
            let error = text.parse::<Rate>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn the_interval_never_exceeds_the_rate() {
        let interval = |text: &str| text.parse::<Rate>().unwrap().interval_us();
        assert_eq!((interval("10/s"), interval("3/s"), interval("7/m")), (100_000, 333_334, 8_571_429));
    }
}
