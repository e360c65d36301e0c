//! What buttons do: each asks a planner, and sends one on to a page that shows it.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Form, State};
use axum::response::{IntoResponse, Redirect};
use planner::api::types::{
    AppliedObject, ApplyReply, BackfillReply, BackfillRequest, CancelBackfillRequest, CancelReply,
    CancelRequest, PauseQueueReply, PauseRequest, QueueRequest, TriggerReply, TriggerRequest,
};
use serde::Deserialize;

use super::Page;
use super::words::run_href;
use crate::access::Caller;
use crate::problem::Problem;
use crate::rest::input::{Named, Place as At, full};
use crate::server::Shared;

type Asked = (State<Arc<Shared>>, Extension<Caller>, Named);

#[derive(Debug, Default, Deserialize)]
pub(super) struct TriggerForm {
    payload: Option<String>,
    key: Option<String>,
}

pub(super) async fn trigger(
    (State(shared), Extension(caller), At(name)): Asked,
    Form(TriggerForm { payload, key }): Form<TriggerForm>,
) -> Page {
    let given = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
    let payload = given(payload).map(|text| serde_json::from_str(&text)).transpose();
    let payload =
        payload.map_err(|problem| Problem::malformed(format!("read the payload as JSON: {problem}")))?;
    let request = TriggerRequest { job: full(&name), payload, key: given(key), by: caller.by };
    let reply: TriggerReply = shared.desk.ask("trigger", &request).await?;
    let said = if reply.duplicate { "duplicate" } else { "triggered" };
    Ok(Redirect::to(&format!("{}?said={said}", run_href(&reply.run))).into_response())
}

pub(super) async fn pause(asked: Asked) -> Page {
    turn(asked, "pause", "paused").await
}

pub(super) async fn resume(asked: Asked) -> Page {
    turn(asked, "resume", "resumed").await
}

async fn turn((State(shared), Extension(caller), At(name)): Asked, verb: &str, said: &str) -> Page {
    let job = full(&name);
    let request = PauseRequest { job: Some(job.clone()), by: caller.by, ..PauseRequest::default() };
    let _done: ApplyReply = shared.desk.ask(verb, &request).await?;
    Ok(Redirect::to(&format!("/jobs/{job}?said={said}")).into_response())
}

#[derive(Debug, Deserialize)]
pub(super) struct BackfillForm {
    from: String,
    to: String,
    max_active: Option<u32>,
}

pub(super) async fn backfill(
    (State(shared), Extension(caller), At(name)): Asked,
    Form(form): Form<BackfillForm>,
) -> Page {
    let BackfillForm { from, to, max_active } = form;
    let request = BackfillRequest {
        job: full(&name),
        from,
        to,
        max_active,
        by: caller.by,
        ..BackfillRequest::default()
    };
    let _begun: BackfillReply = shared.desk.ask("backfill", &request).await?;
    Ok(Redirect::to("/backfills").into_response())
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct CancelForm {
    reason: Option<String>,
}

pub(super) async fn cancel(
    (State(shared), Extension(caller), At(name)): Asked,
    Form(form): Form<CancelForm>,
) -> Page {
    let reason = form.reason.filter(|reason| !reason.trim().is_empty());
    let request = CancelRequest { run: full(&name), reason, by: caller.by };
    let reply: CancelReply = shared.desk.ask("cancel", &request).await?;
    let said = if reply.state == "cancelled" { "cancelled" } else { "cancelling" };
    Ok(Redirect::to(&format!("{}?said={said}", run_href(&reply.run))).into_response())
}

pub(super) async fn pause_queue(asked: Asked) -> Page {
    turn_queue(asked, "pause-queue").await
}

pub(super) async fn resume_queue(asked: Asked) -> Page {
    turn_queue(asked, "resume-queue").await
}

async fn turn_queue((State(shared), Extension(caller), At(name)): Asked, verb: &str) -> Page {
    let request = QueueRequest { queue: full(&name), by: caller.by };
    let _done: PauseQueueReply = shared.desk.ask(verb, &request).await?;
    Ok(Redirect::to("/queues").into_response())
}

pub(super) async fn pause_backfill(asked: Asked) -> Page {
    turn_backfill(asked, "pause").await
}

pub(super) async fn resume_backfill(asked: Asked) -> Page {
    turn_backfill(asked, "resume").await
}

async fn turn_backfill((State(shared), Extension(caller), At(name)): Asked, verb: &str) -> Page {
    let request = PauseRequest { backfill: Some(full(&name)), by: caller.by, ..PauseRequest::default() };
    let _done: ApplyReply = shared.desk.ask(verb, &request).await?;
    Ok(Redirect::to("/backfills").into_response())
}

pub(super) async fn cancel_backfill((State(shared), Extension(caller), At(name)): Asked) -> Page {
    let request = CancelBackfillRequest { backfill: full(&name), by: caller.by };
    let _done: AppliedObject = shared.desk.ask("cancel-backfill", &request).await?;
    Ok(Redirect::to("/backfills").into_response())
}
