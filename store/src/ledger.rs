//! The run ledger: from the minute tier through `sent` to history, as the dispatcher writes it.

use std::future::Future;

use model::dispatch::Admission;
use model::id::{Entry, Occurrence, Revision};
use model::name::JobId;
use model::overlap::Standing;
use model::run::{AttemptEnd, Generation, RunState, SkipReason, WaitsFor};
use model::shard::ShardId;
use model::stats::FirstStart;
use model::time::Timestamp;

use crate::error::StoreError;
use crate::lease::Epoch;

/// An entry of the minute tier that is due, with what its job's record says at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenEntry {
    pub entry: Entry,
    /// The job's present revision; `None` if the job is gone. Other than the entry's: the entry is stale.
    pub job_revision: Option<Revision>,
    /// How far its run has come.
    pub admission: Admission,
    /// How many runs of its job are under way and how many wait, if the job limits that.
    pub overlap: Option<Standing>,
}

/// The answer to `take`. Nothing was removed: an entry leaves the minute tier by `confirm`, `skip` or `settle` only.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Taken {
    /// Due entries, earliest first, at most `limit`.
    pub entries: Vec<TakenEntry>,
    /// How far this shard had been taken before this call. An entry due later was never published by anyone; an
    /// earlier one may have been.
    pub taken_before: Timestamp,
    /// How far it is taken now: the `until` asked for, but always before `planned_until` (entries due then may still
    /// come), and not beyond the last entry returned if there were more than `limit`. Never goes back.
    pub taken_until: Timestamp,
    /// The earliest entry due after `taken_until`, if it is in the minute tier already.
    pub next_due: Option<Timestamp>,
    /// The store's time when it answered.
    pub now: Timestamp,
    /// When a run that is being cancelled must be seen to (`cancelling`), if there is one.
    pub cancels_at: Option<Timestamp>,
}

/// A published run, to be moved from the minute tier into `sent`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    pub entry: Entry,
    /// The message's sequence in the run stream.
    pub sequence: u64,
    pub published_at: Timestamp,
    /// When to start worrying that no outcome has come.
    pub worry_at: Timestamp,
    /// How often it has been published under a new message id (a repair); 0 at first.
    pub republished: u32,
}

/// A run that is about to be published although it waited, or although its job limits how many runs are under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub entry: Entry,
    /// The revision that it will be published under; from now on its entry's.
    pub revision: Revision,
    /// Somebody asked for it, besides the schedule.
    pub triggered: bool,
}

/// A due entry that has to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Park {
    pub entry: Entry,
    pub wait: Wait,
    /// Somebody asked for it, besides the schedule.
    pub triggered: bool,
    pub at: Timestamp,
}

/// What a parked run waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// An earlier run of its job must end. It isn't under way itself meanwhile.
    Overlap {
        /// Only the newest of those that wait goes on doing so; the others are skipped (`SkipReason::Coalesced`).
        newest_only: bool,
    },
    /// Its queue, until `unpark`. It counts as under way meanwhile.
    Queue,
}

/// An entry that will not be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skip {
    pub entry: Entry,
    pub reason: SkipReason,
    pub at: Timestamp,
}

/// The end of a run, to be folded into its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    pub occurrence: Occurrence,
    pub revision: Revision,
    pub generation: Generation,
    /// An ended state (not `Dispatched`).
    pub state: RunState,
    /// The last attempt; its number is how many there were.
    pub last: AttemptEnd,
    pub executor: String,
    /// Captured output or a note, bounded by `OUTPUT_BYTES_MAX`.
    pub output: Option<String>,
    pub settled_at: Timestamp,
}

/// What became of a settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It is the run's outcome now.
    Recorded,
    /// Likewise; and another run of its job is in the minute tier, due by now or soon (it waited for this one, or follows
    /// it): the shard should be looked at.
    RecordedAndReleased,
    /// The run had an outcome already (see `model::run::accepts_end`): nothing was changed.
    AlreadyEnded,
}

/// A published run without an outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentRun {
    pub occurrence: Occurrence,
    pub revision: Revision,
    pub generation: Generation,
    pub sequence: u64,
    pub published_at: Timestamp,
    pub worry_at: Timestamp,
    pub republished: u32,
    /// It is to be stopped.
    pub cancel: Option<CancelMark>,
}

/// Who cancelled a run, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CancelMark {
    pub at: Timestamp,
    pub by: String,
    pub reason: Option<String>,
}

/// What became of a cancellation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelOutcome {
    /// It has ended: nobody has started it, or it was ended by force.
    Cancelled,
    /// Likewise; and a run that waited for it is back in the minute tier, due: the shard should be looked at.
    CancelledAndReleased,
    /// Somebody may have it, or be about to publish it: the dispatcher sees to it (`cancelling`).
    Requested,
    /// It had ended already, so.
    Ended(RunState),
    /// There is no such run, and none is planned.
    Unknown,
}

