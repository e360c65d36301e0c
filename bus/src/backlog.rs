//! How a queue stands, for whoever asks why a run hasn't been carried out yet.

use std::future::Future;

use model::name::QueueId;

use crate::error::BusError;

/// A queue's consumer at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Backlog {
    /// Executors that wait for work now.
    pub waiting_pulls: u64,
    /// Messages that somebody has in hand, or that wait for their retry.
    pub in_hand: u64,
    /// Messages that were never delivered.
    pub undelivered: u64,
    /// The sequence in the run stream up to which everything of this queue was delivered at least once.
    pub delivered_until: u64,
}

pub trait QueueBacklog: Send + Sync + 'static {
    /// `None`: the queue has no consumer yet, so nobody has ever asked for its work.
    fn backlog(&self, queue: &QueueId) -> impl Future<Output = Result<Option<Backlog>, BusError>> + Send;
}
