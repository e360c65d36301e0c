//! The plan: job records, the coarse tiers and the minute tier, as the planner writes them.

use std::future::Future;
use std::time::Duration;

use model::bucket::Placed;
use model::change::Change;
use model::id::Revision;
use model::name::JobId;
use model::overlap;
use model::run::SkipReason;
use model::shard::ShardId;
use model::spec::HistoryLimits;
use model::time::Timestamp;

use crate::error::StoreError;
use crate::lease::Epoch;

/// How far a shard has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Minted when the shard's state was created; another one means that everything before was lost.
    pub incarnation: String,
    /// Every occurrence due before this instant is in the minute tier, or beyond it.
    pub planned_until: Timestamp,
    /// Every occurrence due up to this instant has been taken by a dispatcher. Never after `planned_until`, never
    /// goes back.
    pub taken_until: Timestamp,
    /// Every spec change up to this revision has been installed.
    pub spec_revision: Revision,
}

/// How far back a shard begins that nobody ever owned, and how long it may then wait for its first dispatcher: what falls
/// due in this time is late, not missed, because a cluster that is being set up isn't interrupted. Longer than it takes
/// to start everything; short enough that nobody is flooded by what a forgotten dispatcher left.
pub const UNOWNED_MAX: Duration = Duration::from_secs(3_600);

impl Cursor {
    /// When the cursor was made. (The incarnation ends with it, in milliseconds.)
    #[must_use]
    pub fn made_at(&self) -> Option<Timestamp> {
        let made_at = self.incarnation.rsplit_once('-').and_then(|(_, ms)| ms.parse().ok());
        made_at.map(Timestamp::from_ms)
    }

    /// Whether a shard that nobody ever owned begins at this instant, and began lately. Then what is due since was never
    /// interrupted: nobody had begun.
    #[must_use]
    pub fn is_beginning(&self, at: Timestamp, now: Timestamp) -> bool {
        self.made_at()
            .is_some_and(|made_at| at.plus(UNOWNED_MAX) == made_at && now <= made_at.plus(UNOWNED_MAX))
    }
}

/// A job as the plan knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRecord {
    pub revision: Revision,
    /// The spec in its stored form (`record.rs` doesn't look inside; `model::manifest` does).
    pub spec: String,
    /// Its place in the coarse tiers; `None` once no further occurrence exists.
    pub placed: Option<Placed>,
    /// Why the newest spec wasn't installed, if it wasn't (an invalid spec written by another tool).
    pub condition: Option<String>,
    /// How many ended runs to keep (a copy of what the spec says, for the scripts that trim).
    pub history: HistoryLimits,
    /// How many of its runs may be under way at once, if anything limits that (likewise a copy).
    pub overlap: Option<overlap::Rule>,
    /// It runs this long after its last run has ended.
    pub after: Option<After>,
    /// When its next run is due, if it follows the end of the last one and is planned. The store's own: `install` ignores it.
    pub after_due: Option<Timestamp>,
}

/// How a job follows the ends of its own runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct After {
    pub delay: Duration,
    /// Nothing is due after this instant.
    pub last: Option<Timestamp>,
}

/// A change of one job's record and entries, in one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Install {
    pub job: JobId,
    /// The revision that the caller read; another one in the store means `Installed::Conflict`. A record whose
    /// revision can't be read counts as none, so that it can be replaced.
    pub expected: Option<Revision>,
    /// The new record, or `None` to delete the job with its history. Runs that are still open keep their record
    /// until a while after they ended; those that wait for an earlier one are skipped (`SkipReason::Deleted`). After an
    /// edit, those that wait go as soon as the new limit has room for them.
    pub record: Option<JobRecord>,
    /// When the first run of a job with `after` is due, unless one is planned, waits or is under way.
    pub after_first: Option<Timestamp>,
    /// On deletion: keep the history of ended runs for a while, too.
    pub keep_history: bool,
    /// When this change is made.
    pub at: Timestamp,
    /// Minute-tier entries to take out: due instants, under the *expected* revision.
    pub remove: Vec<Timestamp>,
    /// Minute-tier entries to put in: due instants, under the *new* revision. One that the shard's dispatcher has taken
    /// by now (due up to `taken_until`) belongs to the old revision: neither removed nor put in. Nor is one put in whose
    /// run has a record.
    pub add: Vec<Timestamp>,
    /// Likewise, but for instants that no older revision named: put in even if `taken_until` has passed them.
    pub add_unseen: Vec<Timestamp>,
    /// Due, and not before: instants that no older revision named, whose entries come into the minute tier only then, as
    /// if they had been spaced out (`SpaceStore`).
    pub spaced: Vec<(Timestamp, Timestamp)>,
    /// Occurrences that the job's catch-up leaves out, as in `Advance`.
    pub skipped: Vec<(Timestamp, SkipReason)>,
    /// What to note in the job's change log.
    pub change: Option<Change>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installed {
    Done,
    /// The record changed since it was read: read again.
    Conflict,
}

