//! Overlap: what happens to an occurrence that falls due while earlier runs of its job are under way.
//!
//! A run is *under way* from its admission to its end: also while it waits for a retry, or for its place in a queue.

use std::fmt;
use std::str::FromStr;

use crate::limits::OVERLAP_WAITING_MAX;
use crate::run::SkipReason;

/// Who cancels a run in whose place a newer one starts, as its record says.
pub const REPLACED_BY: &str = "(overlap: replace)";

/// The policy of a job. Kubernetes' `Forbid` coalesces, although users take it for `skip`: ours have names of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Overlap {
    /// It starts beside them.
    #[default]
    Allow,
    /// It never runs.
    Skip,
    /// It waits; if one waits already, the newer one takes its place.
    QueueOne,
    /// It waits behind those that wait already, up to `OVERLAP_WAITING_MAX`.
    QueueAll,
    /// The earlier runs are cancelled; it starts when they have ended.
    Replace,
}

impl Overlap {
    /// Every policy.
    pub const ALL: [Self; 5] = [Self::Allow, Self::Skip, Self::QueueOne, Self::QueueAll, Self::Replace];

    /// The word of manifests, records and output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Skip => "skip",
            Self::QueueOne => "queue-one",
            Self::QueueAll => "queue-all",
            Self::Replace => "replace",
        }
    }

    /// The policy of that word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.as_str() == word)
    }
}

/// The rule of a job that doesn't let any number of runs be under way: `queue-one 1` as a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    pub policy: Overlap,
    /// Runs that may be under way at once.
    pub limit: u32,
}

impl Rule {
    /// The rule of a job with this policy and `maxActive`; `None` if nothing limits it.
    ///
    /// ```
    /// use ecron_model::overlap::{Overlap, Rule};
    /// assert_eq!(Rule::of(Overlap::Allow, None), None);
    /// assert_eq!(Rule::of(Overlap::Allow, Some(3)), Some(Rule { policy: Overlap::Allow, limit: 3 }));
    /// assert_eq!(Rule::of(Overlap::Skip, None), Some(Rule { policy: Overlap::Skip, limit: 1 }));
    /// ```
    #[must_use]
    pub fn of(policy: Overlap, max_active: Option<u32>) -> Option<Self> {
        match (policy, max_active) {
            (Overlap::Allow, None) => None,
            (policy, most) => Some(Self { policy, limit: most.unwrap_or(1).max(1) }),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.policy.as_str(), self.limit)
    }
}

/// A text isn't a rule as `Rule` writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("read it as an overlap policy and a limit, for example 'queue-one 1'")]
pub struct RuleError;

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let (policy, limit) = text.split_once(' ').ok_or(RuleError)?;
        let limit = limit.parse().ok().filter(|limit| *limit > 0).ok_or(RuleError)?;
        Ok(Self { policy: Overlap::from_word(policy).ok_or(RuleError)?, limit })
    }
}

/// How many runs of a job are under way, and how many occurrences wait for one of them to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Standing {
    pub active: u32,
    pub waiting: u32,
}

/// What becomes of an occurrence that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Start,
    /// It waits until fewer runs are under way than may be.
    Wait(Waiting),
    Skip(SkipReason),
}

/// What its waiting brings about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Only the newest of those that wait goes on doing so; the others are skipped (`SkipReason::Coalesced`).
    pub newest_only: bool,
    /// The runs under way are cancelled.
    pub cancel_active: bool,
}

/// The verdict on one occurrence that hasn't been admitted yet. Where one waits already, a newer one doesn't overtake it.
#[must_use]
pub fn decide(rule: Rule, standing: Standing) -> Verdict {
    if standing.active < rule.limit && standing.waiting == 0 {
        return Verdict::Start;
    }
    let wait = |newest_only, cancel_active| Verdict::Wait(Waiting { newest_only, cancel_active });
    match rule.policy {
        Overlap::Skip => Verdict::Skip(SkipReason::Overlap),
        Overlap::QueueOne => wait(true, false),
        Overlap::Replace => wait(true, true),
        Overlap::Allow | Overlap::QueueAll if standing.waiting >= OVERLAP_WAITING_MAX => {
            Verdict::Skip(SkipReason::OverlapQueueFull)
        }
        Overlap::Allow | Overlap::QueueAll => wait(false, false),
    }
}

