//! The run ledger in memory.

use model::id::{Entry, Occurrence};
use model::name::JobId;
use model::run::{AttemptEnd, Generation, RunState, Standing, accepts_end};
use model::shard::ShardId;
use model::time::Timestamp;

use super::{MemoryStore, Shard, sorted};
use crate::error::StoreError;
use crate::lease::{Epoch, Role};
use crate::ledger::{
    LEDGER_BATCH_MAX, LedgerStore, RunRecord, Sent, SentRun, Settled, Settlement, Skip, TERMINATED_KEPT,
    Taken, TakenEntry,
};
use crate::record::{StoredRun, history_of};

impl LedgerStore for MemoryStore {
    async fn take(
        &self,
        shard: ShardId,
        epoch: Epoch,
        until: Timestamp,
        limit: usize,
    ) -> Result<Taken, StoreError> {
        self.fenced(shard, Role::Dispatcher, epoch, |shard, now| {
            Ok(shard.take(until, limit.clamp(1, LEDGER_BATCH_MAX), now))
        })
    }

    async fn missed(
        &self,
        shard: ShardId,
        epoch: Epoch,
        after: Timestamp,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<TakenEntry>, StoreError> {
        self.fenced(shard, Role::Dispatcher, epoch, |shard, _| {
            let missed = || shard.minutes.iter().filter(|(due, ..)| after < *due && *due <= until);
            let last = missed().nth(limit.clamp(1, LEDGER_BATCH_MAX) - 1).map(|(due, ..)| *due);
            let whole = missed().take_while(|(due, ..)| last.is_none_or(|last| *due <= last));
            Ok(whole.map(|(_, _, entry)| shard.taken_entry(entry)).collect())
        })
    }

    async fn note_terminated(&self, sequence: u64, reason: &str, at: Timestamp) -> Result<(), StoreError> {
        let _ = at;
        self.act(|state, now| {
            state.terminated.insert(sequence, (reason.into(), now.plus(TERMINATED_KEPT)));
            Ok(())
        })
    }

    async fn terminated(&self, sequence: u64) -> Result<Option<String>, StoreError> {
        self.act(|state, now| {
            let noted = state.terminated.get(&sequence).filter(|(_, until)| now < *until);
            Ok(noted.map(|(reason, _)| reason.clone()))
        })
    }

    async fn confirm(&self, shard: ShardId, epoch: Epoch, sent: &[Sent]) -> Result<(), StoreError> {
        if sent.is_empty() {
            return Ok(());
        }
        self.fenced(shard, Role::Dispatcher, epoch, |shard, _| {
            sent.iter().for_each(|sent| shard.confirm(sent, epoch));
            Ok(())
        })
    }

    async fn skip(&self, shard: ShardId, epoch: Epoch, skips: &[Skip]) -> Result<(), StoreError> {
        if skips.is_empty() {
            return Ok(());
        }
        self.fenced(shard, Role::Dispatcher, epoch, |shard, _| {
            for Skip { entry, reason, at } in skips {
                if shard.remove_entry(entry) {
                    shard.record_skipped(&entry.occurrence, entry.revision, reason, *at);
                }
            }
            Ok(())
        })
    }

    async fn drop_entries(&self, shard: ShardId, epoch: Epoch, entries: &[Entry]) -> Result<(), StoreError> {
        if entries.is_empty() {
            return Ok(());
        }
        self.fenced(shard, Role::Dispatcher, epoch, |shard, _| {
            for entry in entries {
                shard.remove_entry(entry);
            }
            Ok(())
        })
    }

    async fn settle(&self, shard: ShardId, settlement: &Settlement) -> Result<Settled, StoreError> {
        if !settlement.state.is_end() {
            return Err(StoreError::Refused("a settlement must be of an ended state".into()));
        }
        self.on(shard, |shard, _| Ok(shard.settle(settlement)))
    }

    async fn note_attempt(
        &self,
        shard: ShardId,
        occurrence: &Occurrence,
        generation: Generation,
        end: &AttemptEnd,
        executor: &str,
    ) -> Result<(), StoreError> {
        self.on(shard, |shard, _| {
            let open = shard.runs.get_mut(occurrence).map(|run| &mut run.record);
            let Some(run) = open.filter(|run| run.state == RunState::Dispatched) else { return Ok(()) };
            let newest = run.last.as_ref().map_or(0, |last| last.attempt);
            if (generation, end.attempt) > (run.generation, newest) && generation >= run.generation {
                run.generation = generation;
                run.last = Some(end.clone());
                run.executor = Some(executor.into());
            }
            Ok(())
        })
    }

    async fn overdue(
        &self,
        shard: ShardId,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<SentRun>, StoreError> {
        self.on(shard, |shard, _| Ok(shard.sent_runs(now, limit)))
    }

    async fn worry_later(
        &self,
        shard: ShardId,
        epoch: Epoch,
        occurrence: &Occurrence,
        worry_at: Timestamp,
    ) -> Result<(), StoreError> {
        self.fenced(shard, Role::Dispatcher, epoch, |shard, _| {
            if shard.forget_sent(occurrence) {
                shard.sent.insert(sorted(worry_at, occurrence));
            }
            Ok(())
        })
    }

    async fn run(&self, shard: ShardId, occurrence: &Occurrence) -> Result<Option<RunRecord>, StoreError> {
        self.on(shard, |shard, _| Ok(shard.runs.get(occurrence).map(|run| run.record.clone())))
    }

    async fn runs(&self, shard: ShardId, job: &JobId, limit: usize) -> Result<Vec<RunRecord>, StoreError> {
        self.on(shard, |shard, _| {
            let newest_first = shard.runs_of(job).rev().take(limit.min(LEDGER_BATCH_MAX));
            Ok(newest_first.map(|(_, run)| run.record.clone()).collect())
        })
    }
}

impl Shard {
    fn taken_entry(&self, entry: &Entry) -> TakenEntry {
        let job_revision = self.jobs.get(&entry.occurrence.job).map(|record| record.revision);
        TakenEntry { entry: entry.clone(), job_revision }
    }

    fn take(&mut self, until: Timestamp, limit: usize, now: Timestamp) -> Taken {
        let Some(cursor) = self.cursor.clone() else { return Taken { now, ..Taken::default() } };
        let cap = until.min(cursor.planned_until.plus_ms(-1));
        let due = || self.minutes.iter().take_while(|(due, ..)| *due <= cap);
        let entries: Vec<_> = due().take(limit).map(|(_, _, entry)| self.taken_entry(entry)).collect();
        let mut reached = cap;
        if due().nth(limit).is_some() {
            reached = entries.last().map_or(cap, |taken| taken.entry.occurrence.due_at);
        }
        let taken_until = cursor.taken_until.max(reached);
        let next_due = self.minutes.iter().map(|(due, ..)| *due).find(|due| *due > taken_until);
        if let Some(cursor) = &mut self.cursor {
            cursor.taken_until = taken_until;
        }
        Taken { entries, taken_before: cursor.taken_until, taken_until, next_due, now }
    }

    fn confirm(&mut self, sent: &Sent, epoch: Epoch) {
        let occurrence = &sent.entry.occurrence;
        let waits = self.remove_entry(&sent.entry);
        let in_sent = self.sent.iter().any(|(_, _, known)| known == occurrence);
        let record = self.runs.get_mut(occurrence);
        let open = match &record {
            Some(run) => run.record.state == RunState::Dispatched && sent.republished >= run.republished,
            None => waits || in_sent,
        };
        if !open {
            return;
        }
        let new = |occurrence: &Occurrence| StoredRun {
            record: RunRecord {
                occurrence: occurrence.clone(),
                revision: sent.entry.revision,
                state: RunState::Dispatched,
                generation: Generation(0),
                published_at: None,
                sequence: None,
                epoch: None,
                last: None,
                executor: None,
                output: None,
                skip_reason: None,
                ended_at: None,
            },
            republished: 0,
        };
        let run = self.runs.entry(occurrence.clone()).or_insert_with_key(new);
        run.record.sequence = Some(sent.sequence);
        run.record.published_at = Some(sent.published_at);
        run.record.epoch = Some(epoch);
        run.republished = sent.republished;
        self.forget_sent(occurrence);
        self.sent.insert(sorted(sent.worry_at, occurrence));
    }

    fn forget_sent(&mut self, occurrence: &Occurrence) -> bool {
        let before = self.sent.len();
        self.sent.retain(|(_, _, known)| known != occurrence);
        self.sent.len() < before
    }

    fn settle(&mut self, settlement: &Settlement) -> Settled {
        let occurrence = &settlement.occurrence;
        let stored = self.runs.get(occurrence);
        let standing =
            stored.map(|run| Standing { state: run.record.state, generation: run.record.generation });
        if !accepts_end(standing, settlement.generation) {
            return Settled::AlreadyEnded;
        }
        self.forget_sent(occurrence);
        let present = self.jobs.get(&occurrence.job).map(|record| record.revision);
        for revision in present.into_iter().chain([settlement.revision]) {
            self.remove_entry(&Entry { occurrence: occurrence.clone(), revision });
        }
        let published = self.runs.remove(occurrence);
        let record = RunRecord {
            occurrence: occurrence.clone(),
            revision: settlement.revision,
            state: settlement.state,
            generation: settlement.generation,
            published_at: published.as_ref().and_then(|run| run.record.published_at),
            sequence: published.as_ref().and_then(|run| run.record.sequence),
            epoch: published.as_ref().and_then(|run| run.record.epoch),
            last: Some(settlement.last.clone()),
            executor: Some(settlement.executor.clone()),
            output: settlement.output.clone(),
            skip_reason: None,
            ended_at: Some(settlement.settled_at),
        };
        let republished = published.map_or(0, |run| run.republished);
        self.runs.insert(occurrence.clone(), StoredRun { record, republished });
        if let Some(kind) = history_of(settlement.state) {
            self.note_end(occurrence, kind);
            self.trim(&occurrence.job, kind);
        }
        Settled::Recorded
    }

    pub(super) fn sent_runs(&self, until: Timestamp, limit: usize) -> Vec<SentRun> {
        let overdue = self.sent.iter().take_while(|(worry_at, ..)| *worry_at <= until);
        overdue
            .take(limit.min(LEDGER_BATCH_MAX))
            .filter_map(|(worry_at, _, occurrence)| {
                Some(self.runs.get(occurrence)?.clone().into_sent(*worry_at))
            })
            .collect()
    }
}
