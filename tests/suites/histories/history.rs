//! A history: what people and accidents do to a few jobs, one deed after the other, drawn from a seed.

use ambient::Entropy;
use model::id::RunId;
use model::manifest::{Node, decode_job};
use model::name::{JobId, QueueId};
use model::schedule::{Identity, Schedule, no_calendars};
use model::time::Timestamp;
use serde_json::{Value, json};

/// Names of jobs, in two namespaces.
pub(crate) const JOBS: [&str; 5] = ["default/a", "default/b", "default/c", "other/d", "other/e"];
/// The queues that they use: each namespace has one.
pub(crate) const QUEUES: [&str; 2] = ["default/work", "other/work"];
pub(crate) const NAMESPACES: [&str; 2] = ["default", "other"];

/// Which instants a schedule names.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum When {
    /// Every so many seconds since the job was created.
    Every(u32),
    Cron(&'static str),
    /// Seconds of the history.
    At(Vec<u32>),
}

/// What a manifest says, as far as histories vary it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Spec {
    pub when: When,
    /// Seconds of the history.
    pub end: Option<u32>,
    pub count: Option<u32>,
    pub overlap: &'static str,
    pub max_active: Option<u32>,
    pub catch_up: &'static str,
    pub window_s: Option<u32>,
    pub max: Option<u32>,
    /// How fast runs are caught up on: so many in so many seconds.
    pub catch_up_rate: Option<(u32, u32)>,
    pub starting_deadline_s: Option<u32>,
    pub attempts: u32,
    pub retry_s: u32,
    pub factor: u32,
    pub timeout_s: u32,
    pub suspend: bool,
    /// Of the payload: tells by which version a run was started.
    pub version: u64,
}

/// The longest wait between two attempts.
pub(crate) const RETRY_MAX_S: u32 = 20;
/// The timeout of jobs whose handlers may take longer.
pub(crate) const TIMEOUT_S: u32 = 10;
/// More runs than any history has.
const HISTORY_KEPT: u32 = 1_000;

impl Spec {
    pub(crate) fn manifest(&self, job: &str, begin: Timestamp) -> Value {
        let (namespace, name) = job.split_once('/').unwrap_or(("default", job));
        let instant = |seconds: &u32| begin.floor(1_000).plus_ms(i64::from(*seconds) * 1_000).to_string();
        let mut schedule = match &self.when {
            When::Every(seconds) => json!({"every": format!("{seconds}s")}),
            When::Cron(expression) => json!({"cron": expression}),
            When::At(seconds) => json!({"at": seconds.iter().map(instant).collect::<Vec<_>>()}),
        };
        if let Some(end) = &self.end {
            schedule["end"] = json!(instant(end));
        }
        if let Some(count) = self.count {
            schedule["count"] = json!(count);
        }
        let seconds = |seconds: u32| format!("{seconds}s");
        let mut catch_up = json!({"policy": self.catch_up});
        if let Some(window) = self.window_s {
            catch_up["window"] = json!(seconds(window));
        }
        catch_up["max"] = json!(self.max.unwrap_or(HISTORY_KEPT));
        if let Some((starts, period_s)) = self.catch_up_rate {
            catch_up["rate"] = json!(format!("{starts}/{period_s}s"));
        }
        let retry = json!({
            "attempts": self.attempts, "initial": seconds(self.retry_s), "factor": self.factor,
            "max": seconds(RETRY_MAX_S), "jitter": 0,
        });
        let mut spec = json!({
            "schedule": schedule, "queue": "work", "overlap": self.overlap, "catchUp": catch_up, "retry": retry,
            "timeout": seconds(self.timeout_s), "suspend": self.suspend, "payload": {"version": self.version},
            "history": {"succeeded": HISTORY_KEPT, "failed": HISTORY_KEPT, "skipped": HISTORY_KEPT},
        });
        if let Some(most) = self.max_active {
            spec["maxActive"] = json!(most);
        }
        if let Some(deadline) = self.starting_deadline_s {
            spec["startingDeadline"] = json!(seconds(deadline));
        }
        json!({
            "apiVersion": "ecron/v1", "kind": "Job",
            "metadata": {"name": name, "namespace": namespace}, "spec": spec,
        })
    }

    /// The instants that it names, for a job that was created then.
    pub(crate) fn schedule(
        &self,
        job: &str,
        begin: Timestamp,
        created_at: Timestamp,
    ) -> anyhow::Result<Schedule> {
        // Instants long past are fine here.
        let manifest = Node::from_json(self.manifest(job, begin));
        let spec = decode_job(&manifest, Timestamp::from_ms(0)).map_err(|p| anyhow::anyhow!("{p:?}"))?;
        Schedule::compile(&spec.schedule, &Identity { job, created_at }, &no_calendars)
            .map_err(|problems| anyhow::anyhow!("{problems:?}"))
    }

