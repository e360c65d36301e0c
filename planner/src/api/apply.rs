//! `apply`: validate everything, then put each object into KV by compare-and-set. That ack is durable acceptance.
//!
//! Calendars, namespaces and queues first, then jobs, then the jobs that were there already and name a changed calendar.

use std::collections::{BTreeMap, BTreeSet};

use bus::specs::StoredSpec;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use model::declared::Declared;
use model::id::Revision;
use model::limits::MANIFEST_OBJECTS_MAX;
use model::manifest::{self, Calendars, Node, Problem};
use model::name::{CalendarId, JobId, Name, QueueId};
use model::object::ObjectKey;
use model::quota;
use model::spec::{Acceptance, JobSpec, NamespaceSpec, QueueSpec};
use model::time::Timestamp;
use store::Store;

use super::Api;
use super::objects::{AdmittedObject, applied_object, calendar_of, namespace_of, with_updated};
use super::queues::refused_by_queue;
use super::types::{
    ApiError, AppliedJob, AppliedObject, ApplyAction, ApplyReply, ApplyRequest, ErrorKind, InputProblem,
};
use crate::service::PlannerBus;

/// Specs of one request that are written at once.
pub(super) const WRITES_IN_FLIGHT_MAX: usize = 64;
/// Attempts of one compare-and-set against other writers.
pub(super) const CONFLICT_RETRIES_MAX: usize = 8;

/// A manifest of a job that may be written, and what it would replace.
struct Admitted {
    spec: JobSpec,
    acceptance: Acceptance,
    present: Option<StoredSpec>,
    unchanged: bool,
}

impl Admitted {
    /// Refuses a job that is at another revision than expected (0: there is none).
    fn is_at(&self, expected: u64) -> Result<(), ApiError> {
        let present = self.present.as_ref().map_or(0, |stored| stored.revision.0);
        if present == expected { Ok(()) } else { Err(conflict(&self.spec.id, expected, present)) }
    }
}

pub(super) fn conflict(job: &JobId, expected: u64, present: u64) -> ApiError {
    let said = |revision| if revision == 0 { "not there".into() } else { format!("at revision {revision}") };
    let message = format!("change {job}: it is {}, expected was {}", said(present), said(expected));
    ApiError::new(ErrorKind::Conflict, message)
}

/// What jobs are judged by beside themselves.
#[derive(Debug, Default)]
struct Surroundings {
    calendars: Calendars,
    /// Calendars that weren't in the input, as they were found.
    found: BTreeMap<CalendarId, Revision>,
    namespaces: BTreeMap<Name, NamespaceSpec>,
    /// The namespaces that weren't in the input, as they were found; `None`: there is no such object.
    found_namespaces: BTreeMap<Name, Option<Revision>>,
    /// Who asks.
    by: Option<String>,
    /// Queues of other namespaces.
    queues: BTreeMap<QueueId, QueueSpec>,
    /// The revision that the one job must be at.
    expected: Option<u64>,
}

