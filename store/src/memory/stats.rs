//! Statistics, past attempts and redrives in memory.

use model::id::{Entry, Occurrence, Revision};
use model::limits::ATTEMPTS_KEPT_MAX;
use model::name::JobId;
use model::run::{AttemptEnd, Generation, RunState, Standing, may_reopen};
use model::shard::ShardId;
use model::stats::{Counted, JobStats};

use super::{MemoryStore, Shard, sorted};
use crate::error::StoreError;
use crate::lease::{Epoch, Role};
use crate::ledger::RunRecord;
use crate::record::StoredRun;
use crate::stats::{PastAttempt, Reopening, StatsStore};

impl StatsStore for MemoryStore {
    async fn stats(&self, shard: ShardId, job: &JobId) -> Result<JobStats, StoreError> {
        self.on(shard, |shard, _| Ok(shard.stats.get(job).cloned().unwrap_or_default())).await
    }

    async fn past_attempts(
        &self,
        shard: ShardId,
        occurrence: &Occurrence,
    ) -> Result<Vec<PastAttempt>, StoreError> {
        self.on(shard, |shard, _| {
            let tries = shard.tries.get(occurrence).filter(|_| shard.runs.contains_key(occurrence));
            Ok(tries.map(|tries| tries.values().cloned().collect()).unwrap_or_default())
        })
        .await
    }

    async fn reopen(&self, shard: ShardId, reopening: &Reopening) -> Result<bool, StoreError> {
        self.on(shard, |shard, _| Ok(shard.reopen(reopening))).await
    }

    async fn planned_as(
        &self,
        shard: ShardId,
        occurrence: &Occurrence,
        revisions: &[Revision],
    ) -> Result<Option<Revision>, StoreError> {
        self.on(shard, |shard, _| {
            let is_there = |revision: &&Revision| {
                let entry = Entry { occurrence: occurrence.clone(), revision: **revision };
                shard.minutes.contains(&sorted(occurrence.due_at, &entry))
            };
            Ok(revisions.iter().find(is_there).copied())
        })
        .await
    }

    async fn owner(&self, shard: ShardId, role: Role, epoch: Epoch) -> Result<Option<String>, StoreError> {
        self.on(shard, |shard, _| Ok(shard.owners.get(&(role, epoch)).cloned())).await
    }
}

impl Shard {
    /// Counts an end, if its job is there.
    pub(super) fn count(&mut self, job: &JobId, counted: &Counted) {
        if self.jobs.contains_key(job) {
            self.stats.entry(job.clone()).or_default().count(counted);
        }
    }

    pub(super) fn keep_attempt(
        &mut self,
        occurrence: &Occurrence,
        generation: Generation,
        end: &AttemptEnd,
        executor: &str,
    ) {
        let tries = self.tries.entry(occurrence.clone()).or_default();
        let past = PastAttempt { generation, end: end.clone(), executor: executor.into() };
        tries.insert((generation, end.attempt), past);
        while tries.len() > ATTEMPTS_KEPT_MAX {
            tries.pop_first();
        }
    }

    /// Keeps the newest attempt of a run's record, which is about to be replaced by a newer generation's.
    pub(super) fn keep_last(&mut self, occurrence: &Occurrence) {
        let Some(record) = self.runs.get(occurrence).map(|run| run.record.clone()) else { return };
        if let Some(last) = &record.last {
            self.keep_attempt(occurrence, record.generation, last, record.executor.as_deref().unwrap_or(""));
        }
    }

    fn reopen(&mut self, reopening: &Reopening) -> bool {
        let occurrence = &reopening.occurrence;
        let known = self.runs.get(occurrence).map(|run| run.record.clone());
        let standing =
            known.as_ref().map(|record| Standing { state: record.state, generation: record.generation });
        if !may_reopen(standing, reopening.generation) {
            return false;
        }
        self.keep_last(occurrence);
        let triggered = known.as_ref().is_some_and(|record| record.triggered);
        let first = known.as_ref().and_then(|record| record.first);
        let revision = known.map_or(reopening.revision, |record| record.revision);
        let record = RunRecord {
            generation: reopening.generation,
            published_at: Some(reopening.published_at),
            sequence: Some(reopening.sequence),
            epoch: Some(Epoch(0)),
            triggered,
            first,
            ..RunRecord::new(occurrence.clone(), revision, RunState::Dispatched)
        };
        self.runs.insert(occurrence.clone(), StoredRun { record, republished: 0 });
        self.sent.retain(|(_, _, known)| known != occurrence);
        self.sent.insert(sorted(reopening.worry_at, occurrence));
        true
    }
}
