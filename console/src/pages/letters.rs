//! Dead letters: filtering, one in full, and redriving or purging what the filters pick, after a look at it.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Form, State};
use bus::DeadLetters;
use bus::dead::DeadReason;
use maud::{Markup, html};
use model::time::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use planner::api::types::{LettersReply, LettersRequest};

use super::Page;
use super::frame::{Frame, Place};
use super::parts::{empty, next_page};
use super::words::{brief, count, run_href, when_text};
use crate::access::Caller;
use crate::letters::{LetterPick, page};
use crate::problem::Problem;
use crate::rest::input::{Params, Place as At};
use crate::rest::letters::{Filters, LetterView, LettersPreview, previewed, view};
use crate::server::Shared;

/// Letters on a page.
const PAGE: usize = 50;
/// Characters of a payload.
const PAYLOAD_CHARS: usize = 20_000;
/// Failures of a redrive that are spelled out.
const FAILURES: usize = 10;

pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Params(filters): Params<Filters>,
) -> Page {
    let pick = filters.pick(&shared)?;
    let bus = shared.desk.bus();
    let (letters, next) =
        page(&**bus, &pick, filters.from.unwrap_or(0), PAGE).await.map_err(Problem::from)?;
    let now = shared.clock.now();
    let letters: Vec<LetterView> = letters.iter().map(|stored| view(stored, false)).collect();
    let body = html! {
        h1 { "Dead letters" }
        p .lead { "Runs that nobody will retry, kept until somebody redrives or purges them." }
        (form(&filters))
        @if letters.is_empty() && pick.is_narrow() {
            (empty("None is like that.", &html! { a href="/letters" { "Show all dead letters" } }))
        } @else if letters.is_empty() {
            (empty("There are none: every run that was given up has been dealt with.", &html! { "A run ends here when its last attempt fails." }))
        } @else {
            @if caller.may_write() {
                div .acts {
                    a .button href={ "/letters/confirm?act=redrive&" (fields(&filters)) } { "Redrive " (what(&pick)) "…" }
                    a .button href={ "/letters/confirm?act=purge&" (fields(&filters)) } { "Purge " (what(&pick)) "…" }
                }
            }
            (table(now, &letters))
        }
        (next_page(next.map(|next| format!("/letters?{}&from={next}", fields(&filters)))))
    };
    Ok(Frame::new(Place::Letters, "Dead letters", &caller).page(&body))
}

fn what(pick: &LetterPick) -> &'static str {
    if pick.is_narrow() { "these" } else { "all" }
}

fn named(filters: &Filters) -> [(&'static str, &'static str, Option<&String>); 7] {
    [
        ("job", "Job", filters.job.as_ref()),
        ("queue", "Queue", filters.queue.as_ref()),
        ("namespace", "Namespace", filters.namespace.as_ref()),
        ("error", "Error", filters.error.as_ref()),
        ("reason", "Reason", filters.reason.as_ref()),
        ("olderThan", "Older than", filters.older_than.as_ref()),
        ("newerThan", "Newer than", filters.newer_than.as_ref()),
    ]
}

fn fields(filters: &Filters) -> String {
    let given = named(filters)
        .into_iter()
        .filter_map(|(name, _, value)| Some((name, value.filter(|value| !value.is_empty())?)));
    given
        .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)))
        .collect::<Vec<_>>()
        .join("&")
}

fn form(filters: &Filters) -> Markup {
    html! {
        form .filters method="get" action="/letters" role="search" {
            @for (name, label, value) in named(filters) {
                div {
                    label for=(name) { (label) }
                    @if name == "reason" {
                        select id=(name) name=(name) {
                            option value="" { "any" }
                            @for reason in DeadReason::ALL { option value=(reason.as_str()) selected[value.map(String::as_str) == Some(reason.as_str())] { (reason.as_str().replace('-', " ")) } }
                        }
                    } @else {
                        input id=(name) name=(name) value=(value.map(String::as_str).unwrap_or_default()) placeholder=(match name { "error" => "text, or /regex/", "olderThan" | "newerThan" => "2h", _ => "" });
                    }
                }
            }
            button .main { "Filter" }
        }
    }
}

fn table(now: Timestamp, letters: &[LetterView]) -> Markup {
    html! {
        div .wide { table {
            thead { tr { th .num { "Number" } th { "Run" } th { "Died" } th { "Reason" } th .num { "Attempts" } th { "Last error" } } }
            tbody {
                @for letter in letters {
                    tr {
                        td .num { a href={ "/letters/" (letter.number) } { (letter.number) } }
                        td { (brief(&letter.run, 90)) }
                        td { (when_text(now, &letter.died_at)) }
                        td { (letter.reason.replace('-', " ")) }
                        td .num { (letter.attempts) }
                        td .note { (brief(&letter.error, 140)) }
                    }
                }
            }
        } }
    }
}

