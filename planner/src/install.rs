//! Installing one spec change: the new job record, the old entries out, the new ones in, in one step of the store.
//!
//! `install_plan` decides (pure); `apply_change` reads, calls it and carries it out.

use model::id::Revision;
use model::manifest;
use model::misfire::Interruption;
use model::name::JobId;
use model::plan::{Layout, Window, lay_out};
use model::schedule::{Identity, Schedule};
use model::shard::ShardId;
use model::spec::{Acceptance, HistoryLimits, JobSpec};
use model::time::Timestamp;
use store::StoreError;
use store::lease::Epoch;
use store::plan::{Cursor, Install, Installed, JobRecord, PlanStore};

/// Reads of a record that changed under us, before we give up and let the feed come round again.
const CONFLICT_RETRIES_MAX: usize = 5;

/// What a change made of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    Installed {
        /// Something is due before the dispatcher would look again by itself.
        near: bool,
    },
    Deleted,
    /// The record is as new as the change, or newer.
    AlreadyThere,
    /// The spec can't be read: noted as the job's condition, its last valid revision stays in force.
    Invalid,
}

/// A spec and everything derived from it.
#[derive(Clone, Debug)]
pub struct Compiled {
    pub spec: JobSpec,
    pub acceptance: Acceptance,
    pub schedule: Schedule,
}

/// Reads a stored spec. The error is one line with every problem.
pub fn compile(value: &[u8], written_at: Timestamp) -> Result<Compiled, String> {
    let join = |problems: Vec<String>| problems.join("; ");
    let (spec, acceptance) = manifest::from_bytes(value, written_at)
        .map_err(|problems| join(problems.iter().map(ToString::to_string).collect()))?;
    let job = spec.id.to_string();
    let identity = Identity { job: &job, created_at: acceptance.created_at };
    let schedule = Schedule::compile(&spec.schedule, &identity, &|_| None).map_err(|problems| {
        join(
            problems
                .iter()
                .map(|problem| format!("schedule.{}: {}", problem.field, problem.message))
                .collect(),
        )
    })?;
    Ok(Compiled { spec, acceptance, schedule })
}

/// The change that brings a job from its old record to a new spec.
#[must_use]
pub fn install_plan(
    new: &Compiled,
    revision: Revision,
    old: Option<(&JobRecord, &Compiled)>,
    cursor: &Cursor,
    now: Timestamp,
) -> Install {
    let layout = if new.spec.suspend {
        Layout::default()
    } else {
        first_layout(new, old.map(|(_, c)| c), cursor, now)
    };
    let named_before = |due: &Timestamp| {
        old.is_some_and(|(_, c)| {
            !c.spec.suspend && *due > c.acceptance.schedule_since && c.schedule.names(*due)
        })
    };
    let (add, add_unseen) = layout.minute.into_iter().partition(named_before);
    let remove = old.map_or_else(Vec::new, |(_, compiled)| {
        let window =
            Window { after: cursor.taken_until, until: cursor.planned_until, now, interruption: None };
        lay_out(&compiled.schedule, window, &compiled.spec.catch_up, 0).minute
    });
    Install {
        job: new.spec.id.clone(),
        expected: old.map(|(record, _)| record.revision),
        record: Some(JobRecord {
            revision,
            // Complete even if the value came from another tool without its acceptance.
            spec: String::from_utf8_lossy(&manifest::to_bytes(&new.spec, &new.acceptance)).into_owned(),
            placed: layout.next,
            condition: None,
            history: new.spec.history,
        }),
        remove,
        add,
        add_unseen,
    }
}

/// Where a spec's occurrences go at first.
fn first_layout(new: &Compiled, old: Option<&Compiled>, cursor: &Cursor, now: Timestamp) -> Layout {
    let since = new.acceptance.schedule_since;
    let rebuilding = cursor.spec_revision == Revision(0);
    let after = match old {
        // Everything up to `taken_until` was named by the old revision and is dealt with.
        Some(old) if old.acceptance.schedule_since == since => since.max(cursor.taken_until),
        Some(_) => since,
        // After a wipe, what was due before the checkpoint was dispatched; a new job can have nothing before `since`.
        // A one-off that is still declared hasn't ended, so it goes in again whatever the checkpoint says.
        None if rebuilding && !new.spec.delete_when_done => since.max(cursor.taken_until),
        None => since,
    };
    let interruption = Interruption::between(after, now).filter(|_| !rebuilding);
    let window = Window { after, until: cursor.planned_until, now, interruption };
    lay_out(&new.schedule, window, &new.spec.catch_up, 0)
}

