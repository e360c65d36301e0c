//! Checkpoints and cluster settings, in the KV bucket `ecron_checkpoints`: what survives the loss of Redis.

use std::collections::BTreeMap;
use std::future::Future;

use model::shard::{ShardCount, ShardId};
use model::time::Timestamp;

use crate::error::BusError;

/// What was fixed when the cluster was initialised.
#[derive(Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Minted once; tells clusters on one server apart in logs.
    pub id: String,
    pub shards: ShardCount,
    /// The secret behind the message ids of scheduled runs, so that no publisher can occupy a future one.
    pub message_id_key: [u8; 16],
    pub created_at: Timestamp,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("id", &self.id).field("shards", &self.shards).finish_non_exhaustive()
    }
}

pub trait Checkpoints: Send + Sync + 'static {
    /// The cluster's settings, writing `proposal` first if there are none.
    fn init_cluster(&self, proposal: &Cluster) -> impl Future<Output = Result<Cluster, BusError>> + Send;

    /// The cluster's settings, if it was initialised.
    fn cluster(&self) -> impl Future<Output = Result<Option<Cluster>, BusError>> + Send;

    /// Records for each shard that everything due up to an instant was published or skipped. One value for all
    /// shards of a node, overwritten, at most once a second.
    fn save_checkpoint(
        &self,
        node: &str,
        dispatched_until: &BTreeMap<ShardId, Timestamp>,
    ) -> impl Future<Output = Result<(), BusError>> + Send;

    /// The latest instant that any node recorded for each shard.
    fn checkpoints(&self) -> impl Future<Output = Result<BTreeMap<ShardId, Timestamp>, BusError>> + Send;
}
