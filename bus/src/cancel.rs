//! Cancelling: telling whoever has a run in hand to stop it, over core NATS.
//!
//! The signal is lost with its listener; whoever sends it repeats it, and in the end takes the message off the run stream.

use std::future::Future;
use std::time::Duration;

use futures_util::stream::BoxStream;
use model::id::RunId;
use model::name::QueueId;
use model::run::Generation;

use crate::error::BusError;

/// How long the sender of a signal waits for somebody who has the run in hand.
pub const CANCEL_ANSWER_WAIT: Duration = Duration::from_secs(1);

/// What an executor is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CancelRequest {
    pub run_id: RunId,
    pub generation: Generation,
    /// Who cancels it.
    pub by: String,
    pub reason: Option<String>,
}

/// Who has heard a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelAnswer {
    /// An executor has the run in hand and stops it.
    InHand,
    /// Executors listen, and none has it in hand.
    NotInHand,
    /// Nobody listens.
    Nobody,
}

/// A signal as an executor hears it.
pub trait CancelHeard: Send + 'static {
    fn queue(&self) -> &QueueId;
    fn request(&self) -> &CancelRequest;
    /// Says that the run is in hand. Whoever doesn't have it says nothing.
    fn in_hand(&self) -> impl Future<Output = Result<(), BusError>> + Send;
}

pub trait CancelSignal: Send + Sync + 'static {
    type Heard: CancelHeard;

    /// Tells the executors of a queue, and waits for an answer at most `CANCEL_ANSWER_WAIT`.
    fn cancel(
        &self,
        queue: &QueueId,
        request: &CancelRequest,
    ) -> impl Future<Output = Result<CancelAnswer, BusError>> + Send;

    /// The signals for some queues, from now on; also after reconnects. What can't be read is left out.
    fn cancels(
        &self,
        queues: &[QueueId],
    ) -> impl Future<Output = Result<BoxStream<'static, Self::Heard>, BusError>> + Send;
}
