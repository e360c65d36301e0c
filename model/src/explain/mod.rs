//! Why an occurrence did, will or did not run: a pure function from what is known to a chain of steps and one cause.
//!
//! ```text
//! Facts ──Then (what the job was at that instant)──┐
//!   └────Naming (what its schedule says of it)─────┴──▶ cause (one sentence) + chain (every step on the way)
//! ```

mod cause;
mod chain;
mod naming;
mod then;

use crate::bucket::Placed;
use crate::change::Change;
use crate::declared::Declared;
use crate::id::Revision;
use crate::misfire::Interruption;
use crate::name::JobId;
use crate::run::{AttemptEnd, Generation, RunState};
use crate::time::Timestamp;

pub use naming::{Judged, Naming};
pub use then::Then;

/// Everything that is known about one instant of one job.
#[derive(Clone, Debug)]
pub struct Facts {
    pub job: JobId,
    pub at: Timestamp,
    pub now: Timestamp,
    /// The newest spec that can be read: the accepted one, else the one in force; `None` if the job is deleted.
    pub declared: Option<Declared>,
    /// The newest accepted revision.
    pub revision: Option<Revision>,
    /// The revision that the plan has installed.
    pub observed: Option<Revision>,
    /// Why the newest accepted spec can't take effect.
    pub invalid: Option<String>,
    /// Newest first.
    pub changes: Vec<Change>,
    pub interruptions: Vec<Interruption>,
    pub run: Option<RunFacts>,
    /// The revision of its entry in the minute tier.
    pub entry: Option<Revision>,
    /// Where the job waits for its next occurrence that isn't in the minute tier.
    pub placed: Option<Placed>,
    /// Up to where the shard is planned and taken; `None` if nobody ever planned it.
    pub plan: Option<PlanFacts>,
    /// The nodes that hold the shard's leases now.
    pub planner: Option<String>,
    pub dispatcher: Option<String>,
    /// The job's queue, if its server answered.
    pub queue: Option<QueueFacts>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanFacts {
    pub planned_until: Timestamp,
    pub taken_until: Timestamp,
}

/// A queue's consumer now; see `bus::backlog`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct QueueFacts {
    pub name: String,
    /// Nobody has asked for its work, ever, if not.
    pub has_consumer: bool,
    pub waiting_pulls: u64,
    pub in_hand: u64,
    pub undelivered: u64,
    pub delivered_until: u64,
    /// Since it is gated: why nothing is let through, or what the limits are.
    pub gate: Option<String>,
    pub paused: bool,
}

/// A run's record, and where its message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFacts {
    pub state: RunState,
    pub revision: Revision,
    pub generation: Generation,
    pub published_at: Option<Timestamp>,
    pub epoch: Option<u64>,
    /// The node that published it, if that is still known.
    pub published_by: Option<String>,
    pub sequence: Option<u64>,
    /// Whether its message is still in the run stream.
    pub in_stream: bool,
    /// Every attempt whose end is known, in order, the newest last.
    pub attempts: Vec<AttemptFacts>,
    pub output: Option<String>,
    pub skip_reason: Option<String>,
    pub ended_at: Option<Timestamp>,
    /// What a run that isn't published waits for: `overlap`, `queue` or `dispatch`.
    pub waits_for: Option<String>,
    /// `<instant> <who> <reason>` of a request to cancel it.
    pub cancel: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptFacts {
    pub generation: Generation,
    pub end: AttemptEnd,
    pub executor: String,
}

/// What became, or becomes, of the occurrence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Ran,
    /// It ran, and no attempt succeeded.
    Failed,
    /// It is on its way: published, or held back for a named reason.
    UnderWay,
    WillRun,
    WillNotRun,
    DidNotRun,
    /// It was dealt with, and what became of it is forgotten.
    Unknown,
}

impl Fate {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ran => "ran",
            Self::Failed => "failed",
            Self::UnderWay => "under-way",
            Self::WillRun => "will-run",
            Self::WillNotRun => "will-not-run",
            Self::DidNotRun => "did-not-run",
            Self::Unknown => "unknown",
        }
    }
}

/// The one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    pub fate: Fate,
    /// For programs: `suspended`, `nobody-pulls`, …
    pub code: &'static str,
    /// For people.
    pub sentence: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Done,
    /// It should have happened, or is awaited, and hasn't.
    Missing,
    /// Here it was stopped.
    Refused,
    /// Nothing can be said, or it doesn't come to this.
    Open,
}

impl Status {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Missing => "missing",
            Self::Refused => "refused",
            Self::Open => "open",
        }
    }
}

/// One step on the way from a schedule to an outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub what: &'static str,
    pub status: Status,
    pub at: Option<Timestamp>,
    pub note: String,
}

/// The answer to "why?".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    pub at: Timestamp,
    pub cause: Cause,
    pub steps: Vec<Step>,
}

/// Explains one instant.
#[must_use]
pub fn explain(facts: &Facts) -> Explanation {
    let then = Then::of(facts);
    let naming = then.naming(facts);
    let cause = cause::cause(facts, &then, naming.as_ref());
    let steps = chain::chain(facts, &then, naming.as_ref(), &cause);
    Explanation { at: facts.at, cause, steps }
}
