//! Jobs: listing, declaring, deleting, and what an operator does to one.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use planner::api::types::{
    ApplyAction, ApplyReply, ApplyRequest, BackfillReply, BackfillRequest, CatchUpReply, CatchUpRequest,
    ChangesReply, ChangesRequest, DeleteReply, DeleteRequest, ExplainReply, ExplainRequest, JobRequest,
    JobState, JobView, ListReply, ListRequest, NextReply, NextRequest, PauseRequest, RunsReply, RunsRequest,
    TriggerReply, TriggerRequest,
};
use serde::Deserialize;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::Refusals;
use super::input::{Answer, Body, Named, Params, Place, etag, expected, full, labels};
use crate::access::Caller;
use crate::problem::Problem;
use crate::server::Shared;

/// Jobs in a page, unless asked otherwise.
const PAGE: usize = 100;

pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/jobs", get(list))
        .route("/jobs/{namespace}/{name}", get(get_one).put(put).delete(delete))
        .route("/jobs/{namespace}/{name}/trigger", post(trigger))
        .route("/jobs/{namespace}/{name}/pause", post(pause))
        .route("/jobs/{namespace}/{name}/resume", post(resume))
        .route("/jobs/{namespace}/{name}/next", get(next))
        .route("/jobs/{namespace}/{name}/runs", get(runs))
        .route("/jobs/{namespace}/{name}/changes", get(changes))
        .route("/jobs/{namespace}/{name}/explain", get(explain))
        .route("/jobs/{namespace}/{name}/backfill", post(backfill))
        .route("/apply", post(apply))
        .route("/catch-up", get(catch_up))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct JobsQuery {
    namespace: Option<String>,
    /// `team=finance,env=prod`: all of them.
    labels: Option<String>,
    /// Part of the full name.
    search: Option<String>,
    state: Option<JobState>,
    /// How many of each job's newest runs to tell, at most 50.
    recent: Option<usize>,
    /// `next` of the page before.
    after: Option<String>,
    /// 100 unless given, at most 1,000.
    limit: Option<usize>,
}

/// Jobs in order of name.
#[utoipa::path(get, path = "/api/v1/jobs", tag = "jobs", params(JobsQuery), responses((status = 200, body = ListReply), Refusals))]
pub(super) async fn list(State(shared): State<Arc<Shared>>, Params(query): Params<JobsQuery>) -> Answer {
    let request = ListRequest {
        namespace: query.namespace,
        labels: labels(query.labels.as_deref())?,
        after: query.after,
        limit: Some(query.limit.unwrap_or(PAGE)),
        search: query.search,
        state: query.state,
        recent: query.recent,
    };
    let reply: ListReply = shared.desk.ask("list", &request).await?;
    Ok(Json(reply).into_response())
}

/// One job. Its ETag is its revision.
#[utoipa::path(get, path = "/api/v1/jobs/{namespace}/{name}", tag = "jobs", params(("namespace" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = JobView, headers(("etag" = String, description = "the revision"))), Refusals))]
pub(super) async fn get_one(State(shared): State<Arc<Shared>>, Place(name): Named) -> Answer {
    let view: JobView = shared.desk.ask("get", &JobRequest { job: full(&name) }).await?;
    Ok((etag(view.status.revision), Json(view)).into_response())
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PutQuery {
    /// Judge it, change nothing.
    #[serde(default)]
    dry_run: bool,
}

/// Declare a job: the body is its manifest. `If-Match` names the revision that it replaces; `If-None-Match: *` says that it is new.
#[utoipa::path(put, path = "/api/v1/jobs/{namespace}/{name}", tag = "jobs",
    params(("namespace" = String, Path), ("name" = String, Path), PutQuery, ("If-Match" = Option<String>, Header), ("If-None-Match" = Option<String>, Header)),
    request_body = serde_json::Value,
    responses((status = 200, body = ApplyReply, description = "it was there already"), (status = 201, body = ApplyReply, description = "it is new"), Refusals))]
