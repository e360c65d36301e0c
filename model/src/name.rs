//! Names: what may be called what. Names end up in NATS subjects, Redis keys and consumer names, so their alphabet is
//! that of a DNS label: no `.`, `*`, `>`, `_`, spaces or capitals, hence no escaping anywhere.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::limits::NAME_CHARS_MAX;

/// The name of a namespace, job or queue: 1 to 63 of `a-z`, `0-9` and `-`, with a letter or digit at both ends.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// Why a text isn't a name. The message names the rule that was broken, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("must not be empty")]
    Empty,
    #[error("has {chars} characters; the limit is {NAME_CHARS_MAX}")]
    TooLong { chars: usize },
    #[error("has {found:?} at position {position}; only a-z, 0-9 and '-' are allowed")]
    Character { found: char, position: usize },
    #[error("must begin and end with a letter or digit")]
    Edge,
}

impl Name {
    /// Checks a text against the rule above.
    pub fn new(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if let Some((index, found)) = text.chars().enumerate().find(|(_, c)| !allowed(*c)) {
            return Err(NameError::Character { found, position: index + 1 });
        }
        if text.len() > NAME_CHARS_MAX {
            return Err(NameError::TooLong { chars: text.len() });
        }
        if text.starts_with('-') || text.ends_with('-') {
            return Err(NameError::Edge);
        }
        Ok(Self(text.into()))
    }

    /// The namespace, and the queue, of whoever names none: `default`.
    #[must_use]
    pub fn default_name() -> Self {
        Self("default".into())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Ordered and compared as its text is, so that a map may be asked by text.
impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &self.0)
    }
}

/// A job's full name, `billing/nightly-report`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId {
    pub namespace: Name,
    pub name: Name,
}

/// A queue's full name, `billing/reports`: executors of it pull from `ecron.run.billing.reports`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId {
    pub namespace: Name,
    pub name: Name,
}

/// A calendar's full name, `billing/de-holidays`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CalendarId {
    pub namespace: Name,
    pub name: Name,
}

/// A backfill's full name, `billing/nightly-report-in-june`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackfillId {
    pub namespace: Name,
    pub name: Name,
}

/// Why a text isn't the full name of a job, a queue or another object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FullNameError {
    #[error("expected NAMESPACE/NAME, for example billing/nightly-report")]
    Shape,
    #[error("namespace {0}")]
    Namespace(NameError),
    #[error("name {0}")]
    Name(NameError),
}

fn split(text: &str) -> Result<(Name, Name), FullNameError> {
    let (namespace, name) = text.split_once('/').ok_or(FullNameError::Shape)?;
    Ok((
        Name::new(namespace).map_err(FullNameError::Namespace)?,
        Name::new(name).map_err(FullNameError::Name)?,
    ))
}

impl FromStr for JobId {
    type Err = FullNameError;
    fn from_str(text: &str) -> Result<Self, FullNameError> {
        split(text).map(|(namespace, name)| Self { namespace, name })
    }
}

impl FromStr for CalendarId {
    type Err = FullNameError;
    fn from_str(text: &str) -> Result<Self, FullNameError> {
        split(text).map(|(namespace, name)| Self { namespace, name })
    }
}

impl FromStr for BackfillId {
    type Err = FullNameError;
    fn from_str(text: &str) -> Result<Self, FullNameError> {
        split(text).map(|(namespace, name)| Self { namespace, name })
    }
}

impl FromStr for QueueId {
    type Err = FullNameError;
    fn from_str(text: &str) -> Result<Self, FullNameError> {
        split(text).map(|(namespace, name)| Self { namespace, name })
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Display for CalendarId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Display for BackfillId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Names are stored as their texts.
macro_rules! stored_as_text {
    ($($name:ident),*) => {$(
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

stored_as_text!(Name, JobId, BackfillId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_need_escaping_are_refused() {
        for bad in ["", "a.b", "a*", ">", "a b", "A", "a_b", "-a", "a-", "ä", "a/b", "a\n", &"a".repeat(64)]
        {
            assert!(Name::new(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "0", "nightly-report", &"a".repeat(63)] {
            assert_eq!(Name::new(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn full_names_round_trip() {
        let job: JobId = "billing/nightly-report".parse().unwrap();
        assert_eq!(job.to_string(), "billing/nightly-report");
        assert_eq!("billing".parse::<JobId>(), Err(FullNameError::Shape));
        assert!("a/b/c".parse::<JobId>().is_err());
    }
}
