//! The plan in Redis.

use model::bucket::{HalfHour, Minute, Placed, Tier};
use model::id::{Entry, Revision};
use model::name::JobId;
use model::run::SkipReason;
use model::shard::ShardId;
use model::time::Timestamp;
use redis::Value;

use super::error::unexpected;
use super::link::Call;
use super::quarantine::Unreadable;
use super::script::{ADVANCE, BEGIN, IN_FORCE, INSTALL, PROGRESS, WAITING};
use super::{RedisStore, value};
use crate::changes::change_text;
use crate::error::StoreError;
use crate::keys;
use crate::lease::{Epoch, Role};
use crate::plan::{
    Advance, Cursor, Install, Installed, JobRecord, PLAN_BATCH_MAX, PlanStore, SpecsRead, Waiting,
};
use crate::record::{self, CURSOR_FIELDS, JOB_FIELDS};

/// Scans of one `waiting` that found stale or unreadable entries only. Each removes what it found.
const WAITING_SCANS_MAX: usize = 1_000;

impl PlanStore for RedisStore {
    async fn cursor(&self, shard: ShardId) -> Result<Option<Cursor>, StoreError> {
        let key = keys::cursor(shard);
        let mut command = redis::cmd("HMGET");
        command.arg(&key).arg(&CURSOR_FIELDS);
        record::cursor_from(&key, &value::fields(self.link.query(&command).await?, "HMGET")?)
    }

    async fn begin(&self, shard: ShardId, epoch: Epoch, cursor: &Cursor) -> Result<Cursor, StoreError> {
        let key = keys::cursor(shard);
        let mut call = Call::new(&BEGIN, &[keys::lease(shard, Role::Planner), key.clone()]).arg(epoch.0);
        for (field, text) in record::cursor_fields(cursor) {
            call = call.arg(field).arg(text);
        }
        let values = value::fields(self.link.run(&call).await?, "begin")?;
        record::cursor_from(&key, &values)?.ok_or_else(|| unexpected("begin"))
    }

    async fn progress(
        &self,
        shard: ShardId,
        epoch: Epoch,
        planned_until: Option<Timestamp>,
        specs: Option<SpecsRead>,
    ) -> Result<(), StoreError> {
        let call = Call::new(&PROGRESS, &[keys::lease(shard, Role::Planner), keys::cursor(shard)])
            .arg(epoch.0)
            .arg(planned_until.map(|at| at.as_ms().to_string()).unwrap_or_default())
            .arg(specs.map(|specs| specs.to.to_string()).unwrap_or_default())
            .arg(specs.map_or(0, |specs| specs.from.0));
        self.link.run(&call).await.map(drop)
    }

    async fn jobs(&self, shard: ShardId, jobs: &[JobId]) -> Result<Vec<Option<JobRecord>>, StoreError> {
        let mut records = Vec::with_capacity(jobs.len());
        for jobs in jobs.chunks(PLAN_BATCH_MAX) {
            let keys: Vec<_> = jobs.iter().map(|job| keys::job(shard, job)).collect();
            let mut pipeline = redis::Pipeline::with_capacity(jobs.len());
            for key in &keys {
                pipeline.cmd("HMGET").arg(key).arg(&JOB_FIELDS);
            }
            for (key, answer) in keys.iter().zip(self.link.query_all(&mut pipeline).await?) {
                let values = value::fields(answer.map_err(|error| wrong_type(key, error))?, "HMGET")?;
                records.push(record::job_from(key, &values)?);
            }
        }
        Ok(records)
    }

    async fn in_force(&self, shard: ShardId, job: &JobId) -> Result<Option<Revision>, StoreError> {
        let key = keys::job(shard, job);
        let keys = [key.clone(), keys::cursor(shard), keys::lease(shard, Role::Dispatcher)];
        let answer = self.link.run(&Call::new(&IN_FORCE, &keys)).await;
        let Some(text) = value::text(answer.map_err(|error| wrong_type(&key, error))?) else {
            return Ok(None);
        };
        let revision = text
            .parse()
            .map_err(|_| StoreError::Corrupt { key, problem: "field revision is no number".into() })?;
        Ok(Some(Revision(revision)))
    }

