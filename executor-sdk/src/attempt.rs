//! One attempt, from delivery to answer: a method for each state.
//!
//! ```text
//! received ─┬─ quarantining ──────────────── park, term
//!           ├─ elsewhere ─────────────────── ack
//!           ├─ put off ───────────────────── note, nak with delay
//!           ├─ deleted ───────────────────── report, ack
//!           ├─ poisoned ──────────────────── park, report, term
//!           ├─ too late, cancelled ───────── report, ack
//!           ├─ overdue ───────────────────── park, report, term
//!           └─ running ─┬─ succeeding ────── report, ack
//!                       ├─ cancelling ────── report, ack
//!                       ├─ retrying ──────── report, note, nak with delay
//!                       ├─ giving up ─────── park, report, term
//!                       └─ handing back ──── report and note if it's quick, nak
//! ```
//! Each answer is stored before the next is sent, and the message is ended last: a crash anywhere brings it back. An
//! acknowledgement without an outcome can therefore only come from a client that isn't ours.

mod passing;

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use ambient::Clock;
use bus::BusError;
use bus::dead::{DeadLetter, DeadReason};
use bus::events::AttemptReport;
use bus::order::{Order, OrderProblem};
use bus::queue::{Delivery, Notes, REPORTED_TERM_PREFIX};
use bus::subjects::{QueueSubject, STREAM_RUNS, parse_queue_subject};
use bus::wire::standing::Revised;
use model::limits::{ERROR_BYTES_MAX, HEADER_BYTES_MAX, OUTPUT_BYTES_MAX, PAYLOAD_BYTES_MAX};
use model::run::{AttemptEnd, Outcome, RunState, SkipReason};
use model::time::Timestamp;
use passing::Passed;
use tokio_util::sync::CancellationToken;

use crate::answer::{Unanswered, insist};
use crate::context::Context;
use crate::decide::{Sequel, Step, Verdict, examine, follow, time_allowed};
use crate::excerpt::clip;
use crate::executor::Bus;
use crate::fence::Fence;
use crate::handler::Handler;
use crate::hands::{Grip, Hands, Held};
use crate::heartbeat::while_beating;
use crate::running::{self, Bounds};
use crate::scribe::Scribe;

/// What all attempts of an executor share.
pub(crate) struct Host<B> {
    pub(crate) bus: Arc<B>,
    pub(crate) clock: Clock,
    /// The executor's name, in reports.
    pub(crate) name: String,
    /// Fires when the time to drain is over.
    pub(crate) drained: CancellationToken,
    pub(crate) hands: Hands,
}

/// How a delivery left our hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Succeeded,
    Retried {
        delay: Duration,
    },
    DeadLettered {
        reason: DeadReason,
    },
    Skipped,
    Cancelled,
    HandedBack,
    /// Another message carries its run.
    Elsewhere,
    /// The bus didn't take our answer: it will be delivered again.
    Unanswered,
}

/// A message in the hands of an executor.
pub(crate) struct Attempt<B: Bus> {
    pub(crate) host: Arc<Host<B>>,
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) fence: Arc<Fence>,
    pub(crate) delivery: B::Delivery,
}

/// An attempt that a report can speak of.
#[derive(Clone, Copy)]
struct Numbered<'a> {
    order: &'a Order,
    attempt: u32,
    started_at: Timestamp,
    /// What became of the deliveries before this one.
    notes: &'a Notes,
    /// What takes the place of the message's own order.
    revised: Option<&'a Revised>,
}

impl<B: Bus> Attempt<B> {
    /// Carries the delivery to its end.
    pub(crate) async fn carry_out(self) -> Ending {
        let ack_wait = self.host.bus.ack_wait();
        let ending = while_beating(&self.delivery, ack_wait, &self.host.clock, pin!(self.received())).await;
        ending.unwrap_or(Ending::Unanswered)
    }

