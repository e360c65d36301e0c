//! Runs, queues, events, intake and dead letters in memory.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use model::id::RunId;
use model::name::QueueId;
use model::time::Timestamp;
use serde_json::json;
use tokio::sync::broadcast;

use super::log::Stored;
use super::{MemoryBus, after, with_id};
use crate::dead::{DeadLetter, DeadLetters, Redriven, StoredDeadLetter};
use crate::error::BusError;
use crate::events::{
    AttemptReport, Event, EventDelivery, EventProgress, EventReader, EventWriter, ProgressNote,
};
use crate::intake::{Intake, IntakeDelivery};
use crate::logs::{LOG_PAGE_MAX, LogBatch, LogReader, LogWriter, StoredLogBatch};
use crate::order::{Order, OrderProblem, Publication};
use crate::queue::{Delivery, Notes, QueueReader};
use crate::runs::{Published, RunStream, StoredRun, StreamExtent};
use crate::subjects::{
    QueueSubject, STREAM_RUNS, attempt_event, dead, log, parse_queue_subject, progress_event, queue_consumer,
};
use crate::wire::dead::{decode_letter, encode_letter, letter_id, queue_of, redrive_order};
use crate::wire::event::{decode_events, encode_progress, encode_report, report_id};
use crate::wire::headers::{Headers, MESSAGE_ID, START_BY};
use crate::wire::log::{decode_log, encode_log, log_id};
use crate::wire::message_id;
use crate::wire::order::{RawRun, decode_order, encode_publication};
use crate::wire::tally::{decode_tally, encode_tally};

impl RunStream for MemoryBus {
    async fn publish(&self, publications: Vec<Publication>) -> Vec<Result<Published, BusError>> {
        let publish = |publication: Publication| {
            let mut state = self.state()?;
            if state.unanswered_runs > 0 {
                state.unanswered_runs -= 1;
                return Err(BusError::Unknown("nobody answers".into()));
            }
            drop(state);
            let subject = QueueSubject::Run.of(&publication.order.queue);
            self.publish_raw(&subject, encode_publication(&publication), publication.payload)
        };
        publications.into_iter().map(publish).collect()
    }

    async fn stored_message_id(&self, sequence: u64) -> Result<Option<String>, BusError> {
        let state = self.state()?;
        let id = |stored: &Stored| stored.headers.get(MESSAGE_ID).cloned().unwrap_or_default();
        Ok(state.runs.messages.get(&sequence).map(id))
    }

    async fn stored_run(&self, sequence: u64) -> Result<Option<StoredRun>, BusError> {
        let state = self.state()?;
        Ok(state.runs.messages.get(&sequence).map(|stored| StoredRun {
            message_id: stored.headers.get(MESSAGE_ID).cloned().unwrap_or_default(),
            queue: parse_queue_subject(&stored.subject).map(|(_, queue)| queue),
            start_by: stored.headers.get(START_BY).and_then(|text| text.parse().ok()),
        }))
    }

    async fn extent(&self) -> Result<StreamExtent, BusError> {
        let state = self.state()?;
        let messages = u64::try_from(state.runs.messages.len()).unwrap_or(u64::MAX);
        let (created_at, last_sequence) = (state.runs_created_at, state.runs.last_sequence);
        Ok(StreamExtent { created_at, last_sequence, messages })
    }

    async fn ensure_queue(&self, _queue: &QueueId) -> Result<(), BusError> {
        self.state().map(drop)
    }

    async fn limit_queue(&self, queue: &QueueId, most: Option<u32>) -> Result<(), BusError> {
        self.state()?.queues.entry(queue.clone()).or_default().most_out = most.map(|most| most as usize);
        self.wake();
        Ok(())
    }

    async fn withdraw(&self, sequence: u64) -> Result<bool, BusError> {
        let mut state = self.state()?;
        for hands in state.queues.values_mut() {
            hands.close(sequence);
        }
        Ok(state.runs.messages.remove(&sequence).is_some())
    }

    fn connected(&self) -> bool {
        self.lock().connected
    }
}

/// A run's message in hand.
#[derive(Debug)]
pub struct MemoryDelivery {
    bus: MemoryBus,
    queue: QueueId,
    order: Result<Order, OrderProblem>,
    subject: String,
    headers: Headers,
    payload: Bytes,
    sequence: u64,
    stored_at: Timestamp,
    delivered: u32,
}

