//! The plan as an operator sees it, out of memory.

use std::collections::BTreeMap;
use std::time::Duration;

use model::bucket::{HalfHour, Minute};
use model::shard::ShardId;
use model::time::Timestamp;

use super::{MemoryStore, Sorted};
use crate::error::StoreError;
use crate::inspect::{BUCKETS_MAX, BucketKind, BucketView, Inspect};
use crate::keys;
use crate::lease::{LeaseView, Role};
use crate::ledger::SentRun;
use crate::plan::Cursor;

impl Inspect for MemoryStore {
    async fn buckets(&self, id: ShardId, first: usize) -> Result<Vec<BucketView>, StoreError> {
        self.on(id, |shard, _| {
            let minute = |due| (keys::minute(id, Minute::of(due)), Minute::of(due).start());
            let half_hour = |due| (keys::half_hour(id, HalfHour::of(due)), HalfHour::of(due).start());
            let horizon = |_| (keys::horizon(id), Timestamp::default());
            let mut views = slices(id, BucketKind::Minute, &shard.minutes, first, minute);
            views.extend(slices(id, BucketKind::HalfHour, &shard.half_hours, first, half_hour));
            views.extend(slices(id, BucketKind::Horizon, &shard.horizon, first, horizon));
            let spaced = |_| (keys::spaced(id), Timestamp::default());
            views.extend(slices(id, BucketKind::Spaced, &shard.spaced, first, spaced));
            Ok(views)
        })
        .await
    }

    async fn leases(&self, shards: &[ShardId]) -> Result<Vec<LeaseView>, StoreError> {
        self.act(|state, now| {
            let mut views = Vec::new();
            for (id, role) in shards.iter().flat_map(|id| Role::ALL.map(|role| (*id, role))) {
                if let Some(lease) = state.shards.get(&id).and_then(|shard| shard.holder(role, now)) {
                    let left_ms = u64::try_from(lease.expires_at.ms_since(now)).unwrap_or(0);
                    views.push(LeaseView {
                        shard: id,
                        role,
                        node: lease.node.clone(),
                        epoch: lease.epoch,
                        expires_in: Duration::from_millis(left_ms),
                    });
                }
            }
            Ok(views)
        })
        .await
    }

    async fn sent(&self, shard: ShardId, limit: usize) -> Result<Vec<SentRun>, StoreError> {
        self.on(shard, |shard, _| {
            let mut runs = shard.sent_runs(&shard.sent, Timestamp::from_ms(i64::MAX), limit);
            runs.sort_by_key(|run| run.published_at);
            Ok(runs)
        })
        .await
    }

    async fn cursors(&self, shards: &[ShardId]) -> Result<Vec<(ShardId, Option<Cursor>)>, StoreError> {
        self.act(|state, _| {
            let cursor = |id| state.shards.get(id).and_then(|shard| shard.cursor.clone());
            Ok(shards.iter().map(|id| (*id, cursor(id))).collect())
        })
        .await
    }
}

/// Cuts a tier into its buckets.
fn slices<T>(
    shard: ShardId,
    kind: BucketKind,
    tier: &Sorted<T>,
    first: usize,
    slice: impl Fn(Timestamp) -> (String, Timestamp),
) -> Vec<BucketView> {
    let mut buckets: BTreeMap<Timestamp, BucketView> = BTreeMap::new();
    for (due, member, _) in tier {
        let (key, start) = slice(*due);
        let bucket = buckets.entry(start).or_insert_with(|| BucketView {
            shard,
            kind,
            key,
            entries: 0,
            first: Vec::new(),
        });
        bucket.entries += 1;
        if bucket.first.len() < first {
            bucket.first.push((member.clone(), *due));
        }
    }
    buckets.into_values().take(BUCKETS_MAX).collect()
}