    async fn received(&self) -> Result<Ending, Unanswered> {
        // In our hands from here to the last answer, for whoever wants to cancel it.
        let hands = &self.host.hands;
        let held =
            self.delivery.order().as_ref().ok().map(|order| hands.take(&order.run_id, order.generation));
        let grip = held.as_ref().map(Held::grip).cloned().unwrap_or_default();
        let notes = self.notes().await?;
        loop {
            if let Some(ending) = self.beginning(&notes, &grip).await? {
                return Ok(ending);
            }
        }
    }

    /// Passes the fence and goes on from there; `None` if that took so long that it must be passed again.
    async fn beginning(&self, notes: &Notes, grip: &Grip) -> Result<Option<Ending>, Unanswered> {
        let (revised, lapses_at) = match self.passing().await? {
            Passed::Start { revised, lapses_at } => (revised, lapses_at),
            Passed::Elsewhere => {
                self.ack().await?;
                return Ok(Some(Ending::Elsewhere));
            }
            Passed::Deleted => return self.deleted(notes).await.map(Some),
            Passed::Unanswered => return self.putting_off(notes).await.map(Some),
        };
        // Nothing is awaited from here to the handler.
        let revised = revised.as_deref();
        let order = revised.map_or(self.delivery.order().as_ref(), |revised| Ok(&revised.order));
        let started_at = self.host.clock.now();
        let numbered = |order, attempt| Numbered { order, attempt, started_at, notes, revised };
        let ending = match examine(order, self.delivery.delivered(), notes.tally, started_at) {
            Verdict::Quarantine { problem } => self.quarantining(problem).await,
            Verdict::Poison { order, attempt } => self.poisoned(numbered(order, attempt)).await,
            Verdict::TooLate { order, attempt } => self.too_late(numbered(order, attempt)).await,
            Verdict::Overdue { order, attempt, deadline } => {
                self.overdue(numbered(order, attempt), deadline).await
            }
            Verdict::Start { order, attempt } if grip.cancelled().is_cancelled() => {
                self.cancelled(numbered(order, attempt), grip).await
            }
            Verdict::Start { order, attempt } => {
                return self.running(numbered(order, attempt), lapses_at, grip).await;
            }
        };
        ending.map(Some)
    }

    async fn skipping(&self, numbered: Numbered<'_>, reason: &str) -> Result<Ending, Unanswered> {
        let report = self.report_of(numbered, Outcome::Cancelled, Some(RunState::Skipped));
        self.report(AttemptReport { reason: Some(reason.into()), ..report }).await?;
        self.ack().await?;
        Ok(Ending::Skipped)
    }

    async fn quarantining(&self, problem: &OrderProblem) -> Result<Ending, Unanswered> {
        let reason = quarantine_reason(self.delivery.subject());
        let id = self.label();
        let error = format!("failed to {problem}");
        tracing::warn!(id, subject = self.delivery.subject(), error, "quarantined a message");
        self.park(self.letter(id, reason, error, self.delivery.delivered(), None)).await?;
        self.term("quarantined").await?;
        Ok(Ending::DeadLettered { reason })
    }

    async fn poisoned(&self, numbered: Numbered<'_>) -> Result<Ending, Unanswered> {
        let (reason, made) = (DeadReason::Poison, numbered.attempt.saturating_sub(1));
        let lost = numbered.notes.tally.lost(self.delivery.delivered());
        let error = format!("{made} attempts were made, and {lost} of them ended with their executor");
        let id = numbered.order.run_id.to_string();
        let letter = self.letter(id, reason, error.clone(), made, numbered.revised);
        self.park(DeadLetter { attempt_log: numbered.notes.attempts.clone(), ..letter }).await?;
        let report = self.report_of(numbered, Outcome::Lost, Some(RunState::DeadLettered));
        self.report(AttemptReport { end: AttemptEnd { error: Some(error), ..report.end }, ..report }).await?;
        self.term("poison").await?;
        Ok(Ending::DeadLettered { reason })
    }

