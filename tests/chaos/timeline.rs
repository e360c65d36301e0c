//! The history of one job's declaration, and what it says of an instant: must it run, may it, or never.
//!
//! Computed from what was asked and answered alone. The rules (`docs/reliability.md` explains them):
//! - *must*: every declaration that may have been in force then names the instant, catches up on all that was missed, and so
//!   does each edit that was asked for so soon afterwards that it may have found the occurrence late. What such an edit
//!   names doesn't matter, but a deletion or a pause excuses;
//! - *may*: some declaration that may have been in force then names it;
//! - *never*: everything else.

use std::collections::BTreeSet;

use crate::evidence::{Act, Answer, CatchUp, Declared, Operation};

/// How late an occurrence may be under faults: what is asked for within this time may find it unpublished.
pub(crate) const LATE_MAX_MS: i64 = 45_000;
/// How long after its acknowledgement an edit may take to be in force under faults.
pub(crate) const ACTIVATE_MS: i64 = 30_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Must,
    May,
    Never,
}

#[derive(Clone, Debug)]
struct Step {
    asked_ms: i64,
    /// When it was certain; `None`: it may or may not have happened.
    certain_ms: Option<i64>,
    /// `None`: deleted.
    declared: Option<Declared>,
}

/// What became of one job.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timeline(Vec<Step>);

impl Timeline {
    /// The next thing that was asked of this job.
    pub(crate) fn note(&mut self, operation: &Operation) {
        let declared = match &operation.act {
            Act::Apply { declared, .. } => Some(declared.clone()),
            Act::Delete { .. } => None,
            Act::Trigger { .. } | Act::Submit { .. } | Act::Read { .. } => return,
        };
        let certain_ms = match operation.answer {
            Answer::Done => Some(operation.answered_ms),
            Answer::Unknown => None,
            // Nothing was changed.
            Answer::Refused | Answer::Failed => return,
        };
        self.0.push(Step { asked_ms: operation.asked_ms, certain_ms, declared });
        self.0.sort_by_key(|step| step.asked_ms);
    }

    /// Every instant up to a last one that some declaration names after it was asked for.
    #[must_use]
    pub(crate) fn instants(&self, until_ms: i64) -> BTreeSet<i64> {
        let mut instants = BTreeSet::new();
        let Some(first_ms) = self.0.first().map(|step| step.asked_ms) else { return instants };
        let intervals: BTreeSet<i64> =
            self.0.iter().filter_map(|step| step.declared.as_ref()?.every_ms).collect();
        for every_ms in intervals {
            let (first, last) = (first_ms.div_euclid(every_ms) + 1, until_ms.div_euclid(every_ms));
            instants.extend((first..=last).map(|n| n * every_ms));
        }
        let single = self.0.iter().filter_map(|step| step.declared.as_ref()).flat_map(|spec| &spec.at_ms);
        instants.extend(single.filter(|at_ms| (first_ms..=until_ms).contains(at_ms)));
        instants
    }

    #[must_use]
    pub(crate) fn call(&self, due_ms: i64) -> Call {
        let known = self.0.partition_point(|step| step.asked_ms <= due_ms);
        let (asked, later) = self.0.split_at(known);
        // The newest that was certain by then; whatever was asked after it may have been in force as well.
        let certain = asked.iter().rposition(|step| step.certain_ms.is_some_and(|at| at <= due_ms));
        let candidates = &asked[certain.unwrap_or(0)..];
        let runs = |step: &Step| step.declared.as_ref().is_some_and(|spec| names(spec, due_ms));
        let catches_up =
            |step: &Step| step.declared.as_ref().is_some_and(|spec| spec.catch_up == CatchUp::All);
        let keeps = |step: &Step| {
            step.declared.as_ref().is_some_and(|spec| !spec.suspended && spec.catch_up == CatchUp::All)
        };
        let must = certain.is_some()
            && candidates.iter().all(|step| runs(step) && catches_up(step))
            && later.iter().take_while(|step| step.asked_ms <= due_ms + LATE_MAX_MS).all(keeps);
        if must {
            return Call::Must;
        }
        let gone = |index: usize| {
            let settled = |step: &Step| step.certain_ms.is_some_and(|at| at + ACTIVATE_MS <= due_ms);
            asked[index + 1..].iter().any(settled)
        };
        // What a pause missed is caught up when it ends, if the job says so.
        let resumed = later.iter().any(runs);
        let paused = |step: &Step| {
            step.declared.as_ref().is_some_and(|spec| spec.suspended && is_instant(spec, due_ms))
        };
        let may = asked
            .iter()
            .enumerate()
            .any(|(index, step)| (runs(step) || (resumed && paused(step))) && !gone(index));
        if may { Call::May } else { Call::Never }
    }
}

fn names(declared: &Declared, due_ms: i64) -> bool {
    !declared.suspended && is_instant(declared, due_ms)
}

