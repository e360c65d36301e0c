//! Calendars, namespaces and queues: judging and writing them, and `objects`, `object` and `delete-object`.

use std::collections::BTreeSet;

use bus::objects::StoredObject;
use model::id::Revision;
use model::manifest::{self, Node, Object, Problem, decode, encode_object};
use model::name::{JobId, Name};
use model::object::{ObjectKey, ObjectKind};
use model::schedule::NamedCalendar;
use model::spec::{NamespaceSpec, QueueSpec};
use model::time::Timestamp;
use store::Store;

use super::Api;
use super::apply::CONFLICT_RETRIES_MAX;
use super::queues::summary;
use super::types::{
    ApiError, AppliedJob, AppliedObject, ApplyAction, DeleteObjectReply, ErrorKind, ObjectRequest,
    ObjectView, ObjectsReply, ObjectsRequest,
};
use crate::backfill;
use crate::service::PlannerBus;

/// Objects in a page of `objects`, at most and unless asked for fewer.
const PAGE_MAX: usize = 500;
/// Jobs that an answer lists beside an object.
const JOBS_LISTED_MAX: usize = 500;
/// Jobs that a refusal names.
pub(super) const JOBS_NAMED_MAX: usize = 10;

/// An object beside jobs that may be written, and what it would replace.
#[derive(Debug)]
pub(super) struct AdmittedObject {
    pub(super) key: ObjectKey,
    object: Object,
    present: Option<StoredObject>,
}

impl AdmittedObject {
    fn old(&self) -> Option<Object> {
        self.present.as_ref().and_then(read)
    }

    fn unchanged(&self) -> bool {
        self.old().is_some_and(|old| old == self.object)
    }

    pub(super) fn namespace(&self) -> Option<&NamespaceSpec> {
        match &self.object {
            Object::Namespace(namespace) => Some(namespace),
            Object::Calendar(_) | Object::Queue(_) | Object::Job(_) => None,
        }
    }

    pub(super) fn queue(&self) -> Option<&QueueSpec> {
        match &self.object {
            Object::Queue(queue) => Some(queue),
            Object::Calendar(_) | Object::Namespace(_) | Object::Job(_) => None,
        }
    }

    /// What the user should know about the change.
    fn note(&self) -> Option<String> {
        let least = self.namespace()?.min_interval?;
        let before = match self.old() {
            Some(Object::Namespace(old)) => old.min_interval,
            _ => None,
        };
        before.is_none_or(|before| before < least).then(|| {
            "jobs that are there already keep their schedules; minInterval holds for new jobs and new schedules".into()
        })
    }
}

impl<S: Store, B: PlannerBus> Api<S, B> {
    /// Judges a document that declares no job against what is there now.
    pub(super) async fn admit_object(
        &self,
        node: &Node,
        jobs_in_input: &BTreeSet<JobId>,
        now: Timestamp,
    ) -> Result<Result<AdmittedObject, Vec<Problem>>, ApiError> {
        let object = match decode(node, now) {
            Ok(object) => object,
            Err(problems) => return Ok(Err(problems)),
        };
        let Some(key) = object.key() else {
            return Err(ApiError::refused("read the input: a job is no other object".into()));
        };
        let present = self.bus.object(&key).await?;
        let admitted = AdmittedObject { key, object, present };
        if let Object::Calendar(calendar) = &admitted.object
            && !admitted.unchanged()
        {
            let mut broken = self.broken_by(&calendar.id, &calendar.calendar, jobs_in_input, now).await?;
            if !broken.is_empty() {
                broken.truncate(JOBS_NAMED_MAX);
                let problem = |message| Problem { field: "spec.exclude".into(), line: None, message };
                return Ok(Err(broken.into_iter().map(problem).collect()));
            }
        }
        if let Some(queue) = admitted.queue().filter(|_| !admitted.unchanged())
            && let Some(problem) = self.turned_away(queue, jobs_in_input).await?
        {
            return Ok(Err(vec![problem]));
        }
        Ok(Ok(admitted))
    }

    /// Writes an admitted object; of two writers the later one wins, as with two applies one after the other.
    pub(super) async fn write_object(&self, admitted: &AdmittedObject) -> AppliedObject {
        let (revision, action, error) = match self.put(admitted).await {
            Ok((revision, action)) => (revision, action, None),
            Err(error) => (Revision(0), ApplyAction::Failed, Some(error)),
        };
        let note = admitted.note().filter(|_| error.is_none());
        AppliedObject { note, error, ..applied_object(&admitted.key, revision, action) }
    }

