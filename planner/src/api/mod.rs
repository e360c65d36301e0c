//! The API: requests on `ecron.api.v1.<verb>`, answered by any planner.
//!
//! `types` are the forms that cross NATS (see docs/protocol.md); one file per group of verbs decides and carries out.

pub mod apply;
mod audit;
mod backfill;
mod calendars;
mod cancel;
mod cluster;
mod completeness;
pub mod dead;
pub mod explain;
mod list;
mod look;
mod objects;
mod order;
mod pause;
mod preview;
mod queue_views;
mod queues;
pub mod read;
pub mod stats;
mod submit;
pub mod types;
pub mod write;

use std::sync::Arc;

use ambient::{Clock, Entropy, Shutdown};
use bus::subjects::parse_order_verb;
use bus::{ApiServer, BusError};
use bytes::Bytes;
use futures_util::FutureExt;
use model::shard::ShardCount;
use serde::de::DeserializeOwned;
use store::{Store, StoreError};

use crate::service::{PlannerBus, pause_after};
use types::{ApiError, Envelope, ErrorKind};

/// Answers requests. Holds no state of its own.
#[derive(Debug)]
pub struct Api<S, B> {
    pub(crate) store: Arc<S>,
    pub(crate) bus: Arc<B>,
    pub(crate) clock: Clock,
    pub(crate) shards: ShardCount,
    /// For the keys of work that is submitted without one.
    pub(crate) entropy: Entropy,
}

impl<S: Store, B: PlannerBus> Api<S, B> {
    #[must_use]
    pub fn new(store: Arc<S>, bus: Arc<B>, clock: Clock, shards: ShardCount) -> Self {
        Self { store, bus, clock, shards, entropy: Entropy::system() }
    }

    /// One request: verb and body in, body out. Never fails: what goes wrong is the answer.
    pub async fn answer(&self, verb: &str, body: &[u8]) -> Bytes {
        let answer = match verb {
            "apply" => reply(self.apply(parsed(body)).await),
            "get" => reply(self.get(parsed(body)).await),
            "list" => reply(self.list(parsed(body)).await),
            "runs" => reply(self.runs(parsed(body)).await),
            "run" => reply(self.run(parsed(body)).await),
            "audit" => reply(self.completeness(parsed(body)).await),
            "explain" => reply(self.explain(parsed(body)).await),
            "redrive" => reply(self.redrive(parsed(body)).await),
            "purge" => reply(self.purge(parsed(body)).await),
            "delete" => reply(self.delete(parsed(body)).await),
            "pause" => reply(self.pause(parsed(body)).await),
            "resume" => reply(self.resume(parsed(body)).await),
            "catch-up" => reply(self.catch_up(parsed(body)).await),
            "backfill" => reply(self.backfill(parsed(body)).await),
            "backfills" => reply(self.backfills(parsed(body)).await),
            "cancel-backfill" => reply(self.cancel_backfill(parsed(body)).await),
            "cancel" => reply(self.cancel(parsed(body)).await),
            "trigger" => reply(self.trigger(parsed(body)).await),
            "submit" => reply(self.submit(parsed(body)).await),
            "objects" => reply(self.objects(parsed(body)).await),
            "object" => reply(self.object(parsed(body)).await),
            "delete-object" => reply(self.delete_object(parsed(body)).await),
            "pause-queue" => reply(self.set_queue_paused(parsed(body), true).await),
            "resume-queue" => reply(self.set_queue_paused(parsed(body), false).await),
            "next" => reply(self.next(parsed(body)).await),
            "changes" => reply(self.changes(parsed(body)).await),
            "cluster" => reply(self.cluster(parsed(body)).await),
            "buckets" => reply(self.buckets(parsed(body)).await),
            "sent" => reply(self.sent(parsed(body)).await),
            "queues" => reply(self.queues(parsed(body)).await),
            other if let Some(queue) = parse_order_verb(other) => {
                reply(self.present_order(&queue, parsed(body)).await)
            }
            other => reply::<()>(Err(ApiError::refused(format!(
                "know the verb {other:?}; there are apply, get, list, runs, run, explain, audit, redrive, purge, delete, pause, resume, \
                 catch-up, trigger, cancel, submit, backfill, backfills, cancel-backfill, objects, object, delete-object, pause-queue, \
                 resume-queue, next, changes, cluster, buckets, sent, queues and order.<namespace>.<queue>"
            )))),
        };
        Bytes::from(answer)
    }
}

fn parsed<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|problem| ApiError::refused(format!("read the request: {problem}")))
}

fn reply<T: serde::Serialize>(outcome: Result<T, ApiError>) -> Vec<u8> {
    serde_json::to_vec(&Envelope::from(outcome))
        .unwrap_or_else(|_| br#"{"v":1,"error":{"kind":"failed","message":"write the answer"}}"#.to_vec())
}

impl From<BusError> for ApiError {
    fn from(problem: BusError) -> Self {
        let kind = match problem {
            BusError::Refused(_) | BusError::Conflict => ErrorKind::Refused,
            BusError::Failed(_) => ErrorKind::Failed,
            BusError::Unknown(_) => ErrorKind::Unknown,
        };
        Self::new(kind, problem.to_string())
    }
}

impl From<StoreError> for ApiError {
    fn from(problem: StoreError) -> Self {
        let kind = match problem {
            StoreError::Refused(_) => ErrorKind::Refused,
            StoreError::Fenced | StoreError::Failed(_) | StoreError::Corrupt { .. } => ErrorKind::Failed,
            StoreError::Unknown(_) => ErrorKind::Unknown,
        };
        Self::new(kind, problem.to_string())
    }
}

/// Serves until shutdown.
pub(crate) async fn serve<S: Store, B: PlannerBus>(
    api: Arc<Api<S, B>>,
    bus: &B,
    clock: &Clock,
    shutdown: &Shutdown,
) {
    let handler: bus::api::ApiHandler = Arc::new(move |verb, body| {
        let api = Arc::clone(&api);
        async move { api.answer(&verb, &body).await }.boxed()
    });
    while !shutdown.stopping() {
        tokio::select! {
            biased;
            () = shutdown.stopped() => return,
            served = ApiServer::serve(bus, Arc::clone(&handler)) => if let Err(problem) = served {
                pause_after(&problem, "the API", clock, shutdown).await;
            },
        }
    }
}