pub(super) async fn put(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Place(name): Named,
    Params(query): Params<PutQuery>,
    headers: HeaderMap,
    Body(manifest): Body<Value>,
) -> Answer {
    let metadata =
        |key: &str| manifest.get("metadata").and_then(|metadata| metadata.get(key)).and_then(Value::as_str);
    let named = (metadata("namespace").unwrap_or("default"), metadata("name").unwrap_or_default());
    if named != (name.0.as_str(), name.1.as_str()) {
        let detail = format!("declare {}: the manifest names {}/{}", full(&name), named.0, named.1);
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "refused", "the input is wrong", detail));
    }
    let expected = expected(&headers)?;
    let request = ApplyRequest { manifests: vec![manifest], dry_run: query.dry_run, by: caller.by, expected };
    let reply: ApplyReply = shared.desk.ask("apply", &request).await?;
    let Some(applied) = reply.jobs.first() else {
        let detail =
            format!("declare {}: the manifest is of another kind; POST it to /api/v1/apply", full(&name));
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "refused", "the input is wrong", detail));
    };
    if let Some(error) = applied.error.clone() {
        return Err(error.into());
    }
    let status = if applied.action == ApplyAction::Created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, etag(applied.revision), Json(reply)).into_response())
}

/// Delete a job, with its history. `If-Match` names the revision that goes.
#[utoipa::path(delete, path = "/api/v1/jobs/{namespace}/{name}", tag = "jobs",
    params(("namespace" = String, Path), ("name" = String, Path), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = DeleteReply), Refusals))]
pub(super) async fn delete(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Place(name): Named,
    headers: HeaderMap,
) -> Answer {
    let request = DeleteRequest { job: full(&name), by: caller.by, expected: expected(&headers)? };
    let reply: DeleteReply = shared.desk.ask("delete", &request).await?;
    Ok(Json(reply).into_response())
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TriggerBody {
    /// Instead of the job's own; any JSON.
    #[serde(default, deserialize_with = "given")]
    payload: Option<Value>,
    /// The same key again, within a day, is answered with the first run.
    key: Option<String>,
}

/// A field that is there, even if it is `null`.
fn given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// Run a job now, besides its schedule.
#[utoipa::path(post, path = "/api/v1/jobs/{namespace}/{name}/trigger", tag = "jobs", params(("namespace" = String, Path), ("name" = String, Path)),
    request_body = TriggerBody, responses((status = 202, body = TriggerReply), Refusals))]
pub(super) async fn trigger(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Place(name): Named,
    Body(TriggerBody { payload, key }): Body<TriggerBody>,
) -> Answer {
    let request = TriggerRequest { job: full(&name), payload, key, by: caller.by };
    let reply: TriggerReply = shared.desk.ask("trigger", &request).await?;
    Ok((StatusCode::ACCEPTED, Json(reply)).into_response())
}

/// Pause a job: its occurrences aren't planned.
#[utoipa::path(post, path = "/api/v1/jobs/{namespace}/{name}/pause", tag = "jobs", params(("namespace" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = ApplyReply), Refusals))]
pub(super) async fn pause(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Place(name): Named,
) -> Answer {
    turn(&shared, caller, "pause", full(&name)).await
}

/// Resume a job; its `catchUp` decides about what it missed.
#[utoipa::path(post, path = "/api/v1/jobs/{namespace}/{name}/resume", tag = "jobs", params(("namespace" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = ApplyReply), Refusals))]
pub(super) async fn resume(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Place(name): Named,
) -> Answer {
    turn(&shared, caller, "resume", full(&name)).await
}

async fn turn(shared: &Shared, caller: Caller, verb: &str, job: String) -> Answer {
    let request = PauseRequest { job: Some(job), by: caller.by, ..PauseRequest::default() };
    let reply: ApplyReply = shared.desk.ask(verb, &request).await?;
    Ok(Json(reply).into_response())
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct NextQuery {
    /// After this instant; now unless given.
    from: Option<String>,
    /// Before this instant.
    to: Option<String>,
    /// 10 unless given, at most 1,000.
    count: Option<usize>,
}

/// The next occurrences, and why each is where it is. The next page is `from` the last one.
#[utoipa::path(get, path = "/api/v1/jobs/{namespace}/{name}/next", tag = "jobs", params(("namespace" = String, Path), ("name" = String, Path), NextQuery),
    responses((status = 200, body = NextReply), Refusals))]
pub(super) async fn next(
    State(shared): State<Arc<Shared>>,
    Place(name): Named,
    Params(query): Params<NextQuery>,
) -> Answer {
    let NextQuery { from, to, count } = query;
    let reply: NextReply =
        shared.desk.ask("next", &NextRequest { job: full(&name), from, to, count, days: None }).await?;
    Ok(Json(reply).into_response())
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct RunsQuery {
    /// 20 unless given, at most 1,000: all that may be remembered of a kind.
    limit: Option<usize>,
    /// Without outputs, and of errors the beginning only.
    #[serde(default)]
    brief: bool,
}

/// The remembered runs, newest first.
#[utoipa::path(get, path = "/api/v1/jobs/{namespace}/{name}/runs", tag = "jobs", params(("namespace" = String, Path), ("name" = String, Path), RunsQuery),
    responses((status = 200, body = RunsReply), Refusals))]
