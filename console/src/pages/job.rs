//! A job: how it stands, what it does next and why, what it did, what it is and was, and what one can do about it.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use maud::{Markup, html};
use model::time::Timestamp;
use planner::api::types::{
    ChangeView, ChangesReply, ChangesRequest, JobRequest, JobView, NextReply, NextRequest, PercentilesView,
    RunMark, RunView, RunsReply, RunsRequest, StatsView,
};
use serde_json::Value;

use super::frame::{Frame, Place, Said};
use super::parts::{empty, figure, job_state, runs, strip};
use super::words::{brief, count, duration, when_maybe, when_text};
use super::{Page, calendar, chart};
use crate::access::Caller;
use crate::rest::input::{Named, Params, Place as At, full};
use crate::server::Shared;

/// Runs that are looked at, and those that are listed.
const RUNS: usize = 400;
const LISTED: usize = 25;
/// Runs of the strip and of the courses of lateness and duration.
const STRIP: usize = 60;
/// Occurrences ahead, and days of the calendar.
const AHEAD: usize = 8;
const DAYS: usize = 260;
/// Changes that are listed.
const CHANGES: usize = 12;
/// Characters of the spec; a payload may be large.
const SPEC_CHARS: usize = 12_000;

pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    At(name): Named,
    Params(said): Params<Said>,
) -> Page {
    let job = full(&name);
    let desk = &shared.desk;
    let view: JobView = desk.ask("get", &JobRequest { job: job.clone() }).await?;
    let runs_request = RunsRequest { job: job.clone(), limit: Some(RUNS), brief: true };
    let changes_request = ChangesRequest { job: job.clone() };
    let (runs, changes) = tokio::try_join!(
        desk.ask::<_, RunsReply>("runs", &runs_request),
        desk.ask::<_, ChangesReply>("changes", &changes_request),
    )?;
    // An invalid revision foretells nothing; the rest of the page is worth showing all the same.
    let request = NextRequest { job, count: Some(AHEAD), days: Some(DAYS), ..NextRequest::default() };
    let next: Option<NextReply> = desk.ask("next", &request).await.ok();
    let now = shared.clock.now();
    let title = view.job.clone();
    let body = html! {
        (head(now, &view, &runs.runs))
        @if caller.may_write() { (acts(&view)) }
        @if let Some(stats) = &view.status.stats { (figures(now, stats)) }
        @if let Some(next) = &next { (ahead(now, next)) }
        (behind(now, &runs.runs, next.as_ref(), &view))
        (declared(now, &view, &changes.changes))
    };
    let said = said.said.as_deref().and_then(done);
    Ok(Frame::new(Place::Jobs, &title, &caller).said(said).page(&body))
}

fn done(word: &str) -> Option<&'static str> {
    Some(match word {
        "paused" => "Paused: its occurrences aren't planned until it is resumed. Runs under way go on.",
        "resumed" => "Resumed. Its catchUp decides about what it missed.",
        "saved" => "Saved. It is in force once the planner has installed it, within a moment.",
        "unchanged" => "Nothing was changed: it was so already.",
        _ => return None,
    })
}

fn head(now: Timestamp, view: &JobView, runs: &[RunView]) -> Markup {
    let status = &view.status;
    let marks: Vec<RunMark> = runs
        .iter()
        .take(STRIP)
        .map(|run| RunMark { due_at: run.due_at.clone(), state: run.state.clone() })
        .collect();
    html! {
        p .crumbs { a href="/jobs" { "Jobs" } " / " a href={ "/jobs?namespace=" (view.job.split('/').next().unwrap_or_default()) } { (view.job.split('/').next().unwrap_or_default()) } }
        h1 { (view.job) }
        p .lead { (status.schedule) }
        p { (job_state(status)) " · next due " (when_maybe(now, status.next_due_at.as_deref()))
            @if let Some(since) = &status.paused_since { " · missed what was due since " (when_text(now, since)) }
            @if status.observed_revision != status.revision { " · revision " (status.revision) " isn't installed yet" }
        }
        @if let Some(condition) = &status.condition { p .wrong { (brief(condition, 600)) } }
        p { (strip(&marks)) }
    }
}

