//! Installing one spec change: the new job record, the old entries out, the new ones in, in one step of the store.
//!
//! `install_plan` decides (pure); `apply_change` reads, calls it and carries it out.

use bus::edits::Edit;
use bus::specs::StoredSpec;
use bus::{BusError, EditWriter};
use model::change::{Change, ChangeKind, kept_schedule};
use model::declared::Declared;
use model::first::{ShardStanding, first_layout};
use model::id::Revision;
use model::manifest;
use model::name::JobId;
use model::plan::{Window, lay_out};
use model::shard::ShardId;
use model::spec::HistoryLimits;
use model::time::Timestamp;
use store::StoreError;
use store::lease::Epoch;
use store::plan::{After, Cursor, Install, Installed, JobRecord, PlanStore};

use crate::pass::{DeclaredCache, plan_shard};

/// Reads of a record that changed under us, before we give up and let the feed come round again.
const CONFLICT_RETRIES_MAX: usize = 5;

/// Why a change isn't installed. It may be tried again.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// What a change made of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    Installed {
        /// Something is due before the dispatcher would look again by itself, or an older revision was in force.
        near: bool,
    },
    Deleted,
    /// The record is as new as the change, or newer.
    AlreadyThere,
    /// The spec can't be read: noted as the job's condition, its last valid revision stays in force.
    Invalid,
}

/// Where an install happens: a shard under the caller's lease, at an instant.
#[derive(Debug)]
pub struct Site<'a, S, B> {
    pub store: &'a S,
    pub bus: &'a B,
    pub shard: ShardId,
    pub epoch: Epoch,
    pub now: Timestamp,
}

/// The change that brings a job from its old record to a new spec.
#[must_use]
pub fn install_plan(
    new: &Declared,
    revision: Revision,
    old: Option<(&JobRecord, &Declared)>,
    cursor: &Cursor,
    now: Timestamp,
) -> Install {
    plan_for(new, revision, old, &standing(cursor), now)
}

/// Brings a job back whose record was lost: as if its shard were rebuilt, what was taken counts as dispatched.
#[must_use]
pub fn reinstall_plan(new: &Declared, revision: Revision, cursor: &Cursor, now: Timestamp) -> Install {
    plan_for(new, revision, None, &ShardStanding { rebuilding: true, ..standing(cursor) }, now)
}

fn plan_for(
    new: &Declared,
    revision: Revision,
    old: Option<(&JobRecord, &Declared)>,
    shard: &ShardStanding,
    now: Timestamp,
) -> Install {
    let before = old.map(|(_, declared)| &declared.acceptance);
    let layout = first_layout(new, before, *shard, now);
    let named_before = |due: &Timestamp| {
        old.is_some_and(|(_, old)| {
            let paused_since = old.acceptance.paused_since();
            *due > old.acceptance.known_since()
                && paused_since.is_none_or(|paused_since| *due <= paused_since)
                && old.timeline.names(*due)
        })
    };
    let (mut add, add_unseen): (Vec<_>, Vec<_>) = layout.minute.into_iter().partition(named_before);
    // What the old revision named is in the dispatcher's hands: it decides about that itself.
    let (named, spaced): (Vec<_>, Vec<_>) =
        layout.spaced.into_iter().partition(|(due_at, _)| named_before(due_at));
    add.extend(named.into_iter().map(|(due_at, _)| due_at));
    add.sort_unstable();
    let remove = old.map_or_else(Vec::new, |(_, old)| planned_entries(old, shard, now));
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
            overlap: new.spec.overlap_rule(),
            after: after_of(new),
            after_due: None,
        }),
        after_first: Some(after_first(new, old.is_none(), shard, now)),
        keep_history: false,
        at: now,
        remove,
        add,
        add_unseen,
        spaced,
        skipped: layout.skipped,
        change: None,
    }
}

/// Whether the shard's specs are still to come in: nothing has been planned since its cursor was made. (An empty spec bucket
/// leaves the revision at 0 although the plan goes on; then what time has passed isn't what a wipe made us forget.)
fn rebuilding(cursor: &Cursor) -> bool {
    cursor.spec_revision == Revision(0) && cursor.planned_until == cursor.taken_until
}

/// How far a shard has come, as the rules need it.
fn standing(cursor: &Cursor) -> ShardStanding {
    ShardStanding {
        planned_until: cursor.planned_until,
        taken_until: cursor.taken_until,
        rebuilding: rebuilding(cursor),
    }
}

/// What a job's change log says of a new spec. A plan that is rebuilt after a wipe notes when the spec was written.
fn change(
    new: &Declared,
    stored: &StoredSpec,
    old: Option<&Declared>,
    cursor: &Cursor,
    now: Timestamp,
) -> Option<Change> {
    if new.spec.delete_when_done {
        // Deferred work has one revision and one run; its record says it all.
        return None;
    }
    let is_paused = |declared: &Declared| declared.acceptance.paused_since().is_some();
    let kind = ChangeKind::between(old.map(is_paused), is_paused(new));
    let old = old.map(|old| &old.spec);
    let rebuilding = old.is_none() && rebuilding(cursor);
    Some(Change {
        at: if rebuilding { stored.written_at.min(now) } else { now },
        revision: stored.revision,
        kind,
        by: stored.by.clone(),
        schedule: kept_schedule(old, &new.spec),
    })
}

