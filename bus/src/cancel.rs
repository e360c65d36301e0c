//! Cancelling: "this run is to end now", over core NATS, to every executor of its queue.
//!
//! A lost signal costs time, nothing else: whoever cancels says it again, and in the end takes the message away.

use std::future::Future;
use std::time::Duration;

use futures_util::stream::BoxStream;
use model::id::RunId;
use model::name::QueueId;
use model::run::Generation;

use crate::error::BusError;

/// The wish that a run ends, whatever it is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CancelRequest {
    pub queue: QueueId,
    pub run_id: RunId,
    pub generation: Generation,
    /// Who asked for it.
    pub by: Option<String>,
    pub reason: Option<String>,
}

impl CancelRequest {
    /// As an error text of the attempt that it ends: `cancelled by ann@host: wrong month`.
    #[must_use]
    pub fn describe(&self) -> String {
        let by = self.by.as_deref().map_or_else(String::new, |by| format!(" by {by}"));
        let reason = self.reason.as_deref().map_or_else(String::new, |reason| format!(": {reason}"));
        format!("cancelled{by}{reason}")
    }
}

pub trait CancelSignal: Send + Sync + 'static {
    /// Tells every executor of the queue. `true`: one of them says that it has the run in hand, and will report its
    /// end. `false`: nobody said so within `wait` (at once, if nobody listens at all).
    fn cancel(
        &self,
        request: &CancelRequest,
        wait: Duration,
    ) -> impl Future<Output = Result<bool, BusError>> + Send;
}

/// A signal as an executor hears it.
pub trait CancelNotice: Send + Sync + 'static {
    fn request(&self) -> &CancelRequest;
    /// Says that the run is in our hands. Who hasn't got it says nothing.
    fn in_hand(&self) -> impl Future<Output = Result<(), BusError>> + Send;
}

pub trait CancelListener: Send + Sync + 'static {
    type Notice: CancelNotice;

    /// The signals for runs of a queue, from now on, also after reconnects.
    fn cancels(
        &self,
        queue: &QueueId,
    ) -> impl Future<Output = Result<BoxStream<'static, Self::Notice>, BusError>> + Send;
}
