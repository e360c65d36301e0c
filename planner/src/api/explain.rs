//! `explain`: fetches what is known of an occurrence, and lets `model::explain` say why. Reads only.

use model::backfill::Backfill;
use model::change::Change;
use model::declared::Declared;
use model::explain::{
    self, AttemptFacts, CancelFacts, Explanation, Facts, Follows, PlanFacts, QueueFacts, RunFacts,
};
use model::gate::GateRules;
use model::id::{Occurrence, Revision};
use model::misfire::Interruption;
use model::name::JobId;
use model::object::{ObjectKey, ObjectKind};
use model::run::Generation;
use model::schedule::Zone;
use model::shard::ShardId;
use model::time::{SECOND_MS, Timestamp};
use store::lease::Role;
use store::ledger::RunRecord;
use store::plan::{Cursor, JobRecord};
use store::space::{SPACED_SEARCHED_MAX, Spaced};
use store::{Store, StoreError};

use super::Api;
use super::queues::queue_of;
use super::types::{ApiError, ExplainReply, ExplainRequest, ExplanationView, StepView};
use super::write::job_id;
use crate::backfill::from_bytes;
use crate::install::declared;
use crate::service::PlannerBus;

/// Runs that are looked through for one due within the second that was asked for.
const RUNS_SEARCHED: usize = 500;

/// What is known of a job, whichever instant is asked about.
struct Known {
    job: JobId,
    shard: ShardId,
    now: Timestamp,
    declared: Option<Declared>,
    revision: Option<Revision>,
    invalid: Option<String>,
    record: Option<JobRecord>,
    changes: Vec<Change>,
    interruptions: Vec<Interruption>,
    cursor: Option<Cursor>,
    planner: Option<String>,
    dispatcher: Option<String>,
    queue: Option<QueueFacts>,
}

impl<S: Store, B: PlannerBus> Api<S, B> {
    pub(super) async fn explain(
        &self,
        request: Result<ExplainRequest, ApiError>,
    ) -> Result<ExplainReply, ApiError> {
        let ExplainRequest { job, at } = request?;
        let job = job_id(&job)?;
        let known = self.known(job).await?;
        let zone = known.declared.as_ref().map_or(Zone::UTC, |declared| declared.schedule.zone());
        let instants = match at {
            Some(text) => vec![self.instant(&known, &zone, &text).await?],
            None => self.around_now(&known).await?,
        };
        let mut explanations = Vec::with_capacity(instants.len());
        for at in instants {
            let facts = self.facts(&known, at).await?;
            explanations.push(view(&explain::explain(&facts), &zone));
        }
        Ok(ExplainReply { job: known.job.to_string(), explanations })
    }

    async fn known(&self, job: JobId) -> Result<Known, ApiError> {
        let shard = self.shards.shard_of(&job);
        let stored = self.bus.get(shard, &job).await?;
        let record = match self.store.jobs(shard, std::slice::from_ref(&job)).await {
            Ok(mut records) => records.pop().flatten(),
            Err(StoreError::Corrupt { .. }) => None,
            Err(problem) => return Err(problem.into()),
        };
        let changes = self.store.changes(shard, &job).await?;
        if stored.is_none() && record.is_none() && changes.is_empty() {
            let message = format!("the job {job} (nor one of that name that was deleted within a week)");
            return Err(ApiError::not_found(&message));
        }
        let newest = stored.as_ref().map(|stored| declared(&job, stored));
        let (newest, invalid) = match newest {
            Some(Ok(declared)) => (Some(declared), None),
            Some(Err(problems)) => (None, Some(problems)),
            None => (None, None),
        };
        let installed = || {
            let record = record.as_ref().filter(|_| invalid.is_some())?;
            Declared::read(record.spec.as_bytes(), Timestamp::from_ms(0)).ok()
        };
        let declared = newest.or_else(installed);
        let leases = self.store.leases(&[shard]).await?;
        let holder = |role| leases.iter().find(|lease| lease.role == role).map(|lease| lease.node.clone());
        Ok(Known {
            shard,
            now: self.clock.now(),
            queue: self.queue_facts(declared.as_ref()).await,
            declared,
            revision: stored.map(|stored| stored.revision),
            invalid,
            record,
            changes,
            interruptions: self.store.interruptions(shard).await?,
            cursor: self.store.cursor(shard).await?,
            planner: holder(Role::Planner),
            dispatcher: holder(Role::Dispatcher),
            job,
        })
    }

    /// How the job's queue stands; nothing if that can't be found out now.
    async fn queue_facts(&self, declared: Option<&Declared>) -> Option<QueueFacts> {
        let queue = &declared?.spec.queue;
        let backlog = self.bus.backlog(queue).await.ok()?;
        let name = queue.to_string();
        let stored = self.bus.object(&ObjectKey::Queue(queue.clone())).await.ok().flatten();
        let rules = stored.as_ref().and_then(queue_of).map(|spec| spec.rules).unwrap_or_default();
        let gate = rules.is_gated().then(|| limits_text(&rules));
        let facts = QueueFacts { name, gate, paused: rules.paused, ..QueueFacts::default() };
        Some(match backlog {
            None => facts,
            Some(backlog) => QueueFacts {
                has_consumer: true,
                waiting_pulls: backlog.waiting_pulls,
                in_hand: backlog.in_hand,
                undelivered: backlog.undelivered,
                delivered_until: backlog.delivered_until,
                ..facts
            },
        })
    }