    async fn put(&self, admitted: &AdmittedObject) -> Result<(Revision, ApplyAction), ApiError> {
        let key = &admitted.key;
        let mut present = admitted.present.clone();
        for _ in 0..CONFLICT_RETRIES_MAX {
            let expected = present.as_ref().map(|stored| stored.revision);
            if let Some(revision) = expected
                && present.as_ref().and_then(read).is_some_and(|old| old == admitted.object)
            {
                return Ok((revision, ApplyAction::Unchanged));
            }
            let value = encode_object(&admitted.object).to_string();
            match self.bus.put_object(key, expected, value.into()).await {
                Ok(revision) => {
                    self.limit_consumer(key, admitted.queue()).await;
                    let action =
                        if expected.is_some() { ApplyAction::Configured } else { ApplyAction::Created };
                    return Ok((revision, action));
                }
                Err(bus::BusError::Conflict) => present = self.bus.object(key).await?,
                Err(problem) => return Err(problem.into()),
            }
        }
        Err(ApiError::new(ErrorKind::Failed, format!("write {key}: others keep writing it")))
    }

    pub(super) async fn objects(
        &self,
        request: Result<ObjectsRequest, ApiError>,
    ) -> Result<ObjectsReply, ApiError> {
        let request = request?;
        let namespace = request.namespace.as_deref().map(Name::new).transpose();
        let namespace =
            namespace.map_err(|problem| ApiError::refused(format!("read the namespace: it {problem}")))?;
        let limit = request.limit.unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX);
        let found = self.bus.objects(request.kind, namespace.as_ref()).await?;
        let mut views: Vec<ObjectView> = found.iter().map(|(key, stored)| view(key, stored)).collect();
        views.sort_by(|a, b| a.name.cmp(&b.name));
        views.retain(|view| request.after.as_ref().is_none_or(|after| view.name > *after));
        let more = views.len() > limit;
        views.truncate(limit);
        let next = if more { views.last().map(|view| view.name.clone()) } else { None };
        Ok(ObjectsReply { objects: views, next })
    }

    pub(super) async fn object(
        &self,
        request: Result<ObjectRequest, ApiError>,
    ) -> Result<ObjectView, ApiError> {
        let key = object_key(&request?)?;
        let Some(stored) = self.bus.object(&key).await? else {
            return Err(ApiError::not_found(&format!("the {key}")));
        };
        let jobs = self.users(&key).await?;
        let jobs_more = jobs.len().saturating_sub(JOBS_LISTED_MAX);
        let manifest = Some(serde_json::from_slice(&stored.value).unwrap_or(serde_json::Value::Null));
        let jobs = jobs.into_iter().take(JOBS_LISTED_MAX).collect();
        Ok(ObjectView { manifest, jobs, jobs_more, ..view(&key, &stored) })
    }

    pub(super) async fn delete_object(
        &self,
        request: Result<ObjectRequest, ApiError>,
    ) -> Result<DeleteObjectReply, ApiError> {
        let key = object_key(&request?)?;
        for _ in 0..CONFLICT_RETRIES_MAX {
            let Some(present) = self.bus.object(&key).await? else {
                return Err(ApiError::not_found(&format!("the {key}")));
            };
            let users = self.dependants(&key).await?;
            if !users.is_empty() {
                return Err(ApiError::refused(format!("delete {key}: {}", named_by(&users))));
            }
            match self.bus.delete_object(&key, present.revision).await {
                Ok(revision) => {
                    self.limit_consumer(&key, None).await;
                    self.audit(None, "delete", key.to_string(), None, None).await;
                    return Ok(DeleteObjectReply {
                        kind: key.kind(),
                        name: key.name(),
                        revision: revision.0,
                    });
                }
                Err(bus::BusError::Conflict) => {}
                Err(problem) => return Err(problem.into()),
            }
        }
        Err(ApiError::new(ErrorKind::Failed, format!("delete {key}: others keep writing it")))
    }

    /// The jobs that name an object.
    async fn users(&self, key: &ObjectKey) -> Result<Vec<String>, ApiError> {
        match key {
            ObjectKey::Calendar(calendar) => {
                Ok(self.jobs_naming(calendar).await?.iter().map(|job| job.spec.id.to_string()).collect())
            }
            ObjectKey::Queue(queue) => {
                Ok(self.jobs_using(queue).await?.iter().map(|job| job.id.to_string()).collect())
            }
            ObjectKey::Namespace(_) | ObjectKey::Backfill(_) => Ok(Vec::new()),
        }
    }

    /// The jobs that can't do without an object.
    async fn dependants(&self, key: &ObjectKey) -> Result<Vec<String>, ApiError> {
        match key {
            ObjectKey::Queue(queue) => self.guests(queue).await,
            ObjectKey::Calendar(_) | ObjectKey::Namespace(_) | ObjectKey::Backfill(_) => {
                self.users(key).await
            }
        }
    }
}

