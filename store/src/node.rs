//! Live nodes: who is there, for which roles, with what weight.

use std::future::Future;

use model::time::Timestamp;

use crate::error::StoreError;
use crate::lease::Role;

/// A node as it announces itself with each heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub id: String,
    pub roles: Vec<Role>,
    /// Its share of the shards, relative to the others; 0 owns none.
    pub weight: u32,
    /// The ecron version it runs.
    pub version: String,
}

/// A node and when it was last heard of, by the store's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    pub node: Node,
    pub heartbeat_at: Timestamp,
}

pub trait NodeStore: Send + Sync + 'static {
    /// Announces a node; answers with every known node and the store's time.
    fn heartbeat(
        &self,
        node: &Node,
    ) -> impl Future<Output = Result<(Vec<NodeView>, Timestamp), StoreError>> + Send;

    /// Removes a node that stops, or that hasn't been heard of for long.
    fn forget(&self, node_id: &str) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Every known node.
    fn nodes(&self) -> impl Future<Output = Result<Vec<NodeView>, StoreError>> + Send;
}
