//! The plan in memory.

use std::collections::BTreeSet;

use model::bucket::{Placed, Tier};
use model::id::{Entry, Occurrence, Revision};
use model::limits::EDIT_IN_FORCE_AFTER;
use model::name::JobId;
use model::run::{RunState, SkipReason};
use model::shard::ShardId;
use model::stats::Counted;
use model::time::Timestamp;

use super::{EditBarrier, MemoryStore, Shard, sorted};
use crate::error::StoreError;
use crate::keys::History;
use crate::lease::{Epoch, Role};
use crate::ledger::RunRecord;
use crate::plan::{
    Advance, Cursor, Install, Installed, JobRecord, PLAN_BATCH_MAX, PlanStore, SpecsRead, Waiting,
};
use crate::record::{StoredRun, history_of};

impl PlanStore for MemoryStore {
    async fn cursor(&self, shard: ShardId) -> Result<Option<Cursor>, StoreError> {
        self.on(shard, |shard, _| Ok(shard.cursor.clone())).await
    }

    async fn begin(&self, shard: ShardId, epoch: Epoch, cursor: &Cursor) -> Result<Cursor, StoreError> {
        self.fenced(shard, Role::Planner, epoch, |shard, _| {
            Ok(shard.cursor.get_or_insert_with(|| cursor.clone()).clone())
        })
        .await
    }

    async fn progress(
        &self,
        shard: ShardId,
        epoch: Epoch,
        planned_until: Option<Timestamp>,
        specs: Option<SpecsRead>,
    ) -> Result<(), StoreError> {
        self.fenced(shard, Role::Planner, epoch, |shard, _| {
            let cursor = shard.cursor.as_mut().ok_or(StoreError::Fenced)?;
            if specs.is_some_and(|specs| cursor.spec_revision < specs.from) {
                return Err(StoreError::Fenced);
            }
            let spec_revision = specs.map(|specs| specs.to);
            cursor.planned_until = cursor.planned_until.max(planned_until.unwrap_or(cursor.planned_until));
            cursor.spec_revision = cursor.spec_revision.max(spec_revision.unwrap_or(cursor.spec_revision));
            Ok(())
        })
        .await
    }

    async fn jobs(&self, shard: ShardId, jobs: &[JobId]) -> Result<Vec<Option<JobRecord>>, StoreError> {
        self.on(shard, |shard, _| Ok(jobs.iter().map(|job| shard.jobs.get(job).cloned()).collect())).await
    }

    async fn in_force(&self, shard: ShardId, job: &JobId) -> Result<Option<Revision>, StoreError> {
        self.on(shard, |shard, now| {
            let Some(record) = shard.jobs.get(job) else { return Ok(None) };
            Ok(Some(shard.older_in_force(job, now).unwrap_or(record.revision)))
        })
        .await
    }

    async fn install(
        &self,
        shard: ShardId,
        epoch: Epoch,
        install: &Install,
    ) -> Result<Installed, StoreError> {
        self.fenced(shard, Role::Planner, epoch, |shard, now| Ok(shard.install(install, now))).await
    }

    async fn waiting(
        &self,
        shard: ShardId,
        epoch: Epoch,
        minute_before: Timestamp,
        half_hour_before: Timestamp,
        limit: usize,
    ) -> Result<Vec<Waiting>, StoreError> {
        self.fenced(shard, Role::Planner, epoch, |shard, _| {
            let limit = limit.clamp(1, PLAN_BATCH_MAX);
            Ok(shard.waiting(minute_before, half_hour_before, limit))
        })
        .await
    }

    async fn advance(
        &self,
        shard: ShardId,
        epoch: Epoch,
        steps: &[Advance],
    ) -> Result<Vec<bool>, StoreError> {
        if steps.is_empty() {
            return Ok(Vec::new());
        }
        self.fenced(shard, Role::Planner, epoch, |shard, _| {
            let mut seen = BTreeSet::new();
            Ok(steps.iter().map(|step| seen.insert(&step.job) && shard.advance(step)).collect())
        })
        .await
    }
}