    async fn install(
        &self,
        shard: ShardId,
        epoch: Epoch,
        install: &Install,
    ) -> Result<Installed, StoreError> {
        let keys = [keys::lease(shard, Role::Planner), keys::job(shard, &install.job), keys::cursor(shard)];
        let mut call = Call::new(&INSTALL, &keys)
            .arg(keys::prefix(shard))
            .arg(epoch.0)
            .arg(install.job.to_string())
            .arg(install.expected.map(|revision| revision.to_string()).unwrap_or_default())
            .arg(install.record.as_ref().map(|record| record.revision.to_string()).unwrap_or_default());
        push_place(&mut call, install.record.as_ref().and_then(|record| record.placed.as_ref()));
        let fields = install.record.as_ref().map(record::job_fields).unwrap_or_default();
        call.push(fields.len());
        for (field, text) in fields {
            call = call.arg(field).arg(text);
        }
        call.push(install.remove.len());
        for due in &install.remove {
            call = call.arg(Minute::of(*due).to_string()).arg(due.to_string()).arg(due.as_ms());
        }
        push_occurrences(&mut call, &install.add);
        push_occurrences(&mut call, &install.add_unseen);
        call.push(install.spaced.len());
        for (due, not_before) in &install.spaced {
            call = call.arg(due.to_string()).arg(due.as_ms()).arg(not_before.as_ms());
        }
        push_skipped(&mut call, &install.skipped);
        let first_due =
            install.after_first.filter(|_| install.record.as_ref().is_some_and(|r| r.after.is_some()));
        let mut call = call
            .arg(first_due.map(|due| due.as_ms().to_string()).unwrap_or_default())
            .arg(install.at.as_ms())
            .arg(install.at.to_string())
            .arg(u8::from(install.keep_history))
            .arg(SkipReason::Deleted.describe());
        call.push(install.change.as_ref().map(change_text).unwrap_or_default());
        match self.link.run(&call).await? {
            Value::Int(1) => Ok(Installed::Done),
            Value::Int(0) => Ok(Installed::Conflict),
            _ => Err(unexpected("install")),
        }
    }

    async fn waiting(
        &self,
        shard: ShardId,
        epoch: Epoch,
        minute_before: Timestamp,
        half_hour_before: Timestamp,
        limit: usize,
    ) -> Result<Vec<Waiting>, StoreError> {
        let limit = limit.clamp(1, PLAN_BATCH_MAX);
        let call = Call::new(&WAITING, &[keys::lease(shard, Role::Planner)])
            .arg(keys::prefix(shard))
            .arg(epoch.0)
            .arg(minute_before.as_ms())
            .arg(half_hour_before.as_ms())
            .arg(limit);
        for _ in 0..WAITING_SCANS_MAX {
            let [more, rows, unreadable] = value::row(self.link.run(&call).await?, "waiting")?;
            let (found, mut bad) = waiting_rows(rows)?;
            bad.extend(unreadable_rows(unreadable)?);
            // Fewer than the limit must mean that there are no more, so that a planner may move its cursor.
            let complete = bad.is_empty() && value::number(&more, "waiting")? == 0;
            self.quarantine(shard, &bad).await?;
            if complete || found.len() == limit {
                return Ok(found);
            }
        }
        Err(StoreError::Failed("too many stale entries in the coarse tiers for one call".into()))
    }

    async fn advance(
        &self,
        shard: ShardId,
        epoch: Epoch,
        steps: &[Advance],
    ) -> Result<Vec<bool>, StoreError> {
        let mut done = Vec::with_capacity(steps.len());
        for steps in batches(steps) {
            let mut call = Call::new(&ADVANCE, &[keys::lease(shard, Role::Planner)])
                .arg(keys::prefix(shard))
                .arg(epoch.0)
                .arg(steps.len());
            for step in steps {
                call = call.arg(step.job.to_string()).arg(step.revision.0);
                call = call.arg(record::place_bucket(&step.from)).arg(step.from.due_at.to_string());
                push_place(&mut call, step.next.as_ref());
                push_occurrences(&mut call, &step.minute);
                push_skipped(&mut call, &step.skipped);
            }
            let answers = value::items(self.link.run(&call).await?, "advance")?;
            done.extend(answers.into_iter().map(|answer| matches!(answer, Value::Int(1))));
        }
        Ok(done)
    }
}

/// A key that holds another type than it should is corrupt, not refused.
pub(super) fn wrong_type(key: &str, error: StoreError) -> StoreError {
    match error {
        StoreError::Refused(problem) if problem.contains("WRONGTYPE") => {
            StoreError::Corrupt { key: key.into(), problem: "it holds another type".into() }
        }
        other => other,
    }
}

