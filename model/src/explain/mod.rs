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
use crate::overlap::REPLACED_BY;
use crate::run::{AttemptEnd, Generation, RunState, WaitsFor};
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
    /// The revision of its entry, in the minute tier or held back.
    pub entry: Option<Revision>,
    /// Until when `catchUp.rate` holds it back, if it does.
    pub not_before: Option<Timestamp>,
    /// Why the plan has it, if its job runs a while after its last run has ended.
    pub follows: Option<Follows>,
    /// The backfill that asked for it, if that is known.
    pub backfill: Option<String>,
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

/// Why a run is there whose job runs a while after its last run has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follows {
    /// So long before, a run of the job ended.
    End(Timestamp),
    /// It is what the plan has last, whichever end that follows.
    Planned,
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
    pub waits_for: Option<WaitsFor>,
    pub cancel: Option<CancelFacts>,
}

impl RunFacts {
    /// Whether it was ever in the run stream, as far as is known.
    #[must_use]
    pub fn was_published(&self) -> bool {
        self.published_at.is_some() || !self.attempts.is_empty()
    }
}

/// Who asked for a run to be cancelled, when and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CancelFacts {
    pub at: Timestamp,
    pub by: String,
    pub reason: Option<String>,
}

impl CancelFacts {
    /// `by ann@desk: not today`.
    fn whose(&self) -> String {
        let by = if self.by == REPLACED_BY { "`overlap: replace`" } else { self.by.as_str() };
        let reason = self.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        format!("by {by}{reason}")
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Node, decode_job};
    use crate::run::Outcome;
    use crate::spec::Acceptance;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// A job that is due each hour, at a quarter past its second one, with nothing known of the run.
    fn facts() -> Facts {
        let created = at("2026-11-22T00:00:00Z");
        let manifest = serde_json::json!({
            "apiVersion": "ecron/v1", "kind": "Job", "metadata": {"name": "b", "namespace": "a"},
            "spec": {"schedule": {"cron": "0 * * * *"}, "queue": "work", "payload": {}},
        });
        let spec = decode_job(&Node::from_json(manifest), created).unwrap();
        let declared = Declared::of(spec, Acceptance::new(created)).unwrap();
        Facts {
            job: "a/b".parse().unwrap(),
            at: at("2026-11-22T02:00:00Z"),
            now: at("2026-11-22T02:15:00Z"),
            declared: Some(declared),
            revision: Some(Revision(1)),
            observed: Some(Revision(1)),
            invalid: None,
            changes: vec![],
            interruptions: vec![],
            run: None,
            entry: None,
            not_before: None,
            follows: None,
            backfill: None,
            placed: None,
            plan: Some(PlanFacts {
                planned_until: at("2026-11-22T02:17:00Z"),
                taken_until: at("2026-11-22T02:15:00Z"),
            }),
            planner: Some("p".into()),
            dispatcher: Some("d".into()),
            queue: Some(QueueFacts { name: "a/work".into(), has_consumer: true, ..QueueFacts::default() }),
        }
    }

    fn run(state: RunState) -> RunFacts {
        RunFacts {
            state,
            revision: Revision(1),
            generation: Generation(0),
            published_at: Some(at("2026-11-22T02:00:00Z")),
            epoch: Some(7),
            published_by: Some("d".into()),
            sequence: Some(5),
            in_stream: true,
            attempts: vec![],
            output: None,
            skip_reason: None,
            ended_at: None,
            waits_for: None,
            cancel: None,
        }
    }

    fn by_ann(when: &str) -> CancelFacts {
        CancelFacts { at: at(when), by: "ann@desk".into(), reason: Some("enough".into()) }
    }

