//! `get`, `runs` and `run`, and a job as `list` shows it.

use std::collections::BTreeMap;

use bus::specs::StoredSpec;
use model::declared::Declared;
use model::explain::attempts_made;
use model::id::RunId;
use model::manifest::encode;
use model::name::JobId;
use model::progress::Progress;
use model::run::RunState;
use model::schedule::Schedule;
use model::shard::ShardId;
use model::time::Timestamp;
use store::adhoc::AdHocRun;
use store::ledger::RunRecord;
use store::plan::JobRecord;
use store::space::{SPACED_SEARCHED_MAX, Spaced};
use store::{Store, StoreError};

use super::Api;
use super::stats::{attempt_view, stats_view};
use super::types::{
    ApiError, CancelView, JobRequest, JobStatus, JobView, RunMark, RunRequest, RunView, RunningView,
    RunsReply, RunsRequest,
};
use super::write::job_id;
use crate::install::declared;
use crate::service::PlannerBus;

/// Runs in an answer of `runs`, unless asked otherwise, and at most.
const RUNS_DEFAULT: usize = 20;
const RUNS_MAX: usize = 1_000;
/// What a missed occurrence waits for, beside `model::run::WaitsFor`.
const WAITS_FOR_CATCH_UP: &str = "catch-up";
/// Of an error where a brief answer was asked for.
const BRIEF_ERROR_CHARS: usize = 200;

impl<S: Store, B: PlannerBus> Api<S, B> {
    pub(super) async fn get(&self, request: Result<JobRequest, ApiError>) -> Result<JobView, ApiError> {
        let job = job_id(&request?.job)?;
        let shard = self.shards.shard_of(&job);
        let Some(stored) = self.bus.get(shard, &job).await? else {
            return Err(ApiError::not_found(&format!("the job {job}")));
        };
        let standing = self.standing(&job, 1).await?;
        let mut view = self.view(&job, &stored, &standing);
        if standing.broken.is_none() {
            view.status.observed_revision = self.observed(&job).await?;
        }
        view.status.condition = view.status.condition.or(standing.broken);
        view.status.stats = Some(stats_view(&self.store.stats(shard, &job).await?));
        Ok(view)
    }

    /// The revision that is in force; 0 before any is.
    async fn observed(&self, job: &JobId) -> Result<u64, ApiError> {
        let in_force = self.store.in_force(self.shards.shard_of(job), job).await?;
        Ok(in_force.map_or(0, |revision| revision.0))
    }

    /// A job's record and newest runs; what can't be read of them is said, and hides nothing else.
    async fn standing(&self, job: &JobId, recent: usize) -> Result<Standing, ApiError> {
        let shard = self.shards.shard_of(job);
        let mut broken = None;
        let record = match self.store.jobs(shard, std::slice::from_ref(job)).await {
            Ok(mut records) => records.pop().flatten(),
            Err(problem @ StoreError::Corrupt { .. }) => {
                broken = Some(format!("failed to {problem}; applying the job again mends it"));
                None
            }
            Err(problem) => return Err(problem.into()),
        };
        let runs = match self.newest_runs(shard, job, recent.max(1)).await {
            Ok(runs) => runs,
            Err(problem @ StoreError::Corrupt { .. }) => {
                broken = Some(format!("failed to {problem}"));
                vec![]
            }
            Err(problem) => return Err(problem.into()),
        };
        Ok(Standing { now: self.clock.now(), record, runs, broken })
    }

    /// A job's newest runs; more than asked for, if the newest were cancelled ahead of their time: what was due last comes
    /// after them.
    pub(super) async fn newest_runs(
        &self,
        shard: ShardId,
        job: &JobId,
        limit: usize,
    ) -> Result<Vec<RunRecord>, StoreError> {
        let runs = self.store.runs(shard, job, limit).await?;
        let now = self.clock.now();
        if runs.first().is_some_and(|run| run.occurrence.due_at > now) {
            return self.store.runs(shard, job, RUNS_MAX).await;
        }
        Ok(runs)
    }

    /// A job as `list` shows it, with its newest runs.
    pub(super) async fn listed(
        &self,
        job: &JobId,
        stored: &StoredSpec,
        recent: usize,
    ) -> Result<JobView, ApiError> {
        let standing = self.standing(job, recent).await?;
        let mut view = self.view(job, stored, &standing);
        if standing.broken.is_none() {
            view.status.observed_revision = self.observed(job).await?;
        }
        view.status.condition = view.status.condition.or(standing.broken);
        view.status.recent = standing.runs.iter().take(recent).map(run_mark).collect();
        Ok(view)
    }