impl Shard {
    /// The revision that is still in force instead of the one that was installed last.
    fn older_in_force(&self, job: &JobId, now: Timestamp) -> Option<Revision> {
        let barrier = self.barriers.get(job)?;
        let too_soon = now < barrier.installed_at.plus(EDIT_IN_FORCE_AFTER);
        let taken_since = self.takes > barrier.takes || self.holder(Role::Dispatcher, now).is_none();
        (too_soon || !taken_since).then_some(barrier.before)
    }

    fn install(&mut self, install: &Install, now: Timestamp) -> Installed {
        let present = self.jobs.get(&install.job);
        if present.map(|record| record.revision) != install.expected {
            return Installed::Conflict;
        }
        let taken_until = self.cursor.as_ref().map_or(Timestamp::from_ms(-1), |cursor| cursor.taken_until);
        let old = present.cloned();
        if let Some(record) = old.clone() {
            self.displace(&install.job, record.revision, record.placed.as_ref());
            for due_at in install.remove.iter().filter(|due| **due > taken_until) {
                self.remove_entry(&entry(&install.job, *due_at, record.revision));
            }
        }
        if let Some(change) = &install.change {
            self.note_change(&install.job, change);
        }
        let planned = old.as_ref().and_then(|record| self.planned_after(&install.job, record));
        let moved_from =
            planned.as_ref().map(|entry| entry.occurrence.due_at).filter(|due| *due > taken_until);
        let in_hand = planned.clone().filter(|_| moved_from.is_none());
        if let Some(entry) = planned.filter(|_| moved_from.is_some()) {
            self.remove_entry(&entry);
        }
        match (&old, &install.record) {
            (Some(old), Some(new)) if old.revision != new.revision => {
                let before = self.older_in_force(&install.job, now).unwrap_or(old.revision);
                let barrier = EditBarrier { takes: self.takes, before, installed_at: now };
                self.barriers.insert(install.job.clone(), barrier);
            }
            (Some(_), Some(_)) => {}
            (None, _) | (_, None) => {
                self.barriers.remove(&install.job);
            }
        }
        let Some(record) = &install.record else {
            let job = &install.job;
            self.jobs.remove(job);
            self.stats.remove(job);
            self.runs.retain(|occurrence, run| {
                occurrence.job != *job || install.keep_history || history_of(run.record.state).is_none()
            });
            self.withdrawn.retain(|occurrence| occurrence.job != *job || install.keep_history);
            for occurrence in self.waiting_runs(job) {
                self.skip_waiting(&occurrence, &SkipReason::Deleted, install.at);
            }
            let runs = &self.runs;
            self.tries.retain(|occurrence, _| runs.contains_key(occurrence));
            return Installed::Done;
        };
        self.jobs.insert(install.job.clone(), JobRecord { after_due: None, ..record.clone() });
        self.place(&install.job, record.revision, record.placed.as_ref());
        let add = install.add.iter().filter(|due| **due > taken_until);
        for due_at in add.chain(&install.add_unseen) {
            self.plan_entry(&install.job, *due_at, record.revision);
        }
        for (due_at, not_before) in &install.spaced {
            let entry = entry(&install.job, *due_at, record.revision);
            if !self.runs.contains_key(&entry.occurrence) {
                self.space(&entry, *not_before);
            }
        }
        self.let_go(&install.job);
        for (due_at, reason) in &install.skipped {
            let occurrence = Occurrence { job: install.job.clone(), due_at: *due_at };
            // Decided now, if it was due before; else when it would have been.
            self.record_skipped(&occurrence, record.revision, reason, install.at.max(*due_at));
        }
        self.install_after(install, old.as_ref(), moved_from, in_hand);
        Installed::Done
    }

