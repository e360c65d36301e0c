//! The plan: the load of the next 24 hours, who makes the peak, and the same with a proposed change.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Form, State};
use axum::response::IntoResponse;
use maud::{Markup, html};
use model::time::{MINUTE_MS, Timestamp};
use serde::Deserialize;
use serde_json::Value;

use super::Page;
use super::chart;
use super::frame::{Frame, Place};
use super::parts::{empty, figure, wrong};
use super::words::{brief, count, when_text};
use crate::access::Caller;
use crate::outlook::ForecastView;
use crate::problem::Problem;
use crate::rest::forecast::foretold;
use crate::rest::input::Params;
use crate::server::Shared;

/// Shares that are listed, and jobs that can't be foretold.
const SHARES: usize = 15;
const NAMED: usize = 10;
/// Minutes of a row.
const HOUR_MINUTES: usize = 60;
/// Rows of hours, at most.
const ROWS: usize = 48;

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Query {
    hours: Option<u16>,
    namespace: Option<String>,
    queue: Option<String>,
}

impl Query {
    async fn foretold(&self, shared: &Shared, manifests: Vec<Value>) -> Result<ForecastView, Problem> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
        foretold(shared, self.hours, given(&self.namespace), given(&self.queue), manifests).await
    }
}

pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Params(query): Params<Query>,
) -> Page {
    let view = query.foretold(&shared, vec![]).await?;
    let body = page(shared.clock.now(), &query, &view, None, "", None);
    Ok(Frame::new(Place::Plan, "Plan", &caller).page(&body))
}

#[derive(Debug, Deserialize)]
pub(super) struct Proposal {
    manifests: String,
}

/// The same with proposed manifests. It changes nothing, but is sent like a change: manifests are too long for an address.
pub(super) async fn propose(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Params(query): Params<Query>,
    Form(Proposal { manifests: text }): Form<Proposal>,
) -> Page {
    let present = query.foretold(&shared, vec![]).await?;
    let read: Result<Vec<Value>, Problem> = match serde_json::from_str(&text) {
        Ok(Value::Array(manifests)) => Ok(manifests),
        Ok(manifest) => Ok(vec![manifest]),
        Err(problem) => Err(Problem::malformed(format!("read the manifests as JSON: {problem}"))),
    };
    let proposed = match read {
        Ok(manifests) => query.foretold(&shared, manifests).await,
        Err(problem) => Err(problem),
    };
    let now = shared.clock.now();
    let frame = Frame::new(Place::Plan, "Plan", &caller);
    match proposed {
        Ok(view) => Ok(frame.page(&page(now, &query, &view, Some(&present), &text, None))),
        Err(problem) => {
            let body = page(now, &query, &present, None, &text, Some(&problem));
            Ok((problem.status(), frame.page(&body)).into_response())
        }
    }
}

