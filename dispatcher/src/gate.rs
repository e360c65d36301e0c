//! The gates of queues, as dispatchers use them: ask for runs that are due, leave for runs that have ended, and see to it
//! that whoever is let go gets back into the minute tier of its shard.
//!
//! The gate itself is in the store (`store::gate`), one for all dispatchers; its rule is `model::gate`.

use std::collections::BTreeMap;
use std::sync::Arc;

use ambient::Clock;
use bus::Nudge;
use model::gate::{GateRules, GateRun};
use model::id::{Entry, Occurrence};
use model::name::{JobId, QueueId};
use model::run::{RunState, WaitsFor};
use model::shard::{ShardCount, ShardId};
use model::time::Timestamp;
use store::ledger::{LedgerStore, Park, Wait};
use store::ownership::Lease;
use store::{GateStore, StoreError};

use crate::gate_keeper::gate_run;
use crate::jobs::KnownJob;
use crate::queue_rules::QueueRules;

/// How often in a row runs that turn out to have ended are replaced by the next ones; more are left to the keeper.
const REPLACEMENTS_MAX: usize = 100;

/// Whether a run that was let go is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// In its shard's minute tier, or published.
    UnderWay,
    /// Held back for its queue: whoever let it go didn't come to say so.
    Held,
    Over,
}

/// An entry that is due, and its job.
pub(crate) type DueRun = (Entry, Arc<KnownJob>);

/// What became of a batch of due entries at the gates of their queues.
#[derive(Debug, Default)]
pub(crate) struct Passed {
    /// May be published, in the order in which they were given.
    pub(crate) publish: Vec<DueRun>,
    /// Wait for their queue.
    pub(crate) parked: usize,
    /// Changed meanwhile: look again.
    pub(crate) undecided: usize,
}

/// Cheap to clone; the clones share everything.
#[derive(Debug)]
pub struct Gates<S, B> {
    pub(crate) store: Arc<S>,
    pub(crate) bus: Arc<B>,
    pub(crate) clock: Clock,
    pub(crate) shards: ShardCount,
    pub(crate) rules: QueueRules,
}

impl<S, B> Clone for Gates<S, B> {
    fn clone(&self) -> Self {
        Self {
            store: Arc::clone(&self.store),
            bus: Arc::clone(&self.bus),
            clock: self.clock.clone(),
            shards: self.shards,
            rules: self.rules.clone(),
        }
    }
}

impl<S: GateStore + LedgerStore, B: Nudge> Gates<S, B> {
    #[must_use]
    pub fn new(store: Arc<S>, bus: Arc<B>, clock: Clock, shards: ShardCount, rules: QueueRules) -> Self {
        Self { store, bus, clock, shards, rules }
    }

    /// What is known of the queues.
    #[must_use]
    pub fn rules(&self) -> &QueueRules {
        &self.rules
    }

    /// The shard that a queue's gate lives in.
    #[must_use]
    pub fn home(&self, queue: &QueueId) -> ShardId {
        self.shards.shard_of(&JobId { namespace: queue.namespace.clone(), name: queue.name.clone() })
    }

    /// Asks for a batch of due entries of one shard, once for each queue that has limits. Those that have to wait are
    /// parked; the others may be published.
    pub(crate) async fn pass(&self, lease: &Lease, due: Vec<DueRun>) -> Result<Passed, StoreError> {
        if self.rules.is_empty() {
            return Ok(Passed { publish: due, ..Passed::default() });
        }
        let mut asking: BTreeMap<QueueId, (Arc<GateRules>, Vec<usize>)> = BTreeMap::new();
        for (index, (_, job)) in due.iter().enumerate() {
            if let Some((_, runs)) = asking.get_mut(&job.spec.queue) {
                runs.push(index);
            } else if let Some(rules) = self.rules.of(&job.spec.queue) {
                asking.insert(job.spec.queue.clone(), (rules, vec![index]));
            }
        }
        let mut waits = vec![false; due.len()];
        for (queue, (rules, indices)) in asking {
            let run = |index: &usize| {
                let (entry, job) = &due[*index];
                gate_run(entry.occurrence.clone(), job)
            };
            let runs: Vec<GateRun> = indices.iter().map(run).collect();
            let may_go = self.admit(&queue, &rules, &runs).await?;
            for (index, may_go) in indices.into_iter().zip(may_go) {
                waits[index] = !may_go;
            }
        }
        let mut passed = Passed::default();
        let (mut parks, at) = (Vec::new(), self.clock.now());
        for ((entry, job), waits) in due.into_iter().zip(waits) {
            if waits {
                let triggered = !job.timeline.names(entry.occurrence.due_at);
                parks.push(Park { entry, wait: Wait::Queue, triggered, at });
            } else {
                passed.publish.push((entry, job));
            }
        }
        if !parks.is_empty() {
            let parked = self.store.park(lease.shard, lease.epoch, &parks).await?;
            passed.parked = parked.iter().filter(|parked| **parked).count();
            passed.undecided = parked.len() - passed.parked;
        }
        Ok(passed)
    }