    async fn overdue(&self, numbered: Numbered<'_>, deadline: Timestamp) -> Result<Ending, Unanswered> {
        let (reason, made) = (DeadReason::DeadlineExceeded, numbered.attempt.saturating_sub(1));
        let error = format!("the run's deadline, {deadline}, had passed before attempt {}", numbered.attempt);
        let id = numbered.order.run_id.to_string();
        let letter = self.letter(id, reason, error.clone(), made, numbered.revised);
        self.park(DeadLetter { attempt_log: numbered.notes.attempts.clone(), ..letter }).await?;
        let report = self.report_of(numbered, Outcome::TimedOut, Some(RunState::DeadLettered));
        self.report(AttemptReport { end: AttemptEnd { error: Some(error), ..report.end }, ..report }).await?;
        self.term("deadline exceeded").await?;
        Ok(Ending::DeadLettered { reason })
    }

    async fn too_late(&self, numbered: Numbered<'_>) -> Result<Ending, Unanswered> {
        self.skipping(numbered, SkipReason::StartingDeadline.describe()).await
    }

    /// Cancelled before it was started.
    async fn cancelled(&self, numbered: Numbered<'_>, grip: &Grip) -> Result<Ending, Unanswered> {
        let report = self.report_of(numbered, Outcome::Cancelled, Some(RunState::Cancelled));
        let error = grip.request().map(|request| clip(&request.describe(), ERROR_BYTES_MAX));
        self.cancelling(AttemptReport { end: AttemptEnd { error, ..report.end }, ..report }).await
    }

    async fn cancelling(&self, report: AttemptReport) -> Result<Ending, Unanswered> {
        self.report(report).await?;
        self.ack().await?;
        Ok(Ending::Cancelled)
    }

    /// `None` if its handler couldn't be started in time.
    async fn running(
        &self,
        numbered: Numbered<'_>,
        lapses_at: Duration,
        grip: &Grip,
    ) -> Result<Option<Ending>, Unanswered> {
        let Numbered { order, attempt, started_at, notes, revised } = numbered;
        let Host { clock, drained, .. } = &*self.host;
        let ctx = Context::new(order.clone(), attempt, started_at, clock.clone());
        tracing::debug!(run = %order.run_id, attempt, lateness = ?ctx.lateness(), "starting an attempt");
        let handler = Arc::clone(&self.handler);
        let payload = revised.map_or(self.delivery.payload(), |revised| &revised.payload).clone();
        let bounds = Bounds { lapses_at, timeout: time_allowed(order, started_at) };
        let end = {
            let mut scribe = Scribe::new(&*self.host.bus, clock, &self.host.name, &ctx);
            let work = running::run(handler, &ctx, payload, bounds, clock, grip.cancelled(), drained);
            // Pinned here: given away by value, both would be kept twice.
            let end = while_said(pin!(work), pin!(scribe.run())).await;
            scribe.finish().await;
            end
        };
        let Some(end) = end else { return Ok(None) };
        let Sequel { outcome, error, output, step } = follow(order, notes.tally, end, clock.now());
        tracing::debug!(run = %order.run_id, attempt, outcome = outcome.as_str(), error, "ended an attempt");

        let error = match grip.request().filter(|_| step == Step::Cancel) {
            Some(request) => Some(request.describe()),
            None => error,
        };
        let error = error.map(|error| clip(&error, ERROR_BYTES_MAX));
        let report = self.report_of(numbered, outcome, step.ends_run());
        let report = AttemptReport {
            end: AttemptEnd { error: error.clone(), ..report.end },
            output: output.map(|output| clip(&output, OUTPUT_BYTES_MAX)),
            ..report
        };
        let ending = match step {
            Step::Succeed => self.succeeding(report).await,
            Step::Retry { delay, tally } => {
                let notes = notes.after(tally, report.end.clone());
                self.retrying(report, delay, &notes).await
            }
            Step::GiveUp { reason } => {
                let (id, error) = (order.run_id.to_string(), error.unwrap_or_default());
                let letter = self.letter(id, reason, error, attempt, revised);
                let attempt_log = notes.with(report.end.clone());
                self.giving_up(report, DeadLetter { attempt_log, ..letter }).await
            }
            Step::Cancel => self.cancelling(report).await,
            Step::HandBack { tally } => {
                let notes = notes.after(tally, report.end.clone());
                self.handing_back(report, &notes).await
            }
        };
        ending.map(Some)
    }

