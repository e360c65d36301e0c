//! Settling: reported outcomes into run records and history. Idempotent, so any dispatcher may settle any run.

use std::sync::Arc;
use std::time::Duration;

use ambient::{Clock, Shutdown};
use bus::events::{AttemptReport, Event, EventDelivery, EventReader};
use bus::{BusError, SpecStore};
use model::id::{Occurrence, RunId};
use model::run::RunState;
use model::shard::ShardCount;
use model::time::Timestamp;
use store::StoreError;
use store::ledger::{LedgerStore, Settled, Settlement};
use store::plan::PlanStore;

use crate::service::pause_after;

/// Events in one fetch.
pub const SETTLE_BATCH_MAX: usize = 500;
/// How long a fetch waits for the first event.
const SETTLE_WAIT: Duration = Duration::from_secs(5);
/// What the SDK says when it ends a message for good; its report came before.
pub const SDK_TERM_PREFIX: &str = "ecron:";

#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// What one pass folded in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SettleReport {
    pub events: usize,
    pub settled: usize,
}

#[derive(Debug)]
pub struct Settler<S, B> {
    store: Arc<S>,
    bus: Arc<B>,
    clock: Clock,
    shards: ShardCount,
}

impl<S, B> Settler<S, B>
where
    S: PlanStore + LedgerStore,
    B: EventReader + SpecStore,
{
    #[must_use]
    pub fn new(store: Arc<S>, bus: Arc<B>, clock: Clock, shards: ShardCount) -> Self {
        Self { store, bus, clock, shards }
    }

    /// Settles until shutdown.
    pub async fn run(&self, shutdown: &Shutdown) {
        while !shutdown.stopping() {
            tokio::select! {
                biased;
                () = shutdown.stopped() => return,
                pass = self.run_once(SETTLE_WAIT) => if let Err(problem) = pass {
                    pause_after(&problem, "settling", &self.clock, shutdown).await;
                },
            }
        }
    }

    /// One batch of events. What can't be settled now isn't acknowledged, and comes again.
    pub async fn run_once(&self, wait: Duration) -> Result<SettleReport, SettleError> {
        let deliveries = self.bus.fetch_events(SETTLE_BATCH_MAX, wait).await?;
        let folds = deliveries.iter().map(|delivery| async move {
            let settled = self.fold(delivery.event()).await?;
            delivery.ack().await?;
            Ok::<_, SettleError>(settled)
        });
        let mut report = SettleReport::default();
        let mut first_problem = None;
        for outcome in futures_util::future::join_all(folds).await {
            match outcome {
                Ok(settled) => {
                    report.events += 1;
                    report.settled += usize::from(settled);
                }
                Err(problem) => first_problem = first_problem.or(Some(problem)),
            }
        }
        first_problem.map_or(Ok(report), Err)
    }

    async fn fold(&self, event: &Event) -> Result<bool, SettleError> {
        match event {
            Event::Attempt(report) => match &report.run_id {
                RunId::Occurrence(occurrence) => self.fold_attempt(occurrence, report).await,
                // The event stream is the whole history of ad-hoc work: it has no job to remember it.
                RunId::AdHoc { .. } => Ok(false),
            },
            Event::Terminated { reason, .. } if reason.starts_with(SDK_TERM_PREFIX) => Ok(false),
            Event::Terminated { sequence, reason, .. } => {
                self.store.note_terminated(*sequence, reason, self.clock.now()).await?;
                Ok(false)
            }
            Event::Undecodable { problem } => {
                tracing::warn!(problem, "an event can't be read; it stays in the event stream");
                Ok(false)
            }
        }
    }

    async fn fold_attempt(
        &self,
        occurrence: &Occurrence,
        report: &AttemptReport,
    ) -> Result<bool, SettleError> {
        let shard = self.shards.shard_of(&occurrence.job);
        let Some(state) = report.ends_run else {
            let executor = &report.executor;
            self.store.note_attempt(shard, occurrence, report.generation, &report.end, executor).await?;
            return Ok(false);
        };
        let settlement = settlement(occurrence, report, state, self.clock.now());
        let settled = self.store.settle(shard, &settlement).await? == Settled::Recorded;
        self.forget_one_off(occurrence, state).await?;
        Ok(settled)
    }

    /// Deletes the spec of deferred work once it has ended. (A dead letter holds all that a redrive needs.)
    async fn forget_one_off(&self, occurrence: &Occurrence, state: RunState) -> Result<(), SettleError> {
        if state == RunState::Dispatched || !occurrence.job.name.as_str().starts_with("defer-") {
            return Ok(());
        }
        let shard = self.shards.shard_of(&occurrence.job);
        let Some(stored) = self.bus.get(shard, &occurrence.job).await? else { return Ok(()) };
        let deferred = model::manifest::from_bytes(&stored.value, stored.written_at)
            .is_ok_and(|(spec, _)| spec.delete_when_done && spec.schedule.at == [occurrence.due_at]);
        if !deferred {
            return Ok(());
        }
        match self.bus.delete(shard, &occurrence.job, stored.revision).await {
            // Somebody else deleted it, or declared it anew.
            Ok(_) | Err(BusError::Conflict) => Ok(()),
            Err(problem) => Err(problem.into()),
        }
    }
}

fn settlement(
    occurrence: &Occurrence,
    report: &AttemptReport,
    state: RunState,
    now: Timestamp,
) -> Settlement {
    Settlement {
        occurrence: occurrence.clone(),
        revision: report.revision,
        generation: report.generation,
        state,
        last: report.end.clone(),
        executor: report.executor.clone(),
        output: report.output.clone().or_else(|| report.reason.clone()),
        settled_at: now,
    }
}