    /// Asks for runs of one queue; `true` for each that may go now.
    pub(crate) async fn admit(
        &self,
        queue: &QueueId,
        rules: &GateRules,
        runs: &[GateRun],
    ) -> Result<Vec<bool>, StoreError> {
        let home = self.home(queue);
        let admission = self.store.admit(home, queue, rules, self.clock.now(), runs).await?;
        self.release(queue, rules, admission.released).await?;
        Ok(admission.may_go)
    }

    /// `leave` for runs of many queues.
    pub(crate) async fn leave_all(
        &self,
        ended: impl IntoIterator<Item = (QueueId, Occurrence)>,
    ) -> Result<(), StoreError> {
        let mut by_queue: BTreeMap<QueueId, Vec<Occurrence>> = BTreeMap::new();
        for (queue, run) in ended {
            by_queue.entry(queue).or_default().push(run);
        }
        for (queue, runs) in by_queue {
            self.leave(&queue, &runs).await?;
        }
        Ok(())
    }

    /// Says that runs have ended (or will never start). Nothing for a queue without limits.
    pub(crate) async fn leave(&self, queue: &QueueId, ended: &[Occurrence]) -> Result<(), StoreError> {
        let Some(rules) = self.rules.of(queue) else { return Ok(()) };
        self.let_go(queue, &rules, ended).await.map(drop)
    }

    /// Takes ended runs out and releases who may go now; answers with when to come again, by time alone.
    pub(crate) async fn let_go(
        &self,
        queue: &QueueId,
        rules: &GateRules,
        ended: &[Occurrence],
    ) -> Result<Option<Timestamp>, StoreError> {
        let picked = self.store.leave(self.home(queue), queue, rules, self.clock.now(), ended).await?;
        let again_at = self.release(queue, rules, picked.runs).await?;
        Ok(again_at.or(picked.next_at))
    }

    /// Puts runs that were let go back into the minute tier, and wakes their shards. One that has ended while it waited
    /// makes room for the next.
    pub(crate) async fn release(
        &self,
        queue: &QueueId,
        rules: &GateRules,
        mut released: Vec<Occurrence>,
    ) -> Result<Option<Timestamp>, StoreError> {
        let mut again_at = None;
        for _ in 0..REPLACEMENTS_MAX {
            let mut over = Vec::new();
            for (shard, runs) in self.by_shard(released) {
                let unparked = self.unpark(shard, &runs).await?;
                for (run, unparked) in runs.into_iter().zip(unparked) {
                    if !unparked && self.standing(shard, &run).await? == Standing::Over {
                        over.push(run);
                    }
                }
            }
            if over.is_empty() {
                break;
            }
            let picked = self.store.leave(self.home(queue), queue, rules, self.clock.now(), &over).await?;
            again_at = picked.next_at;
            released = picked.runs;
        }
        Ok(again_at)
    }

    /// Puts held runs back into their shard's minute tier, and wakes the shard.
    pub(crate) async fn unpark(&self, shard: ShardId, runs: &[Occurrence]) -> Result<Vec<bool>, StoreError> {
        let unparked = self.store.unpark(shard, runs).await?;
        if unparked.contains(&true)
            && let Err(problem) = self.bus.nudge(shard).await
        {
            // Without it, they wait for the dispatcher's next poll.
            tracing::debug!(%problem, %shard, "a nudge was lost");
        }
        Ok(unparked)
    }

    /// How an active run really stands.
    pub(crate) async fn standing(&self, shard: ShardId, run: &Occurrence) -> Result<Standing, StoreError> {
        // First the minute tier, then the record: a run moves in that order, and is never in neither before it has ended.
        let planned = self.store.is_planned(shard, run).await?;
        let record = self.store.run(shard, run).await?;
        Ok(match record {
            Some(record) if record.state.is_end() => Standing::Over,
            Some(record) if record.state == RunState::Waiting && !planned => match record.waits_for {
                Some(WaitsFor::Queue) => Standing::Held,
                // It waits for an earlier run of its job: it will ask again when it is its turn.
                Some(WaitsFor::Overlap) => Standing::Over,
                Some(WaitsFor::Dispatch) | None => Standing::UnderWay,
            },
            Some(_) => Standing::UnderWay,
            None if planned => Standing::UnderWay,
            None => Standing::Over,
        })
    }

    pub(crate) fn by_shard(&self, runs: Vec<Occurrence>) -> BTreeMap<ShardId, Vec<Occurrence>> {
        let mut by_shard: BTreeMap<ShardId, Vec<Occurrence>> = BTreeMap::new();
        for run in runs {
            by_shard.entry(self.shards.shard_of(&run.job)).or_default().push(run);
        }
        by_shard
    }
}