/// Installs a new revision of a spec, read as stored text.
pub async fn apply_change<S: PlanStore>(
    store: &S,
    shard: ShardId,
    epoch: Epoch,
    job: &JobId,
    revision: Revision,
    value: &[u8],
    written_at: Timestamp,
    now: Timestamp,
) -> Result<Applied, StoreError> {
    let compiled = compile(value, written_at).and_then(|compiled| {
        let found = compiled.spec.id.clone();
        if found == *job {
            Ok(compiled)
        } else {
            Err(format!("metadata names {found}, but the key names {job}"))
        }
    });
    for _ in 0..CONFLICT_RETRIES_MAX {
        let cursor = store.cursor(shard).await?.ok_or(StoreError::Fenced)?;
        let record = store.jobs(shard, std::slice::from_ref(job)).await?.pop().flatten();
        if record.as_ref().is_some_and(|record| record.revision >= revision) {
            return Ok(Applied::AlreadyThere);
        }
        let install = match &compiled {
            Ok(new) => {
                let old =
                    record.as_ref().and_then(|r| compile(r.spec.as_bytes(), written_at).ok().map(|c| (r, c)));
                let mut plan = install_plan(new, revision, old.as_ref().map(|(r, c)| (*r, c)), &cursor, now);
                // A record whose spec we can't read still has a revision to compare and a place to leave.
                plan.expected = record.as_ref().map(|record| record.revision);
                plan
            }
            Err(problems) => invalid_install(job, record.clone(), problems),
        };
        let near =
            install.add.first().or(install.add_unseen.first()).is_some_and(|due| due.ms_since(now) < NEAR_MS);
        match store.install(shard, epoch, &install).await? {
            Installed::Done if compiled.is_ok() => return Ok(Applied::Installed { near }),
            Installed::Done => return Ok(Applied::Invalid),
            Installed::Conflict => {}
        }
    }
    Err(StoreError::Unknown(format!("the record of {job} keeps changing")))
}

/// An occurrence nearer than this is worth a nudge: dispatchers look by themselves once a second.
const NEAR_MS: i64 = 2_000;

/// An unreadable spec changes nothing but the job's condition.
fn invalid_install(job: &JobId, record: Option<JobRecord>, problems: &str) -> Install {
    let expected = record.as_ref().map(|record| record.revision);
    let mut record = record.unwrap_or_else(|| JobRecord {
        revision: Revision(0),
        spec: String::new(),
        placed: None,
        condition: None,
        history: HistoryLimits::default(),
    });
    record.condition = Some(problems.chars().take(model::limits::ERROR_BYTES_MAX / 4).collect());
    Install {
        job: job.clone(),
        expected,
        record: Some(record),
        remove: vec![],
        add: vec![],
        add_unseen: vec![],
    }
}

/// Removes a job whose spec was deleted at `revision`.
pub async fn apply_delete<S: PlanStore>(
    store: &S,
    shard: ShardId,
    epoch: Epoch,
    job: &JobId,
    revision: Revision,
    now: Timestamp,
) -> Result<Applied, StoreError> {
    for _ in 0..CONFLICT_RETRIES_MAX {
        let cursor = store.cursor(shard).await?.ok_or(StoreError::Fenced)?;
        let Some(record) = store.jobs(shard, std::slice::from_ref(job)).await?.pop().flatten() else {
            return Ok(Applied::AlreadyThere);
        };
        if record.revision > revision {
            return Ok(Applied::AlreadyThere);
        }
        let remove = compile(record.spec.as_bytes(), now).map_or_else(
            |_| Vec::new(),
            |old| {
                let window = Window {
                    after: cursor.taken_until,
                    until: cursor.planned_until,
                    now,
                    interruption: None,
                };
                lay_out(&old.schedule, window, &old.spec.catch_up, 0).minute
            },
        );
        let install = Install {
            job: job.clone(),
            expected: Some(record.revision),
            record: None,
            remove,
            add: vec![],
            add_unseen: vec![],
        };
        if store.install(shard, epoch, &install).await? == Installed::Done {
            return Ok(Applied::Deleted);
        }
    }
    Err(StoreError::Unknown(format!("the record of {job} keeps changing")))
}
