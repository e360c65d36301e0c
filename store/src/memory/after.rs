//! Jobs that run a while after their last run has ended, in memory.

use model::id::{Entry, Occurrence, Revision};
use model::name::JobId;
use model::time::Timestamp;

use super::{Shard, sorted};
use crate::plan::{Install, JobRecord};

impl Shard {
    /// After the end of a run: plans the next one if its job asks for that, nothing else of it is under way or waits, and
    /// none is planned. Answers with when it is due.
    pub(super) fn chain(&mut self, job: &JobId, ended_at: Timestamp) -> Option<Timestamp> {
        let record = self.jobs.get(job)?;
        let (after, revision) = (record.after?, record.revision);
        if self.is_busy(job) || self.planned_after(job, record).is_some() {
            return None;
        }
        self.plan_after(job, revision, ended_at.plus(after.delay))
    }

    fn is_busy(&self, job: &JobId) -> bool {
        self.standing(job) != model::overlap::Standing::default()
    }

    /// The entry of the occurrence that was planned last, if it still waits.
    pub(super) fn planned_after(&self, job: &JobId, record: &JobRecord) -> Option<Entry> {
        let occurrence = Occurrence { job: job.clone(), due_at: record.after_due? };
        let entry = Entry { occurrence, revision: record.revision };
        self.minutes.contains(&sorted(entry.occurrence.due_at, &entry)).then_some(entry)
    }

    fn plan_after(&mut self, job: &JobId, revision: Revision, due_at: Timestamp) -> Option<Timestamp> {
        let last = self.jobs.get(job)?.after?.last;
        let due = (0..1_000).map(|ms| due_at.plus_ms(ms)).find(|due_at| {
            let run = Occurrence { job: job.clone(), due_at: *due_at };
            last.is_none_or(|last| *due_at <= last) && !self.runs.contains_key(&run)
        });
        if let Some(due_at) = due {
            let entry = Entry { occurrence: Occurrence { job: job.clone(), due_at }, revision };
            self.minutes.insert(sorted(due_at, &entry));
        }
        if let Some(record) = self.jobs.get_mut(job) {
            record.after_due = due;
        }
        due
    }

    /// Of an install: what becomes of the occurrence that was planned under the old record.
    pub(super) fn install_after(
        &mut self,
        install: &Install,
        old: Option<&JobRecord>,
        moved_from: Option<Timestamp>,
        taken: Option<Entry>,
    ) {
        let Some(record) = self.jobs.get(&install.job) else { return };
        let (revision, after) = (record.revision, record.after);
        let (Some(after), Some(first)) = (after, install.after_first) else { return };
        let before = old.and_then(|old| old.after).map(|old| old.delay);
        match (moved_from, before) {
            (Some(due_at), Some(before)) if before != after.delay => {
                let ended_at = due_at.plus_ms(-model::time::duration_ms(before));
                self.plan_after(&install.job, revision, install.at.max(ended_at.plus(after.delay)));
            }
            (Some(due_at), _) => {
                self.plan_after(&install.job, revision, due_at);
            }
            (None, _) if taken.is_none() && !self.is_busy(&install.job) => {
                self.plan_after(&install.job, revision, first);
            }
            (None, _) => {
                // The dispatcher has it in its hands.
                if let Some(record) = self.jobs.get_mut(&install.job) {
                    record.after_due = old.and_then(|old| old.after_due);
                }
            }
        }
    }
}