    async fn succeeding(&self, report: AttemptReport) -> Result<Ending, Unanswered> {
        self.report(report).await?;
        self.ack().await?;
        Ok(Ending::Succeeded)
    }

    async fn retrying(
        &self,
        report: AttemptReport,
        delay: Duration,
        notes: &Notes,
    ) -> Result<Ending, Unanswered> {
        self.report(report).await?;
        self.note(notes).await?;
        self.nak(delay).await?;
        Ok(Ending::Retried { delay })
    }

    async fn giving_up(&self, report: AttemptReport, letter: DeadLetter) -> Result<Ending, Unanswered> {
        let reason = letter.reason;
        tracing::warn!(run = %report.run_id, attempt = report.end.attempt, error = letter.error, "dead-lettered a run");
        self.park(letter).await?;
        self.report(report).await?;
        self.term("dead-lettered").await?;
        Ok(Ending::DeadLettered { reason })
    }

    /// The run goes on elsewhere, so this report only explains: one try, then the message. Unnoted, the attempt
    /// counts as lost.
    async fn handing_back(&self, report: AttemptReport, notes: &Notes) -> Result<Ending, Unanswered> {
        if let Err(error) = self.host.bus.report(&report).await {
            tracing::debug!(run = %report.run_id, %error, "failed to report an interrupted attempt");
        }
        if let Err(error) = self.delivery.note(notes).await {
            tracing::debug!(run = %report.run_id, %error, "failed to note an interrupted attempt");
        }
        self.nak(Duration::ZERO).await?;
        Ok(Ending::HandedBack)
    }

    /// A report of this attempt that has just ended, without error, reason and output.
    fn report_of(
        &self,
        numbered: Numbered<'_>,
        outcome: Outcome,
        ends_run: Option<RunState>,
    ) -> AttemptReport {
        let Numbered { order, attempt, started_at, .. } = numbered;
        // The wall may have been stepped back meanwhile; nobody should have to cope with an end before the start.
        let ended_at = self.host.clock.now().max(started_at);
        AttemptReport {
            run_id: order.run_id.clone(),
            queue: order.queue.clone(),
            revision: order.revision,
            generation: order.generation,
            end: AttemptEnd { attempt, outcome, error: None, started_at, ended_at },
            ends_run,
            reason: None,
            due_at: order.due_at,
            executor: self.host.name.clone(),
            output: None,
        }
    }

    fn letter(
        &self,
        id: String,
        reason: DeadReason,
        error: String,
        attempts: u32,
        revised: Option<&Revised>,
    ) -> DeadLetter {
        let (headers, payload) = match revised {
            Some(revised) => (&revised.headers, &revised.payload),
            None => (self.delivery.raw_headers(), self.delivery.payload()),
        };
        DeadLetter {
            id,
            subject: self.delivery.subject().into(),
            reason,
            error: clip(&error, ERROR_BYTES_MAX),
            attempts,
            attempt_log: vec![],
            died_at: self.host.clock.now(),
            original_headers: headers.clone(),
            payload: payload.clone(),
        }
    }

    /// What became of the earlier deliveries, if there were any.
    async fn notes(&self) -> Result<Notes, Unanswered> {
        if self.delivery.delivered() <= 1 {
            return Ok(Notes::default());
        }
        let Host { clock, drained, .. } = &*self.host;
        insist("read what was noted of a message", &self.label(), clock, drained, async || {
            self.allowed(self.delivery.notes().await)
        })
        .await
    }

    async fn note(&self, notes: &Notes) -> Result<(), Unanswered> {
        let Host { clock, drained, .. } = &*self.host;
        insist("note an attempt", &self.label(), clock, drained, async || {
            self.allowed(self.delivery.note(notes).await)
        })
        .await
    }

