//! A planner at work: leases, passes, feed, intake and API, until it is told to stop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ambient::{Clock, Shutdown};
use bus::{
    ApiServer, AuditLog, Checkpoints, DeadLetters, EditWriter, Intake, Nudge, ObjectStore, QueueBacklog,
    RunStream, SpecStore,
};
use futures_util::StreamExt;
use model::plan::{minute_tier_until, pass_is_due};
use model::shard::{ShardCount, ShardId};
use model::time::Timestamp;
use store::lease::{Epoch, Role};
use store::node::Node;
use store::ownership::{Lease, Ownership, RENEW_INTERVAL};
use store::{Store, StoreError};

use crate::api::{self, Api};
use crate::audits;
use crate::backfill;
use crate::feed::{self, Owned};
use crate::intake;
use crate::pass::{DeclaredCache, plan_shard};

/// Shards that are planned at once.
const PASSES_IN_FLIGHT_MAX: usize = 16;
/// The wait before a loop tries again after the bus or the store failed.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// Who this planner is.
#[derive(Clone, Debug)]
pub struct PlannerConfig {
    pub node: Node,
    pub shards: ShardCount,
    /// How often each shard is audited (`audits::AUDIT_PERIOD`).
    pub audit_period: Duration,
}

/// What a planner needs from the bus.
pub trait PlannerBus:
    SpecStore
    + ObjectStore
    + Checkpoints
    + Nudge
    + ApiServer
    + Intake
    + DeadLetters
    + RunStream
    + AuditLog
    + QueueBacklog
    + EditWriter
{
}
impl<T> PlannerBus for T where
    T: SpecStore
        + ObjectStore
        + Checkpoints
        + Nudge
        + ApiServer
        + Intake
        + DeadLetters
        + RunStream
        + AuditLog
        + QueueBacklog
        + EditWriter
{
}

#[derive(Debug)]
pub struct Planner<S, B> {
    store: Arc<S>,
    bus: Arc<B>,
    clock: Clock,
    config: PlannerConfig,
    owned: Owned,
    cache: DeclaredCache,
}

impl<S: Store, B: PlannerBus> Planner<S, B> {
    #[must_use]
    pub fn new(store: Arc<S>, bus: Arc<B>, clock: Clock, config: PlannerConfig) -> Self {
        Self { store, bus, clock, config, owned: Owned::default(), cache: DeclaredCache::default() }
    }

    /// Works until shutdown, then gives its leases back.
    pub async fn run(self, shutdown: Shutdown) {
        let api = Arc::new(Api::new(
            Arc::clone(&self.store),
            Arc::clone(&self.bus),
            self.clock.clone(),
            self.config.shards,
        ));
        tokio::join!(
            self.keep_leases(&shutdown),
            self.plan(&shutdown),
            feed::run(&*self.store, &*self.bus, &self.owned, &self.clock, &shutdown),
            backfill::run(&*self.store, &*self.bus, &self.owned, self.config.shards, &self.clock, &shutdown),
            audits::run(
                &*self.store,
                &*self.bus,
                &self.owned,
                &self.cache,
                self.config.audit_period,
                &self.clock,
                &shutdown
            ),
            intake::run(&api, &*self.bus, &self.clock, &shutdown),
            api::serve(Arc::clone(&api), &*self.bus, &self.clock, &shutdown),
        );
    }

    /// Keeps the leases, whatever the passes are busy with; in the end gives them back.
    async fn keep_leases(&self, shutdown: &Shutdown) {
        let mut ownership = Ownership::new(Role::Planner, &self.config.node.id, self.config.shards);
        let mut health = Health::default();
        while !shutdown.stopping() {
            health.note(self.beat(&mut ownership).await, "keeping leases");
            self.rest(shutdown).await;
        }
        let held: Vec<ShardId> = ownership.held().keys().copied().collect();
        self.owned.set(BTreeMap::new());
        let farewell = async {
            ownership.give_back(&*self.store, &held).await?;
            self.store.forget(&self.config.node.id).await
        };
        if let Err(problem) = farewell.await {
            tracing::warn!(%problem, "the planner's leases run out by themselves");
        }
    }

