//! The verdict, from the evidence alone: nothing here asks ecron anything.

use std::collections::{BTreeMap, BTreeSet};

use model::time::Timestamp;
use serde::Serialize;

use crate::evidence::{Act, Answer, End, Evidence, Seen};
use crate::timeline::{Call, LATE_MAX_MS, Timeline};

/// After a fault ends, requests may still fail for so long: leases run out, connections are made again.
const AFTERMATH_MS: i64 = 5_000;
/// A start later than this isn't normal.
const LATE_MS: i64 = 2_000;
/// By then everything must be normal again.
const RECOVERY_MAX_MS: i64 = 60_000;
/// Requests without a fault that must succeed, in percent.
const SUCCESS_MIN: f64 = 99.0;
/// A message in the hands of somebody who is dead or cut off comes again after this.
const ACK_WAIT_MS: i64 = 30_000;
/// Around a triggered run's request: its due instant is when the server took it.
const TRIGGER_SLACK_MS: i64 = 1_000;
/// Findings that are told one by one, of each sort.
const TOLD_MAX: usize = 20;

/// What the evidence says. The first five, `unended`, `invented` and `rewritten` must be 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Verdict {
    /// Instants that had to run.
    pub(crate) occurrences: usize,
    pub(crate) faults: usize,
    /// Had to run, and never began.
    pub(crate) missed: usize,
    /// Stored twice in the run stream: one run and generation under two sequences.
    pub(crate) doubled: usize,
    /// Began before they were due.
    pub(crate) early: usize,
    /// Ended twice in different ways, or without anything that explains a repetition.
    pub(crate) double_outcomes: usize,
    /// Began, and no outcome was stored.
    pub(crate) unended: usize,
    /// Began although no declaration that may have been in force names them.
    pub(crate) invented: usize,
    /// The history showed an end and later another one, and Redis had lost nothing.
    pub(crate) rewritten: usize,
    pub(crate) fault_kinds: BTreeMap<String, usize>,
    /// Publications beyond the first of a run and generation: the stream drops them as copies, or `doubled` counts them.
    pub(crate) published_again: usize,
    /// Runs that began at all, also those that only may.
    pub(crate) runs: usize,
    /// Began again though no attempt had failed: allowed after a crash, a pause or a cut.
    pub(crate) begun_again: usize,
    /// Reports of the same end from two attempts: allowed likewise.
    pub(crate) repeated_ends: usize,
    pub(crate) operations: usize,
    pub(crate) operations_without_fault: usize,
    pub(crate) failed_without_fault: usize,
    pub(crate) success_percent: f64,
    pub lateness_p50_ms: i64,
    pub lateness_p99_ms: i64,
    pub(crate) lateness_max_ms: i64,
    /// From the last fault's end to the last start that was late.
    pub(crate) recovery_ms: i64,
    /// Processes that ended though nobody had asked them to.
    pub(crate) fallen: usize,
    pub(crate) holds: bool,
    #[serde(skip)]
    pub(crate) findings: Vec<String>,
}

#[derive(Debug, Default)]
struct Run {
    begins: Vec<(i64, u32)>,
    /// Attempts that returned and failed: another one follows.
    failures: usize,
    due_ms: i64,
    token: Option<String>,
    /// By generation.
    sequences: BTreeMap<u32, BTreeSet<u64>>,
    /// By generation: attempt → state.
    ends: BTreeMap<u32, BTreeMap<u32, End>>,
}

struct Check<'a> {
    evidence: &'a Evidence,
    /// Runs that had to be.
    must: BTreeSet<String>,
    runs: BTreeMap<&'a str, Run>,
    verdict: Verdict,
}

/// Judges.
#[must_use]
pub(crate) fn check(evidence: &Evidence) -> Verdict {
    let mut check =
        Check { evidence, must: BTreeSet::new(), runs: collect(evidence), verdict: Verdict::default() };
    check.faults();
    check.occurrences();
    check.messages();
    check.outcomes();
    check.history();
    check.operations();
    check.lateness();
    let Check { mut verdict, .. } = check;
    verdict.fallen = evidence.fallen.len();
    let wrong = [
        verdict.missed,
        verdict.doubled,
        verdict.early,
        verdict.double_outcomes,
        verdict.unended,
        verdict.invented,
        verdict.rewritten,
    ];
    verdict.holds = wrong.iter().sum::<usize>() == 0
        && verdict.occurrences > 0
        && verdict.success_percent >= SUCCESS_MIN
        && verdict.recovery_ms <= RECOVERY_MAX_MS;
    verdict
}