    /// Whether both name the same instants of one job.
    pub(crate) fn same_schedule(&self, other: &Self) -> bool {
        (&self.when, self.end, self.count) == (&other.when, other.end, other.count)
    }

    /// How many runs may be under way at once.
    pub(crate) fn limit(&self) -> Option<usize> {
        match (self.overlap, self.max_active) {
            ("allow", None) => None,
            (_, most) => Some(most.unwrap_or(1) as usize),
        }
    }
}

/// The limits of both queues, as far as histories vary them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Limits {
    /// Runs under way at once.
    pub concurrency: Option<u32>,
    /// So many starts, in so many seconds, with a burst of so many.
    pub rate: Option<(u32, u32, u32)>,
}

/// One thing that happens. Jobs, queues and namespaces are numbers into the lists above.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Deed {
    Apply(usize, Spec),
    Delete(usize),
    Pause(usize),
    Resume(usize),
    PauseNamespace(usize),
    ResumeNamespace(usize),
    PauseQueue(usize),
    ResumeQueue(usize),
    /// Both queues have no limits any more, and aren't paused. The time that passes then ends as soon as all runs have ended.
    LiftLimits,
    Trigger(usize),
    /// The occurrence that its schedule names so many from now.
    CancelNext(usize, u32),
    /// The run that was started last.
    CancelLast(usize),
    CrashPlanner,
    StartPlanner,
    CrashDispatcher,
    StartDispatcher,
    Crash,
    Start,
    KillExecutor,
    StartExecutor,
    /// NATS is restarted: it knows only the message ids of what it still has.
    ForgetIds,
    Nothing,
}

/// A deed, and how many seconds pass then.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scene {
    pub deed: Deed,
    pub then_s: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct History {
    pub seed: u64,
    /// From its beginning, until they are lifted.
    pub limits: Limits,
    pub scenes: Vec<Scene>,
}

/// How an attempt ends if nobody stops it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Success,
    Failure,
    Permanent,
    /// Turned away, for so many seconds.
    Busy(u32),
}

/// What a run is to its handler: how long an attempt takes, and how its first, second, … attempt ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Work {
    pub takes_s: u32,
    ends: [End; 4],
}

impl Work {
    /// The work of a run, the same for everybody who asks.
    pub(crate) fn of(seed: u64, job: &JobId, due_at: Timestamp) -> Self {
        let name: u64 = job.to_string().bytes().fold(7, |sum, byte| sum * 31 + u64::from(byte));
        let of_job = Entropy::seeded(seed ^ name.rotate_left(32));
        let entropy = Entropy::seeded(seed ^ name.rotate_left(32) ^ due_at.as_ms().unsigned_abs());
        let draw = |entropy: &Entropy, below: u64| entropy.next_u64() % below;
        // Some jobs are quick, some take longer than their intervals.
        let longest = [0, 0, 3, 25, 60][draw(&of_job, 5) as usize];
        let takes_s = if longest == 0 { 0 } else { draw(&entropy, longest + 1) as u32 };
        // Who wins if a handler is done in the very moment of its timeout is nobody's business.
        let takes_s = takes_s + u32::from(takes_s == TIMEOUT_S);
        let end = || match draw(&entropy, 20) {
            0..=4 => End::Failure,
            5 => End::Permanent,
            6 => End::Busy(1 + draw(&entropy, 8) as u32),
            _ => End::Success,
        };
        let reliable = draw(&of_job, 3) == 0;
        let ends = if reliable { [End::Success; 4] } else { [end(), end(), end(), end()] };
        Self { takes_s, ends }
    }

    pub(crate) fn end(&self, attempt: u32) -> End {
        self.ends[(attempt.max(1) as usize - 1).min(self.ends.len() - 1)]
    }
}

/// The job and the due instant of a run.
pub(crate) fn occurrence(run: &RunId) -> Option<(&JobId, Timestamp)> {
    match run {
        RunId::Occurrence(occurrence) => Some((&occurrence.job, occurrence.due_at)),
        RunId::AdHoc { .. } => None,
    }
}

pub(crate) fn job(index: usize) -> anyhow::Result<JobId> {
    Ok(JOBS[index].parse()?)
}

pub(crate) fn queue_of(job: &JobId) -> anyhow::Result<QueueId> {
    Ok(format!("{}/work", job.namespace).parse()?)
}

impl std::fmt::Display for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "seed {}, {:?}", self.seed, self.limits)?;
        let mut at = 0;
        for Scene { deed, then_s } in &self.scenes {
            writeln!(f, "{at:>5} s  {deed:?}")?;
            at += then_s;
        }
        write!(f, "{at:>5} s  the end")
    }
}
