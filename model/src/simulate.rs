//! What jobs would do in a stretch of time, by the same rules that decide in earnest; no server, no clock.
//!
//! Every run is assumed to take the same time. What depends on others (queues, retries, downtime) isn't simulated.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use crate::declared::Declared;
use crate::name::JobId;
use crate::overlap::{Rule, Standing, Verdict, Waiting, decide};
use crate::run::SkipReason;
use crate::schedule::Schedule;
use crate::spec::JobSpec;
use crate::time::Timestamp;

/// Occurrences of one job that are simulated.
pub const SIMULATED_MAX: usize = 100_000;

/// What becomes of one occurrence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    Runs {
        started_at: Timestamp,
        ended_at: Timestamp,
        /// A newer run took its place before it had ended (`overlap: replace`).
        cancelled: bool,
    },
    Skipped(SkipReason),
    /// Its schedule leaves it out (`exclude`).
    Excluded,
}

/// One occurrence, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Simulated {
    pub job: JobId,
    pub due_at: Timestamp,
    pub fate: Fate,
}

/// What a job does from an instant on (included) until another one (not included), in order of due.
#[must_use]
pub fn simulate(job: &Declared, from: Timestamp, to: Timestamp, takes: Duration) -> Vec<Simulated> {
    let named = match job.schedule.after_delay() {
        Some(delay) => one_after_the_other(from, to, takes, delay),
        None => occurrences(&job.schedule, from, to),
    };
    let mut fates = Course::new(&job.spec, takes).of(&named, job.acceptance.paused_since());
    let excluded = without_exclusions(job).map_or_else(Vec::new, |all| occurrences(&all, from, to));
    let known: BTreeSet<Timestamp> = named.into_iter().collect();
    fates.extend(
        excluded.into_iter().filter(|due| !known.contains(due)).map(|due_at| (due_at, Fate::Excluded)),
    );
    fates.sort_by_key(|(due_at, _)| *due_at);
    let simulated = |(due_at, fate)| Simulated { job: job.spec.id.clone(), due_at, fate };
    fates.into_iter().map(simulated).collect()
}

/// The first at once, each other one a delay after the end of the one before.
fn one_after_the_other(from: Timestamp, to: Timestamp, takes: Duration, delay: Duration) -> Vec<Timestamp> {
    // A delay of nothing between runs that take no time would never get on.
    let step = (takes + delay).max(Duration::from_millis(1));
    let all = std::iter::successors(Some(from), |due| Some(due.plus(step)));
    all.take_while(|due| *due < to).take(SIMULATED_MAX).collect()
}

fn occurrences(schedule: &Schedule, from: Timestamp, to: Timestamp) -> Vec<Timestamp> {
    let first = schedule.next_after(from.plus_ms(-1));
    let all = std::iter::successors(first, |due| schedule.next_after(*due));
    all.take_while(|due| *due < to).take(SIMULATED_MAX).collect()
}

/// The schedule as it would be without `exclude`, if it has any.
fn without_exclusions(job: &Declared) -> Option<Schedule> {
    if job.spec.schedule.each().all(|one| one.exclude.is_empty()) {
        return None;
    }
    let mut spec = job.spec.clone();
    spec.schedule.change_each(|one| one.exclude.clear());
    Declared::of(spec, job.acceptance.clone()).ok().map(|all| all.schedule)
}

/// A job's runs as time passes.
struct Course<'a> {
    spec: &'a JobSpec,
    rule: Option<Rule>,
    takes: Duration,
    /// Due instants and ends of the runs under way.
    active: Vec<(Timestamp, Timestamp)>,
    waiting: VecDeque<Timestamp>,
    fates: Vec<(Timestamp, Fate)>,
}

impl<'a> Course<'a> {
    fn new(spec: &'a JobSpec, takes: Duration) -> Self {
        let rule = Rule::of(spec.overlap, spec.max_active);
        Self { spec, rule, takes, active: vec![], waiting: VecDeque::new(), fates: vec![] }
    }

    fn of(mut self, dues: &[Timestamp], paused_since: Option<Timestamp>) -> Vec<(Timestamp, Fate)> {
        for due_at in dues {
            if paused_since.is_some_and(|since| *due_at > since) {
                self.fates.push((*due_at, Fate::Skipped(SkipReason::Suspended)));
                continue;
            }
            self.pass_until(Some(*due_at));
            self.admit(*due_at);
        }
        self.pass_until(None);
        self.fates
    }

    fn admit(&mut self, due_at: Timestamp) {
        let Some(rule) = self.rule else { return self.start(due_at, due_at) };
        match decide(rule, self.standing()) {
            Verdict::Start => self.start(due_at, due_at),
            Verdict::Skip(reason) => self.fates.push((due_at, Fate::Skipped(reason))),
            Verdict::Wait(Waiting { newest_only, cancel_active }) => {
                if newest_only {
                    let older = self.waiting.drain(..);
                    self.fates.extend(older.map(|older| (older, Fate::Skipped(SkipReason::Coalesced))));
                }
                self.waiting.push_back(due_at);
                if cancel_active {
                    self.cancel_active(due_at);
                    self.release(due_at);
                }
            }
        }
    }

