//! What a completeness audit asks of the store: what it holds of a job's occurrences, and whether each run under way is
//! wherever its record says.
//!
//! Asking changes nothing. What is put right here is only what follows from the records themselves; occurrences are laid out
//! again by `PlanStore::install`.

use std::future::Future;

use model::bucket::Placed;
use model::change::Change;
use model::completeness::{Found, Kept};
use model::id::{Occurrence, Revision};
use model::name::JobId;
use model::shard::ShardId;
use model::time::Timestamp;

use crate::error::StoreError;
use crate::lease::Epoch;
use crate::plan::Cursor;

/// A job to be examined, under the revision whose schedules named the instants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub job: JobId,
    pub revision: Revision,
    pub dues: Vec<Timestamp>,
}

/// What the store holds of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Its place in the coarse tiers, and whether it is really there.
    pub placed: Option<(Placed, bool)>,
    /// The newest entry of its change log. Told, as its histories are, only if something isn't found that its place doesn't
    /// stand for: else nothing hangs on it.
    pub newest_change: Option<Change>,
    /// It follows its own ends, and nothing of it is planned, waits or is under way.
    pub broken_off: bool,
    /// Succeeded, failed (and cancelled), skipped; without limits, which are the record's.
    pub histories: [Kept; 3],
    /// In the order of the question.
    pub found: Vec<Found>,
}

/// The answer, all of one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examined {
    pub now: Timestamp,
    pub cursor: Option<Cursor>,
    /// In the order of the questions; `None`: the job has no record, or one of another revision.
    pub jobs: Vec<Option<Holding>>,
}

/// Instants in one call of `examine`, and jobs.
pub const EXAMINE_BATCH_MAX: usize = 1_000;

/// The lists that name runs under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunList {
    /// Published, outcome not known yet.
    Sent,
    /// Under way.
    Open,
    /// Waiting for their queue.
    Held,
    /// Triggered, and not ended.
    Triggered,
    /// Of backfills, and not counted.
    Backfilled,
}

impl RunList {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Sent, Self::Open, Self::Held, Self::Triggered, Self::Backfilled];
}

/// Where a run under way should be, and isn't.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Absent {
    /// It has no record, though a list names it.
    Record,
    /// Its entry in the minute tier.
    Entry,
    /// Its minute, in the index of minutes.
    Index,
    Sent,
    Open,
    Admitted,
    Held,
    /// Among those that wait for an earlier run of their job.
    Waits,
    Cancelling,
}

impl Absent {
    pub const ALL: [Self; 9] = [
        Self::Record,
        Self::Entry,
        Self::Index,
        Self::Sent,
        Self::Open,
        Self::Admitted,
        Self::Held,
        Self::Waits,
        Self::Cancelling,
    ];

    /// The word for programs, and in the scripts.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Entry => "entry",
            Self::Index => "index",
            Self::Sent => "sent",
            Self::Open => "open",
            Self::Admitted => "admitted",
            Self::Held => "held",
            Self::Waits => "waits",
            Self::Cancelling => "cancelling",
        }
    }

    /// The value of that word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|absent| absent.as_str() == word)
    }

    /// What is missing, in words.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Record => "it is under way, and the record of its run is gone",
            Self::Entry => "its entry in the minute tier is gone",
            Self::Index => "its minute is missing in the index of minutes: nobody would take it",
            Self::Sent => "it is published and missing in `sent`: nobody would worry about it",
            Self::Open => "it is under way and missing in `open`: nobody would count it",
            Self::Admitted => "it was admitted and is missing in `admitted`",
            Self::Held => "it waits for its queue and is missing in `held`",
            Self::Waits => "it waits for an earlier run and is missing in `waits`",
            Self::Cancelling => "it is being cancelled and is missing in `cancelling`",
        }
    }
}

/// Something that a run under way lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    pub run: Occurrence,
    pub absent: Absent,
    /// It was put right.
    pub mended: bool,
}

/// Runs in one call of `mend`, and about as many in one answer of `named_runs`.
pub const MEND_BATCH_MAX: usize = 500;

/// The fields of a shard's note, in the order in which they are read.
pub const AUDIT_FIELDS: [&str; 6] = ["at", "jobs", "occurrences", "last_found", "found", "mended"];

/// A note from the values of `AUDIT_FIELDS`; `None` if there is none that can be read.
#[must_use]
pub fn note_from(values: &[Option<String>]) -> Option<AuditNote> {
    let get = |name: &str| {
        let index = AUDIT_FIELDS.iter().position(|field| *field == name)?;
        values.get(index)?.as_deref()
    };
    let count = |name| get(name).and_then(|text| text.parse().ok()).unwrap_or(0);
    Some(AuditNote {
        at: get("at")?.parse().ok()?,
        jobs: count("jobs"),
        occurrences: count("occurrences"),
        found: count("found"),
        mended: count("mended"),
        last_found: get("last_found").map(Into::into),
    })
}

/// What the last audit of a shard came to.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct AuditNote {
    pub at: Timestamp,
    /// Looked at in it.
    pub jobs: u64,
    pub occurrences: u64,
    /// Since the store began.
    pub found: u64,
    pub mended: u64,
    /// The last that was found: when, and what.
    pub last_found: Option<String>,
}

pub trait CompletenessStore: Send + Sync + 'static {
    /// What the store holds of some jobs' occurrences. Changes nothing.
    fn examine(
        &self,
        shard: ShardId,
        questions: &[Question],
    ) -> impl Future<Output = Result<Examined, StoreError>> + Send;

    /// A page of the runs that a list names, in no order, and where to go on (`None`: that was all). Whatever is on the list
    /// from the first page to the last comes at least once.
    fn named_runs(
        &self,
        shard: ShardId,
        list: RunList,
        from: u64,
    ) -> impl Future<Output = Result<(Vec<Occurrence>, Option<u64>), StoreError>> + Send;

    /// Compares some runs' records with where they are. With an epoch (of the planner's lease) puts right what it finds: a
    /// run goes where its record says. One that is named and has no record goes back into the minute tier, unless it was due
    /// at or before `since`.
    fn mend(
        &self,
        shard: ShardId,
        epoch: Option<Epoch>,
        since: Timestamp,
        runs: &[Occurrence],
    ) -> impl Future<Output = Result<Vec<Lack>, StoreError>> + Send;

    /// Remembers what an audit came to: `found` and `mended` are added up.
    fn note_audit(
        &self,
        shard: ShardId,
        epoch: Epoch,
        note: &AuditNote,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// What the last audits of some shards came to, in order.
    fn audit_notes(
        &self,
        shards: &[ShardId],
    ) -> impl Future<Output = Result<Vec<Option<AuditNote>>, StoreError>> + Send;
}
