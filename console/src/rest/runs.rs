//! Runs: how one stands, what it said, why, and stopping it. A run's id is `NS/REST`: two segments of a path, the second encoded
//! where it must be.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use bus::LogReader;
use bus::logs::LOG_PAGE_MAX;
use model::id::RunId;
use planner::api::types::{
    CancelReply, CancelRequest, ExplainReply, ExplainRequest, RunRequest, RunView, SentReply, SentRequest,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Refusals;
use super::input::{Answer, Body, Named, Params, Place, full};
use crate::access::Caller;
use crate::problem::Problem;
use crate::server::Shared;

pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/runs", get(open))
        .route("/runs/{namespace}/{rest}", get(get_one))
        .route("/runs/{namespace}/{rest}/logs", get(logs))
        .route("/runs/{namespace}/{rest}/explain", get(explain))
        .route("/runs/{namespace}/{rest}/cancel", post(cancel))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct OpenQuery {
    /// 100 unless given, at most 1,000.
    limit: Option<usize>,
}

/// Published runs without an outcome, those that are open longest first. (A job's runs: `/jobs/{namespace}/{name}/runs`.)
#[utoipa::path(get, path = "/api/v1/runs", tag = "runs", params(OpenQuery), responses((status = 200, body = SentReply), Refusals))]
pub(super) async fn open(State(shared): State<Arc<Shared>>, Params(query): Params<OpenQuery>) -> Answer {
    let reply: SentReply = shared.desk.ask("sent", &SentRequest { limit: query.limit }).await?;
    Ok(Json(reply).into_response())
}

/// One run.
#[utoipa::path(get, path = "/api/v1/runs/{namespace}/{rest}", tag = "runs", params(("namespace" = String, Path), ("rest" = String, Path)),
    responses((status = 200, body = RunView), Refusals))]
pub(super) async fn get_one(State(shared): State<Arc<Shared>>, Place(name): Named) -> Answer {
    let view: RunView = shared.desk.ask("run", &RunRequest { run: full(&name) }).await?;
    Ok(Json(view).into_response())
}

/// Lines of a run's log.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct LogPage {
    pub(crate) lines: Vec<LogLineView>,
    /// Where the next page begins, if there may be one: `from`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<u64>,
    /// Behind the last line.
    #[serde(skip)]
    pub(crate) after: u64,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct LogLineView {
    pub(crate) at: String,
    pub(crate) attempt: u32,
    /// `stdout` or `stderr`, if it isn't the handler's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<String>,
    pub(crate) text: String,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct LogsQuery {
    /// `next` of the page before.
    #[serde(default)]
    from: u64,
}

/// What a run's attempts said, in pages.
#[utoipa::path(get, path = "/api/v1/runs/{namespace}/{rest}/logs", tag = "runs", params(("namespace" = String, Path), ("rest" = String, Path), LogsQuery),
    responses((status = 200, body = LogPage), Refusals))]
pub(super) async fn logs(
    State(shared): State<Arc<Shared>>,
    Place(name): Named,
    Params(query): Params<LogsQuery>,
) -> Answer {
    let page = log_page(&shared, &run_id(&full(&name))?, query.from).await?;
    Ok(Json(page).into_response())
}

pub(crate) fn run_id(text: &str) -> Result<RunId, Problem> {
    text.parse().map_err(|problem| {
        let detail = format!("{problem}");
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "refused", "the input is wrong", detail)
    })
}

/// One page of a run's log.
pub(crate) async fn log_page(shared: &Shared, run: &RunId, from: u64) -> Result<LogPage, Problem> {
    let batches = shared.desk.bus().log_batches(run, from, LOG_PAGE_MAX).await?;
    let after = batches.last().map_or(from, |last| last.sequence + 1);
    let next = (batches.len() == LOG_PAGE_MAX).then_some(after);
    let lines = batches.into_iter().flat_map(|stored| {
        let attempt = stored.batch.attempt;
        stored.batch.lines.into_iter().map(move |line| LogLineView {
            at: line.at.to_string(),
            attempt,
            from: line.from,
            text: line.text,
        })
    });
    Ok(LogPage { lines: lines.collect(), next, after })
}

/// Why it ran so, or didn't.
#[utoipa::path(get, path = "/api/v1/runs/{namespace}/{rest}/explain", tag = "runs", params(("namespace" = String, Path), ("rest" = String, Path)),
    responses((status = 200, body = ExplainReply), Refusals))]
pub(super) async fn explain(State(shared): State<Arc<Shared>>, Place(name): Named) -> Answer {
    let RunId::Occurrence(occurrence) = run_id(&full(&name))? else {
        return Err(Problem::not_found("an explanation of ad-hoc work: it follows no schedule"));
    };
    let request = ExplainRequest { job: occurrence.job.to_string(), at: Some(occurrence.due_at.to_string()) };
    let reply: ExplainReply = shared.desk.ask("explain", &request).await?;
    Ok(Json(reply).into_response())
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CancelBody {
    reason: Option<String>,
}

/// Cancel a run, also one that isn't due yet.
#[utoipa::path(post, path = "/api/v1/runs/{namespace}/{rest}/cancel", tag = "runs", params(("namespace" = String, Path), ("rest" = String, Path)),
    request_body = CancelBody, responses((status = 202, body = CancelReply), Refusals))]
pub(super) async fn cancel(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Place(name): Named,
    Body(CancelBody { reason }): Body<CancelBody>,
) -> Answer {
    let request = CancelRequest { run: full(&name), reason, by: caller.by };
    let reply: CancelReply = shared.desk.ask("cancel", &request).await?;
    Ok((StatusCode::ACCEPTED, Json(reply)).into_response())
}
