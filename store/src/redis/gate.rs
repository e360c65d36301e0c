//! The gates of queues in Redis.

use model::bucket::Minute;
use model::gate::{GateRules, GateRun, NAMESPACE_STRIDE, Picked, rate};
use model::id::Occurrence;
use model::limits::GATE_SCAN_MAX;
use model::name::{Name, QueueId};
use model::priority::Priority;
use model::rate::Rate;
use model::shard::ShardId;
use model::time::Timestamp;
use redis::Value;

use super::link::Call;
use super::script::{GATE, GATE_VIEW};
use super::{RedisStore, value};
use crate::error::StoreError;
use crate::gate::{Admission, GATE_BATCH_MAX, GateStore, GateView, WaitingLine};
use crate::keys::{self, GatePart};

impl GateStore for RedisStore {
    async fn admit(
        &self,
        home: ShardId,
        queue: &QueueId,
        rules: &GateRules,
        now: Timestamp,
        runs: &[GateRun],
    ) -> Result<Admission, StoreError> {
        let mut admission = Admission::default();
        for runs in runs.chunks(GATE_BATCH_MAX) {
            let (picked, may_go) = self.call_gate(home, queue, rules, now, &[], runs).await?;
            admission.fold(runs, picked, may_go);
        }
        Ok(admission)
    }

    async fn leave(
        &self,
        home: ShardId,
        queue: &QueueId,
        rules: &GateRules,
        now: Timestamp,
        ended: &[Occurrence],
    ) -> Result<Picked, StoreError> {
        let mut all = Picked::default();
        let mut rest = ended;
        loop {
            let (ended, more) = rest.split_at(rest.len().min(GATE_BATCH_MAX));
            let (picked, _) = self.call_gate(home, queue, rules, now, ended, &[]).await?;
            all.runs.extend(picked.runs);
            all.next_at = picked.next_at;
            rest = more;
            if rest.is_empty() {
                return Ok(all);
            }
        }
    }

    async fn gates(&self, home: ShardId) -> Result<Vec<QueueId>, StoreError> {
        let mut command = redis::cmd("SMEMBERS");
        command.arg(keys::gates(home));
        let members = value::items(self.link.query(&command).await?, "SMEMBERS")?;
        let mut queues: Vec<QueueId> =
            members.into_iter().filter_map(|member| value::parse(&value::bytes(member))).collect();
        queues.sort();
        Ok(queues)
    }

