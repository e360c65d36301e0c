//! Queues: what is in them, who takes it, their limits, and pausing.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use maud::{Markup, html};
use model::time::Timestamp;
use planner::api::types::{QueueView, QueuesReply, QueuesRequest};
use serde::Deserialize;

use super::Page;
use super::frame::{Frame, Place};
use super::parts::{empty, next_page};
use super::words::{count, when_maybe};
use crate::access::Caller;
use crate::rest::input::Params;
use crate::server::Shared;

const REFRESH_S: u32 = 5;
/// Queues on a page.
const PAGE: usize = 100;

#[derive(Debug, Default, Deserialize)]
pub(super) struct Query {
    after: Option<String>,
}

pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Params(Query { after }): Params<Query>,
) -> Page {
    let reply: QueuesReply = shared.desk.ask("queues", &QueuesRequest { after, limit: Some(PAGE) }).await?;
    let now = shared.clock.now();
    let body = html! {
        h1 { "Queues" }
        p .lead { "Where runs wait for executors. A queue with limits has a gate before it." }
        @if reply.queues.is_empty() {
            (empty("No job uses a queue yet, and none is declared.", &html! { "A job's " code { "spec.queue" } " names one; " code { "kind: Queue" } " gives it limits." }))
        } @else {
            div .wide { table {
                thead { tr { th { "Queue" } th .num { "Depth" } th .num { "In hand" } th .num { "Executors waiting" } th { "Gate" } th { "Limits" } th .num { "Jobs" } th {} } }
                tbody { @for queue in &reply.queues { (row(now, queue, &caller)) } }
            } }
        }
        (next_page(reply.next.map(|next| format!("/queues?after={next}"))))
    };
    Ok(Frame::new(Place::Queues, "Queues", &caller).refreshed(REFRESH_S).page(&body))
}

fn row(now: Timestamp, queue: &QueueView, caller: &Caller) -> Markup {
    let stuck = queue.undelivered > 0 && queue.waiting_pulls == 0 && queue.in_hand == 0;
    html! {
        tr {
            td { (queue.queue) @if queue.paused { " " span .state .s-paused { "paused" } } }
            td .num { (count(queue.undelivered)) }
            td .num { (count(queue.in_hand)) }
            td .num .bad[stuck] { @if queue.has_consumer { (queue.waiting_pulls) @if stuck { " – nobody takes its work" } } @else { "no consumer yet" } }
            td { @if let Some(under_way) = queue.under_way { (under_way) " under way" @if queue.waiting > 0 { ", " (count(queue.waiting)) " wait, the oldest due " (when_maybe(now, queue.oldest_due_at.as_deref())) } } }
            td .note { (queue.limits) }
            td .num { (queue.jobs) }
            td .num {
                @if caller.may_write() {
                    @let act = if queue.paused { "resume" } else { "pause" };
                    form .inline method="post" action={ "/queues/" (queue.queue) "/" (act) } {
                        button .main[queue.paused] aria-label={ (act) " " (queue.queue) } { @if queue.paused { "Resume" } @else { "Pause" } }
                    }
                }
            }
        }
    }
}