fn collect(evidence: &Evidence) -> BTreeMap<&str, Run> {
    let mut runs: BTreeMap<&str, Run> = BTreeMap::new();
    for seen in &evidence.seen {
        match seen {
            Seen::Delivered { run, generation, sequence, .. } => {
                runs.entry(run).or_default().sequences.entry(*generation).or_default().insert(*sequence);
            }
            Seen::Begun { run, attempt, due_ms, token, at_ms } => {
                let known = runs.entry(run).or_default();
                known.begins.push((*at_ms, *attempt));
                known.due_ms = *due_ms;
                known.token.clone_from(token);
            }
            Seen::Ended { run, succeeded, .. } => {
                runs.entry(run).or_default().failures += usize::from(!succeeded);
            }
            Seen::Reported { .. } => {}
        }
    }
    for end in &evidence.ends {
        let ends = runs.entry(&end.run).or_default().ends.entry(end.generation).or_default();
        ends.insert(end.attempt, end.clone());
    }
    for run in runs.values_mut() {
        run.begins.sort_unstable();
    }
    runs
}

impl<'a> Check<'a> {
    fn tell(&mut self, sort: &str, of: usize, what: String) {
        if of <= TOLD_MAX {
            self.verdict.findings.push(format!("{sort}: {what}"));
        }
    }

    fn faults(&mut self) {
        self.verdict.faults = self.evidence.faults.len();
        for fault in &self.evidence.faults {
            *self.verdict.fault_kinds.entry(fault.kind.clone()).or_default() += 1;
        }
    }

    /// Missed, unended, early, invented.
    fn occurrences(&mut self) {
        let mut timelines: BTreeMap<&str, Timeline> = BTreeMap::new();
        for operation in &self.evidence.operations {
            if let Act::Apply { job, .. } | Act::Delete { job } = &operation.act {
                timelines.entry(job).or_default().note(operation);
            }
        }
        let mut must: BTreeSet<String> = BTreeSet::new();
        for (job, timeline) in &timelines {
            for due_ms in timeline.instants(self.evidence.until_ms) {
                if timeline.call(due_ms) == Call::Must {
                    must.insert(format!("{job}@{}", Timestamp::from_ms(due_ms)));
                }
            }
        }
        let (tokens, triggered) = self.asked_for(&mut must);
        self.verdict.occurrences = must.len() + tokens.values().filter(|known| known.must).count();

        let mut told: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for run in &must {
            let known = self.runs.get(run.as_str());
            if known.is_none_or(|known| known.begins.is_empty()) {
                told.entry("missed").or_default().push(run.clone());
            }
        }
        let begun_tokens: BTreeSet<&str> =
            self.runs.values().filter_map(|run| run.token.as_deref()).collect();
        for (token, known) in &tokens {
            if known.must && !begun_tokens.contains(token) {
                told.entry("missed").or_default().push(format!("ad-hoc work {token}"));
            }
        }
        for (id, run) in &self.runs {
            let Some((first_ms, _)) = run.begins.first() else { continue };
            self.verdict.runs += 1;
            self.verdict.begun_again += (run.begins.len() - 1).saturating_sub(run.failures);
            let named = match (&run.token, id.split_once('@')) {
                (Some(token), _) => tokens.contains_key(token.as_str()),
                (None, Some((job, _))) => {
                    let by_trigger = triggered.get(job).is_some_and(|times| {
                        times.iter().any(|(from, to)| (*from..=*to).contains(&run.due_ms))
                    });
                    let call = timelines.get(job).map_or(Call::Never, |timeline| timeline.call(run.due_ms));
                    by_trigger || call != Call::Never
                }
                (None, None) => false,
            };
            if !named {
                told.entry("invented").or_default().push(format!("{id}: {:?}", run.begins));
            }
            let not_before = run.token.as_deref().and_then(|token| tokens.get(token)?.not_before_ms);
            let due_ms = not_before.unwrap_or(run.due_ms).max(run.due_ms);
            if *first_ms < due_ms {
                told.entry("early").or_default().push(format!("{id} by {} ms", due_ms - first_ms));
            }
            if run.ends.is_empty() && run.due_ms <= self.evidence.until_ms {
                told.entry("unended").or_default().push(format!("{id}: {:?}", run.begins));
            }
        }
        for published in &self.evidence.published {
            let due = published.run.split_once('@').and_then(|(_, due)| due.parse::<Timestamp>().ok());
            if due.is_some_and(|due| published.at_ms < due.as_ms()) {
                told.entry("early")
                    .or_default()
                    .push(format!("{} was published at {}", published.run, published.at_ms));
            }
        }
        for (sort, found) in told {
            let count = match sort {
                "missed" => &mut self.verdict.missed,
                "early" => &mut self.verdict.early,
                "invented" => &mut self.verdict.invented,
                _ => &mut self.verdict.unended,
            };
            *count = found.len();
            for (index, what) in found.into_iter().enumerate() {
                self.tell(sort, index + 1, what);
            }
        }
        self.must = must;
    }

