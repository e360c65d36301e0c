//! Pages for people: HTML made here, escaped by the template, readable without a script.
//!
//! One file a page; `frame` is what they share, `words` how instants, durations and states are said, `chart` draws.

mod acts;
mod audit;
mod backfills;
mod buckets;
mod calendar;
mod chart;
mod edit;
mod frame;
mod job;
mod jobs;
mod letters;
mod login;
mod now;
mod parts;
mod plan;
mod queues;
mod run;
mod words;

use std::sync::Arc;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

pub(crate) use login::login_page;

use crate::problem::Problem;
use crate::server::Shared;

pub(crate) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/", get(now::show))
        .route("/jobs", get(jobs::show))
        .route("/jobs/new", get(edit::new))
        .route("/jobs/{namespace}/{name}", get(job::show))
        .route("/jobs/{namespace}/{name}/edit", get(edit::show).post(edit::save))
        .route("/jobs/{namespace}/{name}/trigger", post(acts::trigger))
        .route("/jobs/{namespace}/{name}/pause", post(acts::pause))
        .route("/jobs/{namespace}/{name}/resume", post(acts::resume))
        .route("/jobs/{namespace}/{name}/backfill", post(acts::backfill))
        .route("/runs/{namespace}/{rest}", get(run::show))
        .route("/runs/{namespace}/{rest}/cancel", post(acts::cancel))
        .route("/plan", get(plan::show).post(plan::propose))
        .route("/buckets", get(buckets::show))
        .route("/queues", get(queues::show))
        .route("/queues/{namespace}/{name}/pause", post(acts::pause_queue))
        .route("/queues/{namespace}/{name}/resume", post(acts::resume_queue))
        .route("/letters", get(letters::show))
        .route("/letters/confirm", get(letters::confirm))
        .route("/letters/{number}", get(letters::one))
        .route("/letters/redrive", post(letters::redrive))
        .route("/letters/purge", post(letters::purge))
        .route("/backfills", get(backfills::show))
        .route("/backfills/{namespace}/{name}/pause", post(acts::pause_backfill))
        .route("/backfills/{namespace}/{name}/resume", post(acts::resume_backfill))
        .route("/backfills/{namespace}/{name}/cancel", post(acts::cancel_backfill))
        .route("/audit", get(audit::show))
        .fallback(|| async { Failed(Problem::not_found("such a page")) })
        .method_not_allowed_fallback(|| async {
            let status = axum::http::StatusCode::METHOD_NOT_ALLOWED;
            Failed(Problem::new(status, "method", "not this way", "do that to this page"))
        })
}

/// What a page's handler answers with.
type Page = Result<Response, Failed>;

/// A problem, as a page.
#[derive(Debug)]
struct Failed(Problem);

impl From<Problem> for Failed {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        (self.0.status(), frame::problem_page(&self.0)).into_response()
    }
}
