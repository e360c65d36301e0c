//! Queues: what is in them, pausing, and giving them work.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use model::object::ObjectKind;
use planner::api::types::{
    ObjectRequest, ObjectView, PauseQueueReply, QueueRequest, QueuesReply, QueuesRequest, SubmitReply,
    SubmitRequest,
};
use serde::Deserialize;
use utoipa::IntoParams;

use super::Refusals;
use super::input::{Answer, Body, Named, Params, Place, full};
use crate::access::Caller;
use crate::server::Shared;

pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/queues", get(list))
        .route("/queues/{namespace}/{name}", get(get_one))
        .route("/queues/{namespace}/{name}/pause", post(pause))
        .route("/queues/{namespace}/{name}/resume", post(resume))
        .route("/submit", post(submit))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct QueuesQuery {
    /// `next` of the page before.
    after: Option<String>,
    /// 100 unless given, at most 500.
    limit: Option<usize>,
}

/// The queues that are declared or that jobs use, with what is in them.
#[utoipa::path(get, path = "/api/v1/queues", tag = "queues", params(QueuesQuery), responses((status = 200, body = QueuesReply), Refusals))]
pub(super) async fn list(State(shared): State<Arc<Shared>>, Params(query): Params<QueuesQuery>) -> Answer {
    let QueuesQuery { after, limit } = query;
    let reply: QueuesReply = shared.desk.ask("queues", &QueuesRequest { after, limit }).await?;
    Ok(Json(reply).into_response())
}

/// A declared queue: its manifest, and the jobs that use it.
#[utoipa::path(get, path = "/api/v1/queues/{namespace}/{name}", tag = "queues", params(("namespace" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = ObjectView), Refusals))]
pub(super) async fn get_one(State(shared): State<Arc<Shared>>, Place(name): Named) -> Answer {
    let request = ObjectRequest { kind: ObjectKind::Queue, name: full(&name) };
    let view: ObjectView = shared.desk.ask("object", &request).await?;
    Ok(Json(view).into_response())
}

/// Pause a queue: nothing of it starts.
#[utoipa::path(post, path = "/api/v1/queues/{namespace}/{name}/pause", tag = "queues", params(("namespace" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = PauseQueueReply), Refusals))]
pub(super) async fn pause(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Place(name): Named,
) -> Answer {
    let reply: PauseQueueReply =
        shared.desk.ask("pause-queue", &QueueRequest { queue: full(&name), by: caller.by }).await?;
    Ok(Json(reply).into_response())
}

/// Resume a queue.
#[utoipa::path(post, path = "/api/v1/queues/{namespace}/{name}/resume", tag = "queues", params(("namespace" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = PauseQueueReply), Refusals))]
pub(super) async fn resume(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Place(name): Named,
) -> Answer {
    let reply: PauseQueueReply =
        shared.desk.ask("resume-queue", &QueueRequest { queue: full(&name), by: caller.by }).await?;
    Ok(Json(reply).into_response())
}

/// Give a queue ad-hoc work, now or for later.
#[utoipa::path(post, path = "/api/v1/submit", tag = "queues", request_body = SubmitRequest, responses((status = 202, body = SubmitReply), Refusals))]
pub(super) async fn submit(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Body(request): Body<SubmitRequest>,
) -> Answer {
    let reply: SubmitReply = shared.desk.ask("submit", &SubmitRequest { by: caller.by, ..request }).await?;
    Ok((StatusCode::ACCEPTED, Json(reply)).into_response())
}
