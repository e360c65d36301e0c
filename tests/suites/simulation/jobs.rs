//! The jobs of a simulation, and what is known of their declarations: must an instant run, may it, or never.
//!
//! Computed from what was asked and answered, and from when there was trouble. The rules are those of `tests/chaos/timeline.rs`, but that
//! what they grant for faults lasts as long as there are faults.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub(crate) const QUEUES: [&str; 2] = ["sim/swift", "sim/slow"];
const NAMESPACE: &str = "sim";

/// 2020-01-01T00:00:00Z, from when intervals count.
const START_MS: i64 = 1_577_836_800_000;

/// Without faults: how late an occurrence may be, so that who edits its job finds it unpublished.
const LATE_MAX_MS: i64 = 15_000;
/// Without faults: how long an edit may take to be in force.
const ACTIVATE_MS: i64 = 15_000;

/// How a handler treats a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Conduct {
    Succeed,
    /// Its first attempt fails.
    Stumble,
    Fail,
}

/// What a handler is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Payload {
    pub(crate) conduct: Conduct,
    pub(crate) takes_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Declared {
    pub(crate) every_ms: Option<i64>,
    pub(crate) at_ms: Vec<i64>,
    pub(crate) suspended: bool,
    /// Whether all that was missed is caught up, or the latest only.
    pub(crate) all: bool,
}

impl Declared {
    fn is_instant(&self, due_ms: i64) -> bool {
        let by_interval = self.every_ms.is_some_and(|every_ms| (due_ms - START_MS).rem_euclid(every_ms) == 0);
        by_interval || self.at_ms.contains(&due_ms)
    }

    fn names(&self, due_ms: i64) -> bool {
        !self.suspended && self.is_instant(due_ms)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) name: String,
    pub(crate) queue: usize,
    pub(crate) payload: Payload,
    /// `None`: deleted.
    pub(crate) declared: Option<Declared>,
    pub(crate) timeline: Timeline,
}

impl Job {
    pub(crate) fn id(&self) -> String {
        format!("{NAMESPACE}/{}", self.name)
    }

    pub(crate) fn manifest(&self, declared: &Declared) -> Value {
        let mut schedule = serde_json::Map::new();
        if let Some(ms) = declared.every_ms {
            schedule.insert("every".into(), json!(format!("{ms}ms")));
            schedule.insert("start".into(), json!(model::time::Timestamp::from_ms(START_MS).to_string()));
        }
        if !declared.at_ms.is_empty() {
            let instant = |ms: &i64| model::time::Timestamp::from_ms(*ms).to_string();
            schedule.insert("at".into(), json!(declared.at_ms.iter().map(instant).collect::<Vec<_>>()));
        }
        let catch_up = if declared.all {
            json!({"policy": "all", "window": "30d", "max": 10_000})
        } else {
            json!({"policy": "latest"})
        };
        let queue = QUEUES[self.queue].split_once('/').map_or(QUEUES[self.queue], |(_, name)| name);
        json!({
            "apiVersion": "ecron/v1",
            "kind": "Job",
            "metadata": {"name": self.name, "namespace": NAMESPACE},
            "spec": {
                "schedule": schedule,
                "queue": queue,
                "payload": self.payload,
                "catchUp": catch_up,
                "suspend": declared.suspended,
                "timeout": "5m",
                "retry": {"attempts": 3, "initial": "1s", "factor": 2, "max": "4s", "jitter": 0.2},
                "history": {"succeeded": 1000, "failed": 1000, "skipped": 1000},
            },
        })
    }
}

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
    declared: Option<Declared>,
}

/// When there was trouble.
#[derive(Clone, Debug, Default)]
pub(crate) struct Troubles(Vec<(i64, i64)>);

impl Troubles {
    /// Something goes wrong, until it is `end`ed.
    pub(crate) fn begin(&mut self, at_ms: i64) -> usize {
        self.0.push((at_ms, i64::MAX));
        self.0.len() - 1
    }

    pub(crate) fn end(&mut self, which: usize, at_ms: i64) {
        self.0[which].1 = self.0[which].1.min(at_ms);
    }

