//! Header names, and the values that several messages share: durations, retry policies.

use std::collections::BTreeMap;
use std::time::Duration;

use model::limits::{ATTEMPTS_MAX, RETRY_DELAY_MAX, TIMEOUT_MAX};
use model::retry::RetryPolicy;
use model::time::Timestamp;

use crate::order::OrderProblem;

/// A message's headers. Values of a name that was given more than once are joined by a line break, which no single
/// value can hold; so a repeated header of ours is recognised, and a repeated header of a user's survives a copy.
pub type Headers = BTreeMap<String, String>;

/// Joins the values of a repeated header.
pub const REPEATED: char = '\n';

/// The version of the run and submit headers.
pub const WIRE_VERSION: &str = "1";

pub const WIRE: &str = "Ecron-Wire";
pub const RUN_ID: &str = "Ecron-Run-Id";
pub const REVISION: &str = "Ecron-Revision";
pub const GENERATION: &str = "Ecron-Generation";
pub const DUE_AT: &str = "Ecron-Due-At";
pub const ATTEMPT_BASE: &str = "Ecron-Attempt-Base";
pub const TIMEOUT: &str = "Ecron-Timeout";
pub const RETRY: &str = "Ecron-Retry";
pub const START_BY: &str = "Ecron-Start-By";
pub const DEADLINE: &str = "Ecron-Deadline";
pub const KIND: &str = "Ecron-Kind";
pub const KEY: &str = "Ecron-Key";
pub const AT: &str = "Ecron-At";
pub const DELAY: &str = "Ecron-Delay";
pub const MESSAGE_ID: &str = "Nats-Msg-Id";
/// In a dead letter only: the lines of the original header block that weren't headers, escaped. Not one of the names
/// that publishers may use, so that such a letter isn't redriven as if it were whole.
pub const UNREADABLE: &str = "Ecron-Unreadable";

/// What the names of our headers and of the server's begin with.
const OURS: &str = "ecron-";
const SERVERS: &str = "nats-";

/// Whether a header belongs to ecron, however it is capitalised.
#[must_use]
pub fn is_ours(name: &str) -> bool {
    has_prefix(name, OURS)
}

/// Whether a header belongs to ecron or the server, so that it is never a user's own.
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    is_ours(name) || has_prefix(name, SERVERS)
}

fn has_prefix(name: &str, prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// The user's own headers among these.
#[must_use]
pub fn users(headers: &Headers) -> Headers {
    headers.iter().filter(|(name, _)| !is_reserved(name)).map(|(n, v)| (n.clone(), v.clone())).collect()
}

/// Bytes of these headers as a publisher sent them.
#[must_use]
pub fn block_bytes(headers: &Headers) -> usize {
    const COLON_SPACE_AND_LINE_END: usize = 4;
    headers
        .iter()
        .flat_map(|(name, value)| value.split(REPEATED).map(move |one| name.len() + one.len()))
        .map(|bytes| bytes + COLON_SPACE_AND_LINE_END)
        .sum()
}

pub(crate) fn problem(header: &str, problem: impl Into<String>) -> OrderProblem {
    OrderProblem { header: header.chars().take(100).collect(), problem: problem.into() }
}

/// A header of ours, if it was given, and then only once.
pub(crate) fn optional<'a>(headers: &'a Headers, name: &str) -> Result<Option<&'a str>, OrderProblem> {
    match headers.get(name) {
        Some(value) if value.contains(REPEATED) => Err(problem(name, "was given more than once")),
        Some(value) => Ok(Some(value)),
        None => Ok(None),
    }
}

pub(crate) fn required<'a>(headers: &'a Headers, name: &str) -> Result<&'a str, OrderProblem> {
    optional(headers, name)?.ok_or_else(|| problem(name, "is missing"))
}

/// Checks the version of a message that names one.
pub(crate) fn check_version(version: &str) -> Result<(), OrderProblem> {
    if version == WIRE_VERSION {
        Ok(())
    } else {
        Err(problem(WIRE, format!("is {version:?}; this version of ecron reads only {WIRE_VERSION:?}")))
    }
}

pub(crate) fn number<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, OrderProblem> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(number) if digits => Ok(number),
        _ => Err(problem(name, format!("is {text:?}; expected a whole number"))),
    }
}

pub(crate) fn instant(name: &str, text: &str) -> Result<Timestamp, OrderProblem> {
    text.parse().map_err(|e: model::time::ParseTimestampError| problem(name, format!("failed to {e}")))
}

/// A duration in its largest whole unit: `250ms`, `90s`, `10m`, `2h`.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    for (unit, unit_ms) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if ms > 0 && ms.is_multiple_of(unit_ms) {
            return format!("{}{unit}", ms / unit_ms);
        }
    }
    if ms == 0 { "0s".into() } else { format!("{ms}ms") }
}

/// Reads `10m`, `90s`, `1h30m`, `250ms`.
pub(crate) fn duration(name: &str, text: &str) -> Result<Duration, OrderProblem> {
    humantime::parse_duration(text)
        .map_err(|e| problem(name, format!("is {text:?}; expected a duration such as 10m or 90s ({e})")))
}

