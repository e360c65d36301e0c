//! Calendars, namespaces and queues as declared, and pausing a namespace.

use std::sync::Arc;

use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use model::object::ObjectKind;
use planner::api::types::{
    ApplyReply, DeleteObjectReply, ObjectRequest, ObjectView, ObjectsReply, ObjectsRequest, PauseRequest,
};
use serde::Deserialize;
use utoipa::IntoParams;

use super::Refusals;
use super::input::{Answer, Params, Place};
use crate::access::Caller;
use crate::server::Shared;

pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/objects", get(list))
        .route("/objects/one", get(get_one).delete(delete))
        .route("/namespaces/{namespace}/pause", post(pause))
        .route("/namespaces/{namespace}/resume", post(resume))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ObjectsQuery {
    /// `Calendar`, `Namespace`, `Queue` or `Backfill`.
    #[param(value_type = String, example = "Calendar")]
    kind: ObjectKind,
    namespace: Option<String>,
    /// `next` of the page before.
    after: Option<String>,
    /// At most 500.
    limit: Option<usize>,
}

/// Objects of a kind, in order of name.
#[utoipa::path(get, path = "/api/v1/objects", tag = "objects", params(ObjectsQuery), responses((status = 200, body = ObjectsReply), Refusals))]
pub(super) async fn list(State(shared): State<Arc<Shared>>, Params(query): Params<ObjectsQuery>) -> Answer {
    let ObjectsQuery { kind, namespace, after, limit } = query;
    let reply: ObjectsReply =
        shared.desk.ask("objects", &ObjectsRequest { kind, namespace, after, limit }).await?;
    Ok(Json(reply).into_response())
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ObjectQuery {
    /// `Calendar`, `Namespace`, `Queue` or `Backfill`.
    #[param(value_type = String, example = "Calendar")]
    kind: ObjectKind,
    /// `billing/de-holidays`; of a namespace `billing`.
    name: String,
}

/// One object, with its manifest and the jobs that use it.
#[utoipa::path(get, path = "/api/v1/objects/one", tag = "objects", params(ObjectQuery), responses((status = 200, body = ObjectView), Refusals))]
pub(super) async fn get_one(State(shared): State<Arc<Shared>>, Params(query): Params<ObjectQuery>) -> Answer {
    let ObjectQuery { kind, name } = query;
    let view: ObjectView = shared.desk.ask("object", &ObjectRequest { kind, name }).await?;
    Ok(Json(view).into_response())
}

/// Delete one; what jobs name is refused.
#[utoipa::path(delete, path = "/api/v1/objects/one", tag = "objects", params(ObjectQuery), responses((status = 200, body = DeleteObjectReply), Refusals))]
pub(super) async fn delete(State(shared): State<Arc<Shared>>, Params(query): Params<ObjectQuery>) -> Answer {
    let ObjectQuery { kind, name } = query;
    let reply: DeleteObjectReply = shared.desk.ask("delete-object", &ObjectRequest { kind, name }).await?;
    Ok(Json(reply).into_response())
}

/// Pause every job of a namespace.
#[utoipa::path(post, path = "/api/v1/namespaces/{namespace}/pause", tag = "objects", params(("namespace" = String, Path)),
    responses((status = 200, body = ApplyReply), Refusals))]
pub(super) async fn pause(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Place(namespace): Place<String>,
) -> Answer {
    turn(&shared, caller, "pause", namespace).await
}

/// Resume a namespace's jobs.
#[utoipa::path(post, path = "/api/v1/namespaces/{namespace}/resume", tag = "objects", params(("namespace" = String, Path)),
    responses((status = 200, body = ApplyReply), Refusals))]
pub(super) async fn resume(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Place(namespace): Place<String>,
) -> Answer {
    turn(&shared, caller, "resume", namespace).await
}

async fn turn(shared: &Shared, caller: Caller, verb: &str, namespace: String) -> Answer {
    let request = PauseRequest { namespace: Some(namespace), by: caller.by, ..PauseRequest::default() };
    let reply: ApplyReply = shared.desk.ask(verb, &request).await?;
    Ok(Json(reply).into_response())
}
