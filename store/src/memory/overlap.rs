//! Runs that wait, in memory: for an earlier run of their job, for their queue, or to be published.

use model::dispatch::Admission;
use model::id::{Entry, Occurrence};
use model::name::JobId;
use model::overlap::{self, Standing, Verdict};
use model::run::{RunState, SkipReason, WaitsFor};
use model::stats::Counted;
use model::time::Timestamp;

use super::{Shard, Sorted, sorted};
use crate::keys::History;
use crate::ledger::{Claim, Park, RunRecord, Wait};
use crate::record::StoredRun;

fn holds(tier: &Sorted<Entry>, occurrence: &Occurrence) -> bool {
    tier.iter().any(|(_, _, entry)| entry.occurrence == *occurrence)
}

impl Shard {
    /// How many runs of a job are under way and how many wait for one of them.
    pub(super) fn standing(&self, job: &JobId) -> Standing {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let (active, waiting) = (self.under_way(job).count(), self.waiting_runs(job).len());
        Standing { active: count(active), waiting: count(waiting) }
    }

    /// The runs of a job that are under way, earliest due first.
    pub(super) fn under_way(&self, job: &JobId) -> impl Iterator<Item = &Occurrence> {
        let open = self.runs_of(job).filter(|(_, run)| !run.record.state.is_end());
        open.map(|(occurrence, _)| occurrence).filter(|occurrence| !holds(&self.waits, occurrence))
    }

    /// The occurrences of a job that wait for an earlier run, earliest first.
    pub(super) fn waiting_runs(&self, job: &JobId) -> Vec<Occurrence> {
        let entries = self.waits.iter().map(|(_, _, entry)| &entry.occurrence);
        entries.filter(|occurrence| occurrence.job == *job).cloned().collect()
    }

    /// How far the run of an entry in the minute tier has come.
    pub(super) fn admission(&self, occurrence: &Occurrence) -> Admission {
        let run = self.runs.get(occurrence).map(|run| &run.record);
        // Another entry of a run that waits elsewhere is nothing yet.
        let here = |run: &&RunRecord| {
            run.state == RunState::Waiting
                && !holds(&self.waits, occurrence)
                && !holds(&self.held, occurrence)
        };
        match run.filter(here) {
            None => Admission::Fresh,
            Some(RunRecord { waits_for: Some(WaitsFor::Dispatch), triggered, .. }) => {
                Admission::Claimed { triggered: *triggered }
            }
            Some(RunRecord { triggered, .. }) => Admission::Released { triggered: *triggered },
        }
    }

    /// Whether its run waits under this very entry.
    pub(super) fn waits_under(&self, entry: &Entry) -> bool {
        let run = self.runs.get(&entry.occurrence);
        run.is_some_and(|run| run.record.state == RunState::Waiting && run.record.revision == entry.revision)
    }

    pub(super) fn claim(&mut self, claim: &Claim) -> bool {
        let Claim { entry, revision, triggered } = claim;
        if !self.minutes.contains(&sorted(entry.occurrence.due_at, entry)) {
            return false;
        }
        let admitted = self.waits_under(entry);
        if !admitted && self.runs.contains_key(&entry.occurrence) {
            self.remove_entry(entry);
            return false;
        }
        let job = &entry.occurrence.job;
        let Some(record) = self.jobs.get(job).filter(|record| record.revision == *revision) else {
            return false;
        };
        if !admitted && record.overlap.is_some_and(|rule| !self.has_room(job, rule)) {
            self.let_go(job);
            return false;
        }
        self.remove_entry(entry);
        let entry = Entry { occurrence: entry.occurrence.clone(), revision: *revision };
        self.minutes.insert(sorted(entry.occurrence.due_at, &entry));
        self.wait(&entry, WaitsFor::Dispatch, *triggered);
        true
    }

