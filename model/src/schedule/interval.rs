//! Durations as people write them: `15s`, `1h30m`, `100ms`, and Go's notation for `@every`.

use std::time::Duration;

use super::policy::clip;
use crate::time::duration_ms;

/// The shortest `every`: a tenth of a second.
pub const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// The longest duration that a schedule may contain: ten years.
pub(super) const DURATION_MAX: Duration = Duration::from_secs(3_653 * 86_400);
/// The longest text that is read as a duration.
const DURATION_TEXT_MAX: usize = 64;
/// `@every` works in whole seconds, and at least one (robfig/cron v3).
const GO_EVERY_MIN: Duration = Duration::from_secs(1);

/// Text that is no duration, or one that a schedule can't use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no usable duration: expected {expected}")]
pub struct ParseIntervalError {
    text: String,
    expected: &'static str,
}

impl ParseIntervalError {
    /// What would have been right, for a message that names the text by itself.
    pub(super) fn expected(&self) -> &'static str {
        self.expected
    }
}

fn refused(text: &str, expected: &'static str) -> ParseIntervalError {
    ParseIntervalError { text: clip(text), expected }
}

/// Reads a duration such as `15s`, `10m`, `1h30m`, `100ms`; zero is allowed, fractions of a millisecond aren't.
///
/// ```
/// use ecron_model::schedule::parse_duration;
/// assert_eq!(parse_duration("1h30m").unwrap().as_secs(), 5_400);
/// assert!(parse_duration("soon").is_err());
/// ```
///
/// # Errors
/// Names the text and shows the form that was expected.
pub fn parse_duration(text: &str) -> Result<Duration, ParseIntervalError> {
    const FORM: &str = "a number and a unit, for example 100ms, 15s, 10m, 1h30m or 2d";
    if text.len() > DURATION_TEXT_MAX {
        return Err(refused(text, FORM));
    }
    let duration = humantime::parse_duration(text).map_err(|_| refused(text, FORM))?;
    if !duration.subsec_nanos().is_multiple_of(1_000_000) {
        return Err(refused(text, "whole milliseconds"));
    }
    if duration > DURATION_MAX { Err(refused(text, "at most ten years")) } else { Ok(duration) }
}

/// Reads the interval of `every`: a duration of at least 100 ms.
///
/// # Errors
/// Names the text and shows what was expected.
pub fn parse_interval(text: &str) -> Result<Duration, ParseIntervalError> {
    let duration = parse_duration(text)?;
    if duration < INTERVAL_MIN { Err(refused(text, "at least 100ms")) } else { Ok(duration) }
}

/// Reads what follows `@every`: Go's notation, then cut to whole seconds and raised to one, as robfig/cron v3 does.
///
/// # Errors
/// Names the text and shows what was expected.
pub fn parse_go_duration(text: &str) -> Result<Duration, ParseIntervalError> {
    const FORM: &str = "a positive Go duration, for example 90s, 15m or 1h30m";
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() || text.len() > DURATION_TEXT_MAX {
        return Err(refused(text, FORM));
    }
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let (part, after) = go_part(rest).ok_or_else(|| refused(text, FORM))?;
        nanos = nanos.saturating_add(part);
        rest = after;
    }
    if nanos == 0 {
        return Err(refused(text, FORM));
    }
    let seconds = u64::try_from(nanos / 1_000_000_000).unwrap_or(u64::MAX);
    let duration = Duration::from_secs(seconds).max(GO_EVERY_MIN);
    if duration > DURATION_MAX { Err(refused(text, "at most ten years")) } else { Ok(duration) }
}

/// One number and its unit, in nanoseconds, and what follows.
fn go_part(text: &str) -> Option<(u128, &str)> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let whole = digits(text);
    let (fraction, unit_at) = match text[whole..].strip_prefix('.') {
        Some(after) => (&after[..digits(after)], whole + 1 + digits(after)),
        None => ("", whole),
    };
    if whole + fraction.len() == 0 {
        return None;
    }
    let unit = &text[unit_at..];
    // Longest first: "ms" before "m".
    let units: [(&str, u128); 8] = [
        ("ns", 1),
        ("us", 1_000),
        ("µs", 1_000),
        ("μs", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];
    let (name, scale) = units.into_iter().find(|(name, _)| unit.starts_with(name))?;
    let number = |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<u128>().ok() };
    let mut nanos = number(&text[..whole])?.checked_mul(scale)?;
    // Nine digits decide every nanosecond of an hour well enough: the result is cut to whole seconds.
    let fraction = &fraction[..fraction.len().min(9)];
    nanos = nanos.checked_add(
        number(fraction)?.checked_mul(scale)? / 10_u128.pow(u32::try_from(fraction.len()).ok()?),
    )?;
    Some((nanos, &unit[name.len()..]))
}

/// A duration as `parse_duration` reads it: `1h 30m`.
pub(super) fn duration_text(duration: Duration) -> String {
    let ms = duration_ms(duration).unsigned_abs();
    humantime::format_duration(Duration::from_millis(ms)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations_are_cut_to_whole_seconds() {
        for (text, seconds) in
            [("15m", 900), ("1h30m10s", 5_410), ("1.5h", 5_400), ("15ms", 1), ("1500ms", 1), ("2.9s", 2)]
        {
            assert_eq!(parse_go_duration(text).unwrap().as_secs(), seconds, "{text}");
        }
    }

    #[test]
    fn go_durations_that_go_refuses_are_refused() {
        for text in [
            "",
            "Xm",
            "5",
            "-5s",
            "5 m",
            "1d",
            ".s",
            "s",
            "0s",
            "5mm",
            "99999999999999999999999999999999999999999h",
        ] {
            assert!(parse_go_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn intervals_have_bounds() {
        assert_eq!(parse_interval("100ms").unwrap(), INTERVAL_MIN);
        for text in ["99ms", "0s", "1us", "100.5ms", "11years", "", "-1s", "15", "every day"] {
            assert!(parse_interval(text).is_err(), "{text}");
        }
    }
}