impl MemoryDelivery {
    fn hide(&self, wait: Duration) -> Result<(), BusError> {
        let until = after(self.bus.now(), wait);
        if let Some(hands) = self.bus.state()?.queues.get_mut(&self.queue) {
            hands.hide(self.sequence, until);
        }
        self.bus.wake();
        Ok(())
    }

    /// Out of the queue and the stream; `true` if it was there.
    fn remove(&self) -> Result<bool, BusError> {
        let mut state = self.bus.state()?;
        let open = state.queues.get_mut(&self.queue).is_some_and(|hands| hands.close(self.sequence));
        if open {
            state.runs.messages.remove(&self.sequence);
        }
        Ok(open)
    }
}

impl Delivery for MemoryDelivery {
    fn order(&self) -> &Result<Order, OrderProblem> {
        &self.order
    }

    fn payload(&self) -> &Bytes {
        &self.payload
    }

    fn raw_headers(&self) -> &BTreeMap<String, String> {
        &self.headers
    }

    fn subject(&self) -> &str {
        &self.subject
    }

    fn sequence(&self) -> u64 {
        self.sequence
    }

    fn stored_at(&self) -> Timestamp {
        self.stored_at
    }

    fn delivered(&self) -> u32 {
        self.delivered
    }

    async fn ack(&self) -> Result<(), BusError> {
        self.remove().map(drop)
    }

    async fn nak(&self, delay: Duration) -> Result<(), BusError> {
        self.hide(delay)
    }

    async fn term(&self, reason: &str) -> Result<(), BusError> {
        if self.remove()? {
            let consumer = queue_consumer(&self.queue);
            let advisory = json!({"stream": STREAM_RUNS, "consumer": consumer, "stream_seq": self.sequence,
                "deliveries": self.delivered, "reason": reason});
            let subject = format!("$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.{STREAM_RUNS}.{consumer}");
            let payload = advisory.to_string().into();
            let stored_at = self.bus.now();
            self.bus.state()?.append_event(Stored { subject, headers: Headers::new(), payload, stored_at });
            self.bus.wake();
        }
        Ok(())
    }

    async fn notes(&self) -> Result<Notes, BusError> {
        let state = self.bus.state()?;
        let (Ok(order), Some(noted)) = (&self.order, state.tallies.get(&self.sequence)) else {
            return Ok(Notes::default());
        };
        Ok(decode_tally(order, noted))
    }

    async fn note(&self, notes: &Notes) -> Result<(), BusError> {
        let Ok(order) = &self.order else { return Ok(()) };
        let noted = encode_tally(&order.run_id, order.generation, notes);
        self.bus.state()?.tallies.insert(self.sequence, noted);
        Ok(())
    }

    async fn in_progress(&self) -> Result<(), BusError> {
        self.hide(self.bus.shared.ack_wait)
    }
}

impl QueueReader for MemoryBus {
    type Delivery = MemoryDelivery;

    async fn fetch(
        &self,
        queue: &QueueId,
        limit: usize,
        wait: Duration,
    ) -> Result<Vec<MemoryDelivery>, BusError> {
        let ack_wait = self.shared.ack_wait;
        let taken = self
            .wait_for(wait, |state, now| {
                let hands = state.queues.entry(queue.clone()).or_default();
                let taken = hands.take(now, limit, after(now, ack_wait));
                let next = hands.next_visible();
                let messages = &state.runs.messages;
                let found = taken.into_iter().filter_map(|(sequence, delivered)| {
                    messages.get(&sequence).map(|stored| (sequence, delivered, stored.clone()))
                });
                (found.collect(), next)
            })
            .await?;
        let delivery = |(sequence, delivered, stored): (u64, u32, Stored)| {
            let order = decode_order(RawRun {
                subject: &stored.subject,
                headers: &stored.headers,
                payload: &stored.payload,
                sequence,
                stored_at: stored.stored_at,
            });
            MemoryDelivery {
                bus: self.clone(),
                queue: queue.clone(),
                order,
                subject: stored.subject,
                headers: stored.headers,
                payload: stored.payload,
                sequence,
                stored_at: stored.stored_at,
                delivered,
            }
        };
        Ok(taken.into_iter().map(delivery).collect())
    }

    fn ack_wait(&self) -> Duration {
        self.shared.ack_wait
    }
}

