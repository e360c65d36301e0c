//! What pages are made of: states, strips of outcomes, figures, empty places, pages of a list.

use maud::{Markup, html};
use model::time::Timestamp;
use planner::api::types::{JobStatus, RunMark, RunView};

use super::words::{between, brief, duration, run_href, when_text};
use crate::problem::Problem;

/// A run's state: a sign, a word, a tone.
pub(super) fn state(word: &str) -> Markup {
    let known = ["waiting", "dispatched", "succeeded", "dead-lettered", "cancelled", "skipped"];
    let class = known.iter().find(|known| **known == word).copied().unwrap_or("waiting");
    html! { span class={ "state s-" (class) } { (word.replace('-', " ")) } }
}

/// How a job stands.
pub(super) fn job_state(status: &JobStatus) -> Markup {
    match (&status.condition, status.suspended) {
        (Some(why), _) => html! { span .state .s-invalid title=(brief(why, 300)) { "invalid" } },
        (None, true) if status.namespace_paused => {
            html! { span .state .s-paused { "paused with its namespace" } }
        }
        (None, true) => html! { span .state .s-paused { "paused" } },
        (None, false) => html! { span .state .s-active { "active" } },
    }
}

/// The newest outcomes as signs, the newest last.
pub(super) fn strip(marks: &[RunMark]) -> Markup {
    let sign = |state: &str| match state {
        "succeeded" => ("", "●"),
        "dead-lettered" => ("x", "✕"),
        "cancelled" => ("o", "⊘"),
        "skipped" => ("o", "→"),
        "dispatched" => ("w", "◐"),
        _ => ("o", "○"),
    };
    let mut groups: Vec<(&str, String)> = Vec::new();
    for mark in marks.iter().rev() {
        let (class, sign) = sign(&mark.state);
        match groups.last_mut() {
            Some((last, signs)) if *last == class => signs.push_str(sign),
            _ => groups.push((class, sign.to_owned())),
        }
    }
    let failed = marks.iter().filter(|mark| mark.state == "dead-lettered").count();
    let said = format!("the last {} runs, {failed} of them dead-lettered", marks.len());
    html! {
        @if marks.is_empty() {
            span .soft { "no runs yet" }
        } @else {
            span .strip role="img" aria-label=(said) title=(said) {
                @for (class, signs) in groups { @if class.is_empty() { (signs) } @else { i class=(class) { (signs) } } }
            }
        }
    }
}

/// A figure: what it is, how much, and what that means.
pub(super) fn figure(name: &str, number: &str, note: &str, bad: bool) -> Markup {
    html! { div { dt { (name) } dd .bad[bad] { (number) small { (note) } } } }
}

/// A place where nothing is: says what to do about it.
pub(super) fn empty(what: &str, todo: &Markup) -> Markup {
    html! { div .empty { p { (what) } p { (todo) } } }
}

/// What went wrong, with every problem of the input.
pub(super) fn wrong(problem: &Problem) -> Markup {
    html! {
        div .wrong role="alert" {
            "failed to " (problem.detail)
            @if !problem.problems.is_empty() {
                ul { @for found in &problem.problems { li { code { (found.field) } " " (found.message) } } }
            }
        }
    }
}

/// The link to a list's next page.
pub(super) fn next_page(href: Option<String>) -> Markup {
    html! { @if let Some(href) = href { nav .pages aria-label="More" { a .button rel="next" href=(href) { "Next page" } } } }
}

/// Runs as rows, newest first.
pub(super) fn runs(now: Timestamp, runs: &[RunView]) -> Markup {
    html! {
        div .wide { table {
            thead { tr { th { "Due" } th { "State" } th .num { "Attempts" } th .num { "Late" } th .num { "Took" } th { "Note" } } }
            tbody {
                @for run in runs {
                    tr {
                        td { a href=(run_href(&run.run)) { (when_text(now, &run.due_at)) } }
                        td { (state(&run.state)) }
                        td .num { @if run.attempts > 0 { (run.attempts) } }
                        td .num { @if let Some(ms) = run.lateness_ms { (duration(ms)) } }
                        td .num { @if let Some(ms) = took(run) { (duration(ms)) } }
                        td .note { (brief(run.reason.as_deref().or(run.error.as_deref()).unwrap_or_default(), 120)) }
                    }
                }
            }
        } }
    }
}

/// How long a run took, with all its attempts, if it ended.
pub(super) fn took(run: &RunView) -> Option<i64> {
    let ms = between(run.started_at.as_deref(), run.ended_at.as_deref())?;
    (ms >= 0).then_some(ms)
}
