//! Events: reporting, settling, watching.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt};
use serde_json::json;

use super::message::Delivered;
use super::pull::Puller;
use super::reports::Reporter;
use super::streams::{ConsumerSpec, existing_stream};
use super::{NatsBus, lock};
use crate::error::BusError;
use crate::events::{
    AttemptReport, Event, EventDelivery, EventProgress, EventReader, EventWriter, ProgressNote,
};
use crate::subjects::{CONSUMER_SETTLE, EVENTS_ALL, STREAM_EVENTS, progress_event};
use crate::wire::event::{decode_events, encode_progress};

/// Messages of one fetch, however many events are asked for: each may hold many.
const FETCH_MESSAGES_MAX: usize = 128;

/// How long a settler's fetch that has an event waits for others. Nobody waits for a settlement but what follows the run,
/// and one at a time each would wake the settler, the store and the server once more.
const SETTLE_GATHER: Duration = Duration::from_millis(4);

/// An event in a settler's hands.
pub struct NatsEvent {
    message: Arc<Shared>,
    event: Event,
    acknowledged: AtomicBool,
}

/// A message and how many of its events are still open: it is acknowledged with the last of them.
struct Shared {
    message: Delivered,
    open: AtomicUsize,
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
        if !self.acknowledged.swap(true, Ordering::AcqRel) {
            self.message.open.fetch_sub(1, Ordering::AcqRel);
        }
        if self.message.open.load(Ordering::Acquire) > 0 {
            return Ok(());
        }
        self.message.message.ack().await
    }
}

/// The events of one delivery. One that is dropped unacknowledged brings all of them again.
fn events_of(message: Delivered) -> impl Iterator<Item = NatsEvent> {
    let events = decode_events(&message.subject, &message.payload);
    let message = Arc::new(Shared { message, open: AtomicUsize::new(events.len()) });
    let event =
        move |event| NatsEvent { message: Arc::clone(&message), event, acknowledged: AtomicBool::new(false) };
    events.into_iter().map(event)
}

impl EventWriter for NatsBus {
    async fn report(&self, report: &AttemptReport) -> Result<(), BusError> {
        let reporter = {
            let new = || Reporter::spawn(self.link().clone(), &report.queue);
            lock(&self.shared.reporters).entry(report.queue.clone()).or_insert_with(new).clone()
        };
        reporter.report(report, self.is_idle(&report.queue)).await
    }

    async fn note_progress(&self, note: &ProgressNote) -> Result<(), BusError> {
        self.link().publish(progress_event(&note.queue), encode_progress(note)).await
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
        let consumer = || ConsumerSpec::shared(STREAM_EVENTS, CONSUMER_SETTLE);
        let new = || Puller::spawn(&self.shared.access, consumer(), SETTLE_GATHER);
        lock(&self.shared.settler).get_or_insert_with(new).clone()
    }
}

impl EventReader for NatsBus {
    type Delivery = NatsEvent;

    async fn fetch_events(&self, limit: usize, wait: Duration) -> Result<Vec<NatsEvent>, BusError> {
        let messages = self.settler().fetch(limit.min(FETCH_MESSAGES_MAX), wait).await?;
        Ok(messages.into_iter().flat_map(events_of).collect())
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
        Ok(events_in(subscription).boxed())
    }
}

fn events_in(messages: impl Stream<Item = async_nats::Message>) -> impl Stream<Item = Event> {
    messages.flat_map(|message| stream::iter(decode_events(&message.subject, &message.payload)))
}
