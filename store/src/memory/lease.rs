//! Leases and live nodes in memory.

use std::time::Duration;

use model::shard::ShardId;
use model::time::Timestamp;

use super::{Deed, Lease, MemoryStore};
use crate::error::StoreError;
use crate::lease::{Epoch, LeaseReply, LeaseStore, Role};
use crate::node::{Node, NodeStore, NodeView};

impl LeaseStore for MemoryStore {
    async fn hold(
        &self,
        role: Role,
        node: &str,
        shards: &[ShardId],
        ttl: Duration,
    ) -> Result<Vec<LeaseReply>, StoreError> {
        self.act(|state, now| {
            let hold = |id: &ShardId| {
                let shard = state.shards.entry(*id).or_default();
                let (epoch, fresh) = match shard.holder(role, now) {
                    Some(lease) if lease.node != node => {
                        return LeaseReply::Held { by: lease.node.clone() };
                    }
                    Some(lease) => (lease.epoch, false),
                    None => {
                        let highest = shard.highest_epochs.get(&role).map_or(0, |epoch| epoch.0);
                        let now_ms = u64::try_from(now.as_ms()).unwrap_or(0);
                        (Epoch(now_ms.max(highest + 1)), true)
                    }
                };
                shard.highest_epochs.insert(role, epoch);
                shard.owners.insert((role, epoch), node.into());
                let expires_at = now.plus(ttl);
                shard.leases.insert(role, Lease { node: node.into(), epoch, expires_at });
                self.tell(&Deed::Granted { shard: *id, role, epoch, expires_at });
                LeaseReply::Granted { epoch, fresh }
            };
            Ok(shards.iter().map(hold).collect())
        })
        .await
    }

    async fn release(&self, role: Role, node: &str, shards: &[ShardId]) -> Result<(), StoreError> {
        self.act(|state, _| {
            for id in shards {
                let shard = state.shards.entry(*id).or_default();
                if shard.leases.get(&role).is_some_and(|lease| lease.node == node) {
                    shard.leases.remove(&role);
                    self.tell(&Deed::Released { shard: *id, role });
                }
            }
            Ok(())
        })
        .await
    }

    async fn now(&self) -> Result<Timestamp, StoreError> {
        self.act(|_, now| Ok(now)).await
    }
}

impl NodeStore for MemoryStore {
    async fn heartbeat(&self, node: &Node) -> Result<(Vec<NodeView>, Timestamp), StoreError> {
        self.act(|state, now| {
            state.nodes.insert(node.id.clone(), NodeView { node: node.clone(), heartbeat_at: now });
            Ok((state.nodes.values().cloned().collect(), now))
        })
        .await
    }

    async fn forget(&self, node_id: &str) -> Result<(), StoreError> {
        self.act(|state, _| {
            state.nodes.remove(node_id);
            Ok(())
        })
        .await
    }

    async fn nodes(&self) -> Result<Vec<NodeView>, StoreError> {
        self.act(|state, _| Ok(state.nodes.values().cloned().collect())).await
    }
}