pub(super) async fn runs(
    State(shared): State<Arc<Shared>>,
    Place(name): Named,
    Params(query): Params<RunsQuery>,
) -> Answer {
    let reply: RunsReply = shared
        .desk
        .ask("runs", &RunsRequest { job: full(&name), limit: query.limit, brief: query.brief })
        .await?;
    Ok(Json(reply).into_response())
}

/// What was done to a job, newest first.
#[utoipa::path(get, path = "/api/v1/jobs/{namespace}/{name}/changes", tag = "jobs", params(("namespace" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = ChangesReply), Refusals))]
pub(super) async fn changes(State(shared): State<Arc<Shared>>, Place(name): Named) -> Answer {
    let reply: ChangesReply = shared.desk.ask("changes", &ChangesRequest { job: full(&name) }).await?;
    Ok(Json(reply).into_response())
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ExplainQuery {
    /// RFC 3339, or a civil time in the job's zone; the last occurrence and the next unless given.
    at: Option<String>,
}

/// Why an occurrence did, will or did not run.
#[utoipa::path(get, path = "/api/v1/jobs/{namespace}/{name}/explain", tag = "jobs", params(("namespace" = String, Path), ("name" = String, Path), ExplainQuery),
    responses((status = 200, body = ExplainReply), Refusals))]
pub(super) async fn explain(
    State(shared): State<Arc<Shared>>,
    Place(name): Named,
    Params(query): Params<ExplainQuery>,
) -> Answer {
    let reply: ExplainReply =
        shared.desk.ask("explain", &ExplainRequest { job: full(&name), at: query.at }).await?;
    Ok(Json(reply).into_response())
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct BackfillBody {
    from: String,
    to: String,
    max_active: Option<u32>,
    #[serde(default)]
    reverse: bool,
    name: Option<String>,
    /// Only say what it would do.
    #[serde(default)]
    dry_run: bool,
}

/// Run the occurrences of a time that has passed, a few at a time.
#[utoipa::path(post, path = "/api/v1/jobs/{namespace}/{name}/backfill", tag = "backfills", params(("namespace" = String, Path), ("name" = String, Path)),
    request_body = BackfillBody, responses((status = 200, body = BackfillReply, description = "what it would do"), (status = 202, body = BackfillReply), Refusals))]
pub(super) async fn backfill(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Place(job): Named,
    Body(body): Body<BackfillBody>,
) -> Answer {
    let BackfillBody { from, to, max_active, reverse, name, dry_run } = body;
    let request =
        BackfillRequest { job: full(&job), from, to, max_active, reverse, name, dry_run, by: caller.by };
    let reply: BackfillReply = shared.desk.ask("backfill", &request).await?;
    let status = if dry_run { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(reply)).into_response())
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ApplyBody {
    /// Jobs, calendars, namespaces and queues, in any order.
    manifests: Vec<Value>,
    /// Judge them, change nothing.
    #[serde(default)]
    dry_run: bool,
}

/// Declare objects of any kind: all are judged before any is written.
#[utoipa::path(post, path = "/api/v1/apply", tag = "jobs", request_body = ApplyBody, responses((status = 200, body = ApplyReply), Refusals))]
pub(super) async fn apply(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Body(ApplyBody { manifests, dry_run }): Body<ApplyBody>,
) -> Answer {
    let request = ApplyRequest { manifests, dry_run, by: caller.by, expected: None };
    let reply: ApplyReply = shared.desk.ask("apply", &request).await?;
    Ok(Json(reply).into_response())
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct CatchUpQuery {
    job: Option<String>,
    namespace: Option<String>,
}

/// What a resume, or the end of a downtime, would start now.
#[utoipa::path(get, path = "/api/v1/catch-up", tag = "jobs", params(CatchUpQuery), responses((status = 200, body = CatchUpReply), Refusals))]
pub(super) async fn catch_up(
    State(shared): State<Arc<Shared>>,
    Params(query): Params<CatchUpQuery>,
) -> Answer {
    let CatchUpQuery { job, namespace } = query;
    let reply: CatchUpReply = shared.desk.ask("catch-up", &CatchUpRequest { job, namespace }).await?;
    Ok(Json(reply).into_response())
}