    /// An executor that isn't allowed to use tallies does without: its attempts count as lost ones.
    fn allowed<T: Default>(&self, result: Result<T, BusError>) -> Result<T, BusError> {
        match result {
            Err(BusError::Refused(problem)) => {
                tracing::warn!(run = self.label(), problem, "tallies can't be used");
                Ok(T::default())
            }
            other => other,
        }
    }

    async fn report(&self, report: AttemptReport) -> Result<(), Unanswered> {
        let Host { bus, clock, drained, .. } = &*self.host;
        insist("store an outcome", &self.label(), clock, drained, || bus.report(&report)).await
    }

    async fn park(&self, letter: DeadLetter) -> Result<(), Unanswered> {
        let Host { bus, clock, drained, .. } = &*self.host;
        let letter = match bus.park(&letter).await {
            Ok(_) => return Ok(()),
            // As large as NATS takes it leaves no room for what a letter adds; no patience will change that.
            Err(BusError::Refused(_)) => within_limits(letter),
            Err(_) => letter,
        };
        insist("park a dead letter", &self.label(), clock, drained, || bus.park(&letter)).await.map(|_| ())
    }

    async fn ack(&self) -> Result<(), Unanswered> {
        let Host { clock, drained, .. } = &*self.host;
        insist("acknowledge a message", &self.label(), clock, drained, || self.delivery.ack()).await
    }

    async fn nak(&self, delay: Duration) -> Result<(), Unanswered> {
        let Host { clock, drained, .. } = &*self.host;
        insist("put back a message", &self.label(), clock, drained, || self.delivery.nak(delay)).await
    }

    async fn term(&self, reason: &str) -> Result<(), Unanswered> {
        let Host { clock, drained, .. } = &*self.host;
        let reason = format!("{REPORTED_TERM_PREFIX}{reason}");
        insist("terminate a message", &self.label(), clock, drained, || self.delivery.term(&reason)).await
    }

    /// The delivery's name: its run's id, or, if that can't be read, its place in the run stream.
    fn label(&self) -> String {
        match self.delivery.order() {
            Ok(order) => order.run_id.to_string(),
            Err(_) => format!("{STREAM_RUNS}/{}", self.delivery.sequence()),
        }
    }
}

/// Does some work while what it says is sent.
async fn while_said<T>(work: impl Future<Output = T>, sending: impl Future<Output = Infallible>) -> T {
    tokio::select! {
        biased;
        done = work => done,
        never = sending => match never {},
    }
}

/// On a submit subject the publisher is to blame, on a run subject something of ours.
fn quarantine_reason(subject: &str) -> DeadReason {
    match parse_queue_subject(subject) {
        Some((QueueSubject::Submit, _)) => DeadReason::MalformedHeaders,
        Some((QueueSubject::Run | QueueSubject::Defer, _)) | None => DeadReason::Undecodable,
    }
}

/// The letter of a message that breaks our own limits, without what goes beyond them, and saying so. Everybody else's
/// letter stays as it is.
fn within_limits(letter: DeadLetter) -> DeadLetter {
    let mut letter = letter;
    let (bytes, headers) = (letter.payload.len(), letter.original_headers.len());
    letter.payload.truncate(PAYLOAD_BYTES_MAX);
    let mut room = HEADER_BYTES_MAX;
    letter.original_headers.retain(|name, value| {
        let fits = name.len() + value.len() <= room;
        room -= if fits { name.len() + value.len() } else { 0 };
        fits
    });
    let (kept, left) = (letter.payload.len(), letter.original_headers.len());
    if (kept, left) != (bytes, headers) {
        let error = format!("{} (kept: {kept} of {bytes} bytes, {left} of {headers} headers)", letter.error);
        letter.error = clip(&error, ERROR_BYTES_MAX);
    }
    letter
}

#[cfg(test)]
mod tests;