/// A run as its record tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRecord {
    pub occurrence: Occurrence,
    pub revision: Revision,
    pub state: RunState,
    pub generation: Generation,
    /// What a waiting run waits for.
    pub waits_for: Option<WaitsFor>,
    /// Somebody asked for it, besides the schedule. Known of runs that waited.
    pub triggered: bool,
    pub published_at: Option<Timestamp>,
    pub sequence: Option<u64>,
    /// The epoch of the dispatcher's lease under which it was published.
    pub epoch: Option<Epoch>,
    /// The newest attempt's end that was reported, final or not.
    pub last: Option<AttemptEnd>,
    /// When it was started first; kept only where `last` alone wouldn't tell (see `RunRecord::first_start`).
    pub first: Option<FirstStart>,
    pub executor: Option<String>,
    pub output: Option<String>,
    pub skip_reason: Option<String>,
    pub cancel: Option<CancelMark>,
    pub ended_at: Option<Timestamp>,
}

impl RunRecord {
    /// A run of which nothing else is known yet.
    #[must_use]
    pub fn new(occurrence: Occurrence, revision: Revision, state: RunState) -> Self {
        Self {
            occurrence,
            revision,
            state,
            generation: Generation(0),
            waits_for: None,
            triggered: false,
            published_at: None,
            sequence: None,
            epoch: None,
            last: None,
            first: None,
            executor: None,
            output: None,
            skip_reason: None,
            cancel: None,
            ended_at: None,
        }
    }

    /// When it was started first, once an attempt of its newest generation has ended.
    #[must_use]
    pub fn first_start(&self) -> Option<FirstStart> {
        let last = self.last.as_ref()?;
        Some(FirstStart::after(self.first, self.generation, last.started_at))
    }
}

/// Items in one call of `take`, `claim`, `park`, `confirm`, `skip` or `overdue`.
pub const LEDGER_BATCH_MAX: usize = 500;

/// How long a bare client's `term` is remembered.
pub const TERMINATED_KEPT: std::time::Duration = std::time::Duration::from_secs(7 * 24 * 3600);