/// What was done with an object; nothing yet about its jobs.
pub(super) fn applied_object(key: &ObjectKey, revision: Revision, action: ApplyAction) -> AppliedObject {
    AppliedObject {
        kind: key.kind(),
        name: key.name(),
        revision: revision.0,
        action,
        updated: vec![],
        updated_more: 0,
        note: None,
        error: None,
    }
}

/// Adds the jobs that were brought up to date. Failures come first: they must not fall off the list.
pub(super) fn with_updated(object: AppliedObject, mut updated: Vec<AppliedJob>) -> AppliedObject {
    updated.sort_by_key(|job| job.error.is_none());
    let updated_more = updated.len().saturating_sub(JOBS_LISTED_MAX);
    updated.truncate(JOBS_LISTED_MAX);
    AppliedObject { updated, updated_more, ..object }
}

/// What a stored calendar says.
pub(super) fn calendar_of(stored: &StoredObject) -> Option<NamedCalendar> {
    match read(stored)? {
        Object::Calendar(spec) => Some(spec.calendar),
        Object::Namespace(_) | Object::Queue(_) | Object::Job(_) => None,
    }
}

/// What a stored namespace asks for.
pub(super) fn namespace_of(stored: &StoredObject) -> Option<NamespaceSpec> {
    match read(stored)? {
        Object::Namespace(spec) => Some(spec),
        Object::Calendar(_) | Object::Queue(_) | Object::Job(_) => None,
    }
}

pub(super) fn read(stored: &StoredObject) -> Option<Object> {
    let document = Node::from_json_bytes(&stored.value).ok()?;
    decode(&document, Timestamp::from_ms(0)).ok()
}

fn view(key: &ObjectKey, stored: &StoredObject) -> ObjectView {
    if let ObjectKey::Backfill(id) = key {
        let summary = backfill::from_bytes(id, &stored.value)
            .map_or_else(|| "unreadable".into(), |one| backfill::summary(&one));
        return ObjectView { summary, ..plain_view(key, stored) };
    }
    let summary = match read(stored) {
        Some(Object::Calendar(spec)) if spec.calendar.exclude.len() == 1 => "1 entry".into(),
        Some(Object::Calendar(spec)) => format!("{} entries", spec.calendar.exclude.len()),
        Some(Object::Namespace(NamespaceSpec { min_interval, paused, .. })) => {
            let quota = min_interval.map_or_else(
                || "no quota".into(),
                |least| format!("minInterval {}", manifest::duration_text(least)),
            );
            if paused { format!("paused, {quota}") } else { quota }
        }
        Some(Object::Queue(queue)) => summary(&queue),
        Some(Object::Job(_)) | None => "unreadable: apply it again".into(),
    };
    ObjectView { summary, ..plain_view(key, stored) }
}

fn plain_view(key: &ObjectKey, stored: &StoredObject) -> ObjectView {
    ObjectView {
        kind: key.kind(),
        name: key.name(),
        revision: stored.revision.0,
        summary: String::new(),
        manifest: None,
        jobs: vec![],
        jobs_more: 0,
    }
}

fn object_key(request: &ObjectRequest) -> Result<ObjectKey, ApiError> {
    ObjectKey::parse(request.kind, &request.name).map_err(|problem| {
        let (kind, name) = (ObjectKind::word(request.kind), &request.name);
        ApiError::refused(format!("read {kind} {name:?}: {problem}"))
    })
}

/// `2 jobs name it: a/b, a/c`.
pub(super) fn named_by(jobs: &[String]) -> String {
    let listed = jobs.iter().take(JOBS_NAMED_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = jobs.len().saturating_sub(JOBS_NAMED_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let verb = if jobs.len() == 1 { "job names" } else { "jobs name" };
    format!("{} {verb} it: {listed}{more}", jobs.len())
}
