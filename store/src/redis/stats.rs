//! Statistics, past attempts and redrives in Redis.

use model::bucket::Minute;
use model::id::{Entry, Occurrence, Revision};
use model::name::JobId;
use model::run::Generation;
use model::shard::ShardId;
use model::stats::JobStats;
use redis::Value;

use super::link::Call;
use super::plan::wrong_type;
use super::script::REOPEN;
use super::{RedisStore, value};
use crate::error::StoreError;
use crate::keys;
use crate::lease::{Epoch, Role};
use crate::record::{attempt_from, published_text};
use crate::stats::{PastAttempt, Reopening, StatsStore, stats_from};

/// Before the name of a field that holds a past attempt: `try:<generation>.<attempt>`.
const PAST: &str = "try:";

impl StatsStore for RedisStore {
    async fn stats(&self, shard: ShardId, job: &JobId) -> Result<JobStats, StoreError> {
        Ok(stats_from(self.whole_hash(&keys::stats(shard, job)).await?.into_iter()))
    }

    async fn past_attempts(
        &self,
        shard: ShardId,
        occurrence: &Occurrence,
    ) -> Result<Vec<PastAttempt>, StoreError> {
        let mut fields = self.whole_hash(&keys::run(shard, occurrence)).await?;
        fields.retain(|(name, _)| name.starts_with(PAST));
        fields.sort();
        Ok(fields.iter().filter_map(|(name, text)| past(name, text)).collect())
    }

    async fn reopen(&self, shard: ShardId, reopening: &Reopening) -> Result<bool, StoreError> {
        let Reopening { occurrence, revision, generation, sequence, published_at, worry_at } = reopening;
        let keys = [keys::run(shard, occurrence), keys::sent(shard), keys::open(shard)];
        let call = Call::new(&REOPEN, &keys)
            .arg(keys::prefix(shard))
            .arg(occurrence.to_string())
            .arg(generation.0)
            // No dispatcher published it.
            .arg(published_text(*published_at, *sequence, Epoch(0)))
            .arg(worry_at.as_ms())
            .arg(revision.0);
        Ok(matches!(self.link.run(&call).await?, Value::Int(1)))
    }

    async fn planned_as(
        &self,
        shard: ShardId,
        occurrence: &Occurrence,
        revisions: &[Revision],
    ) -> Result<Option<Revision>, StoreError> {
        if revisions.is_empty() {
            return Ok(None);
        }
        let mut command = redis::cmd("ZMSCORE");
        command.arg(keys::minute(shard, Minute::of(occurrence.due_at)));
        for revision in revisions {
            command.arg(Entry { occurrence: occurrence.clone(), revision: *revision }.to_string());
        }
        let scores = value::items(self.link.query(&command).await?, "ZMSCORE")?;
        let found = revisions.iter().zip(scores).find(|(_, score)| *score != Value::Nil);
        Ok(found.map(|(revision, _)| *revision))
    }

    async fn owner(&self, shard: ShardId, role: Role, epoch: Epoch) -> Result<Option<String>, StoreError> {
        let mut command = redis::cmd("ZRANGE");
        command.arg(keys::owners(shard)).arg(epoch.0).arg(epoch.0).arg("BYSCORE");
        let members = value::items(self.link.query(&command).await?, "ZRANGE")?.into_iter();
        let prefix = format!("{} ", role.as_str());
        Ok(members.filter_map(value::text).find_map(|member| {
            let (node, _) = member.strip_prefix(&prefix)?.rsplit_once(' ')?;
            Some(node.to_owned())
        }))
    }
}

impl RedisStore {
    async fn whole_hash(&self, key: &str) -> Result<Vec<(String, String)>, StoreError> {
        let mut command = redis::cmd("HGETALL");
        command.arg(key);
        let answer = self.link.query(&command).await.map_err(|error| wrong_type(key, error))?;
        let mut items = value::items(answer, "HGETALL")?.into_iter();
        let mut fields = Vec::new();
        while let (Some(field), Some(text)) = (items.next(), items.next()) {
            let lossy = |value| String::from_utf8_lossy(&value::bytes(value)).into_owned();
            fields.push((lossy(field), lossy(text)));
        }
        Ok(fields)
    }
}

/// A past attempt from its field: `try:000001.000002`, `2 failed <started> <ended> <executor>`, line feed, error.
fn past(name: &str, text: &str) -> Option<PastAttempt> {
    let (generation, _) = name.strip_prefix(PAST)?.split_once('.')?;
    let (line, error) = text.split_once('\n')?;
    let end_at = line.match_indices(' ').nth(3).map(|(at, _)| at)?;
    let mut end = attempt_from(&line[..end_at])?;
    end.error = Some(error.to_owned()).filter(|error| !error.is_empty());
    Some(PastAttempt {
        generation: Generation(generation.parse().ok()?),
        end,
        executor: line[end_at + 1..].to_owned(),
    })
}
