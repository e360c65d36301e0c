//! Ad-hoc work, as far as anybody has to remember it: which unique keys are taken, and runs that didn't succeed at once.
//!
//! Everything here is found again by its own id, needs no lease, and forgets itself after a while.

use std::future::Future;
use std::time::Duration;

use model::id::RunId;
use model::run::{AttemptEnd, Generation, RunState};
use model::shard::ShardId;
use model::stats::FirstStart;
use model::time::Timestamp;
use model::unique::{Freed, UniqueKey, Until};

use crate::error::StoreError;

/// How long a run of ad-hoc work is remembered: as long as the reports of its attempts.
pub const AD_HOC_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// What became of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// The key is ours.
    New,
    /// It was taken, for this run; `published` once that is known to be in its queue.
    Taken { run_id: RunId, published: bool },
}

/// A run of ad-hoc work that failed at least once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdHocRun {
    pub run_id: RunId,
    pub generation: Generation,
    /// `Dispatched` until its end is known.
    pub state: RunState,
    pub due_at: Timestamp,
    /// The newest attempt's end.
    pub last: AttemptEnd,
    /// When it was started first; `note_ad_hoc` keeps what it knows of that.
    pub first: FirstStart,
    pub executor: String,
    pub output: Option<String>,
}

pub trait AdHocStore: Send + Sync + 'static {
    /// Takes a unique key for a run, unless it is taken.
    fn claim_key(
        &self,
        shard: ShardId,
        key: &UniqueKey,
        run_id: &RunId,
        until: Until,
    ) -> impl Future<Output = Result<Claimed, StoreError>> + Send;

    /// Notes that the run for which a key was taken is in its queue.
    fn confirm_key(
        &self,
        shard: ShardId,
        key: &UniqueKey,
        run_id: &RunId,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Frees a key, if it is taken for this run and this frees it (`Until::is_freed_by`).
    fn free_key(
        &self,
        shard: ShardId,
        key: &UniqueKey,
        run_id: &RunId,
        freed: Freed,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Remembers how a run stands, unless something newer is known: a later generation, its end, a later attempt.
    fn note_ad_hoc(
        &self,
        shard: ShardId,
        run: &AdHocRun,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// A run, if it is remembered.
    fn ad_hoc(
        &self,
        shard: ShardId,
        run_id: &RunId,
    ) -> impl Future<Output = Result<Option<AdHocRun>, StoreError>> + Send;
}

impl AdHocRun {
    /// What is newer is greater.
    #[must_use]
    pub fn age(&self) -> (u32, bool, u32) {
        (self.generation.0, self.state.is_end(), self.last.attempt)
    }
}
