//! What to do where a zone's clock jumps: `Gap` (civil times that don't exist) and `Fold` (civil times that occur twice).
//!
//! Both concern *fixed* times such as `30 2 * * *`. A schedule that follows elapsed time (see `Expression::elapsed`)
//! has nothing to make up for in a gap and nothing to leave out in a fold.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A fixed time falls into a gap (the clock jumps from 02:00 to 03:00, and the job says 02:30).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gap {
    /// It doesn't occur that day.
    Skip,
    /// It occurs at the first instant after the gap: 03:00. Several times in one gap become one occurrence.
    Next,
    /// It occurs as much later as the clock jumped: 03:30.
    Shift,
}

/// A fixed time occurs twice (the clock jumps back from 03:00 to 02:00, and the job says 02:30).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fold {
    /// The earlier of the two instants.
    First,
    /// The later of the two instants.
    Second,
    /// Both instants.
    Both,
}

/// A word that isn't one of the few that are expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{word:?} is no {what} policy: expected {expected}")]
pub struct ParsePolicyError {
    what: &'static str,
    word: String,
    expected: &'static str,
}

impl FromStr for Gap {
    type Err = ParsePolicyError;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "skip" => Ok(Self::Skip),
            "next" => Ok(Self::Next),
            "shift" => Ok(Self::Shift),
            _ => Err(ParsePolicyError { what: "gap", word: clip(word), expected: "skip, next or shift" }),
        }
    }
}

impl FromStr for Fold {
    type Err = ParsePolicyError;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "first" => Ok(Self::First),
            "second" => Ok(Self::Second),
            "both" => Ok(Self::Both),
            _ => Err(ParsePolicyError { what: "fold", word: clip(word), expected: "first, second or both" }),
        }
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Skip => "skip",
            Self::Next => "next",
            Self::Shift => "shift",
        })
    }
}

impl fmt::Display for Fold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::First => "first",
            Self::Second => "second",
            Self::Both => "both",
        })
    }
}

/// The longest piece of the user's text that an error message repeats.
const TOKEN_SHOWN_MAX: usize = 40;

/// A token as an error message shows it: a hostile expression must not become a hostile message.
pub(super) fn clip(token: &str) -> String {
    if token.chars().count() <= TOKEN_SHOWN_MAX {
        return token.to_owned();
    }
    token.chars().take(TOKEN_SHOWN_MAX).chain("…".chars()).collect()
}