/// An event in a settler's hands.
#[derive(Debug)]
pub struct MemoryEvent {
    bus: MemoryBus,
    sequence: u64,
    event: Event,
}

impl EventDelivery for MemoryEvent {
    fn event(&self) -> &Event {
        &self.event
    }

    async fn ack(&self) -> Result<(), BusError> {
        self.bus.state()?.event_hands.close(self.sequence);
        Ok(())
    }
}

impl EventWriter for MemoryBus {
    async fn report(&self, report: &AttemptReport) -> Result<(), BusError> {
        let subject = attempt_event(&report.queue);
        let payload = encode_report(report);
        let headers = with_id(Headers::new(), report_id(report));
        let stored_at = self.now();
        let message = Stored { subject: subject.clone(), headers, payload: payload.clone(), stored_at };
        self.state()?.append_event(message);
        // Nobody watching is fine.
        let _ = self.shared.events.send((subject, payload));
        self.wake();
        Ok(())
    }

    async fn note_progress(&self, note: &ProgressNote) -> Result<(), BusError> {
        let (subject, payload) = (progress_event(&note.queue), encode_progress(note));
        let message = Stored {
            subject: subject.clone(),
            headers: Headers::new(),
            payload: payload.clone(),
            stored_at: self.now(),
        };
        self.state()?.append_event(message);
        // Nobody watching is fine.
        let _ = self.shared.events.send((subject, payload));
        self.wake();
        Ok(())
    }
}

impl LogWriter for MemoryBus {
    async fn log(&self, batch: &LogBatch) -> Result<(), BusError> {
        let message = Stored {
            subject: log(&batch.queue, &batch.run_id),
            headers: with_id(Headers::new(), log_id(batch)),
            payload: encode_log(batch),
            stored_at: self.now(),
        };
        self.state()?.logs.append(message);
        Ok(())
    }
}

impl LogReader for MemoryBus {
    async fn log_batches(
        &self,
        run_id: &RunId,
        from: u64,
        limit: usize,
    ) -> Result<Vec<StoredLogBatch>, BusError> {
        let state = self.state()?;
        let stored = state.logs.messages.range(from..).filter_map(|(sequence, stored)| {
            let batch = decode_log(&stored.payload).filter(|batch| batch.run_id == *run_id)?;
            Some(StoredLogBatch { sequence: *sequence, batch })
        });
        Ok(stored.take(limit.min(LOG_PAGE_MAX)).collect())
    }
}

impl EventReader for MemoryBus {
    type Delivery = MemoryEvent;

    async fn fetch_events(&self, limit: usize, wait: Duration) -> Result<Vec<MemoryEvent>, BusError> {
        let ack_wait = self.shared.ack_wait;
        let look = |state: &mut super::State, now: Timestamp| {
            let taken = state.event_hands.take(now, limit, after(now, ack_wait));
            let messages = &state.events.messages;
            let found = taken.into_iter().flat_map(|(sequence, _)| {
                let events = messages.get(&sequence).map(|m| decode_events(&m.subject, &m.payload));
                events.into_iter().flatten().map(move |event| (sequence, event))
            });
            (found.collect::<Vec<_>>(), state.event_hands.next_visible())
        };
        let found = self.wait_for(wait, look).await?;
        let delivery = |(sequence, event)| MemoryEvent { bus: self.clone(), sequence, event };
        Ok(found.into_iter().map(delivery).collect())
    }

    async fn event_progress(&self) -> Result<EventProgress, BusError> {
        let state = self.state()?;
        let last_sequence = state.events.last_sequence;
        let settled_until = state.event_hands.first_open().map_or(last_sequence, |first| first - 1);
        Ok(EventProgress { last_sequence, settled_until })
    }

    async fn watch_events(&self) -> Result<BoxStream<'static, Event>, BusError> {
        let received = self.shared.events.subscribe();
        let events = |(subject, payload): (String, Bytes)| stream::iter(decode_events(&subject, &payload));
        Ok(received_stream(received).flat_map(events).boxed())
    }
}