    /// The instant that was asked for; of a run that was due within that second, its own.
    async fn instant(&self, known: &Known, zone: &Zone, text: &str) -> Result<Timestamp, ApiError> {
        let read = text.parse().ok().or_else(|| zone.read_civil(text));
        let Some(at) = read else {
            let form = "expected RFC 3339, or a civil time in the job's zone such as 2026-03-29 02:30";
            return Err(ApiError::refused(format!("read {text:?} as an instant: {form}")));
        };
        if at != at.floor(SECOND_MS) || self.run_at(known, at).await?.is_some() {
            return Ok(at);
        }
        let runs = self.store.runs(known.shard, &known.job, RUNS_SEARCHED).await?;
        let near = runs.iter().map(|run| run.occurrence.due_at).find(|due| due.floor(SECOND_MS) == at);
        Ok(near.unwrap_or(at))
    }

    /// The last occurrence and the next.
    async fn around_now(&self, known: &Known) -> Result<Vec<Timestamp>, ApiError> {
        let newest = self.store.runs(known.shard, &known.job, 1).await?;
        let ran = newest.first().map(|run| run.occurrence.due_at);
        let Some(declared) = &known.declared else {
            return Ok(vec![ran.unwrap_or(known.now)]);
        };
        let since = declared.acceptance.schedule_since;
        let before = declared.schedule.previous_before(known.now.plus_ms(1)).filter(|due| *due > since);
        let (last, next) = (ran.max(before), declared.schedule.next_after(known.now.max(since)));
        let instants: Vec<Timestamp> =
            last.into_iter().chain(next.filter(|next| Some(*next) != last)).collect();
        Ok(if instants.is_empty() { vec![known.now] } else { instants })
    }

    async fn run_at(&self, known: &Known, at: Timestamp) -> Result<Option<RunRecord>, ApiError> {
        let occurrence = Occurrence { job: known.job.clone(), due_at: at };
        Ok(self.store.run(known.shard, &occurrence).await?)
    }

    async fn facts(&self, known: &Known, at: Timestamp) -> Result<Facts, ApiError> {
        let occurrence = Occurrence { job: known.job.clone(), due_at: at };
        let run = match self.run_at(known, at).await? {
            Some(record) => Some(self.run_facts(known.shard, record).await?),
            None => None,
        };
        let backfill = match &run {
            Some(run) => self.backfill_of(known, &occurrence, run).await?,
            None => None,
        };
        let observed = known.record.as_ref().map(|record| record.revision);
        let mut revisions: Vec<Revision> = observed.into_iter().collect();
        revisions.extend(known.changes.iter().map(|change| change.revision));
        let planned = self.store.planned_as(known.shard, &occurrence, &revisions).await?;
        let is_missed = run.is_none() && planned.is_none() && at <= known.now;
        let spaced = if is_missed { self.spaced(known, &occurrence).await? } else { None };
        Ok(Facts {
            job: known.job.clone(),
            at,
            now: known.now,
            declared: known.declared.clone(),
            revision: known.revision,
            observed: observed.filter(|observed| *observed > Revision(0)),
            invalid: known.invalid.clone(),
            changes: known.changes.clone(),
            interruptions: known.interruptions.clone(),
            run,
            entry: planned.or(spaced.as_ref().map(|(entry, _)| entry.revision)),
            not_before: spaced.map(|(_, not_before)| not_before),
            follows: self.follows(known, at).await?,
            backfill,
            placed: known.record.as_ref().and_then(|record| record.placed),
            plan: known.cursor.as_ref().map(|cursor| PlanFacts {
                planned_until: cursor.planned_until,
                taken_until: cursor.taken_until,
            }),
            planner: known.planner.clone(),
            dispatcher: known.dispatcher.clone(),
            queue: known.queue.clone(),
        })
    }

    /// The occurrence's entry, if a catch-up holds it back.
    async fn spaced(&self, known: &Known, occurrence: &Occurrence) -> Result<Option<Spaced>, ApiError> {
        let spaced = self.store.spaced(known.shard, &known.job, SPACED_SEARCHED_MAX).await?;
        Ok(spaced.into_iter().find(|(entry, _)| entry.occurrence == *occurrence))
    }

