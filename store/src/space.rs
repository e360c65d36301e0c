//! Catching up at a rate: entries that are kept out of the minute tier until an instant each.

use std::future::Future;

use model::id::Entry;
use model::name::JobId;
use model::shard::ShardId;
use model::time::Timestamp;

use crate::error::StoreError;
use crate::lease::Epoch;

/// Spaced entries of a shard that `spaced` looks through for those of one job: those that come back first.
pub const SPACED_SEARCHED_MAX: usize = 20_000;

/// An entry that is kept back, and until when.
pub type Spaced = (Entry, Timestamp);

pub trait SpaceStore: Send + Sync + 'static {
    /// Takes entries out of the minute tier until an instant each, all or none; `take` puts them back by itself. The first
    /// of these comes up as `next_due`.
    fn space(
        &self,
        shard: ShardId,
        epoch: Epoch,
        entries: &[Spaced],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// After an interruption that ended at an instant: if the first of the shard's entries should have come back before,
    /// moves all of them on together, so that it comes back then. Their distances stay, and repeating it changes nothing.
    fn delay_spaced(
        &self,
        shard: ShardId,
        epoch: Epoch,
        until: Timestamp,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The entries of a job that are kept back, in the order in which they come back, at most `limit`.
    fn spaced(
        &self,
        shard: ShardId,
        job: &JobId,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Spaced>, StoreError>> + Send;
}
