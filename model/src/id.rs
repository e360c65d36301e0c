//! Identity: occurrences, runs and bucket members, and their texts.
//!
//! A run's id says which occurrence it carries out, so it is the same on every host and after every crash; it can be
//! grepped for in every store, message and log.

use std::fmt;
use std::str::FromStr;

use crate::limits::KEY_CHARS_MAX;
use crate::name::{JobId, QueueId};
use crate::time::Timestamp;

/// A spec's revision: the number that the spec store gave to its newest write. It only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One instant that a job's schedule names: `billing/nightly-report@2026-11-22T06:45:00Z`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Occurrence {
    pub job: JobId,
    pub due_at: Timestamp,
}

/// An occurrence as a bucket holds it, with the revision it was planned from:
/// `billing/nightly-report@2026-11-22T06:45:00Z#17`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    pub occurrence: Occurrence,
    pub revision: Revision,
}

/// What an executor is asked to carry out: an occurrence of a job, or work that was published ad hoc
/// (`billing/reports~KEY`, where the key is the publisher's or the message's sequence).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RunId {
    Occurrence(Occurrence),
    AdHoc { queue: QueueId, key: Key },
}

/// An idempotency key: 1 to 128 printable ASCII characters without spaces.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

/// Why a text isn't an identity of the expected kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("read {text:?} as {expected}")]
pub struct IdError {
    text: String,
    expected: &'static str,
}

fn refused(text: &str, expected: &'static str) -> IdError {
    IdError { text: text.chars().take(200).collect(), expected }
}

impl Key {
    /// Checks a publisher's key.
    pub fn new(text: &str) -> Result<Self, IdError> {
        let fits = (1..=KEY_CHARS_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if fits {
            Ok(Self(text.into()))
        } else {
            Err(refused(text, "a key of 1 to 128 printable characters without spaces"))
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Occurrence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.job, self.due_at)
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.occurrence, self.revision)
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Occurrence(occurrence) => occurrence.fmt(f),
            Self::AdHoc { queue, key } => write!(f, "{queue}~{}", key.0),
        }
    }
}

impl FromStr for Occurrence {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let expected = "an occurrence, for example billing/nightly-report@2026-11-22T06:45:00Z";
        let (job, due_at) = text.split_once('@').ok_or_else(|| refused(text, expected))?;
        let job = job.parse().map_err(|_| refused(text, expected))?;
        let due_at = due_at.parse().map_err(|_| refused(text, expected))?;
        Ok(Self { job, due_at })
    }
}

impl FromStr for Entry {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let expected = "a bucket entry, for example billing/nightly-report@2026-11-22T06:45:00Z#17";
        let (occurrence, revision) = text.rsplit_once('#').ok_or_else(|| refused(text, expected))?;
        let occurrence = occurrence.parse().map_err(|_| refused(text, expected))?;
        let revision = revision.parse().map_err(|_| refused(text, expected))?;
        Ok(Self { occurrence, revision: Revision(revision) })
    }
}

impl FromStr for RunId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let expected =
            "a run id, for example billing/nightly-report@2026-11-22T06:45:00Z or billing/reports~order-17";
        // A key may hold '@', an occurrence no '~': so '~' decides.
        if let Some((queue, key)) = text.split_once('~') {
            let queue = queue.parse().map_err(|_| refused(text, expected))?;
            return Ok(Self::AdHoc { queue, key: Key::new(key)? });
        }
        text.parse().map(Self::Occurrence).map_err(|_| refused(text, expected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_round_trip() {
        let entry = "billing/nightly-report@2026-11-22T06:45:00.250Z#17";
        assert_eq!(entry.parse::<Entry>().unwrap().to_string(), entry);
        for id in ["billing/nightly-report@2026-11-22T06:45:00Z", "billing/reports~order@17#3"] {
            assert_eq!(id.parse::<RunId>().unwrap().to_string(), id);
        }
    }

    #[test]
    fn texts_of_another_kind_are_refused() {
        for bad in ["", "a/b", "a/b@", "a/b@now", "a/b#1", "a/b@2026-11-22T06:45:00Z#", "a/b~", "a/b~x y"] {
            assert!(bad.parse::<Entry>().is_err(), "{bad}");
            assert!(bad.parse::<RunId>().is_err(), "{bad}");
        }
    }
}
