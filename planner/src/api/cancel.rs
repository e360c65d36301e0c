//! `cancel`: a run that isn't wanted any more, whether it is due yet or not.

use model::declared::Declared;
use model::id::Occurrence;
use model::name::QueueId;
use store::Store;
use store::gate::GateRules;
use store::ledger::{CancelMark, CancelOutcome};

use super::Api;
use super::types::{ApiError, CancelReply, CancelRequest};
use crate::service::PlannerBus;

/// Bytes of who cancels, and of why.
const BY_BYTES_MAX: usize = 256;
const REASON_BYTES_MAX: usize = 1_024;

impl<S: Store, B: PlannerBus> Api<S, B> {
    pub(super) async fn cancel(
        &self,
        request: Result<CancelRequest, ApiError>,
    ) -> Result<CancelReply, ApiError> {
        let CancelRequest { run, reason, by } = request?;
        let occurrence: Occurrence =
            run.parse().map_err(|problem| ApiError::refused(format!("{problem}")))?;
        let by = by.unwrap_or_else(|| "(unknown)".into());
        let long = [(by.len(), BY_BYTES_MAX), (reason.as_ref().map_or(0, String::len), REASON_BYTES_MAX)];
        if let Some((_, most)) = long.iter().find(|(length, most)| length > most) {
            return Err(ApiError::refused(format!("take so long a text: the limit is {most} bytes")));
        }
        let shard = self.shards.shard_of(&occurrence.job);
        let declared = self.bus.get(shard, &occurrence.job).await?;
        let declared = declared.and_then(|stored| Declared::read(&stored.value, stored.written_at).ok());
        let due_at = occurrence.due_at;
        let named = declared.as_ref().is_some_and(|declared| {
            due_at > declared.acceptance.known_since() && declared.timeline.names(due_at)
        });
        let mark = CancelMark { at: self.clock.now(), by, reason };
        let outcome = self.store.cancel(shard, &occurrence, named, &mark, false).await?;
        if matches!(outcome, CancelOutcome::Requested | CancelOutcome::CancelledAndReleased)
            && let Err(problem) = self.bus.nudge(shard).await
        {
            // Without the nudge the dispatcher finds it at its next poll.
            tracing::debug!(%problem, %run, "the nudge for a cancelled run was lost");
        }
        if matches!(outcome, CancelOutcome::Cancelled | CancelOutcome::CancelledAndReleased)
            && let Some(declared) = &declared
        {
            self.leave_gate(&declared.spec.queue, &occurrence).await;
        }
        if !matches!(outcome, CancelOutcome::Ended(_) | CancelOutcome::Unknown) {
            let detail = mark.reason.clone();
            self.audit(Some(&mark.by), "cancel", format!("run {run}"), None, detail).await;
        }
        match outcome {
            CancelOutcome::Cancelled | CancelOutcome::CancelledAndReleased => {
                Ok(CancelReply { run, state: "cancelled".into() })
            }
            CancelOutcome::Requested => Ok(CancelReply { run, state: "cancelling".into() }),
            CancelOutcome::Ended(state) => {
                Err(ApiError::refused(format!("cancel {run}: it has ended already ({})", state.as_str())))
            }
            CancelOutcome::Unknown => Err(ApiError::not_found(&format!(
                "a run {run}: it has no record, and {} doesn't name it",
                occurrence.job
            ))),
        }
    }

    /// Takes a run that has ended out of its queue's gate, so that it doesn't come up there in another one's place. Whose turn
    /// it is then, a dispatcher says.
    async fn leave_gate(&self, queue: &QueueId, run: &Occurrence) {
        let (home, now) = (self.shards.shard_of_queue(queue), self.clock.now());
        let left = self.store.leave(home, queue, &GateRules::closed(), now, std::slice::from_ref(run)).await;
        if let Err(problem) = left {
            // A dispatcher finds out once it is this run's turn.
            tracing::debug!(%problem, %run, "a cancelled run stays in its queue's gate");
        }
    }
}
