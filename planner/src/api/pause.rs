//! `pause` and `resume`, of a job, of a namespace with all its jobs, or of a backfill.
//!
//! A job carries its namespace's pause with it, as it carries its calendars: nobody who plans or dispatches has to look
//! it up. As with calendars, whoever writes a job and whoever pauses its namespace look afterwards at what the other may
//! have written; whoever dies in between leaves it to the next `pause`, `resume` or `apply`.

use std::collections::BTreeMap;

use bus::specs::StoredSpec;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use model::backfill::Turn;
use model::id::Revision;
use model::manifest::{self, Object, encode_object};
use model::name::{JobId, Name};
use model::object::ObjectKey;
use model::spec::{Acceptance, JobSpec, NamespaceSpec};
use model::time::Timestamp;
use store::Store;

use super::Api;
use super::apply::{CONFLICT_RETRIES_MAX, WRITES_IN_FLIGHT_MAX, applied};
use super::objects::{applied_object, namespace_of, with_updated};
use super::types::{ApiError, AppliedJob, AppliedObject, ApplyAction, ApplyReply, ErrorKind, PauseRequest};
use super::write::job_id;
use crate::service::PlannerBus;

/// What a stored job has in it that its namespace has paused. Reading a job costs much more than finding this.
const MARK: &[u8] = b"\"namespacePaused\":true";

/// What one rewriting of a stored job makes of it; `None`: nothing has to change.
type Edit<'a> = &'a (dyn Fn(&JobSpec, &Acceptance) -> Option<(JobSpec, Acceptance)> + Send + Sync);

impl<S: Store, B: PlannerBus> Api<S, B> {
    pub(super) async fn pause(
        &self,
        request: Result<PauseRequest, ApiError>,
    ) -> Result<ApplyReply, ApiError> {
        self.turn(request?, true).await
    }

    pub(super) async fn resume(
        &self,
        request: Result<PauseRequest, ApiError>,
    ) -> Result<ApplyReply, ApiError> {
        self.turn(request?, false).await
    }

    async fn turn(&self, request: PauseRequest, paused: bool) -> Result<ApplyReply, ApiError> {
        let now = self.clock.now();
        let PauseRequest { job, namespace, backfill, by } = request;
        let by = by.as_deref();
        let reply = match (job, namespace, backfill) {
            (None, None, Some(backfill)) => {
                let turn = if paused { Turn::Pause } else { Turn::Resume };
                let object = self.turn_backfill(&backfill, turn, now).await?;
                Ok(ApplyReply { jobs: vec![], objects: vec![object] })
            }
            (Some(job), None, None) => {
                let job = self.turn_job(&job_id(&job)?, paused, by, now).await?;
                Ok(ApplyReply { jobs: vec![job], objects: vec![] })
            }
            (None, Some(namespace), None) => {
                let name = Name::new(&namespace).map_err(|problem| {
                    ApiError::refused(format!("read namespace {namespace:?}: it {problem}"))
                })?;
                let object = self.turn_namespace(&name, paused, by, now).await?;
                Ok(ApplyReply { jobs: vec![], objects: vec![object] })
            }
            _ => Err(ApiError::refused("read the request: name a job, a namespace or a backfill".into())),
        }?;
        self.audit_turned(by, if paused { "pause" } else { "resume" }, &reply).await;
        Ok(reply)
    }

    /// Notes what was really turned.
    async fn audit_turned(&self, by: Option<&str>, action: &str, reply: &ApplyReply) {
        let turned = |action: ApplyAction| !matches!(action, ApplyAction::Unchanged | ApplyAction::Failed);
        let jobs = reply.jobs.iter().filter(|job| turned(job.action));
        let jobs = jobs.map(|job| (format!("job {}", job.job), None));
        let objects = reply.objects.iter().filter(|object| turned(object.action)).map(|object| {
            let told = object.updated.len() + object.updated_more;
            (format!("{} {}", object.kind.word(), object.name), Some(told).filter(|told| *told > 0))
        });
        for (target, count) in jobs.chain(objects) {
            self.audit(by, action, target, count, None).await;
        }
    }

    async fn turn_job(
        &self,
        job: &JobId,
        paused: bool,
        by: Option<&str>,
        now: Timestamp,
    ) -> Result<AppliedJob, ApiError> {
        let edit = |spec: &JobSpec, accepted: &Acceptance| {
            let turned = JobSpec { suspend: paused, ..spec.clone() };
            let acceptance = manifest::accept(&turned, Some((spec, accepted)), now);
            (spec.suspend != paused).then_some((turned, acceptance))
        };
        let Some(present) = self.bus.get(self.shards.shard_of(job), job).await? else {
            return Err(ApiError::not_found(&format!("the job {job}")));
        };
        let unchanged = present.revision;
        match self.rewrite(job, present, &edit, by).await? {
            Some(revision) => Ok(applied(job, revision, ApplyAction::Configured)),
            None => Ok(applied(job, unchanged, ApplyAction::Unchanged)),
        }
    }

