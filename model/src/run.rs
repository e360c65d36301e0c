//! A run from dispatch to its one outcome: states, and which report may change which.

use crate::time::Timestamp;

/// How one attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    Succeeded,
    Failed,
    TimedOut,
    Cancelled,
    /// Its executor died or was cut off; nobody reported an end.
    Lost,
}

/// Where a run stands. Each kind of end is final, but for a dead letter that an operator redrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunState {
    /// Admitted or due, but not published: it waits for an earlier run, for a place in its queue, or to be published.
    Waiting,
    /// Published; no end is known yet.
    Dispatched,
    Succeeded,
    /// Parked: no policy will retry it.
    DeadLettered,
    Cancelled,
    /// Never published, for a recorded reason.
    Skipped,
}

/// Why an occurrence was never published.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SkipReason {
    /// Missed during an interruption, and not chosen by the job's `catchUp`.
    Missed(crate::misfire::MissedReason),
    /// Not started within `startingDeadline`.
    StartingDeadline,
    /// The job was edited, and its new schedule doesn't name this instant.
    Superseded,
    /// The job was suspended.
    Suspended,
    /// The job was deleted.
    Deleted,
    /// `overlap: skip`, and as many runs were under way as may be.
    Overlap,
    /// `overlap: queue-one`, and a newer occurrence took its place in the queue.
    Coalesced,
    /// `OVERLAP_WAITING_MAX` occurrences waited for an earlier run already.
    OverlapQueueFull,
}

/// What a run that isn't published yet waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WaitsFor {
    /// An earlier run of its job must end (`overlap`, `maxActive`).
    Overlap,
    /// Its queue must have room for it.
    Queue,
    /// It is admitted and on its way into the run stream; it may be there already.
    Dispatch,
}

impl WaitsFor {
    /// The word used in records, messages and output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Overlap => "overlap",
            Self::Queue => "queue",
            Self::Dispatch => "dispatch",
        }
    }

    /// The value of that word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Overlap, Self::Queue, Self::Dispatch].into_iter().find(|waits| waits.as_str() == word)
    }
}

/// How often a run has been dispatched anew after an end: 0 at first, one more for each redrive. A report counts only
/// for the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Generation(pub u32);

/// What a run's record says, as far as the rule below needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub state: RunState,
    pub generation: Generation,
}

/// Whether a report of a run's end is accepted: an open run takes it from its own generation or a newer one, an ended
/// run only from a newer one. So of many reports of one end (redelivery, two settlers) exactly one counts, and a
/// report from before a redrive changes nothing. A run without a record is open: its record may have been wiped.
#[must_use]
pub fn accepts_end(standing: Option<Standing>, reported: Generation) -> bool {
    match standing {
        None => true,
        Some(Standing { state: RunState::Waiting | RunState::Dispatched, generation }) => {
            reported >= generation
        }
        Some(Standing {
            state: RunState::Succeeded | RunState::DeadLettered | RunState::Cancelled | RunState::Skipped,
            generation,
        }) => reported > generation,
    }
}

/// Whether a redrive opens a run again under a generation: if the run isn't of that generation already, and doesn't
/// wait (what waits was never published, so it has left no dead letter). A run without a record may have been forgotten.
#[must_use]
pub fn may_reopen(standing: Option<Standing>, generation: Generation) -> bool {
    standing.is_none_or(|standing| standing.state != RunState::Waiting && standing.generation < generation)
}

impl RunState {
    /// Every state, in the order of a run's life.
    pub const ALL: [Self; 6] = [
        Self::Waiting,
        Self::Dispatched,
        Self::Succeeded,
        Self::DeadLettered,
        Self::Cancelled,
        Self::Skipped,
    ];

    /// Whether the run has its outcome.
    #[must_use]
    pub fn is_end(self) -> bool {
        !matches!(self, Self::Waiting | Self::Dispatched)
    }

    /// The word used in records, messages and output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Dispatched => "dispatched",
            Self::Succeeded => "succeeded",
            Self::DeadLettered => "dead-lettered",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
        }
    }

    /// The state of that word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

impl Outcome {
    /// The word used in records, messages and output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::TimedOut => "timed-out",
            Self::Cancelled => "cancelled",
            Self::Lost => "lost",
        }
    }

    /// The outcome of that word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Succeeded, Self::Failed, Self::TimedOut, Self::Cancelled, Self::Lost]
            .into_iter()
            .find(|outcome| outcome.as_str() == word)
    }
}

impl SkipReason {
    /// The reason, in a sentence's second half: "skipped: …".
    #[must_use]
    pub fn describe(&self) -> &'static str {
        use crate::misfire::MissedReason;
        match self {
            Self::Missed(MissedReason::PolicyNone) => {
                "missed during an interruption or pause; catchUp is none"
            }
            Self::Missed(MissedReason::SupersededByLatest) => {
                "missed during an interruption or pause; catchUp runs only the latest"
            }
            Self::Missed(MissedReason::OutsideWindow) => "missed longer ago than the catchUp window",
            Self::Missed(MissedReason::BeyondMax) => {
                "missed during an interruption or pause; beyond catchUp.max"
            }
            Self::StartingDeadline => "not started within startingDeadline",
            Self::Superseded => "the job was edited and no longer names this instant",
            Self::Suspended => "the job was suspended",
            Self::Deleted => "the job was deleted",
            Self::Overlap => "an earlier run was still under way; overlap is skip",
            Self::Coalesced => "a newer occurrence took its place; overlap is queue-one",
            Self::OverlapQueueFull => {
                "too many occurrences waited for an earlier run already (OVERLAP_WAITING_MAX)"
            }
        }
    }
}

/// One attempt's end, as its executor reported it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptEnd {
    pub attempt: u32,
    pub outcome: Outcome,
    pub error: Option<String>,
    pub started_at: Timestamp,
    pub ended_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_end_counts_for_each_generation() {
        use RunState::{Cancelled, DeadLettered, Dispatched, Skipped, Succeeded, Waiting};
        let table = [
            (None, 0, true),
            (Some((Dispatched, 0)), 0, true),
            (Some((Dispatched, 1)), 0, false),
            (Some((Dispatched, 1)), 1, true),
            (Some((Dispatched, 0)), 1, true),
            (Some((Succeeded, 0)), 0, false),
            (Some((DeadLettered, 0)), 0, false),
            (Some((DeadLettered, 0)), 1, true),
            (Some((Cancelled, 2)), 2, false),
            (Some((Skipped, 0)), 0, false),
            (Some((Waiting, 0)), 0, true),
        ];
        for (standing, reported, accepted) in table {
            let standing =
                standing.map(|(state, generation)| Standing { state, generation: Generation(generation) });
            assert_eq!(accepts_end(standing, Generation(reported)), accepted, "{standing:?} {reported}");
        }
    }
}
