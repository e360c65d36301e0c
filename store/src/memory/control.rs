//! Runs that somebody asked for, in memory.

use model::backfill::RunEnd;
use model::id::{Entry, Key, Occurrence};
use model::limits::TRIGGER_KEY_KEPT;
use model::name::{BackfillId, JobId};
use model::shard::ShardId;
use model::stats::Earlier;
use model::time::{SECOND_MS, Timestamp};

use super::{MemoryStore, Shard, sorted};
use crate::control::{AskedFor, BackfillRun, ControlStore, TRIGGER_SECONDS_MAX, Trigger, Triggered};
use crate::error::StoreError;
use crate::keys::History;
use crate::lease::{Epoch, Role};

/// What is known of the runs that somebody asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    /// The due instant of a key's first run, and when the key is forgotten.
    keys: std::collections::BTreeMap<(JobId, Key), (Timestamp, Timestamp)>,
    overrides: std::collections::BTreeMap<Occurrence, Option<String>>,
    backfilled: std::collections::BTreeMap<Occurrence, (BackfillId, Option<RunEnd>)>,
}

impl Asked {
    pub(super) fn triggered(&self) -> Vec<Occurrence> {
        self.overrides.keys().cloned().collect()
    }

    pub(super) fn is_triggered(&self, run: &Occurrence) -> bool {
        self.overrides.contains_key(run)
    }

    pub(super) fn backfilled(&self) -> Vec<Occurrence> {
        self.backfilled.keys().cloned().collect()
    }

    /// Whether it is a backfill's, and its end isn't known.
    pub(super) fn is_backfilled(&self, run: &Occurrence) -> bool {
        self.backfilled.get(run).is_some_and(|(_, end)| end.is_none())
    }
}

impl ControlStore for MemoryStore {
    async fn trigger(&self, shard: ShardId, trigger: &Trigger) -> Result<Option<Triggered>, StoreError> {
        self.on(shard, |shard, now| shard.trigger(trigger, now)).await
    }

    async fn asked_for(&self, shard: ShardId, runs: &[Occurrence]) -> Result<Vec<AskedFor>, StoreError> {
        self.on(shard, |shard, _| {
            let asked = |run: &Occurrence| AskedFor {
                triggered: shard.asked.overrides.contains_key(run),
                payload: shard.asked.overrides.get(run).cloned().flatten(),
                backfilled: shard.asked.backfilled.contains_key(run),
            };
            Ok(runs.iter().map(asked).collect())
        })
        .await
    }

    async fn start_backfilled(
        &self,
        shard: ShardId,
        epoch: Epoch,
        backfill: &BackfillId,
        job: &JobId,
        dues: &[Timestamp],
    ) -> Result<Option<Vec<bool>>, StoreError> {
        if dues.is_empty() {
            return Ok(Some(Vec::new()));
        }
        self.fenced(shard, Role::Planner, epoch, |shard, _| {
            let Some(revision) = shard.jobs.get(job).map(|record| record.revision) else { return Ok(None) };
            let mut started = Vec::with_capacity(dues.len());
            for due_at in dues {
                let occurrence = Occurrence { job: job.clone(), due_at: *due_at };
                if let Some((owner, _)) = shard.asked.backfilled.get(&occurrence) {
                    started.push(owner == backfill);
                    continue;
                }
                let entry = sorted(*due_at, &Entry { occurrence: occurrence.clone(), revision });
                let is_new = !shard.runs.contains_key(&occurrence) && shard.minutes.insert(entry);
                if is_new {
                    shard.asked.backfilled.insert(occurrence, (backfill.clone(), None));
                }
                started.push(is_new);
            }
            Ok(Some(started))
        })
        .await
    }

    async fn backfill_runs(&self, shard: ShardId) -> Result<Vec<BackfillRun>, StoreError> {
        self.on(shard, |shard, _| {
            let runs = shard.asked.backfilled.iter().map(|(occurrence, (backfill, end))| BackfillRun {
                occurrence: occurrence.clone(),
                backfill: backfill.clone(),
                end: *end,
            });
            Ok(runs.collect())
        })
        .await
    }

    async fn forget_backfill_runs(
        &self,
        shard: ShardId,
        epoch: Epoch,
        runs: &[Occurrence],
    ) -> Result<(), StoreError> {
        if runs.is_empty() {
            return Ok(());
        }
        self.fenced(shard, Role::Planner, epoch, |shard, _| {
            for run in runs {
                shard.asked.backfilled.remove(run);
            }
            Ok(())
        })
        .await
    }
}

impl Shard {
    fn trigger(&mut self, trigger: &Trigger, now: Timestamp) -> Result<Option<Triggered>, StoreError> {
        let key = trigger.key.clone().map(|key| (trigger.job.clone(), key));
        let first = key.as_ref().and_then(|key| self.asked.keys.get(key)).filter(|(_, until)| now < *until);
        if let Some((due_at, _)) = first {
            return Ok(Some(Triggered { due_at: *due_at, duplicate: true }));
        }
        let Some(revision) = self.jobs.get(&trigger.job).map(|record| record.revision) else {
            return Ok(None);
        };
        let seconds = i64::try_from(TRIGGER_SECONDS_MAX).unwrap_or(i64::MAX);
        let end = trigger.due_at.floor(SECOND_MS).plus_ms(seconds * SECOND_MS);
        let mut due_at = trigger.due_at;
        while due_at < end {
            let occurrence = Occurrence { job: trigger.job.clone(), due_at };
            let place = sorted(due_at, &Entry { occurrence: occurrence.clone(), revision });
            let is_full_second = due_at.floor(SECOND_MS) == due_at;
            if !is_full_second && !self.runs.contains_key(&occurrence) && self.minutes.insert(place) {
                if let Some(key) = key {
                    self.asked.keys.insert(key, (due_at, now.plus(TRIGGER_KEY_KEPT)));
                }
                self.asked.overrides.insert(occurrence, trigger.payload.clone());
                return Ok(Some(Triggered { due_at, duplicate: false }));
            }
            due_at = due_at.plus_ms(1);
        }
        Err(StoreError::Refused("every millisecond at and after that instant is taken".into()))
    }

    /// A run has ended: what it brought along isn't needed any more, and its backfill may count it.
    /// What is known of a run before a report of it.
    pub(super) fn earlier(&self, occurrence: &Occurrence) -> Earlier {
        let first = self.runs.get(occurrence).and_then(|run| run.record.first);
        Earlier { first, backfilled: self.asked.backfilled.contains_key(occurrence) }
    }

    pub(super) fn note_end(&mut self, occurrence: &Occurrence, kind: History) {
        self.asked.overrides.remove(occurrence);
        if let Some((_, end @ None)) = self.asked.backfilled.get_mut(occurrence) {
            *end = Some(match kind {
                History::Succeeded => RunEnd::Succeeded,
                History::Failed => RunEnd::Failed,
                History::Skipped => RunEnd::Skipped,
            });
        }
    }
}