    async fn turn_namespace(
        &self,
        name: &Name,
        paused: bool,
        by: Option<&str>,
        now: Timestamp,
    ) -> Result<AppliedObject, ApiError> {
        let key = ObjectKey::Namespace(name.clone());
        let mut written = None;
        for _ in 0..CONFLICT_RETRIES_MAX {
            let present = self.bus.object(&key).await?;
            let expected = present.as_ref().map(|stored| stored.revision);
            let spec = match &present {
                Some(stored) => namespace_of(stored)
                    .ok_or_else(|| ApiError::refused(format!("read the stored {key}: apply it again")))?,
                None => NamespaceSpec { name: name.clone(), min_interval: None, paused: false },
            };
            if spec.paused == paused {
                written = Some((expected.unwrap_or_default(), ApplyAction::Unchanged));
                break;
            }
            let value = encode_object(&Object::Namespace(NamespaceSpec { paused, ..spec })).to_string();
            match self.bus.put_object(&key, expected, value.into()).await {
                Ok(revision) => {
                    let action =
                        if expected.is_some() { ApplyAction::Configured } else { ApplyAction::Created };
                    written = Some((revision, action));
                    break;
                }
                Err(bus::BusError::Conflict) => {}
                Err(problem) => return Err(problem.into()),
            }
        }
        let Some((revision, action)) = written else {
            return Err(ApiError::new(ErrorKind::Failed, format!("write {key}: others keep writing it")));
        };
        let updated = self.spread_pause(name, by, now).await;
        // Not "nothing was changed" any more, whatever the bus says of its last request.
        let updated = updated.map_err(|error| ApiError { kind: ErrorKind::Unknown, ..error })?;
        Ok(with_updated(applied_object(&key, revision, action), updated))
    }

    /// Tells every job of a namespace whether the namespace is paused. Doing it again does what is left. The answer has
    /// only what was tried: the jobs that knew aren't in it. Work that was deferred ad hoc was asked for by somebody, and
    /// isn't paused with its namespace.
    pub(super) async fn spread_pause(
        &self,
        name: &Name,
        by: Option<&str>,
        now: Timestamp,
    ) -> Result<Vec<AppliedJob>, ApiError> {
        let key = ObjectKey::Namespace(name.clone());
        let mut updated = BTreeMap::new();
        for _ in 0..CONFLICT_RETRIES_MAX {
            let before = self.bus.object(&key).await?;
            let paused = before.as_ref().and_then(namespace_of).is_some_and(|spec| spec.paused);
            let edit = |spec: &JobSpec, accepted: &Acceptance| {
                let acceptance = accepted.in_namespace(paused, spec.suspend, now);
                let tell = accepted.namespace_paused != paused && !spec.delete_when_done;
                tell.then(|| (spec.clone(), acceptance))
            };
            let mut writes: Vec<BoxFuture<'_, Option<AppliedJob>>> = Vec::new();
            let mut specs = self.bus.list(Some(name)).await?;
            while let Some((job, stored)) = specs.next().await {
                if paused || stored.value.windows(MARK.len()).any(|window| window == MARK) {
                    writes.push(Box::pin(self.rewrite_reported(job, stored, &edit, by)));
                }
            }
            let mut written = futures_util::stream::iter(writes).buffered(WRITES_IN_FLIGHT_MAX);
            while let Some(job) = written.next().await {
                updated.extend(job.map(|job| (job.job.clone(), job)));
            }
            // Somebody changed it meanwhile: their jobs may have been told by us after them.
            let revision = |stored: Option<bus::objects::StoredObject>| stored.map(|stored| stored.revision);
            if revision(self.bus.object(&key).await?) == revision(before) {
                break;
            }
        }
        Ok(updated.into_values().collect())
    }

    async fn rewrite_reported(
        &self,
        job: JobId,
        stored: StoredSpec,
        edit: Edit<'_>,
        by: Option<&str>,
    ) -> Option<AppliedJob> {
        match self.rewrite(&job, stored, edit, by).await {
            Ok(revision) => revision.map(|revision| applied(&job, revision, ApplyAction::Configured)),
            Err(error) => {
                let failed = applied(&job, Revision(0), ApplyAction::Failed);
                Some(AppliedJob { error: Some(error), ..failed })
            }
        }
    }

    /// One job's new revision; `None` if it needs none, or is gone.
    async fn rewrite(
        &self,
        job: &JobId,
        mut present: StoredSpec,
        edit: Edit<'_>,
        by: Option<&str>,
    ) -> Result<Option<Revision>, ApiError> {
        let shard = self.shards.shard_of(job);
        for _ in 0..CONFLICT_RETRIES_MAX {
            let (spec, accepted) =
                manifest::from_bytes(&present.value, present.written_at).map_err(|_| {
                    ApiError::refused(format!(
                        "read the stored job {job}: see `ecron describe`, and apply it again"
                    ))
                })?;
            let Some((spec, acceptance)) = edit(&spec, &accepted) else { return Ok(None) };
            let value = manifest::to_bytes(&spec, &acceptance).into();
            match self.bus.put_by(shard, job, Some(present.revision), value, by).await {
                Ok(revision) => return Ok(Some(revision)),
                Err(bus::BusError::Conflict) => {}
                Err(problem) => return Err(problem.into()),
            }
            let Some(newer) = self.bus.get(shard, job).await? else { return Ok(None) };
            present = newer;
        }
        Err(ApiError::new(ErrorKind::Failed, format!("write {job}: others keep writing it")))
    }
}
