//! Reconciling: published runs that nobody has reported for a while.
//!
//! Still in the stream → leave it, unless nobody was ever given it and its `startingDeadline` has passed: then it is skipped
//! here, as whoever is given it now would do. Gone with an outcome → settled by then. Gone without:
//! - the stream is younger than the publication, or ends before it → it was lost: publish again, under a new id;
//! - it was withdrawn because its run was cancelled → so it ends;
//! - otherwise an executor took it off the stream. Our SDK never does that before its report is stored, so it was a
//!   bare client: `ack` means succeeded, `term` means a dead letter.

use std::sync::Arc;
use std::time::Duration;

use bus::dead::{DeadLetter, DeadReason};
use bus::runs::StoredRun;
use bus::subjects::QueueSubject;
use bus::wire::{encode_publication, message_id};
use bus::{BusError, DeadLetters, EventReader, Nudge, QueueBacklog, RunStream, SpecStore};
use model::id::{Entry, RunId};
use model::run::{AttemptEnd, Outcome, RunState, SkipReason};
use model::time::Timestamp;
use store::control::ControlStore;
use store::ledger::{CancelMark, CancelOutcome, LedgerStore, Sent, SentRun, Settled, Settlement};
use store::ownership::Lease;
use store::plan::PlanStore;
use store::{GateStore, StoreError};

use crate::asked::Asked;
use crate::barrier::Barrier;
use crate::cancel::WITHDRAWN;
use crate::gate::Gates;
use crate::jobs::{Jobs, KnownJob};
use crate::one_off;
use crate::order::publication;
use crate::shard::{PassError, WORRY_AFTER};

/// How often a shard's overdue runs are looked at.
pub const RECONCILE_INTERVAL: Duration = Duration::from_secs(5);
/// Overdue runs in one pass.
const RECONCILE_BATCH_MAX: usize = 100;
/// The longest time between two looks at a run that is still in the stream.
const WORRY_MAX: Duration = Duration::from_secs(300);
/// Who is said to have carried out a run that a bare client acknowledged.
pub const BARE_CLIENT: &str = "(a client that doesn't report)";
/// Who is said to have skipped a run that nobody was given in time.
pub const NOBODY: &str = "(nobody was given it)";
/// How far an executor's clock may be behind ours: it may still start what has just become too late.
const TOO_LATE_MARGIN: Duration = Duration::from_secs(5);

/// What is known of an overdue run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    InStream,
    Lost,
    Acknowledged,
    /// We took it off the stream because its run was cancelled, and somebody died before that was recorded.
    Withdrawn,
    Terminated {
        reason: String,
    },
}

#[derive(Debug)]
pub struct Reconciler<S, B> {
    pub gates: Gates<S, B>,
    pub jobs: Jobs,
    pub message_id_key: [u8; 16],
    pub barrier: Barrier,
}

