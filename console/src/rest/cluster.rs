//! Nodes, leases, shards and buckets: the plan as it is, and who works on it.

use std::sync::Arc;

use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use planner::api::types::{BucketsReply, BucketsRequest, ClusterReply, ClusterRequest};
use serde::Deserialize;
use utoipa::IntoParams;

use super::Refusals;
use super::input::{Answer, Params};
use crate::server::Shared;

pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new().route("/cluster", get(cluster)).route("/buckets", get(buckets))
}

/// Nodes, leases, and how far each shard has come.
#[utoipa::path(get, path = "/api/v1/cluster", tag = "cluster", responses((status = 200, body = ClusterReply), Refusals))]
pub(super) async fn cluster(State(shared): State<Arc<Shared>>) -> Answer {
    let reply: ClusterReply = shared.desk.ask("cluster", &ClusterRequest {}).await?;
    Ok(Json(reply).into_response())
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct BucketsQuery {
    /// `minute`, `spaced`, `half-hour` or `horizon`.
    tier: Option<String>,
    /// Members shown of each: 5 unless given, at most 20.
    first: Option<usize>,
    /// `next` of the page before.
    after: Option<String>,
    /// 100 unless given, at most 400.
    limit: Option<usize>,
}

/// The tiers of the plan, as they are.
#[utoipa::path(get, path = "/api/v1/buckets", tag = "cluster", params(BucketsQuery), responses((status = 200, body = BucketsReply), Refusals))]
pub(super) async fn buckets(
    State(shared): State<Arc<Shared>>,
    Params(query): Params<BucketsQuery>,
) -> Answer {
    let BucketsQuery { tier, first, after, limit } = query;
    let reply: BucketsReply =
        shared.desk.ask("buckets", &BucketsRequest { first, tier, after, limit }).await?;
    Ok(Json(reply).into_response())
}
