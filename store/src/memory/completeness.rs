//! What an audit asks of the store, in memory.
//!
//! Here `open`, `admitted` and the indices aren't stored but follow from records and entries, so they can't be lost.

use std::sync::PoisonError;

use model::completeness::{Found, Kept};
use model::id::{Entry, Occurrence, Revision};
use model::name::JobId;
use model::run::{RunState, WaitsFor};
use model::shard::ShardId;
use model::time::Timestamp;

use super::{MemoryStore, Shard, Sorted, sorted};
use crate::completeness::{
    Absent, AuditNote, CompletenessStore, EXAMINE_BATCH_MAX, Examined, Holding, Lack, Question, RunList,
};
use crate::error::StoreError;
use crate::keys::History;
use crate::lease::{Epoch, Role};
use crate::record::history_of;

/// Something that somebody takes out by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The occurrence's entry in the minute tier.
    Entry(Occurrence),
    /// The job's place in the coarse tiers; its record still tells of it.
    Place(JobId),
    HeldBack(Occurrence),
    Sent(Occurrence),
    Held(Occurrence),
    Waits(Occurrence),
    Cancelling(Occurrence),
    /// The record of the run.
    Run(Occurrence),
    /// The record of the job.
    Job(JobId),
}

impl CompletenessStore for MemoryStore {
    async fn examine(&self, shard: ShardId, questions: &[Question]) -> Result<Examined, StoreError> {
        let dues: usize = questions.iter().map(|question| question.dues.len().max(1)).sum();
        if dues > EXAMINE_BATCH_MAX {
            return Err(StoreError::Refused(format!(
                "at most {EXAMINE_BATCH_MAX} instants at once, not {dues}"
            )));
        }
        self.on(shard, |shard, now| {
            let jobs = questions.iter().map(|question| shard.holding(question)).collect();
            Ok(Examined { now, cursor: shard.cursor.clone(), jobs })
        })
        .await
    }

    async fn named_runs(
        &self,
        shard: ShardId,
        list: RunList,
        _: u64,
    ) -> Result<(Vec<Occurrence>, Option<u64>), StoreError> {
        self.on(shard, |shard, _| {
            let runs = match list {
                RunList::Sent => shard.sent.iter().map(|(_, _, run)| run.clone()).collect(),
                RunList::Held => shard.held.iter().map(|(_, _, entry)| entry.occurrence.clone()).collect(),
                RunList::Open => {
                    let open = shard.runs.iter().filter(|(_, run)| !run.record.state.is_end());
                    open.map(|(run, _)| run).filter(|run| !holds(&shard.waits, run)).cloned().collect()
                }
                RunList::Triggered => shard.asked.triggered(),
                RunList::Backfilled => shard.asked.backfilled(),
            };
            Ok((runs, None))
        })
        .await
    }

    async fn mend(
        &self,
        shard: ShardId,
        epoch: Option<Epoch>,
        since: Timestamp,
        runs: &[Occurrence],
    ) -> Result<Vec<Lack>, StoreError> {
        let mend = |shard: &mut Shard, now| {
            let mut lacks = Vec::new();
            for run in runs {
                shard.mend(run, epoch.is_some(), since, now, &mut lacks);
            }
            Ok(lacks)
        };
        match epoch {
            Some(epoch) => self.fenced(shard, Role::Planner, epoch, mend).await,
            None => self.on(shard, mend).await,
        }
    }

    async fn note_audit(&self, shard: ShardId, epoch: Epoch, note: &AuditNote) -> Result<(), StoreError> {
        self.fenced(shard, Role::Planner, epoch, |shard, _| {
            let before = shard.audit.take().unwrap_or_default();
            shard.audit = Some(AuditNote {
                found: before.found + note.found,
                mended: before.mended + note.mended,
                last_found: note.last_found.clone().or(before.last_found),
                ..note.clone()
            });
            Ok(())
        })
        .await
    }

