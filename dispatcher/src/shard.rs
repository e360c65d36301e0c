//! One pass over one shard: take → decide → (claim →) (gate →) publish → confirm.
//!
//! Nothing leaves the minute tier before its fate is certain, so a crash after any step is repaired by taking again:
//! the same ids are published and JetStream drops the copies.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ambient::Clock;
use bus::order::Publication;
use bus::runs::PUBLISH_BATCH_MAX;
use bus::{BusError, EventReader, Nudge, ObjectStore, RunStream};
use model::dispatch::{skip_missed, space_missed};
use model::id::{Entry, Revision};
use model::misfire::Interruption;
use model::name::JobId;
use model::run::{Generation, SkipReason};
use model::time::Timestamp;
use store::control::ControlStore;
use store::ledger::{CancelOutcome, Claim, LedgerStore, Sent, Skip, TakenEntry};
use store::ownership::Lease;
use store::plan::PlanStore;
use store::{ChangeStore, GateStore, SpaceStore, StoreError};

use crate::admit::{Replaced, decide_all};
use crate::asked::Asked;
use crate::barrier::Barrier;
use crate::cancel;
use crate::gate::{DueRun, Gates};
use crate::jobs::{Jobs, KnownJob};
use crate::order::publication;
use crate::turns::Turns;

/// Entries are taken this long before they are due, so that the store is off the critical path. Less the grid on which
/// passes begin (`service`), it is the time that `take` has.
pub const TAKE_AHEAD: Duration = Duration::from_millis(16);
/// A shard is looked at this often even if nothing seems due: the back-up of nudges. A shard that is taken over counts as
/// unattended since its last look, so it must leave room within `INTERRUPTION_MIN` for a lease to run out.
pub const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// When to start worrying about a published run: by then a healthy executor has usually reported.
pub const WORRY_AFTER: Duration = Duration::from_secs(15);

/// A shard that nobody looked at for longer has stood still, if only for a moment: what its catch-ups had spaced out
/// would come all at once. More than `POLL_INTERVAL` and the pass that it began, less than two of them.
const STANDSTILL_MIN: Duration = Duration::from_millis(1_500);

/// How soon a shard is looked at again whose planner hasn't caught up with an interruption.
const UNPLANNED_DELAY: Duration = Duration::from_millis(100);

/// What a pass did, and when the next one should come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ShardReport {
    pub published: usize,
    pub skipped: usize,
    /// Runs that wait: for an earlier one of their job, or for a place in their queue.
    pub parked: usize,
    /// Their state changed while they were decided about: look again at once.
    pub undecided: usize,
    /// Publishes that must be tried again: refused, failed or unknown.
    pub unpublished: usize,
    /// More is due already.
    pub more: bool,
    /// When a run that is being cancelled must be seen to, if there is one.
    pub cancels_at: Option<Timestamp>,
    /// The earliest due instant that is known, if any.
    pub next_due: Option<Timestamp>,
    /// Everything due up to here is published or skipped.
    pub dispatched_until: Option<Timestamp>,
}

/// Why a pass couldn't go through. Every step is safe to repeat.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error("settle the outcomes that came before: the settlers haven't caught up yet")]
    OutcomesBehind,
}

/// A shard in this dispatcher's hands.
#[derive(Debug)]
pub struct ShardDispatch<S, B> {
    pub(crate) store: Arc<S>,
    pub(crate) bus: Arc<B>,
    pub(crate) clock: Clock,
    pub(crate) jobs: Jobs,
    gates: Gates<S, B>,
    pub(crate) message_id_key: [u8; 16],
    pub(crate) lease: Lease,
    barrier: Barrier,
    turns: Turns,
    /// How far the shard is taken; unknown until the first pass.
    taken_until: Option<Timestamp>,
    /// The end of the newest interruption that was decided about. Draining what it left to run takes a while, and that
    /// is lateness, no new interruption.
    recovered_until: Option<Timestamp>,
    /// Why something stayed unpublished, last time.
    pub(crate) last_problem: Option<String>,
    /// Entries due up to here may have been published by somebody who couldn't tell us.
    unresolved: bool,
    /// What the runs that are being published bring along.
    asked: Asked,
}