    /// The first instant after which there have been so many milliseconds without trouble.
    pub(crate) fn quiet_after(&self, from_ms: i64, quiet_ms: i64) -> i64 {
        let mut quiet_since = from_ms;
        loop {
            let until = quiet_since.saturating_add(quiet_ms);
            let over = self.0.iter().filter(|(begin, end)| *begin <= until && *end > quiet_since);
            match over.map(|(_, end)| *end).max() {
                Some(end) => quiet_since = end,
                None => return until,
            }
        }
    }

    /// Whether there was none in a stretch of time.
    pub(crate) fn none_in(&self, from_ms: i64, to_ms: i64) -> bool {
        !self.0.iter().any(|(begin, end)| *begin <= to_ms && *end >= from_ms)
    }
}

/// The history of one job's declaration.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timeline(Vec<Step>);

impl Timeline {
    /// Something is asked of this job.
    pub(crate) fn asked(&mut self, at_ms: i64, declared: Option<Declared>) -> usize {
        self.0.push(Step { asked_ms: at_ms, certain_ms: None, declared });
        self.0.len() - 1
    }

    pub(crate) fn certain(&mut self, which: usize, at_ms: i64) {
        self.0[which].certain_ms = Some(at_ms);
    }

    /// Every instant that some declaration names after it was asked for.
    pub(crate) fn instants(&self, until_ms: i64) -> BTreeSet<i64> {
        let mut instants = BTreeSet::new();
        let Some(first_ms) = self.0.first().map(|step| step.asked_ms) else { return instants };
        let intervals: BTreeSet<i64> =
            self.0.iter().filter_map(|step| step.declared.as_ref()?.every_ms).collect();
        for every_ms in intervals {
            let number = |at_ms: i64| (at_ms - START_MS).div_euclid(every_ms);
            instants.extend((number(first_ms) + 1..=number(until_ms)).map(|n| START_MS + n * every_ms));
        }
        let single = self.0.iter().filter_map(|step| step.declared.as_ref()).flat_map(|spec| &spec.at_ms);
        instants.extend(single.filter(|at_ms| (first_ms..=until_ms).contains(at_ms)));
        instants
    }

    /// Whether nobody paused or deleted the job as long as something that was due then may have been late.
    pub(crate) fn keeps(&self, due_ms: i64, troubles: &Troubles) -> bool {
        let late_until = troubles.quiet_after(due_ms, LATE_MAX_MS);
        let newest_before = self.0.partition_point(|step| step.asked_ms <= due_ms).saturating_sub(1);
        let steps = self.0[newest_before..].iter().take_while(|step| step.asked_ms <= late_until);
        steps.into_iter().all(|step| step.declared.as_ref().is_some_and(|spec| !spec.suspended))
    }

    pub(crate) fn call(&self, due_ms: i64, troubles: &Troubles) -> Call {
        let known = self.0.partition_point(|step| step.asked_ms <= due_ms);
        let (asked, later) = self.0.split_at(known);
        // A schedule counts from the instant after it was accepted.
        let certain = asked.iter().rposition(|step| step.certain_ms.is_some_and(|at| at < due_ms));
        let candidates = &asked[certain.unwrap_or(0)..];
        let runs = |step: &Step| step.declared.as_ref().is_some_and(|spec| spec.names(due_ms));
        let catches_up = |step: &Step| step.declared.as_ref().is_some_and(|spec| spec.all);
        let keeps = |step: &Step| step.declared.as_ref().is_some_and(|spec| spec.all && !spec.suspended);
        let late_until = troubles.quiet_after(due_ms, LATE_MAX_MS);
        let must = certain.is_some()
            && candidates.iter().all(|step| runs(step) && catches_up(step))
            && later.iter().take_while(|step| step.asked_ms <= late_until).all(keeps);
        if must {
            return Call::Must;
        }
        let gone = |index: usize| {
            let settled = |step: &Step| {
                step.certain_ms.is_some_and(|at| troubles.quiet_after(at, ACTIVATE_MS) <= due_ms)
            };
            asked[index + 1..].iter().any(settled)
        };
        let resumed = later.iter().any(runs);
        let paused = |step: &Step| {
            step.declared.as_ref().is_some_and(|spec| spec.suspended && spec.is_instant(due_ms))
        };
        let may = asked
            .iter()
            .enumerate()
            .any(|(index, step)| (runs(step) || (resumed && paused(step))) && !gone(index));
        if may { Call::May } else { Call::Never }
    }
}