    async fn audit_notes(&self, shards: &[ShardId]) -> Result<Vec<Option<AuditNote>>, StoreError> {
        self.act(|state, _| {
            let note = |id| state.shards.get(id).and_then(|shard| shard.audit.clone());
            Ok(shards.iter().map(note).collect())
        })
        .await
    }
}

impl MemoryStore {
    /// Takes something out, as a person with `redis-cli` would; `false`: it wasn't there.
    pub fn lose(&self, shard: ShardId, loss: &Loss) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.shards.entry(shard).or_default().lose(loss)
    }
}

fn take_out(tier: &mut Sorted<Entry>, occurrence: &Occurrence) -> bool {
    let before = tier.len();
    tier.retain(|(_, _, entry)| entry.occurrence != *occurrence);
    tier.len() < before
}

fn holds(tier: &Sorted<Entry>, occurrence: &Occurrence) -> bool {
    tier.iter().any(|(_, _, entry)| entry.occurrence == *occurrence)
}

/// The same for a tier that is in order of due.
fn holds_due(tier: &Sorted<Entry>, occurrence: &Occurrence) -> bool {
    let due_at = occurrence.due_at;
    let first = Entry { occurrence: occurrence.clone(), revision: Revision(0) };
    let from = tier.range((due_at, String::new(), first)..);
    from.take_while(|(due, ..)| *due == due_at).any(|(_, _, entry)| entry.occurrence == *occurrence)
}

impl Shard {
    fn lose(&mut self, loss: &Loss) -> bool {
        match loss {
            Loss::Entry(run) => take_out(&mut self.minutes, run),
            Loss::HeldBack(run) => take_out(&mut self.spaced, run),
            Loss::Held(run) => take_out(&mut self.held, run),
            Loss::Waits(run) => take_out(&mut self.waits, run),
            Loss::Sent(run) => self.forget_sent(run),
            Loss::Cancelling(run) => self.forget_cancelling(run),
            Loss::Run(run) => self.runs.remove(run).is_some(),
            Loss::Job(job) => self.jobs.remove(job).is_some(),
            Loss::Place(job) => {
                let before = self.horizon.len() + self.half_hours.len();
                self.horizon.retain(|(_, _, known)| known != job);
                self.half_hours.retain(|(_, _, entry)| entry.occurrence.job != *job);
                self.horizon.len() + self.half_hours.len() < before
            }
        }
    }

    fn holding(&self, question: &Question) -> Option<Holding> {
        let Question { job, revision, dues } = question;
        let record = self.jobs.get(job).filter(|record| record.revision == *revision)?;
        let is_there = |due_at: Timestamp| {
            let entry = Entry { occurrence: Occurrence { job: job.clone(), due_at }, revision: *revision };
            self.horizon.contains(&sorted(due_at, job)) || self.half_hours.contains(&sorted(due_at, &entry))
        };
        let is_busy = self.standing(job) != model::overlap::Standing::default();
        let may_follow = record.after.is_some_and(|after| after.last.is_none() || record.after_due.is_some());
        let found = |due_at: &Timestamp| self.found(&Occurrence { job: job.clone(), due_at: *due_at });
        let found: Vec<Found> = dues.iter().map(found).collect();
        let place_due = record.placed.map(|placed| placed.due_at);
        let is_whole =
            dues.iter().zip(&found).all(|(due, found)| *found != Found::Nothing || Some(*due) == place_due);
        Some(Holding {
            placed: record.placed.map(|placed| (placed, is_there(placed.due_at))),
            newest_change: self.changes.get(job).and_then(|all| all.front()).filter(|_| !is_whole).cloned(),
            broken_off: may_follow && !is_busy && self.planned_after(job, record).is_none(),
            histories: if is_whole {
                Default::default()
            } else {
                History::ALL.map(|kind| self.kept(job, kind))
            },
            found,
        })
    }

    fn found(&self, run: &Occurrence) -> Found {
        match self.runs.get(run).map(|run| &run.record) {
            Some(record) => Found::Run { state: record.state, reason: record.skip_reason.clone() },
            None if holds_due(&self.minutes, run) => Found::Entry,
            None if holds(&self.spaced, run) => Found::HeldBack,
            None => Found::Nothing,
        }
    }