    pub(super) async fn runs(&self, request: Result<RunsRequest, ApiError>) -> Result<RunsReply, ApiError> {
        let request = request?;
        let job = job_id(&request.job)?;
        let limit = request.limit.unwrap_or(RUNS_DEFAULT).clamp(1, RUNS_MAX);
        let shard = self.shards.shard_of(&job);
        let runs = self.store.runs(shard, &job, limit).await?;
        let spaced = self.store.spaced(shard, &job, RUNS_MAX).await?;
        if runs.is_empty() && spaced.is_empty() && self.bus.get(shard, &job).await?.is_none() {
            return Err(ApiError::not_found(&format!("the job {job}")));
        }
        let mut views: BTreeMap<Timestamp, RunView> =
            spaced.iter().map(|spaced| (spaced.0.occurrence.due_at, spaced_view(spaced))).collect();
        views.extend(runs.iter().map(|run| (run.occurrence.due_at, run_view(run))));
        let shown = views.into_values().rev().take(limit);
        let runs = if request.brief { shown.map(brief).collect() } else { shown.collect() };
        Ok(RunsReply { runs })
    }

    pub(super) async fn run(&self, request: Result<RunRequest, ApiError>) -> Result<RunView, ApiError> {
        let text = request?.run;
        let run_id: RunId = text.parse().map_err(|problem| ApiError::refused(format!("{problem}")))?;
        let occurrence = match run_id {
            RunId::Occurrence(occurrence) => occurrence,
            RunId::AdHoc { ref queue, .. } => {
                let found = self.store.ad_hoc(self.shards.shard_of_queue(queue), &run_id).await?;
                return found.as_ref().map(ad_hoc_view).ok_or_else(|| {
                    ApiError::not_found(&format!(
                        "a record of run {text} (ad-hoc work that waits, or succeeded at once, has none)"
                    ))
                });
            }
        };
        let shard = self.shards.shard_of(&occurrence.job);
        match self.store.run(shard, &occurrence).await? {
            Some(record) => {
                let progress = self.store.latest_progress(shard, &occurrence).await?;
                let attempts = self.attempts(shard, &record).await?;
                let under_way = progress.as_ref().map(|noted| (noted.generation, noted.attempt));
                let attempt_log = attempts_made(&attempts, under_way).iter().map(attempt_view).collect();
                let running = progress.map(running_view);
                Ok(RunView { running, attempt_log, ..run_view(&record) })
            }
            None => {
                let spaced = self.store.spaced(shard, &occurrence.job, SPACED_SEARCHED_MAX).await?;
                let found = spaced.iter().find(|(entry, _)| entry.occurrence == occurrence);
                found.map(spaced_view).ok_or_else(|| ApiError::not_found(&format!("a record of run {text}")))
            }
        }
    }

    fn view(&self, job: &JobId, stored: &StoredSpec, standing: &Standing) -> JobView {
        let record = standing.record.as_ref();
        let mut status = JobStatus {
            revision: stored.revision.0,
            observed_revision: record.map_or(0, |record| record.revision.0),
            last_run: last_due(&standing.runs, standing.now).map(run_view),
            ..JobStatus::default()
        };
        // The newest revision's own, not the record's: that may still tell of an older one until the planner gets here.
        let manifest = match declared(job, stored) {
            Ok(Declared { spec, acceptance, schedule, .. }) => {
                status.created_at = acceptance.created_at.to_string();
                let paused_since = acceptance.paused_since();
                status.suspended = paused_since.is_some();
                status.paused_since = paused_since.map(|since| since.to_string());
                status.namespace_paused = acceptance.namespace_paused;
                status.schedule = schedule.describe();
                let after = standing.now.max(acceptance.schedule_since);
                let follows = || record.and_then(|record| record.after_due).filter(|due_at| *due_at > after);
                let named = || next_open(&schedule, &standing.runs, after);
                let next = if status.suspended { None } else { named().or_else(follows) };
                status.next_due_at = next.map(|due_at| due_at.to_string());
                encode(&spec)
            }
            Err(problems) => {
                status.condition = Some(problems);
                serde_json::from_slice(&stored.value).unwrap_or(serde_json::Value::Null)
            }
        };
        JobView { job: job.to_string(), manifest, status }
    }
}

