//! Instants and durations, in milliseconds.
//!
//! Owns `Timestamp`, the one form in which an instant travels through ecron, and its text (RFC 3339, UTC). It never
//! reads a clock: "now" is always an argument.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};

/// Milliseconds in a second, a minute, half an hour, an hour.
pub const SECOND_MS: i64 = 1_000;
/// Milliseconds in a minute.
pub const MINUTE_MS: i64 = 60 * SECOND_MS;
/// Milliseconds in half an hour.
pub const HALF_HOUR_MS: i64 = 30 * MINUTE_MS;
/// Milliseconds in an hour.
pub const HOUR_MS: i64 = 60 * MINUTE_MS;

/// An instant: milliseconds since 1970-01-01T00:00:00Z. Its text is RFC 3339 in UTC, with milliseconds only when
/// they aren't zero: `2026-11-22T06:45:00Z`, `2026-11-22T06:45:00.250Z`.
///
/// ```
/// use ecron_model::time::Timestamp;
/// let due: Timestamp = "2026-11-22T07:45:00+01:00".parse().unwrap();
/// assert_eq!(due.to_string(), "2026-11-22T06:45:00Z");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

/// The earliest and latest instant that ecron accepts: the years 1970 to 2199.
pub const TIMESTAMP_MAX: Timestamp = Timestamp(7_258_118_399_999);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "read {text:?} as an instant: expected RFC 3339 between 1970 and 2199, for example 2026-11-22T06:45:00Z"
)]
pub struct ParseTimestampError {
    text: String,
}

impl Timestamp {
    /// From milliseconds since the epoch.
    #[must_use]
    pub const fn from_ms(ms: i64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub const fn as_ms(self) -> i64 {
        self.0
    }

    /// The same instant for calendar work; `None` outside chrono's range.
    #[must_use]
    pub fn to_utc(self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_millis(self.0)
    }

    /// The greatest multiple of `unit_ms` (counted from the epoch) that isn't after this instant.
    #[must_use]
    pub const fn floor(self, unit_ms: i64) -> Self {
        Self(self.0.div_euclid(unit_ms) * unit_ms)
    }

    /// Later by `ms` (earlier if negative); saturates.
    #[must_use]
    pub const fn plus_ms(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to here; negative if `earlier` is later.
    #[must_use]
    pub const fn ms_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Later by a duration; saturates.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        self.plus_ms(duration_ms(duration))
    }
}

/// A duration in whole milliseconds, rounded down; saturates at `i64::MAX`.
#[must_use]
pub fn duration_ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if (0..=TIMESTAMP_MAX.0).contains(&self.0) {
            let (text, length) = rfc3339(self.0);
            return f.write_str(std::str::from_utf8(&text[..length]).map_err(|_| fmt::Error)?);
        }
        match self.to_utc() {
            Some(utc) if self.0.rem_euclid(SECOND_MS) == 0 => {
                f.write_str(&utc.to_rfc3339_opts(SecondsFormat::Secs, true))
            }
            Some(utc) => f.write_str(&utc.to_rfc3339_opts(SecondsFormat::Millis, true)),
            None => write!(f, "{}ms", self.0),
        }
    }
}

const DAY_MS: i64 = 24 * HOUR_MS;
/// `2026-11-22T06:45:00.250Z`; without milliseconds it ends after the seconds.
const TEMPLATE: [u8; 24] = *b"0000-00-00T00:00:00.000Z";
const LENGTH_WITHOUT_MS: usize = 20;

/// The text of an instant within our range, and its length. A run's instants are written a dozen times on its way; by
/// chrono's general form each takes a few hundred nanoseconds, so that this is a twentieth of a run's CPU time.
fn rfc3339(ms: i64) -> ([u8; TEMPLATE.len()], usize) {
    let (year, month, day) = civil(ms / DAY_MS);
    let of_day = ms % DAY_MS;
    let mut text = TEMPLATE;
    let mut put = |at: usize, digits: usize, number: i64| {
        let mut left = number;
        for place in text[at..at + digits].iter_mut().rev() {
            *place = b'0' + u8::try_from(left % 10).unwrap_or(0);
            left /= 10;
        }
    };
    put(0, 4, year);
    put(5, 2, month);
    put(8, 2, day);
    put(11, 2, of_day / HOUR_MS);
    put(14, 2, of_day / MINUTE_MS % 60);
    put(17, 2, of_day / SECOND_MS % 60);
    put(20, 3, of_day % SECOND_MS);
    if of_day % SECOND_MS != 0 {
        return (text, TEMPLATE.len());
    }
    text[LENGTH_WITHOUT_MS - 1] = b'Z';
    (text, LENGTH_WITHOUT_MS)
}

