//! Passing the fence: by which order a run is carried out, if its job was edited after it was published.

use std::time::Duration;

use bus::BusError;
use bus::events::AttemptReport;
use bus::queue::{Delivery, Notes};
use bus::subjects::order_verb;
use bus::wire::standing::{Fate, Revised, decode_answer, encode_question};
use model::run::{AttemptEnd, Outcome, RunState, SkipReason};

use super::{Attempt, Ending, Host, Numbered};
use crate::answer::{Unanswered, insist};
use crate::executor::Bus;
use crate::fence::{Newest, fenced_job, lapse};

/// How long planners may take to say by which order a run is carried out.
const ORDER_TIMEOUT: Duration = Duration::from_secs(5);
/// When a run comes again whose order nobody could say.
const ORDER_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// What the fence says of a delivery.
pub(super) enum Passed {
    /// It may be started until then, on the monotonic clock; by another order than its own, if there is one.
    Start {
        revised: Option<Box<Revised>>,
        lapses_at: Duration,
    },
    Elsewhere,
    Deleted,
    /// It was superseded, and nobody could say by what.
    Unanswered,
}

impl<B: Bus> Attempt<B> {
    /// Asks the fence; and if the run's revision may have been superseded, the planners, for the order of the present one.
    pub(super) async fn passing(&self) -> Result<Passed, Unanswered> {
        let as_published = |lapses_at| Passed::Start { revised: None, lapses_at };
        let Ok(order) = self.delivery.order() else { return Ok(as_published(Duration::MAX)) };
        let Some(job) = fenced_job(order) else { return Ok(as_published(Duration::MAX)) };
        let Host { bus, clock, drained, .. } = &*self.host;
        let stored_at = self.delivery.stored_at();
        let label = self.label();
        let newest = insist("ask for edits", &label, clock, drained, || {
            self.fence.newest(&**bus, job, order.revision, stored_at)
        });
        if let Newest::Yes { lapses_at } = newest.await? {
            return Ok(as_published(lapses_at));
        }
        let asked_at = clock.monotonic();
        let asked = bus.request(&order_verb(&order.queue), encode_question(order), ORDER_TIMEOUT).await;
        let lapses_at = lapse(asked_at, clock.monotonic());
        let passed = match asked.and_then(|answer| decode_answer(&order.queue, &answer)) {
            Ok(Fate::AsPublished) => as_published(lapses_at),
            Ok(Fate::Revised(revised)) => Passed::Start { revised: Some(revised), lapses_at },
            Ok(Fate::Elsewhere) => Passed::Elsewhere,
            Ok(Fate::Deleted) => Passed::Deleted,
            Err(BusError::Refused(problem)) => {
                tracing::warn!(
                    run = self.label(),
                    problem,
                    "the order of an edited job can't be had; the old one is used"
                );
                as_published(Duration::MAX)
            }
            Err(problem) => {
                tracing::debug!(run = self.label(), %problem, "failed to ask for the order of an edited job");
                Passed::Unanswered
            }
        };
        Ok(passed)
    }

    /// It comes again, perhaps when somebody knows its order.
    pub(super) async fn putting_off(&self, notes: &Notes) -> Result<Ending, Unanswered> {
        let attempts = notes.attempts.clone();
        self.note(&Notes { tally: notes.tally.after_hand_back(), attempts }).await?;
        self.nak(ORDER_AGAIN_AFTER).await?;
        Ok(Ending::HandedBack)
    }

    /// Its job was deleted: nothing of it starts any more.
    pub(super) async fn deleted(&self, notes: &Notes) -> Result<Ending, Unanswered> {
        let Ok(order) = self.delivery.order() else { return Ok(Ending::Unanswered) };
        let attempt = order.attempt_base.saturating_add(self.delivery.delivered());
        let started_at = self.host.clock.now();
        let numbered = Numbered { order, attempt, started_at, notes, revised: None };
        let reason = SkipReason::Deleted.describe();
        if attempt > 1 {
            let report = self.report_of(numbered, Outcome::Cancelled, Some(RunState::Cancelled));
            let end = AttemptEnd { error: Some(reason.into()), ..report.end };
            return self.cancelling(AttemptReport { end, ..report }).await;
        }
        self.skipping(numbered, reason).await
    }
}
