//! Checkpoints and cluster settings, in their KV bucket.

use std::collections::BTreeMap;

use bytes::Bytes;
use model::shard::ShardId;
use model::time::Timestamp;
use serde_json::json;

use super::link::{Link, Outgoing};
use super::runs::{StoredMessage, stored_message};
use super::{NatsBus, PUBLISH_TIMEOUT};
use crate::checkpoints::{Checkpoints, Cluster};
use crate::error::BusError;
use crate::subjects::{BUCKET_CHECKPOINTS, KEY_CLUSTER, KEY_NODE_PREFIX, bucket_stream, bucket_subject};
use crate::wire::cluster::{
    checkpoint_key, decode_checkpoint, decode_cluster, encode_checkpoint, encode_cluster, merge_checkpoint,
};
use crate::wire::headers::Headers;

/// Says which revision of a key a write expects; 0: none.
pub(super) const EXPECTED_REVISION: &str = "Nats-Expected-Last-Subject-Sequence";
/// Set on a delete marker.
pub(super) const KV_OPERATION: &str = "KV-Operation";

/// Whether an entry of a bucket is a delete marker, also one that the server left.
pub(super) fn is_marker(headers: &Headers) -> bool {
    let operation = headers.get(KV_OPERATION).map(String::as_str);
    matches!(operation, Some("DEL" | "PURGE")) || headers.contains_key("Nats-Marker-Reason")
}

/// The newest entry of a key, a delete marker included.
pub(super) async fn newest_entry(
    link: &Link,
    bucket: &str,
    key: &str,
) -> Result<Option<StoredMessage>, BusError> {
    let which = json!({"last_by_subj": bucket_subject(bucket, key)});
    stored_message(link, &bucket_stream(bucket), &which).await
}

/// Writes an entry if the key's newest revision is `expected` (`Some(0)`: there is none); `None`: whatever it is.
pub(super) async fn write_entry(
    link: &Link,
    bucket: &str,
    key: &str,
    expected: Option<u64>,
    mut headers: Headers,
    value: Bytes,
) -> Result<u64, BusError> {
    if let Some(expected) = expected {
        headers.insert(EXPECTED_REVISION.into(), expected.to_string());
    }
    let message = Outgoing::new(bucket_subject(bucket, key), &headers, value);
    link.store_only(message, PUBLISH_TIMEOUT).await.map(|stored| stored.sequence)
}

impl NatsBus {
    /// The cluster's settings, if it was initialised.
    pub async fn cluster(&self) -> Result<Option<Cluster>, BusError> {
        settings(newest_entry(self.link(), BUCKET_CHECKPOINTS, KEY_CLUSTER).await?.as_ref())
    }
}

/// The settings in the newest entry of their key, unless it is a delete marker.
fn settings(newest: Option<&StoredMessage>) -> Result<Option<Cluster>, BusError> {
    let Some(entry) = newest.filter(|entry| !is_marker(&entry.headers)) else { return Ok(None) };
    let unreadable = |problem| BusError::Refused(format!("the cluster's settings: {problem}"));
    decode_cluster(&entry.payload).map(Some).map_err(unreadable)
}

impl Checkpoints for NatsBus {
    async fn init_cluster(&self, proposal: &Cluster) -> Result<Cluster, BusError> {
        // One read both says that there are no settings and what a write of ours expects: between two reads somebody
        // else may initialise the cluster, and the write would replace what they already work with.
        let newest = newest_entry(self.link(), BUCKET_CHECKPOINTS, KEY_CLUSTER).await?;
        if let Some(cluster) = settings(newest.as_ref())? {
            return Ok(cluster);
        }
        let expected = newest.map_or(0, |marker| marker.sequence);
        let value = encode_cluster(proposal);
        let written =
            write_entry(self.link(), BUCKET_CHECKPOINTS, KEY_CLUSTER, Some(expected), Headers::new(), value)
                .await;
        match written {
            Ok(_) => Ok(proposal.clone()),
            // Somebody else initialised it in the same moment.
            Err(BusError::Conflict) => self.cluster().await?.ok_or(BusError::Conflict),
            Err(error) => Err(error),
        }
    }

    async fn cluster(&self) -> Result<Option<Cluster>, BusError> {
        Self::cluster(self).await
    }

    async fn save_checkpoint(
        &self,
        node: &str,
        dispatched_until: &BTreeMap<ShardId, Timestamp>,
    ) -> Result<(), BusError> {
        let value = encode_checkpoint(node, dispatched_until);
        let key = checkpoint_key(node);
        write_entry(self.link(), BUCKET_CHECKPOINTS, &key, None, Headers::new(), value).await.map(drop)
    }

    async fn checkpoints(&self) -> Result<BTreeMap<ShardId, Timestamp>, BusError> {
        let stream = bucket_stream(BUCKET_CHECKPOINTS);
        let nodes = bucket_subject(BUCKET_CHECKPOINTS, &format!("{KEY_NODE_PREFIX}*"));
        let mut latest = BTreeMap::new();
        let mut next = 1;
        let which = |next: u64| json!({"seq": next, "next_by_subj": nodes});
        while let Some(entry) = stored_message(self.link(), &stream, &which(next)).await? {
            next = entry.sequence + 1;
            match decode_checkpoint(&entry.payload) {
                Ok(checkpoint) => merge_checkpoint(&mut latest, checkpoint),
                Err(_) if is_marker(&entry.headers) => {}
                Err(problem) => {
                    tracing::warn!(subject = %entry.subject, %problem, "skipping an unreadable checkpoint");
                }
            }
        }
        Ok(latest)
    }
}