impl<S, B> ShardDispatch<S, B>
where
    S: PlanStore + LedgerStore + SpaceStore + ChangeStore + ControlStore + GateStore,
    B: RunStream + EventReader + ObjectStore + Nudge,
{
    #[must_use]
    pub fn new(
        gates: Gates<S, B>,
        jobs: Jobs,
        message_id_key: [u8; 16],
        lease: Lease,
        barrier: Barrier,
    ) -> Self {
        Self {
            store: Arc::clone(&gates.store),
            bus: Arc::clone(&gates.bus),
            clock: gates.clock.clone(),
            gates,
            jobs,
            message_id_key,
            lease,
            barrier,
            turns: Turns::default(),
            taken_until: None,
            recovered_until: None,
            last_problem: None,
            unresolved: true,
            asked: Asked::default(),
        }
    }

    /// The same, in line with other shards.
    #[must_use]
    pub(crate) fn in_line(self, turns: Turns) -> Self {
        Self { turns, ..self }
    }

    /// One pass at `now`, or at the instant at which it may begin.
    pub async fn run_once(&mut self, now: Timestamp) -> Result<ShardReport, PassError> {
        if !self.bus.connected() {
            // Nothing is taken while nothing can be published: the interruption is then what nobody took.
            self.unresolved = true;
            return Err(BusError::Failed("not connected".into()).into());
        }
        if !self.gates.rules.are_known() {
            self.gates.rules.refresh(&*self.bus).await?;
        }
        if self.unresolved {
            if !self.barrier.pass(&*self.bus).await? {
                return Err(PassError::OutcomesBehind);
            }
            self.unresolved = false;
        }
        // The barrier may have taken a while, and what was missed is spaced out from its end on.
        let now = now.max(self.clock.now());
        let mut report = ShardReport::default();
        if !self.recover_interruption(now, &mut report).await? {
            // The planner is about to plan it: look again soon, not at the next poll.
            report.next_due = Some(now.plus(UNPLANNED_DELAY));
            return Ok(report);
        }
        let until = now.plus(TAKE_AHEAD);
        let taken = self.store.take(self.lease.shard, self.lease.epoch, until, PUBLISH_BATCH_MAX).await?;
        self.taken_until = Some(taken.taken_until);
        report.next_due = taken.next_due;
        report.cancels_at = taken.cancels_at;
        report.more = taken.entries.len() >= PUBLISH_BATCH_MAX;
        if !taken.entries.is_empty() {
            let turn = self.turns.next(&self.clock, taken.entries.len()).await;
            let publish = self.prepare(taken.entries, taken.taken_before, now, &mut report).await?;
            drop(turn);
            self.publish(publish, &mut report).await?;
        }
        if report.unpublished == 0 && report.undecided == 0 {
            // Others may be due at the very instant of the last one taken.
            let through = if report.more { taken.taken_until.plus_ms(-1) } else { taken.taken_until };
            report.dispatched_until = Some(through);
        }
        Ok(report)
    }

    /// If nobody took this shard for long, each job's catch-up decides about what was missed, before any of it is
    /// taken. `false`: the planner has yet to plan the time that was missed.
    async fn recover_interruption(
        &mut self,
        now: Timestamp,
        report: &mut ShardReport,
    ) -> Result<bool, PassError> {
        let shard = self.lease.shard;
        let decided = self.taken_until.max(self.recovered_until);
        let known = match decided {
            Some(until) if Interruption::between(until, now).is_none() => {
                if now > until.plus(STANDSTILL_MIN) {
                    self.store.delay_spaced(shard, self.lease.epoch, now).await?;
                }
                return Ok(true);
            }
            Some(_) | None => self.store.cursor(shard).await?.ok_or(StoreError::Fenced)?,
        };
        self.taken_until = Some(known.taken_until);
        let since = known.taken_until.max(self.recovered_until.unwrap_or(known.taken_until));
        let interruption = Interruption::between(since, now).filter(|_| !known.is_beginning(since, now));
        let Some(interruption) = interruption else {
            self.store.delay_spaced(shard, self.lease.epoch, now).await?;
            return Ok(true);
        };
        if known.planned_until <= now {
            return Ok(false);
        }
        // An earlier catch-up goes on where it stopped. Before this one's are put behind it.
        self.store.delay_spaced(shard, self.lease.epoch, interruption.until).await?;
        let missed = self.missed(interruption).await?;
        let (skips, spaced) = self.decide_missed(&missed, interruption).await?;
        if !missed.is_empty() {
            tracing::info!(
                %shard, since = %interruption.since, missed = missed.len(), skipped = skips.len(),
                "catching up after an interruption"
            );
        }
        report.skipped += skips.len();
        for batch in skips.chunks(PUBLISH_BATCH_MAX) {
            self.store.skip(shard, self.lease.epoch, batch).await?;
        }
        // One call for each job, so that a crash leaves each spaced or not, never begun anew halfway.
        for entries in spaced {
            self.store.space(shard, self.lease.epoch, &entries).await?;
        }
        self.store.note_interruption(shard, self.lease.epoch, interruption).await?;
        self.recovered_until = Some(interruption.until);
        Ok(true)
    }

    async fn missed(&self, interruption: Interruption) -> Result<Vec<Entry>, PassError> {
        let mut missed: Vec<Entry> = Vec::new();
        let mut after = interruption.since;
        loop {
            let (shard, epoch) = (self.lease.shard, self.lease.epoch);
            let page = self.store.missed(shard, epoch, after, interruption.until, PUBLISH_BATCH_MAX).await?;
            let full = page.len() >= PUBLISH_BATCH_MAX;
            // An entry of another revision than its job's is the business of `decide`.
            let current = |taken: &TakenEntry| taken.job_revision == Some(taken.entry.revision);
            if let Some(last) = page.last() {
                after = last.entry.occurrence.due_at;
            }
            missed.extend(page.into_iter().filter(current).map(|taken| taken.entry));
            if !full {
                return Ok(missed);
            }
        }
    }

    /// Which of the missed entries don't run, and which of the others have to wait for how long, by their jobs.
    async fn decide_missed(
        &self,
        missed: &[Entry],
        interruption: Interruption,
    ) -> Result<(Vec<Skip>, Vec<Vec<(Entry, Timestamp)>>), PassError> {
        let wanted: Vec<(JobId, Revision)> =
            missed.iter().map(|entry| (entry.occurrence.job.clone(), entry.revision)).collect();
        let known = self.jobs.at(&*self.store, self.lease.shard, &wanted).await?;
        let rules: std::collections::HashMap<&JobId, Arc<KnownJob>> = wanted
            .iter()
            .zip(known)
            .filter_map(|((job, _), known)| known.map(|known| (job, known)))
            .collect();
        // What somebody asked for runs whatever its job's catch-up says: that is about what a schedule names.
        let is_named = |entry: &&Entry| {
            let known = rules.get(&entry.occurrence.job);
            known.is_none_or(|known| known.timeline.names(entry.occurrence.due_at))
        };
        let missed: Vec<&Entry> = missed.iter().filter(is_named).collect();
        let due: Vec<(JobId, Timestamp)> =
            missed.iter().map(|entry| (entry.occurrence.job.clone(), entry.occurrence.due_at)).collect();
        let rule = |job: &JobId| rules.get(job).map(|known| &known.spec.catch_up);
        let at = interruption.until;
        let skipped: BTreeMap<usize, SkipReason> =
            skip_missed(&due, interruption, &rule).into_iter().collect();
        let kept: Vec<usize> = (0..missed.len()).filter(|index| !skipped.contains_key(index)).collect();
        let run: Vec<(JobId, Timestamp)> = kept.iter().map(|index| due[*index].clone()).collect();
        let mut spaced: BTreeMap<&JobId, Vec<(Entry, Timestamp)>> = BTreeMap::new();
        for (index, not_before) in space_missed(&run, at, &rule) {
            let entry = &missed[kept[index]];
            spaced.entry(&entry.occurrence.job).or_default().push((Entry::clone(entry), not_before));
        }
        let skip = |(index, reason): (usize, SkipReason)| Skip { entry: missed[index].clone(), reason, at };
        Ok((skipped.into_iter().map(skip).collect(), spaced.into_values().collect()))
    }

    /// Decides about what was taken; answers with what may be published, in order.
    async fn prepare(
        &mut self,
        entries: Vec<TakenEntry>,
        taken_before: Timestamp,
        now: Timestamp,
        report: &mut ShardReport,
    ) -> Result<Vec<DueRun>, PassError> {
        let shard = self.lease.shard;
        let wanted: Vec<(JobId, Revision)> = entries
            .iter()
            .map(|taken| (taken.entry.occurrence.job.clone(), taken.job_revision.unwrap_or_default()))
            .collect();
        let known = self.jobs.at(&*self.store, shard, &wanted).await?;
        self.asked = Asked::of_taken(&*self.store, shard, &entries, &known, now).await?;
        let decided = decide_all(entries.into_iter().zip(known), &self.asked, taken_before, now);
        report.unpublished += decided.changed;
        report.skipped += decided.skips.len();
        report.undecided += decided.made_room;
        if !decided.skips.is_empty() {
            self.store.skip(shard, self.lease.epoch, &decided.skips).await?;
        }
        self.gates.leave_all(decided.left).await?;
        if !decided.drops.is_empty() {
            self.store.drop_entries(shard, self.lease.epoch, &decided.drops).await?;
        }
        // Before those that wait for them are parked: after a crash in between, the same is decided again.
        for (job, replaced) in &decided.replaced {
            self.make_room(job, replaced, now, report).await?;
        }
        if !decided.parks.is_empty() {
            let parked = self.store.park(shard, self.lease.epoch, &decided.parks).await?;
            report.parked += parked.iter().filter(|parked| **parked).count();
            report.undecided += parked.iter().filter(|parked| !**parked).count();
        }
        let mut publish = decided.publish;
        publish.extend(self.claim(decided.claims, report).await?);
        publish.sort_by_key(|(entry, _)| entry.occurrence.due_at);
        let passed = self.gates.pass(&self.lease, publish).await?;
        report.parked += passed.parked;
        report.undecided += passed.undecided;
        Ok(passed.publish)
    }

    /// Cancels the oldest runs of a job, so that a newer one may take their place.
    async fn make_room(
        &self,
        job: &JobId,
        replaced: &Replaced,
        now: Timestamp,
        report: &mut ShardReport,
    ) -> Result<(), PassError> {
        let shard = self.lease.shard;
        let under_way = self.store.under_way(shard, job).await?;
        let surplus = (under_way.len() + 1).saturating_sub(replaced.limit as usize);
        let mut ended = Vec::new();
        for run in &under_way[..surplus.min(under_way.len())] {
            match self.store.cancel(shard, run, true, &cancel::replaced(now), false).await? {
                CancelOutcome::Requested => report.cancels_at = Some(now),
                CancelOutcome::CancelledAndReleased => {
                    report.undecided += 1;
                    ended.push(run.clone());
                }
                CancelOutcome::Cancelled => ended.push(run.clone()),
                CancelOutcome::Ended(_) | CancelOutcome::Unknown => {}
            }
        }
        if !ended.is_empty() {
            self.gates.leave(&replaced.queue, &ended).await?;
        }
        Ok(())
    }

    /// Claims runs; answers with those that may be published.
    async fn claim(
        &self,
        claims: Vec<(Claim, Arc<KnownJob>)>,
        report: &mut ShardReport,
    ) -> Result<Vec<DueRun>, PassError> {
        if claims.is_empty() {
            return Ok(Vec::new());
        }
        let (claims, jobs): (Vec<Claim>, Vec<Arc<KnownJob>>) = claims.into_iter().unzip();
        let claimed = self.store.claim(self.lease.shard, self.lease.epoch, &claims).await?;
        let mut publish = Vec::with_capacity(claims.len());
        for ((claim, job), claimed) in claims.into_iter().zip(jobs).zip(claimed) {
            if claimed {
                let entry = Entry { occurrence: claim.entry.occurrence, revision: claim.revision };
                publish.push((entry, job));
            } else {
                report.undecided += 1;
            }
        }
        Ok(publish)
    }

    /// Publishes each entry at its due instant and confirms what arrived.
    async fn publish(&mut self, entries: Vec<DueRun>, report: &mut ShardReport) -> Result<(), PassError> {
        let mut rest = entries.as_slice();
        while let Some((first, _)) = rest.first() {
            // Entries of the same instant, or whose instant has passed, go out together.
            self.clock.sleep_until(first.occurrence.due_at).await;
            let now = self.clock.now();
            let due = rest.iter().take_while(|(entry, _)| entry.occurrence.due_at <= now).count().max(1);
            let (batch, later) = rest.split_at(due);
            rest = later;
            if !self.lease.is_valid() {
                return Err(StoreError::Fenced.into());
            }
            self.publish_batch(batch, report).await?;
        }
        Ok(())
    }

    async fn publish_batch(&mut self, batch: &[DueRun], report: &mut ShardReport) -> Result<(), PassError> {
        let now = self.clock.now();
        let publications: Vec<Publication> = batch
            .iter()
            .map(|(entry, job)| {
                let run = &entry.occurrence;
                self.asked
                    .apply(run, publication(run.clone(), job, &self.message_id_key, Generation(0), 0, now))
            })
            .collect();
        let answers = self.bus.publish(publications).await;
        let published_at = self.clock.now();
        let mut sent = Vec::with_capacity(batch.len());
        for ((entry, _), answer) in batch.iter().zip(answers) {
            match answer {
                Ok(published) => sent.push(Sent {
                    entry: entry.clone(),
                    sequence: published.sequence,
                    published_at,
                    worry_at: published_at.plus(WORRY_AFTER),
                    republished: 0,
                }),
                Err(problem) => {
                    report.unpublished += 1;
                    self.unresolved |= matches!(problem, BusError::Unknown(_));
                    tracing::debug!(run = %entry.occurrence, %problem, "a run isn't published yet");
                    self.last_problem = Some(problem.to_string());
                }
            }
        }
        report.published += sent.len();
        if !sent.is_empty() {
            self.store.confirm(self.lease.shard, self.lease.epoch, &sent).await?;
        }
        Ok(())
    }
}