fn acts(view: &JobView) -> Markup {
    let base = format!("/jobs/{}", view.job);
    html! {
        div .acts {
            @if view.status.suspended {
                form .inline method="post" action={ (base) "/resume" } { button .main { "Resume" } }
            } @else {
                form .inline method="post" action={ (base) "/pause" } { button { "Pause" } }
            }
            a .button href={ (base) "/edit" } { "Edit" }
            details {
                summary { "Trigger" }
                form method="post" action={ (base) "/trigger" } {
                    p .soft { "One run now, besides the schedule. Also while it is paused." }
                    label for="payload" { "Payload instead of the job's own (JSON, may be left empty)" }
                    textarea #payload name="payload" {}
                    label for="key" { "Key: the same one again, within a day, starts nothing" }
                    p { input #key name="key"; }
                    button .main { "Trigger" }
                }
            }
            details {
                summary { "Backfill" }
                form method="post" action={ (base) "/backfill" } {
                    p .soft { "Run the occurrences of a time that has passed. Those whose runs are remembered are left out." }
                    div .filters {
                        div { label for="from" { "From" } input #from name="from" placeholder="2026-06-01T00:00:00Z" required; }
                        div { label for="to" { "To, not included" } input #to name="to" placeholder="2026-07-01T00:00:00Z" required; }
                        div { label for="most" { "At once" } input #most name="max_active" type="number" min="1" max="100" value="1"; }
                    }
                    button .main { "Backfill" }
                }
            }
        }
    }
}

fn figures(now: Timestamp, stats: &StatsView) -> Markup {
    let rate = stats.success_rate.map_or_else(|| "–".into(), |rate| format!("{:.1} %", rate * 100.0));
    let tail = |times: Option<PercentilesView>| {
        let said = |ms: u64| duration(i64::try_from(ms).unwrap_or(i64::MAX));
        times.map_or_else(
            || ("–".into(), String::new()),
            |times| (said(times.p50), format!("p95 {}, p99 {}", said(times.p95), said(times.p99))),
        )
    };
    let (late, late_note) = tail(stats.lateness_ms);
    let (took, took_note) = tail(stats.duration_ms);
    html! {
        dl .figures {
            (figure("Succeeded", &count(stats.succeeded), &format!("{rate} of those that weren't stopped"), false))
            (figure("Dead-lettered", &count(stats.failed), "since it was created", stats.failed > 0))
            (figure("Skipped, cancelled", &count(stats.skipped + stats.cancelled), "since it was created", false))
            (figure("Starts late by", &late, &late_note, false))
            (figure("Takes", &took, &took_note, false))
            div { dt { "Last success" } dd { (when_maybe(now, stats.last_success_at.as_deref())) } }
        }
    }
}

fn ahead(now: Timestamp, next: &NextReply) -> Markup {
    html! {
        h2 { "Next" small { (next.time_zone) } }
        @if next.follows_ends {
            p .soft { "Each run follows the end of the one before: there is nothing to foretell." }
        } @else if next.occurrences.is_empty() {
            p .soft { "It is never due again." }
        } @else {
            @if next.suspended { p .soft { "It is paused: none of these is planned until it is resumed." } }
            div .wide { table {
                thead { tr { th { "Due" } th { "There" } th { "Rule" } } }
                tbody {
                    @for one in &next.occurrences {
                        tr {
                            td { (when_text(now, &one.at)) }
                            td { (one.local) }
                            td .note { @if one.reasons.is_empty() { "as written" } @else { (one.reasons.join("; ")) } }
                        }
                    }
                }
            } }
        }
    }
}

fn behind(now: Timestamp, all: &[RunView], next: Option<&NextReply>, view: &JobView) -> Markup {
    let recent = &all[..all.len().min(STRIP)];
    let days = next.map(|next| next.days.as_slice()).unwrap_or_default();
    html! {
        @if !all.is_empty() || !days.is_empty() {
            h2 { "The year" small { "filled: runs that are remembered; outlined: planned" } }
            (calendar::year(now, all, days))
        }
        h2 { "Runs" small { (all.len()) @if all.len() == RUNS { " or more" } " remembered" } }
        @if all.is_empty() {
            (empty("None of its runs is remembered.", &html! { "Its first is due " (when_maybe(now, view.status.next_due_at.as_deref())) "; " code { "spec.history" } " says how many are kept." }))
        } @else {
            (chart::course(recent))
            (runs(now, &all[..all.len().min(LISTED)]))
        }
    }
}

fn declared(now: Timestamp, view: &JobView, changes: &[ChangeView]) -> Markup {
    let spec = view.manifest.get("spec").unwrap_or(&Value::Null);
    let text = serde_json::to_string_pretty(spec).unwrap_or_default();
    let cut: String = text.chars().take(SPEC_CHARS).collect();
    html! {
        h2 { "Spec" small { "revision " (view.status.revision) ", created " (when_text(now, &view.status.created_at)) } }
        pre { (cut) @if cut.len() < text.len() { "…" } }
        @if cut.len() < text.len() { p .soft { a href={ "/api/v1/jobs/" (view.job) } { "The whole of it" } } }
        h2 { "Revisions" }
        @if changes.is_empty() {
            p .soft { "None has taken effect yet." }
        } @else {
            div .wide { table {
                thead { tr { th { "In force" } th .num { "Revision" } th { "What" } th { "By" } th { "Schedule" } } }
                tbody {
                    @for change in changes.iter().take(CHANGES) {
                        tr {
                            td { (when_text(now, &change.at)) }
                            td .num { (change.revision) }
                            td { (change.change) }
                            td { (brief(change.by.as_deref().unwrap_or("–"), 60)) }
                            td .mono .note { @if let Some(schedule) = &change.schedule { (brief(&schedule.to_string(), 160)) } }
                        }
                    }
                }
            } }
        }
    }
}