pub trait LedgerStore: Send + Sync + 'static {
    /// The entries due up to `until` (and before `planned_until`), and marks the shard as taken that far. A shard
    /// without a cursor has none.
    fn take(
        &self,
        shard: ShardId,
        epoch: Epoch,
        until: Timestamp,
        limit: usize,
    ) -> impl Future<Output = Result<Taken, StoreError>> + Send;

    /// The entries of the minute tier due after `after` and up to `until`, earliest first, at most `limit` and then
    /// all the others that are due at the last one's instant. Changes nothing: for looking at what an interruption
    /// missed before any of it is taken.
    fn missed(
        &self,
        shard: ShardId,
        epoch: Epoch,
        after: Timestamp,
        until: Timestamp,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<TakenEntry>, StoreError>> + Send;

    /// Remembers that an executor ended a message of the run stream for good without a report (a bare client's
    /// `term`); kept for `TERMINATED_KEPT`.
    fn note_terminated(
        &self,
        sequence: u64,
        reason: &str,
        at: Timestamp,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Takes that back: somebody else had ended the message before.
    fn forget_terminated(&self, sequence: u64) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The reason noted for a message, if it was ended so.
    fn terminated(&self, sequence: u64) -> impl Future<Output = Result<Option<String>, StoreError>> + Send;

    /// Opens the records of runs that are about to be published: waiting, for dispatch. From now on each counts as under
    /// way, and `take` says that it may have been published. Its entry becomes one of `revision`. `false` in its
    /// position: the entry is gone, its run is published or has ended, its job has another revision by now, or as many
    /// runs are under way as may be (or others waited first); look again. A run that was admitted before needs no room.
    fn claim(
        &self,
        shard: ShardId,
        epoch: Epoch,
        claims: &[Claim],
    ) -> impl Future<Output = Result<Vec<bool>, StoreError>> + Send;

    /// Takes entries out of the minute tier and lets their runs wait, with a record. `false` in its position: the entry
    /// is gone, its run is published or has ended, or there is room for it by now (its job may be gone, or not be limited
    /// any more); look again.
    fn park(
        &self,
        shard: ShardId,
        epoch: Epoch,
        parks: &[Park],
    ) -> impl Future<Output = Result<Vec<bool>, StoreError>> + Send;

    /// Puts runs that wait for their queue back into the minute tier, at their due instants; `false` in its position: it
    /// doesn't wait for its queue. Needs no lease: whoever let it through may.
    fn unpark(
        &self,
        shard: ShardId,
        runs: &[Occurrence],
    ) -> impl Future<Output = Result<Vec<bool>, StoreError>> + Send;

    /// Runs of a shard that wait for their queue, by due instant: at most `limit`, passing over the first `passed`.
    fn held(
        &self,
        shard: ShardId,
        passed: usize,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Occurrence>, StoreError>> + Send;

    /// Moves published entries from the minute tier into `sent` and opens their run records. An entry that is no
    /// longer in the minute tier, or whose run has ended, was settled meanwhile: it only leaves the minute tier. (A
    /// repair finds its entry in `sent`: updated, unless a later repair was.)
    fn confirm(
        &self,
        shard: ShardId,
        epoch: Epoch,
        sent: &[Sent],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Takes entries out of the minute tier and records each as a skipped run with its reason; trims the job's
    /// skipped history. An entry that is no longer there is left alone. A run that has a record already (another
    /// entry of the same occurrence was published or ended) loses the entry without a new record, unless it waits under
    /// this very entry. One that was admitted makes room for those that wait.
    fn skip(
        &self,
        shard: ShardId,
        epoch: Epoch,
        skips: &[Skip],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Takes stale entries out without any record: their occurrence lives on under another entry.
    fn drop_entries(
        &self,
        shard: ShardId,
        epoch: Epoch,
        entries: &[Entry],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Folds a run's end into its record: out of `sent` (the minute tier, or wherever it waits), into the job's history,
    /// which is trimmed to its limits; and lets go who waited for it. Idempotent as long as the record is kept, and needs no lease: any dispatcher may settle
    /// any run.
    fn settle(
        &self,
        shard: ShardId,
        settlement: &Settlement,
    ) -> impl Future<Output = Result<Settled, StoreError>> + Send;

    /// `settle` for many runs of one shard, in order, in few round trips.
    fn settle_all(
        &self,
        shard: ShardId,
        settlements: &[Settlement],
    ) -> impl Future<Output = Result<Vec<Settled>, StoreError>> + Send {
        async move {
            let mut settled = Vec::with_capacity(settlements.len());
            for settlement in settlements {
                settled.push(self.settle(shard, settlement).await?);
            }
            Ok(settled)
        }
    }

    /// Notes a failed attempt that will be retried (newest attempt only; never on an ended run, nor without a record).
    fn note_attempt(
        &self,
        shard: ShardId,
        occurrence: &Occurrence,
        generation: Generation,
        end: &AttemptEnd,
        executor: &str,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Up to `limit` runs in `sent` whose `worry_at` has come, earliest first.
    fn overdue(
        &self,
        shard: ShardId,
        now: Timestamp,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<SentRun>, StoreError>> + Send;

    /// Cancels a run. One that nobody can have started ends at once (`named`: the job's schedule names it; so one that isn't
    /// planned yet never will be); one that is published, or may be, is marked and comes up in `cancelling`. `force`: also
    /// one that was published ends now (its message is off the stream). The first mark stays. Needs no lease.
    fn cancel(
        &self,
        shard: ShardId,
        occurrence: &Occurrence,
        named: bool,
        mark: &CancelMark,
        force: bool,
    ) -> impl Future<Output = Result<CancelOutcome, StoreError>> + Send;

    /// The runs of a job that are under way, earliest due first, at most `LEDGER_BATCH_MAX`.
    fn under_way(
        &self,
        shard: ShardId,
        job: &JobId,
    ) -> impl Future<Output = Result<Vec<Occurrence>, StoreError>> + Send;

    /// Up to `limit` published runs that are being cancelled and must be seen to by `now`, earliest first; `worry_at` is
    /// when.
    fn cancelling(
        &self,
        shard: ShardId,
        now: Timestamp,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<SentRun>, StoreError>> + Send;

    /// Says when a run that is being cancelled must be seen to again.
    fn cancel_later(
        &self,
        shard: ShardId,
        epoch: Epoch,
        occurrence: &Occurrence,
        at: Timestamp,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Postpones the worry about a run that is still in the stream.
    fn worry_later(
        &self,
        shard: ShardId,
        epoch: Epoch,
        occurrence: &Occurrence,
        worry_at: Timestamp,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// One run's record.
    fn run(
        &self,
        shard: ShardId,
        occurrence: &Occurrence,
    ) -> impl Future<Output = Result<Option<RunRecord>, StoreError>> + Send;

    /// A job's remembered runs, ended and open, newest due first, at most `limit`.
    fn runs(
        &self,
        shard: ShardId,
        job: &JobId,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<RunRecord>, StoreError>> + Send;
}
