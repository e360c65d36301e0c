//! Unique work: of several submissions of the same work, one is a run, and the others are told which.
//!
//! The run of unique work has an id of its own for each time the work was accepted, since the same key may come again
//! once it is free: `billing/reports~order-17+q1795329900250` is the run of key `order-17`, unique in its queue (`q`;
//! `n`: in its namespace), accepted at that millisecond. So whoever sees the run end knows which key is free.

use std::time::Duration;

use crate::id::{IdError, Key, RunId};
use crate::limits::{KEY_CHARS_MAX, UNIQUE_PERIOD_MAX};
use crate::name::{Name, QueueId};
use crate::time::Timestamp;

/// Characters that a run's id adds to a unique key: `+q1795329900250`.
const SUFFIX_CHARS: usize = 15;
/// Characters of a unique key.
pub const UNIQUE_KEY_CHARS_MAX: usize = KEY_CHARS_MAX - SUFFIX_CHARS;

/// Among what a key is unique.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    #[default]
    Queue,
    Namespace,
}

/// How long a key is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Until the first attempt has begun.
    Started,
    /// Until the run has its outcome.
    Done,
    /// For so long from its acceptance, whatever becomes of the run.
    Period(Duration),
}

/// What frees a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freed {
    /// The run was never published.
    Unpublished,
    Started,
    Ended,
}

/// A key among what it is unique in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UniqueKey {
    pub scope: Scope,
    pub queue: QueueId,
    pub key: Key,
}

impl Scope {
    fn letter(self) -> char {
        match self {
            Self::Queue => 'q',
            Self::Namespace => 'n',
        }
    }

    /// The scope of that word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "queue" => Some(Self::Queue),
            "namespace" => Some(Self::Namespace),
            _ => None,
        }
    }
}

impl Until {
    /// The word in stored keys: `started`, `done`, `period`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Done => "done",
            Self::Period(_) => "period",
        }
    }

    /// For how long a key is taken at most.
    #[must_use]
    pub fn bound(self) -> Duration {
        match self {
            Self::Started | Self::Done => UNIQUE_PERIOD_MAX,
            Self::Period(period) => period.min(UNIQUE_PERIOD_MAX),
        }
    }

    /// Whether this frees a key.
    #[must_use]
    pub fn is_freed_by(self, freed: Freed) -> bool {
        match (self, freed) {
            (_, Freed::Unpublished)
            | (Self::Started | Self::Done, Freed::Ended)
            | (Self::Started, Freed::Started) => true,
            (Self::Done, Freed::Started) | (Self::Period(_), Freed::Started | Freed::Ended) => false,
        }
    }
}

impl UniqueKey {
    /// The run of this work if it is accepted at an instant. An error if the key is too long.
    pub fn run_id(&self, accepted_at: Timestamp) -> Result<RunId, IdError> {
        let ms = accepted_at.as_ms();
        let key = Key::new(&format!("{}+{}{ms:013}", self.key.as_str(), self.scope.letter()))?;
        Ok(RunId::AdHoc { queue: self.queue.clone(), key })
    }

    /// The unique key of a run; `None` if it isn't one of unique work.
    #[must_use]
    pub fn of(run_id: &RunId) -> Option<Self> {
        let RunId::AdHoc { queue, key } = run_id else { return None };
        let (key, suffix) = key.as_str().rsplit_once('+')?;
        let digits = suffix.get(1..).filter(|ms| ms.len() == SUFFIX_CHARS - 2);
        digits.filter(|ms| ms.bytes().all(|byte| byte.is_ascii_digit()))?;
        let scope =
            [Scope::Queue, Scope::Namespace].into_iter().find(|scope| suffix.starts_with(scope.letter()))?;
        Some(Self { scope, queue: queue.clone(), key: Key::new(key).ok()? })
    }

    /// The place whose shard the key belongs to: the same for everybody it is unique among.
    #[must_use]
    pub fn home(&self) -> (&Name, &Name) {
        match self.scope {
            Scope::Queue => (&self.queue.namespace, &self.queue.name),
            Scope::Namespace => (&self.queue.namespace, &self.queue.namespace),
        }
    }
}

/// `billing/reports~order-17`, or `billing~order-17` in its namespace.
impl std::fmt::Display for UniqueKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = self.key.as_str();
        match self.scope {
            Scope::Queue => write!(f, "{}~{key}", self.queue),
            Scope::Namespace => write!(f, "{}~{key}", self.queue.namespace),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unique(scope: Scope) -> UniqueKey {
        UniqueKey { scope, queue: "billing/reports".parse().unwrap(), key: Key::new("order+17").unwrap() }
    }

    #[test]
    fn a_run_tells_its_unique_key() {
        let at = Timestamp::from_ms(1_795_329_900_250);
        for (scope, id, text) in [
            (Scope::Queue, "billing/reports~order+17+q1795329900250", "billing/reports~order+17"),
            (Scope::Namespace, "billing/reports~order+17+n1795329900250", "billing~order+17"),
        ] {
            let unique = unique(scope);
            let run_id = unique.run_id(at).unwrap();
            assert_eq!((run_id.to_string().as_str(), unique.to_string().as_str()), (id, text));
            assert_eq!(UniqueKey::of(&run_id), Some(unique));
        }
        for other in [
            "billing/reports~order+17",
            "billing/reports~order-17",
            "billing/reports~order+x1795329900250",
            "billing/reports~order+q179532990025",
            "billing/reports~order+q17953299002501",
            "billing/reports~+q1795329900250",
            "billing/nightly@2026-11-22T06:45:00Z",
        ] {
            assert_eq!(UniqueKey::of(&other.parse().unwrap()), None, "{other}");
        }
    }

    #[test]
    fn the_longest_key_has_a_run() {
        let of =
            |chars: usize| UniqueKey { key: Key::new(&"k".repeat(chars)).unwrap(), ..unique(Scope::Queue) };
        let at = Timestamp::from_ms(1_795_329_900_250);
        assert!(of(UNIQUE_KEY_CHARS_MAX).run_id(at).is_ok());
        assert!(of(UNIQUE_KEY_CHARS_MAX + 1).run_id(at).is_err());
    }

    #[test]
    fn what_frees_a_key() {
        use Freed::{Ended, Started, Unpublished};
        let hour = Until::Period(Duration::from_secs(3_600));
        let table = [
            (Until::Started, [true, true, true]),
            (Until::Done, [true, false, true]),
            (hour, [true, false, false]),
        ];
        for (until, freed) in table {
            assert_eq!([Unpublished, Started, Ended].map(|by| until.is_freed_by(by)), freed, "{until:?}");
        }
        assert_eq!((hour.bound(), Until::Done.bound()), (Duration::from_secs(3_600), UNIQUE_PERIOD_MAX));
        assert_eq!(Until::Period(Duration::MAX).bound(), UNIQUE_PERIOD_MAX);
    }
}
