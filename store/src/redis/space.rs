//! Entries that are kept out of the minute tier for a while, in Redis.

use model::id::Entry;
use model::name::JobId;
use model::shard::ShardId;
use model::time::Timestamp;
use redis::Value;

use super::ledger::push_entry;
use super::link::Call;
use super::script::{DELAY_SPACED, SPACE};
use super::{RedisStore, value};
use crate::error::StoreError;
use crate::keys;
use crate::lease::{Epoch, Role};
use crate::space::{SPACED_SEARCHED_MAX, SpaceStore, Spaced};

/// Members in one read.
const PAGE: usize = 1_000;

impl SpaceStore for RedisStore {
    async fn space(&self, shard: ShardId, epoch: Epoch, entries: &[Spaced]) -> Result<(), StoreError> {
        if entries.is_empty() {
            return Ok(());
        }
        let keys = [keys::lease(shard, Role::Dispatcher), keys::spaced(shard)];
        let mut call = Call::new(&SPACE, &keys).arg(keys::prefix(shard)).arg(epoch.0);
        for (entry, not_before) in entries {
            push_entry(&mut call, entry);
            call.push(not_before.as_ms());
        }
        self.link.run(&call).await.map(drop)
    }

    async fn delay_spaced(&self, shard: ShardId, epoch: Epoch, until: Timestamp) -> Result<(), StoreError> {
        let keys = [keys::lease(shard, Role::Dispatcher), keys::spaced(shard)];
        let call = Call::new(&DELAY_SPACED, &keys).arg(epoch.0).arg(until.as_ms());
        self.link.run(&call).await.map(drop)
    }

    async fn spaced(&self, shard: ShardId, job: &JobId, limit: usize) -> Result<Vec<Spaced>, StoreError> {
        let mut found = Vec::new();
        for first in (0..SPACED_SEARCHED_MAX).step_by(PAGE) {
            let mut command = redis::cmd("ZRANGE");
            command.arg(keys::spaced(shard)).arg(first).arg(first + PAGE - 1).arg("WITHSCORES");
            let page = value::items(self.link.query(&command).await?, "ZRANGE")?;
            let is_last = page.len() < 2 * PAGE;
            found.extend(spaced_of(page, job)?);
            if is_last || found.len() >= limit {
                break;
            }
        }
        found.truncate(limit);
        Ok(found)
    }
}

/// The entries of a job among members (`<due (ms)> <entry>`) and scores. What can't be read isn't anybody's.
fn spaced_of(page: Vec<Value>, job: &JobId) -> Result<Vec<Spaced>, StoreError> {
    let mut items = page.into_iter();
    let mut found = Vec::new();
    while let (Some(member), Some(not_before)) = (items.next(), items.next()) {
        let member = value::text(member).unwrap_or_default();
        let entry = member.split_once(' ').and_then(|(_, entry)| entry.parse::<Entry>().ok());
        if let Some(entry) = entry.filter(|entry| entry.occurrence.job == *job) {
            found.push((entry, Timestamp::from_ms(value::number(&not_before, "ZRANGE")?)));
        }
    }
    Ok(found)
}
