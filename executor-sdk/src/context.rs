//! The context of an attempt: what a handler may know about the run in its hands.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ambient::Clock;
use bus::order::{Order, WorkKind};
use model::id::RunId;
use model::name::QueueId;
use model::time::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::decide::time_allowed;
use crate::scribe::{Notes, STARTED_NOTE_AFTER};

/// The run in a handler's hands. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Context(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    order: Order,
    attempt: u32,
    started_at: Timestamp,
    clock: Clock,
    cancellation: CancellationToken,
    notes: Notes,
}

impl Context {
    pub(crate) fn new(order: Order, attempt: u32, started_at: Timestamp, clock: Clock) -> Self {
        let (cancellation, notes) = (CancellationToken::new(), Notes::default());
        Self(Arc::new(Inner { order, attempt, started_at, clock, cancellation, notes }))
    }

    /// The run's id: the same for every attempt, so the idempotency key for whatever the handler does.
    #[must_use]
    pub fn run_id(&self) -> &RunId {
        &self.0.order.run_id
    }

    #[must_use]
    pub fn queue(&self) -> &QueueId {
        &self.0.order.queue
    }

    /// When the run was due by its schedule, or published, if ad hoc.
    #[must_use]
    pub fn due_at(&self) -> Timestamp {
        self.0.order.due_at
    }

    /// How long after it was due this attempt started.
    #[must_use]
    pub fn lateness(&self) -> Duration {
        between(self.0.order.due_at, self.0.started_at)
    }

    /// This attempt's number, from 1. It counts attempts that were lost with their executor, turned away by a rate
    /// limit or handed back, too.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.0.attempt
    }

    /// The failure that makes the run a dead letter.
    #[must_use]
    pub fn attempts_max(&self) -> u32 {
        self.0.order.retry.attempts
    }

    /// When this attempt is cancelled for having taken too long, by its own timeout or by the run's deadline.
    #[must_use]
    pub fn deadline(&self) -> Timestamp {
        self.0.started_at.plus(time_allowed(&self.0.order, self.0.started_at))
    }

    /// The time until the deadline.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        between(self.0.clock.now(), self.deadline())
    }

    /// The user's own headers: those of the job, or of the ad-hoc message.
    #[must_use]
    pub fn headers(&self) -> &BTreeMap<String, String> {
        &self.0.order.headers
    }

    /// What the payload is. A handler of payloads only ever sees [`WorkKind::Payload`].
    #[must_use]
    pub fn kind(&self) -> WorkKind {
        self.0.order.kind
    }

    /// Fires when the attempt should end now: its deadline has come, its run was cancelled, or the executor has to stop. A handler that goes
    /// on is aborted at its next `await` after [`CANCEL_GRACE`](crate::CANCEL_GRACE).
    #[must_use]
    pub fn cancellation(&self) -> &CancellationToken {
        &self.0.cancellation
    }

    /// Says how far the attempt has come, as a share of the whole from 0 to 1, and in words. `ecron get run` shows it.
    /// Sent at most once a second, the last one always; the handler waits for nothing.
    ///
    /// ```
    /// # fn handler(ctx: ecron_executor_sdk::Context) {
    /// ctx.progress(0.4, "rows 4000/10000");
    /// # }
    /// ```
    pub fn progress(&self, fraction: f64, message: impl Into<String>) {
        self.0.notes.progress(&self.0.clock, fraction, message.into());
    }

    /// Writes lines into the run's log: `ecron logs RUN`. An attempt may log `LOG_BYTES_MAX` bytes; the handler waits
    /// for nothing.
    pub fn log(&self, text: impl AsRef<str>) {
        self.0.notes.log(&self.0.clock, None, text.as_ref());
    }

    /// The same for lines that come from elsewhere, such as a command's `stderr`.
    pub fn log_from(&self, source: &str, text: impl AsRef<str>) {
        self.0.notes.log(&self.0.clock, Some(source), text.as_ref());
    }

    pub(crate) fn notes(&self) -> &Notes {
        &self.0.notes
    }

    pub(crate) fn order(&self) -> &Order {
        &self.0.order
    }

    pub(crate) fn started_at(&self) -> Timestamp {
        self.0.started_at
    }

    /// After this long the attempt is said to be under way.
    pub(crate) fn started_note_after(&self) -> Duration {
        STARTED_NOTE_AFTER
    }

    /// Waits for the cancellation.
    pub async fn cancelled(&self) {
        self.0.cancellation.cancelled().await;
    }
}

fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::from_millis(u64::try_from(to.ms_since(from)).unwrap_or(0))
}