    fn kept(&self, job: &JobId, kind: History) -> Kept {
        let on_list = |run: &Occurrence| !self.withdrawn.contains(run);
        let mut list = self
            .runs_of(job)
            .filter(|(run, stored)| history_of(stored.record.state) == Some(kind) && on_list(run))
            .map(|(run, _)| run.due_at);
        let oldest = list.next();
        let kept = u64::from(oldest.is_some()) + list.count() as u64;
        let stats = self.stats.get(job).cloned().unwrap_or_default();
        let withdrawn = self.withdrawn.iter().filter(|run| run.job == *job).count() as u64;
        let ended = match kind {
            History::Succeeded => stats.succeeded,
            History::Failed => (stats.failed + stats.cancelled).saturating_sub(withdrawn),
            History::Skipped => stats.skipped,
        };
        Kept { limit: 0, kept, ended, oldest }
    }

    fn mend(
        &mut self,
        run: &Occurrence,
        mends: bool,
        since: Timestamp,
        now: Timestamp,
        lacks: &mut Vec<Lack>,
    ) {
        let entry = |revision: Revision| Entry { occurrence: run.clone(), revision };
        let mut lack = |absent, mended| lacks.push(Lack { run: run.clone(), absent, mended });
        let Some(record) = self.runs.get(run).map(|stored| stored.record.clone()) else {
            let is_open = self.sent.iter().any(|(_, _, known)| known == run);
            let is_backfilled = self.asked.is_backfilled(run);
            let is_asked = is_backfilled || self.asked.is_triggered(run);
            let present = self.jobs.get(&run.job).map(|record| record.revision);
            let has_entry = holds_due(&self.minutes, run);
            if is_open && has_entry {
                lack(Absent::Record, mends);
                if mends {
                    self.forget_sent(run);
                    self.forget_cancelling(run);
                }
            } else if is_open || is_asked && !has_entry && !holds(&self.spaced, run) {
                let is_late = run.due_at <= since && (is_open || !is_backfilled);
                let revision = present.filter(|_| mends && !is_late);
                lack(if is_open { Absent::Record } else { Absent::Entry }, revision.is_some());
                if let Some(revision) = revision {
                    self.forget_sent(run);
                    self.forget_cancelling(run);
                    self.minutes.insert(sorted(run.due_at, &entry(revision)));
                }
            }
            return;
        };
        let entry = entry(record.revision);
        match (record.state, record.waits_for) {
            (RunState::Dispatched, _) => {
                if !self.sent.iter().any(|(_, _, known)| known == run) {
                    lack(Absent::Sent, mends);
                    if mends {
                        self.sent.insert(sorted(now, run));
                    }
                }
                let is_known = self.cancelling.iter().any(|(_, _, known)| known == run);
                if record.cancel.is_some() && !is_known {
                    lack(Absent::Cancelling, mends);
                    if mends {
                        self.cancelling.insert(sorted(now, run));
                    }
                }
            }
            (RunState::Waiting, _) if self.minutes.contains(&sorted(run.due_at, &entry)) => {}
            (RunState::Waiting, Some(WaitsFor::Queue)) if !holds(&self.held, run) => {
                lack(Absent::Held, mends);
                if mends {
                    self.held.insert(sorted(run.due_at, &entry));
                }
            }
            (RunState::Waiting, Some(WaitsFor::Overlap)) if !holds(&self.waits, run) => {
                lack(Absent::Waits, mends);
                if mends {
                    self.waits.insert(sorted(run.due_at, &entry));
                    self.let_go(&run.job);
                }
            }
            (RunState::Waiting, Some(WaitsFor::Dispatch) | None) => {
                lack(Absent::Entry, mends);
                if mends {
                    self.minutes.insert(sorted(run.due_at, &entry));
                }
            }
            (RunState::Waiting, Some(WaitsFor::Queue | WaitsFor::Overlap)) => {}
            (RunState::Succeeded | RunState::DeadLettered | RunState::Cancelled | RunState::Skipped, _) => {}
        }
    }
}