    /// Why a job that follows its own ends runs at an instant, as far as its runs tell.
    async fn follows(&self, known: &Known, at: Timestamp) -> Result<Option<Follows>, ApiError> {
        let delay = known.declared.as_ref().and_then(|declared| declared.schedule.after_delay());
        let Some(delay) = delay else { return Ok(None) };
        let runs = self.store.runs(known.shard, &known.job, RUNS_SEARCHED).await?;
        let follows = |ended_at: &Timestamp| (0..SECOND_MS).contains(&at.ms_since(ended_at.plus(delay)));
        let others = runs.iter().filter(|run| run.occurrence.due_at != at);
        let end = others.filter_map(|run| run.ended_at).find(follows);
        let is_planned = || known.record.as_ref().is_some_and(|record| record.after_due == Some(at));
        Ok(end.map(Follows::End).or_else(|| is_planned().then_some(Follows::Planned)))
    }

    /// The backfill that asked for a run: what was due before it began was published after that.
    async fn backfill_of(
        &self,
        known: &Known,
        occurrence: &Occurrence,
        run: &RunFacts,
    ) -> Result<Option<String>, ApiError> {
        let open = self.store.backfill_runs(known.shard).await?;
        if let Some(found) = open.into_iter().find(|open| open.occurrence == *occurrence) {
            return Ok(Some(found.backfill.to_string()));
        }
        let due_at = occurrence.due_at;
        // A redrive is published anew, whoever asked for the run first.
        let first = run.published_at.filter(|_| run.generation == Generation(0));
        let Some(published_at) = first else { return Ok(None) };
        let stored = self.bus.objects(ObjectKind::Backfill, Some(&known.job.namespace)).await?;
        let backfills = stored.iter().filter_map(|(key, stored)| match key {
            ObjectKey::Backfill(id) => from_bytes(id, &stored.value),
            ObjectKey::Calendar(_) | ObjectKey::Namespace(_) | ObjectKey::Queue(_) => None,
        });
        let asked = backfills.filter(|Backfill { spec, status, .. }| {
            let lasted = status.ended_at.is_none_or(|ended_at| published_at <= ended_at);
            spec.job == known.job
                && (spec.from..spec.to).contains(&due_at)
                && status.created_at <= published_at
                && lasted
        });
        Ok(asked.last().map(|backfill| backfill.id.to_string()))
    }

    async fn run_facts(&self, shard: ShardId, record: RunRecord) -> Result<RunFacts, ApiError> {
        let attempts = self.attempts(shard, &record).await?;
        let is_open = !record.state.is_end();
        let in_stream = match record.sequence.filter(|_| is_open) {
            Some(sequence) => self.bus.stored_message_id(sequence).await?.is_some(),
            None => false,
        };
        let published_by = match record.epoch {
            Some(epoch) => self.store.owner(shard, Role::Dispatcher, epoch).await?,
            None => None,
        };
        Ok(RunFacts {
            state: record.state,
            revision: record.revision,
            generation: record.generation,
            published_at: record.published_at,
            epoch: record.epoch.map(|epoch| epoch.0),
            published_by,
            sequence: record.sequence,
            in_stream,
            attempts,
            output: record.output,
            skip_reason: record.skip_reason,
            ended_at: record.ended_at,
            waits_for: record.waits_for,
            cancel: record.cancel.map(|mark| CancelFacts { at: mark.at, by: mark.by, reason: mark.reason }),
        })
    }

    /// Every attempt of a run whose end is known, in order.
    pub(super) async fn attempts(
        &self,
        shard: ShardId,
        record: &RunRecord,
    ) -> Result<Vec<AttemptFacts>, ApiError> {
        let past = self.store.past_attempts(shard, &record.occurrence).await?;
        let mut attempts: Vec<AttemptFacts> = past
            .into_iter()
            .map(|past| AttemptFacts { generation: past.generation, end: past.end, executor: past.executor })
            .collect();
        if let Some(last) = &record.last {
            let is_known = |known: &AttemptFacts| {
                (known.generation, known.end.attempt) == (record.generation, last.attempt)
            };
            attempts.retain(|known| !is_known(known));
            let (generation, end) = (record.generation, last.clone());
            let executor = record.executor.clone().unwrap_or_default();
            // An end that another generation's attempts follow has no attempt of its own.
            if end.attempt > 0 {
                attempts.push(AttemptFacts { generation, end, executor });
            }
        }
        Ok(attempts)
    }
}

fn view(explanation: &Explanation, zone: &Zone) -> ExplanationView {
    let steps = explanation.steps.iter().map(|step| StepView {
        step: step.what.into(),
        status: step.status.as_str().into(),
        at: step.at.map(|at| at.to_string()),
        note: step.note.clone(),
    });
    ExplanationView {
        at: explanation.at.to_string(),
        local: zone.show(explanation.at),
        fate: explanation.cause.fate.as_str().into(),
        code: explanation.cause.code.into(),
        cause: explanation.cause.sentence.clone(),
        steps: steps.collect(),
    }
}

/// A queue's limits in words.
fn limits_text(rules: &GateRules) -> String {
    let limits = [
        rules.concurrency.map(|most| format!("concurrency {most}")),
        rules.rate.map(|rate| format!("rate {rate}")),
        rules.key_rate.map(|rate| format!("keyRate {rate}")),
    ];
    let limits: Vec<String> = limits.into_iter().flatten().collect();
    format!("whose limits are reached ({})", limits.join(", "))
}