fn is_instant(declared: &Declared, due_ms: i64) -> bool {
    let by_interval = declared.every_ms.is_some_and(|every_ms| due_ms.rem_euclid(every_ms) == 0);
    by_interval || declared.at_ms.contains(&due_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::{at, every};

    fn apply(asked_ms: i64, answered_ms: i64, declared: Option<Declared>, answer: Answer) -> Operation {
        let act = match declared {
            Some(declared) => Act::Apply { job: "a/b".into(), declared },
            None => Act::Delete { job: "a/b".into() },
        };
        Operation { asked_ms, answered_ms, act, answer, problem: String::new() }
    }

    fn timeline(operations: &[Operation]) -> Timeline {
        let mut timeline = Timeline::default();
        operations.iter().for_each(|operation| timeline.note(operation));
        timeline
    }

    #[test]
    fn must_may_and_never() {
        use Answer::{Done, Failed, Unknown};
        use Call::{May, Must, Never};
        let two = || Some(every(2_000));
        let six = || Some(every(6_000));
        let suspended = || Some(Declared { suspended: true, ..every(2_000) });
        let latest = || Some(Declared { catch_up: CatchUp::Latest, ..every(2_000) });
        let created = |answer| apply(1_000, 3_000, two(), answer);
        // (what, operations, due, call)
        let table = [
            ("before anything was asked", vec![created(Done)], 0, Never),
            ("between request and answer", vec![created(Done)], 2_000, May),
            ("accepted", vec![created(Done)], 4_000, Must),
            ("not an occurrence", vec![created(Done)], 5_000, Never),
            ("the answer got lost", vec![created(Unknown)], 4_000, May),
            ("it failed", vec![created(Failed)], 4_000, Never),
            ("it needn't catch up", vec![apply(1_000, 3_000, latest(), Done)], 4_000, May),
            ("deleted long before", vec![created(Done), apply(9_000, 10_000, None, Done)], 60_000, Never),
            ("deleted just before", vec![created(Done), apply(9_000, 10_000, None, Done)], 20_000, May),
            ("deleted soon after", vec![created(Done), apply(9_000, 10_000, None, Done)], 8_000, May),
            ("deleted much later", vec![created(Done), apply(90_000, 90_100, None, Done)], 8_000, Must),
            ("maybe deleted", vec![created(Done), apply(9_000, 10_000, None, Unknown)], 60_000, May),
            ("the deletion failed", vec![created(Done), apply(9_000, 10_000, None, Failed)], 60_000, Must),
            ("suspended", vec![created(Done), apply(9_000, 10_000, suspended(), Done)], 60_000, Never),
            (
                "suspended, and resumed later",
                vec![
                    created(Done),
                    apply(9_000, 10_000, suspended(), Done),
                    apply(70_000, 70_100, two(), Done),
                ],
                60_000,
                May,
            ),
            (
                "suspended, and resumed with another schedule",
                vec![
                    created(Done),
                    apply(9_000, 10_000, suspended(), Done),
                    apply(70_000, 70_100, six(), Done),
                ],
                62_000,
                Never,
            ),
            ("edited soon after", vec![created(Done), apply(9_000, 10_000, six(), Done)], 8_000, Must),
            (
                "maybe edited soon after",
                vec![created(Done), apply(9_000, 10_000, six(), Unknown)],
                8_000,
                Must,
            ),
            (
                "needn't catch up soon after",
                vec![created(Done), apply(9_000, 9_100, latest(), Done)],
                8_000,
                May,
            ),
            (
                "suspended soon after",
                vec![created(Done), apply(9_000, 10_000, suspended(), Done)],
                8_000,
                May,
            ),
            ("edited, named by both", vec![created(Done), apply(9_000, 13_000, six(), Done)], 12_000, Must),
            (
                "edited, named by the old one",
                vec![created(Done), apply(9_000, 10_000, six(), Done)],
                14_000,
                May,
            ),
            (
                "edited, no longer named",
                vec![created(Done), apply(9_000, 10_000, six(), Done)],
                62_000,
                Never,
            ),
            ("edited, still named", vec![created(Done), apply(9_000, 10_000, six(), Done)], 66_000, Must),
            (
                "maybe edited, named by both",
                vec![created(Done), apply(9_000, 10_000, six(), Unknown)],
                66_000,
                Must,
            ),
        ];
        for (what, operations, due_ms, call) in table {
            assert_eq!(timeline(&operations).call(due_ms), call, "{what}");
        }
    }

    #[test]
    fn instants_are_those_of_every_declaration() {
        let timeline = timeline(&[
            apply(1_000, 1_100, Some(every(4_000)), Answer::Done),
            apply(5_000, 5_100, Some(at(vec![7_000, 99_000])), Answer::Done),
        ]);
        assert_eq!(timeline.instants(12_000).into_iter().collect::<Vec<_>>(), [4_000, 7_000, 8_000, 12_000]);
    }
}
