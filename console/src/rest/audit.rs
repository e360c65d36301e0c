//! The audit: who had what done.

use std::sync::Arc;

use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use bus::AuditLog;
use bus::audit::{AuditRecord, gathered};
use model::time::{HOUR_MS, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Refusals;
use super::input::{Answer, Params};
use crate::problem::Problem;
use crate::server::Shared;

/// How far back it looks unless told.
const SINCE_DEFAULT_MS: i64 = 24 * HOUR_MS;
/// Records in a page, unless asked otherwise, and at most.
const PAGE: usize = 100;
const PAGE_MAX: usize = 1_000;

pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new().route("/audit", get(list))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditQuery {
    /// From this instant on; 24 hours ago unless given, at most 7 days are kept.
    since: Option<String>,
    /// `next` of the page before.
    after: Option<usize>,
    /// 100 unless given, at most 1,000.
    limit: Option<usize>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct AuditPage {
    /// Oldest first.
    records: Vec<AuditView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<usize>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
struct AuditView {
    at: String,
    /// As they said themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    action: String,
    target: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// Who had what done.
#[utoipa::path(get, path = "/api/v1/audit", tag = "audit", params(AuditQuery), responses((status = 200, body = AuditPage), Refusals))]
pub(super) async fn list(State(shared): State<Arc<Shared>>, Params(query): Params<AuditQuery>) -> Answer {
    let since: Timestamp = match &query.since {
        Some(text) => {
            text.parse().map_err(|problem| Problem::malformed(format!("read since {text:?}: {problem}")))?
        }
        None => shared.clock.now().plus_ms(-SINCE_DEFAULT_MS),
    };
    let all = gathered(shared.desk.bus().audits(since).await?);
    let (after, limit) = (query.after.unwrap_or(0), query.limit.unwrap_or(PAGE).clamp(1, PAGE_MAX));
    let next = after.saturating_add(limit);
    let records = all.iter().skip(after).take(limit).map(view).collect();
    Ok(Json(AuditPage { records, next: (all.len() > next).then_some(next) }).into_response())
}

fn view(record: &AuditRecord) -> AuditView {
    AuditView {
        at: record.at.to_string(),
        by: record.by.clone(),
        action: record.action.clone(),
        target: record.target.clone(),
        count: record.count,
        detail: record.detail.clone(),
    }
}
