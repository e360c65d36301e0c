//! The feed: spec changes into installs, in order of revision, for the shards that this planner owns.
//!
//! A shard is planned only once its feed has caught up: before that, the passage of time would move the plan past
//! specs that it doesn't know yet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use ambient::{Clock, Shutdown};
use bus::specs::{SpecChange, SpecStore};
use bus::{BusError, EditWriter, Nudge};
use futures_util::StreamExt;
use futures_util::stream::{BoxStream, ReadyChunks};
use model::id::Revision;
use model::name::JobId;
use model::shard::ShardId;
use model::time::{Timestamp, duration_ms};
use store::StoreError;
use store::ownership::Lease;
use store::plan::{Cursor, PlanStore, SpecsRead, UNOWNED_MAX};
use tokio::sync::watch;

use crate::install::{Applied, InstallError, Site, apply_change, apply_delete};

/// Changes that are installed at once.
pub const INSTALLS_IN_FLIGHT_MAX: usize = 256;
/// The wait before the feed starts again after the bus or the store failed.
const RESTART_DELAY: std::time::Duration = std::time::Duration::from_millis(250);

/// The shards that this planner owns, and which of them have their specs.
#[derive(Clone, Debug)]
pub struct Owned {
    leases: watch::Sender<BTreeMap<ShardId, Lease>>,
    ready: Arc<Mutex<BTreeSet<(ShardId, u64)>>>,
}

impl Default for Owned {
    fn default() -> Self {
        Self { leases: watch::Sender::new(BTreeMap::new()), ready: Arc::default() }
    }
}

impl Owned {
    /// Replaces the set of leases if it changed.
    pub fn set(&self, leases: BTreeMap<ShardId, Lease>) {
        self.leases.send_if_modified(|present| {
            let epochs =
                |set: &BTreeMap<ShardId, Lease>| set.values().map(|l| (l.shard, l.epoch)).collect::<Vec<_>>();
            let changed = epochs(present) != epochs(&leases);
            if changed {
                *present = leases;
            }
            changed
        });
    }

    fn mark_ready(&self, leases: &BTreeMap<ShardId, Lease>) {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        *ready = leases.values().map(|lease| (lease.shard, lease.epoch.0)).collect();
    }

    fn mark_unready(&self) {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The leases whose shards may be planned.
    #[must_use]
    pub fn ready(&self) -> Vec<Lease> {
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        let leases = self.leases.borrow();
        leases.values().filter(|l| ready.contains(&(l.shard, l.epoch.0)) && l.is_valid()).cloned().collect()
    }
}

/// Why one stretch of the feed ended.
#[derive(Debug, thiserror::Error)]
pub enum FeedEnd {
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Install(#[from] InstallError),
    #[error("read further changes: the stream of changes ended")]
    Ended,
    #[error("go on with the same shards: they changed hands")]
    OwnershipChanged,
}

/// Feeds until shutdown: one stretch for each set of owned shards, begun anew after every failure.
pub async fn run<S, B>(store: &S, bus: &B, owned: &Owned, clock: &Clock, shutdown: &Shutdown)
where
    S: PlanStore,
    B: SpecStore + bus::Checkpoints + Nudge + EditWriter,
{
    let mut leases = owned.leases.subscribe();
    let mut said = String::new();
    while !shutdown.stopping() {
        let present = leases.borrow_and_update().clone();
        let end = tokio::select! {
            biased;
            () = shutdown.stopped() => return,
            changed = leases.changed() => if changed.is_ok() { FeedEnd::OwnershipChanged } else { return },
            Err(end) = stretch(store, bus, owned, &present, clock) => end,
        };
        owned.mark_unready();
        if !matches!(end, FeedEnd::OwnershipChanged) {
            let problem = end.to_string();
            if problem != said {
                tracing::warn!(problem, "the spec feed waits for the servers");
                said = problem;
            }
            clock.sleep(RESTART_DELAY).await;
        }
    }
}

/// One stretch: bring every owned shard up to date, then follow changes. It only ever ends with a reason.
async fn stretch<S, B>(
    store: &S,
    bus: &B,
    owned: &Owned,
    leases: &BTreeMap<ShardId, Lease>,
    clock: &Clock,
) -> Result<std::convert::Infallible, FeedEnd>
where
    S: PlanStore,
    B: SpecStore + bus::Checkpoints + Nudge + EditWriter,
{
    if leases.is_empty() {
        return std::future::pending().await;
    }
    let mut feed = Feed::open(store, bus, leases, clock).await?;
    loop {
        if feed.next_chunk().await? {
            owned.mark_ready(leases);
        }
    }
}

/// The spec changes of some shards on their way into the store.
pub struct Feed<'a, S, B> {
    store: &'a S,
    bus: &'a B,
    leases: &'a BTreeMap<ShardId, Lease>,
    clock: &'a Clock,
    changes: ReadyChunks<BoxStream<'static, SpecChange>>,
    /// Up to where each shard's cursor is known to have been.
    reached: BTreeMap<ShardId, Revision>,
}

impl<S, B> std::fmt::Debug for Feed<'_, S, B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed").field("leases", self.leases).finish_non_exhaustive()
    }
}

