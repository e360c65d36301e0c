//! Queues and the jobs that use them: who may use another namespace's queue, and `pause-queue` and `resume-queue`.

use std::collections::{BTreeMap, BTreeSet};

use bus::objects::StoredObject;
use futures_util::StreamExt;
use model::manifest::{self, Node, Object, Problem, encode_object, foreign_queue};
use model::name::{JobId, QueueId};
use model::object::ObjectKey;
use model::spec::{JobSpec, QueueSpec};
use store::Store;

use super::Api;
use super::apply::CONFLICT_RETRIES_MAX;
use super::objects::{JOBS_NAMED_MAX, named_by, read};
use super::types::{ApiError, ErrorKind, PauseQueueReply, QueueRequest};
use crate::service::PlannerBus;

/// What a stored queue asks for.
pub(super) fn queue_of(stored: &StoredObject) -> Option<QueueSpec> {
    match read(stored)? {
        Object::Queue(spec) => Some(spec),
        Object::Calendar(_) | Object::Namespace(_) | Object::Job(_) => None,
    }
}

/// Why a job can't use its queue, if it can't. `queues` has every queue of another namespace that is there.
pub(super) fn refused_by_queue(job: &JobSpec, queues: &BTreeMap<QueueId, QueueSpec>) -> Option<Problem> {
    let (queue, own) = (&job.queue, &job.id.namespace);
    if queue.namespace == *own {
        return None;
    }
    let message = match queues.get(queue) {
        Some(spec) if spec.accepts(own) => return None,
        Some(_) => format!("queue {queue} doesn't take jobs of namespace {own}: it would say so with `from`"),
        None => {
            format!("there is no queue {queue} that takes jobs of namespace {own}: declare one (kind: Queue)")
        }
    };
    Some(Problem { field: "spec.queue".into(), line: None, message })
}