/// How a job follows the ends of its own runs, if it does.
fn after_of(new: &Declared) -> Option<After> {
    let delay = new.schedule.after_delay().filter(|_| !new.spec.suspend)?;
    Some(After { delay, last: new.spec.schedule.end })
}

/// When the first run of a job with `after` is due: at once, or at its `start`. If its plan was lost, a run may be under way
/// of which nobody knows: then as if it had ended just now.
fn after_first(new: &Declared, unknown: bool, shard: &ShardStanding, now: Timestamp) -> Timestamp {
    let rebuilding = unknown && shard.rebuilding;
    let is_older = new.acceptance.created_at < shard.taken_until;
    let wait = new.schedule.after_delay().filter(|_| rebuilding && is_older).unwrap_or_default();
    now.plus(wait).max(new.spec.schedule.start.unwrap_or(now))
}

/// What a stored spec declares, or why it can't take effect. Others than our API may have written it.
pub fn declared(job: &JobId, stored: &StoredSpec) -> Result<Declared, String> {
    let declared = Declared::read(&stored.value, stored.written_at)?;
    let found = &declared.spec.id;
    if found == job { Ok(declared) } else { Err(format!("metadata names {found}, but the key names {job}")) }
}

/// Installs a new revision of a spec.
pub async fn apply_change<S: PlanStore, B: EditWriter>(
    site: &Site<'_, S, B>,
    job: &JobId,
    stored: &StoredSpec,
) -> Result<Applied, InstallError> {
    let declared = declared(job, stored);
    for _ in 0..CONFLICT_RETRIES_MAX {
        let (cursor, record) = site.read(job).await?;
        if record.as_ref().is_some_and(|record| record.revision >= stored.revision) {
            return Ok(Applied::AlreadyThere);
        }
        let install = match &declared {
            Ok(new) => {
                let old = record
                    .as_ref()
                    .and_then(|r| Declared::read(r.spec.as_bytes(), site.now).ok().map(|d| (r, d)));
                let old = old.as_ref().map(|(record, declared)| (*record, declared));
                let mut plan = install_plan(new, stored.revision, old, &cursor, site.now);
                // A record whose spec we can't read still has a revision to compare and a place to leave.
                plan.expected = record.as_ref().map(|record| record.revision);
                plan.change = change(new, stored, old.map(|(_, old)| old), &cursor, site.now);
                if plan.expected.is_some() {
                    site.announce(old.map_or(new, |(_, old)| old), stored.revision).await?;
                }
                plan
            }
            Err(problems) => invalid_install(job, record, problems, site.now),
        };
        let after =
            install.after_first.filter(|_| install.record.as_ref().is_some_and(|r| r.after.is_some()));
        let first = install.add.first().or(install.add_unseen.first()).or(after.as_ref());
        // An edit is in force once the dispatcher has looked again.
        let edited = install.expected.is_some();
        let near = edited || first.is_some_and(|due| due.ms_since(site.now) < NEAR_MS);
        match site.store.install(site.shard, site.epoch, &install).await? {
            Installed::Done if declared.is_ok() => {
                site.catch_up_with_pass(&cursor).await?;
                return Ok(Applied::Installed { near });
            }
            Installed::Done => return Ok(Applied::Invalid),
            Installed::Conflict => {}
        }
    }
    Err(StoreError::Unknown(format!("the record of {job} keeps changing")).into())
}

