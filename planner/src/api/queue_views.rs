//! `queues`: every queue that is declared or that a job uses, with its limits and what is in it. Reads only.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use model::name::QueueId;
use model::object::{ObjectKey, ObjectKind};
use serde::Deserialize;
use store::Store;

use super::Api;
use super::queues::{queue_of, summary};
use super::types::{ApiError, QueueView, QueuesReply, QueuesRequest};
use crate::service::PlannerBus;

/// Queues in a page, unless asked otherwise, and at most.
const QUEUES_DEFAULT: usize = 100;
const QUEUES_MAX: usize = 500;
/// Queues that are looked at together.
const LOOKS_IN_FLIGHT_MAX: usize = 16;

/// The queue of a job that names none.
const QUEUE_UNNAMED: &str = "default";

/// As much of a stored job as names its queue: reading the whole would compile its schedule.
#[derive(Deserialize)]
struct StoredQueue {
    manifest: Option<ManifestQueue>,
    spec: Option<SpecQueue>,
}

#[derive(Deserialize)]
struct ManifestQueue {
    spec: Option<SpecQueue>,
}

#[derive(Deserialize)]
struct SpecQueue {
    queue: Option<String>,
}

impl<S: Store, B: PlannerBus> Api<S, B> {
    pub(super) async fn queues(
        &self,
        request: Result<QueuesRequest, ApiError>,
    ) -> Result<QueuesReply, ApiError> {
        let QueuesRequest { after, limit } = request?;
        let limit = limit.unwrap_or(QUEUES_DEFAULT).clamp(1, QUEUES_MAX);
        let mut named: BTreeMap<String, (QueueId, usize)> = BTreeMap::new();
        let mut specs = self.bus.list(None).await?;
        while let Some((job, stored)) = specs.next().await {
            if let Some(queue) = queue_named(&job.namespace, &stored.value) {
                named.entry(queue.to_string()).or_insert((queue, 0)).1 += 1;
            }
        }
        for (key, _) in self.bus.objects(ObjectKind::Queue, None).await? {
            if let ObjectKey::Queue(queue) = key {
                named.entry(queue.to_string()).or_insert((queue, 0));
            }
        }
        if let Some(after) = after {
            named.retain(|name, _| *name > after);
        }
        let more = named.len() > limit;
        let mut looks: Vec<futures_util::future::BoxFuture<'_, _>> = Vec::new();
        for (queue, jobs) in named.into_values().take(limit) {
            looks.push(Box::pin(self.queue_view(queue, jobs)));
        }
        let looks = futures_util::stream::iter(looks).buffered(LOOKS_IN_FLIGHT_MAX);
        let queues: Vec<QueueView> = looks.collect::<Vec<_>>().await.into_iter().collect::<Result<_, _>>()?;
        let next = queues.last().filter(|_| more).map(|view| view.queue.clone());
        Ok(QueuesReply { queues, next })
    }

    async fn queue_view(&self, queue: QueueId, jobs: usize) -> Result<QueueView, ApiError> {
        let mut view =
            QueueView { queue: queue.to_string(), jobs, limits: "no limits".into(), ..QueueView::default() };
        if let Some(stored) = self.bus.object(&ObjectKey::Queue(queue.clone())).await? {
            view.revision = Some(stored.revision.0);
            if let Some(spec) = queue_of(&stored) {
                (view.limits, view.paused) = (summary(&spec), spec.rules.paused);
                if spec.rules.is_gated() {
                    let gate = self.store.gate(self.shards.shard_of_queue(&queue), &queue).await?;
                    view.under_way = Some(gate.active);
                    view.waiting = gate.waiting.iter().map(|line| line.runs).sum();
                    let oldest = gate.waiting.iter().map(|line| line.first_due).min();
                    view.oldest_due_at = oldest.map(|due_at| due_at.to_string());
                }
            }
        }
        if let Some(backlog) = self.bus.backlog(&queue).await? {
            view.has_consumer = true;
            view.waiting_pulls = backlog.waiting_pulls;
            view.in_hand = backlog.in_hand;
            view.undelivered = backlog.undelivered;
        }
        Ok(view)
    }
}

/// The queue that a stored job names, if it can be read.
fn queue_named(namespace: &model::name::Name, value: &[u8]) -> Option<QueueId> {
    let stored: StoredQueue = serde_json::from_slice(value).ok()?;
    let spec = stored.manifest.and_then(|manifest| manifest.spec).or(stored.spec)?;
    let name = spec.queue.as_deref().unwrap_or(QUEUE_UNNAMED);
    let full = if name.contains('/') { name.to_owned() } else { format!("{namespace}/{name}") };
    full.parse().ok()
}
