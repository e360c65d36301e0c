//! Settling: reported outcomes into run records and history. Idempotent, so any dispatcher may settle any run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ambient::{Clock, Shutdown};
use bus::events::{AttemptReport, Event, EventDelivery, EventReader};
use bus::queue::REPORTED_TERM_PREFIX;
use bus::{BusError, SpecStore};
use model::id::{Occurrence, RunId};
use model::run::RunState;
use model::shard::{ShardCount, ShardId};
use model::time::Timestamp;
use store::StoreError;
use store::ledger::{LedgerStore, Settled, Settlement};
use store::plan::PlanStore;

use crate::one_off;
use crate::service::pause_after;

/// Events in one fetch.
pub const SETTLE_BATCH_MAX: usize = 500;
/// How long a fetch waits for the first event.
const SETTLE_WAIT: Duration = Duration::from_secs(5);

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
        // Attempts that another one follows come before ends, so that a run's own reports keep their order.
        let notes = deliveries.iter().map(|delivery| self.note(delivery.event()));
        futures_util::future::try_join_all(notes).await?;
        let mut ends: BTreeMap<ShardId, Vec<Settlement>> = BTreeMap::new();
        let now = self.clock.now();
        for (occurrence, report, state) in deliveries.iter().filter_map(|delivery| ended(delivery.event())) {
            let shard = self.shards.shard_of(&occurrence.job);
            ends.entry(shard).or_default().push(settlement(occurrence, report, state, now));
        }
        let settlings = ends.iter().map(|(shard, ends)| self.settle(*shard, ends));
        let settled: usize = futures_util::future::try_join_all(settlings).await?.into_iter().sum();
        let acks = deliveries.iter().map(EventDelivery::ack);
        futures_util::future::try_join_all(acks).await?;
        Ok(SettleReport { events: deliveries.len(), settled })
    }

    async fn settle(&self, shard: ShardId, ends: &[Settlement]) -> Result<usize, SettleError> {
        let settled = self.store.settle_all(shard, ends).await?;
        for end in ends {
            one_off::forget(&*self.bus, shard, &end.occurrence).await?;
        }
        Ok(settled.into_iter().filter(|settled| *settled == Settled::Recorded).count())
    }

    /// Everything that an event says but the end of a run.
    async fn note(&self, event: &Event) -> Result<(), SettleError> {
        match event {
            Event::Attempt(AttemptReport { ends_run: Some(_), .. }) => {}
            Event::Attempt(report) => {
                // The event stream is the whole history of ad-hoc work: it has no job to remember it.
                if let RunId::Occurrence(occurrence) = &report.run_id {
                    let shard = self.shards.shard_of(&occurrence.job);
                    let (generation, executor) = (report.generation, &report.executor);
                    self.store.note_attempt(shard, occurrence, generation, &report.end, executor).await?;
                }
            }
            Event::Terminated { reason, .. } if reason.starts_with(REPORTED_TERM_PREFIX) => {}
            Event::Terminated { sequence, reason, .. } => {
                self.store.note_terminated(*sequence, reason, self.clock.now()).await?;
            }
            Event::Undecodable { problem } => {
                tracing::warn!(problem, "an event can't be read; it stays in the event stream");
            }
        }
        Ok(())
    }
}

/// The run that an event ends, and how.
fn ended(event: &Event) -> Option<(&Occurrence, &AttemptReport, RunState)> {
    match event {
        Event::Attempt(report) => match &report.run_id {
            RunId::Occurrence(occurrence) => Some((occurrence, report, report.ends_run?)),
            RunId::AdHoc { .. } => None,
        },
        Event::Terminated { .. } | Event::Undecodable { .. } => None,
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