fn page(
    now: Timestamp,
    query: &Query,
    view: &ForecastView,
    present: Option<&ForecastView>,
    proposal: &str,
    problem: Option<&Problem>,
) -> Markup {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let from: Timestamp = view.from.parse().unwrap_or(now);
    html! {
        h1 { "Plan" }
        p .lead { "What falls due in each minute ahead, by the rules that plan it." }
        form .filters method="get" action="/plan" {
            div { label for="hours" { "Hours" } input #hours type="number" name="hours" min="1" max="168" value=(query.hours.unwrap_or(24)); }
            div { label for="namespace" { "Namespace" } input #namespace name="namespace" value=(text(&query.namespace)); }
            div { label for="queue" { "Queue" } input #queue name="queue" value=(text(&query.queue)) placeholder="billing/reports"; }
            button .main { "Show" }
        }
        @if let Some(problem) = problem { (wrong(problem)) }
        (figures(now, view, present))
        @if view.total == 0 {
            (empty("Nothing falls due in that time.", &html! { a href="/jobs" { "The jobs" } " may be paused, or there are none like that." }))
        } @else {
            @if let Some(present) = present {
                h2 { "With the change" }
                (chart::load(from, &view.minutes, &said(view)))
                h2 { "As it is" }
                (chart::load(from, &present.minutes, &said(present)))
            } @else {
                (chart::load(from, &view.minutes, &said(view)))
            }
            (makers(now, view))
            (shares(view))
            (hours(from, view))
        }
        (left_out(view))
        h2 { "What if" }
        p .soft { "As if these manifests (JSON: one, or a list) were applied now. Nothing is changed." }
        form method="post" action="/plan" {
            label for="manifests" { "Manifests" }
            textarea #manifests name="manifests" spellcheck="false" { "\n" (proposal) }
            div .acts { button { "Show the plan with it" } }
        }
    }
}

fn said(view: &ForecastView) -> String {
    let peak =
        view.peaks.first().map(|peak| format!("; the busiest minute is {} with {}", peak.at, peak.count));
    format!("{} occurrences in {} minutes{}", view.total, view.minutes.len(), peak.unwrap_or_default())
}

fn figures(now: Timestamp, view: &ForecastView, present: Option<&ForecastView>) -> Markup {
    let change = present.map(|present| {
        let more = i128::from(view.total) - i128::from(present.total);
        format!("{more:+} by the change")
    });
    let busiest = view.peaks.first();
    html! {
        dl .figures {
            (figure("Due", &count(view.total), change.as_deref().unwrap_or("occurrences"), false))
            div { dt { "Busiest minute" } dd {
                @match busiest { Some(peak) => { (count(peak.count.into())) small { (when_text(now, &peak.at)) ", " (peak.at.get(11..16).unwrap_or_default()) } }, None => "–" }
            } }
            (figure("On average", &format!("{:.1}", view.total as f64 / view.minutes.len().max(1) as f64), "a minute", false))
            (figure("Jobs", &count(view.jobs as u64), &if view.proposed > 0 { format!("{} of them proposed", view.proposed) } else { "looked at".into() }, false))
        }
    }
}

fn makers(now: Timestamp, view: &ForecastView) -> Markup {
    html! {
        @if let Some(peak) = view.peaks.first() {
            h2 { "Who makes the peak" small { (when_text(now, &peak.at)) } }
            div .wide { table { tbody {
                @for maker in &view.makers { tr { td { a href={ "/jobs/" (maker.job) } { (maker.job) } } td .num { (maker.count) } } }
            } } }
            @if view.makers_more > 0 { p .soft { "and " (count(view.makers_more as u64)) " more jobs" } }
        }
    }
}

fn shares(view: &ForecastView) -> Markup {
    html! {
        h2 { "By namespace and queue" }
        div .wide { table {
            thead { tr { th { "Namespace" } th { "Queue" } th .num { "Due" } th .num { "Busiest minute" } th .num { "Share" } } }
            tbody {
                @for share in view.shares.iter().take(SHARES) {
                    tr {
                        td { (share.namespace) } td { (share.queue) } td .num { (count(share.total)) }
                        td .num { (share.minutes.iter().max().copied().unwrap_or(0)) }
                        td .num { (format!("{:.1} %", share.total as f64 * 100.0 / view.total.max(1) as f64)) }
                    }
                }
            }
        } }
        @if view.shares.len() > SHARES { p .soft { "and " (view.shares.len() - SHARES) " more" } }
    }
}

/// The same as numbers, for whoever can't see the picture.
fn hours(from: Timestamp, view: &ForecastView) -> Markup {
    html! {
        details {
            summary { "Hour by hour" }
            div .wide { table {
                thead { tr { th { "From" } th .num { "Due" } th .num { "Busiest minute" } } }
                tbody {
                    @for (row, minutes) in view.minutes.chunks(HOUR_MINUTES).enumerate().take(ROWS) {
                        tr {
                            td { (from.plus_ms((row * HOUR_MINUTES) as i64 * MINUTE_MS)) }
                            td .num { (count(minutes.iter().map(|number| u64::from(*number)).sum())) }
                            td .num { (minutes.iter().max().copied().unwrap_or(0)) }
                        }
                    }
                }
            } }
        }
    }
}

fn left_out(view: &ForecastView) -> Markup {
    let said = |jobs: &[String], why: &str| {
        let named = jobs.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        let more = if jobs.len() > NAMED { " and others" } else { "" };
        html! { @if !jobs.is_empty() { p .soft { (jobs.len()) " job(s) " (why) ": " (brief(&named, 800)) (more) "." } } }
    };
    html! {
        (said(&view.unforeseen, "follow the end of their run before, and aren't counted"))
        (said(&view.unreadable, "can't be read, and aren't counted"))
        @if let Some(job) = &view.cut_at { p .wrong { "There are too many occurrences: " (job) " and the jobs after it aren't counted." } }
    }
}
