//! Writing a job: its manifest as JSON, judged as one types (and without a script when one saves), against the revision that was read.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Form, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect};
use maud::{Markup, html};
use planner::api::types::{ApplyAction, ApplyReply, ApplyRequest, JobRequest, JobView};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Page;
use super::frame::{Frame, Place};
use super::parts::wrong;
use crate::access::Caller;
use crate::problem::Problem;
use crate::rest::input::{Named, Place as At, full};
use crate::server::Shared;

pub(super) async fn new(Extension(caller): Extension<Caller>) -> Page {
    let manifest = json!({
        "apiVersion": "ecron/v1", "kind": "Job", "metadata": {"name": "new-job", "namespace": "default"},
        "spec": {"schedule": {"cron": "30 2 * * *", "timeZone": "UTC"}, "queue": "default", "payload": {}},
    });
    let text = serde_json::to_string_pretty(&manifest).unwrap_or_default();
    let body = form("New job", "/jobs/default/new-job/edit", &text, 0, None);
    Ok(Frame::new(Place::Jobs, "New job", &caller).page(&body))
}

pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    At(name): Named,
) -> Page {
    let view: JobView = shared.desk.ask("get", &JobRequest { job: full(&name) }).await?;
    let text = serde_json::to_string_pretty(&view.manifest).unwrap_or_default();
    let title = format!("Edit {}", view.job);
    let body = form(&title, &format!("/jobs/{}/edit", view.job), &text, view.status.revision, None);
    Ok(Frame::new(Place::Jobs, &title, &caller).page(&body))
}

#[derive(Debug, Deserialize)]
pub(super) struct Written {
    manifest: String,
    /// The revision that was read; 0: there was none.
    expected: u64,
}

pub(super) async fn save(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    At(name): Named,
    Form(written): Form<Written>,
) -> Page {
    let Written { manifest: text, expected } = written;
    let again = |problem: Problem| {
        let status = problem.status();
        let title = if expected == 0 { "New job".to_owned() } else { format!("Edit {}", full(&name)) };
        let body = form(&title, &format!("/jobs/{}/edit", full(&name)), &text, expected, Some(&problem));
        Ok((status, Frame::new(Place::Jobs, &title, &caller).page(&body)).into_response())
    };
    let manifest: Value = match serde_json::from_str(&text) {
        Ok(manifest) => manifest,
        Err(problem) => return again(Problem::malformed(format!("read the manifest as JSON: {problem}"))),
    };
    let request = ApplyRequest {
        manifests: vec![manifest],
        dry_run: false,
        by: caller.by.clone(),
        expected: Some(expected),
    };
    let reply: ApplyReply = match shared.desk.ask("apply", &request).await {
        Ok(reply) => reply,
        Err(problem) => return again(problem),
    };
    match reply.jobs.first() {
        Some(applied) if applied.error.is_none() => {
            let said = if applied.action == ApplyAction::Unchanged { "unchanged" } else { "saved" };
            Ok(Redirect::to(&format!("/jobs/{}?said={said}", applied.job)).into_response())
        }
        Some(applied) => match applied.error.clone() {
            Some(error) => again(error.into()),
            None => again(Problem::malformed("read the answer")),
        },
        None => again(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "refused",
            "the input is wrong",
            "declare a job: the manifest is of another kind",
        )),
    }
}

fn form(title: &str, action: &str, text: &str, expected: u64, problem: Option<&Problem>) -> Markup {
    html! {
        h1 { (title) }
        p .lead { "A manifest, as JSON. It is judged while you type; nothing is changed until you save." }
        div #verdict aria-live="polite" {}
        @if let Some(problem) = problem { (wrong(problem)) }
        form method="post" action=(action) {
            input type="hidden" name="expected" value=(expected);
            label for="manifest" { "Manifest" }
            // The parser drops a line break right behind the tag: one of our own saves the user's.
            textarea #manifest .tall name="manifest" spellcheck="false" data-verdict="#verdict" { "\n" (text) }
            div .acts { button .main { "Save" } a .button href="/jobs" { "Leave it" } }
        }
        @if expected > 0 { p .soft { "Against revision " (expected) ": if somebody saves another one first, yours is refused." } }
    }
}