    fn standing(&self) -> Standing {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Standing { active: count(self.active.len()), waiting: count(self.waiting.len()) }
    }

    fn start(&mut self, due_at: Timestamp, at: Timestamp) {
        let too_late = |deadline: Duration| at > due_at.plus(deadline);
        if self.spec.starting_deadline.is_some_and(too_late) {
            self.fates.push((due_at, Fate::Skipped(SkipReason::StartingDeadline)));
            return;
        }
        let ended_at = at.plus(self.takes);
        self.fates.push((due_at, Fate::Runs { started_at: at, ended_at, cancelled: false }));
        self.active.push((due_at, ended_at));
    }

    /// Ends what ends up to an instant (`None`: everything), and starts what waited for it.
    fn pass_until(&mut self, until: Option<Timestamp>) {
        loop {
            let ends = |(_, ended_at): &&(Timestamp, Timestamp)| until.is_none_or(|until| *ended_at <= until);
            let Some((_, at)) =
                self.active.iter().filter(ends).min_by_key(|(_, ended_at)| *ended_at).copied()
            else {
                return;
            };
            self.active.retain(|(_, ended_at)| *ended_at != at);
            self.release(at);
        }
    }

    fn release(&mut self, at: Timestamp) {
        while self.standing().released(self.rule.map(|rule| rule.limit)) > 0 {
            let Some(due_at) = self.waiting.pop_front() else { return };
            self.start(due_at, at);
        }
    }

    fn cancel_active(&mut self, at: Timestamp) {
        let cut: BTreeSet<Timestamp> = self.active.drain(..).map(|(due_at, _)| due_at).collect();
        for (due_at, fate) in &mut self.fates {
            if let (true, Fate::Runs { ended_at, cancelled, .. }) = (cut.contains(due_at), fate) {
                (*ended_at, *cancelled) = (at, true);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::manifest::{Node, decode_job};
    use crate::spec::Acceptance;

    fn at(minutes: i64) -> Timestamp {
        "2026-11-22T06:00:00Z".parse::<Timestamp>().unwrap().plus_ms(minutes * 60_000)
    }

    fn played(more: &serde_json::Value, takes_min: u64) -> Vec<String> {
        let mut spec = json!({"schedule": {"cron": "*/10 * * * *"}});
        for (key, value) in more.as_object().unwrap() {
            spec[key] = value.clone();
        }
        let document =
            json!({"apiVersion": "ecron/v1", "kind": "Job", "metadata": {"name": "a"}, "spec": spec});
        let spec = decode_job(&Node::from_json(document), at(-1)).unwrap();
        let acceptance = Acceptance::new(at(-1)).in_namespace(false, spec.suspend, at(-1));
        let job = Declared::of(spec, acceptance).unwrap();
        let minute = |instant: Timestamp| instant.ms_since(at(0)) / 60_000;
        let lines = simulate(&job, at(0), at(40), Duration::from_secs(takes_min * 60));
        let text = |one: &Simulated| match &one.fate {
            Fate::Runs { started_at, ended_at, cancelled } => {
                let end = if *cancelled { "x" } else { "" };
                format!("{}: {}-{}{end}", minute(one.due_at), minute(*started_at), minute(*ended_at))
            }
            Fate::Skipped(reason) => format!("{}: {reason:?}", minute(one.due_at)),
            Fate::Excluded => format!("{}: excluded", minute(one.due_at)),
        };
        lines.iter().map(text).collect()
    }

    #[test]
    fn each_policy_has_its_course() {
        let table = [
            (json!({}), 15, ["0: 0-15", "10: 10-25", "20: 20-35", "30: 30-45"]),
            (json!({"overlap": "skip"}), 5, ["0: 0-5", "10: 10-15", "20: 20-25", "30: 30-35"]),
            (json!({"overlap": "skip"}), 15, ["0: 0-15", "10: Overlap", "20: 20-35", "30: Overlap"]),
            (json!({"overlap": "queue-one"}), 25, ["0: 0-25", "10: Coalesced", "20: 25-50", "30: 50-75"]),
            (json!({"overlap": "queue-all"}), 15, ["0: 0-15", "10: 15-30", "20: 30-45", "30: 45-60"]),
            (json!({"overlap": "replace"}), 15, ["0: 0-10x", "10: 10-20x", "20: 20-30x", "30: 30-45"]),
            (
                json!({"overlap": "queue-all", "startingDeadline": "7m"}),
                15,
                ["0: 0-15", "10: 15-30", "20: StartingDeadline", "30: 30-45"],
            ),
            (json!({"maxActive": 2}), 25, ["0: 0-25", "10: 10-35", "20: 25-50", "30: 35-60"]),
            (
                json!({"suspend": true}),
                5,
                ["0: Suspended", "10: Suspended", "20: Suspended", "30: Suspended"],
            ),
        ];
        for (more, takes_min, expected) in table {
            assert_eq!(played(&more, takes_min), expected, "{more}");
        }
        let excluded = json!({"schedule": {"cron": "*/10 * * * *", "exclude": ["2026-11-22"]}});
        assert_eq!(played(&excluded, 1)[0], "0: excluded");
    }
}