pub(super) async fn one(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    At(number): At<u64>,
) -> Page {
    let stored = shared.desk.bus().letter(number).await.map_err(Problem::from)?;
    let stored = stored
        .ok_or_else(|| Problem::not_found(&format!("dead letter {number}: it was redriven or purged")))?;
    let letter = view(&stored, true);
    let now = shared.clock.now();
    let payload = serde_json::to_string_pretty(&letter.payload).unwrap_or_default();
    let cut: String = payload.chars().take(PAYLOAD_CHARS).collect();
    let is_run = stored.letter.id.parse::<model::id::RunId>().is_ok();
    let body = html! {
        p .crumbs { a href="/letters" { "Dead letters" } }
        h1 { "Dead letter " (number) }
        dl .facts {
            dt { "Run" } dd { @if is_run { a href=(run_href(&letter.run)) { (letter.run) } } @else { (letter.run) } }
            dt { "Died" } dd { (when_text(now, &letter.died_at)) }
            dt { "Reason" } dd { (letter.reason.replace('-', " ")) }
            dt { "Attempts" } dd { (letter.attempts) }
            dt { "Came on" } dd .mono { (letter.subject) }
        }
        @if caller.may_write() {
            div .acts {
                @for (act, name) in [("redrive", "Redrive"), ("purge", "Purge")] {
                    form .inline method="post" action={ "/letters/" (act) } data-sure={ (name) " this letter?" } {
                        input type="hidden" name="number" value=(number);
                        button .main[act == "redrive"] .danger[act == "purge"] { (name) }
                    }
                }
            }
        }
        h2 { "Last error" }
        pre { (letter.error) }
        h2 { "Payload" }
        pre { (cut) @if cut.len() < payload.len() { "…" } }
        h2 { "Headers" }
        dl .facts .mono { @for (name, value) in letter.headers.iter().flatten() { dt { (name) } dd { (brief(value, 400)) } } }
    };
    Ok(Frame::new(Place::Letters, &format!("Dead letter {number}"), &caller).page(&body))
}

#[derive(Debug, Default, serde::Deserialize)]
pub(super) struct Asked {
    act: Option<String>,
    number: Option<u64>,
    job: Option<String>,
    queue: Option<String>,
    namespace: Option<String>,
    error: Option<String>,
    reason: Option<String>,
    #[serde(rename = "olderThan")]
    older_than: Option<String>,
    #[serde(rename = "newerThan")]
    newer_than: Option<String>,
}

impl Asked {
    fn filters(&self) -> Filters {
        Filters {
            job: self.job.clone(),
            queue: self.queue.clone(),
            namespace: self.namespace.clone(),
            error: self.error.clone(),
            reason: self.reason.clone(),
            older_than: self.older_than.clone(),
            newer_than: self.newer_than.clone(),
            from: None,
            limit: None,
        }
    }
}

/// What a redrive or purge would do, before it is done.
pub(super) async fn confirm(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Params(asked): Params<Asked>,
) -> Page {
    let filters = asked.filters();
    let preview = previewed(&shared, &filters.pick(&shared)?).await?;
    let (act, name) =
        if asked.act.as_deref() == Some("purge") { ("purge", "Purge") } else { ("redrive", "Redrive") };
    let at_once = preview.letters.len();
    let body = html! {
        p .crumbs { a href="/letters" { "Dead letters" } }
        h1 { (name) " " (count(preview.count as u64)) " dead letters" }
        p .lead { (preview.filters) }
        (groups(&preview))
        @if caller.may_write() && at_once > 0 {
            form method="post" action={ "/letters/" (act) } {
                @for (name, _, value) in named(&filters) { @if let Some(value) = value { input type="hidden" name=(name) value=(value); } }
                div .acts {
                    button .main[act == "redrive"] .danger[act == "purge"] { (name) " " (count(at_once as u64)) " of them" }
                    a .button href="/letters" { "Leave them" }
                }
            }
            p .soft { @if act == "redrive" { "Each is sent to its queue again, as its run's next generation. Doing it twice sends nothing twice." } @else { "They are removed for good." }
                @if preview.count > at_once { " At most 1,000 at a time: come again for the others." } }
        }
    };
    Ok(Frame::new(Place::Letters, name, &caller).page(&body))
}

fn groups(preview: &LettersPreview) -> Markup {
    html! {
        div .wide { table {
            thead { tr { th .num { "Letters" } th { "Job" } th { "Last error" } } }
            tbody { @for group in &preview.groups { tr { td .num { (count(group.count as u64)) } td { (brief(&group.job, 90)) } td .note { (group.error) } } } }
        } }
        @if preview.groups_more > 0 { p .soft { "and " (preview.groups_more) " more groups" } }
    }
}

pub(super) async fn redrive(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Form(asked): Form<Asked>,
) -> Page {
    deed(&shared, &caller, &asked, "redrive", "redriven").await
}

pub(super) async fn purge(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Form(asked): Form<Asked>,
) -> Page {
    deed(&shared, &caller, &asked, "purge", "purged").await
}

async fn deed(shared: &Shared, caller: &Caller, asked: &Asked, verb: &str, done: &str) -> Page {
    let (letters, target) = match asked.number {
        Some(number) => (vec![number], None),
        None => {
            let preview = previewed(shared, &asked.filters().pick(shared)?).await?;
            (preview.letters, Some(preview.filters))
        }
    };
    let request = LettersRequest { letters, target, by: caller.by.clone(), operation: None };
    let reply: LettersReply = shared.desk.ask(verb, &request).await?;
    let failures: Vec<_> =
        reply.letters.iter().filter_map(|letter| Some((letter.letter, letter.error.as_ref()?))).collect();
    let body = html! {
        p .crumbs { a href="/letters" { "Dead letters" } }
        h1 { (count((reply.letters.len() - failures.len()) as u64)) " " (done) }
        @if let [letter] = reply.letters.as_slice() { @if let Some(run) = &letter.run { p { "Its run: " a href=(run_href(run)) { (run) } } } }
        @if !failures.is_empty() {
            div .wrong { (failures.len()) " weren't:" ul { @for (letter, error) in failures.iter().take(FAILURES) { li { (letter) ": failed to " (error.message) } } } }
        }
        p { a href="/letters" { "Dead letters" } }
    };
    Ok(Frame::new(Place::Letters, done, caller).page(&body))
}