/// Four arguments: bucket, the start of its slice in ms (empty for the horizon), due as text and in ms; all empty for
/// no place.
fn push_place(call: &mut Call, placed: Option<&Placed>) {
    let Some(placed) = placed else {
        (0..4).for_each(|_| call.push(""));
        return;
    };
    call.push(record::place_bucket(placed));
    match placed.tier {
        Tier::HalfHour => call.push(HalfHour::of(placed.due_at).start().as_ms()),
        Tier::Horizon => call.push(""),
    }
    call.push(placed.due_at.to_string());
    call.push(placed.due_at.as_ms());
}

/// How many, then minute, its start, due as text and in ms, for each.
fn push_occurrences(call: &mut Call, dues: &[Timestamp]) {
    call.push(dues.len());
    for due in dues {
        let minute = Minute::of(*due);
        call.push(minute.to_string());
        call.push(minute.start().as_ms());
        call.push(due.to_string());
        call.push(due.as_ms());
    }
}

/// How many, then due as text and in ms and the reason, for each.
fn push_skipped(call: &mut Call, skipped: &[(Timestamp, SkipReason)]) {
    call.push(skipped.len());
    for (due, reason) in skipped {
        call.push(due.to_string());
        call.push(due.as_ms());
        call.push(reason.describe());
    }
}

/// Steps in parts of at most `PLAN_BATCH_MAX` items, where each occurrence counts, too; a step is never split.
fn batches(steps: &[Advance]) -> impl Iterator<Item = &[Advance]> {
    let mut rest = steps;
    std::iter::from_fn(move || {
        let mut items = 0;
        let fitting = rest
            .iter()
            .take_while(|step| {
                items += step.minute.len().max(1) + step.skipped.len();
                items <= PLAN_BATCH_MAX
            })
            .count();
        let (batch, later) = rest.split_at(fitting.max(1).min(rest.len()));
        rest = later;
        (!batch.is_empty()).then_some(batch)
    })
}

fn waiting_rows(rows: Value) -> Result<(Vec<Waiting>, Vec<Unreadable>), StoreError> {
    let (mut found, mut bad) = (Vec::new(), Vec::new());
    let mut rows = value::items(rows, "waiting")?.into_iter();
    while let (Some(tier), Some(member), Some(due), Some(revision)) =
        (rows.next(), rows.next(), rows.next(), rows.next())
    {
        let tier = if value::bytes(tier) == b"horizon" { Tier::Horizon } else { Tier::HalfHour };
        let (member, due) = (value::bytes(member), value::bytes(due));
        let revision = value::number(&revision, "waiting")?;
        let job: Option<JobId> = match tier {
            Tier::Horizon => value::parse(&member),
            Tier::HalfHour => value::parse::<Entry>(&member).map(|entry| entry.occurrence.job),
        };
        match (job, value::parse(&due), u64::try_from(revision)) {
            (Some(job), Some(due_at), Ok(revision)) => {
                found.push(Waiting { job, placed: Placed { tier, due_at }, revision: Revision(revision) })
            }
            _ => {
                // The script found it in the bucket that its job's record names.
                let slice = value::parse::<Timestamp>(&due).map(|due| HalfHour::of(due).to_string());
                bad.push(match (tier, slice) {
                    (Tier::HalfHour, Some(slice)) => {
                        Unreadable { bucket: format!("half-hour:{slice}"), tier: "half-hour", slice, member }
                    }
                    _ => Unreadable { bucket: "horizon".into(), tier: "", slice: String::new(), member },
                });
            }
        }
    }
    Ok((found, bad))
}

fn unreadable_rows(rows: Value) -> Result<Vec<Unreadable>, StoreError> {
    let mut unreadable = Vec::new();
    let mut rows = value::items(rows, "waiting")?.into_iter();
    while let (Some(bucket), Some(tier), Some(slice), Some(member)) =
        (rows.next(), rows.next(), rows.next(), rows.next())
    {
        unreadable.push(Unreadable {
            bucket: value::text(bucket).unwrap_or_default(),
            tier: if value::bytes(tier).is_empty() { "" } else { "half-hour" },
            slice: value::text(slice).unwrap_or_default(),
            member: value::bytes(member),
        });
    }
    Ok(unreadable)
}
