//! Runs as they end, a line each: due time, job, outcome, lateness.

use std::collections::BTreeMap;
use std::time::Duration;

use ambient::{Clock, Shutdown};
use bus::EventReader;
use bus::events::{AttemptReport, Event};
use bus::nats::NatsBus;
use futures_util::StreamExt;
use model::id::RunId;
use model::run::RunState;
use model::stats::FirstStart;

use crate::commands::describe::milliseconds;
use crate::failure::Failure;
use crate::output::{self, brief};

/// The wait before the events are subscribed to again.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Characters of a note.
const NOTE_CHARS_MAX: usize = 60;
/// Runs whose first start is kept in mind while they wait for another attempt.
const BEGUN_MAX: usize = 10_000;

pub(super) async fn print_runs(bus: &NatsBus, clock: &Clock, shutdown: &Shutdown) -> Result<(), Failure> {
    output::line(format_args!(
        "{:<24}  {:<36}  {:<13}  {:>9}  {:>8}  NOTE",
        "DUE", "JOB", "OUTCOME", "LATE", "TOOK"
    ))?;
    let mut begun = Begun::default();
    while !shutdown.stopping() {
        match bus.watch_events().await {
            Ok(mut events) => {
                while let Some(event) = events.next().await {
                    if let Event::Attempt(report) = event {
                        let first = begun.hear(&report);
                        output::line(row(&report, first))?;
                    }
                }
            }
            Err(problem) => tracing::debug!(%problem, "no events to show"),
        }
        clock.sleep(RETRY_DELAY).await;
    }
    Ok(())
}

/// When the runs were started first that are tried again.
#[derive(Debug, Default)]
struct Begun(BTreeMap<RunId, FirstStart>);

impl Begun {
    /// When the run of a report was started first, as far as that was heard.
    fn hear(&mut self, report: &AttemptReport) -> FirstStart {
        let known = self.0.remove(&report.run_id);
        let first = FirstStart::after(known, report.generation, report.end.started_at);
        if report.ends_run.is_none() {
            self.0.insert(report.run_id.clone(), first);
            while self.0.len() > BEGUN_MAX {
                self.0.pop_first();
            }
        }
        first
    }
}

fn row(report: &AttemptReport, first: FirstStart) -> String {
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
    let late = format!("{:+} ms", first.at.ms_since(report.due_at));
    let took = milliseconds(end.ended_at.ms_since(first.again_at).max(0));
    let note = end.error.as_deref().or(report.output.as_deref()).unwrap_or_default();
    let attempt = if end.attempt > 1 { format!("attempt {}; ", end.attempt) } else { String::new() };
    let note = format!("{attempt}{}", brief(note, NOTE_CHARS_MAX));
    let due = report.due_at.to_string();
    format!("{due:<24}  {job:<36}  {outcome:<13}  {late:>9}  {took:>8}  {note}").trim_end().to_owned()
}