/// Year, month and day of a day since the epoch, by the civil calendar that began on 1 March of the year 0.
fn civil(day: i64) -> (i64, i64, i64) {
    const DAYS_TO_EPOCH: i64 = 719_468;
    const ERA_DAYS: i64 = 146_097;
    let day = day + DAYS_TO_EPOCH;
    let (era, of_era) = (day / ERA_DAYS, day % ERA_DAYS);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

impl FromStr for Timestamp {
    type Err = ParseTimestampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || ParseTimestampError { text: text.chars().take(64).collect() };
        let ms = DateTime::parse_from_rfc3339(text).map_err(|_| refused())?.timestamp_millis();
        if (0..=TIMESTAMP_MAX.0).contains(&ms) { Ok(Self(ms)) } else { Err(refused()) }
    }
}

/// As its text.
impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(utc: DateTime<Utc>) -> Self {
        Self(utc.timestamp_millis())
    }
}

/// So many milliseconds for people, in at most two units: `3.4 s`, `5m 20s`, `3h 9m`, `1186d 0h`.
#[must_use]
pub fn duration_text(ms: i64) -> String {
    let (seconds, minutes, hours) = (ms / 1_000, ms / 60_000, ms / 3_600_000);
    match ms.max(0) {
        ms @ ..1_000 => format!("{ms} ms"),
        ms @ 1_000..60_000 => format!("{seconds}.{} s", ms % 1_000 / 100),
        60_000..3_600_000 => format!("{minutes}m {}s", seconds % 60),
        3_600_000..86_400_000 => format!("{hours}h {}m", minutes % 60),
        _ => format!("{}d {}h", hours / 24, hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_shows_milliseconds_only_when_there_are_any() {
        for text in ["2026-11-22T06:45:00Z", "2026-11-22T06:45:00.250Z", "1970-01-01T00:00:00Z"] {
            assert_eq!(text.parse::<Timestamp>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn every_day_is_written_as_chrono_writes_it() {
        for day in 0..=TIMESTAMP_MAX.0 / DAY_MS {
            for of_day in [0, 1, 86_399_999, 43_200_000 + day % 43_200_000] {
                let ms = day * DAY_MS + of_day;
                let format =
                    if of_day % SECOND_MS == 0 { SecondsFormat::Secs } else { SecondsFormat::Millis };
                let expected = DateTime::from_timestamp_millis(ms).unwrap().to_rfc3339_opts(format, true);
                assert_eq!(Timestamp::from_ms(ms).to_string(), expected);
            }
        }
        assert_eq!(Timestamp::from_ms(-1).to_string(), "1969-12-31T23:59:59.999Z");
        assert_eq!(TIMESTAMP_MAX.plus_ms(1).to_string(), "2200-01-01T00:00:00Z");
    }

    #[test]
    fn instants_outside_the_range_are_refused() {
        for text in ["1969-12-31T23:59:59Z", "2200-01-01T00:00:00Z", "2026-11-22", "", "2026-11-22T06:45:00"]
        {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
    }

    #[test]
    fn floor_goes_down_to_the_unit() {
        let at: Timestamp = "2026-11-22T06:45:17.250Z".parse().unwrap();
        assert_eq!(at.floor(MINUTE_MS).to_string(), "2026-11-22T06:45:00Z");
        assert_eq!(at.floor(HALF_HOUR_MS).to_string(), "2026-11-22T06:30:00Z");
    }

    #[test]
    fn a_time_is_told_in_two_units() {
        let table = [
            (-5, "0 ms"),
            (999, "999 ms"),
            (3_450, "3.4 s"),
            (320_000, "5m 20s"),
            (11_353_652, "3h 9m"),
            (102_470_400_000, "1186d 0h"),
        ];
        for (ms, text) in table {
            assert_eq!(duration_text(ms), text);
        }
    }
}
