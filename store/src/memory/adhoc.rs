//! Ad-hoc work, in memory.

use model::id::RunId;
use model::shard::ShardId;
use model::stats::FirstStart;
use model::time::Timestamp;
use model::unique::{Freed, UniqueKey, Until};

use super::{MemoryStore, Shard};
use crate::adhoc::{AD_HOC_KEPT, AdHocRun, AdHocStore, Claimed};
use crate::error::StoreError;

/// A taken key.
#[derive(Clone)]
pub(super) struct Taken {
    run_id: RunId,
    until: Until,
    published: bool,
    expires_at: Timestamp,
}

impl AdHocStore for MemoryStore {
    async fn claim_key(
        &self,
        shard: ShardId,
        key: &UniqueKey,
        run_id: &RunId,
        until: Until,
    ) -> Result<Claimed, StoreError> {
        self.on(shard, |shard, now| {
            if let Some(taken) = shard.taken(key, now) {
                return Ok(Claimed::Taken { run_id: taken.run_id.clone(), published: taken.published });
            }
            let expires_at = now.plus(until.bound());
            let taken = Taken { run_id: run_id.clone(), until, published: false, expires_at };
            shard.unique.insert(key.to_string(), taken);
            Ok(Claimed::New)
        })
        .await
    }

    async fn confirm_key(&self, shard: ShardId, key: &UniqueKey, run_id: &RunId) -> Result<(), StoreError> {
        self.on(shard, |shard, now| {
            if let Some(taken) = shard.taken(key, now).filter(|taken| taken.run_id == *run_id) {
                taken.published = true;
            }
            Ok(())
        })
        .await
    }

    async fn free_key(
        &self,
        shard: ShardId,
        key: &UniqueKey,
        run_id: &RunId,
        freed: Freed,
    ) -> Result<(), StoreError> {
        self.on(shard, |shard, now| {
            let ours = shard.taken(key, now).filter(|taken| taken.run_id == *run_id);
            if ours.is_some_and(|taken| taken.until.is_freed_by(freed)) {
                shard.unique.remove(&key.to_string());
            }
            Ok(())
        })
        .await
    }

    async fn note_ad_hoc(&self, shard: ShardId, run: &AdHocRun) -> Result<(), StoreError> {
        self.on(shard, |shard, now| {
            let known = shard.remembered(&run.run_id, now);
            if known.is_none_or(|known| run.age() >= known.age()) {
                let first = known.map(|known| known.first);
                let first = FirstStart::after(first, run.generation, run.last.started_at);
                let run = AdHocRun { first, ..run.clone() };
                shard.ad_hoc.insert(run.run_id.clone(), (run, now.plus(AD_HOC_KEPT)));
            }
            Ok(())
        })
        .await
    }

    async fn ad_hoc(&self, shard: ShardId, run_id: &RunId) -> Result<Option<AdHocRun>, StoreError> {
        self.on(shard, |shard, now| Ok(shard.remembered(run_id, now).cloned())).await
    }
}

impl Shard {
    fn taken(&mut self, key: &UniqueKey, now: Timestamp) -> Option<&mut Taken> {
        self.unique.get_mut(&key.to_string()).filter(|taken| now < taken.expires_at)
    }

    fn remembered(&self, run_id: &RunId, now: Timestamp) -> Option<&AdHocRun> {
        self.ad_hoc.get(run_id).filter(|(_, until)| now < *until).map(|(run, _)| run)
    }
}
