//! The gates of queues that have limits: what is under way and what waits, for all dispatchers together.
//!
//! A gate lives in the shard that its queue's name falls into (`home`). Nothing here needs a lease: every call is atomic
//! and may be repeated, and the caller passes the rules, so that there is no second copy of them to go stale.

use std::collections::BTreeSet;
use std::future::Future;

pub use model::gate::{GateRules, GateRun, Picked};
use model::id::Occurrence;
use model::name::{Name, QueueId};
use model::priority::Priority;
use model::shard::ShardId;
use model::time::Timestamp;

use crate::error::StoreError;

/// Runs in one call of `admit` or `leave`, and runs that one call lets go.
pub const GATE_BATCH_MAX: usize = 500;

/// The answer to `admit`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Admission {
    /// For each run that asked, in order: it may go now. The others wait in the gate.
    pub may_go: Vec<bool>,
    /// Others that had waited and may go now: whoever asked has to see to it.
    pub released: Vec<Occurrence>,
    /// When, by time alone, the next one may go.
    pub next_at: Option<Timestamp>,
}

impl Admission {
    /// Adds what one call answered.
    pub(crate) fn fold(&mut self, asked: &[GateRun], picked: Picked, may_go: Vec<bool>) {
        let asked: BTreeSet<&Occurrence> = asked.iter().map(|run| &run.occurrence).collect();
        self.released.extend(picked.runs.into_iter().filter(|run| !asked.contains(run)));
        self.may_go.extend(may_go);
        self.next_at = picked.next_at;
    }
}

/// A gate as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct GateView {
    /// Runs that were let go and haven't ended.
    pub active: u64,
    pub waiting: Vec<WaitingLine>,
    /// The due mark (µs) of the queue's rate: `model::gate::rate` says what it means.
    pub mark_us: Option<i64>,
}

/// The waiting runs of one priority and namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingLine {
    pub priority: Priority,
    pub namespace: Name,
    pub runs: u64,
    pub first_due: Timestamp,
}

pub trait GateStore: Send + Sync + 'static {
    /// Asks whether runs may go. Those that may not wait in the gate; asking again for an active or waiting run changes
    /// nothing.
    fn admit(
        &self,
        home: ShardId,
        queue: &QueueId,
        rules: &GateRules,
        now: Timestamp,
        runs: &[GateRun],
    ) -> impl Future<Output = Result<Admission, StoreError>> + Send;

    /// Takes ended runs out, wherever in the gate they are, and lets others go: the caller has to see to them. Without
    /// ended runs it only looks whether time has let some go.
    fn leave(
        &self,
        home: ShardId,
        queue: &QueueId,
        rules: &GateRules,
        now: Timestamp,
        ended: &[Occurrence],
    ) -> impl Future<Output = Result<Picked, StoreError>> + Send;

    /// The queues of a shard whose gates hold anything.
    fn gates(&self, home: ShardId) -> impl Future<Output = Result<Vec<QueueId>, StoreError>> + Send;

    /// Active runs that were let go (or last seen) at `until` or before, longest ago first, at most `limit`.
    fn gate_unseen(
        &self,
        home: ShardId,
        queue: &QueueId,
        until: Timestamp,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Occurrence>, StoreError>> + Send;

    /// Notes that active runs are under way indeed; leaves others alone.
    fn gate_seen(
        &self,
        home: ShardId,
        queue: &QueueId,
        now: Timestamp,
        runs: &[Occurrence],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Whether a run is in its shard's minute tier, under whatever revision.
    fn is_planned(
        &self,
        shard: ShardId,
        run: &Occurrence,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// How a gate stands.
    fn gate(
        &self,
        home: ShardId,
        queue: &QueueId,
    ) -> impl Future<Output = Result<GateView, StoreError>> + Send;
}
