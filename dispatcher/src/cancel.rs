//! Cancelling published runs: whoever has one in hand is told to stop it; one that nobody has, or that goes on beyond the
//! grace, is taken off the stream and ended.
//!
//! Every step is safe to repeat: the mark in the run's record stays until the run has ended, and says when it began.

use std::time::Duration;

use bus::cancel::CancelRequest;
use bus::wire::message_id;
use bus::{CancelSignal, Nudge, RunStream, SpecStore};
use model::id::RunId;
use model::name::QueueId;
use model::overlap::REPLACED_BY;
use model::time::Timestamp;
use store::ledger::{CancelMark, CancelOutcome, LedgerStore, SentRun};
use store::ownership::Lease;
use store::{GateStore, StoreError};

use crate::gate::Gates;
use crate::one_off;
use crate::shard::PassError;

/// How long an executor that has the run in hand may take to stop it.
pub const CANCEL_GRACE: Duration = Duration::from_secs(30);
/// When an executor that has the run in hand is told again, after the cancellation; then every `SIGNAL_INTERVAL`.
const SIGNALS_AFTER: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];
const SIGNAL_INTERVAL: Duration = Duration::from_secs(5);
/// How long executors may take to say that they have the run in hand.
const ANSWER_WAIT: Duration = Duration::from_secs(1);
/// The wait for the outcome of a run whose message is gone.
const OUTCOME_WAIT: Duration = Duration::from_secs(1);
/// What is noted of a message that is taken off the stream because its run is cancelled. No executor ends one so: theirs
/// aren't noted under this prefix.
pub(crate) const WITHDRAWN: &str = "ecron: withdrawn, its run was cancelled";
/// Runs in one pass; they are seen to at once.
const CANCEL_BATCH_MAX: usize = 100;

#[derive(Debug)]
pub struct Canceller<S, B> {
    pub gates: Gates<S, B>,
    pub message_id_key: [u8; 16],
}

/// The mark of a run in whose place a newer one starts.
#[must_use]
pub fn replaced(now: Timestamp) -> CancelMark {
    CancelMark { at: now, by: REPLACED_BY.into(), reason: Some("a newer run takes its place".into()) }
}

impl<S, B> Canceller<S, B>
where
    S: LedgerStore + GateStore,
    B: RunStream + CancelSignal + SpecStore + Nudge,
{
    /// Sees to the runs of a shard whose time has come; answers with how many ended.
    pub async fn run_once(&self, lease: &Lease, now: Timestamp) -> Result<usize, PassError> {
        let runs = self.gates.store.cancelling(lease.shard, now, CANCEL_BATCH_MAX).await?;
        let seen = runs.iter().map(|run| self.see_to(lease, run));
        let mut ended = 0;
        for outcome in futures_util::future::join_all(seen).await {
            ended += usize::from(outcome?);
        }
        Ok(ended)
    }

    async fn see_to(&self, lease: &Lease, run: &SentRun) -> Result<bool, PassError> {
        // Without a mark it has ended since, or its record was lost.
        let Some(mark) = &run.cancel else { return Ok(false) };
        let now = self.gates.clock.now();
        let stored = self.gates.bus.stored_run(run.sequence).await?;
        let is_ours = |id: &str| run.generation.0 > 0 || id == self.message_id(run);
        let Some(stored) = stored.filter(|stored| is_ours(&stored.message_id)) else {
            // Its outcome is on its way, or the reconciler finds out what became of it.
            self.again_at(lease, run, now.plus(OUTCOME_WAIT)).await?;
            return Ok(false);
        };
        let grace_ends_at = mark.at.plus(CANCEL_GRACE);
        if now < grace_ends_at
            && let Some(queue) = &stored.queue
        {
            let request = CancelRequest {
                queue: queue.clone(),
                run_id: RunId::Occurrence(run.occurrence.clone()),
                generation: run.generation,
                by: Some(mark.by.clone()),
                reason: mark.reason.clone(),
            };
            if self.gates.bus.cancel(&request, ANSWER_WAIT).await? {
                self.again_at(lease, run, next_signal_at(mark.at, now).min(grace_ends_at)).await?;
                return Ok(false);
            }
        }
        // Noted first: should we die before the end is recorded, nobody takes it for a message that was acknowledged.
        self.gates.store.note_terminated(run.sequence, WITHDRAWN, now).await?;
        if !self.gates.bus.withdraw(run.sequence).await? {
            self.gates.store.forget_terminated(run.sequence).await?;
            self.again_at(lease, run, now.plus(OUTCOME_WAIT)).await?;
            return Ok(false);
        }
        self.end(lease, run, mark, stored.queue.as_ref()).await
    }

    /// Ends a run whose message is off the stream of its queue.
    async fn end(
        &self,
        lease: &Lease,
        run: &SentRun,
        mark: &CancelMark,
        queue: Option<&QueueId>,
    ) -> Result<bool, PassError> {
        let at = CancelMark { at: self.gates.clock.now(), ..mark.clone() };
        // Before the end is recorded: afterwards nobody would look at this run again.
        one_off::forget(&*self.gates.bus, lease.shard, &run.occurrence).await?;
        match self.gates.store.cancel(lease.shard, &run.occurrence, true, &at, true).await? {
            CancelOutcome::CancelledAndReleased => self.gates.bus.nudge(lease.shard).await?,
            CancelOutcome::Cancelled
            | CancelOutcome::Requested
            | CancelOutcome::Ended(_)
            | CancelOutcome::Unknown => {}
        }
        if let Some(queue) = queue {
            self.gates.leave(queue, std::slice::from_ref(&run.occurrence)).await?;
        }
        Ok(true)
    }

    async fn again_at(&self, lease: &Lease, run: &SentRun, at: Timestamp) -> Result<(), StoreError> {
        self.gates.store.cancel_later(lease.shard, lease.epoch, &run.occurrence, at).await
    }

    fn message_id(&self, run: &SentRun) -> String {
        let run_id = RunId::Occurrence(run.occurrence.clone());
        message_id(&self.message_id_key, &run_id, run.generation, run.republished)
    }
}

/// When an executor is told again.
fn next_signal_at(cancelled_at: Timestamp, now: Timestamp) -> Timestamp {
    let planned = SIGNALS_AFTER.map(|after| cancelled_at.plus(after));
    planned.into_iter().find(|at| *at > now).unwrap_or_else(|| now.plus(SIGNAL_INTERVAL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_repeated_soon_and_then_now_and_then() {
        let at = |seconds: i64| Timestamp::from_ms(seconds * 1_000);
        for (now, next) in [(0, 1), (1, 3), (2, 3), (3, 8), (20, 25)] {
            assert_eq!(next_signal_at(at(0), at(now)), at(next), "{now}");
        }
    }
}
