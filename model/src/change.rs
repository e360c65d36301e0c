//! What was done to a job: one entry of its change log for each revision that took effect.

use crate::id::Revision;
use crate::limits::{BY_CHARS_MAX, SCHEDULE_KEPT_BYTES_MAX};
use crate::schedule::ScheduleSpec;
use crate::spec::JobSpec;
use crate::time::Timestamp;

/// What a revision changed, by its most important part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    Created,
    Edited,
    Paused,
    Resumed,
    Deleted,
}

/// A revision that took effect (or the end of all).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// When it took effect: from then on no run of an older revision starts.
    pub at: Timestamp,
    pub revision: Revision,
    pub kind: ChangeKind,
    /// Who asked for it, as they said themselves: `user@host`.
    pub by: Option<String>,
    /// The schedule that it put in force, if it changed it and it isn't too long to keep.
    pub schedule: Option<ScheduleSpec>,
}

impl ChangeKind {
    pub const ALL: [Self; 5] = [Self::Created, Self::Edited, Self::Paused, Self::Resumed, Self::Deleted];

    /// What a new revision changes, by whether the older one (if there was one) and the new one are paused.
    #[must_use]
    pub fn between(old: Option<bool>, new: bool) -> Self {
        match (old, new) {
            (None, _) => Self::Created,
            (Some(false), true) => Self::Paused,
            (Some(true), false) => Self::Resumed,
            (Some(true), true) | (Some(false), false) => Self::Edited,
        }
    }

    /// The word used in records and output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Edited => "edited",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
            Self::Deleted => "deleted",
        }
    }

    /// The kind of that word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// The schedule that a change log keeps of a new spec: none if the older one had the same, or if it is too long.
#[must_use]
pub fn kept_schedule(old: Option<&JobSpec>, new: &JobSpec) -> Option<ScheduleSpec> {
    let is_new = old.is_none_or(|old| old.schedule != new.schedule);
    let fits =
        || serde_json::to_string(&new.schedule).is_ok_and(|text| text.len() <= SCHEDULE_KEPT_BYTES_MAX);
    (is_new && fits()).then(|| new.schedule.clone())
}

/// Who somebody says they are, as one short line of printable text; `None` if nothing is left of it.
#[must_use]
pub fn signature(by: &str) -> Option<String> {
    let text: String = by.chars().filter(|c| !c.is_control()).take(BY_CHARS_MAX).collect();
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_back() {
        for kind in ChangeKind::ALL {
            assert_eq!(ChangeKind::from_word(kind.as_str()), Some(kind));
        }
    }

    #[test]
    fn a_signature_is_one_short_line() {
        assert_eq!(signature(" ann@host\r\nX: y ").as_deref(), Some("ann@hostX: y"));
        assert_eq!(signature("\n"), None);
        assert_eq!(signature(&"x".repeat(1_000)).map(|by| by.len()), Some(BY_CHARS_MAX));
    }
}
