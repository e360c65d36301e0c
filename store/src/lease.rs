//! Leases: time-bound ownership of a shard by one planner and one dispatcher.

use std::future::Future;
use std::time::Duration;

use model::shard::ShardId;
use model::time::Timestamp;

use crate::error::StoreError;

/// The role that a lease is for. A shard has one lease for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    Planner,
    Dispatcher,
}

impl Role {
    /// Both, as they are listed.
    pub const ALL: [Self; 2] = [Self::Planner, Self::Dispatcher];

    /// The word in keys and records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Planner => "planner",
            Self::Dispatcher => "dispatcher",
        }
    }

    /// The role of that word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == word)
    }
}

/// The number that proves a lease is the newest. `max(previous + 1, store time in ms)`, so that it doesn't go back
/// when the store loses its newest writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// The answer to asking for, or renewing, a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseReply {
    /// Held by the caller until its time to live is over. `fresh` if it wasn't the holder before.
    Granted { epoch: Epoch, fresh: bool },
    /// Held by another node.
    Held { by: String },
}

/// One shard's two leases, as an operator sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseView {
    pub shard: ShardId,
    pub role: Role,
    pub node: String,
    pub epoch: Epoch,
    pub expires_in: Duration,
}

pub trait LeaseStore: Send + Sync + 'static {
    /// Acquires or renews the lease of each shard for `node`, for `ttl` from now; one reply a shard, in order.
    fn hold(
        &self,
        role: Role,
        node: &str,
        shards: &[ShardId],
        ttl: Duration,
    ) -> impl Future<Output = Result<Vec<LeaseReply>, StoreError>> + Send;

    /// Gives leases back, so that a successor needn't wait. Leases of others are left alone.
    fn release(
        &self,
        role: Role,
        node: &str,
        shards: &[ShardId],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The store's clock: "now" for every due decision (Redis TIME).
    fn now(&self) -> impl Future<Output = Result<Timestamp, StoreError>> + Send;
}
