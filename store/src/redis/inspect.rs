//! The plan as an operator sees it, out of Redis. Reads only.

use std::time::Duration;

use model::shard::ShardId;
use model::time::Timestamp;
use redis::Value;

use super::plan::wrong_type;
use super::{RedisStore, value};
use crate::error::StoreError;
use crate::inspect::{BUCKETS_MAX, BucketKind, BucketView, Inspect};
use crate::keys;
use crate::lease::{LeaseView, Role};
use crate::ledger::SentRun;
use crate::plan::Cursor;
use crate::record::{self, CURSOR_FIELDS};

impl Inspect for RedisStore {
    async fn buckets(&self, shard: ShardId, first: usize) -> Result<Vec<BucketView>, StoreError> {
        let prefix = keys::prefix(shard);
        let mut buckets = Vec::new();
        for (kind, index, tier) in [
            (BucketKind::Minute, keys::minutes(shard), "minute"),
            (BucketKind::HalfHour, keys::half_hours(shard), "half-hour"),
        ] {
            let mut command = redis::cmd("ZRANGE");
            command.arg(index).arg(0).arg(BUCKETS_MAX - 1);
            let slices = value::items(self.link.query(&command).await?, "ZRANGE")?;
            let slices = slices.into_iter().filter_map(value::text);
            buckets.extend(slices.map(|slice| (kind, format!("{prefix}{tier}:{slice}"))));
        }
        buckets.push((BucketKind::Horizon, keys::horizon(shard)));
        buckets.push((BucketKind::Spaced, keys::spaced(shard)));

        let mut pipeline = redis::pipe();
        for (_, key) in &buckets {
            pipeline.cmd("ZCARD").arg(key);
            pipeline.cmd("ZRANGE").arg(key).arg("-inf").arg("+inf").arg("BYSCORE");
            pipeline.arg("LIMIT").arg(0).arg(first).arg("WITHSCORES");
        }
        let mut answers = self.link.query_all(&mut pipeline).await?.into_iter();
        let mut views = Vec::new();
        for (kind, key) in buckets {
            let (Some(entries), Some(members)) = (answers.next(), answers.next()) else { break };
            let entries = value::number(&entries.map_err(|error| wrong_type(&key, error))?, "ZCARD")?;
            let entries = u64::try_from(entries).unwrap_or(0);
            if entries > 0 {
                let first = members_of(members.map_err(|error| wrong_type(&key, error))?)?;
                views.push(BucketView { shard, kind, key, entries, first });
            }
        }
        Ok(views)
    }

    async fn leases(&self, shards: &[ShardId]) -> Result<Vec<LeaseView>, StoreError> {
        let wanted: Vec<_> = shards.iter().flat_map(|shard| Role::ALL.map(|role| (*shard, role))).collect();
        let mut pipeline = redis::pipe();
        for (shard, role) in &wanted {
            let key = keys::lease(*shard, *role);
            pipeline.cmd("GET").arg(&key).cmd("PTTL").arg(&key);
        }
        let mut answers = self.link.query_all(&mut pipeline).await?.into_iter();
        let mut leases = Vec::new();
        for (shard, role) in wanted {
            let (Some(text), Some(ttl_ms)) = (answers.next(), answers.next()) else { break };
            let Some(text) = value::text(text?) else { continue };
            let Ok((node, epoch)) = record::lease_from(&keys::lease(shard, role), &text) else {
                tracing::warn!(%shard, role = role.as_str(), "left an unreadable lease out");
                continue;
            };
            let ttl_ms = u64::try_from(value::number(&ttl_ms?, "PTTL")?).unwrap_or(0);
            leases.push(LeaseView { shard, role, node, epoch, expires_in: Duration::from_millis(ttl_ms) });
        }
        Ok(leases)
    }

    async fn sent(&self, shard: ShardId, limit: usize) -> Result<Vec<SentRun>, StoreError> {
        let mut runs = self.sent_runs(shard, "sent", "+inf", limit).await?;
        runs.sort_by_key(|run| run.published_at);
        Ok(runs)
    }

    async fn cursors(&self, shards: &[ShardId]) -> Result<Vec<(ShardId, Option<Cursor>)>, StoreError> {
        let mut pipeline = redis::pipe();
        for shard in shards {
            pipeline.cmd("HMGET").arg(keys::cursor(*shard)).arg(&CURSOR_FIELDS);
        }
        let answers = self.link.query_all(&mut pipeline).await?;
        let read = |(shard, answer): (&ShardId, Result<Value, StoreError>)| {
            let cursor = record::cursor_from(&keys::cursor(*shard), &value::fields(answer?, "HMGET")?)?;
            Ok((*shard, cursor))
        };
        shards.iter().zip(answers).map(read).collect()
    }
}

fn members_of(answer: Value) -> Result<Vec<(String, Timestamp)>, StoreError> {
    let mut items = value::items(answer, "ZRANGE")?.into_iter();
    let mut members = Vec::new();
    while let (Some(member), Some(score)) = (items.next(), items.next()) {
        let score = Timestamp::from_ms(value::number(&score, "ZRANGE")?);
        members.push((value::text(member).unwrap_or_default(), score));
    }
    Ok(members)
}
