//! A run: from due to outcome, step by step; its attempts, what it said, and what one can do about it.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use maud::{Markup, html};
use model::id::RunId;
use model::time::Timestamp;
use planner::api::types::{
    ExplainReply, ExplainRequest, ExplanationView, JobRequest, JobView, RunRequest, RunView, StepView,
};
use serde_json::Value;

use super::Page;
use super::frame::{Frame, Place, Said};
use super::parts::{figure, state, took};
use super::words::{between, brief, duration, job_of, run_href, when, when_maybe, when_text};
use crate::access::Caller;
use crate::rest::LogLineView;
use crate::rest::input::{Named, Params, Place as At, full};
use crate::rest::runs::{log_page, run_id};
use crate::server::Shared;

/// Lines of a log on the page; the others are the API's.
const LINES: usize = 200;
/// Characters of a line, of the output, and of the payload.
const LINE_CHARS: usize = 400;
const TEXT_CHARS: usize = 6_000;
/// Attempts that are listed.
const ATTEMPTS: usize = 30;

pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    At(name): Named,
    Params(said): Params<Said>,
) -> Page {
    let run = full(&name);
    let id = run_id(&run)?;
    let desk = &shared.desk;
    // A run that is only planned has no record; why is told all the same.
    let found: Result<RunView, _> = desk.ask("run", &RunRequest { run: run.clone() }).await;
    let explanation = match &id {
        RunId::Occurrence(occurrence) => {
            let request =
                ExplainRequest { job: occurrence.job.to_string(), at: Some(occurrence.due_at.to_string()) };
            let reply: Result<ExplainReply, _> = desk.ask("explain", &request).await;
            reply.ok().and_then(|reply| reply.explanations.into_iter().next())
        }
        RunId::AdHoc { .. } => None,
    };
    let view = match (found, &explanation) {
        (Ok(view), _) => Some(view),
        (Err(problem), Some(explanation)) if problem.status == 404 && explanation.fate != "unknown" => None,
        (Err(problem), _) => return Err(problem.into()),
    };
    let job: Option<JobView> = match &id {
        RunId::Occurrence(occurrence) => {
            desk.ask("get", &JobRequest { job: occurrence.job.to_string() }).await.ok()
        }
        RunId::AdHoc { .. } => None,
    };
    let (lines, more) = last_lines(&shared, &id).await?;
    let now = shared.clock.now();
    let ended = view.as_ref().is_some_and(|view| view.ended_at.is_some());
    let body = html! {
        (head(now, &run, view.as_ref(), explanation.as_ref()))
        @if caller.may_write() { (acts(&run, ended, view.as_ref())) }
        @if let Some(view) = &view { (figures(now, view)) }
        @if let Some(explanation) = &explanation { (steps(now, explanation)) }
        @if let Some(view) = &view { (attempts(now, view)) }
        (log(&run, view.as_ref(), &lines, more, ended))
        @if let Some(output) = view.as_ref().and_then(|view| view.output.as_ref()) { h2 { "Result" } (text(output)) }
        @if let Some(job) = &job { (payload(job, view.as_ref())) }
    };
    let said = said.said.as_deref().and_then(|word| match word {
        "triggered" => Some("Started: it runs besides the schedule, which doesn't move."),
        "duplicate" => Some("This key was used before: here is the run that it started."),
        "cancelling" => {
            Some("Its executor is told to stop; after 30 seconds whatever it says is disregarded.")
        }
        "cancelled" => Some("Cancelled: nobody had started it."),
        _ => None,
    });
    Ok(Frame::new(Place::Jobs, &run, &caller).said(said).page(&body))
}

async fn last_lines(shared: &Shared, run: &RunId) -> Result<(Vec<LogLineView>, bool), super::Failed> {
    let (mut lines, mut from, mut more) = (Vec::new(), 0, false);
    loop {
        let page = log_page(shared, run, from).await?;
        lines.extend(page.lines);
        if lines.len() > LINES {
            more = true;
            lines.drain(..lines.len() - LINES);
        }
        match page.next {
            Some(next) => from = next,
            None => return Ok((lines, more)),
        }
    }
}

