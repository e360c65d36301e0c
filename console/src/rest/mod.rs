//! The API over HTTP: `/api/v1/…`, the verbs of `ecron.api.v1.*` as resources. Described by the OpenAPI document that is made of
//! this code.
#![allow(unused_qualifications, reason = "utoipa's macro writes them")]

mod audit;
mod backfills;
mod cluster;
pub(crate) mod forecast;
pub(crate) mod input;
mod jobs;
pub(crate) mod letters;
mod objects;
mod queues;
pub(crate) mod runs;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, Modify, OpenApi};

use planner::api::types::JobState;

use crate::problem::Problem;
use crate::server::Shared;

pub(crate) use runs::LogLineView;
pub(crate) use watch::WATCHERS_MAX;

pub(crate) const ROOT: &str = "/api/v1";

pub(crate) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .merge(jobs::router())
        .merge(runs::router())
        .merge(queues::router())
        .merge(letters::router())
        .merge(backfills::router())
        .merge(objects::router())
        .merge(audit::router())
        .merge(cluster::router())
        .merge(forecast::router())
        .merge(watch::router())
        .route("/openapi.json", get(document))
        .fallback(|| async { Problem::not_found("such a resource; see /api/v1/openapi.json") })
        .method_not_allowed_fallback(|| async {
            let detail = "do that to this resource; see /api/v1/openapi.json";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", "not this way", detail)
        })
}

async fn document() -> impl IntoResponse {
    Json(api())
}

/// The OpenAPI 3.1 document, as JSON.
///
/// # Panics
/// Never: the document is made of this code.
#[must_use]
pub fn openapi() -> String {
    serde_json::to_string_pretty(&api()).unwrap_or_default()
}

fn api() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "ecron",
        description = "The verbs of `ecron.api.v1.*` over HTTP. Instants are RFC 3339 in UTC; durations are numbers with a unit (`90s`, `1h30m`). \
                       Lists come in pages: `next` is the next page's `after` (or `from`). Errors are `application/problem+json`; their `detail` reads \
                       after \"failed to\"."
    ),
    paths(
        jobs::list, jobs::get_one, jobs::put, jobs::delete, jobs::trigger, jobs::pause, jobs::resume, jobs::next, jobs::runs,
        jobs::changes, jobs::explain, jobs::backfill, jobs::apply, jobs::catch_up,
        runs::open, runs::get_one, runs::logs, runs::explain, runs::cancel,
        queues::list, queues::get_one, queues::pause, queues::resume, queues::submit,
        letters::list, letters::get_one, letters::preview, letters::redrive, letters::purge,
        backfills::list, backfills::get_one, backfills::pause, backfills::resume, backfills::cancel,
        objects::list, objects::get_one, objects::delete, objects::pause, objects::resume,
        audit::list, cluster::cluster, cluster::buckets, forecast::present, forecast::proposed,
        watch::events, watch::run_events,
    ),
    components(schemas(Problem, JobState)),
    modifiers(&Tokens),
)]
struct Document;

struct Tokens;

impl Modify for Tokens {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("A token of the console's token file; changes need one of scope `write`. None on loopback without a file."))
            .build();
        let components = openapi.components.get_or_insert_with(Default::default);
        components.add_security_scheme("token", SecurityScheme::Http(bearer));
        openapi.security = Some(vec![SecurityRequirement::new("token", Vec::<String>::new())]);
    }
}

/// The problems that any request may be answered with.
pub(crate) struct Refusals;

impl IntoResponses for Refusals {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let known = [
            ("400", "the request can't be read"),
            ("401", "no token, or an unknown one"),
            ("403", "the token may only read, or another site's page sends it"),
            ("404", "there is no such thing; nothing was changed"),
            ("405", "not this way"),
            ("412", "it isn't at the expected revision; nothing was changed"),
            ("413", "the body is too large"),
            ("415", "the body isn't JSON"),
            ("421", "without credentials the console is reached as localhost only"),
            ("422", "the input is wrong, or the state forbids it; nothing was changed"),
            ("503", "a server can't be reached; nothing was changed"),
            ("504", "no answer in time; it may have happened"),
        ];
        let response = |description: &str| {
            let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
            let response =
                ResponseBuilder::new().description(description).content("application/problem+json", content);
            RefOr::T(response.build())
        };
        known.into_iter().map(|(status, description)| (status.to_owned(), response(description))).collect()
    }
}
