//! Watching: server-sent events of what happens, and of one run until its end.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use axum::routing::get;
use bus::EventReader;
use bus::events::Event;
use futures_util::StreamExt;
use model::id::RunId;
use model::name::QueueId;
use planner::api::types::{RunRequest, RunView};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;
use utoipa::IntoParams;

use super::Refusals;
use super::input::{Answer, Named, Params, Place, full};
use super::runs::{log_page, run_id};
use crate::problem::Problem;
use crate::server::Shared;

/// Watchers at once.
pub(crate) const WATCHERS_MAX: usize = 256;
/// Events that a slow reader may be behind.
const BEHIND_MAX: usize = 64;
/// How long one connection lasts; browsers come again by themselves.
const WATCH_MAX: Duration = Duration::from_secs(15 * 60);
/// How often a run and its log are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new().route("/events", get(events)).route("/runs/{namespace}/{rest}/events", get(run_events))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct EventsQuery {
    namespace: Option<String>,
    /// `billing/nightly-report`.
    job: Option<String>,
}

/// What happens, as it happens: `attempt`, `progress` and `audit` events with JSON. No history; a slow reader misses some.
#[utoipa::path(get, path = "/api/v1/events", tag = "watching", params(EventsQuery), responses((status = 200, content_type = "text/event-stream", body = String), Refusals))]
pub(super) async fn events(State(shared): State<Arc<Shared>>, Params(query): Params<EventsQuery>) -> Answer {
    let (mut sender, response) = channel(&shared)?;
    let mut events = shared.desk.bus().watch_events().await?;
    tokio::spawn(async move {
        let said = async {
            while let Some(event) = events.next().await {
                if let Some(sent) = told(&event, &query)
                    && !sender.say(sent).await
                {
                    return;
                }
            }
        };
        until_over(&shared, said).await;
    });
    Ok(response)
}

/// One run: `run` with its state whenever it changes, `log` for each line, `end` once it has ended and everything was said.
#[utoipa::path(get, path = "/api/v1/runs/{namespace}/{rest}/events", tag = "watching", params(("namespace" = String, Path), ("rest" = String, Path)),
    responses((status = 200, content_type = "text/event-stream", body = String), Refusals))]
pub(super) async fn run_events(State(shared): State<Arc<Shared>>, Place(name): Named) -> Answer {
    let run = full(&name);
    let run_id = run_id(&run)?;
    let (mut sender, response) = channel(&shared)?;
    tokio::spawn(async move {
        until_over(&shared, follow(&shared, &run, &run_id, &mut sender)).await;
    });
    Ok(response)
}

async fn follow(shared: &Shared, run: &str, run_id: &RunId, sender: &mut Sender) {
    let mut known: Option<RunView> = None;
    let mut from = 0;
    loop {
        // Before its log is read: what an attempt says is stored before its end is.
        let view: Option<RunView> = shared.desk.ask("run", &RunRequest { run: run.to_owned() }).await.ok();
        let ended = view.as_ref().is_some_and(|view| view.ended_at.is_some());
        let Ok(batches) = batches(shared, run_id, &mut from).await else { return };
        for line in batches {
            if !sender.say(("log", json!(line))).await {
                return;
            }
        }
        if let Some(view) = view.filter(|view| known.as_ref() != Some(view)) {
            if !sender.say(("run", json!(view))).await {
                return;
            }
            known = Some(view);
        }
        if ended {
            sender.say(("end", json!({}))).await;
            return;
        }
        shared.clock.sleep(LOOK_INTERVAL).await;
    }
}

/// Every line that wasn't read yet.
async fn batches(shared: &Shared, run: &RunId, from: &mut u64) -> Result<Vec<super::LogLineView>, Problem> {
    let mut lines = Vec::new();
    loop {
        let page = log_page(shared, run, *from).await?;
        *from = page.after.max(*from);
        lines.extend(page.lines);
        if page.next.is_none() {
            return Ok(lines);
        }
    }
}

async fn until_over(shared: &Shared, said: impl Future<Output = ()>) {
    tokio::select! {
        biased;
        () = shared.shutdown.stopped() => {}
        () = shared.clock.sleep(WATCH_MAX) => {}
        () = said => {}
    }
}

struct Sender {
    into: mpsc::Sender<Sent>,
    _seat: tokio::sync::OwnedSemaphorePermit,
}

impl Sender {
    /// `false`: nobody listens any more.
    async fn say(&mut self, (name, value): (&'static str, serde_json::Value)) -> bool {
        // JSON has no line breaks, so that it is one `data` line.
        self.into.send(Sent::default().event(name).data(value.to_string())).await.is_ok()
    }
}

fn channel(shared: &Shared) -> Result<(Sender, axum::response::Response), Problem> {
    let seat = Arc::clone(&shared.watchers).try_acquire_owned();
    let seat = seat.map_err(|_| Problem::busy("watch: there are too many watchers (WATCHERS_MAX)"))?;
    let (into, from) = mpsc::channel::<Sent>(BEHIND_MAX);
    let stream = futures_util::stream::unfold(from, |mut from| async move {
        let sent = from.recv().await?;
        Some((Ok::<_, Infallible>(sent), from))
    });
    Ok((Sender { into, _seat: seat }, Sse::new(stream).keep_alive(KeepAlive::default()).into_response()))
}

fn told(event: &Event, query: &EventsQuery) -> Option<(&'static str, serde_json::Value)> {
    let is_meant = |run: &RunId, queue: &QueueId| {
        let (namespace, job) = match run {
            RunId::Occurrence(occurrence) => (&occurrence.job.namespace, Some(occurrence.job.to_string())),
            RunId::AdHoc { .. } => (&queue.namespace, None),
        };
        query.namespace.as_ref().is_none_or(|wanted| namespace.as_str() == wanted)
            && query.job.as_ref().is_none_or(|wanted| job.as_ref() == Some(wanted))
    };
    match event {
        Event::Attempt(report) if is_meant(&report.run_id, &report.queue) => {
            let end = &report.end;
            Some((
                "attempt",
                json!({
                    "run": report.run_id.to_string(), "queue": report.queue.to_string(), "attempt": end.attempt,
                    "generation": report.generation.0, "outcome": end.outcome.as_str(), "error": end.error,
                    "startedAt": end.started_at.to_string(), "endedAt": end.ended_at.to_string(),
                    "dueAt": report.due_at.to_string(), "endsRun": report.ends_run.map(|state| state.as_str()),
                    "executor": report.executor,
                }),
            ))
        }
        Event::Progress(note) if is_meant(&note.run_id, &note.queue) => Some((
            "progress",
            json!({
                "run": note.run_id.to_string(), "attempt": note.progress.attempt, "at": note.progress.at.to_string(),
                "fraction": note.progress.fraction, "message": note.progress.message,
            }),
        )),
        Event::Audit(record) if query.namespace.is_none() && query.job.is_none() => Some((
            "audit",
            json!({
                "at": record.at.to_string(), "by": record.by, "action": record.action, "target": record.target,
            }),
        )),
        Event::Attempt(_)
        | Event::Progress(_)
        | Event::Audit(_)
        | Event::Terminated { .. }
        | Event::Undecodable { .. } => None,
    }
}
