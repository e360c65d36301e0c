//! Backfills and how far they have come.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use maud::{Markup, html};
use model::time::Timestamp;
use planner::api::types::{BackfillView, BackfillsReply, BackfillsRequest};

use super::Page;
use super::frame::{Frame, Place};
use super::parts::empty;
use super::words::{brief, count, when_text};
use crate::access::Caller;
use crate::server::Shared;

const REFRESH_S: u32 = 3;
/// Backfills that are shown, the newest first.
const SHOWN: usize = 60;

pub(super) async fn show(State(shared): State<Arc<Shared>>, Extension(caller): Extension<Caller>) -> Page {
    let reply: BackfillsReply = shared.desk.ask("backfills", &BackfillsRequest::default()).await?;
    let now = shared.clock.now();
    let mut backfills = reply.backfills;
    backfills.sort_by(|a, b| b.created_at.cmp(&a.created_at));
    let body = html! {
        h1 { "Backfills" }
        p .lead { "Occurrences of a time that has passed, run a few at a time." }
        @if backfills.is_empty() {
            (empty("There are none.", &html! { "Begin one on a job's page, or with " code { "ecron backfill JOB --from T --to T" } "." }))
        } @else {
            div .wide { table {
                thead { tr { th { "Backfill" } th { "Job" } th { "Range" } th { "Phase" } th { "Progress" } th .num { "Failed" } th { "Begun" } th {} } }
                tbody { @for backfill in backfills.iter().take(SHOWN) { (row(now, backfill, &caller)) } }
            } }
            @if backfills.len() > SHOWN { p .soft { "and " (backfills.len() - SHOWN) " older ones: " a href="/api/v1/backfills" { "all" } } }
        }
    };
    Ok(Frame::new(Place::Backfills, "Backfills", &caller).refreshed(REFRESH_S).page(&body))
}

fn row(now: Timestamp, view: &BackfillView, caller: &Caller) -> Markup {
    let done = view.succeeded + view.failed + view.skipped + view.already_ran;
    let base = format!("/backfills/{}", view.backfill);
    html! {
        tr {
            td { (view.backfill) }
            td { a href={ "/jobs/" (view.job) } { (view.job) } }
            td .soft { (view.from) " to " (view.to) @if view.reverse { ", newest first" } }
            td { (view.phase) }
            td { progress max=(view.total.max(1)) value=(done) aria-label={ "Progress of " (view.backfill) } {} " " (count(done.into())) " of " (count(view.total.into())) @if view.active > 0 { span .soft { ", " (view.active) " under way" } } }
            td .num .bad[view.failed > 0] { (view.failed) }
            td { (when_text(now, &view.created_at)) @if let Some(by) = &view.by { span .soft { " by " (brief(by, 40)) } } }
            td .num {
                @if caller.may_write() {
                    @if view.phase == "running" { form .inline method="post" action={ (base) "/pause" } { button { "Pause" } } }
                    @if view.phase == "paused" { form .inline method="post" action={ (base) "/resume" } { button .main { "Resume" } } }
                    @if matches!(view.phase.as_str(), "running" | "paused") {
                        " " form .inline method="post" action={ (base) "/cancel" } data-sure="Cancel this backfill?" { button .danger { "Cancel" } }
                    }
                }
            }
        }
    }
}