impl<S: PlanStore, B: EditWriter> Site<'_, S, B> {
    /// Tells the executors of the queue where runs of an older revision may wait. Always before the edit is installed, so
    /// that one which is in force was announced, whoever crashes in between. Deferred work has one revision and deletes
    /// itself.
    async fn announce(&self, old: &Declared, revision: Revision) -> Result<(), BusError> {
        if old.spec.delete_when_done {
            return Ok(());
        }
        let edit = Edit { job: old.spec.id.clone(), revision };
        self.bus.announce(&old.spec.queue, &edit).await
    }

    /// If a pass moved the plan on while we were laying out, our coarse place may lie in minutes that it has done: it
    /// would wait for the next pass. So that is made up for now.
    async fn catch_up_with_pass(&self, laid_out_for: &Cursor) -> Result<(), StoreError> {
        let present = self.store.cursor(self.shard).await?.ok_or(StoreError::Fenced)?;
        if present.planned_until > laid_out_for.planned_until {
            plan_shard(self.store, self.shard, self.epoch, &DeclaredCache::default(), self.now).await?;
        }
        Ok(())
    }

    /// Installs a job's present revision once more, as `plan` makes of its record; `false`: it is of another revision by now.
    pub async fn again(
        &self,
        job: &JobId,
        revision: Revision,
        plan: impl Fn(&JobRecord) -> Install,
    ) -> Result<bool, StoreError> {
        let (cursor, record) = self.read(job).await?;
        match record.filter(|record| record.revision == revision) {
            Some(record) => self.carry_out(&plan(&record), &cursor).await,
            None => Ok(false),
        }
    }

    /// Installs what was laid out for a cursor; `false`: the record has changed meanwhile.
    pub async fn carry_out(&self, plan: &Install, laid_out_for: &Cursor) -> Result<bool, StoreError> {
        if self.store.install(self.shard, self.epoch, plan).await? == Installed::Conflict {
            return Ok(false);
        }
        self.catch_up_with_pass(laid_out_for).await?;
        Ok(true)
    }

    async fn read(&self, job: &JobId) -> Result<(Cursor, Option<JobRecord>), StoreError> {
        let cursor = self.store.cursor(self.shard).await?.ok_or(StoreError::Fenced)?;
        let record = match self.store.jobs(self.shard, std::slice::from_ref(job)).await {
            Ok(mut records) => records.pop().flatten(),
            // The store lets a record that can't be read be replaced as if there were none.
            Err(StoreError::Corrupt { key, problem }) => {
                tracing::error!(%job, key, problem, "a job's record can't be read; it is written anew");
                None
            }
            Err(problem) => return Err(problem),
        };
        Ok((cursor, record))
    }
}

/// An occurrence nearer than this is worth a nudge: dispatchers look by themselves once a second.
const NEAR_MS: i64 = 2_000;

/// An unreadable spec changes nothing but the job's condition.
fn invalid_install(job: &JobId, record: Option<JobRecord>, problems: &str, now: Timestamp) -> Install {
    let expected = record.as_ref().map(|record| record.revision);
    let mut record = record.unwrap_or_else(|| JobRecord {
        revision: Revision(0),
        spec: String::new(),
        placed: None,
        condition: None,
        history: HistoryLimits::default(),
        overlap: None,
        after: None,
        after_due: None,
    });
    record.condition = Some(problems.chars().take(model::limits::ERROR_BYTES_MAX / 4).collect());
    Install {
        job: job.clone(),
        expected,
        record: Some(record),
        // What is planned stays planned.
        after_first: Some(now),
        keep_history: false,
        at: now,
        remove: vec![],
        add: vec![],
        add_unseen: vec![],
        spaced: vec![],
        skipped: vec![],
        change: None,
    }
}

/// Removes a job whose spec was deleted at `revision`.
pub async fn apply_delete<S: PlanStore, B: EditWriter>(
    site: &Site<'_, S, B>,
    job: &JobId,
    revision: Revision,
    by: Option<String>,
) -> Result<Applied, InstallError> {
    for _ in 0..CONFLICT_RETRIES_MAX {
        let (cursor, record) = site.read(job).await?;
        let Some(record) = record.filter(|record| record.revision <= revision) else {
            return Ok(Applied::AlreadyThere);
        };
        let old = Declared::read(record.spec.as_bytes(), site.now);
        if let Ok(old) = &old {
            site.announce(old, revision).await?;
        }
        let is_noted = !old.as_ref().is_ok_and(|old| old.spec.delete_when_done);
        let kind = ChangeKind::Deleted;
        let change = Change { at: site.now, revision, kind, by: by.clone(), schedule: None };
        let install = Install {
            job: job.clone(),
            expected: Some(record.revision),
            record: None,
            after_first: None,
            // Deferred work deletes itself: that it is done is no reason to forget how it ended.
            keep_history: old.as_ref().is_ok_and(|old| old.spec.delete_when_done),
            at: site.now,
            remove: old
                .map_or_else(|_| Vec::new(), |old| planned_entries(&old, &standing(&cursor), site.now)),
            add: vec![],
            add_unseen: vec![],
            spaced: vec![],
            skipped: vec![],
            change: is_noted.then_some(change),
        };
        if site.store.install(site.shard, site.epoch, &install).await? == Installed::Done {
            return Ok(Applied::Deleted);
        }
    }
    Err(StoreError::Unknown(format!("the record of {job} keeps changing")).into())
}

/// What a job has in the minute tier beyond what the dispatcher has taken. Of a paused one that is what was due before its
/// pause.
fn planned_entries(old: &Declared, shard: &ShardStanding, now: Timestamp) -> Vec<Timestamp> {
    let paused_since = old.acceptance.paused_since();
    let until = paused_since.map_or(shard.planned_until, |paused_since| paused_since.plus_ms(1));
    let window = Window { after: shard.taken_until, until, now, interruption: None };
    lay_out(&old.timeline, window, &old.spec.catch_up, 0).minute
}