pub(crate) fn timeout(text: &str) -> Result<Duration, OrderProblem> {
    let timeout = duration(TIMEOUT, text)?;
    let limit = format_duration(TIMEOUT_MAX);
    if timeout < Duration::from_millis(1) || timeout > TIMEOUT_MAX {
        return Err(problem(TIMEOUT, format!("is {text:?}; expected 1ms to {limit}")));
    }
    Ok(timeout)
}

/// A policy as a header says it: `attempts=3,initial=10s,factor=2,max=10m,jitter=0.2`.
#[must_use]
pub fn format_retry(policy: &RetryPolicy) -> String {
    format!(
        "attempts={},initial={},factor={},max={},jitter={}",
        policy.attempts,
        format_duration(policy.initial),
        policy.factor,
        format_duration(policy.max),
        policy.jitter
    )
}

/// Reads any subset of a policy's parts, each at most once; the others keep their defaults.
pub(crate) fn retry(text: &str) -> Result<RetryPolicy, OrderProblem> {
    let mut policy = RetryPolicy::default();
    let mut seen: Vec<&str> = Vec::new();
    for part in text.split(',') {
        let (name, value) = part.split_once('=').ok_or_else(|| {
            problem(RETRY, format!("has {part:?}; expected NAME=VALUE, for example attempts=3,initial=10s"))
        })?;
        if seen.contains(&name) {
            return Err(problem(RETRY, format!("names {name:?} twice")));
        }
        match name {
            "attempts" => policy.attempts = attempts(value)?,
            "initial" => policy.initial = delay("initial", value)?,
            "max" => policy.max = delay("max", value)?,
            "factor" => policy.factor = fraction("factor", value, 1.0, FACTOR_MAX)?,
            "jitter" => policy.jitter = fraction("jitter", value, 0.0, 1.0)?,
            _ => {
                return Err(problem(
                    RETRY,
                    format!("names {name:?}; known are attempts, initial, factor, max, jitter"),
                ));
            }
        }
        seen.push(name);
    }
    Ok(policy)
}

/// The steepest growth of delays that a header may ask for.
const FACTOR_MAX: f64 = 100.0;

fn attempts(value: &str) -> Result<u32, OrderProblem> {
    let attempts = number(RETRY, value)?;
    if (1..=ATTEMPTS_MAX).contains(&attempts) {
        Ok(attempts)
    } else {
        Err(problem(RETRY, format!("has attempts={attempts}; expected 1 to {ATTEMPTS_MAX}")))
    }
}

fn delay(name: &str, value: &str) -> Result<Duration, OrderProblem> {
    let delay = duration(RETRY, value)?;
    if delay > RETRY_DELAY_MAX {
        let limit = format_duration(RETRY_DELAY_MAX);
        return Err(problem(RETRY, format!("has {name}={value}; the limit is {limit}")));
    }
    Ok(delay)
}

fn fraction(name: &str, value: &str, min: f64, max: f64) -> Result<f64, OrderProblem> {
    match value.parse::<f64>() {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        _ => Err(problem(RETRY, format!("has {name}={value:?}; expected a number from {min} to {max}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short_and_read_back() {
        for (ms, text) in [
            (0, "0s"),
            (250, "250ms"),
            (90_000, "90s"),
            (600_000, "10m"),
            (7_200_000, "2h"),
            (1_500, "1500ms"),
        ] {
            let duration = Duration::from_millis(ms);
            assert_eq!(format_duration(duration), text);
            assert_eq!(super::duration("X", text), Ok(duration));
        }
        assert_eq!(duration("X", "1h30m"), Ok(Duration::from_secs(5_400)));
        for bad in ["", "10", "-1s", "10 parsecs", "99999999999999999999h"] {
            assert!(duration("X", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_retry_header_is_any_subset_but_strict() {
        let policy = RetryPolicy::default();
        assert_eq!(format_retry(&policy), "attempts=3,initial=10s,factor=2,max=10m,jitter=0.2");
        assert_eq!(retry(&format_retry(&policy)), Ok(policy));
        assert_eq!(retry("attempts=7"), Ok(RetryPolicy { attempts: 7, ..policy }));
        assert_eq!(retry("max=1h,jitter=0").unwrap().max, Duration::from_secs(3_600));
        for bad in [
            "",
            "attempts",
            "attempts=0",
            "attempts=101",
            "attempts=+3",
            "attempts=3,attempts=4",
            "attempts=3, initial=1s",
            "factor=inf",
            "factor=NaN",
            "factor=0.5",
            "jitter=1.1",
            "initial=2d",
            "tries=3",
        ] {
            let problem = retry(bad).unwrap_err();
            assert_eq!(problem.header, RETRY, "{bad}");
        }
    }

    #[test]
    fn reserved_headers_are_known_in_any_capitals() {
        for name in ["Ecron-Key", "ecron-key", "ECRON-X", "Nats-Msg-Id", "nats-ttl"] {
            assert!(is_reserved(name), "{name}");
        }
        for name in ["traceparent", "Ecro", "Nats", "X-Ecron-Key", "ñats-é"] {
            assert!(!is_reserved(name), "{name}");
        }
    }
}