    async fn gate_unseen(
        &self,
        home: ShardId,
        queue: &QueueId,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<Occurrence>, StoreError> {
        let mut command = redis::cmd("ZRANGE");
        command.arg(keys::gate(home, queue, GatePart::Active)).arg("-inf").arg(until.as_ms()).arg("BYSCORE");
        command.arg("LIMIT").arg(0).arg(limit);
        runs(self.link.query(&command).await?)
    }

    async fn gate_seen(
        &self,
        home: ShardId,
        queue: &QueueId,
        now: Timestamp,
        runs: &[Occurrence],
    ) -> Result<(), StoreError> {
        for runs in runs.chunks(GATE_BATCH_MAX) {
            let mut command = redis::cmd("ZADD");
            command.arg(keys::gate(home, queue, GatePart::Active)).arg("XX");
            for run in runs {
                command.arg(now.as_ms()).arg(run.to_string());
            }
            self.link.query(&command).await?;
        }
        Ok(())
    }

    async fn is_planned(&self, shard: ShardId, run: &Occurrence) -> Result<bool, StoreError> {
        let (minute, due_ms) = (Minute::of(run.due_at), run.due_at.as_ms());
        let mut command = redis::cmd("ZRANGE");
        command.arg(keys::minute(shard, minute)).arg(due_ms).arg(due_ms).arg("BYSCORE");
        let entry_of = format!("{run}#");
        let members = value::items(self.link.query(&command).await?, "ZRANGE")?.into_iter();
        Ok(members.map(value::bytes).any(|member| member.starts_with(entry_of.as_bytes())))
    }

    async fn gate(&self, home: ShardId, queue: &QueueId) -> Result<GateView, StoreError> {
        let parts = [GatePart::Active, GatePart::Lines, GatePart::Marks];
        let call = Call::new(&GATE_VIEW, &parts.map(|part| keys::gate(home, queue, part)))
            .arg(keys::gate_lines(home, queue));
        let [active, mark, lines] = value::row(self.link.run(&call).await?, "gate_view")?;
        let mut waiting = Vec::new();
        let mut lines = value::items(lines, "gate_view")?.into_iter();
        while let (Some(name), Some(runs), Some(due)) = (lines.next(), lines.next(), lines.next()) {
            let Some((priority, namespace)) = line(&value::text(name).unwrap_or_default()) else { continue };
            waiting.push(WaitingLine {
                priority,
                namespace,
                runs: u64::try_from(value::number(&runs, "gate_view")?).unwrap_or_default(),
                first_due: Timestamp::from_ms(value::number(&due, "gate_view")?),
            });
        }
        waiting.sort_by(|a, b| (a.priority, &a.namespace).cmp(&(b.priority, &b.namespace)));
        Ok(GateView {
            active: u64::try_from(value::number(&active, "gate_view")?).unwrap_or_default(),
            waiting,
            mark_us: match mark {
                Value::Nil => None,
                mark => Some(value::number(&mark, "gate_view")?),
            },
        })
    }
}

impl RedisStore {
    async fn call_gate(
        &self,
        home: ShardId,
        queue: &QueueId,
        rules: &GateRules,
        now: Timestamp,
        ended: &[Occurrence],
        asking: &[GateRun],
    ) -> Result<(Picked, Vec<bool>), StoreError> {
        let part = |part| keys::gate(home, queue, part);
        let keys = [
            keys::gates(home),
            part(GatePart::Active),
            part(GatePart::Lines),
            part(GatePart::Runs),
            part(GatePart::Passes),
            part(GatePart::Marks),
        ];
        let mut call = Call::new(&GATE, &keys)
            .arg(keys::gate_lines(home, queue))
            .arg(queue.to_string())
            .arg(now.as_ms())
            .arg(GATE_BATCH_MAX)
            .arg(rules.concurrency.map_or_else(String::new, |limit| limit.to_string()));
        for rate in [&rules.rate, &rules.key_rate] {
            let [interval, tolerance] = rate.as_ref().map_or_else(Default::default, rate_arguments);
            call = call.arg(interval).arg(tolerance);
        }
        call = call.arg(u8::from(rules.paused)).arg(GATE_SCAN_MAX).arg(NAMESPACE_STRIDE);
        call.push(rules.shares.len());
        for namespace in rules.shares.keys() {
            call = call.arg(namespace.as_str()).arg(rules.stride(namespace));
        }
        call.push(ended.len());
        for run in ended {
            call.push(run.to_string());
        }
        call.push(asking.len());
        for run in asking {
            call.push(run.occurrence.to_string());
            call.push(run.occurrence.due_at.as_ms());
            call.push(run.priority.as_str());
            call.push(run.occurrence.job.namespace.as_str());
            call.push(run.rate_key.as_deref().unwrap_or_default());
        }
        let [picked, next_at, flags] = value::row(self.link.run(&call).await?, "gate")?;
        let next_at = Some(value::number(&next_at, "gate")?).filter(|ms| *ms >= 0).map(Timestamp::from_ms);
        let flags = value::items(flags, "gate")?;
        let may_go = flags.iter().map(|flag| Ok(value::number(flag, "gate")? == 1));
        Ok((Picked { runs: runs(picked)?, next_at }, may_go.collect::<Result<_, StoreError>>()?))
    }
}

fn rate_arguments(rate: &Rate) -> [String; 2] {
    [rate::interval_us(rate).to_string(), rate::tolerance_us(rate).to_string()]
}

fn runs(value: Value) -> Result<Vec<Occurrence>, StoreError> {
    let members = value::items(value, "gate")?.into_iter();
    Ok(members.filter_map(|member| value::parse(&value::bytes(member))).collect())
}

fn line(name: &str) -> Option<(Priority, Name)> {
    let (priority, namespace) = name.split_once(' ')?;
    Some((Priority::from_word(priority)?, Name::new(namespace).ok()?))
}