    /// Ad-hoc work by its token, and when each job was triggered. Triggered runs whose ids are known join `must`.
    fn asked_for(&self, must: &mut BTreeSet<String>) -> (BTreeMap<&'a str, AdHoc>, Triggered<'a>) {
        let mut tokens = BTreeMap::new();
        let mut triggered: Triggered<'a> = BTreeMap::new();
        for operation in &self.evidence.operations {
            let (asked_ms, answered_ms) = (operation.asked_ms, operation.answered_ms);
            let done = operation.answer == Answer::Done;
            match &operation.act {
                Act::Submit { token, not_before_ms } => {
                    let in_time = not_before_ms.unwrap_or(answered_ms) <= self.evidence.until_ms;
                    let known = AdHoc { must: done && in_time, not_before_ms: *not_before_ms };
                    tokens.insert(token.as_str(), known);
                }
                Act::Trigger { job, run } => {
                    let times = (asked_ms - TRIGGER_SLACK_MS, answered_ms + TRIGGER_SLACK_MS);
                    triggered.entry(job).or_default().push(times);
                    // Until it is dispatched, a trigger is as durable as Redis.
                    let lost = self.evidence.faults.iter().any(|fault| {
                        fault.forgets
                            && fault.from_ms <= answered_ms + LATE_MAX_MS
                            && fault.until_ms >= asked_ms - TRIGGER_SLACK_MS
                    });
                    if let (true, false, Some(run)) = (done, lost, run)
                        && answered_ms <= self.evidence.until_ms
                    {
                        must.insert(run.clone());
                    }
                }
                Act::Apply { .. } | Act::Delete { .. } | Act::Read { .. } => {}
            }
        }
        (tokens, triggered)
    }

    fn messages(&mut self) {
        let published: BTreeSet<(&str, u32)> =
            self.evidence.published.iter().map(|known| (known.run.as_str(), known.generation)).collect();
        self.verdict.published_again = self.evidence.published.len() - published.len();
        let doubled: Vec<String> = self
            .runs
            .iter()
            .flat_map(|(id, run)| {
                run.sequences.iter().map(move |(generation, sequences)| (id, generation, sequences))
            })
            .filter(|(_, _, sequences)| sequences.len() > 1)
            .map(|(id, generation, sequences)| format!("{id} generation {generation}: {sequences:?}"))
            .collect();
        self.verdict.doubled = doubled.len();
        for (index, what) in doubled.into_iter().enumerate() {
            self.tell("doubled", index + 1, what);
        }
    }

    fn outcomes(&mut self) {
        let mut wrong = Vec::new();
        for (id, run) in &self.runs {
            for (generation, ends) in run.ends.iter().filter(|(_, ends)| ends.len() > 1) {
                let states: BTreeSet<&str> = ends.values().map(|end| end.state.as_str()).collect();
                let times: BTreeSet<i64> = ends.values().map(|end| end.ended_ms).collect();
                let (first, last) = (times.first().copied(), times.last().copied());
                let explained = first.zip(last).is_some_and(|(first, last)| {
                    self.evidence.faults.iter().any(|fault| {
                        fault.from_ms <= last && fault.until_ms + ACK_WAIT_MS + AFTERMATH_MS >= first
                    })
                });
                if states.len() > 1 || !explained {
                    wrong.push(format!("{id} generation {generation}: {ends:?}"));
                } else {
                    self.verdict.repeated_ends += ends.len() - 1;
                }
            }
        }
        self.verdict.double_outcomes = wrong.len();
        for (index, what) in wrong.into_iter().enumerate() {
            self.tell("double outcome", index + 1, what);
        }
    }

