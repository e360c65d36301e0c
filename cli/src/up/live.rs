//! Runs as they end, a line each: due time, job, outcome, lateness.

use std::time::Duration;

use ambient::{Clock, Shutdown};
use bus::EventReader;
use bus::events::{AttemptReport, Event};
use bus::nats::NatsBus;
use futures_util::StreamExt;
use model::id::RunId;
use model::run::RunState;

use crate::commands::describe::milliseconds;
use crate::failure::Failure;
use crate::output::{self, brief};

/// The wait before the events are subscribed to again.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Characters of a note.
const NOTE_CHARS_MAX: usize = 60;

pub(super) async fn print_runs(bus: &NatsBus, clock: &Clock, shutdown: &Shutdown) -> Result<(), Failure> {
    output::line(format_args!(
        "{:<24}  {:<36}  {:<13}  {:>9}  {:>8}  NOTE",
        "DUE", "JOB", "OUTCOME", "LATE", "TOOK"
    ))?;
    while !shutdown.stopping() {
        match bus.watch_events().await {
            Ok(mut events) => {
                while let Some(event) = events.next().await {
                    if let Event::Attempt(report) = event {
                        output::line(row(&report))?;
                    }
                }
            }
            Err(problem) => tracing::debug!(%problem, "no events to show"),
        }
        clock.sleep(RETRY_DELAY).await;
    }
    Ok(())
}

fn row(report: &AttemptReport) -> String {
    let job = match &report.run_id {
        RunId::Occurrence(occurrence) => occurrence.job.to_string(),
        RunId::AdHoc { queue, key } => format!("{queue}~{}", key.as_str()),
    };
    let outcome = match report.ends_run {
        Some(RunState::Succeeded) => "succeeded",
        Some(RunState::DeadLettered) => "dead-lettered",
        Some(RunState::Cancelled) => "cancelled",
        Some(RunState::Skipped) => "skipped",
        Some(RunState::Waiting | RunState::Dispatched) | None => "retrying",
    };
    let end = &report.end;
    let late = format!("{:+} ms", end.started_at.ms_since(report.due_at));
    let took = milliseconds(end.ended_at.ms_since(end.started_at).max(0));
    let note = end.error.as_deref().or(report.output.as_deref()).unwrap_or_default();
    let attempt = if end.attempt > 1 { format!("attempt {}; ", end.attempt) } else { String::new() };
    let note = format!("{attempt}{}", brief(note, NOTE_CHARS_MAX));
    let due = report.due_at.to_string();
    format!("{due:<24}  {job:<36}  {outcome:<13}  {late:>9}  {took:>8}  {note}").trim_end().to_owned()
}
