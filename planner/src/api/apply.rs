//! `apply`: validate everything, then put each spec into KV by compare-and-set. That ack is durable acceptance.

use bus::specs::StoredSpec;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use model::id::Revision;
use model::limits::MANIFEST_OBJECTS_MAX;
use model::manifest::{self, Node, Problem};
use model::name::JobId;
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

/// A manifest that may be written, and what it would replace.
struct Admitted {
    spec: JobSpec,
    acceptance: Acceptance,
    present: Option<StoredSpec>,
    unchanged: bool,
}

impl<S: Store, B: PlannerBus> Api<S, B> {
    pub(super) async fn apply(
        &self,
        request: Result<ApplyRequest, ApiError>,
    ) -> Result<ApplyReply, ApiError> {
        let request = request?;
        if request.manifests.len() > MANIFEST_OBJECTS_MAX {
            let count = request.manifests.len();
            let message = format!("apply {count} objects at once; the limit is {MANIFEST_OBJECTS_MAX}");
            return Err(ApiError::refused(message));
        }
        let nodes: Vec<Node> = request.manifests.into_iter().map(Node::from_json).collect();
        let now = self.clock.now();
        let admitted = self.admit_all(&nodes, now).await?;
        if request.dry_run {
            let valid = |(_, admitted): (&Node, Admitted)| {
                applied(&admitted.spec.id, Revision(0), ApplyAction::Unchanged)
            };
            return Ok(ApplyReply { jobs: admitted.into_iter().map(valid).collect() });
        }
        let mut writes: Vec<BoxFuture<'_, AppliedJob>> = Vec::with_capacity(admitted.len());
        for (node, admitted) in admitted {
            writes.push(Box::pin(self.write_reported(node, admitted, now)));
        }
        Ok(ApplyReply {
            jobs: futures_util::stream::iter(writes).buffered(WRITES_IN_FLIGHT_MAX).collect().await,
        })
    }

    async fn write_reported(&self, node: &Node, admitted: Admitted, now: Timestamp) -> AppliedJob {
        let id = admitted.spec.id.clone();
        match self.write(node, admitted, now).await {
            Ok((revision, action)) => applied(&id, revision, action),
            Err(error) => AppliedJob { error: Some(error), ..applied(&id, Revision(0), ApplyAction::Failed) },
        }
    }

    /// Every object admitted, or every problem of every object.
    async fn admit_all<'a>(
        &self,
        nodes: &'a [Node],
        now: Timestamp,
    ) -> Result<Vec<(&'a Node, Admitted)>, ApiError> {
        let mut admissions: Vec<BoxFuture<'_, _>> = Vec::with_capacity(nodes.len());
        for node in nodes {
            admissions.push(Box::pin(self.admit(node, now)));
        }
        let outcomes: Vec<_> =
            futures_util::stream::iter(admissions).buffered(WRITES_IN_FLIGHT_MAX).collect().await;
        let mut admitted = Vec::with_capacity(nodes.len());
        let mut problems = Vec::new();
        for (object, (node, outcome)) in nodes.iter().zip(outcomes).enumerate() {
            match outcome? {
                Ok(one) => admitted.push((node, one)),
                Err(found) => problems.extend(found.into_iter().map(|problem| InputProblem {
                    object,
                    field: problem.field,
                    message: problem.message,
                })),
            }
        }
        if problems.is_empty() {
            return Ok(admitted);
        }
        let message = format!("accept the manifests: {} problem(s)", problems.len());
        Err(ApiError { kind: ErrorKind::Refused, message, problems })
    }

    /// Judges one manifest against what is there now.
    async fn admit(&self, node: &Node, now: Timestamp) -> Result<Result<Admitted, Vec<Problem>>, ApiError> {
        let present = match manifest::job_id(node) {
            Some(job) => self.bus.get(self.shards.shard_of(&job), &job).await?,
            None => None,
        };
        let old: Option<(JobSpec, Acceptance)> =
            present.as_ref().and_then(|stored| manifest::from_bytes(&stored.value, stored.written_at).ok());
        let judged = manifest::admit(node, old.as_ref().map(|(spec, acceptance)| (spec, acceptance)), now);
        Ok(judged.map(|(spec, acceptance)| {
            let unchanged = old.is_some_and(|(old, _)| old == spec);
            Admitted { spec, acceptance, present, unchanged }
        }))
    }

    /// Writes one admitted spec; if somebody else wrote first, judges it anew.
    async fn write(
        &self,
        node: &Node,
        mut admitted: Admitted,
        now: Timestamp,
    ) -> Result<(Revision, ApplyAction), ApiError> {
        // The consumer first: a run that is published before its queue has one would wait for somebody to create it.
        self.bus.ensure_queue(&admitted.spec.queue).await?;
        for _ in 0..CONFLICT_RETRIES_MAX {
            let Admitted { spec, acceptance, present, unchanged } = &admitted;
            let expected = present.as_ref().map(|stored| stored.revision);
            if let (true, Some(revision)) = (*unchanged, expected) {
                return Ok((revision, ApplyAction::Unchanged));
            }
            let value = manifest::to_bytes(spec, acceptance);
            match self.bus.put(self.shards.shard_of(&spec.id), &spec.id, expected, value.into()).await {
                Ok(revision) if expected.is_some() => return Ok((revision, ApplyAction::Configured)),
                Ok(revision) => return Ok((revision, ApplyAction::Created)),
                Err(bus::BusError::Conflict) => {}
                Err(problem) => return Err(problem.into()),
            }
            admitted = self.admit(node, now).await?.map_err(|problems| {
                let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
                ApiError::refused(format!("accept it beside a newer version: {}", problems.join("; ")))
            })?;
        }
        Err(ApiError::new(ErrorKind::Failed, format!("write {}: others keep writing it", admitted.spec.id)))
    }

    /// Writes a one-off's spec, unless it is there already: a second submission changes nothing. `false`: a job of
    /// another kind has its name.
    pub(crate) async fn put_once(
        &self,
        spec: &JobSpec,
        due_at: Timestamp,
        now: Timestamp,
    ) -> Result<bool, ApiError> {
        self.bus.ensure_queue(&spec.queue).await?;
        // The instant may have passed already, and counts all the same.
        let since = now.min(due_at.plus_ms(-1));
        let acceptance = Acceptance { created_at: since, schedule_since: since };
        let value = manifest::to_bytes(spec, &acceptance);
        let shard = self.shards.shard_of(&spec.id);
        match self.bus.put(shard, &spec.id, None, value.into()).await {
            Ok(_) => Ok(true),
            Err(bus::BusError::Conflict) => {
                let present = self.bus.get(shard, &spec.id).await?;
                let same = |stored: StoredSpec| {
                    manifest::from_bytes(&stored.value, stored.written_at)
                        .is_ok_and(|(present, _)| present.delete_when_done)
                };
                // Gone between the two: it has run and was deleted, so this was a second submission.
                Ok(present.is_none_or(same))
            }
            Err(problem) => Err(problem.into()),
        }
    }
}

fn applied(job: &JobId, revision: Revision, action: ApplyAction) -> AppliedJob {
    AppliedJob { job: job.to_string(), revision: revision.0, action, error: None }
}
