//! Jobs and the calendars that they name: finding them, and bringing them up to date after a change.
//!
//! Two writers meet here: one that applies a job, and one that changes its calendar. Each writes first and looks
//! afterwards at what the other may have written, so that one of them sees both and finishes the work; whoever dies
//! in between leaves it to the next `apply`.

use std::collections::{BTreeMap, BTreeSet};

use bus::specs::StoredSpec;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use model::declared::Declared;
use model::id::Revision;
use model::manifest;
use model::name::{CalendarId, JobId};
use model::object::ObjectKey;
use model::schedule::{Exclusion, NamedCalendar};
use model::spec::{Acceptance, JobSpec};
use model::time::Timestamp;
use store::Store;

use super::Api;
use super::apply::{CONFLICT_RETRIES_MAX, WRITES_IN_FLIGHT_MAX, applied};
use super::objects::calendar_of;
use super::types::{ApiError, AppliedJob, ApplyAction, ErrorKind};
use crate::service::PlannerBus;

/// What a stored job that names calendars has in it. Most jobs name none, and reading one costs a compilation.
const MARK: &[u8] = b"\"calendars\"";

/// A job as it is stored.
pub(super) struct Present {
    pub(super) stored: StoredSpec,
    pub(super) spec: JobSpec,
    acceptance: Acceptance,
}

impl<S: Store, B: PlannerBus> Api<S, B> {
    /// The jobs that name a calendar, in order of name.
    pub(super) async fn jobs_naming(&self, calendar: &CalendarId) -> Result<Vec<Present>, ApiError> {
        let mut specs = self.bus.list(Some(&calendar.namespace)).await?;
        let mut found = Vec::new();
        while let Some((_, stored)) = specs.next().await {
            found.extend(present(stored).filter(|job| names(&job.spec, calendar)));
        }
        found.sort_by(|a, b| a.spec.id.cmp(&b.spec.id));
        Ok(found)
    }

    /// Writes the present contents of a calendar into every job that names it and holds others. Doing it again does
    /// what is left. The answer has only what was tried: the jobs that were up to date aren't in it.
    pub(super) async fn spread(
        &self,
        calendar: &CalendarId,
        now: Timestamp,
    ) -> Result<Vec<AppliedJob>, ApiError> {
        let key = ObjectKey::Calendar(calendar.clone());
        let mut updated = BTreeMap::new();
        for _ in 0..CONFLICT_RETRIES_MAX {
            let Some(stored) = self.bus.object(&key).await? else { break };
            let Some(contents) = calendar_of(&stored) else { break };
            let mut jobs = self.jobs_naming(calendar).await?;
            jobs.retain(|job| job.spec.calendars.get(&calendar.name) != Some(&contents));
            let mut writes: Vec<BoxFuture<'_, Option<AppliedJob>>> = Vec::with_capacity(jobs.len());
            for job in jobs {
                writes.push(Box::pin(self.update_reported(job, calendar, &contents, now)));
            }
            let mut written = futures_util::stream::iter(writes).buffered(WRITES_IN_FLIGHT_MAX);
            while let Some(job) = written.next().await {
                updated.extend(job.map(|job| (job.job.clone(), job)));
            }
            // Somebody changed it meanwhile: their jobs may have got our contents after theirs.
            if self.bus.object(&key).await?.is_some_and(|after| after.revision == stored.revision) {
                break;
            }
        }
        Ok(updated.into_values().collect())
    }

    async fn update_reported(
        &self,
        job: Present,
        calendar: &CalendarId,
        contents: &NamedCalendar,
        now: Timestamp,
    ) -> Option<AppliedJob> {
        let id = job.spec.id.clone();
        match self.update(job, calendar, contents, now).await {
            Ok(revision) => revision.map(|revision| applied(&id, revision, ApplyAction::Configured)),
            Err(error) => {
                let failed = applied(&id, Revision(0), ApplyAction::Failed);
                Some(AppliedJob { error: Some(error), ..failed })
            }
        }
    }

    /// One job's new revision; `None` if it needs none any more.
    async fn update(
        &self,
        mut job: Present,
        calendar: &CalendarId,
        contents: &NamedCalendar,
        now: Timestamp,
    ) -> Result<Option<Revision>, ApiError> {
        let id = job.spec.id.clone();
        let shard = self.shards.shard_of(&id);
        for _ in 0..CONFLICT_RETRIES_MAX {
            if !names(&job.spec, calendar) || job.spec.calendars.get(&calendar.name) == Some(contents) {
                return Ok(None);
            }
            let (spec, acceptance) = with_calendar(&job, calendar, contents, now)
                .map_err(|problems| ApiError::refused(format!("accept it with {calendar}: {problems}")))?;
            let value = manifest::to_bytes(&spec, &acceptance).into();
            let by = format!("calendar {calendar}");
            match self.bus.put_by(shard, &id, Some(job.stored.revision), value, Some(&by)).await {
                Ok(revision) => return Ok(Some(revision)),
                Err(bus::BusError::Conflict) => {}
                Err(problem) => return Err(problem.into()),
            }
            let Some(newer) = self.bus.get(shard, &id).await?.and_then(present) else { return Ok(None) };
            job = newer;
        }
        Err(ApiError::new(ErrorKind::Failed, format!("write {id}: others keep writing it")))
    }

    /// The jobs that a calendar's new contents would break, and how; those of the same input are judged by themselves.
    pub(super) async fn broken_by(
        &self,
        calendar: &CalendarId,
        contents: &NamedCalendar,
        in_input: &BTreeSet<JobId>,
        now: Timestamp,
    ) -> Result<Vec<String>, ApiError> {
        let mut jobs = self.jobs_naming(calendar).await?;
        jobs.retain(|job| !in_input.contains(&job.spec.id));
        let broken = jobs.iter().filter_map(|job| {
            let problems = with_calendar(job, calendar, contents, now).err()?;
            Some(format!("job {} names it: {problems}", job.spec.id))
        });
        Ok(broken.collect())
    }
}

/// A stored job that names calendars.
fn present(stored: StoredSpec) -> Option<Present> {
    if !stored.value.windows(MARK.len()).any(|window| window == MARK) {
        return None;
    }
    let (spec, acceptance) = manifest::from_bytes(&stored.value, stored.written_at).ok()?;
    Some(Present { stored, spec, acceptance })
}

fn names(job: &JobSpec, calendar: &CalendarId) -> bool {
    let named = |exclusion: &Exclusion| matches!(exclusion, Exclusion::Calendar(name) if *name == *calendar.name.as_str());
    job.id.namespace == calendar.namespace && job.schedule.each().flat_map(|one| &one.exclude).any(named)
}

/// A job with other contents of a calendar, or why it can't have them. Its schedule counts anew, as after any edit of it.
fn with_calendar(
    job: &Present,
    calendar: &CalendarId,
    contents: &NamedCalendar,
    now: Timestamp,
) -> Result<(JobSpec, Acceptance), String> {
    let mut spec = job.spec.clone();
    spec.calendars.insert(calendar.name.clone(), contents.clone());
    let acceptance = manifest::accept(&spec, Some((&job.spec, &job.acceptance)), now);
    let Declared { spec, acceptance, .. } = Declared::of(spec, acceptance)?;
    Ok((spec, acceptance))
}
