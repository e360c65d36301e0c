//! Events: what executors report of attempts, kept for seven days, and folded into runs by whoever settles.

use std::future::Future;
use std::time::Duration;

use model::id::{Revision, RunId};
use model::name::QueueId;
use model::progress::Progress;
use model::run::{AttemptEnd, Generation, RunState};

use crate::audit::AuditRecord;
use crate::error::BusError;

/// The end of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptReport {
    pub run_id: RunId,
    pub queue: QueueId,
    pub revision: Revision,
    pub generation: Generation,
    pub end: AttemptEnd,
    /// The state in which this attempt ends its run; `None` if another attempt follows.
    pub ends_run: Option<RunState>,
    /// For `RunState::Skipped`: why.
    pub reason: Option<String>,
    /// The instant from which lateness counts, for whoever only listens.
    pub due_at: model::time::Timestamp,
    pub executor: String,
    /// Captured output, bounded by `OUTPUT_BYTES_MAX`.
    pub output: Option<String>,
}

/// What an attempt that is under way says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgressNote {
    pub run_id: RunId,
    pub queue: QueueId,
    pub progress: Progress,
}

/// What the event stream holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Attempt(AttemptReport),
    /// Somebody had something done. Nothing to settle.
    Audit(AuditRecord),
    /// An attempt has been under way for a while, or says how far it has come.
    Progress(ProgressNote),
    /// The server's advisory: an executor ended a message of the run stream for good by `term`. From the SDK it
    /// follows a report; from a bare client it is all we hear.
    Terminated {
        sequence: u64,
        deliveries: u32,
        reason: String,
        queue: Option<QueueId>,
    },
    /// Something on an event subject that can't be read. Counted and dropped by the settler, kept by the stream.
    Undecodable {
        problem: String,
    },
}

/// An event in a settler's hands: `ack` once it is folded in; dropped unanswered it comes again.
pub trait EventDelivery: Send + Sync + 'static {
    fn event(&self) -> &Event;
    fn ack(&self) -> impl Future<Output = Result<(), BusError>> + Send;
}

pub trait EventWriter: Send + Sync + 'static {
    /// Reports an attempt's end; `Ok` once it is stored. Repeating it (same run, generation and attempt) is harmless.
    fn report(&self, report: &AttemptReport) -> impl Future<Output = Result<(), BusError>> + Send;

    /// Says how an attempt is doing, without waiting for anybody to store it: a lost note is made up for by the next.
    fn note_progress(&self, note: &ProgressNote) -> impl Future<Output = Result<(), BusError>> + Send;
}

pub trait EventReader: Send + Sync + 'static {
    type Delivery: EventDelivery;

    /// Events of the settlers' shared consumer; waits up to `wait` for the first. About `limit`: those that were
    /// reported together come together. Each is acknowledged by itself, and comes again if it or one of those isn't.
    fn fetch_events(
        &self,
        limit: usize,
        wait: Duration,
    ) -> impl Future<Output = Result<Vec<Self::Delivery>, BusError>> + Send;

    /// The sequence of the newest event, and up to which sequence every event has been acknowledged by a settler.
    fn event_progress(&self) -> impl Future<Output = Result<EventProgress, BusError>> + Send;

    /// A live copy of events as they are published, for a terminal: no history, and gaps on a slow reader are fine.
    fn watch_events(
        &self,
    ) -> impl Future<Output = Result<futures_util::stream::BoxStream<'static, Event>, BusError>> + Send;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventProgress {
    pub last_sequence: u64,
    pub settled_until: u64,
}
