//! The run ledger in memory.

use std::collections::{BTreeMap, BTreeSet};

use model::dispatch::Admission;
use model::id::{Entry, Occurrence};
use model::name::JobId;
use model::run::{AttemptEnd, Generation, RunState, Standing, accepts_end};
use model::shard::ShardId;
use model::stats::{Counted, FirstStart, counted_lateness};
use model::time::Timestamp;

use super::{Deed, MemoryStore, Shard, Sorted, sorted};
use crate::error::StoreError;
use crate::keys::History;
use crate::lease::{Epoch, Role};
use crate::ledger::{
    CancelMark, CancelOutcome, Claim, LEDGER_BATCH_MAX, LedgerStore, Park, RunRecord, Sent, SentRun, Settled,
    Settlement, Skip, TERMINATED_KEPT, Taken, TakenEntry,
};
use crate::record::{StoredRun, history_of};

/// An occurrence nearer than this is worth a nudge.
const NEAR_MS: i64 = 2_000;

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
        .await
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
        .await
    }

    async fn note_terminated(&self, sequence: u64, reason: &str, at: Timestamp) -> Result<(), StoreError> {
        let _ = at;
        self.act(|state, now| {
            state.terminated.insert(sequence, (reason.into(), now.plus(TERMINATED_KEPT)));
            Ok(())
        })
        .await
    }

    async fn forget_terminated(&self, sequence: u64) -> Result<(), StoreError> {
        self.act(|state, _| {
            state.terminated.remove(&sequence);
            Ok(())
        })
        .await
    }

    async fn terminated(&self, sequence: u64) -> Result<Option<String>, StoreError> {
        self.act(|state, now| {
            let noted = state.terminated.get(&sequence).filter(|(_, until)| now < *until);
            Ok(noted.map(|(reason, _)| reason.clone()))
        })
        .await
    }

    async fn claim(&self, shard: ShardId, epoch: Epoch, claims: &[Claim]) -> Result<Vec<bool>, StoreError> {
        if claims.is_empty() {
            return Ok(Vec::new());
        }
        self.fenced(shard, Role::Dispatcher, epoch, |shard, _| {
            Ok(claims.iter().map(|claim| shard.claim(claim)).collect())
        })
        .await
    }

    async fn park(&self, shard: ShardId, epoch: Epoch, parks: &[Park]) -> Result<Vec<bool>, StoreError> {
        if parks.is_empty() {
            return Ok(Vec::new());
        }
        self.fenced(shard, Role::Dispatcher, epoch, |shard, _| {
            Ok(parks.iter().map(|park| shard.park(park)).collect())
        })
        .await
    }

    async fn unpark(&self, shard: ShardId, runs: &[Occurrence]) -> Result<Vec<bool>, StoreError> {
        self.on(shard, |shard, _| Ok(runs.iter().map(|run| shard.unpark(run)).collect())).await
    }

    async fn held(&self, shard: ShardId, passed: usize, limit: usize) -> Result<Vec<Occurrence>, StoreError> {
        self.on(shard, |shard, _| {
            let page = shard.held.iter().skip(passed).take(limit.min(LEDGER_BATCH_MAX));
            Ok(page.map(|(_, _, entry)| entry.occurrence.clone()).collect())
        })
        .await
    }

    async fn confirm(&self, shard: ShardId, epoch: Epoch, sent: &[Sent]) -> Result<(), StoreError> {
        if sent.is_empty() {
            return Ok(());
        }
        self.fenced(shard, Role::Dispatcher, epoch, |shard, _| {
            sent.iter().for_each(|sent| shard.confirm(sent, epoch));
            Ok(())
        })
        .await
    }

    async fn skip(&self, shard: ShardId, epoch: Epoch, skips: &[Skip]) -> Result<(), StoreError> {
        if skips.is_empty() {
            return Ok(());
        }
        self.fenced(shard, Role::Dispatcher, epoch, |shard, _| {
            let (mut freed, mut skipped) = (BTreeSet::new(), Vec::new());
            for Skip { entry, reason, at } in skips {
                if !shard.remove_entry(entry) {
                    continue;
                }
                skipped.push((entry.occurrence.job.clone(), *at));
                if shard.waits_under(entry) {
                    shard.skip_waiting(&entry.occurrence, reason, *at);
                    freed.insert(entry.occurrence.job.clone());
                } else {
                    shard.record_skipped(&entry.occurrence, entry.revision, reason, *at);
                }
            }
            for job in freed {
                shard.let_go(&job);
            }
            let ends: BTreeMap<_, _> = skipped.into_iter().collect();
            for (job, at) in ends {
                shard.chain(&job, at);
            }
            Ok(())
        })
        .await
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
        .await
    }

    async fn settle(&self, shard: ShardId, settlement: &Settlement) -> Result<Settled, StoreError> {
        let settled = self.settle_all(shard, std::slice::from_ref(settlement)).await?;
        Ok(settled[0])
    }

    async fn settle_all(
        &self,
        shard: ShardId,
        settlements: &[Settlement],
    ) -> Result<Vec<Settled>, StoreError> {
        if settlements.iter().any(|settlement| !settlement.state.is_end()) {
            return Err(StoreError::Refused("a settlement must be of an ended state".into()));
        }
        self.on(shard, |shard, _| {
            let mut settled: Vec<Settled> = settlements.iter().map(|end| shard.settle(end)).collect();
            for (end, _) in settlements.iter().zip(&settled).filter(|(_, s)| **s == Settled::Recorded) {
                let Settlement { occurrence, generation, state, .. } = end;
                self.tell(&Deed::Settled { occurrence, generation: *generation, state: *state });
            }
            // Whoever waited goes after all of them; the last end of its job let it go.
            let mut last_ends = BTreeMap::new();
            for (index, end) in settlements.iter().enumerate() {
                if settled[index] == Settled::Recorded {
                    last_ends.insert(&end.occurrence.job, index);
                }
            }
            for (job, index) in last_ends {
                let released = shard.let_go(job) > 0;
                let settled_at = settlements[index].settled_at;
                let next = shard.chain(job, settled_at);
                if released || next.is_some_and(|due| due.ms_since(settled_at) < NEAR_MS) {
                    settled[index] = Settled::RecordedAndReleased;
                }
            }
            Ok(settled)
        })
        .await
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
            let earlier = shard.earlier(occurrence);
            let open = shard.runs.get_mut(occurrence).map(|run| &mut run.record);
            let Some(run) = open.filter(|run| run.state == RunState::Dispatched) else { return Ok(()) };
            let newest = run.last.as_ref().map_or(0, |last| last.attempt);
            if (generation, end.attempt) > (run.generation, newest) && generation >= run.generation {
                run.first = Some(FirstStart::after(earlier.first, generation, end.started_at));
                run.generation = generation;
                run.last = Some(end.clone());
                run.executor = Some(executor.into());
                shard.keep_attempt(occurrence, generation, end, executor);
                let late = counted_lateness(generation, occurrence.due_at, end.started_at, earlier);
                if let Some(late) = late
                    && shard.jobs.contains_key(&occurrence.job)
                {
                    shard.stats.entry(occurrence.job.clone()).or_default().lateness.add(late);
                }
            }
            Ok(())
        })
        .await
    }

    async fn overdue(
        &self,
        shard: ShardId,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<SentRun>, StoreError> {
        self.on(shard, |shard, _| Ok(shard.sent_runs(&shard.sent, now, limit))).await
    }

    async fn cancel(
        &self,
        shard: ShardId,
        occurrence: &Occurrence,
        named: bool,
        mark: &CancelMark,
        force: bool,
    ) -> Result<CancelOutcome, StoreError> {
        self.on(shard, |shard, _| Ok(shard.cancel(occurrence, named, mark, force))).await
    }

    async fn under_way(&self, shard: ShardId, job: &JobId) -> Result<Vec<Occurrence>, StoreError> {
        self.on(shard, |shard, _| Ok(shard.under_way(job).take(LEDGER_BATCH_MAX).cloned().collect())).await
    }

    async fn cancelling(
        &self,
        shard: ShardId,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<SentRun>, StoreError> {
        self.on(shard, |shard, _| Ok(shard.sent_runs(&shard.cancelling, now, limit))).await
    }

    async fn cancel_later(
        &self,
        shard: ShardId,
        epoch: Epoch,
        occurrence: &Occurrence,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        self.fenced(shard, Role::Dispatcher, epoch, |shard, _| {
            if shard.forget_cancelling(occurrence) {
                shard.cancelling.insert(sorted(at, occurrence));
            }
            Ok(())
        })
        .await
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
        .await
    }

    async fn run(&self, shard: ShardId, occurrence: &Occurrence) -> Result<Option<RunRecord>, StoreError> {
        self.on(shard, |shard, _| Ok(shard.runs.get(occurrence).map(|run| run.record.clone()))).await
    }

    async fn runs(&self, shard: ShardId, job: &JobId, limit: usize) -> Result<Vec<RunRecord>, StoreError> {
        self.on(shard, |shard, _| {
            let newest_first = shard.runs_of(job).rev().take(limit.min(LEDGER_BATCH_MAX));
            Ok(newest_first.map(|(_, run)| run.record.clone()).collect())
        })
        .await
    }
}

impl Shard {
    fn taken_entry(&self, entry: &Entry) -> TakenEntry {
        let job_revision = self.jobs.get(&entry.occurrence.job).map(|record| record.revision);
        TakenEntry { entry: entry.clone(), job_revision, admission: Admission::Fresh, overlap: None }
    }

    fn due_entry(&self, entry: &Entry) -> TakenEntry {
        let job = &entry.occurrence.job;
        let limited = self.jobs.get(job).is_some_and(|record| record.overlap.is_some());
        let overlap = limited.then(|| self.standing(job));
        TakenEntry { admission: self.admission(&entry.occurrence), overlap, ..self.taken_entry(entry) }
    }

    fn take(&mut self, until: Timestamp, limit: usize, now: Timestamp) -> Taken {
        let Some(cursor) = self.cursor.clone() else { return Taken { now, ..Taken::default() } };
        self.takes += 1;
        self.take_spaced(until, limit);
        let cap = until.min(cursor.planned_until.plus_ms(-1));
        let due = || self.minutes.iter().take_while(|(due, ..)| *due <= cap);
        let entries: Vec<_> = due().take(limit).map(|(_, _, entry)| self.due_entry(entry)).collect();
        let mut reached = cap;
        if due().nth(limit).is_some() {
            reached = entries.last().map_or(cap, |taken| taken.entry.occurrence.due_at);
        }
        let taken_until = cursor.taken_until.max(reached);
        let next_due = self.minutes.iter().map(|(due, ..)| *due).find(|due| *due > taken_until);
        let next_due = next_due.into_iter().chain(self.spaced.first().map(|(at, ..)| *at)).min();
        if let Some(cursor) = &mut self.cursor {
            cursor.taken_until = taken_until;
        }
        let cancels_at = self.cancelling.first().map(|(at, ..)| *at);
        Taken { entries, taken_before: cursor.taken_until, taken_until, next_due, now, cancels_at }
    }

    fn confirm(&mut self, sent: &Sent, epoch: Epoch) {
        let occurrence = &sent.entry.occurrence;
        let under_this = self.waits_under(&sent.entry);
        let waits = self.remove_entry(&sent.entry);
        let in_sent = self.sent.iter().any(|(_, _, known)| known == occurrence);
        let record = self.runs.get_mut(occurrence);
        let open = match &record {
            Some(run) => match run.record.state {
                RunState::Waiting => waits && under_this,
                state => state == RunState::Dispatched && sent.republished >= run.republished,
            },
            None => waits || in_sent,
        };
        if !open {
            return;
        }
        let new = |occurrence: &Occurrence| StoredRun {
            record: RunRecord::new(occurrence.clone(), sent.entry.revision, RunState::Dispatched),
            republished: 0,
        };
        let run = self.runs.entry(occurrence.clone()).or_insert_with_key(new);
        run.record.state = RunState::Dispatched;
        run.record.waits_for = None;
        run.record.sequence = Some(sent.sequence);
        run.record.published_at = Some(sent.published_at);
        run.record.epoch = Some(epoch);
        run.republished = sent.republished;
        if run.record.cancel.is_some() && !self.cancelling.iter().any(|(_, _, known)| known == occurrence) {
            self.cancelling.insert(sorted(Timestamp::from_ms(0), occurrence));
        }
        self.forget_sent(occurrence);
        self.sent.insert(sorted(sent.worry_at, occurrence));
    }

    pub(super) fn forget_sent(&mut self, occurrence: &Occurrence) -> bool {
        let before = self.sent.len();
        self.sent.retain(|(_, _, known)| known != occurrence);
        self.sent.len() < before
    }

    fn settle(&mut self, settlement: &Settlement) -> Settled {
        let occurrence = &settlement.occurrence;
        let stored = self.runs.get(occurrence);
        let earlier = self.earlier(occurrence);
        let waited =
            stored.filter(|run| run.record.state == RunState::Waiting).map(|run| run.record.revision);
        let standing =
            stored.map(|run| Standing { state: run.record.state, generation: run.record.generation });
        if !accepts_end(standing, settlement.generation) {
            return Settled::AlreadyEnded;
        }
        if standing.is_some_and(|standing| standing.state.is_end()) {
            self.keep_last(occurrence);
        }
        let (state, generation, last) = (settlement.state, settlement.generation, &settlement.last);
        let counted = Counted::of(state, generation, occurrence.due_at, last, earlier);
        let is_kept = earlier.first.is_some() || history_of(state) == Some(History::Failed);
        let now_first = FirstStart::after(earlier.first, generation, last.started_at);
        let first = if last.attempt > 0 && is_kept { Some(now_first) } else { earlier.first };
        self.count(&occurrence.job, &counted);
        self.forget_sent(occurrence);
        self.forget_cancelling(occurrence);
        self.withdrawn.remove(occurrence);
        let present = self.jobs.get(&occurrence.job).map(|record| record.revision);
        for revision in present.into_iter().chain([settlement.revision]).chain(waited) {
            self.remove_entry(&Entry { occurrence: occurrence.clone(), revision });
        }
        self.leave(occurrence);
        let before = self.runs.remove(occurrence);
        let known = before.as_ref().map(|run| &run.record);
        self.live.remove(occurrence);
        let record = RunRecord {
            generation: settlement.generation,
            triggered: known.is_some_and(|run| run.triggered),
            published_at: known.and_then(|run| run.published_at),
            sequence: known.and_then(|run| run.sequence),
            epoch: known.and_then(|run| run.epoch),
            last: Some(settlement.last.clone()),
            first,
            executor: Some(settlement.executor.clone()),
            output: settlement.output.clone(),
            cancel: known.and_then(|run| run.cancel.clone()),
            ended_at: Some(settlement.settled_at),
            ..RunRecord::new(occurrence.clone(), settlement.revision, settlement.state)
        };
        let republished = before.map_or(0, |run| run.republished);
        self.runs.insert(occurrence.clone(), StoredRun { record, republished });
        if let Some(kind) = history_of(settlement.state) {
            self.note_end(occurrence, kind);
            self.trim(&occurrence.job, kind);
        }
        Settled::Recorded
    }

    pub(super) fn sent_runs(
        &self,
        list: &Sorted<Occurrence>,
        until: Timestamp,
        limit: usize,
    ) -> Vec<SentRun> {
        let overdue = list.iter().take_while(|(worry_at, ..)| *worry_at <= until);
        overdue
            .take(limit.min(LEDGER_BATCH_MAX))
            .filter_map(|(worry_at, _, occurrence)| {
                Some(self.runs.get(occurrence)?.clone().into_sent(*worry_at))
            })
            .collect()
    }
}
