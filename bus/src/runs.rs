//! The run stream: where dispatchers publish, and look whether something arrived.

use std::future::Future;

use model::name::QueueId;
use model::time::Timestamp;

use crate::error::BusError;
use crate::order::Publication;

/// The stream's acknowledgement of one publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    pub sequence: u64,
    /// The stream knew this message id already; `sequence` is that of the first.
    pub duplicate: bool,
}

/// The run stream's identity and extent: a stream that was created after a run was published, or that ends before
/// its sequence, has lost it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamExtent {
    pub created_at: Timestamp,
    pub last_sequence: u64,
    pub messages: u64,
}

/// Publications in one call of `publish`: the bound on acks in flight for one batch.
pub const PUBLISH_BATCH_MAX: usize = 500;

/// A message of the run stream, as far as those need it who look for a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRun {
    pub message_id: String,
    /// Where it waits; `None` if its subject isn't a queue's.
    pub queue: Option<QueueId>,
    /// Whoever is given it later than that skips it.
    pub start_by: Option<Timestamp>,
}

pub trait RunStream: Send + Sync + 'static {
    /// Publishes orders, many in flight, and waits for the acks; one result each, in order.
    fn publish(
        &self,
        publications: Vec<Publication>,
    ) -> impl Future<Output = Vec<Result<Published, BusError>>> + Send;

    /// The message id of the message stored at a sequence, or `None` if it is gone.
    fn stored_message_id(
        &self,
        sequence: u64,
    ) -> impl Future<Output = Result<Option<String>, BusError>> + Send;

    /// The message stored at a sequence, or `None` if it is gone.
    fn stored_run(&self, sequence: u64) -> impl Future<Output = Result<Option<StoredRun>, BusError>> + Send;

    /// The stream as it is now.
    fn extent(&self) -> impl Future<Output = Result<StreamExtent, BusError>> + Send;

    /// Creates the queue's durable consumer if it isn't there, so that any client may pull from it.
    fn ensure_queue(&self, queue: &QueueId) -> impl Future<Output = Result<(), BusError>> + Send;

    /// Lets at most so many messages of a queue be out at once, in whose hands ever: delivered and neither acknowledged nor
    /// ended, those that wait for a retry too. `None`: as many as any queue's. Creates the consumer if it isn't there.
    fn limit_queue(
        &self,
        queue: &QueueId,
        most: Option<u32>,
    ) -> impl Future<Output = Result<(), BusError>> + Send;

    /// Takes the message at a sequence off the stream, whoever has it in hand; `false` if it isn't there.
    fn withdraw(&self, sequence: u64) -> impl Future<Output = Result<bool, BusError>> + Send;

    /// Whether the server is reachable at this moment.
    fn connected(&self) -> bool;
}
