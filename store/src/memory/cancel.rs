//! Cancelling in memory.

use model::id::{Entry, Occurrence, Revision};
use model::run::{RunState, WaitsFor};
use model::stats::Counted;
use model::time::Timestamp;

use super::{Shard, sorted};
use crate::keys::History;
use crate::ledger::{CancelMark, CancelOutcome, RunRecord};
use crate::record::StoredRun;

impl Shard {
    pub(super) fn cancel(
        &mut self,
        occurrence: &Occurrence,
        named: bool,
        mark: &CancelMark,
        force: bool,
    ) -> CancelOutcome {
        let Some(run) = self.runs.get(occurrence).map(|run| &run.record) else {
            return self.cancel_planned(occurrence, named, mark);
        };
        match (run.state, run.waits_for) {
            (RunState::Waiting, Some(WaitsFor::Overlap | WaitsFor::Queue)) => {
                let entry = Entry { occurrence: occurrence.clone(), revision: run.revision };
                self.remove_entry(&entry);
                self.end_cancelled(occurrence, mark)
            }
            (RunState::Dispatched, _) if force => self.end_cancelled(occurrence, mark),
            (RunState::Waiting | RunState::Dispatched, _) => self.mark(occurrence, mark),
            (ended, _) => CancelOutcome::Ended(ended),
        }
    }

    /// Cancels a run that has no record.
    fn cancel_planned(&mut self, occurrence: &Occurrence, named: bool, mark: &CancelMark) -> CancelOutcome {
        let Some(job) = self.jobs.get(&occurrence.job) else { return CancelOutcome::Unknown };
        let (revision, limited) = (job.revision, job.overlap.is_some());
        let taken_until = self.cursor.as_ref().map_or(Timestamp::from_ms(-1), |cursor| cursor.taken_until);
        let taken = occurrence.due_at <= taken_until;
        let entry = Entry { occurrence: occurrence.clone(), revision };
        let planned = self.minutes.contains(&sorted(occurrence.due_at, &entry));
        let spaced = self.spaced.iter().find(|(_, _, known)| *known == entry).cloned();
        if let Some(spaced) = spaced {
            self.spaced.remove(&spaced);
            self.open(occurrence, revision);
            return self.end_cancelled(occurrence, mark);
        }
        if !planned && (taken || !named) {
            return CancelOutcome::Unknown;
        }
        if taken && !limited {
            // It may be on its way into the stream.
            self.open(occurrence, revision).waits_for = Some(WaitsFor::Dispatch);
            return self.mark(occurrence, mark);
        }
        self.remove_entry(&entry);
        self.open(occurrence, revision);
        if !taken {
            self.withdrawn.insert(occurrence.clone());
        }
        self.end_cancelled(occurrence, mark)
    }

    fn open(&mut self, occurrence: &Occurrence, revision: Revision) -> &mut RunRecord {
        let new = RunRecord::new(occurrence.clone(), revision, RunState::Waiting);
        &mut self.runs.entry(occurrence.clone()).or_insert(StoredRun::new(new)).record
    }

    fn mark(&mut self, occurrence: &Occurrence, mark: &CancelMark) -> CancelOutcome {
        if let Some(run) = self.runs.get_mut(occurrence) {
            run.record.cancel.get_or_insert_with(|| mark.clone());
            let dispatched = run.record.state == RunState::Dispatched;
            if dispatched && !self.cancelling.iter().any(|(_, _, known)| known == occurrence) {
                self.cancelling.insert(sorted(mark.at, occurrence));
            }
        }
        CancelOutcome::Requested
    }

    fn end_cancelled(&mut self, occurrence: &Occurrence, mark: &CancelMark) -> CancelOutcome {
        self.leave(occurrence);
        self.forget_sent(occurrence);
        self.forget_cancelling(occurrence);
        if let Some(run) = self.runs.get_mut(occurrence) {
            run.record.cancel.get_or_insert_with(|| mark.clone());
            run.record.state = RunState::Cancelled;
            run.record.waits_for = None;
            run.record.ended_at = Some(mark.at);
        }
        let (state, ended_at) = (RunState::Cancelled, mark.at);
        // How late it was and how long it took, nobody knows.
        self.count(&occurrence.job, &Counted { state, lateness: None, duration: None, ended_at });
        self.note_end(occurrence, History::Failed);
        let withdrawn = self.withdrawn.contains(occurrence);
        if !withdrawn {
            self.trim(&occurrence.job, History::Failed);
        }
        let released = self.let_go(&occurrence.job) > 0;
        self.chain(&occurrence.job, if withdrawn { occurrence.due_at } else { mark.at });
        if released { CancelOutcome::CancelledAndReleased } else { CancelOutcome::Cancelled }
    }

    pub(super) fn forget_cancelling(&mut self, occurrence: &Occurrence) -> bool {
        let before = self.cancelling.len();
        self.cancelling.retain(|(_, _, known)| known != occurrence);
        self.cancelling.len() < before
    }
}