fn head(now: Timestamp, run: &str, view: Option<&RunView>, explanation: Option<&ExplanationView>) -> Markup {
    html! {
        p .crumbs { a href="/jobs" { "Jobs" } @if let Some(job) = job_of(run) { " / " a href={ "/jobs/" (job) } { (job) } } }
        h1 .mono { (run) }
        @match view {
            Some(view) => p { (state(&view.state)) " · due " (when_text(now, &view.due_at))
                @if view.generation > 0 { " · redriven, generation " (view.generation) }
                @if let Some(running) = &view.running { " · attempt " (running.attempt) " runs since " (when_text(now, &running.since)) " " span data-progress { (progress(view)) } }
            },
            None => p { span .state .s-waiting { "not yet" } " · " (explanation.map(|explanation| explanation.fate.replace('-', " ")).unwrap_or_default()) },
        }
        @if let Some(explanation) = explanation { p .lead { (brief(&explanation.cause, 600)) } }
        @if let Some(cancel) = view.and_then(|view| view.cancel.as_ref()) {
            p { "Cancelled by " (cancel.by) ", " (when_text(now, &cancel.at)) @if let Some(reason) = &cancel.reason { ": " (brief(reason, 300)) } }
        }
        @if let Some(error) = view.and_then(|view| view.error.as_ref()) { div .wrong { (brief(error, 2_000)) } }
        @if let Some(reason) = view.and_then(|view| view.reason.as_ref()) { p .soft { (brief(reason, 600)) } }
    }
}

fn progress(view: &RunView) -> String {
    let Some(running) = &view.running else { return String::new() };
    let fraction = running.fraction.map(|fraction| format!("{} %", fraction.thousandths() / 10));
    [fraction, running.message.as_ref().map(|message| brief(message, 200))]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(" ")
}

fn acts(run: &str, ended: bool, view: Option<&RunView>) -> Markup {
    let failed = view.is_some_and(|view| view.state == "dead-lettered");
    html! {
        div .acts {
            @if !ended {
                form .inline method="post" action={ (run_href(run)) "/cancel" } data-sure="Cancel this run?" {
                    input name="reason" placeholder="why (for the record)" aria-label="Why"; " "
                    button .danger { "Cancel" }
                }
            }
            @if let Some(job) = job_of(run) {
                form .inline method="post" action={ "/jobs/" (job) "/trigger" } { button { "Run the job again" } }
                @if failed { a .button href={ "/letters?job=" (job) } { "Its dead letters" } }
            }
        }
    }
}

/// From due to outcome, and how long each part of the way took.
fn figures(now: Timestamp, view: &RunView) -> Markup {
    let due = Some(view.due_at.as_str());
    let published = view.published_at.as_deref();
    let said = |ms: Option<i64>| ms.map_or_else(|| "–".into(), duration);
    let queued = between(published, view.started_at.as_deref()).filter(|_| view.attempts <= 1);
    html! {
        h2 { "From due to outcome" }
        dl .figures {
            (figure("Published after", &said(between(due, published)), "from its due instant", false))
            (figure("Started after", &said(view.lateness_ms), &queued.map(|ms| format!("{} in its queue", duration(ms))).unwrap_or_default(), false))
            (figure("Took", &said(took(view)), if view.attempts > 1 { "with all attempts" } else { "" }, false))
            (figure("Attempts", &view.attempts.to_string(), view.last_outcome.as_deref().unwrap_or("none has ended"), view.attempts > 1))
            div { dt { "Ended" } dd { (when_maybe(now, view.ended_at.as_deref())) small { (brief(view.executor.as_deref().unwrap_or_default(), 60)) } } }
        }
    }
}

/// A step with its instant, and how long after the one before it came.
type Timed<'a> = (&'a StepView, Option<Timestamp>, Option<i64>);

