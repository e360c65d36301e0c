//! The last hour as the event stream told it: ends and lateness minute by minute, and the latest failures. Begins empty with each
//! console; nothing depends on it.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ambient::{Clock, Shutdown};
use bus::EventReader;
use bus::events::{AttemptReport, Event};
use futures_util::StreamExt;
use model::run::RunState;
use model::stats::{Histogram, lateness};
use model::time::{MINUTE_MS, Timestamp};

/// Minutes that are remembered.
pub(crate) const MINUTES: usize = 60;
/// Failures that are remembered.
const FAILURES_MAX: usize = 20;
/// The wait before the events are subscribed to again.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// What ended in one minute.
#[derive(Clone, Debug, Default)]
pub(crate) struct Minute {
    pub(crate) at: i64,
    pub(crate) succeeded: u32,
    pub(crate) failed: u32,
    /// Cancelled or skipped.
    pub(crate) other: u32,
    /// From due to the first attempt's start.
    pub(crate) late: Histogram,
}

/// A run that was given up.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) run: String,
    pub(crate) at: Timestamp,
    pub(crate) error: String,
}

#[derive(Debug, Default)]
struct Heard {
    minutes: VecDeque<Minute>,
    failures: VecDeque<Failure>,
}

#[derive(Debug)]
pub(crate) struct Pulse {
    pub(crate) since: Timestamp,
    heard: Mutex<Heard>,
}

impl Pulse {
    pub(crate) fn begin(now: Timestamp) -> Self {
        Self { since: now, heard: Mutex::default() }
    }

    /// Listens until shutdown.
    pub(crate) async fn follow(&self, bus: &impl EventReader, clock: &Clock, shutdown: &Shutdown) {
        while !shutdown.stopping() {
            match bus.watch_events().await {
                Ok(mut events) => {
                    while let Some(event) = events.next().await {
                        if let Event::Attempt(report) = event {
                            self.hear(&report);
                        }
                    }
                }
                Err(problem) => tracing::debug!(%problem, "no events are heard"),
            }
            clock.sleep(RETRY_DELAY).await;
        }
    }

    fn hear(&self, report: &AttemptReport) {
        let end = &report.end;
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let minute = heard.minute(end.ended_at.as_ms() / MINUTE_MS);
        if end.attempt == 1 && report.generation.0 == 0 {
            minute.late.add(lateness(report.due_at, end.started_at));
        }
        match report.ends_run {
            Some(RunState::Succeeded) => minute.succeeded += 1,
            Some(RunState::DeadLettered) => minute.failed += 1,
            Some(RunState::Cancelled | RunState::Skipped) => minute.other += 1,
            Some(RunState::Waiting | RunState::Dispatched) | None => {}
        }
        if report.ends_run == Some(RunState::DeadLettered) {
            let error = end.error.clone().unwrap_or_default();
            heard.failures.push_front(Failure { run: report.run_id.to_string(), at: end.ended_at, error });
            heard.failures.truncate(FAILURES_MAX);
        }
    }

    /// The last hour, a minute each, the newest last, and the latest failures, newest first.
    pub(crate) fn hour(&self, now: Timestamp) -> (Vec<Minute>, Vec<Failure>) {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let last = now.as_ms() / MINUTE_MS;
        let first = last - MINUTES as i64 + 1;
        let minute = |at: i64| {
            let known = heard.minutes.iter().find(|minute| minute.at == at);
            known.cloned().unwrap_or_else(|| Minute { at, ..Minute::default() })
        };
        ((first..=last).map(minute).collect(), heard.failures.iter().cloned().collect())
    }
}

impl Heard {
    fn minute(&mut self, at: i64) -> &mut Minute {
        // Events come nearly in order: it is most likely the last one.
        let index = match self.minutes.iter().rposition(|minute| minute.at == at) {
            Some(index) => index,
            None => {
                if self.minutes.len() > MINUTES {
                    self.minutes.pop_front();
                }
                self.minutes.push_back(Minute { at, ..Minute::default() });
                self.minutes.len() - 1
            }
        };
        &mut self.minutes[index]
    }
}
