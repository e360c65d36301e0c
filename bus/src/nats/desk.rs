//! Storing messages, many at once: the acks of a connection come to one inbox, each under its call and its place there.
//!
//! A request of the client's own costs a token, a place in a map, a channel and a wake-up for each message; here a call is
//! woken once, by its last ack.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_nats::{Message, StatusCode, Subject, Subscriber};
use futures_util::StreamExt;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::task::JoinHandle;

use super::link::{Stored, read_stored};
use super::lock;
use crate::error::BusError;

/// Messages without an ack on one connection. Further ones wait here, where their time doesn't count yet.
const IN_FLIGHT_MAX: u32 = 4_096;

/// Where the acks of one connection come.
pub(super) struct Desk {
    inbox: String,
    calls: Arc<Calls>,
    last_call: AtomicU64,
    room: Semaphore,
    task: JoinHandle<()>,
}

type Calls = Mutex<HashMap<u64, Arc<Call>>>;

/// Some messages that were sent together.
struct Call {
    answers: Mutex<Answers>,
    done: Notify,
}

struct Answers {
    by_place: Vec<Option<Result<Stored, BusError>>>,
    open: usize,
}

/// A call under way; forgotten when it is dropped.
pub(super) struct OpenCall<'a> {
    desk: &'a Desk,
    number: u64,
    call: Arc<Call>,
}

impl Desk {
    /// `subscription` must be to everything below `inbox`.
    pub(super) fn new(inbox: String, subscription: Subscriber) -> Self {
        let calls = Arc::new(Calls::default());
        let task = tokio::spawn(listen(subscription, inbox.len() + 1, Arc::clone(&calls)));
        let room = Semaphore::new(IN_FLIGHT_MAX as usize);
        Self { inbox, calls, last_call: AtomicU64::new(0), room, task }
    }

    /// Room for so many messages, in the order of asking.
    pub(super) async fn room(&self, messages: usize) -> Option<SemaphorePermit<'_>> {
        let messages = u32::try_from(messages).unwrap_or(u32::MAX).min(IN_FLIGHT_MAX);
        // Nobody closes the semaphore.
        self.room.acquire_many(messages).await.ok()
    }

    pub(super) fn open(&self, messages: usize) -> OpenCall<'_> {
        let number = self.last_call.fetch_add(1, Ordering::Relaxed);
        let answers = Answers { by_place: vec![None; messages], open: messages };
        let call = Arc::new(Call { answers: Mutex::new(answers), done: Notify::new() });
        lock(&self.calls).insert(number, Arc::clone(&call));
        OpenCall { desk: self, number, call }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        // Its subscription would keep the connection alive.
        self.task.abort();
    }
}

impl OpenCall<'_> {
    /// Where the ack of the message at this place is to come.
    pub(super) fn reply(&self, place: usize) -> Subject {
        format!("{}.{}.{place}", self.desk.inbox, self.number).into()
    }

    pub(super) fn answer(&self, place: usize, answer: Result<Stored, BusError>) {
        self.call.answer(place, answer);
    }

    /// Waits until every message has its answer.
    pub(super) async fn answered(&self) {
        self.call.done.notified().await;
    }

    /// What came, by place.
    pub(super) fn close(self) -> Vec<Option<Result<Stored, BusError>>> {
        std::mem::take(&mut lock(&self.call.answers).by_place)
    }
}

impl Drop for OpenCall<'_> {
    fn drop(&mut self) {
        lock(&self.desk.calls).remove(&self.number);
    }
}

impl Call {
    fn answer(&self, place: usize, answer: Result<Stored, BusError>) {
        let mut answers = lock(&self.answers);
        let Some(free) = answers.by_place.get_mut(place).filter(|known| known.is_none()) else { return };
        *free = Some(answer);
        answers.open -= 1;
        if answers.open == 0 {
            self.done.notify_one();
        }
    }
}

async fn listen(mut subscription: Subscriber, prefix_bytes: usize, calls: Arc<Calls>) {
    while let Some(message) = subscription.next().await {
        let Some((number, place)) = place_of(&message.subject, prefix_bytes) else { continue };
        // One that came too late has no call any more.
        let Some(call) = lock(&calls).get(&number).cloned() else { continue };
        call.answer(place, read_answer(&message));
    }
}

fn place_of(subject: &str, prefix_bytes: usize) -> Option<(u64, usize)> {
    let (number, place) = subject.get(prefix_bytes..)?.split_once('.')?;
    Some((number.parse().ok()?, place.parse().ok()?))
}

fn read_answer(message: &Message) -> Result<Stored, BusError> {
    if message.status == Some(StatusCode::NO_RESPONDERS) {
        return Err(BusError::Failed("no stream listens there".into()));
    }
    read_stored(&message.payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ack_is_told_by_call_and_place() {
        assert_eq!(place_of("_INBOX.abc.17.3", "_INBOX.abc.".len()), Some((17, 3)));
        for other in ["_INBOX.abc", "_INBOX.abc.17", "_INBOX.abc.x.3", "_INBOX.abc.17.-3"] {
            assert_eq!(place_of(other, "_INBOX.abc.".len()), None, "{other}");
        }
    }
}
