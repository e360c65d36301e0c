//! The forecast: the load of the next hours, also with proposed manifests.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::Refusals;
use super::input::{Answer, Body, Params};
use crate::outlook::{self, ForecastView};
use crate::problem::Problem;
use crate::server::Shared;

/// Hours ahead unless told, and at most.
pub(crate) const HOURS: u16 = 24;
pub(crate) const HOURS_MAX: u16 = 7 * 24;

pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new().route("/forecast", get(present).post(proposed))
}

#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ForecastQuery {
    /// 24 unless given, at most 168.
    hours: Option<u16>,
    namespace: Option<String>,
    queue: Option<String>,
}

/// How many occurrences fall due in each minute.
#[utoipa::path(get, path = "/api/v1/forecast", tag = "plan", params(ForecastQuery), responses((status = 200, body = ForecastView), Refusals))]
pub(super) async fn present(
    State(shared): State<Arc<Shared>>,
    Params(query): Params<ForecastQuery>,
) -> Answer {
    let ForecastQuery { hours, namespace, queue } = query;
    let view = foretold(&shared, hours, namespace, queue, vec![]).await?;
    Ok(Json(view).into_response())
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ForecastBody {
    /// As if these were applied now. Nothing is changed.
    manifests: Vec<Value>,
}

/// The same with proposed manifests applied. Changes nothing.
#[utoipa::path(post, path = "/api/v1/forecast", tag = "plan", params(ForecastQuery), request_body = ForecastBody, responses((status = 200, body = ForecastView), Refusals))]
pub(super) async fn proposed(
    State(shared): State<Arc<Shared>>,
    Params(query): Params<ForecastQuery>,
    Body(ForecastBody { manifests }): Body<ForecastBody>,
) -> Answer {
    let ForecastQuery { hours, namespace, queue } = query;
    let view = foretold(&shared, hours, namespace, queue, manifests).await?;
    Ok(Json(view).into_response())
}

pub(crate) async fn foretold(
    shared: &Shared,
    hours: Option<u16>,
    namespace: Option<String>,
    queue: Option<String>,
    manifests: Vec<Value>,
) -> Result<ForecastView, Problem> {
    let now = shared.clock.now();
    let bus = shared.desk.bus();
    let mut all = outlook::gather(&**bus).await?;
    if !manifests.is_empty() {
        all = outlook::propose(&**bus, all, &manifests, now).await.map_err(|problems| Problem {
            problems,
            ..Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "refused",
                "the input is wrong",
                "accept the manifests",
            )
        })?;
    }
    let minutes = usize::from(hours.unwrap_or(HOURS).clamp(1, HOURS_MAX)) * 60;
    let counted = tokio::task::spawn_blocking(move || {
        all.only(namespace.as_deref(), queue.as_deref()).forecast(now, minutes)
    });
    counted.await.map_err(|_| Problem::busy("count the occurrences"))
}