impl<S, B> Reconciler<S, B>
where
    S: PlanStore + LedgerStore + ControlStore + GateStore,
    B: RunStream + EventReader + DeadLetters + SpecStore + Nudge + QueueBacklog,
{
    /// One pass over one shard; answers with how many runs it changed.
    pub async fn run_once(&self, lease: &Lease, now: Timestamp) -> Result<usize, PassError> {
        let overdue = self.gates.store.overdue(lease.shard, now, RECONCILE_BATCH_MAX).await?;
        let (mut gone, mut changed) = (Vec::new(), 0);
        for run in overdue {
            let stored = self.gates.bus.stored_run(run.sequence).await?;
            if let Some(stored) = stored.filter(|stored| self.is_ours(&run, &stored.message_id)) {
                let start_by = self.start_by(lease, &run, &stored, now).await?;
                let too_late_at = start_by.map(|start_by| start_by.plus(TOO_LATE_MARGIN));
                if too_late_at.is_some_and(|at| at <= now)
                    && self.skip_unserved(lease, &run, &stored, now).await?
                {
                    changed += 1;
                    continue;
                }
                let age = now.ms_since(run.published_at).max(0).unsigned_abs();
                let patience = Duration::from_millis(age / 2).clamp(WORRY_AFTER, WORRY_MAX);
                let worry_at = now.plus(patience);
                let worry_at = too_late_at.filter(|at| *at > now).map_or(worry_at, |at| at.min(worry_at));
                self.gates.store.worry_later(lease.shard, lease.epoch, &run.occurrence, worry_at).await?;
            } else {
                gone.push(run);
            }
        }
        if gone.is_empty() {
            return Ok(changed);
        }
        // Its outcome may be stored already, and only wait to be settled.
        if !self.barrier.pass(&*self.gates.bus).await? {
            return Err(PassError::OutcomesBehind);
        }
        for run in gone {
            changed += usize::from(self.resolve(lease, run, now).await?);
        }
        Ok(changed)
    }

    async fn in_stream(&self, run: &SentRun) -> Result<bool, BusError> {
        let stored = self.gates.bus.stored_message_id(run.sequence).await?;
        Ok(stored.is_some_and(|id| self.is_ours(run, &id)))
    }

    fn is_ours(&self, run: &SentRun, message_id: &str) -> bool {
        run.generation.0 > 0 || message_id == self.message_id(run)
    }

    /// By when a run that is in the stream must have started: as its job says by now, if that was edited since; so it is for whoever is
    /// given it. What was sent again under a further generation goes out as it is.
    async fn start_by(
        &self,
        lease: &Lease,
        run: &SentRun,
        stored: &StoredRun,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, PassError> {
        let job = self.present_job(lease, run).await?;
        let Some(job) = job.filter(|job| job.revision > run.revision && run.generation.0 == 0) else {
            return Ok(stored.start_by);
        };
        let (id, published_at) = (run.occurrence.clone(), run.published_at);
        let key = &self.message_id_key;
        let present = publication(id, &job, key, run.generation, run.republished, published_at);
        Ok(self.asked(lease, run, &job, now).await?.apply(&run.occurrence, present).order.start_by)
    }

    /// Skips a run that is too late, if nobody was ever given it. Its message goes last: whoever is given it meanwhile
    /// skips it likewise, whereas a run without message and outcome counts as carried out by a bare client.
    async fn skip_unserved(
        &self,
        lease: &Lease,
        run: &SentRun,
        stored: &StoredRun,
        now: Timestamp,
    ) -> Result<bool, PassError> {
        let Some(queue) = stored.queue.as_ref().filter(|_| run.cancel.is_none()) else { return Ok(false) };
        let backlog = self.gates.bus.backlog(queue).await?;
        if backlog.is_some_and(|backlog| backlog.delivered_until >= run.sequence) {
            return Ok(false);
        }
        let settlement = settlement(run, RunState::Skipped, Outcome::Cancelled, None, now);
        let output = Some(SkipReason::StartingDeadline.describe().to_owned());
        self.settle(lease, run, Settlement { executor: NOBODY.into(), output, ..settlement }).await?;
        self.gates.bus.withdraw(run.sequence).await?;
        Ok(true)
    }

    fn message_id(&self, run: &SentRun) -> String {
        let run_id = RunId::Occurrence(run.occurrence.clone());
        message_id(&self.message_id_key, &run_id, run.generation, run.republished)
    }

    async fn resolve(&self, lease: &Lease, run: SentRun, now: Timestamp) -> Result<bool, PassError> {
        let record = self.gates.store.run(lease.shard, &run.occurrence).await?;
        if record.is_some_and(|record| record.state.is_end()) {
            return Ok(false);
        }
        match self.fate(&run).await? {
            Fate::InStream => Ok(false),
            Fate::Withdrawn => self.end_cancelled(lease, &run, now).await,
            Fate::Lost if run.cancel.is_some() => self.end_cancelled(lease, &run, now).await,
            Fate::Lost => self.publish_again(lease, &run, now).await,
            Fate::Acknowledged => {
                self.end(lease, &run, RunState::Succeeded, Outcome::Succeeded, None, now).await
            }
            Fate::Terminated { reason } => {
                self.park(lease, &run, &reason, now).await?;
                self.end(lease, &run, RunState::DeadLettered, Outcome::Failed, Some(reason), now).await
            }
        }
    }

    async fn fate(&self, run: &SentRun) -> Result<Fate, PassError> {
        let extent = self.gates.bus.extent().await?;
        if extent.created_at > run.published_at || extent.last_sequence < run.sequence {
            return Ok(Fate::Lost);
        }
        if self.gates.bus.stored_message_id(run.sequence).await?.is_some() {
            // The stream lost its newest messages and gave our sequence to another one.
            return Ok(if self.in_stream(run).await? { Fate::InStream } else { Fate::Lost });
        }
        Ok(match self.gates.store.terminated(run.sequence).await? {
            None => Fate::Acknowledged,
            Some(reason) if run.cancel.is_some() && reason == WITHDRAWN => Fate::Withdrawn,
            Some(reason) => Fate::Terminated { reason },
        })
    }

    async fn publish_again(&self, lease: &Lease, run: &SentRun, now: Timestamp) -> Result<bool, PassError> {
        let Some(job) = self.present_job(lease, run).await? else {
            let reason = Some("its message was lost, and its job is deleted".to_owned());
            return self.end(lease, run, RunState::Cancelled, Outcome::Lost, reason, now).await;
        };
        let republished = run.republished + 1;
        let again =
            publication(run.occurrence.clone(), &job, &self.message_id_key, run.generation, republished, now);
        let again = self.asked(lease, run, &job, now).await?.apply(&run.occurrence, again);
        self.gates.bus.ensure_queue(&job.spec.queue).await?;
        let answer = self.gates.bus.publish(vec![again]).await.pop();
        let published = answer.ok_or_else(|| BusError::Unknown("no answer to a publication".into()))??;
        tracing::warn!(run = %run.occurrence, "the run stream lost this run; it is published again");
        let sent = Sent {
            entry: Entry { occurrence: run.occurrence.clone(), revision: run.revision },
            sequence: published.sequence,
            published_at: now,
            worry_at: now.plus(WORRY_AFTER),
            republished,
        };
        self.gates.store.confirm(lease.shard, lease.epoch, &[sent]).await?;
        Ok(true)
    }

    /// It was to be stopped, and its message is lost: so it is.
    async fn end_cancelled(&self, lease: &Lease, run: &SentRun, now: Timestamp) -> Result<bool, PassError> {
        let Some(mark) = &run.cancel else { return Ok(false) };
        one_off::forget(&*self.gates.bus, lease.shard, &run.occurrence).await?;
        let mark = CancelMark { at: now, ..mark.clone() };
        let outcome = self.gates.store.cancel(lease.shard, &run.occurrence, true, &mark, true).await?;
        if outcome == CancelOutcome::CancelledAndReleased {
            self.gates.bus.nudge(lease.shard).await?;
        }
        self.leave_gate(lease, run).await?;
        Ok(true)
    }

    /// Gives up the place of a run that has ended. Of a job that is gone, the keeper finds it.
    async fn leave_gate(&self, lease: &Lease, run: &SentRun) -> Result<(), StoreError> {
        if self.gates.rules.is_empty() {
            return Ok(());
        }
        if let Some(job) = self.present_job(lease, run).await? {
            self.gates.leave(&job.spec.queue, std::slice::from_ref(&run.occurrence)).await?;
        }
        Ok(())
    }

    async fn asked(
        &self,
        lease: &Lease,
        run: &SentRun,
        job: &KnownJob,
        now: Timestamp,
    ) -> Result<Asked, StoreError> {
        Asked::look_up(&*self.gates.store, lease.shard, std::iter::once((&run.occurrence, job)), now).await
    }

    async fn present_job(&self, lease: &Lease, run: &SentRun) -> Result<Option<Arc<KnownJob>>, StoreError> {
        let job = &run.occurrence.job;
        let Some(record) =
            self.gates.store.jobs(lease.shard, std::slice::from_ref(job)).await?.pop().flatten()
        else {
            return Ok(None);
        };
        Ok(self
            .jobs
            .at(&*self.gates.store, lease.shard, &[(job.clone(), record.revision)])
            .await?
            .pop()
            .flatten())
    }

    /// A bare client gave up on it: the message is gone, so its letter is written from the job as it is now.
    async fn park(
        &self,
        lease: &Lease,
        run: &SentRun,
        reason: &str,
        now: Timestamp,
    ) -> Result<(), PassError> {
        let Some(job) = self.present_job(lease, run).await? else { return Ok(()) };
        let original = publication(
            run.occurrence.clone(),
            &job,
            &self.message_id_key,
            run.generation,
            run.republished,
            now,
        );
        let original = self.asked(lease, run, &job, now).await?.apply(&run.occurrence, original);
        let letter = DeadLetter {
            id: run.occurrence.to_string(),
            subject: QueueSubject::Run.of(&job.spec.queue),
            reason: DeadReason::Terminated,
            error: reason.to_owned(),
            attempts: 1,
            attempt_log: vec![],
            died_at: now,
            original_headers: encode_publication(&original),
            payload: original.payload,
        };
        self.gates.bus.park(&letter).await?;
        Ok(())
    }

    async fn end(
        &self,
        lease: &Lease,
        run: &SentRun,
        state: RunState,
        outcome: Outcome,
        error: Option<String>,
        now: Timestamp,
    ) -> Result<bool, PassError> {
        self.settle(lease, run, settlement(run, state, outcome, error, now)).await
    }

    async fn settle(&self, lease: &Lease, run: &SentRun, settlement: Settlement) -> Result<bool, PassError> {
        // Before the end is recorded: afterwards nobody would look at this run again.
        one_off::forget(&*self.gates.bus, lease.shard, &run.occurrence).await?;
        if self.gates.store.settle(lease.shard, &settlement).await? == Settled::RecordedAndReleased {
            self.gates.bus.nudge(lease.shard).await?;
        }
        self.leave_gate(lease, run).await?;
        Ok(true)
    }
}

fn settlement(
    run: &SentRun,
    state: RunState,
    outcome: Outcome,
    error: Option<String>,
    now: Timestamp,
) -> Settlement {
    Settlement {
        occurrence: run.occurrence.clone(),
        revision: run.revision,
        generation: run.generation,
        state,
        last: AttemptEnd { attempt: 1, outcome, error, started_at: run.published_at, ended_at: now },
        executor: BARE_CLIENT.into(),
        output: None,
        settled_at: now,
    }
}
