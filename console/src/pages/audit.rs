//! The audit: who had what done, newest first.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use bus::AuditLog;
use bus::audit::gathered;
use maud::html;
use model::time::HOUR_MS;
use serde::Deserialize;

use super::Page;
use super::frame::{Frame, Place};
use super::parts::{empty, next_page};
use super::words::{brief, when};
use crate::access::Caller;
use crate::problem::Problem;
use crate::rest::input::Params;
use crate::server::Shared;

/// Records on a page.
const PAGE: usize = 100;
/// Hours back unless told; seven days are kept.
const HOURS: u16 = 24;
const HOURS_MAX: u16 = 7 * 24;

#[derive(Debug, Default, Deserialize)]
pub(super) struct Query {
    hours: Option<u16>,
    page: Option<usize>,
}

pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Params(Query { hours, page }): Params<Query>,
) -> Page {
    let (hours, page) = (hours.unwrap_or(HOURS).clamp(1, HOURS_MAX), page.unwrap_or(0));
    let now = shared.clock.now();
    let since = now.plus_ms(-HOUR_MS * i64::from(hours));
    let records = gathered(shared.desk.bus().audits(since).await.map_err(Problem::from)?);
    let from = page.saturating_mul(PAGE);
    let more = records.len() > from.saturating_add(PAGE);
    let body = html! {
        h1 { "Audit" }
        p .lead { "Who had what done, as they said themselves. Kept for seven days." }
        form .filters method="get" action="/audit" {
            div { label for="hours" { "Hours back" } input #hours type="number" name="hours" min="1" max="168" value=(hours); }
            button .main { "Show" }
        }
        @if records.is_empty() {
            (empty("Nothing was changed in that time.", &html! { "Applying, triggering, pausing, cancelling, redriving: each leaves a record here." }))
        } @else {
            div .wide { table {
                thead { tr { th { "When" } th { "By" } th { "What" } th { "To" } th .num { "How many" } th { "Detail" } } }
                tbody {
                    @for record in records.iter().rev().skip(from).take(PAGE) {
                        tr {
                            td { (when(now, record.at)) }
                            td { (brief(record.by.as_deref().unwrap_or("–"), 60)) }
                            td { (record.action) }
                            td { (brief(&record.target, 160)) }
                            td .num { @if let Some(count) = record.count { (count) } }
                            td .note { (brief(record.detail.as_deref().unwrap_or_default(), 160)) }
                        }
                    }
                }
            } }
        }
        (next_page(more.then(|| format!("/audit?hours={hours}&page={}", page + 1))))
    };
    Ok(Frame::new(Place::Audit, "Audit", &caller).page(&body))
}
