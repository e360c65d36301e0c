//! Specs: the truth about what users declared, revisioned, in the KV bucket `ecron_specs`.

use std::future::Future;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use model::id::Revision;
use model::name::JobId;
use model::shard::ShardId;
use model::time::Timestamp;

use crate::error::BusError;

/// A spec as it is stored. Its bytes are read by `model::manifest`, not here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSpec {
    pub revision: Revision,
    pub value: Bytes,
    /// When this revision was written, by the server's clock.
    pub written_at: Timestamp,
    /// Who asked for it, if they said so.
    pub by: Option<String>,
}

/// What a reader of changes gets, in order of revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpecChange {
    Put {
        job: JobId,
        shard: ShardId,
        spec: StoredSpec,
    },
    /// A delete marker. Absence alone is never a delete.
    Deleted {
        job: JobId,
        shard: ShardId,
        revision: Revision,
        by: Option<String>,
    },
    /// A key that isn't ours to understand.
    Foreign {
        key: String,
        revision: Revision,
    },
    /// Everything up to this revision has been said.
    CaughtUp {
        revision: Revision,
    },
}

/// Jobs in one page of `list`.
pub const SPEC_PAGE_MAX: usize = 1_000;

pub trait SpecStore: Send + Sync + 'static {
    /// Writes a spec if the key's newest revision is `expected` (`None`: there is none, or a delete marker). The
    /// answer is durable acceptance. `Unknown`: read the spec to find out.
    fn put(
        &self,
        shard: ShardId,
        job: &JobId,
        expected: Option<Revision>,
        value: Bytes,
    ) -> impl Future<Output = Result<Revision, BusError>> + Send {
        self.put_by(shard, job, expected, value, None)
    }

    /// `put`, with who asked for it.
    fn put_by(
        &self,
        shard: ShardId,
        job: &JobId,
        expected: Option<Revision>,
        value: Bytes,
        by: Option<&str>,
    ) -> impl Future<Output = Result<Revision, BusError>> + Send;

    /// Leaves a delete marker if the newest revision is `expected`; answers with the marker's revision.
    fn delete(
        &self,
        shard: ShardId,
        job: &JobId,
        expected: Revision,
    ) -> impl Future<Output = Result<Revision, BusError>> + Send {
        self.delete_by(shard, job, expected, None)
    }

    /// `delete`, with who asked for it.
    fn delete_by(
        &self,
        shard: ShardId,
        job: &JobId,
        expected: Revision,
        by: Option<&str>,
    ) -> impl Future<Output = Result<Revision, BusError>> + Send;

    /// The newest revision of a spec, if it isn't deleted.
    fn get(
        &self,
        shard: ShardId,
        job: &JobId,
    ) -> impl Future<Output = Result<Option<StoredSpec>, BusError>> + Send;

    /// Every change of these shards' specs after a revision (only the newest of each key), then `CaughtUp`, then
    /// changes as they happen, each followed in time by a `CaughtUp` so that idle readers advance. The stream ends
    /// when the connection was lost or the bucket replaced: start again from the last `CaughtUp`.
    fn changes(
        &self,
        shards: &[ShardId],
        after: Revision,
    ) -> impl Future<Output = Result<BoxStream<'static, SpecChange>, BusError>> + Send;

    /// Every job of a shard that isn't deleted, in no particular order. Cheaper than `list`: the specs themselves stay where
    /// they are.
    fn jobs_of(&self, shard: ShardId) -> impl Future<Output = Result<Vec<JobId>, BusError>> + Send;

    /// Every spec that isn't deleted, optionally of one namespace, in no particular order.
    fn list(
        &self,
        namespace: Option<&model::name::Name>,
    ) -> impl Future<Output = Result<BoxStream<'static, (JobId, StoredSpec)>, BusError>> + Send;
}