fn timed(explanation: &ExplanationView) -> Vec<Timed<'_>> {
    let mut before: Option<Timestamp> = None;
    let mut rows = Vec::with_capacity(explanation.steps.len());
    for step in &explanation.steps {
        let at: Option<Timestamp> = step.at.as_deref().and_then(|at| at.parse().ok());
        rows.push((step, at, at.zip(before).map(|(at, before)| at.ms_since(before))));
        before = at.or(before);
    }
    rows
}

fn steps(now: Timestamp, explanation: &ExplanationView) -> Markup {
    html! {
        h2 { "Step by step" small { (explanation.local) } }
        ol .steps {
            @for (step, at, after) in timed(explanation) {
                @let class = match step.status.as_str() { "open" => "open", "missing" => "missing", "refused" => "refused", _ => "done" };
                li class=(class) {
                    span title=(step.status) { (step.step) }
                    span .num {
                        @if let (Some(_), Some(ms)) = (at, after) { "+" (duration(ms)) } @else if let Some(at) = at { (when(now, at)) }
                    }
                    span .soft { (brief(&step.note, 300)) }
                }
            }
        }
    }
}

fn attempts(now: Timestamp, view: &RunView) -> Markup {
    let shown = &view.attempt_log[view.attempt_log.len().saturating_sub(ATTEMPTS)..];
    html! {
        @if !shown.is_empty() {
            h2 { "Attempts" }
            div .wide { table {
                thead { tr { th .num { "Attempt" } th { "Outcome" } th { "Started" } th .num { "Took" } th { "Executor" } th { "Error" } } }
                tbody {
                    @for attempt in shown.iter().rev() {
                        tr {
                            td .num { @if attempt.generation > 0 { (attempt.generation) "." } (attempt.attempt) }
                            td { (attempt.outcome) }
                            td { (when_maybe(now, attempt.started_at.as_deref())) }
                            td .num { @if let Some(ms) = between(attempt.started_at.as_deref(), attempt.ended_at.as_deref()) { (duration(ms)) } }
                            td { (brief(attempt.executor.as_deref().unwrap_or_default(), 60)) }
                            td .note { (brief(attempt.error.as_deref().unwrap_or_default(), 200)) }
                        }
                    }
                }
            } }
        }
    }
}

fn log(run: &str, view: Option<&RunView>, lines: &[LogLineView], more: bool, ended: bool) -> Markup {
    let events = (!ended).then(|| format!("/api/v1{}/events", run_href(run)));
    let state = view.map_or("", |view| view.state.as_str());
    html! {
        h2 { "Log" @if more { small { "the last " (LINES) " lines; " a href={ "/api/v1" (run_href(run)) "/logs" } { "all of it" } } } }
        div .log tabindex="0" role="log" aria-label="What its attempts said" data-events=[events] data-state=(state) {
            @for line in lines {
                div .err[line.from.as_deref() == Some("stderr")] {
                    time datetime=(line.at) { (line.at.get(11..19).unwrap_or_default()) } (brief(&line.text, LINE_CHARS))
                }
            }
            @if lines.is_empty() { span .soft { @if ended { "It said nothing; logs are kept for seven days." } @else { "Nothing yet." } } }
        }
    }
}

fn text(whole: &str) -> Markup {
    let cut: String = whole.chars().take(TEXT_CHARS).collect();
    html! { pre { (cut) @if cut.len() < whole.len() { "…" } } }
}

fn payload(job: &JobView, view: Option<&RunView>) -> Markup {
    let spec = job.manifest.get("spec");
    let work = ["payload", "exec", "http"].iter().find_map(|kind| Some((*kind, spec?.get(*kind)?)));
    let newer = view.is_some_and(|view| view.revision != job.status.revision);
    html! {
        @if let Some((kind, work)) = work {
            h2 { "What it was given" small { (kind) @if newer { ", as revision " (job.status.revision) " has it: the run's own was older" } } }
            (text(&pretty(work)))
            p .soft { "A trigger may have given another payload." }
        }
    }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}
