//! Ranges of codes: exit codes and HTTP statuses, as manifests write them.

use std::fmt;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

/// Exit codes that tell of a failure.
pub const EXIT_CODES: RangeInclusive<u16> = 1..=255;
/// HTTP statuses that tell of a failure.
pub const FAILED_STATUSES: RangeInclusive<u16> = 300..=599;

/// Some codes: `["2", "64-78"]`.
///
/// ```
/// use ecron_model::codes::{CodeRange, CodeRanges, EXIT_CODES};
/// let codes = CodeRanges(vec![CodeRange::parse("64-78", EXIT_CODES).unwrap()]);
/// assert!(codes.contains(65) && !codes.contains(2));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CodeRanges(pub Vec<CodeRange>);

/// One code, or those from one to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CodeRange {
    first: u16,
    last: u16,
}

/// Why a text is no range of codes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a code or a range within {first} to {last}, for example \"{first}\" or \"{first}-{last}\"")]
pub struct CodeRangeError {
    first: u16,
    last: u16,
}

impl CodeRange {
    /// Reads `2` or `64-78`, within `allowed`.
    pub fn parse(text: &str, allowed: RangeInclusive<u16>) -> Result<Self, CodeRangeError> {
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        let code = |text: &str| text.trim().parse().ok().filter(|code: &u16| allowed.contains(code));
        match (code(from), code(to)) {
            (Some(first), Some(last)) if first <= last => Ok(Self { first, last }),
            _ => Err(CodeRangeError { first: *allowed.start(), last: *allowed.end() }),
        }
    }
}

impl CodeRanges {
    #[must_use]
    pub fn contains(&self, code: u16) -> bool {
        self.0.iter().any(|range| (range.first..=range.last).contains(&code))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for CodeRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last } = self;
        if first == last { write!(f, "{first}") } else { write!(f, "{first}-{last}") }
    }
}

impl TryFrom<String> for CodeRange {
    type Error = CodeRangeError;
    fn try_from(text: String) -> Result<Self, CodeRangeError> {
        Self::parse(&text, 0..=u16::MAX)
    }
}

impl From<CodeRange> for String {
    fn from(range: CodeRange) -> Self {
        range.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_within_what_is_allowed() {
        for (text, read) in [("2", "2"), ("64-78", "64-78"), ("7-7", "7"), (" 3 - 4 ", "3-4")] {
            assert_eq!(CodeRange::parse(text, EXIT_CODES).unwrap().to_string(), read);
        }
        for bad in ["", "-", "0", "0-3", "256", "5-4", "3-", "x", "1-2-3", "-1"] {
            assert!(CodeRange::parse(bad, EXIT_CODES).is_err(), "{bad}");
        }
        let error = CodeRange::parse("200", FAILED_STATUSES).unwrap_err().to_string();
        assert!(error.contains("within 300 to 599"), "{error}");
    }

    #[test]
    fn ranges_travel_as_texts() {
        let codes: CodeRanges = serde_json::from_str(r#"["2","64-78"]"#).unwrap();
        assert_eq!(serde_json::to_string(&codes).unwrap(), r#"["2","64-78"]"#);
        assert_eq!(
            [1, 2, 63, 64, 78, 79].map(|code| codes.contains(code)),
            [false, true, false, true, true, false]
        );
        assert!(serde_json::from_str::<CodeRanges>(r#"["2-"]"#).is_err());
    }
}
