//! The keeper of a shard's gates: lets runs go whose time has come by itself (a rate, a pause that is over), and repairs
//! what a crash left halfway.
//!
//! Two halves, since a gate and the runs that it holds back live in different shards: the gates that are at home here, and
//! the runs of this shard's jobs that are held back. Every step is safe to repeat and needs no lease.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bus::Nudge;
use model::gate::{GateRules, GateRun};
use model::id::{Occurrence, Revision};
use model::name::{JobId, QueueId};
use model::shard::ShardId;
use model::time::Timestamp;
use store::ledger::LedgerStore;
use store::plan::PlanStore;
use store::{GateStore, StoreError};

use crate::gate::{Gates, Standing};
use crate::jobs::{Jobs, KnownJob};

/// How often gates are looked at, for lack of a nearer instant.
pub const KEEP_INTERVAL: Duration = Duration::from_millis(250);
/// How often they are looked at while no queue has limits.
const IDLE_INTERVAL: Duration = Duration::from_secs(5);
/// How often what a crash left is looked for.
const HEAL_INTERVAL: Duration = Duration::from_secs(1);
/// A run that was let go and that nobody has seen for this long is looked at.
const UNSEEN_AFTER: Duration = Duration::from_secs(2);
/// Runs that are looked at in one pass, of each gate and of the held ones.
const HEAL_BATCH_MAX: usize = 100;

/// Keeps the gates of one shard.
#[derive(Debug)]
pub struct GateKeeper<S, B> {
    gates: Gates<S, B>,
    jobs: Jobs,
    shard: ShardId,
    /// When what was left is looked for again.
    heal_at: Timestamp,
    /// How many held runs the last passes have looked at.
    held_seen: usize,
}

impl<S, B> GateKeeper<S, B>
where
    S: GateStore + LedgerStore + PlanStore,
    B: Nudge,
{
    #[must_use]
    pub fn new(gates: Gates<S, B>, jobs: Jobs, shard: ShardId) -> Self {
        Self { gates, jobs, shard, heal_at: Timestamp::default(), held_seen: 0 }
    }

    /// One pass; answers with when the next one should come.
    ///
    /// # Errors
    /// The store couldn't be asked; the pass may be repeated.
    pub async fn run_once(&mut self, now: Timestamp) -> Result<Timestamp, StoreError> {
        let heal = now >= self.heal_at;
        // A cluster without limits has nothing to keep; what is left of earlier ones isn't urgent.
        let idle = self.gates.rules.is_empty();
        let mut next = now.plus(if idle { IDLE_INTERVAL } else { KEEP_INTERVAL });
        let mut queues = self.gates.rules.queues();
        queues.retain(|queue| self.gates.home(queue) == self.shard);
        if heal {
            queues.extend(self.gates.store.gates(self.shard).await?);
            queues.sort();
            queues.dedup();
        }
        for queue in queues {
            // Without rules (any more) everybody may go.
            let rules = self.gates.rules.of(&queue).unwrap_or_default();
            let ended = if heal { self.over(&queue, &rules, now).await? } else { Vec::new() };
            if let Some(at) = self.gates.let_go(&queue, &rules, &ended).await? {
                next = next.min(at.max(now));
            }
        }
        if heal {
            self.look_after_held(now).await?;
            self.heal_at = now.plus(if idle { IDLE_INTERVAL } else { HEAL_INTERVAL });
        }
        Ok(next)
    }

    /// The active runs of a gate that have ended without leaving. Those whose release was lost are released.
    async fn over(
        &self,
        queue: &QueueId,
        rules: &GateRules,
        now: Timestamp,
    ) -> Result<Vec<Occurrence>, StoreError> {
        let store = &self.gates.store;
        let until = now.plus_ms(-model::time::duration_ms(UNSEEN_AFTER));
        let unseen = store.gate_unseen(self.shard, queue, until, HEAL_BATCH_MAX).await?;
        let (mut over, mut held, mut seen) = (Vec::new(), Vec::new(), Vec::new());
        for (shard, runs) in self.gates.by_shard(unseen) {
            let standings = runs.iter().map(|run| self.gates.standing(shard, run));
            let standings = futures_util::future::try_join_all(standings).await?;
            for (run, standing) in runs.into_iter().zip(standings) {
                match standing {
                    Standing::Over => over.push(run),
                    Standing::Held => held.push(run),
                    Standing::UnderWay => seen.push(run),
                }
            }
        }
        seen.extend(held.iter().cloned());
        store.gate_seen(self.shard, queue, now, &seen).await?;
        self.gates.release(queue, rules, held).await?;
        Ok(over)
    }

    /// Runs of this shard that are held back: each must wait in its queue's gate, or go.
    async fn look_after_held(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let store = Arc::clone(&self.gates.store);
        let held = store.held(self.shard, self.held_seen, HEAL_BATCH_MAX).await?;
        self.held_seen = if held.len() < HEAL_BATCH_MAX { 0 } else { self.held_seen + held.len() };
        if held.is_empty() {
            return Ok(());
        }
        let jobs = self.present_jobs(&held).await?;
        let mut asking: BTreeMap<QueueId, Vec<GateRun>> = BTreeMap::new();
        let mut free = Vec::new();
        for (run, job) in held.into_iter().zip(jobs) {
            match job {
                Some(job) if self.gates.rules.of(&job.spec.queue).is_some() => {
                    asking.entry(job.spec.queue.clone()).or_default().push(gate_run(run, &job));
                }
                // Its queue has no limits any more; or its job is gone, which the next pass of its shard says.
                Some(_) | None => free.push(run),
            }
        }
        for (queue, runs) in asking {
            let Some(rules) = self.gates.rules.of(&queue) else { continue };
            let may_go = self.gates.admit(&queue, &rules, &runs).await?;
            let admitted = runs.into_iter().zip(may_go).filter(|(_, may_go)| *may_go);
            free.extend(admitted.map(|(run, _)| run.occurrence));
        }
        if !free.is_empty() {
            tracing::debug!(shard = %self.shard, runs = free.len(), %now, "held runs may go");
            self.gates.unpark(self.shard, &free).await?;
        }
        Ok(())
    }

    async fn present_jobs(&self, runs: &[Occurrence]) -> Result<Vec<Option<Arc<KnownJob>>>, StoreError> {
        let names: Vec<JobId> = runs.iter().map(|run| run.job.clone()).collect();
        let records = self.gates.store.jobs(self.shard, &names).await?;
        let wanted: Vec<(JobId, Revision)> = names
            .into_iter()
            .zip(records)
            .map(|(job, record)| (job, record.map(|record| record.revision).unwrap_or_default()))
            .collect();
        self.jobs.at(&*self.gates.store, self.shard, &wanted).await
    }
}

/// A run as its gate knows it.
pub(crate) fn gate_run(occurrence: Occurrence, job: &KnownJob) -> GateRun {
    GateRun { occurrence, priority: job.spec.priority, rate_key: job.spec.rate_key.clone() }
}
