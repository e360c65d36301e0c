//! Jobs: search, state, when each is due next, and how its last runs ended.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use maud::{Markup, html};
use model::time::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use planner::api::types::{JobState, JobView, ListReply, ListRequest};
use serde::Deserialize;

use super::Page;
use super::frame::{Frame, Place};
use super::parts::{empty, job_state, next_page, strip};
use super::words::{brief, when_maybe};
use crate::access::Caller;
use crate::rest::input::{Params, labels};
use crate::server::Shared;

/// Jobs on a page.
const PAGE: usize = 50;
/// Outcomes of each.
const RECENT: usize = 20;
/// Labels of each that are shown.
const LABELS: usize = 4;

#[derive(Debug, Default, Deserialize)]
pub(super) struct Query {
    q: Option<String>,
    namespace: Option<String>,
    labels: Option<String>,
    state: Option<String>,
    after: Option<String>,
}

const STATES: [(&str, &str, Option<JobState>); 5] = [
    ("", "any", None),
    ("active", "active", Some(JobState::Active)),
    ("paused", "paused", Some(JobState::Paused)),
    ("failing", "failing", Some(JobState::Failing)),
    ("invalid", "invalid", Some(JobState::Invalid)),
];

pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Params(query): Params<Query>,
) -> Page {
    // An empty field of a form is no filter.
    let given = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
    let state = given(&query.state).and_then(|word| STATES.iter().find(|(known, _, _)| *known == word)?.2);
    let request = ListRequest {
        namespace: given(&query.namespace),
        labels: labels(query.labels.as_deref())?,
        after: given(&query.after),
        limit: Some(PAGE),
        search: given(&query.q),
        state,
        recent: Some(RECENT),
    };
    let is_narrow = request.namespace.is_some()
        || request.search.is_some()
        || state.is_some()
        || !request.labels.is_empty();
    let reply: ListReply = shared.desk.ask("list", &request).await?;
    let now = shared.clock.now();
    let body = html! {
        h1 { "Jobs" }
        (filters(&query, &caller))
        @if reply.jobs.is_empty() && is_narrow {
            (empty("No job is like that.", &html! { a href="/jobs" { "Show all jobs" } }))
        } @else if reply.jobs.is_empty() {
            (empty("There are no jobs yet.", &html! {
                "Declare some with " code { "ecron apply -f FILE" } ", import a crontab with " code { "ecron import crontab FILE" }
                ", or " a href="/jobs/new" { "write one here" } "."
            }))
        } @else {
            (table(now, &reply.jobs))
        }
        (next_page(reply.next.map(|after| more(&query, &after))))
    };
    Ok(Frame::new(Place::Jobs, "Jobs", &caller).page(&body))
}

fn filters(query: &Query, caller: &Caller) -> Markup {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    html! {
        form .filters method="get" action="/jobs" role="search" {
            div { label for="q" { "Name" } input #q type="search" name="q" value=(text(&query.q)) placeholder="part of it (/)"; }
            div { label for="namespace" { "Namespace" } input #namespace name="namespace" value=(text(&query.namespace)); }
            div { label for="labels" { "Labels" } input #labels name="labels" value=(text(&query.labels)) placeholder="team=finance"; }
            div {
                label for="state" { "State" }
                select #state name="state" {
                    @for (word, name, _) in STATES {
                        option value=(word) selected[query.state.as_deref().unwrap_or_default() == word] { (name) }
                    }
                }
            }
            button .main { "Search" }
            @if caller.may_write() { a .button href="/jobs/new" { "New job" } }
        }
    }
}

fn table(now: Timestamp, jobs: &[JobView]) -> Markup {
    html! {
        div .wide { table {
            thead { tr { th { "Job" } th { "State" } th { "Next due" } th { "Last due" } th { "Last runs" } th { "Schedule" } } }
            tbody {
                @for view in jobs {
                    @let status = &view.status;
                    tr {
                        td { a href={ "/jobs/" (view.job) } { (view.job) } (labels_of(view)) }
                        td { (job_state(status)) }
                        td { (when_maybe(now, status.next_due_at.as_deref())) }
                        td { (when_maybe(now, status.last_run.as_ref().map(|run| run.due_at.as_str()))) }
                        td { (strip(&status.recent)) }
                        td .note { (brief(&status.schedule, 70)) }
                    }
                }
            }
        } }
    }
}

fn labels_of(view: &JobView) -> Markup {
    let labels = view
        .manifest
        .get("metadata")
        .and_then(|metadata| metadata.get("labels"))
        .and_then(|labels| labels.as_object());
    html! {
        @if let Some(labels) = labels {
            @for (key, value) in labels.iter().take(LABELS) {
                " " small .soft { (brief(key, 30)) "=" (brief(value.as_str().unwrap_or_default(), 30)) }
            }
        }
    }
}

fn more(query: &Query, after: &str) -> String {
    let fields = [
        ("q", query.q.as_deref()),
        ("namespace", query.namespace.as_deref()),
        ("labels", query.labels.as_deref()),
        ("state", query.state.as_deref()),
        ("after", Some(after)),
    ];
    let pairs = fields.iter().filter_map(|(name, value)| {
        let value = value.filter(|value| !value.is_empty())?;
        Some(format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)))
    });
    format!("/jobs?{}", pairs.collect::<Vec<_>>().join("&"))
}