/// What is remembered of a job.
struct Standing {
    now: Timestamp,
    record: Option<JobRecord>,
    /// Newest first.
    runs: Vec<RunRecord>,
    /// What of it can't be read.
    broken: Option<String>,
}

/// The run that was due last, of a job's newest ones.
pub(super) fn last_due(runs: &[RunRecord], now: Timestamp) -> Option<&RunRecord> {
    runs.iter().find(|run| run.occurrence.due_at <= now)
}

/// When a schedule's next occurrence is due that nobody has cancelled yet, of a job with these newest runs.
pub(super) fn next_open(schedule: &Schedule, runs: &[RunRecord], after: Timestamp) -> Option<Timestamp> {
    let is_over =
        |due_at: Timestamp| runs.iter().any(|run| run.occurrence.due_at == due_at && run.state.is_end());
    std::iter::successors(schedule.next_after(after), |due_at| schedule.next_after(*due_at))
        .find(|due_at| !is_over(*due_at))
}

fn run_mark(record: &RunRecord) -> RunMark {
    RunMark { due_at: record.occurrence.due_at.to_string(), state: record.state.as_str().into() }
}

/// A run's record as the API shows it.
#[must_use]
pub fn run_view(record: &RunRecord) -> RunView {
    let text = |at: Timestamp| at.to_string();
    let last = record.last.as_ref();
    let first = record.first_start();
    RunView {
        run: record.occurrence.to_string(),
        state: record.state.as_str().into(),
        due_at: text(record.occurrence.due_at),
        revision: record.revision.0,
        generation: record.generation.0,
        waits_for: record.waits_for.map(|waits| waits.as_str().into()),
        published_at: record.published_at.map(text),
        started_at: first.map(|first| text(first.again_at)),
        ended_at: record.ended_at.map(text),
        lateness_ms: first.map(|first| first.at.ms_since(record.occurrence.due_at)),
        attempts: last.map_or(0, |end| end.attempt),
        last_outcome: last.map(|end| end.outcome.as_str().into()),
        error: last.and_then(|end| end.error.clone()),
        reason: record.skip_reason.clone(),
        cancel: record.cancel.as_ref().map(|mark| CancelView {
            at: text(mark.at),
            by: mark.by.clone(),
            reason: mark.reason.clone(),
        }),
        executor: record.executor.clone(),
        output: record.output.clone(),
        running: None,
        attempt_log: vec![],
    }
}

/// A missed occurrence that waits for its turn in a catch-up: it has no record yet.
fn spaced_view((entry, not_before): &Spaced) -> RunView {
    RunView {
        run: entry.occurrence.to_string(),
        state: RunState::Waiting.as_str().into(),
        due_at: entry.occurrence.due_at.to_string(),
        revision: entry.revision.0,
        waits_for: Some(WAITS_FOR_CATCH_UP.into()),
        reason: Some(format!("missed; catchUp.rate holds it back until {not_before}")),
        ..RunView::default()
    }
}

fn brief(view: RunView) -> RunView {
    let error = view.error.map(|error| error.chars().take(BRIEF_ERROR_CHARS).collect());
    RunView { output: None, error, ..view }
}

fn ad_hoc_view(run: &AdHocRun) -> RunView {
    let end = &run.last;
    RunView {
        run: run.run_id.to_string(),
        state: run.state.as_str().into(),
        due_at: run.due_at.to_string(),
        generation: run.generation.0,
        started_at: Some(run.first.again_at.to_string()),
        ended_at: run.state.is_end().then(|| end.ended_at.to_string()),
        lateness_ms: Some(run.first.at.ms_since(run.due_at)),
        attempts: end.attempt,
        last_outcome: Some(end.outcome.as_str().into()),
        error: end.error.clone(),
        executor: Some(run.executor.clone()),
        output: run.output.clone(),
        ..RunView::default()
    }
}

fn running_view(progress: Progress) -> RunningView {
    RunningView {
        attempt: progress.attempt,
        since: progress.started_at.to_string(),
        executor: progress.executor,
        at: progress.at.to_string(),
        fraction: progress.fraction,
        message: progress.message,
    }
}