impl<S: Store, B: PlannerBus> Api<S, B> {
    /// The queues of other namespaces that these documents name: those of the input, else the stored ones.
    pub(super) async fn foreign_queues<'a>(
        &self,
        nodes: &[Node],
        declared: impl Iterator<Item = &'a QueueSpec>,
    ) -> Result<BTreeMap<QueueId, QueueSpec>, ApiError> {
        let mut queues: BTreeMap<QueueId, QueueSpec> =
            declared.map(|spec| (spec.id.clone(), spec.clone())).collect();
        let named: BTreeSet<QueueId> = nodes.iter().filter_map(foreign_queue).collect();
        for queue in named {
            if !queues.contains_key(&queue) {
                let stored = self.bus.object(&ObjectKey::Queue(queue.clone())).await?;
                queues.extend(stored.as_ref().and_then(queue_of).map(|spec| (queue, spec)));
            }
        }
        Ok(queues)
    }

    /// The jobs that use a queue, in order of name.
    pub(super) async fn jobs_using(&self, queue: &QueueId) -> Result<Vec<JobSpec>, ApiError> {
        // A spec is read only if its text names the queue: reading one costs a compilation.
        let marks = [format!("\"queue\":\"{}\"", queue.name), format!("\"queue\":\"{queue}\"")];
        let has =
            |value: &[u8], mark: &str| value.windows(mark.len()).any(|window| window == mark.as_bytes());
        let mut specs = self.bus.list(None).await?;
        let mut found = Vec::new();
        while let Some((_, stored)) = specs.next().await {
            if marks.iter().any(|mark| has(&stored.value, mark)) {
                let read = manifest::from_bytes(&stored.value, stored.written_at).ok();
                found.extend(read.map(|(spec, _)| spec).filter(|spec| spec.queue == *queue));
            }
        }
        found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    }

    /// Jobs of other namespaces that a queue's new rules would turn away; those of the same input are judged by
    /// themselves.
    pub(super) async fn turned_away(
        &self,
        queue: &QueueSpec,
        in_input: &BTreeSet<JobId>,
    ) -> Result<Option<Problem>, ApiError> {
        let jobs = self.jobs_using(&queue.id).await?.into_iter().map(|job| job.id);
        let turned_away: Vec<String> = jobs
            .filter(|job| !queue.accepts(&job.namespace) && !in_input.contains(job))
            .map(|job| job.to_string())
            .collect();
        if turned_away.is_empty() {
            return Ok(None);
        }
        let message = format!("no longer takes jobs that are there: {}", named_by(&turned_away));
        Ok(Some(Problem { field: "spec.from".into(), line: None, message }))
    }

    /// `pause-queue`, `resume-queue`: no run of the queue starts while it is paused. A queue without rules gets some.
    pub(super) async fn set_queue_paused(
        &self,
        request: Result<QueueRequest, ApiError>,
        paused: bool,
    ) -> Result<PauseQueueReply, ApiError> {
        let QueueRequest { queue, by } = request?;
        let id: QueueId =
            queue.parse().map_err(|problem| ApiError::refused(format!("read queue {queue:?}: {problem}")))?;
        let key = ObjectKey::Queue(id.clone());
        for _ in 0..CONFLICT_RETRIES_MAX {
            let present = self.bus.object(&key).await?;
            let expected = present.as_ref().map(|stored| stored.revision);
            let mut spec = match &present {
                Some(stored) => queue_of(stored).ok_or_else(|| {
                    ApiError::refused(format!("read {key}: it is unreadable, apply it again"))
                })?,
                None if paused => {
                    QueueSpec { id: id.clone(), rules: Default::default(), from: Default::default() }
                }
                None => return Err(ApiError::not_found(&format!("the {key}"))),
            };
            if let (true, Some(revision)) = (spec.rules.paused == paused, expected) {
                return Ok(PauseQueueReply { queue, paused, revision: revision.0, changed: false });
            }
            spec.rules.paused = paused;
            let value = encode_object(&Object::Queue(spec)).to_string();
            match self.bus.put_object(&key, expected, value.into()).await {
                Ok(revision) => {
                    let action = if paused { "pause" } else { "resume" };
                    self.audit(by.as_deref(), action, format!("queue {queue}"), None, None).await;
                    return Ok(PauseQueueReply { queue, paused, revision: revision.0, changed: true });
                }
                Err(bus::BusError::Conflict) => {}
                Err(problem) => return Err(problem.into()),
            }
        }
        Err(ApiError::new(ErrorKind::Failed, format!("write {key}: others keep writing it")))
    }

    /// Lets the queue's consumer have no more messages out than may be under way, so that the limit holds for ad-hoc work,
    /// too. A failure is left to the dispatchers, which do the same now and then.
    pub(super) async fn limit_consumer(&self, key: &ObjectKey, spec: Option<&QueueSpec>) {
        let ObjectKey::Queue(queue) = key else { return };
        let most = spec.and_then(|spec| spec.rules.concurrency);
        if let Err(problem) = self.bus.limit_queue(queue, most).await {
            tracing::warn!(%queue, %problem, "the queue's consumer isn't limited yet");
        }
    }

    /// Jobs that would be left without a permission if the queue's object went.
    pub(super) async fn guests(&self, queue: &QueueId) -> Result<Vec<String>, ApiError> {
        let jobs = self.jobs_using(queue).await?.into_iter();
        let guests = jobs.filter(|job| job.id.namespace != queue.namespace).map(|job| job.id.to_string());
        Ok(guests.take(JOBS_NAMED_MAX * 100).collect())
    }
}

/// `concurrency 8, rate 100/1m, paused`.
pub(super) fn summary(queue: &QueueSpec) -> String {
    let rules = &queue.rules;
    let words: Vec<String> = [
        rules.concurrency.map(|limit| format!("concurrency {limit}")),
        rules.rate.map(|rate| format!("rate {rate}")),
        rules.key_rate.map(|rate| format!("keyRate {rate}")),
        rules.paused.then(|| "paused".to_owned()),
    ]
    .into_iter()
    .flatten()
    .collect();
    if words.is_empty() { "no limits".into() } else { words.join(", ") }
}
