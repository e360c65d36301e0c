//! Events: reporting, settling, watching.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use serde_json::json;

use super::link::Outgoing;
use super::message::Delivered;
use super::pull::Puller;
use super::streams::{ConsumerSpec, existing_stream};
use super::{NatsBus, PUBLISH_TIMEOUT, lock};
use crate::error::BusError;
use crate::events::{AttemptReport, Event, EventDelivery, EventProgress, EventReader, EventWriter};
use crate::subjects::{CONSUMER_SETTLE, EVENTS_ALL, STREAM_EVENTS, attempt_event};
use crate::wire::event::{decode_event, encode_report, report_id};
use crate::wire::headers::{Headers, MESSAGE_ID};

/// An event in a settler's hands.
pub struct NatsEvent {
    message: Delivered,
    event: Event,
}

impl std::fmt::Debug for NatsEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NatsEvent").field("event", &self.event).finish_non_exhaustive()
    }
}

impl EventDelivery for NatsEvent {
    fn event(&self) -> &Event {
        &self.event
    }

    async fn ack(&self) -> Result<(), BusError> {
        self.message.ack().await
    }
}

impl EventWriter for NatsBus {
    async fn report(&self, report: &AttemptReport) -> Result<(), BusError> {
        let message = Outgoing {
            subject: attempt_event(&report.queue),
            headers: Headers::from([(MESSAGE_ID.to_owned(), report_id(report))]),
            payload: encode_report(report),
        };
        self.link().store_only(message, PUBLISH_TIMEOUT).await.map(drop)
    }
}

/// What a consumer's information says of its progress.
#[derive(serde::Deserialize)]
struct Progress {
    ack_floor: Floor,
    num_pending: u64,
    num_ack_pending: u64,
}

#[derive(serde::Deserialize)]
struct Floor {
    stream_seq: u64,
}

impl NatsBus {
    fn settler(&self) -> Puller {
        let new = || Puller::spawn(&self.shared.access, ConsumerSpec::shared(STREAM_EVENTS, CONSUMER_SETTLE), Duration::ZERO);
        lock(&self.shared.settler).get_or_insert_with(new).clone()
    }
}

impl EventReader for NatsBus {
    type Delivery = NatsEvent;

    async fn fetch_events(&self, limit: usize, wait: Duration) -> Result<Vec<NatsEvent>, BusError> {
        let messages = self.settler().fetch(limit, wait).await?;
        let decode = |message: Delivered| NatsEvent {
            event: decode_event(&message.subject, &message.payload),
            message,
        };
        Ok(messages.into_iter().map(decode).collect())
    }

    async fn event_progress(&self) -> Result<EventProgress, BusError> {
        // The stream first: if the consumer then has nothing left, everything up to this sequence is settled, also
        // where the floor itself hasn't moved (nothing was ever delivered, or the oldest events have expired).
        let stream = existing_stream(self.link(), STREAM_EVENTS).await?;
        let last_sequence = stream.state.last_sequence;
        let verb = format!("CONSUMER.INFO.{STREAM_EVENTS}.{CONSUMER_SETTLE}");
        let absent = [async_nats::jetstream::ErrorCode::CONSUMER_NOT_FOUND];
        let progress: Option<Progress> = self.link().js_maybe(&verb, &json!({}), &absent).await?;
        let settled_until = match progress {
            Some(Progress { num_pending: 0, num_ack_pending: 0, .. }) => last_sequence,
            Some(progress) => progress.ack_floor.stream_seq,
            None => 0,
        };
        Ok(EventProgress { last_sequence, settled_until })
    }

    async fn watch_events(&self) -> Result<BoxStream<'static, Event>, BusError> {
        let subscription = self.link().subscribe(EVENTS_ALL.into(), None).await?;
        Ok(subscription.map(|message| decode_event(&message.subject, &message.payload)).boxed())
    }
}
