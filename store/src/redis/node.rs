//! Live nodes in Redis: one hash.

use model::time::Timestamp;
use redis::Value;

use super::link::Call;
use super::script::HEARTBEAT;
use super::{RedisStore, value};
use crate::error::StoreError;
use crate::keys;
use crate::node::{Node, NodeStore, NodeView};
use crate::record;

impl NodeStore for RedisStore {
    async fn heartbeat(&self, node: &Node) -> Result<(Vec<NodeView>, Timestamp), StoreError> {
        let call = Call::new(&HEARTBEAT, &[keys::NODES.into()]).arg(&node.id).arg(record::node_json(node));
        let [now, nodes] = value::row(self.keeper.run(&call).await?, "heartbeat")?;
        Ok((views(nodes)?, Timestamp::from_ms(value::number(&now, "heartbeat")?)))
    }

    async fn forget(&self, node_id: &str) -> Result<(), StoreError> {
        let mut command = redis::cmd("HDEL");
        command.arg(keys::NODES).arg(node_id);
        self.keeper.query(&command).await.map(drop)
    }

    async fn nodes(&self) -> Result<Vec<NodeView>, StoreError> {
        let mut command = redis::cmd("HGETALL");
        command.arg(keys::NODES);
        views(self.keeper.query(&command).await?)
    }
}

/// The nodes in the answer, by id. One that can't be read is left out: it must not hide the others.
fn views(answer: Value) -> Result<Vec<NodeView>, StoreError> {
    let mut texts: Vec<Value> = match answer {
        Value::Map(pairs) => pairs.into_iter().map(|(_, json)| json).collect(),
        answer => value::items(answer, "HGETALL")?.into_iter().skip(1).step_by(2).collect(),
    };
    let mut nodes: Vec<_> = texts
        .drain(..)
        .filter_map(value::text)
        .filter_map(|json| match record::node_from(keys::NODES, &json) {
            Ok(node) => Some(node),
            Err(error) => {
                tracing::warn!(%error, "left a node's announcement out");
                None
            }
        })
        .collect();
    nodes.sort_by(|a, b| a.node.id.cmp(&b.node.id));
    Ok(nodes)
}
