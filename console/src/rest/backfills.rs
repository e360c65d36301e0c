//! Backfills: how far they have come, pausing and cancelling them. One begins at `/jobs/{namespace}/{name}/backfill`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use planner::api::types::{
    AppliedObject, ApplyReply, BackfillView, BackfillsReply, BackfillsRequest, CancelBackfillRequest,
    PauseRequest,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Refusals;
use super::input::{Answer, Named, Params, Place, full};
use crate::access::Caller;
use crate::problem::Problem;
use crate::server::Shared;

/// Backfills in a page, unless asked otherwise, and at most.
const PAGE: usize = 100;
const PAGE_MAX: usize = 1_000;

pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/backfills", get(list))
        .route("/backfills/{namespace}/{name}", get(get_one))
        .route("/backfills/{namespace}/{name}/pause", post(pause))
        .route("/backfills/{namespace}/{name}/resume", post(resume))
        .route("/backfills/{namespace}/{name}/cancel", post(cancel))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct BackfillsQuery {
    namespace: Option<String>,
    /// `next` of the page before.
    after: Option<String>,
    /// 100 unless given, at most 1,000.
    limit: Option<usize>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct BackfillsPage {
    /// In order of name.
    backfills: Vec<BackfillView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Backfills, those that ended within 30 days too.
#[utoipa::path(get, path = "/api/v1/backfills", tag = "backfills", params(BackfillsQuery), responses((status = 200, body = BackfillsPage), Refusals))]
pub(super) async fn list(State(shared): State<Arc<Shared>>, Params(query): Params<BackfillsQuery>) -> Answer {
    let request = BackfillsRequest { backfill: None, namespace: query.namespace };
    let reply: BackfillsReply = shared.desk.ask("backfills", &request).await?;
    let limit = query.limit.unwrap_or(PAGE).clamp(1, PAGE_MAX);
    let later = |view: &BackfillView| query.after.as_ref().is_none_or(|after| view.backfill > *after);
    let mut backfills: Vec<BackfillView> = reply.backfills.into_iter().filter(later).collect();
    let more = backfills.len() > limit;
    backfills.truncate(limit);
    let next = backfills.last().filter(|_| more).map(|view| view.backfill.clone());
    Ok(Json(BackfillsPage { backfills, next }).into_response())
}

/// One backfill.
#[utoipa::path(get, path = "/api/v1/backfills/{namespace}/{name}", tag = "backfills", params(("namespace" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = BackfillView), Refusals))]
pub(super) async fn get_one(State(shared): State<Arc<Shared>>, Place(name): Named) -> Answer {
    let request = BackfillsRequest { backfill: Some(full(&name)), namespace: None };
    let reply: BackfillsReply = shared.desk.ask("backfills", &request).await?;
    let view = reply.backfills.into_iter().next();
    Ok(Json(view.ok_or_else(|| Problem::not_found("the backfill"))?).into_response())
}

/// Pause a backfill: runs under way go on.
#[utoipa::path(post, path = "/api/v1/backfills/{namespace}/{name}/pause", tag = "backfills", params(("namespace" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = ApplyReply), Refusals))]
pub(super) async fn pause(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Place(name): Named,
) -> Answer {
    turn(&shared, caller, "pause", full(&name)).await
}

/// Resume a backfill.
#[utoipa::path(post, path = "/api/v1/backfills/{namespace}/{name}/resume", tag = "backfills", params(("namespace" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = ApplyReply), Refusals))]
pub(super) async fn resume(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Place(name): Named,
) -> Answer {
    turn(&shared, caller, "resume", full(&name)).await
}

async fn turn(shared: &Shared, caller: Caller, verb: &str, backfill: String) -> Answer {
    let request = PauseRequest { backfill: Some(backfill), by: caller.by, ..PauseRequest::default() };
    let reply: ApplyReply = shared.desk.ask(verb, &request).await?;
    Ok(Json(reply).into_response())
}

/// Cancel a backfill: it starts no further runs.
#[utoipa::path(post, path = "/api/v1/backfills/{namespace}/{name}/cancel", tag = "backfills", params(("namespace" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = AppliedObject), Refusals))]
pub(super) async fn cancel(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Place(name): Named,
) -> Answer {
    let request = CancelBackfillRequest { backfill: full(&name), by: caller.by };
    let reply: AppliedObject = shared.desk.ask("cancel-backfill", &request).await?;
    Ok(Json(reply).into_response())
}
