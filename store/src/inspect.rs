//! The plan as an operator sees it. Reads only, and bounded.

use std::future::Future;

use model::bucket::Tier;
use model::shard::ShardId;
use model::time::Timestamp;

use crate::error::StoreError;
use crate::lease::LeaseView;
use crate::ledger::SentRun;
use crate::plan::Cursor;

/// Which sorted set a bucket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BucketKind {
    Minute,
    HalfHour,
    Horizon,
    /// What `catchUp.rate` spreads out: its instants are when the entries come back into the minute tier.
    Spaced,
}

impl From<Tier> for BucketKind {
    fn from(tier: Tier) -> Self {
        match tier {
            Tier::HalfHour => Self::HalfHour,
            Tier::Horizon => Self::Horizon,
        }
    }
}

/// One bucket: its key, how much is in it, and its first members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketView {
    pub shard: ShardId,
    pub kind: BucketKind,
    pub key: String,
    pub entries: u64,
    /// `(member, due)`, earliest first, at most as many as asked for. Of what is spaced out: `(<due (ms)> <entry>, not before)`.
    pub first: Vec<(String, Timestamp)>,
}

/// Buckets of one tier in one answer.
pub const BUCKETS_MAX: usize = 1_000;

pub trait Inspect: Send + Sync + 'static {
    /// The non-empty buckets of a shard, minute tier first, in order of time; what is spaced out comes last.
    fn buckets(
        &self,
        shard: ShardId,
        first: usize,
    ) -> impl Future<Output = Result<Vec<BucketView>, StoreError>> + Send;

    /// Who holds the leases of these shards.
    fn leases(&self, shards: &[ShardId]) -> impl Future<Output = Result<Vec<LeaseView>, StoreError>> + Send;

    /// Published runs of a shard without an outcome, longest first, at most `limit`.
    fn sent(
        &self,
        shard: ShardId,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<SentRun>, StoreError>> + Send;

    /// How far these shards have come.
    fn cursors(
        &self,
        shards: &[ShardId],
    ) -> impl Future<Output = Result<Vec<(ShardId, Option<Cursor>)>, StoreError>> + Send;
}
