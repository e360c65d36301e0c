//! The jobs of a campaign: what is declared, and how their handlers behave.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::evidence::{CatchUp, Declared};

/// Everybody serves all of them.
pub(crate) const QUEUES: [&str; 3] = ["chaos/swift", "chaos/slow", "chaos/frail"];
/// The payloads' namespace.
pub(crate) const NAMESPACE: &str = "chaos";
/// A schedule that no campaign lives to see.
pub(crate) const NEVER_SOON_MS: i64 = 4_070_908_800_000;

/// How a handler treats a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Conduct {
    Succeed,
    /// Its first attempt fails.
    Stumble,
    /// Every attempt fails.
    Fail,
}

/// What a handler is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Payload {
    pub(crate) conduct: Conduct,
    pub(crate) takes_ms: u64,
    /// Of ad-hoc work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    /// Tells two revisions apart that occur at the same instants.
    #[serde(default)]
    pub(crate) edition: u64,
}

/// A job as the generator keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) id: String,
    pub(crate) declared: Declared,
    pub(crate) queue: &'static str,
    pub(crate) payload: Payload,
}

impl Job {
    #[must_use]
    pub(crate) fn new(
        name: &str,
        declared: Declared,
        queue: &'static str,
        conduct: Conduct,
        takes_ms: u64,
    ) -> Self {
        let payload = Payload { conduct, takes_ms, token: None, edition: 0 };
        Self { id: format!("{NAMESPACE}/{name}"), declared, queue, payload }
    }

    #[must_use]
    pub(crate) fn manifest(&self) -> Value {
        let (namespace, name) = self.id.split_once('/').unwrap_or((NAMESPACE, &self.id));
        let queue = self.queue.split_once('/').map_or(self.queue, |(_, name)| name);
        let Declared { every_ms, at_ms, suspended, catch_up } = &self.declared;
        let mut schedule = serde_json::Map::new();
        if let Some(ms) = every_ms {
            schedule.insert("every".into(), json!(format!("{ms}ms")));
            schedule.insert("start".into(), json!("2020-01-01T00:00:00Z"));
        }
        if !at_ms.is_empty() {
            let at: Vec<String> = at_ms.iter().map(|ms| harness::witness::instant(*ms)).collect();
            schedule.insert("at".into(), json!(at));
        }
        let catch_up = match catch_up {
            CatchUp::All => json!({"policy": "all", "window": "1d", "max": 10_000}),
            CatchUp::Latest => json!({"policy": "latest"}),
        };
        json!({
            "apiVersion": "ecron/v1",
            "kind": "Job",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "schedule": schedule,
                "queue": queue,
                "payload": self.payload,
                "catchUp": catch_up,
                "suspend": suspended,
                "timeout": "20s",
                "retry": {"attempts": 3, "initial": "300ms", "factor": 2, "max": "2s", "jitter": 0.2},
                "history": {"succeeded": 50, "failed": 50, "skipped": 100},
            },
        })
    }
}

#[must_use]
pub(crate) fn every(ms: i64) -> Declared {
    Declared { every_ms: Some(ms), at_ms: vec![], suspended: false, catch_up: CatchUp::All }
}

#[must_use]
pub(crate) fn at(at_ms: Vec<i64>) -> Declared {
    Declared { every_ms: None, at_ms, suspended: false, catch_up: CatchUp::All }
}

/// The jobs that nobody edits, for about so many runs a second.
#[must_use]
pub(crate) fn steady(runs_per_s: u32) -> Vec<Job> {
    let mut jobs = Vec::new();
    let mut add = |word: &str, share: f64, every_ms: i64, queue, conduct, takes_ms, catch_up| {
        let count = (f64::from(runs_per_s) * share * every_ms as f64 / 1_000.0).round().max(1.0) as usize;
        for number in 1..=count {
            let declared = Declared { catch_up, ..every(every_ms) };
            jobs.push(Job::new(&format!("{word}-{number}"), declared, queue, conduct, takes_ms));
        }
    };
    add("second", 0.32, 1_000, QUEUES[0], Conduct::Succeed, 5, CatchUp::All);
    add("two", 0.2, 2_000, QUEUES[0], Conduct::Succeed, 20, CatchUp::All);
    add("half", 0.08, 500, QUEUES[0], Conduct::Succeed, 0, CatchUp::All);
    add("five", 0.12, 5_000, QUEUES[1], Conduct::Succeed, 700, CatchUp::All);
    add("ten", 0.08, 10_000, QUEUES[1], Conduct::Succeed, 2_500, CatchUp::All);
    add("stumbling", 0.06, 4_000, QUEUES[2], Conduct::Stumble, 10, CatchUp::All);
    add("failing", 0.02, 10_000, QUEUES[2], Conduct::Fail, 10, CatchUp::All);
    add("latest", 0.06, 3_000, QUEUES[0], Conduct::Succeed, 10, CatchUp::Latest);
    jobs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn about_as_many_runs_as_were_asked_for() {
        let rate: f64 =
            steady(25).iter().filter_map(|job| job.declared.every_ms).map(|ms| 1_000.0 / ms as f64).sum();
        assert!((20.0..=27.0).contains(&rate), "{rate}");
    }
}
