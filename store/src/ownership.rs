//! Ownership: which shards this node should hold, and the leases it does hold.
//!
//! No leader decides: every node computes the same answer from the live nodes (`model::shard::owner_of`), and leases
//! make sure. A node stops acting for a shard by its own monotonic clock before its lease can have run out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use model::shard::{Candidate, ShardCount, ShardId, owner_of};
use model::time::{Timestamp, duration_ms};
use tokio::time::Instant;

use crate::error::StoreError;
use crate::lease::{Epoch, LeaseReply, LeaseStore, Role};
use crate::node::{Node, NodeStore, NodeView};

/// How long a lease lasts unless it is renewed.
pub const LEASE_TTL: Duration = Duration::from_secs(3);
/// How often leases are renewed and the node's heartbeat is sent.
pub const RENEW_INTERVAL: Duration = Duration::from_secs(1);
/// A node that hasn't been heard of for this long is taken for dead.
pub const NODE_TIMEOUT: Duration = Duration::from_secs(5);

/// A lease in this node's hands. Cheap to clone; every clone sees renewals.
#[derive(Clone, Debug)]
pub struct Lease {
    pub shard: ShardId,
    pub epoch: Epoch,
    valid_until: Arc<std::sync::Mutex<Instant>>,
}

impl Lease {
    fn new(shard: ShardId, epoch: Epoch, valid_until: Instant) -> Self {
        Self { shard, epoch, valid_until: Arc::new(std::sync::Mutex::new(valid_until)) }
    }

    /// Whether the holder may still act. Once it may not, somebody else may.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        Instant::now() < *self.valid_until.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn renewed(&self, valid_until: Instant) {
        *self.valid_until.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = valid_until;
    }
}

/// The store's clock against ours, as one round trip showed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockSample {
    /// The store's clock minus ours; zero where the round trip can't tell it from zero.
    pub offset_ms: i64,
    /// The round trip: half of it bounds the error.
    pub round_trip_ms: i64,
}

impl ClockSample {
    pub(crate) fn new(before: Timestamp, store_now: Timestamp, after: Timestamp) -> Self {
        let round_trip_ms = after.ms_since(before);
        let measured_ms = store_now.ms_since(before.plus_ms(round_trip_ms / 2));
        let indistinct = measured_ms.abs() <= round_trip_ms / 2 + 1;
        Self { offset_ms: if indistinct { 0 } else { measured_ms }, round_trip_ms }
    }

    /// What to correct our clock by, so that it isn't ahead of the store's: who is a little late does no harm. Nothing, if the
    /// round trip can't tell the two apart.
    #[must_use]
    pub fn correction_ms(&self) -> i64 {
        if self.offset_ms == 0 { 0 } else { self.offset_ms - self.round_trip_ms / 2 }
    }
}

/// What one renewal changed.
#[derive(Debug, Default)]
pub struct OwnershipChange {
    pub gained: Vec<Lease>,
    pub lost: Vec<ShardId>,
    /// Held, but another node should: hand them over.
    pub surplus: Vec<ShardId>,
}

/// The shards that one node holds in one role.
#[derive(Debug)]
pub struct Ownership {
    role: Role,
    node: String,
    shards: ShardCount,
    held: BTreeMap<ShardId, Lease>,
}

impl Ownership {
    #[must_use]
    pub fn new(role: Role, node: &str, shards: ShardCount) -> Self {
        Self { role, node: node.into(), shards, held: BTreeMap::new() }
    }

    #[must_use]
    pub fn held(&self) -> &BTreeMap<ShardId, Lease> {
        &self.held
    }

    /// The shards that this node should own, given who is alive.
    #[must_use]
    pub fn desired(&self, nodes: &[NodeView], now: Timestamp) -> BTreeSet<ShardId> {
        let alive = |view: &&NodeView| {
            view.node.roles.contains(&self.role)
                && now.ms_since(view.heartbeat_at) < duration_ms(NODE_TIMEOUT)
        };
        let candidates: Vec<Candidate<'_>> = nodes
            .iter()
            .filter(alive)
            .map(|view| Candidate { node: &view.node.id, weight: view.node.weight })
            .collect();
        self.shards.all().filter(|shard| owner_of(*shard, &candidates) == Some(self.node.as_str())).collect()
    }

    /// One beat: announces the node, then renews its leases. Answers with the change and a sample of the store's clock.
    pub async fn beat<S: LeaseStore + NodeStore>(
        &mut self,
        store: &S,
        node: &Node,
        local_now: impl Fn() -> Timestamp,
    ) -> Result<(OwnershipChange, ClockSample), StoreError> {
        let before = local_now();
        let (nodes, store_now) = store.heartbeat(node).await?;
        let sample = ClockSample::new(before, store_now, local_now());
        Ok((self.renew(store, &nodes, store_now).await?, sample))
    }

    /// Renews what is held and desired, and asks for what is desired. Shards that are held but not desired are
    /// renewed too, and reported as surplus, until `give_back`.
    pub async fn renew<S: LeaseStore>(
        &mut self,
        store: &S,
        nodes: &[NodeView],
        now: Timestamp,
    ) -> Result<OwnershipChange, StoreError> {
        let desired = self.desired(nodes, now);
        let wanted: Vec<ShardId> =
            desired.iter().chain(self.held.keys()).copied().collect::<BTreeSet<_>>().into_iter().collect();
        let asked_at = Instant::now();
        let replies = store.hold(self.role, &self.node, &wanted, LEASE_TTL).await?;
        let valid_until = asked_at + LEASE_TTL;
        let mut change = OwnershipChange::default();
        for (shard, reply) in wanted.into_iter().zip(replies) {
            match (reply, self.held.get(&shard)) {
                (LeaseReply::Granted { epoch, .. }, Some(lease)) if lease.epoch == epoch => {
                    lease.renewed(valid_until);
                    if !desired.contains(&shard) {
                        change.surplus.push(shard);
                    }
                }
                (LeaseReply::Granted { epoch, .. }, known) => {
                    if known.is_some() {
                        change.lost.push(shard);
                    }
                    let lease = Lease::new(shard, epoch, valid_until);
                    self.held.insert(shard, lease.clone());
                    change.gained.push(lease);
                }
                (LeaseReply::Held { .. }, Some(_)) => {
                    self.held.remove(&shard);
                    change.lost.push(shard);
                }
                (LeaseReply::Held { .. }, None) => {}
            }
        }
        Ok(change)
    }

    /// Gives leases back, so that a successor needn't wait for them to run out.
    pub async fn give_back<S: LeaseStore>(
        &mut self,
        store: &S,
        shards: &[ShardId],
    ) -> Result<(), StoreError> {
        store.release(self.role, &self.node, shards).await?;
        self.held.retain(|shard, _| !shards.contains(shard));
        Ok(())
    }
}