/// Everything in a request, admitted.
struct Input<'a> {
    objects: Vec<AdmittedObject>,
    jobs: Vec<(&'a Node, Admitted)>,
    around: Surroundings,
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
        if request.expected.is_some() && request.manifests.len() != 1 {
            return Err(ApiError::refused("expect a revision: that goes with a single job only".into()));
        }
        let nodes: Vec<Node> = request.manifests.into_iter().map(Node::from_json).collect();
        let now = self.clock.now();
        let mut input = self.admit_all(&nodes, now).await?;
        input.around.by.clone_from(&request.by);
        input.around.expected = request.expected;
        match (request.expected, input.jobs.first()) {
            (None, _) => {}
            (Some(expected), Some((_, job))) => job.is_at(expected)?,
            (Some(_), None) => {
                return Err(ApiError::refused("expect a revision: that goes with a job only".into()));
            }
        }
        if request.dry_run {
            return Ok(input.as_valid());
        }
        let reply = self.carry_out(input, now).await?;
        self.audit_applied(request.by.as_deref(), &reply).await;
        Ok(reply)
    }

    async fn carry_out(&self, input: Input<'_>, now: Timestamp) -> Result<ApplyReply, ApiError> {
        let Input { objects, jobs, around } = input;
        let mut applied_objects = Vec::with_capacity(objects.len());
        for object in &objects {
            applied_objects.push(self.write_object(object).await);
        }
        if let Some(failed) = applied_objects.iter().find(|object| object.error.is_some()) {
            // A job must not hold what a calendar says that isn't stored.
            let message = format!("write it, because {} {} wasn't written", failed.kind.word(), failed.name);
            let failed = |(_, admitted): &(&Node, Admitted)| AppliedJob {
                error: Some(ApiError::new(ErrorKind::Failed, message.clone())),
                ..applied(&admitted.spec.id, Revision(0), ApplyAction::Failed)
            };
            return Ok(ApplyReply { jobs: jobs.iter().map(failed).collect(), objects: applied_objects });
        }
        let mut writes: Vec<BoxFuture<'_, AppliedJob>> = Vec::with_capacity(jobs.len());
        for (node, admitted) in jobs {
            writes.push(Box::pin(self.write_reported(node, admitted, &around, now)));
        }
        let jobs = futures_util::stream::iter(writes).buffered(WRITES_IN_FLIGHT_MAX).collect().await;
        let mut finished = Vec::with_capacity(applied_objects.len());
        for (object, applied) in objects.iter().zip(applied_objects) {
            finished.push(self.finish(&object.key, applied, now).await);
        }
        // Not "nothing was changed" any more, whatever the bus says of its last request.
        let caught = self.catch_changed(&around, now).await;
        caught.map_err(|error| ApiError { kind: ErrorKind::Unknown, ..error })?;
        Ok(ApplyReply { jobs, objects: finished })
    }

    /// Brings the jobs that name a calendar, or are in a namespace, up to date; also those that a crash left behind at an earlier `apply`.
    async fn finish(&self, key: &ObjectKey, applied: AppliedObject, now: Timestamp) -> AppliedObject {
        let updated = match key {
            ObjectKey::Calendar(calendar) => self.spread(calendar, now).await,
            ObjectKey::Namespace(name) => self.spread_pause(name, None, now).await,
            ObjectKey::Backfill(_) => return applied,
            ObjectKey::Queue(_) => return applied,
        };
        match updated {
            Ok(updated) => with_updated(applied, updated),
            Err(error) => AppliedObject { error: Some(error), action: ApplyAction::Failed, ..applied },
        }
    }

    /// A calendar or namespace that somebody changed while its jobs were being written: whoever changed it may have looked
    /// for jobs before ours were there.
    async fn catch_changed(&self, around: &Surroundings, now: Timestamp) -> Result<(), ApiError> {
        for (calendar, revision) in &around.found {
            let key = ObjectKey::Calendar(calendar.clone());
            if self.bus.object(&key).await?.is_some_and(|stored| stored.revision != *revision) {
                self.spread(calendar, now).await?;
            }
        }
        for (name, revision) in &around.found_namespaces {
            let present = self.bus.object(&ObjectKey::Namespace(name.clone())).await?;
            if present.map(|stored| stored.revision) != *revision {
                self.spread_pause(name, None, now).await?;
            }
        }
        Ok(())
    }

    async fn write_reported(
        &self,
        node: &Node,
        admitted: Admitted,
        around: &Surroundings,
        now: Timestamp,
    ) -> AppliedJob {
        let id = admitted.spec.id.clone();
        match self.write(node, admitted, around, now).await {
            Ok((revision, action)) => applied(&id, revision, action),
            Err(error) => AppliedJob { error: Some(error), ..applied(&id, Revision(0), ApplyAction::Failed) },
        }
    }

    /// Every object admitted, or every problem of every object.
    async fn admit_all<'a>(&self, nodes: &'a [Node], now: Timestamp) -> Result<Input<'a>, ApiError> {
        let is_job = |node: &Node| manifest::kind(node).is_none();
        let job_ids: BTreeSet<JobId> =
            nodes.iter().filter(|node| is_job(node)).filter_map(manifest::job_id).collect();
        let mut problems = Vec::new();
        let mut objects = Vec::new();
        for (object, node) in nodes.iter().enumerate().filter(|(_, node)| !is_job(node)) {
            match self.admit_object(node, &job_ids, now).await? {
                Ok(admitted) => objects.push(admitted),
                Err(found) => problems.extend(input_problems(object, found)),
            }
        }
        let around = self.surroundings(nodes, &objects, &job_ids).await?;
        let job_nodes: Vec<(usize, &Node)> =
            nodes.iter().enumerate().filter(|(_, node)| is_job(node)).collect();
        let mut admissions: Vec<BoxFuture<'_, _>> = Vec::with_capacity(job_nodes.len());
        for (_, node) in &job_nodes {
            admissions.push(Box::pin(self.admit(node, &around, now)));
        }
        let outcomes: Vec<_> =
            futures_util::stream::iter(admissions).buffered(WRITES_IN_FLIGHT_MAX).collect().await;
        let mut jobs = Vec::with_capacity(job_nodes.len());
        for ((object, node), outcome) in job_nodes.into_iter().zip(outcomes) {
            match outcome? {
                Ok(one) => jobs.push((node, one)),
                Err(found) => problems.extend(input_problems(object, found)),
            }
        }
        if problems.is_empty() {
            return Ok(Input { objects, jobs, around });
        }
        problems.sort_by_key(|problem| problem.object);
        let message = format!("accept the manifests: {} problem(s)", problems.len());
        Err(ApiError { kind: ErrorKind::Refused, message, problems })
    }

    /// The calendars, namespaces and queues that these jobs speak of: those of the input, else the stored ones.
    async fn surroundings(
        &self,
        nodes: &[Node],
        objects: &[AdmittedObject],
        jobs: &BTreeSet<JobId>,
    ) -> Result<Surroundings, ApiError> {
        let mut around = Surroundings { calendars: Calendars::declared_in(nodes), ..Surroundings::default() };
        let named: BTreeSet<CalendarId> = nodes.iter().flat_map(manifest::calendars_named).collect();
        for calendar in named {
            if around.calendars.has(&calendar) {
                continue;
            }
            let stored = self.bus.object(&ObjectKey::Calendar(calendar.clone())).await?;
            if let Some((stored, contents)) =
                stored.and_then(|stored| Some((stored.revision, calendar_of(&stored)?)))
            {
                around.found.insert(calendar.clone(), stored);
                around.calendars.insert(calendar, contents);
            }
        }
        let namespaces: BTreeSet<&Name> = jobs.iter().map(|job| &job.namespace).collect();
        for name in namespaces {
            let stored = self.bus.object(&ObjectKey::Namespace(name.clone())).await?;
            around.found_namespaces.insert(name.clone(), stored.as_ref().map(|stored| stored.revision));
            around.namespaces.extend(stored.as_ref().and_then(namespace_of).map(|spec| (name.clone(), spec)));
        }
        let declared = objects.iter().filter_map(AdmittedObject::namespace);
        for spec in declared {
            around.found_namespaces.remove(&spec.name);
            around.namespaces.insert(spec.name.clone(), spec.clone());
        }
        around.queues = self.foreign_queues(nodes, objects.iter().filter_map(AdmittedObject::queue)).await?;
        Ok(around)
    }

    /// Judges one manifest of a job against what is there now.
    async fn admit(
        &self,
        node: &Node,
        around: &Surroundings,
        now: Timestamp,
    ) -> Result<Result<Admitted, Vec<Problem>>, ApiError> {
        let present = match manifest::job_id(node) {
            Some(job) => self.bus.get(self.shards.shard_of(&job), &job).await?,
            None => None,
        };
        let old: Option<(JobSpec, Acceptance)> =
            present.as_ref().and_then(|stored| manifest::from_bytes(&stored.value, stored.written_at).ok());
        let before = old.as_ref().map(|(spec, acceptance)| (spec, acceptance));
        let (spec, acceptance) = match manifest::admit(node, before, now, &around.calendars) {
            Ok(admitted) => admitted,
            Err(problems) => return Ok(Err(problems)),
        };
        if let Some(problem) = refused_by_queue(&spec, &around.queues) {
            return Ok(Err(vec![problem]));
        }
        let namespace = around.namespaces.get(&spec.id.namespace);
        let namespace_paused = namespace.is_some_and(|namespace| namespace.paused);
        let acceptance = acceptance.in_namespace(namespace_paused, spec.suspend, now);
        if let Some(namespace) = namespace {
            let declared = Declared::of(spec.clone(), acceptance.clone()).map_err(ApiError::refused)?;
            if let Some(problem) = quota::judge(&declared, old.as_ref().map(|(spec, _)| spec), namespace) {
                return Ok(Err(vec![problem]));
            }
        }
        let unchanged =
            old.is_some_and(|(old, accepted)| old == spec && accepted.namespace_paused == namespace_paused);
        Ok(Ok(Admitted { spec, acceptance, present, unchanged }))
    }

    /// Writes one admitted spec; if somebody else wrote first, judges it anew.
    async fn write(
        &self,
        node: &Node,
        mut admitted: Admitted,
        around: &Surroundings,
        now: Timestamp,
    ) -> Result<(Revision, ApplyAction), ApiError> {
        // The consumer first: a run that is published before its queue has one would wait for somebody to create it.
        self.bus.ensure_queue(&admitted.spec.queue).await?;
        for _ in 0..CONFLICT_RETRIES_MAX {
            around.expected.map_or(Ok(()), |expected| admitted.is_at(expected))?;
            let Admitted { spec, acceptance, present, unchanged } = &admitted;
            let expected = present.as_ref().map(|stored| stored.revision);
            if let (true, Some(revision)) = (*unchanged, expected) {
                return Ok((revision, ApplyAction::Unchanged));
            }
            let value = manifest::to_bytes(spec, acceptance);
            let (shard, by) = (self.shards.shard_of(&spec.id), around.by.as_deref());
            match self.bus.put_by(shard, &spec.id, expected, value.into(), by).await {
                Ok(revision) if expected.is_some() => return Ok((revision, ApplyAction::Configured)),
                Ok(revision) => return Ok((revision, ApplyAction::Created)),
                Err(bus::BusError::Conflict) => {}
                Err(problem) => return Err(problem.into()),
            }
            admitted = self.admit(node, around, now).await?.map_err(|problems| {
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
        let acceptance = Acceptance::new(since);
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

pub(super) fn applied(job: &JobId, revision: Revision, action: ApplyAction) -> AppliedJob {
    AppliedJob { job: job.to_string(), revision: revision.0, action, error: None }
}

fn input_problems(object: usize, problems: Vec<Problem>) -> impl Iterator<Item = InputProblem> {
    problems.into_iter().map(move |Problem { field, message, .. }| InputProblem { object, field, message })
}

impl Input<'_> {
    /// The answer to a dry run.
    fn as_valid(&self) -> ApplyReply {
        let job = |(_, admitted): &(&Node, Admitted)| {
            applied(&admitted.spec.id, Revision(0), ApplyAction::Unchanged)
        };
        let object =
            |object: &AdmittedObject| applied_object(&object.key, Revision(0), ApplyAction::Unchanged);
        ApplyReply {
            jobs: self.jobs.iter().map(job).collect(),
            objects: self.objects.iter().map(object).collect(),
        }
    }
}
