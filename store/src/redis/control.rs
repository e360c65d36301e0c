//! Runs that somebody asked for, in Redis.

use model::backfill::RunEnd;
use model::bucket::Minute;
use model::id::Occurrence;
use model::limits::TRIGGER_KEY_KEPT;
use model::name::{BackfillId, JobId};
use model::shard::ShardId;
use model::time::{SECOND_MS, Timestamp, duration_ms};
use redis::Value;

use super::error::unexpected;
use super::link::Call;
use super::script::{FORGET_BACKFILL_RUNS, START_BACKFILLED, TRIGGER};
use super::{RedisStore, value};
use crate::control::{
    AskedFor, BackfillRun, CONTROL_BATCH_MAX, ControlStore, TRIGGER_SECONDS_MAX, Trigger, Triggered,
};
use crate::error::StoreError;
use crate::keys;
use crate::lease::{Epoch, Role};

impl ControlStore for RedisStore {
    async fn trigger(&self, shard: ShardId, trigger: &Trigger) -> Result<Option<Triggered>, StoreError> {
        let mut first = trigger.due_at;
        for _ in 0..TRIGGER_SECONDS_MAX {
            let second = first.floor(SECOND_MS);
            let minute = Minute::of(first);
            let key = trigger.key.as_ref().map_or("", |key| key.as_str());
            let keys = [
                keys::job(shard, &trigger.job),
                keys::trigger(shard, &trigger.job, key),
                keys::overrides(shard),
            ];
            let call = Call::new(&TRIGGER, &keys)
                .arg(keys::prefix(shard))
                .arg(trigger.job.to_string())
                .arg(second.to_string().trim_end_matches('Z'))
                .arg(second.as_ms())
                .arg(first.ms_since(second).max(1))
                .arg(minute.to_string())
                .arg(minute.start().as_ms())
                .arg(i64::from(trigger.key.is_some()))
                .arg(duration_ms(TRIGGER_KEY_KEPT))
                .arg(trigger.payload.as_deref().unwrap_or_default());
            match self.link.run(&call).await? {
                Value::Nil => return Ok(None),
                Value::Int(-1) => first = second.plus_ms(SECOND_MS),
                found => {
                    let [due_ms, duplicate] = value::row(found, "trigger")?;
                    return Ok(Some(Triggered {
                        due_at: Timestamp::from_ms(value::number(&due_ms, "trigger")?),
                        duplicate: value::number(&duplicate, "trigger")? == 1,
                    }));
                }
            }
        }
        Err(StoreError::Refused("every millisecond at and after that instant is taken".into()))
    }

    async fn asked_for(&self, shard: ShardId, runs: &[Occurrence]) -> Result<Vec<AskedFor>, StoreError> {
        let mut found = Vec::with_capacity(runs.len());
        for runs in runs.chunks(CONTROL_BATCH_MAX) {
            let ids: Vec<String> = runs.iter().map(ToString::to_string).collect();
            let mut pipeline = redis::Pipeline::with_capacity(2);
            pipeline.cmd("HMGET").arg(keys::overrides(shard)).arg(&ids);
            pipeline.cmd("HMGET").arg(keys::backfill_runs(shard)).arg(&ids);
            let mut answers = Vec::with_capacity(2);
            for answer in self.link.query_all(&mut pipeline).await? {
                answers.push(value::fields(answer?, "HMGET")?);
            }
            let [payloads, backfills] =
                <[Vec<Option<String>>; 2]>::try_from(answers).map_err(|_| unexpected("HMGET"))?;
            for (payload, backfill) in payloads.into_iter().zip(backfills) {
                let (triggered, backfilled) = (payload.is_some(), backfill.is_some());
                let payload = payload.filter(|payload| !payload.is_empty());
                found.push(AskedFor { triggered, payload, backfilled });
            }
        }
        Ok(found)
    }

    async fn start_backfilled(
        &self,
        shard: ShardId,
        epoch: Epoch,
        backfill: &BackfillId,
        job: &JobId,
        dues: &[Timestamp],
    ) -> Result<Option<Vec<bool>>, StoreError> {
        let keys = [keys::lease(shard, Role::Planner), keys::job(shard, job), keys::backfill_runs(shard)];
        let mut started = Vec::with_capacity(dues.len());
        for dues in dues.chunks(CONTROL_BATCH_MAX) {
            let mut call = Call::new(&START_BACKFILLED, &keys)
                .arg(keys::prefix(shard))
                .arg(epoch.0)
                .arg(job.to_string())
                .arg(backfill.to_string());
            for due in dues {
                let minute = Minute::of(*due);
                call.push(minute.to_string());
                call.push(minute.start().as_ms());
                call.push(due.to_string());
                call.push(due.as_ms());
            }
            match self.link.run(&call).await? {
                Value::Nil => return Ok(None),
                answers => started.extend(
                    value::items(answers, "start_backfilled")?
                        .into_iter()
                        .map(|answer| matches!(answer, Value::Int(1))),
                ),
            }
        }
        Ok(Some(started))
    }

    async fn backfill_runs(&self, shard: ShardId) -> Result<Vec<BackfillRun>, StoreError> {
        let mut command = redis::cmd("HGETALL");
        command.arg(keys::backfill_runs(shard));
        let answer = self.link.query(&command).await?;
        let pairs: Vec<(Vec<u8>, Vec<u8>)> = match answer {
            Value::Map(pairs) => {
                pairs.into_iter().map(|(id, text)| (value::bytes(id), value::bytes(text))).collect()
            }
            other => {
                let mut items = value::items(other, "HGETALL")?.into_iter();
                let mut pairs = Vec::new();
                while let (Some(id), Some(text)) = (items.next(), items.next()) {
                    pairs.push((value::bytes(id), value::bytes(text)));
                }
                pairs
            }
        };
        Ok(pairs.iter().filter_map(|(id, text)| backfill_run(id, text)).collect())
    }

    async fn forget_backfill_runs(
        &self,
        shard: ShardId,
        epoch: Epoch,
        runs: &[Occurrence],
    ) -> Result<(), StoreError> {
        for runs in runs.chunks(CONTROL_BATCH_MAX) {
            let keys = [keys::lease(shard, Role::Planner), keys::backfill_runs(shard)];
            let mut call = Call::new(&FORGET_BACKFILL_RUNS, &keys).arg(epoch.0);
            for run in runs {
                call.push(run.to_string());
            }
            self.link.run(&call).await?;
        }
        Ok(())
    }
}

/// A field of the hash: run id, then `<backfill>` or `<backfill> <how it ended>`. `None`: it isn't ours to understand.
fn backfill_run(id: &[u8], text: &[u8]) -> Option<BackfillRun> {
    let text = std::str::from_utf8(text).ok()?;
    let (backfill, end) = match text.split_once(' ') {
        Some((backfill, end)) => (backfill, Some(RunEnd::from_word(end)?)),
        None => (text, None),
    };
    Some(BackfillRun { occurrence: value::parse(id)?, backfill: backfill.parse().ok()?, end })
}
