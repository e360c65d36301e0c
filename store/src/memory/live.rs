//! Runs under way, in memory.

use model::id::Occurrence;
use model::progress::{Progress, Underway, accepts_progress};
use model::run::RunState;
use model::shard::ShardId;

use super::{MemoryStore, Shard};
use crate::error::StoreError;
use crate::live::LiveStore;

impl LiveStore for MemoryStore {
    async fn note_progress(
        &self,
        shard: ShardId,
        occurrence: &Occurrence,
        progress: &Progress,
    ) -> Result<(), StoreError> {
        self.on(shard, |shard, _| {
            if accepts_progress(shard.underway(occurrence), progress) {
                shard.live.insert(occurrence.clone(), progress.clone());
            }
            Ok(())
        })
        .await
    }

    async fn latest_progress(
        &self,
        shard: ShardId,
        occurrence: &Occurrence,
    ) -> Result<Option<Progress>, StoreError> {
        self.on(shard, |shard, _| {
            let run = shard.underway(occurrence).filter(|run| run.state == RunState::Dispatched);
            let noted = shard.live.get(occurrence);
            Ok(run
                .and(noted)
                .filter(|noted| run.is_some_and(|run| noted.attempt > run.ended_attempt))
                .cloned())
        })
        .await
    }
}

impl Shard {
    fn underway(&self, occurrence: &Occurrence) -> Option<Underway> {
        let run = &self.runs.get(occurrence)?.record;
        Some(Underway {
            state: run.state,
            generation: run.generation,
            ended_attempt: run.last.as_ref().map_or(0, |end| end.attempt),
            noted: self.live.get(occurrence).map(|noted| (noted.attempt, noted.at)),
        })
    }
}