    async fn plan(&self, shutdown: &Shutdown) {
        let mut health = Health::default();
        let mut planned = Planned::new();
        while !shutdown.stopping() {
            health.note(self.pass(&mut planned).await, "planning");
            self.rest(shutdown).await;
        }
    }

    async fn rest(&self, shutdown: &Shutdown) {
        tokio::select! {
            biased;
            () = shutdown.stopped() => {}
            () = self.clock.sleep(RENEW_INTERVAL) => {}
        }
    }

    /// One beat: heartbeat, clock offset, leases; surplus shards go to their new owner at once.
    async fn beat(&self, ownership: &mut Ownership) -> Result<(), StoreError> {
        // Against the clock as it is corrected already, so that a sample that tells nothing new changes nothing.
        let offset_ms = self.clock.offset_ms();
        let corrected = || self.clock.local_now().plus_ms(offset_ms);
        let (change, sample) = ownership.beat(&*self.store, &self.config.node, corrected).await?;
        self.clock.set_offset_ms(offset_ms + sample.correction_ms());
        if !change.surplus.is_empty() {
            ownership.give_back(&*self.store, &change.surplus).await?;
        }
        self.owned.set(ownership.held().clone());
        Ok(())
    }

    /// One pass over every shard that is owned, has its specs, and is due to be planned.
    async fn pass(&self, planned: &mut Planned) -> Result<(), StoreError> {
        let now = self.clock.now();
        let ready = self.owned.ready();
        planned.retain(|shard, (epoch, _)| {
            ready.iter().any(|lease| lease.shard == *shard && lease.epoch == *epoch)
        });
        let is_due = |lease: &Lease| {
            planned.get(&lease.shard).is_none_or(|(_, until)| pass_is_due(*until, lease.shard, now))
        };
        let passes = ready.into_iter().filter(is_due).map(|lease| async move {
            let outcome = plan_shard(&*self.store, lease.shard, lease.epoch, &self.cache, now).await;
            (lease, outcome)
        });
        let passes: Vec<_> = passes.collect();
        let outcomes: Vec<_> =
            futures_util::stream::iter(passes).buffer_unordered(PASSES_IN_FLIGHT_MAX).collect().await;
        let mut first_problem = None;
        for (lease, outcome) in outcomes {
            match outcome {
                Ok(report) => {
                    if report.jobs > 0 {
                        tracing::debug!(shard = %lease.shard, ?report, "planned");
                    }
                    if !report.more {
                        planned.insert(lease.shard, (lease.epoch, minute_tier_until(now)));
                    }
                }
                // The next beat finds out who owns it.
                Err(StoreError::Fenced) => {}
                Err(problem) => first_problem = first_problem.or(Some(problem)),
            }
        }
        first_problem.map_or(Ok(()), Err)
    }
}

/// How far each owned shard is planned, under the lease that it was planned under.
type Planned = BTreeMap<ShardId, (Epoch, Timestamp)>;

/// Says once that a loop can't work, and once that it works again.
#[derive(Debug, Default)]
struct Health {
    ailing: bool,
}

impl Health {
    fn note(&mut self, outcome: Result<(), StoreError>, what: &str) {
        match outcome {
            Ok(()) if self.ailing => {
                tracing::info!("{what} goes on");
                self.ailing = false;
            }
            Err(problem) if !self.ailing => {
                tracing::warn!(%problem, "{what} waits for the store");
                self.ailing = true;
            }
            Ok(()) | Err(_) => {}
        }
    }
}

/// After a failed step of a loop: says why, and waits a little or until shutdown.
pub(crate) async fn pause_after(
    problem: &(dyn std::fmt::Display + Sync),
    what: &str,
    clock: &Clock,
    shutdown: &Shutdown,
) {
    tracing::warn!(%problem, "{what} waits for the servers");
    tokio::select! {
        biased;
        () = shutdown.stopped() => {}
        () = clock.sleep(RETRY_DELAY) => {}
    }
}