    pub(super) fn park(&mut self, park: &Park) -> bool {
        let Park { entry, wait, triggered, at } = park;
        let job = &entry.occurrence.job;
        if !self.minutes.contains(&sorted(entry.occurrence.due_at, entry)) {
            return false;
        }
        let admitted = self.waits_under(entry);
        if !admitted && self.runs.contains_key(&entry.occurrence) {
            self.remove_entry(entry);
            return false;
        }
        match wait {
            Wait::Queue => {
                self.remove_entry(entry);
                self.held.insert(sorted(entry.occurrence.due_at, entry));
                self.wait(entry, WaitsFor::Queue, *triggered);
                true
            }
            Wait::Overlap { newest_only } => {
                let rule = self.jobs.get(job).and_then(|record| record.overlap);
                if admitted || rule.is_none_or(|rule| self.has_room(job, rule)) {
                    return false;
                }
                self.remove_entry(entry);
                self.waits.insert(sorted(entry.occurrence.due_at, entry));
                self.wait(entry, WaitsFor::Overlap, *triggered);
                if *newest_only {
                    let waiting = self.waiting_runs(job);
                    for older in &waiting[..waiting.len() - 1] {
                        self.skip_waiting(older, &SkipReason::Coalesced, *at);
                    }
                }
                self.let_go(job);
                true
            }
        }
    }

    /// Whether an occurrence may start beside those under way, without overtaking one that waits.
    fn has_room(&self, job: &JobId, rule: overlap::Rule) -> bool {
        overlap::decide(rule, self.standing(job)) == Verdict::Start
    }

    /// Lets a run wait under this entry.
    fn wait(&mut self, entry: &Entry, waits_for: WaitsFor, triggered: bool) {
        let new = |occurrence: &Occurrence| StoredRun {
            record: RunRecord::new(occurrence.clone(), entry.revision, RunState::Waiting),
            republished: 0,
        };
        let run = &mut self.runs.entry(entry.occurrence.clone()).or_insert_with_key(new).record;
        run.revision = entry.revision;
        run.waits_for = Some(waits_for);
        run.triggered |= triggered;
    }

    /// Takes a run out of wherever it waits for others.
    pub(super) fn leave(&mut self, occurrence: &Occurrence) {
        for tier in [&mut self.waits, &mut self.held] {
            tier.retain(|(_, _, entry)| entry.occurrence != *occurrence);
        }
    }

    /// Ends a waiting run as skipped.
    pub(super) fn skip_waiting(&mut self, occurrence: &Occurrence, reason: &SkipReason, at: Timestamp) {
        self.leave(occurrence);
        if let Some(run) = self.runs.get_mut(occurrence) {
            run.record.state = RunState::Skipped;
            run.record.waits_for = None;
            run.record.skip_reason = Some(reason.describe().into());
            run.record.ended_at = Some(at);
        }
        self.note_end(occurrence, History::Skipped);
        let (state, ended_at) = (RunState::Skipped, at);
        self.count(&occurrence.job, &Counted { state, lateness: None, duration: None, ended_at });
        self.trim(&occurrence.job, History::Skipped);
    }

    /// Lets go as many of a job's waiting runs as its rule has room for; answers with how many.
    pub(super) fn let_go(&mut self, job: &JobId) -> u32 {
        let limit = self.jobs.get(job).and_then(|record| record.overlap).map(|rule| rule.limit);
        let released = self.standing(job).released(limit);
        let (mut left, mut gone) = (released, Vec::new());
        self.waits.retain(|(_, _, entry)| {
            if left == 0 || entry.occurrence.job != *job {
                return true;
            }
            left -= 1;
            gone.push(entry.clone());
            false
        });
        self.minutes.extend(gone.iter().map(|entry| sorted(entry.occurrence.due_at, entry)));
        released
    }

    pub(super) fn unpark(&mut self, occurrence: &Occurrence) -> bool {
        let found = self.held.iter().find(|(_, _, entry)| entry.occurrence == *occurrence).cloned();
        let Some(held) = found else { return false };
        self.held.remove(&held);
        self.minutes.insert(held);
        true
    }
}
