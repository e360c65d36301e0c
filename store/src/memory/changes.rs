//! Change logs and interruptions in memory.

use model::change::Change;
use model::limits::{CHANGES_MAX, INTERRUPTIONS_MAX};
use model::misfire::Interruption;
use model::name::JobId;
use model::shard::ShardId;

use super::{MemoryStore, Shard};
use crate::changes::{ChangeStore, interruption_text};
use crate::error::StoreError;
use crate::lease::{Epoch, Role};

impl ChangeStore for MemoryStore {
    async fn changes(&self, shard: ShardId, job: &JobId) -> Result<Vec<Change>, StoreError> {
        self.on(shard, |shard, _| Ok(shard.changes.get(job).into_iter().flatten().cloned().collect())).await
    }

    async fn note_interruption(
        &self,
        shard: ShardId,
        epoch: Epoch,
        interruption: Interruption,
    ) -> Result<(), StoreError> {
        self.fenced(shard, Role::Dispatcher, epoch, |shard, _| {
            let text = interruption_text(&interruption);
            shard.interruptions.insert((interruption.until, text), interruption);
            while shard.interruptions.len() > INTERRUPTIONS_MAX {
                shard.interruptions.pop_first();
            }
            Ok(())
        })
        .await
    }

    async fn interruptions(&self, shard: ShardId) -> Result<Vec<Interruption>, StoreError> {
        self.on(shard, |shard, _| Ok(shard.interruptions.values().rev().copied().collect())).await
    }
}

impl Shard {
    pub(super) fn note_change(&mut self, job: &JobId, change: &Change) {
        let log = self.changes.entry(job.clone()).or_default();
        log.push_front(change.clone());
        log.truncate(CHANGES_MAX);
    }
}
