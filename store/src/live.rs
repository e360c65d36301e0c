//! Runs under way: what their newest attempt says of itself. Kept with the run's record, and gone with its end.

use std::future::Future;

use model::id::Occurrence;
use model::progress::Progress;
use model::shard::ShardId;

use crate::error::StoreError;

pub trait LiveStore: Send + Sync + 'static {
    /// Notes what an attempt says of itself, if that is news (`model::progress::accepts_progress`).
    fn note_progress(
        &self,
        shard: ShardId,
        occurrence: &Occurrence,
        progress: &Progress,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// What the attempt under way said last; `None` if none is, or it said nothing yet.
    fn latest_progress(
        &self,
        shard: ShardId,
        occurrence: &Occurrence,
    ) -> impl Future<Output = Result<Option<Progress>, StoreError>> + Send;
}