    fn waiting(
        &mut self,
        minute_before: Timestamp,
        half_hour_before: Timestamp,
        limit: usize,
    ) -> Vec<Waiting> {
        let mut found = Vec::new();
        // Only what is near is looked at: the rest may be the whole system.
        let near = self.half_hours.iter().take_while(|(due_at, ..)| *due_at < minute_before).cloned();
        for member in near.collect::<Vec<_>>() {
            if found.len() == limit {
                break;
            }
            let (_, _, Entry { occurrence: Occurrence { job, due_at }, revision }) = &member;
            let placed = Placed { tier: Tier::HalfHour, due_at: *due_at };
            let record = self.jobs.get(job).filter(|record| record.placed == Some(placed));
            if record.is_some_and(|record| record.revision == *revision) {
                found.push(Waiting { job: job.clone(), placed, revision: *revision });
            } else {
                self.half_hours.remove(&member);
            }
        }
        let near = self.horizon.iter().take_while(|(due_at, ..)| *due_at < half_hour_before).cloned();
        for member in near.collect::<Vec<_>>() {
            if found.len() == limit {
                break;
            }
            let (due_at, _, job) = &member;
            let placed = Placed { tier: Tier::Horizon, due_at: *due_at };
            match self.jobs.get(job).filter(|record| record.placed == Some(placed)) {
                Some(record) => {
                    found.push(Waiting { job: job.clone(), placed, revision: record.revision });
                }
                None => drop(self.horizon.remove(&member)),
            }
        }
        found
    }

    fn advance(&mut self, step: &Advance) -> bool {
        let Some(record) = self.jobs.get_mut(&step.job) else { return false };
        if record.revision != step.revision || record.placed != Some(step.from) {
            return false;
        }
        record.placed = step.next;
        self.displace(&step.job, step.revision, Some(&step.from));
        self.place(&step.job, step.revision, step.next.as_ref());
        for due_at in &step.minute {
            self.plan_entry(&step.job, *due_at, step.revision);
        }
        for (due_at, reason) in &step.skipped {
            let occurrence = Occurrence { job: step.job.clone(), due_at: *due_at };
            self.record_skipped(&occurrence, step.revision, reason, *due_at);
        }
        true
    }

    fn place(&mut self, job: &JobId, revision: Revision, placed: Option<&Placed>) {
        match placed {
            Some(Placed { tier: Tier::HalfHour, due_at }) => {
                self.half_hours.insert(sorted(*due_at, &entry(job, *due_at, revision)));
            }
            Some(Placed { tier: Tier::Horizon, due_at }) => {
                self.horizon.insert(sorted(*due_at, job));
            }
            None => {}
        }
    }

    fn displace(&mut self, job: &JobId, revision: Revision, placed: Option<&Placed>) {
        match placed {
            Some(Placed { tier: Tier::HalfHour, due_at }) => {
                self.half_hours.remove(&sorted(*due_at, &entry(job, *due_at, revision)));
            }
            Some(Placed { tier: Tier::Horizon, due_at }) => {
                self.horizon.remove(&sorted(*due_at, job));
            }
            None => {}
        }
    }

    /// Puts an occurrence into the minute tier, unless its run has a record.
    fn plan_entry(&mut self, job: &JobId, due_at: Timestamp, revision: Revision) {
        let entry = entry(job, due_at, revision);
        if !self.runs.contains_key(&entry.occurrence) {
            self.minutes.insert(sorted(due_at, &entry));
        }
    }

    /// Records that an occurrence will never be published, unless its run has a record already.
    pub(super) fn record_skipped(
        &mut self,
        occurrence: &Occurrence,
        revision: Revision,
        reason: &SkipReason,
        at: Timestamp,
    ) {
        if self.runs.contains_key(occurrence) {
            return;
        }
        let record = RunRecord {
            skip_reason: Some(reason.describe().into()),
            ended_at: Some(at),
            ..RunRecord::new(occurrence.clone(), revision, RunState::Skipped)
        };
        self.runs.insert(occurrence.clone(), StoredRun { record, republished: 0 });
        self.note_end(occurrence, History::Skipped);
        let (state, ended_at) = (RunState::Skipped, at);
        self.count(&occurrence.job, &Counted { state, lateness: None, duration: None, ended_at });
        self.trim(&occurrence.job, History::Skipped);
    }
}

fn entry(job: &JobId, due_at: Timestamp, revision: Revision) -> Entry {
    Entry { occurrence: Occurrence { job: job.clone(), due_at }, revision }
}