impl Standing {
    /// How it stands after such a verdict was carried out.
    #[must_use]
    pub fn after(self, verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Start => Self { active: self.active + 1, ..self },
            Verdict::Wait(Waiting { newest_only: true, .. }) => Self { waiting: 1, ..self },
            Verdict::Wait(_) => Self { waiting: self.waiting + 1, ..self },
            Verdict::Skip(_) => self,
        }
    }

    /// How many of those that wait may go now. `None`: the job isn't limited any more.
    #[must_use]
    pub fn released(self, limit: Option<u32>) -> u32 {
        limit.map_or(self.waiting, |limit| limit.saturating_sub(self.active).min(self.waiting))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_policy_does_what_it_says() {
        use Overlap::{Allow, QueueAll, QueueOne, Replace, Skip};
        let wait = |newest_only, cancel_active| Verdict::Wait(Waiting { newest_only, cancel_active });
        let full = OVERLAP_WAITING_MAX;
        // (policy, limit, under way, waiting, verdict)
        let table = [
            (Allow, 3, 2, 0, Verdict::Start),
            (Allow, 3, 3, 0, wait(false, false)),
            (Allow, 3, 3, full - 1, wait(false, false)),
            (Allow, 3, 3, full, Verdict::Skip(SkipReason::OverlapQueueFull)),
            (Skip, 1, 0, 0, Verdict::Start),
            (Skip, 1, 1, 0, Verdict::Skip(SkipReason::Overlap)),
            (Skip, 2, 1, 0, Verdict::Start),
            (Skip, 2, 5, 0, Verdict::Skip(SkipReason::Overlap)),
            (QueueOne, 1, 0, 0, Verdict::Start),
            (QueueOne, 1, 1, 0, wait(true, false)),
            (QueueOne, 1, 1, 1, wait(true, false)),
            (QueueAll, 1, 0, 0, Verdict::Start),
            (QueueAll, 1, 1, 7, wait(false, false)),
            (QueueAll, 1, 1, full, Verdict::Skip(SkipReason::OverlapQueueFull)),
            (Replace, 1, 0, 0, Verdict::Start),
            (Replace, 1, 1, 0, wait(true, true)),
            // The limit was raised a moment ago: whoever waits goes first.
            (QueueAll, 2, 1, 1, wait(false, false)),
            (Skip, 2, 1, 1, Verdict::Skip(SkipReason::Overlap)),
        ];
        for (policy, limit, active, waiting, verdict) in table {
            let standing = Standing { active, waiting };
            let decided = decide(Rule { policy, limit }, standing);
            assert_eq!(decided, verdict, "{policy:?} {limit}: {standing:?}");
        }
    }

    #[test]
    fn those_that_wait_go_as_soon_as_there_is_room() {
        let standing = Standing { active: 2, waiting: 5 };
        for (limit, released) in [(Some(1), 0), (Some(2), 0), (Some(4), 2), (Some(9), 5), (None, 5)] {
            assert_eq!(standing.released(limit), released, "{limit:?}");
        }
    }

    #[test]
    fn rules_read_as_they_are_written() {
        for policy in Overlap::ALL {
            let rule = Rule { policy, limit: 7 };
            assert_eq!(rule.to_string().parse(), Ok(rule));
        }
        for text in ["", "skip", "skip 0", "skip x", "forbid 1"] {
            assert_eq!(text.parse::<Rule>(), Err(RuleError), "{text:?}");
        }
    }
}
