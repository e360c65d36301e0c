//! Cluster settings and dispatch checkpoints as JSON, version 1, in the KV bucket `ecron_checkpoints`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use model::shard::{ShardCount, ShardId};
use model::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::checkpoints::Cluster;
use crate::subjects::KEY_NODE_PREFIX;

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClusterV1 {
    v: u32,
    id: String,
    shards: u16,
    /// 32 hexadecimal digits.
    message_id_key: String,
    created_at: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CheckpointV1 {
    v: u32,
    node: String,
    dispatched_until: BTreeMap<String, String>,
}

fn check_version(v: u32) -> Result<(), String> {
    if v == VERSION {
        Ok(())
    } else {
        Err(format!("version {v}; this version of ecron reads only {VERSION}"))
    }
}

#[must_use]
pub fn encode_cluster(cluster: &Cluster) -> Bytes {
    let form = ClusterV1 {
        v: VERSION,
        id: cluster.id.clone(),
        shards: cluster.shards.get(),
        message_id_key: cluster.message_id_key.iter().map(|byte| format!("{byte:02x}")).collect(),
        created_at: cluster.created_at.to_string(),
    };
    serde_json::to_vec(&form).unwrap_or_default().into()
}

/// The cluster's settings; the error says what is wrong with them.
pub fn decode_cluster(value: &[u8]) -> Result<Cluster, String> {
    let form: ClusterV1 = serde_json::from_slice(value).map_err(|e| e.to_string())?;
    check_version(form.v)?;
    let shards =
        ShardCount::new(form.shards).ok_or_else(|| format!("shards: {} is out of range", form.shards))?;
    let created_at = form.created_at.parse().map_err(|e| format!("createdAt: failed to {e}"))?;
    Ok(Cluster { id: form.id, shards, message_id_key: key_of_hex(&form.message_id_key)?, created_at })
}

fn key_of_hex(text: &str) -> Result<[u8; 16], String> {
    let malformed = || "messageIdKey: expected 32 hexadecimal digits".to_owned();
    if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(malformed());
    }
    u128::from_str_radix(text, 16).map(u128::to_be_bytes).map_err(|_| malformed())
}

/// The key of a node's checkpoint. Names that a KV key can't hold are encoded.
#[must_use]
pub fn checkpoint_key(node: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if !node.is_empty() && node.bytes().all(plain) {
        format!("{KEY_NODE_PREFIX}{node}")
    } else {
        format!("{KEY_NODE_PREFIX}={}", URL_SAFE_NO_PAD.encode(node))
    }
}

#[must_use]
pub fn encode_checkpoint(node: &str, dispatched_until: &BTreeMap<ShardId, Timestamp>) -> Bytes {
    let dispatched_until =
        dispatched_until.iter().map(|(shard, at)| (shard.to_string(), at.to_string())).collect();
    let form = CheckpointV1 { v: VERSION, node: node.into(), dispatched_until };
    serde_json::to_vec(&form).unwrap_or_default().into()
}

pub fn decode_checkpoint(value: &[u8]) -> Result<BTreeMap<ShardId, Timestamp>, String> {
    let form: CheckpointV1 = serde_json::from_slice(value).map_err(|e| e.to_string())?;
    check_version(form.v)?;
    let entry = |(shard, at): (String, String)| {
        let shard = shard.parse().map(ShardId).map_err(|_| format!("shard {shard:?}"))?;
        Ok((shard, at.parse().map_err(|e| format!("shard {shard}: failed to {e}"))?))
    };
    form.dispatched_until.into_iter().map(entry).collect()
}

/// Folds one node's checkpoint into what is known: the latest instant of each shard counts.
pub fn merge_checkpoint(into: &mut BTreeMap<ShardId, Timestamp>, one: BTreeMap<ShardId, Timestamp>) {
    for (shard, at) in one {
        into.entry(shard).and_modify(|known| *known = (*known).max(at)).or_insert(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_of_cluster_settings_never_changes() {
        let cluster = Cluster {
            id: "c1".into(),
            shards: ShardCount::default(),
            message_id_key: *b"0123456789abcdef",
            created_at: "2026-11-22T06:45:00Z".parse().unwrap(),
        };
        let json = r#"{"v":1,"id":"c1","shards":64,"messageIdKey":"30313233343536373839616263646566","createdAt":"2026-11-22T06:45:00Z"}"#;
        assert_eq!(encode_cluster(&cluster), json);
        assert_eq!(decode_cluster(json.as_bytes()), Ok(cluster));
        for (from, to) in [("\"v\":1", "\"v\":9"), (":64", ":0"), ("3031", "zz"), ("2026-", "2-")] {
            assert!(decode_cluster(json.replace(from, to).as_bytes()).is_err(), "{to}");
        }
    }

    #[test]
    fn the_json_of_a_checkpoint_never_changes() {
        let until: BTreeMap<ShardId, Timestamp> =
            [(ShardId(7), "2026-11-22T06:45:00Z".parse().unwrap())].into();
        let json = r#"{"v":1,"node":"n1","dispatchedUntil":{"07":"2026-11-22T06:45:00Z"}}"#;
        assert_eq!(encode_checkpoint("n1", &until), json);
        assert_eq!(decode_checkpoint(json.as_bytes()), Ok(until));
    }

    #[test]
    fn the_latest_checkpoint_of_each_shard_counts() {
        let at = Timestamp::from_ms;
        let mut known = BTreeMap::from([(ShardId(1), at(5)), (ShardId(2), at(9))]);
        merge_checkpoint(
            &mut known,
            BTreeMap::from([(ShardId(1), at(7)), (ShardId(2), at(3)), (ShardId(3), at(1))]),
        );
        assert_eq!(known, BTreeMap::from([(ShardId(1), at(7)), (ShardId(2), at(9)), (ShardId(3), at(1))]));
    }

    #[test]
    fn any_node_name_has_a_key_of_its_own() {
        assert_eq!(checkpoint_key("host-1_a"), "node.host-1_a");
        assert_eq!(checkpoint_key("host.1"), "node.=aG9zdC4x");
        assert_ne!(checkpoint_key("a b"), checkpoint_key("a  b"));
    }
}
