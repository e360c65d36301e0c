//! Settling: reported outcomes into run records and history. Idempotent, so any dispatcher may settle any run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ambient::{Clock, Shutdown};
use bus::events::{AttemptReport, Event, EventDelivery, EventReader, ProgressNote};
use bus::queue::REPORTED_TERM_PREFIX;
use bus::{BusError, Nudge, SpecStore};
use model::id::{Occurrence, RunId};
use model::name::QueueId;
use model::run::RunState;
use model::shard::{ShardCount, ShardId};
use model::stats::FirstStart;
use model::time::Timestamp;
use model::unique::{Freed, UniqueKey};
use store::adhoc::{AdHocRun, AdHocStore};
use store::ledger::{LedgerStore, Settled, Settlement};
use store::live::LiveStore;
use store::plan::PlanStore;
use store::{GateStore, StoreError};

use crate::gate::Gates;
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

impl SettleError {
    /// Whether trying again can't help: the stored value itself is broken, or the server won't have it.
    fn is_lasting(&self) -> bool {
        matches!(self, Self::Store(StoreError::Refused(_) | StoreError::Corrupt { .. }))
    }
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
    gates: Gates<S, B>,
}

impl<S, B> Settler<S, B>
where
    S: PlanStore + LedgerStore + LiveStore + AdHocStore + GateStore,
    B: EventReader + SpecStore + Nudge,
{
    #[must_use]
    pub fn new(gates: Gates<S, B>) -> Self {
        Self {
            store: Arc::clone(&gates.store),
            bus: Arc::clone(&gates.bus),
            clock: gates.clock.clone(),
            shards: gates.shards,
            gates,
        }
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

    /// One batch of events. What can't be folded in now isn't acknowledged, and comes again; what can never be (its
    /// job's stored record is broken, say) is said so and left to the event stream, so that it holds up nothing else.
    pub async fn run_once(&self, wait: Duration) -> Result<SettleReport, SettleError> {
        let deliveries = self.bus.fetch_events(SETTLE_BATCH_MAX, wait).await?;
        // Attempts that another one follows come before ends, so that a run's own reports keep their order.
        let notes = deliveries.iter().map(|delivery| self.note(delivery.event()));
        let mut outcomes = futures_util::future::join_all(notes).await;
        let mut ends: BTreeMap<ShardId, Vec<(usize, Settlement)>> = BTreeMap::new();
        let now = self.clock.now();
        for (index, delivery) in deliveries.iter().enumerate() {
            if let Some((occurrence, report, state)) = ended(delivery.event()) {
                let shard = self.shards.shard_of(&occurrence.job);
                ends.entry(shard).or_default().push((index, settlement(occurrence, report, state, now)));
            }
        }
        let mut report = SettleReport::default();
        let settlings = ends.into_iter().map(|(shard, ends)| self.settle(shard, ends));
        for (index, settled) in futures_util::future::join_all(settlings).await.into_iter().flatten() {
            report.settled += usize::from(matches!(settled, Ok(ended) if ended != Settled::AlreadyEnded));
            outcomes[index] = settled.map(|_| ());
        }
        self.leave_gates(&deliveries, &mut outcomes).await;
        let mut first_problem = None;
        let mut acks = Vec::with_capacity(deliveries.len());
        for (delivery, outcome) in deliveries.iter().zip(outcomes) {
            match outcome {
                Err(problem) if !problem.is_lasting() => first_problem = first_problem.or(Some(problem)),
                Err(problem) => {
                    tracing::error!(event = ?delivery.event(), %problem, "an event can't be folded in; it stays in the event stream");
                    acks.push(delivery.ack());
                }
                Ok(()) => acks.push(delivery.ack()),
            }
        }
        report.events = acks.len();
        futures_util::future::try_join_all(acks).await?;
        first_problem.map_or(Ok(report), Err)
    }

    /// The runs that have ended give up their places in their queues' gates, also those that had ended before: a crash may
    /// have come between the two. An event whose run couldn't leave comes again.
    async fn leave_gates(&self, deliveries: &[B::Delivery], outcomes: &mut [Result<(), SettleError>]) {
        let mut leaving: BTreeMap<QueueId, (Vec<usize>, Vec<Occurrence>)> = BTreeMap::new();
        for (index, delivery) in deliveries.iter().enumerate() {
            if let Some((occurrence, report, _)) = ended(delivery.event())
                && outcomes[index].is_ok()
                && self.gates.rules.of(&report.queue).is_some()
            {
                let (indices, runs) = leaving.entry(report.queue.clone()).or_default();
                indices.push(index);
                runs.push(occurrence.clone());
            }
        }
        for (queue, (indices, runs)) in leaving {
            if let Err(problem) = self.gates.leave(&queue, &runs).await {
                for index in indices {
                    outcomes[index] = Err(problem.clone().into());
                }
            }
        }
    }

    /// Settles one shard's ends at once; if that fails, one by one, so that a single broken record fails alone.
    async fn settle(
        &self,
        shard: ShardId,
        ends: Vec<(usize, Settlement)>,
    ) -> Vec<(usize, Result<Settled, SettleError>)> {
        let (indices, ends): (Vec<usize>, Vec<Settlement>) = ends.into_iter().unzip();
        let settled: Vec<_> = match self.store.settle_all(shard, &ends).await {
            Ok(settled) => settled.into_iter().map(Ok).collect(),
            Err(_) => {
                let mut one_by_one = Vec::with_capacity(ends.len());
                for end in &ends {
                    one_by_one.push(self.store.settle(shard, end).await.map_err(SettleError::from));
                }
                one_by_one
            }
        };
        let released =
            |settled: &Result<Settled, SettleError>| matches!(settled, Ok(Settled::RecordedAndReleased));
        if settled.iter().any(released)
            && let Err(problem) = self.bus.nudge(shard).await
        {
            // Without it, those that were let go wait for the dispatcher's next poll.
            tracing::debug!(%problem, %shard, "a nudge was lost");
        }
        let mut outcomes = Vec::with_capacity(ends.len());
        for ((index, end), settled) in indices.into_iter().zip(&ends).zip(settled) {
            let forgotten = match settled {
                Ok(settled) => one_off::forget(&*self.bus, shard, &end.occurrence)
                    .await
                    .map(|()| settled)
                    .map_err(Into::into),
                Err(problem) => Err(problem),
            };
            outcomes.push((index, forgotten));
        }
        outcomes
    }

    /// What an attempt of ad-hoc work leaves: a record if it didn't succeed at once, and a unique key that is free.
    async fn note_ad_hoc(&self, queue: &QueueId, report: &AttemptReport) -> Result<(), SettleError> {
        if let Some(run) = ad_hoc_run(report) {
            self.store.note_ad_hoc(self.shards.shard_of_queue(queue), &run).await?;
        }
        let freed = if report.ends_run.is_some() { Freed::Ended } else { Freed::Started };
        self.free(&report.run_id, freed).await
    }

    async fn free(&self, run_id: &RunId, freed: Freed) -> Result<(), SettleError> {
        if let Some(key) = UniqueKey::of(run_id) {
            self.store.free_key(self.shards.shard_of_key(&key), &key, run_id, freed).await?;
        }
        Ok(())
    }

    /// Everything that an event says but the end of a run.
    async fn note(&self, event: &Event) -> Result<(), SettleError> {
        match event {
            Event::Attempt(report) => match &report.run_id {
                RunId::Occurrence(_) if report.ends_run.is_some() => {}
                RunId::Occurrence(occurrence) => {
                    let shard = self.shards.shard_of(&occurrence.job);
                    let (generation, executor) = (report.generation, &report.executor);
                    self.store.note_attempt(shard, occurrence, generation, &report.end, executor).await?;
                }
                RunId::AdHoc { queue, .. } => self.note_ad_hoc(queue, report).await?,
            },
            Event::Progress(ProgressNote { run_id: RunId::Occurrence(occurrence), progress, .. }) => {
                let shard = self.shards.shard_of(&occurrence.job);
                self.store.note_progress(shard, occurrence, progress).await?;
            }
            Event::Progress(note) => self.free(&note.run_id, Freed::Started).await?,
            Event::Terminated { reason, .. } if reason.starts_with(REPORTED_TERM_PREFIX) => {}
            Event::Terminated { sequence, reason, .. } => {
                self.store.note_terminated(*sequence, reason, self.clock.now()).await?;
            }
            Event::Audit(_) => {}
            Event::Undecodable { problem } => {
                tracing::warn!(problem, "an event can't be read; it stays in the event stream");
            }
        }
        Ok(())
    }
}

/// How a run of ad-hoc work stands after an attempt, if that is worth remembering: one that succeeds at its first attempt
/// leaves nothing but its report, so that it costs nothing.
fn ad_hoc_run(report: &AttemptReport) -> Option<AdHocRun> {
    let state = report.ends_run.unwrap_or(RunState::Dispatched);
    let at_once = state == RunState::Succeeded && report.end.attempt <= 1 && report.generation.0 == 0;
    (!at_once).then(|| AdHocRun {
        run_id: report.run_id.clone(),
        generation: report.generation,
        state,
        due_at: report.due_at,
        last: report.end.clone(),
        first: FirstStart::after(None, report.generation, report.end.started_at),
        executor: report.executor.clone(),
        output: report.output.clone().or_else(|| report.reason.clone()),
    })
}

/// The run that an event ends, and how.
fn ended(event: &Event) -> Option<(&Occurrence, &AttemptReport, RunState)> {
    match event {
        Event::Attempt(report) => match &report.run_id {
            RunId::Occurrence(occurrence) => Some((occurrence, report, report.ends_run?)),
            RunId::AdHoc { .. } => None,
        },
        Event::Audit(_) | Event::Progress(_) | Event::Terminated { .. } | Event::Undecodable { .. } => None,
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
