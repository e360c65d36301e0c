//! The world's own executor: bare bones, for tests that look at planner and dispatcher. It ends each run with success, once that has
//! taken its time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use bus::cancel::{CancelListener, CancelNotice};
use bus::events::AttemptReport;
use bus::memory::MemoryBus;
use bus::order::Order;
use bus::queue::Delivery;
use bus::{EventWriter, QueueReader};
use futures_util::StreamExt;
use model::id::RunId;
use model::name::{JobId, QueueId};
use model::run::{AttemptEnd, Outcome, RunState};
use model::time::Timestamp;

use super::World;

/// Deliveries in one fetch.
const BATCH: usize = 10_000;

/// What the executor and whoever listens for cancellations share.
#[derive(Debug, Default)]
pub(super) struct Signals {
    in_hand: BTreeSet<RunId>,
    told: BTreeSet<RunId>,
}

/// Answers for the runs in hand, and remembers the others: they aren't started any more.
pub(super) async fn listen(bus: Arc<MemoryBus>, signals: Arc<Mutex<Signals>>) -> Result<()> {
    let mut heard = bus.cancels(&"default/work".parse()?).await?;
    while let Some(signal) = heard.next().await {
        let in_hand = {
            let mut signals = signals.lock().unwrap_or_else(PoisonError::into_inner);
            signals.told.insert(signal.request().run_id.clone());
            signals.in_hand.contains(&signal.request().run_id)
        };
        if in_hand {
            signal.in_hand().await?;
        }
    }
    Ok(())
}

/// A run that an executor is carrying out.
pub(super) struct InHand {
    delivery: <MemoryBus as QueueReader>::Delivery,
    order: Order,
    started_at: Timestamp,
    ends_at: Timestamp,
}

impl std::fmt::Debug for InHand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InHand").field("order", &self.order).finish_non_exhaustive()
    }
}

impl World {
    /// Begins everything that waits in the queue `work`, and ends with success what has taken its time.
    pub(super) async fn execute(&mut self) -> Result<()> {
        let queue: QueueId = "default/work".parse()?;
        let now = self.clock.now();
        self.end_what_is_done(now).await?;
        for delivery in self.bus.fetch(&queue, BATCH, Duration::ZERO).await? {
            let order = delivery.order().clone()?;
            let told = self.signals().told.contains(&order.run_id);
            if told {
                let run = InHand { delivery, order, started_at: now, ends_at: now };
                self.end(run, Outcome::Cancelled, now).await?;
                continue;
            }
            self.signals().in_hand.insert(order.run_id.clone());
            ensure!(order.due_at <= now, "{} was started at {now}, before it was due", order.run_id);
            ensure!(order.start_by.is_none_or(|start_by| now <= start_by), "{} came too late", order.run_id);
            self.started.entry(order.run_id.clone()).or_default().push(now);
            self.payloads.insert(order.run_id.clone(), delivery.payload().to_vec());
            let takes = job_of(&order.run_id).and_then(|job| self.takes.get(job)).copied();
            let ends_at = now.plus(takes.unwrap_or_default());
            self.in_hand.push(InHand { delivery, order, started_at: now, ends_at });
        }
        let mut at_once: BTreeMap<JobId, usize> = BTreeMap::new();
        for job in self.in_hand.iter().filter_map(|run| job_of(&run.order.run_id)) {
            *at_once.entry(job.clone()).or_default() += 1;
        }
        self.most_in_hand = self.most_in_hand.max(self.in_hand.len());
        for (job, count) in at_once {
            let most = self.most_at_once.entry(job).or_default();
            *most = count.max(*most);
        }
        self.end_what_is_done(now).await
    }

    async fn end_what_is_done(&mut self, now: Timestamp) -> Result<()> {
        for run in std::mem::take(&mut self.in_hand) {
            let job = job_of(&run.order.run_id);
            let told = self.signals().told.contains(&run.order.run_id);
            if told && job.is_none_or(|job| !self.stubborn.contains(job)) {
                self.end(run, Outcome::Cancelled, now).await?;
                continue;
            }
            if run.ends_at > now {
                run.delivery.in_progress().await?;
                self.in_hand.push(run);
                continue;
            }
            self.end(run, Outcome::Succeeded, now).await?;
        }
        Ok(())
    }

    async fn end(&self, run: InHand, outcome: Outcome, now: Timestamp) -> Result<()> {
        let InHand { delivery, order, started_at, .. } = run;
        self.signals().in_hand.remove(&order.run_id);
        let (state, error) = match outcome {
            Outcome::Cancelled => (RunState::Cancelled, Some("cancelled".into())),
            _ => (RunState::Succeeded, None),
        };
        let end = AttemptEnd { attempt: 1, outcome, error, started_at, ended_at: now };
        let report = AttemptReport {
            run_id: order.run_id,
            queue: order.queue,
            revision: order.revision,
            generation: order.generation,
            end,
            ends_run: Some(state),
            reason: None,
            due_at: order.due_at,
            executor: "world".into(),
            output: None,
        };
        self.bus.report(&report).await?;
        delivery.ack().await?;
        Ok(())
    }

    fn signals(&self) -> MutexGuard<'_, Signals> {
        self.signals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn job_of(run: &RunId) -> Option<&JobId> {
    match run {
        RunId::Occurrence(occurrence) => Some(&occurrence.job),
        RunId::AdHoc { .. } => None,
    }
}
