//! `cluster`, `buckets` and `sent`: the plan, and who works on it, as the store holds them. Reads only, and bounded.

use model::shard::ShardId;
use store::Store;
use store::inspect::BucketKind;

use super::Api;
use super::types::{
    ApiError, BucketView, BucketsReply, BucketsRequest, ClusterReply, ClusterRequest, LeaseView, MemberView,
    NodeView, SentReply, SentRequest, SentView, ShardView, TierTotal,
};
use crate::service::PlannerBus;

/// Members of a bucket in an answer, unless asked otherwise, and at most.
const FIRST_DEFAULT: usize = 5;
const FIRST_MAX: usize = 20;
/// Buckets in a page, unless asked otherwise, and at most: with all their members they fit one message.
const BUCKETS_DEFAULT: usize = 100;
const BUCKETS_MAX: usize = 400;
/// Runs in an answer of `sent`, unless asked otherwise, and at most.
const SENT_DEFAULT: usize = 100;
const SENT_MAX: usize = 1_000;

impl<S: Store, B: PlannerBus> Api<S, B> {
    fn all_shards(&self) -> Vec<ShardId> {
        self.shards.all().collect()
    }

    pub(super) async fn cluster(
        &self,
        request: Result<ClusterRequest, ApiError>,
    ) -> Result<ClusterReply, ApiError> {
        let ClusterRequest {} = request?;
        let shards = self.all_shards();
        let nodes = self.store.nodes().await?.into_iter().map(|view| NodeView {
            node: view.node.id,
            roles: view.node.roles.iter().map(|role| role.as_str().into()).collect(),
            weight: view.node.weight,
            version: view.node.version,
            heartbeat_at: view.heartbeat_at.to_string(),
        });
        let mut leases = self.store.leases(&shards).await?;
        leases.sort_by_key(|lease| (lease.shard, lease.role));
        let leases = leases.into_iter().map(|lease| LeaseView {
            shard: lease.shard.0,
            role: lease.role.as_str().into(),
            node: lease.node,
            epoch: lease.epoch.0,
            expires_in_ms: u64::try_from(lease.expires_in.as_millis()).unwrap_or(u64::MAX),
        });
        let cursors = self.store.cursors(&shards).await?;
        let shards = cursors.into_iter().filter_map(|(shard, cursor)| {
            let cursor = cursor?;
            let (planned_until, taken_until) =
                (cursor.planned_until.to_string(), cursor.taken_until.to_string());
            Some(ShardView { shard: shard.0, planned_until, taken_until })
        });
        Ok(ClusterReply {
            at: self.store.now().await?.to_string(),
            nodes: nodes.collect(),
            shards: shards.collect(),
            leases: leases.collect(),
        })
    }

    pub(super) async fn buckets(
        &self,
        request: Result<BucketsRequest, ApiError>,
    ) -> Result<BucketsReply, ApiError> {
        let BucketsRequest { first, tier, after, limit } = request?;
        let only = tier.map(|tier| kind(&tier)).transpose()?;
        let first = first.unwrap_or(FIRST_DEFAULT).clamp(1, FIRST_MAX);
        let limit = limit.unwrap_or(BUCKETS_DEFAULT).clamp(1, BUCKETS_MAX);
        let mut views = Vec::new();
        for shard in self.all_shards() {
            views.extend(self.store.buckets(shard, first).await?);
        }
        let totals = KINDS.map(|kind| {
            let of_kind = views.iter().filter(|view| view.kind == kind);
            let (buckets, entries) =
                of_kind.fold((0, 0), |(buckets, entries), view| (buckets + 1, entries + view.entries));
            TierTotal { tier: word(kind).into(), buckets, entries }
        });
        views.retain(|view| only.is_none_or(|only| view.kind == only));
        // By time rather than by shard: the key names the shard first.
        let place = |kind: BucketKind, key: &str| {
            (kind, key.split_once('}').map_or("", |(_, rest)| rest).to_owned(), key.to_owned())
        };
        views.sort_by_cached_key(|view| place(view.kind, &view.key));
        if let Some(after) = after {
            let found = views.iter().position(|view| view.key == after);
            // A bucket that is empty by now has no place any more: its minute has passed.
            views.drain(..found.map_or(0, |at| at + 1));
        }
        let more = views.len() > limit;
        views.truncate(limit);
        let next = views.last().filter(|_| more).map(|view| view.key.clone());
        let buckets = views.into_iter().map(|view| BucketView {
            shard: view.shard.0,
            tier: word(view.kind).into(),
            key: view.key,
            entries: view.entries,
            first: view
                .first
                .into_iter()
                .map(|(member, due_at)| MemberView { member, due_at: due_at.to_string() })
                .collect(),
        });
        Ok(BucketsReply { buckets: buckets.collect(), totals: totals.to_vec(), next })
    }

    pub(super) async fn sent(&self, request: Result<SentRequest, ApiError>) -> Result<SentReply, ApiError> {
        let limit = request?.limit.unwrap_or(SENT_DEFAULT).clamp(1, SENT_MAX);
        let mut runs = Vec::new();
        for shard in self.all_shards() {
            runs.extend(self.store.sent(shard, limit + 1).await?);
        }
        runs.sort_by_key(|run| run.published_at);
        let more = runs.len() > limit;
        let runs = runs.into_iter().take(limit).map(|run| SentView {
            run: run.occurrence.to_string(),
            revision: run.revision.0,
            published_at: run.published_at.to_string(),
            worry_at: run.worry_at.to_string(),
            cancelling: run.cancel.is_some(),
        });
        Ok(SentReply { runs: runs.collect(), more })
    }
}

const KINDS: [BucketKind; 4] =
    [BucketKind::Minute, BucketKind::Spaced, BucketKind::HalfHour, BucketKind::Horizon];

fn word(kind: BucketKind) -> &'static str {
    match kind {
        BucketKind::Minute => "minute",
        BucketKind::Spaced => "spaced",
        BucketKind::HalfHour => "half-hour",
        BucketKind::Horizon => "horizon",
    }
}

fn kind(tier: &str) -> Result<BucketKind, ApiError> {
    KINDS.into_iter().find(|kind| word(*kind) == tier).ok_or_else(|| {
        ApiError::refused(format!("know the tier {tier:?}; there are minute, spaced, half-hour and horizon"))
    })
}