/// A job whose next occurrence should move on to a finer tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub job: JobId,
    pub placed: Placed,
    /// The revision it was placed under (of a half-hour entry), or that the job has now (of a horizon entry).
    pub revision: Revision,
}

/// One job's step: out of its coarse place, some occurrences into the minute tier, and on to its next coarse place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advance {
    pub job: JobId,
    pub revision: Revision,
    pub from: Placed,
    pub minute: Vec<Timestamp>,
    pub next: Option<Placed>,
    /// Occurrences that the job's catch-up leaves out. Recorded as skipped runs, ended when they were due (bounded by
    /// the caller).
    pub skipped: Vec<(Timestamp, SkipReason)>,
}

/// Items in one call of `install`'s lists, `advance` or `waiting`: bounds the time that one script holds the store.
pub const PLAN_BATCH_MAX: usize = 500;

/// A stretch of spec changes that are all installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpecsRead {
    /// Where the shard's cursor was known to be.
    pub from: Revision,
    pub to: Revision,
}

pub trait PlanStore: Send + Sync + 'static {
    /// A shard's cursor; `None` before the first planner, or after a wipe.
    fn cursor(&self, shard: ShardId) -> impl Future<Output = Result<Option<Cursor>, StoreError>> + Send;

    /// Creates a shard's cursor; if there is one already, changes nothing and answers with that.
    fn begin(
        &self,
        shard: ShardId,
        epoch: Epoch,
        cursor: &Cursor,
    ) -> impl Future<Output = Result<Cursor, StoreError>> + Send;

    /// Moves `planned_until` and `spec_revision` forward (never back; `None` leaves one alone). `Fenced` also if the
    /// shard has no cursor, or one that is behind what was read from: the store lost something, so begin again.
    fn progress(
        &self,
        shard: ShardId,
        epoch: Epoch,
        planned_until: Option<Timestamp>,
        specs: Option<SpecsRead>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The records of some jobs of one shard, in order. `Corrupt` names the first that can't be read; ask for the others
    /// without it.
    fn jobs(
        &self,
        shard: ShardId,
        jobs: &[JobId],
    ) -> impl Future<Output = Result<Vec<Option<JobRecord>>, StoreError>> + Send;

    /// The revision of a job that is in force: no run of an older one is published any more, and no executor that asks for
    /// edits starts one. That is the record's, once whatever a dispatcher took before it was installed is published, and
    /// `EDIT_IN_FORCE_AFTER` has passed. `None`: there is no such job.
    fn in_force(
        &self,
        shard: ShardId,
        job: &JobId,
    ) -> impl Future<Output = Result<Option<Revision>, StoreError>> + Send;

    /// Changes one job: record, coarse place and minute-tier entries at once.
    fn install(
        &self,
        shard: ShardId,
        epoch: Epoch,
        install: &Install,
    ) -> impl Future<Output = Result<Installed, StoreError>> + Send;

    /// Up to `limit` jobs whose coarse place lies before an instant, earliest first: half-hour entries due before
    /// `minute_before`, then horizon entries due before `half_hour_before`. Stale half-hour entries (no such job, or
    /// another revision) are removed on the way and not returned. Fewer than `limit` means that there are no more.
    fn waiting(
        &self,
        shard: ShardId,
        epoch: Epoch,
        minute_before: Timestamp,
        half_hour_before: Timestamp,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Waiting>, StoreError>> + Send;

    /// Carries out some jobs' steps. A step of a job whose record or place has changed meanwhile changes nothing
    /// (`false` in its position), and so does a second step of one job. An occurrence whose run has a record isn't put
    /// into the minute tier again.
    fn advance(
        &self,
        shard: ShardId,
        epoch: Epoch,
        steps: &[Advance],
    ) -> impl Future<Output = Result<Vec<bool>, StoreError>> + Send;
}
