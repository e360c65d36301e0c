//! Queues as executors read them.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use model::name::QueueId;
use model::time::Timestamp;
use serde_json::json;

use super::link::{Link, Outgoing};
use super::message::Delivered;
use super::pull::Puller;
use super::runs::unread_message;
use super::streams::ConsumerSpec;
use super::{NatsBus, PUBLISH_TIMEOUT, lock};
use crate::error::BusError;
use crate::order::{Order, OrderProblem};
use crate::queue::{Delivery, Notes, QueueReader};
use crate::subjects::{STREAM_TALLIES, tally};
use crate::wire::headers::Headers;
use crate::wire::order::{RawRun, decode_order};
use crate::wire::tally::{decode_tally, encode_tally};

/// A run's message in hand.
pub struct NatsDelivery {
    message: Delivered,
    order: Result<Order, OrderProblem>,
    /// For what isn't said to the consumer: the connection that reads it may be cut by somebody's message.
    trusted: Link,
}

impl std::fmt::Debug for NatsDelivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NatsDelivery").field("order", &self.order).finish_non_exhaustive()
    }
}

impl NatsDelivery {
    pub(super) fn new(message: Delivered, trusted: Link) -> Self {
        let order = decode_order(RawRun {
            subject: &message.subject,
            headers: &message.headers,
            payload: &message.payload,
            sequence: message.position.sequence,
            stored_at: message.position.stored_at,
        });
        Self { message, order, trusted }
    }
}

impl Delivery for NatsDelivery {
    fn order(&self) -> &Result<Order, OrderProblem> {
        &self.order
    }

    fn payload(&self) -> &Bytes {
        &self.message.payload
    }

    fn raw_headers(&self) -> &BTreeMap<String, String> {
        &self.message.headers
    }

    fn subject(&self) -> &str {
        &self.message.subject
    }

    fn sequence(&self) -> u64 {
        self.message.position.sequence
    }

    fn stored_at(&self) -> Timestamp {
        self.message.position.stored_at
    }

    fn delivered(&self) -> u32 {
        self.message.position.delivered
    }

    async fn ack(&self) -> Result<(), BusError> {
        self.message.ack().await
    }

    async fn ack_unconfirmed(&self) -> Result<(), BusError> {
        self.message.ack_unconfirmed().await
    }

    async fn nak(&self, delay: Duration) -> Result<(), BusError> {
        self.message.nak(delay).await
    }

    async fn term(&self, reason: &str) -> Result<(), BusError> {
        self.message.term(reason).await
    }

    async fn notes(&self) -> Result<Notes, BusError> {
        let Ok(order) = &self.order else { return Ok(Notes::default()) };
        let which = json!({"last_by_subj": tally(&order.queue, self.sequence())});
        let stored = unread_message(&self.trusted, STREAM_TALLIES, &which).await?;
        Ok(stored.map_or_else(Notes::default, |stored| decode_tally(order, &stored.payload)))
    }

    async fn note(&self, notes: &Notes) -> Result<(), BusError> {
        let Ok(order) = &self.order else { return Ok(()) };
        let payload = encode_tally(&order.run_id, order.generation, notes);
        let message = Outgoing::new(tally(&order.queue, self.sequence()), &Headers::new(), payload);
        self.trusted.store_only(message, PUBLISH_TIMEOUT).await.map(drop)
    }

    async fn in_progress(&self) -> Result<(), BusError> {
        self.message.in_progress().await
    }
}

impl NatsBus {
    /// Whether somebody here could start more work of this queue at once, and there is none.
    pub(super) fn is_idle(&self, queue: &QueueId) -> bool {
        lock(&self.shared.queues).get(queue).is_some_and(Puller::is_idle)
    }

    fn queue_puller(&self, queue: &QueueId) -> Puller {
        let mut queues = lock(&self.shared.queues);
        let new = || {
            let consumer = ConsumerSpec::of_queue(queue, self.shared.options.ack_wait);
            Puller::spawn(&self.shared.access, consumer, Duration::ZERO)
        };
        queues.entry(queue.clone()).or_insert_with(new).clone()
    }
}

impl QueueReader for NatsBus {
    type Delivery = NatsDelivery;

    async fn fetch(
        &self,
        queue: &QueueId,
        limit: usize,
        wait: Duration,
    ) -> Result<Vec<NatsDelivery>, BusError> {
        let messages = self.queue_puller(queue).fetch(limit, wait).await?;
        let delivery = |message| NatsDelivery::new(message, self.link().clone());
        Ok(messages.into_iter().map(delivery).collect())
    }

    fn ack_wait(&self) -> Duration {
        self.shared.options.ack_wait
    }
}
