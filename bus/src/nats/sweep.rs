//! After the loss of a reading connection: finds the message that it died of, parks it, removes it.
//!
//! What the server sent last isn't told anywhere, so everything of the consumer that may be on its way is read again, in
//! a form that harms nobody, on the trusted connection. Parked first and removed then, so that a crash in between, or
//! two processes that sweep at once, leave one letter and lose nothing.

use serde_json::json;

use super::ACK_PENDING_MAX;
use super::dead::park;
use super::header_block::{Malformed, check};
use super::link::Link;
use super::runs::{UnreadMessage, delete_message, unread_message};
use super::streams::ConsumerSpec;
use crate::dead::{DeadLetter, DeadReason};
use crate::error::BusError;
use crate::subjects::{QueueSubject, parse_queue_subject};

/// Messages that one sweep reads: so many may be on their way.
const SWEEP_MESSAGES_MAX: usize = ACK_PENDING_MAX as usize;
/// How many sequences before the last delivered one are looked at first: the culprit has usually just been delivered.
const NEAR_SEQUENCES: u64 = 1_000;
/// Messages behind the last delivered one that are looked at as well: who publishes one bad message publishes more, and
/// each would cost a connection.
const AHEAD_MESSAGES: usize = 64;

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Swept {
    pub(super) read: usize,
    pub(super) parked: usize,
}

#[derive(serde::Deserialize)]
struct Progress {
    delivered: Place,
    ack_floor: Place,
}

#[derive(serde::Deserialize)]
struct Place {
    stream_seq: u64,
}

/// Parks and removes every message of a consumer that the client can't read, as far as the limits go.
pub(super) async fn sweep(link: &Link, consumer: &ConsumerSpec) -> Result<Swept, BusError> {
    let mut sweep = Sweep { link, stream: consumer.stream, swept: Swept::default() };
    let verb = format!("CONSUMER.INFO.{}.{}", consumer.stream, consumer.name);
    let absent = [async_nats::jetstream::ErrorCode::CONSUMER_NOT_FOUND];
    let progress: Option<Progress> = link.js_maybe(&verb, &json!({}), &absent).await?;
    let Some(Progress { delivered, ack_floor }) = progress else { return Ok(sweep.swept) };
    let near = (ack_floor.stream_seq + 1).max(delivered.stream_seq.saturating_sub(NEAR_SEQUENCES));
    let all = [">".to_owned()];
    let filters = if consumer.filters.is_empty() { &all[..] } else { &consumer.filters[..] };
    // The last filter first: there anybody may publish.
    for filter in filters.iter().rev() {
        sweep.read(filter, near, delivered.stream_seq, AHEAD_MESSAGES).await?;
    }
    if sweep.swept.parked == 0 {
        for filter in filters.iter().rev() {
            sweep.read(filter, ack_floor.stream_seq + 1, near - 1, 0).await?;
        }
    }
    Ok(sweep.swept)
}

struct Sweep<'a> {
    link: &'a Link,
    stream: &'static str,
    swept: Swept,
}

impl Sweep<'_> {
    /// Reads the messages of a subject from one sequence to another, and some beyond.
    async fn read(&mut self, filter: &str, from: u64, until: u64, beyond: usize) -> Result<(), BusError> {
        let mut next = from.max(1);
        let mut ahead = 0;
        while self.swept.read < SWEEP_MESSAGES_MAX && (next <= until || ahead < beyond) {
            let which = json!({"seq": next, "next_by_subj": filter});
            let Some(message) = unread_message(self.link, self.stream, &which).await? else { break };
            if message.sequence > until {
                ahead += 1;
                if ahead > beyond {
                    break;
                }
            }
            next = message.sequence + 1;
            self.swept.read += 1;
            if let Err(malformed) = check(&message.subject, &message.block) {
                self.quarantine(message, malformed).await?;
            }
        }
        Ok(())
    }

    async fn quarantine(&mut self, message: UnreadMessage, malformed: Malformed) -> Result<(), BusError> {
        let sequence = message.sequence;
        tracing::warn!(stream = self.stream, sequence, subject = %message.subject, problem = %malformed.problem,
            "parking a message that no client of ours can read");
        let letter = letter(self.stream, message, malformed);
        park(self.link, &letter).await?;
        delete_message(self.link, self.stream, sequence).await?;
        self.swept.parked += 1;
        Ok(())
    }
}

fn letter(stream: &str, message: UnreadMessage, malformed: Malformed) -> DeadLetter {
    let ad_hoc = matches!(
        parse_queue_subject(&message.subject),
        Some((QueueSubject::Submit | QueueSubject::Defer, _))
    );
    DeadLetter {
        id: format!("{stream}/{}", message.sequence),
        subject: message.subject,
        reason: if ad_hoc { DeadReason::MalformedHeaders } else { DeadReason::Undecodable },
        error: malformed.problem,
        attempts: 0,
        attempt_log: vec![],
        // It never lived. So everybody who parks it says the same.
        died_at: message.stored_at,
        original_headers: malformed.headers,
        payload: message.payload,
    }
}
