//! `apply`: validate everything, then put each spec into KV by compare-and-set. That ack is durable acceptance.

use futures_util::StreamExt;
use model::id::Revision;
use model::limits::MANIFEST_OBJECTS_MAX;
use model::manifest::{self, Node, Object, stored};
use model::spec::{Acceptance, JobSpec};
use model::time::Timestamp;
use store::Store;

use super::Api;
use super::types::{ApiError, AppliedJob, ApplyAction, ApplyReply, ApplyRequest, ErrorKind, InputProblem};
use crate::service::PlannerBus;

/// Specs of one request that are written at once.
const WRITES_IN_FLIGHT_MAX: usize = 64;
/// Attempts of one compare-and-set against other writers.
const CONFLICT_RETRIES_MAX: usize = 8;

impl<S: Store, B: PlannerBus> Api<S, B> {
    pub(super) async fn apply(
        &self,
        request: Result<ApplyRequest, ApiError>,
    ) -> Result<ApplyReply, ApiError> {
        let request = request?;
        let now = self.clock.now();
        let specs = validated(&request.manifests, now)?;
        if request.dry_run {
            let valid = |spec: JobSpec| applied(&spec, Revision(0), ApplyAction::Unchanged);
            return Ok(ApplyReply { jobs: specs.into_iter().map(valid).collect() });
        }
        let writes = specs.into_iter().map(|spec| async move {
            match self.put_spec(&spec, now).await {
                Ok((revision, action)) => applied(&spec, revision, action),
                Err(error) => {
                    AppliedJob { error: Some(error), ..applied(&spec, Revision(0), ApplyAction::Failed) }
                }
            }
        });
        Ok(ApplyReply {
            jobs: futures_util::stream::iter(writes).buffered(WRITES_IN_FLIGHT_MAX).collect().await,
        })
    }

    /// Writes a one-off's spec, unless its job exists already: a second submission changes nothing.
    pub(crate) async fn put_once(
        &self,
        spec: &JobSpec,
        due_at: Timestamp,
        now: Timestamp,
    ) -> Result<(), ApiError> {
        self.bus.ensure_queue(&spec.queue).await?;
        // The instant may have passed already, and counts all the same.
        let since = now.min(due_at.plus_ms(-1));
        let acceptance = Acceptance { created_at: since, schedule_since: since };
        let value = stored::to_bytes(spec, &acceptance);
        match self.bus.put(self.shards.shard_of(&spec.id), &spec.id, None, value.into()).await {
            Ok(_) | Err(bus::BusError::Conflict) => Ok(()),
            Err(problem) => Err(problem.into()),
        }
    }

    /// Writes one spec unless it is there already. Safe to repeat.
    pub(crate) async fn put_spec(
        &self,
        spec: &JobSpec,
        now: Timestamp,
    ) -> Result<(Revision, ApplyAction), ApiError> {
        let shard = self.shards.shard_of(&spec.id);
        // The consumer first: a run that is published before its queue has one would wait for somebody to create it.
        self.bus.ensure_queue(&spec.queue).await?;
        for _ in 0..CONFLICT_RETRIES_MAX {
            let present = self.bus.get(shard, &spec.id).await?;
            let old: Option<(JobSpec, Acceptance)> =
                present.as_ref().and_then(|stored| stored::from_bytes(&stored.value, stored.written_at).ok());
            if let (Some((old_spec, _)), Some(stored)) = (&old, &present)
                && old_spec == spec
            {
                return Ok((stored.revision, ApplyAction::Unchanged));
            }
            let acceptance =
                manifest::accept(spec, old.as_ref().map(|(spec, acceptance)| (spec, acceptance)), now);
            let expected = present.as_ref().map(|stored| stored.revision);
            let value = stored::to_bytes(spec, &acceptance);
            let action = if expected.is_some() { ApplyAction::Configured } else { ApplyAction::Created };
            match self.bus.put(shard, &spec.id, expected, value.into()).await {
                Ok(revision) => return Ok((revision, action)),
                Err(bus::BusError::Conflict) => {}
                Err(problem) => return Err(problem.into()),
            }
        }
        Err(ApiError::new(ErrorKind::Failed, format!("write {}: others keep writing it", spec.id)))
    }
}

fn applied(spec: &JobSpec, revision: Revision, action: ApplyAction) -> AppliedJob {
    AppliedJob { job: spec.id.to_string(), revision: revision.0, action, error: None }
}

/// Every object decoded, or every problem of every object.
fn validated(manifests: &[serde_json::Value], now: Timestamp) -> Result<Vec<JobSpec>, ApiError> {
    if manifests.len() > MANIFEST_OBJECTS_MAX {
        return Err(ApiError::refused(format!(
            "apply {} objects at once; the limit is {MANIFEST_OBJECTS_MAX}",
            manifests.len()
        )));
    }
    let mut specs = Vec::with_capacity(manifests.len());
    let mut problems = Vec::new();
    for (object, value) in manifests.iter().enumerate() {
        match manifest::decode(&Node::from_json(value), now) {
            Ok(Object::Job(spec)) => specs.push(spec),
            Err(found) => problems.extend(found.into_iter().map(|problem| InputProblem {
                object,
                field: problem.field,
                message: problem.message,
            })),
        }
    }
    if problems.is_empty() {
        return Ok(specs);
    }
    let message = format!("accept the manifests: {} problem(s)", problems.len());
    Err(ApiError { kind: ErrorKind::Refused, message, problems })
}