impl<'a, S, B> Feed<'a, S, B>
where
    S: PlanStore,
    B: SpecStore + bus::Checkpoints + Nudge + EditWriter,
{
    /// Makes sure that each shard has a cursor, and starts after the oldest of them.
    pub async fn open(
        store: &'a S,
        bus: &'a B,
        leases: &'a BTreeMap<ShardId, Lease>,
        clock: &'a Clock,
    ) -> Result<Self, FeedEnd> {
        let reached = begin_shards(store, bus, leases, clock.now()).await?;
        let after = reached.values().min().copied().unwrap_or(Revision(u64::MAX));
        let shards: Vec<ShardId> = leases.keys().copied().collect();
        let changes = bus.changes(&shards, after).await?.ready_chunks(INSTALLS_IN_FLIGHT_MAX);
        Ok(Self { store, bus, leases, clock, changes, reached })
    }

    /// Installs the changes that are there, at least one; `true` once everything so far is installed.
    pub async fn next_chunk(&mut self) -> Result<bool, FeedEnd> {
        let Some(chunk) = self.changes.next().await else { return Err(FeedEnd::Ended) };
        let caught_up = chunk.iter().rev().find_map(|change| match change {
            SpecChange::CaughtUp { revision } => Some(*revision),
            SpecChange::Put { .. } | SpecChange::Deleted { .. } | SpecChange::Foreign { .. } => None,
        });
        let installs =
            chunk.into_iter().map(|change| install(self.store, self.bus, self.leases, change, self.clock));
        for outcome in futures_util::future::join_all(installs).await {
            outcome?;
        }
        // Everything of this chunk is in, so everything up to the last `CaughtUp` in it is.
        let Some(revision) = caught_up else { return Ok(false) };
        // A store that came back from an older file is behind what was reached, and may lack what was installed since: then
        // this is refused, and the feed begins again from where the store is.
        let progress = |lease: &Lease| {
            let from = self.reached.get(&lease.shard).copied().unwrap_or_default();
            self.store.progress(lease.shard, lease.epoch, None, Some(SpecsRead { from, to: revision }))
        };
        futures_util::future::try_join_all(self.leases.values().map(progress)).await?;
        self.reached.values_mut().for_each(|reached| *reached = revision.max(*reached));
        Ok(true)
    }
}

/// Makes sure that each shard has a cursor; answers with the revisions after which changes are needed.
async fn begin_shards<S, B>(
    store: &S,
    bus: &B,
    leases: &BTreeMap<ShardId, Lease>,
    now: Timestamp,
) -> Result<BTreeMap<ShardId, Revision>, FeedEnd>
where
    S: PlanStore,
    B: bus::Checkpoints,
{
    let mut checkpoints = None;
    let mut reached = BTreeMap::new();
    for lease in leases.values() {
        let cursor = match store.cursor(lease.shard).await? {
            Some(cursor) => cursor,
            None => {
                if checkpoints.is_none() {
                    checkpoints = Some(bus.checkpoints().await?);
                }
                let known = checkpoints.as_ref().and_then(|all| all.get(&lease.shard)).copied();
                begin(store, lease, known, now).await?
            }
        };
        reached.insert(lease.shard, cursor.spec_revision);
    }
    Ok(reached)
}

/// A new cursor: the shard is new, or Redis lost it. What was due before its checkpoint has been dispatched; without one,
/// nothing has, though jobs may have been accepted.
async fn begin<S: PlanStore>(
    store: &S,
    lease: &Lease,
    checkpoint: Option<Timestamp>,
    now: Timestamp,
) -> Result<Cursor, StoreError> {
    let from = checkpoint.unwrap_or(now.plus_ms(-duration_ms(UNOWNED_MAX))).min(now);
    if checkpoint.is_some() {
        tracing::warn!(shard = %lease.shard, %from, "the shard's plan was lost; it is rebuilt from its checkpoint");
    }
    let cursor = Cursor {
        incarnation: format!("{}-{}", lease.epoch.0, now.as_ms()),
        planned_until: from,
        taken_until: from,
        spec_revision: Revision(0),
    };
    store.begin(lease.shard, lease.epoch, &cursor).await
}

/// A job whose stored state is broken fails alone: the feed goes on without it.
fn alone(job: &JobId, outcome: Result<Applied, InstallError>) -> Result<Applied, InstallError> {
    match outcome {
        Err(InstallError::Store(StoreError::Corrupt { key, problem })) => {
            tracing::error!(%job, key, problem, "the job can't be installed");
            Ok(Applied::Invalid)
        }
        outcome => outcome,
    }
}

async fn install<S, B>(
    store: &S,
    bus: &B,
    leases: &BTreeMap<ShardId, Lease>,
    change: SpecChange,
    clock: &Clock,
) -> Result<(), FeedEnd>
where
    S: PlanStore,
    B: Nudge + EditWriter,
{
    let site = |shard: ShardId| {
        leases.get(&shard).map(|lease| Site { store, bus, shard, epoch: lease.epoch, now: clock.now() })
    };
    let (shard, job, revision, applied) = match change {
        SpecChange::Put { job, shard, spec } => {
            let Some(site) = site(shard) else { return Ok(()) };
            let applied = alone(&job, apply_change(&site, &job, &spec).await)?;
            (shard, job, spec.revision, applied)
        }
        SpecChange::Deleted { job, shard, revision, by } => {
            let Some(site) = site(shard) else { return Ok(()) };
            let applied = alone(&job, apply_delete(&site, &job, revision, by).await)?;
            (shard, job, revision, applied)
        }
        SpecChange::Foreign { key, revision } => {
            tracing::warn!(key, %revision, "a key in the spec bucket isn't a job's; it is left alone");
            return Ok(());
        }
        SpecChange::CaughtUp { .. } => return Ok(()),
    };
    match applied {
        // A lost nudge costs the dispatcher's poll interval.
        Applied::Installed { near: true } => bus.nudge(shard).await?,
        Applied::Installed { near: false } | Applied::Deleted | Applied::AlreadyThere => {}
        Applied::Invalid => {
            tracing::warn!(%job, %revision, "the spec is invalid: its last valid revision stays in force, see `ecron describe`");
        }
    }
    tracing::debug!(%job, %revision, ?applied, "spec change");
    Ok(())
}