    /// What the history said of an end, it must go on saying, unless Redis lost it.
    fn history(&mut self) {
        let mut shown: BTreeMap<(&str, u32), Vec<(i64, &str)>> = BTreeMap::new();
        for run in &self.evidence.shown {
            let under_way = matches!(run.state.as_str(), "dispatched" | "waiting");
            if !under_way {
                shown.entry((&run.run, run.generation)).or_default().push((run.at_ms, &run.state));
            }
        }
        let mut wrong = Vec::new();
        for ((id, _), mut states) in shown {
            states.sort_unstable();
            for pair in states.windows(2) {
                let ((from_ms, before), (to_ms, after)) = (pair[0], pair[1]);
                let lost = self
                    .evidence
                    .faults
                    .iter()
                    .any(|fault| fault.forgets && fault.from_ms <= to_ms && fault.until_ms >= from_ms);
                if before != after && !lost {
                    wrong.push(format!("{id} was {before} at {from_ms} and {after} at {to_ms}"));
                }
            }
        }
        self.verdict.rewritten = wrong.len();
        for (index, what) in wrong.into_iter().enumerate() {
            self.tell("rewritten", index + 1, what);
        }
    }

    fn operations(&mut self) {
        let mut failed = Vec::new();
        let (mut all, mut calm) = (0, 0);
        for operation in &self.evidence.operations {
            all += 1;
            let disturbed = self.evidence.faults.iter().any(|fault| {
                fault.from_ms <= operation.answered_ms && fault.until_ms + AFTERMATH_MS >= operation.asked_ms
            });
            if disturbed {
                continue;
            }
            calm += 1;
            if matches!(operation.answer, Answer::Failed | Answer::Unknown) {
                failed.push(format!("at {}: {:?}: {}", operation.asked_ms, operation.act, operation.problem));
            }
        }
        self.verdict.operations = all;
        self.verdict.operations_without_fault = calm;
        self.verdict.failed_without_fault = failed.len();
        let percent = 100.0 * (calm - failed.len()) as f64 / calm.max(1) as f64;
        self.verdict.success_percent = (percent * 100.0).round() / 100.0;
        for (index, what) in failed.into_iter().enumerate() {
            self.tell("failed without a fault", index + 1, what);
        }
    }

    fn lateness(&mut self) {
        let healed_ms = self.evidence.faults.iter().map(|fault| fault.until_ms).max().unwrap_or(i64::MIN);
        let mut lateness: Vec<i64> = Vec::new();
        let mut slowest = None;
        // What only may run was perhaps paused, and is caught up later: no measure of recovery.
        for (id, run) in self.runs.iter().filter(|(id, _)| self.must.contains(**id)) {
            let Some((first_ms, _)) = run.begins.first() else { continue };
            lateness.push(first_ms - run.due_ms);
            if first_ms - run.due_ms > LATE_MS && *first_ms > healed_ms && healed_ms > i64::MIN {
                slowest = slowest.max(Some((first_ms - healed_ms, *id)));
            }
        }
        lateness.sort_unstable();
        let at =
            |share: f64| lateness.get((lateness.len() as f64 * share) as usize).or(lateness.last()).copied();
        self.verdict.lateness_p50_ms = at(0.5).unwrap_or(0);
        self.verdict.lateness_p99_ms = at(0.99).unwrap_or(0);
        self.verdict.lateness_max_ms = at(1.0).unwrap_or(0);
        if let Some((recovery_ms, id)) = slowest {
            self.verdict.recovery_ms = recovery_ms;
            self.tell("last late start", 1, format!("{id}, {recovery_ms} ms after the last fault"));
        }
    }
}

#[derive(Debug)]
struct AdHoc {
    must: bool,
    not_before_ms: Option<i64>,
}

type Triggered<'a> = BTreeMap<&'a str, Vec<(i64, i64)>>;

#[cfg(test)]
mod tests;
