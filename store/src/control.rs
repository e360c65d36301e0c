//! Runs that somebody asked for beside the schedule: triggers, with what they bring along, and backfills.

use std::future::Future;

use model::backfill::RunEnd;
use model::id::{Key, Occurrence};
use model::name::{BackfillId, JobId};
use model::shard::ShardId;
use model::time::Timestamp;

use crate::error::StoreError;
use crate::lease::Epoch;

/// A run that somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    pub job: JobId,
    /// When it is due, or the first free millisecond after that. Never at a full second: those are the schedules'.
    pub due_at: Timestamp,
    /// A second trigger of the job with the same key within `TRIGGER_KEY_KEPT` is answered with the first one's run.
    pub key: Option<Key>,
    /// The message body of the run, instead of its job's.
    pub payload: Option<String>,
}

/// What came of a trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Triggered {
    pub due_at: Timestamp,
    /// It is the run of an earlier trigger with the same key.
    pub duplicate: bool,
}

/// What a run that somebody asked for brings along.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct AskedFor {
    /// It was triggered.
    pub triggered: bool,
    /// Its message body, if it isn't its job's.
    pub payload: Option<String>,
    /// It belongs to a backfill: how long ago it was due means nothing.
    pub backfilled: bool,
}

/// A run of a backfill, until the backfill has counted it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackfillRun {
    pub occurrence: Occurrence,
    pub backfill: BackfillId,
    pub end: Option<RunEnd>,
}

/// How many seconds from the wanted instant on `trigger` looks for a free millisecond.
pub const TRIGGER_SECONDS_MAX: usize = 60;

/// Occurrences in one call of `start_backfilled` or `asked_for`.
pub const CONTROL_BATCH_MAX: usize = 500;

pub trait ControlStore: Send + Sync + 'static {
    /// Puts a run into the minute tier, under its job's present revision; `None` if there is no such job. Needs no lease.
    /// With a key it may be repeated; without one a repetition is another run.
    fn trigger(
        &self,
        shard: ShardId,
        trigger: &Trigger,
    ) -> impl Future<Output = Result<Option<Triggered>, StoreError>> + Send;

    /// What some runs bring along, in order.
    fn asked_for(
        &self,
        shard: ShardId,
        runs: &[Occurrence],
    ) -> impl Future<Output = Result<Vec<AskedFor>, StoreError>> + Send;

    /// Puts occurrences of a job into the minute tier for a backfill, under the job's present revision. In order:
    /// whether each is a run of this backfill now, or was before. `false`: a run of it is there already, whoever asked for
    /// it; nothing was changed. May be repeated. `None`: there is no such job.
    fn start_backfilled(
        &self,
        shard: ShardId,
        epoch: Epoch,
        backfill: &BackfillId,
        job: &JobId,
        dues: &[Timestamp],
    ) -> impl Future<Output = Result<Option<Vec<bool>>, StoreError>> + Send;

    /// Every run of a backfill in this shard that hasn't been forgotten, in no particular order.
    fn backfill_runs(
        &self,
        shard: ShardId,
    ) -> impl Future<Output = Result<Vec<BackfillRun>, StoreError>> + Send;

    /// Forgets that runs belong to a backfill: they have been counted.
    fn forget_backfill_runs(
        &self,
        shard: ShardId,
        epoch: Epoch,
        runs: &[Occurrence],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}
