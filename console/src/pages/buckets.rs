//! Buckets: the plan as Redis holds it, tier by tier.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use maud::html;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use planner::api::types::{BucketsReply, BucketsRequest};
use serde::Deserialize;

use super::Page;
use super::frame::{Frame, Place};
use super::parts::{empty, figure, next_page};
use super::words::{brief, count, run_href, when_text};
use crate::access::Caller;
use crate::rest::input::Params;
use crate::server::Shared;

/// Buckets on a page, and members shown of each.
const PAGE: usize = 60;
const FIRST: usize = 3;

const TIERS: [(&str, &str); 4] = [
    ("minute", "every occurrence, a minute or two ahead"),
    ("spaced", "missed ones that catch up one by one"),
    ("half-hour", "each job's next occurrence, less than an hour ahead"),
    ("horizon", "jobs with nothing in the next hour"),
];

#[derive(Debug, Default, Deserialize)]
pub(super) struct Query {
    tier: Option<String>,
    after: Option<String>,
}

pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Params(Query { tier, after }): Params<Query>,
) -> Page {
    let tier = tier.filter(|tier| !tier.is_empty());
    let request = BucketsRequest { first: Some(FIRST), tier: tier.clone(), after, limit: Some(PAGE) };
    let reply: BucketsReply = shared.desk.ask("buckets", &request).await?;
    let now = shared.clock.now();
    let more = |next: &String| {
        let tier = tier.as_deref().map(|tier| format!("tier={tier}&")).unwrap_or_default();
        format!("/buckets?{tier}after={}", utf8_percent_encode(next, NON_ALPHANUMERIC))
    };
    let body = html! {
        h1 { "Buckets" }
        p .lead { "The plan as Redis holds it: sorted sets, one for each shard and stretch of time." }
        dl .figures {
            @for (name, what) in TIERS {
                @let total = reply.totals.iter().find(|total| total.tier == name);
                (figure(name, &count(total.map_or(0, |total| total.entries)), &format!("in {} buckets: {what}", total.map_or(0, |total| total.buckets)), false))
            }
        }
        p { a href="/buckets" aria-current=[tier.is_none().then_some("page")] { "All tiers" }
            @for (name, _) in TIERS { " · " a href={ "/buckets?tier=" (name) } aria-current=[(tier.as_deref() == Some(name)).then_some("page")] { (name) } } }
        @if reply.buckets.is_empty() {
            (empty("There is nothing in the plan.", &html! { "Jobs enter it within a second of " code { "ecron apply" } ", if a planner is running." }))
        } @else {
            div .wide { table {
                thead { tr { th { "Key" } th .num { "Entries" } th { "First due" } th { "First members" } } }
                tbody {
                    @for bucket in &reply.buckets {
                        tr {
                            td .mono { (bucket.key) }
                            td .num { (count(bucket.entries)) }
                            td { @if let Some(first) = bucket.first.first() { (when_text(now, &first.due_at)) } }
                            td .note { @for member in &bucket.first { (said(&member.member)) " " } @if bucket.entries > bucket.first.len() as u64 { "…" } }
                        }
                    }
                }
            } }
        }
        (next_page(reply.next.as_ref().map(more)))
    };
    Ok(Frame::new(Place::Buckets, "Buckets", &caller).page(&body))
}

/// A member: an occurrence with its revision, or a job.
fn said(member: &str) -> maud::Markup {
    let name = member.split('#').next().unwrap_or(member);
    let href = if name.contains('@') { run_href(name) } else { format!("/jobs/{name}") };
    html! { a href=(href) { (brief(member, 80)) } }
}
