//! Entries that are kept out of the minute tier for a while, in memory.

use model::id::{Entry, Occurrence};
use model::name::JobId;
use model::shard::ShardId;
use model::time::Timestamp;

use super::{MemoryStore, Shard, sorted};
use crate::error::StoreError;
use crate::lease::{Epoch, Role};
use crate::space::{SpaceStore, Spaced};

impl SpaceStore for MemoryStore {
    async fn space(&self, shard: ShardId, epoch: Epoch, entries: &[Spaced]) -> Result<(), StoreError> {
        if entries.is_empty() {
            return Ok(());
        }
        self.fenced(shard, Role::Dispatcher, epoch, |shard, _| {
            for (entry, not_before) in entries {
                if !shard.runs.contains_key(&entry.occurrence) && shard.remove_entry(entry) {
                    shard.space(entry, *not_before);
                }
            }
            Ok(())
        })
        .await
    }

    async fn delay_spaced(&self, shard: ShardId, epoch: Epoch, until: Timestamp) -> Result<(), StoreError> {
        self.fenced(shard, Role::Dispatcher, epoch, |shard, _| {
            let Some((first, ..)) = shard.spaced.first() else { return Ok(()) };
            let late_ms = until.ms_since(*first).max(0);
            let spaced = std::mem::take(&mut shard.spaced).into_iter();
            shard.spaced = spaced.map(|(at, text, entry)| (at.plus_ms(late_ms), text, entry)).collect();
            Ok(())
        })
        .await
    }

    async fn spaced(&self, shard: ShardId, job: &JobId, limit: usize) -> Result<Vec<Spaced>, StoreError> {
        self.on(shard, |shard, _| {
            let of_job = shard.spaced.iter().filter(|(_, _, entry)| entry.occurrence.job == *job);
            Ok(of_job.take(limit).map(|(at, _, entry)| (entry.clone(), *at)).collect())
        })
        .await
    }
}

impl Shard {
    pub(super) fn space(&mut self, entry: &Entry, not_before: Timestamp) {
        self.spaced.retain(|(_, _, known)| known != entry);
        let member = format!("{} {entry}", entry.occurrence.due_at.as_ms());
        self.spaced.insert((not_before, member, entry.clone()));
    }

    /// `false`: it wasn't kept back.
    pub(super) fn forget_spaced(&mut self, occurrence: &Occurrence) -> bool {
        let before = self.spaced.len();
        self.spaced.retain(|(_, _, entry)| entry.occurrence != *occurrence);
        self.spaced.len() < before
    }

    /// Puts those back whose time has come.
    pub(super) fn take_spaced(&mut self, until: Timestamp, limit: usize) {
        let back: Vec<_> =
            self.spaced.iter().take_while(|(at, ..)| *at <= until).take(limit).cloned().collect();
        for spaced in back {
            self.spaced.remove(&spaced);
            // Unless another entry of its occurrence was dealt with meanwhile.
            if !self.runs.contains_key(&spaced.2.occurrence) {
                self.minutes.insert(sorted(spaced.2.occurrence.due_at, &spaced.2));
            }
        }
    }
}