    fn code(facts: &Facts) -> &'static str {
        explain(facts).cause.code
    }

    #[test]
    fn what_is_missing_is_named() {
        let queue =
            |queue: QueueFacts| Some(QueueFacts { name: "a/work".into(), has_consumer: true, ..queue });
        let with_run = |run: RunFacts| Facts { run: Some(run), ..facts() };
        let waits = |waits| RunFacts { waits_for: Some(waits), published_at: None, ..run(RunState::Waiting) };
        let failed = AttemptFacts {
            generation: Generation(0),
            end: AttemptEnd {
                attempt: 1,
                outcome: Outcome::Failed,
                error: Some("no disk".into()),
                started_at: at("2026-11-22T02:00:00Z"),
                ended_at: at("2026-11-22T02:14:58Z"),
            },
            executor: "x".into(),
        };
        let busy = QueueFacts { in_hand: 3, undelivered: 2, ..QueueFacts::default() };
        let delivered = QueueFacts { in_hand: 1, delivered_until: 5, ..QueueFacts::default() };
        let plan = |planned: &str, taken: &str| {
            Some(PlanFacts { planned_until: at(planned), taken_until: at(taken) })
        };
        let old_plan = plan("2026-11-22T01:59:00Z", "2026-11-22T01:58:59Z");
        let table = [
            ("forgotten", facts()),
            ("no-planner", Facts { planner: None, plan: old_plan, ..facts() }),
            ("planner-behind", Facts { plan: old_plan, ..facts() }),
            ("no-dispatcher", Facts { dispatcher: None, entry: Some(Revision(1)), ..facts() }),
            ("dispatcher-behind", Facts { entry: Some(Revision(1)), ..facts() }),
            ("not-installed", Facts { observed: None, ..facts() }),
            (
                "waits-for-catch-up",
                Facts { entry: Some(Revision(1)), not_before: Some(at("2026-11-22T02:20:00Z")), ..facts() },
            ),
            ("waits-for-earlier-run", with_run(waits(WaitsFor::Overlap))),
            ("waits-at-gate", with_run(waits(WaitsFor::Queue))),
            ("waits-for-dispatch", with_run(waits(WaitsFor::Dispatch))),
            ("nobody-pulls", with_run(run(RunState::Dispatched))),
            ("in-queue", Facts { queue: queue(busy), ..with_run(run(RunState::Dispatched)) }),
            ("running", Facts { queue: queue(delivered), ..with_run(run(RunState::Dispatched)) }),
            ("settling", with_run(RunFacts { in_stream: false, ..run(RunState::Dispatched) })),
            ("published", Facts { queue: None, ..with_run(run(RunState::Dispatched)) }),
            (
                "waits-for-retry",
                with_run(RunFacts { attempts: vec![failed.clone()], ..run(RunState::Dispatched) }),
            ),
            (
                "retry-due",
                Facts {
                    now: at("2026-11-22T02:30:00Z"),
                    ..with_run(RunFacts { attempts: vec![failed], ..run(RunState::Dispatched) })
                },
            ),
            (
                "being-cancelled",
                with_run(RunFacts {
                    cancel: Some(by_ann("2026-11-22T02:10:00Z")),
                    ..run(RunState::Dispatched)
                }),
            ),
            ("cancelled", with_run(run(RunState::Cancelled))),
        ];
        for (expected, facts) in table {
            assert_eq!(code(&facts), expected, "{:#?}", explain(&facts));
        }
        let gate = Some(QueueFacts { name: "a/work".into(), paused: true, ..QueueFacts::default() });
        let paused = Facts { queue: gate, ..with_run(waits(WaitsFor::Queue)) };
        assert!(explain(&paused).cause.sentence.contains("a/work, which is paused"));
    }

    #[test]
    fn what_a_catch_up_holds_back_has_its_own_step() {
        let held_back =
            Facts { entry: Some(Revision(1)), not_before: Some(at("2026-11-22T02:20:00Z")), ..facts() };
        let found = explain(&held_back);
        assert!(found.cause.sentence.contains("until 2026-11-22T02:20:00Z"), "{found:#?}");
        let admitted = found.steps.iter().find(|step| step.what == "admitted");
        let admitted = admitted.map(|step| (step.status, step.at));
        assert_eq!(admitted, Some((Status::Missing, held_back.not_before)), "{found:#?}");
    }

    #[test]
    fn nothing_follows_the_step_that_stopped_it() {
        let steps = explain(&Facts { at: at("2026-11-22T02:01:00Z"), ..facts() }).steps;
        let last = steps.last().map(|step| (step.what, step.status));
        assert_eq!((steps.len(), last), (2, Some(("named", Status::Refused))));
    }
}