/// What is broadcast, without what a slow reader missed.
pub(super) fn received_stream<T: Clone + Send + 'static>(
    received: broadcast::Receiver<T>,
) -> impl futures_util::Stream<Item = T> + Send {
    stream::unfold(received, |mut received| async move {
        loop {
            match received.recv().await {
                Ok(item) => return Some((item, received)),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    })
}

/// One deferred message in hand.
#[derive(Debug)]
pub struct MemoryIntakeDelivery {
    bus: MemoryBus,
    subject: String,
    headers: Headers,
    payload: Bytes,
    sequence: u64,
    received_at: Timestamp,
}

impl IntakeDelivery for MemoryIntakeDelivery {
    fn subject(&self) -> &str {
        &self.subject
    }

    fn headers(&self) -> &BTreeMap<String, String> {
        &self.headers
    }

    fn payload(&self) -> &Bytes {
        &self.payload
    }

    fn sequence(&self) -> u64 {
        self.sequence
    }

    fn received_at(&self) -> Timestamp {
        self.received_at
    }

    async fn ack(&self) -> Result<(), BusError> {
        let mut state = self.bus.state()?;
        state.intake_hands.close(self.sequence);
        state.intake.messages.remove(&self.sequence);
        Ok(())
    }
}

impl Intake for MemoryBus {
    type Delivery = MemoryIntakeDelivery;

    async fn fetch_intake(
        &self,
        limit: usize,
        wait: Duration,
    ) -> Result<Vec<MemoryIntakeDelivery>, BusError> {
        let ack_wait = self.shared.ack_wait;
        let look = |state: &mut super::State, now: Timestamp| {
            let taken = state.intake_hands.take(now, limit, after(now, ack_wait));
            let messages = &state.intake.messages;
            let found = taken
                .into_iter()
                .filter_map(|(sequence, _)| messages.get(&sequence).map(|stored| (sequence, stored.clone())));
            (found.collect::<Vec<_>>(), state.intake_hands.next_visible())
        };
        let found = self.wait_for(wait, look).await?;
        let delivery = |(sequence, stored): (u64, Stored)| MemoryIntakeDelivery {
            bus: self.clone(),
            subject: stored.subject,
            headers: stored.headers,
            payload: stored.payload,
            sequence,
            received_at: stored.stored_at,
        };
        Ok(found.into_iter().map(delivery).collect())
    }
}

fn stored_letter((number, stored): (&u64, &Stored)) -> StoredDeadLetter {
    let letter = decode_letter(&stored.subject, &stored.headers, stored.payload.clone(), stored.stored_at);
    StoredDeadLetter { number: *number, letter }
}

impl DeadLetters for MemoryBus {
    async fn park(&self, letter: &DeadLetter) -> Result<u64, BusError> {
        let headers = with_id(encode_letter(letter), letter_id(letter));
        let subject = dead(queue_of(letter).as_ref());
        let message = Stored { subject, headers, payload: letter.payload.clone(), stored_at: self.now() };
        Ok(self.state()?.dead.append(message).sequence)
    }

    async fn letters(&self, from: u64, limit: usize) -> Result<Vec<StoredDeadLetter>, BusError> {
        Ok(self.state()?.dead.messages.range(from..).take(limit).map(stored_letter).collect())
    }

    async fn letter(&self, number: u64) -> Result<Option<StoredDeadLetter>, BusError> {
        Ok(self.state()?.dead.messages.get_key_value(&number).map(stored_letter))
    }

    async fn resend(&self, stored: &StoredDeadLetter) -> Result<Redriven, BusError> {
        let StoredDeadLetter { number, letter } = stored;
        let order = match redrive_order(letter) {
            Ok(order) => order,
            Err(problem) => return Ok(Redriven::Unreadable { problem: format!("failed to {problem}") }),
        };
        let key = self.state()?.cluster.as_ref().map_or([0; 16], |cluster| cluster.message_id_key);
        let id = format!("{}/letter-{number}", message_id(&key, &order.run_id, order.generation, 0));
        let (run_id, revision, generation) = (order.run_id.clone(), order.revision, order.generation);
        let publication = Publication { order, message_id: id, payload: letter.payload.clone() };
        let mut published = self.publish(vec![publication]).await;
        let published =
            published.pop().unwrap_or_else(|| Err(BusError::Failed("nothing was sent".into())))?;
        Ok(Redriven::Sent { run_id, revision, generation, sequence: published.sequence })
    }

    async fn purge(&self, number: u64) -> Result<bool, BusError> {
        Ok(self.state()?.dead.messages.remove(&number).is_some())
    }
}
