//! A message as a consumer delivered it: where it stands in the stream, and how to answer it.

use std::time::Duration;

use async_nats::{Message, Subject};
use bytes::Bytes;
use model::time::Timestamp;

use super::REQUEST_TIMEOUT;
use super::acks::Acker;
use super::headers::headers_of;
use super::link::Link;
use crate::error::BusError;
use crate::wire::headers::Headers;

/// What JetStream says about a delivery, in the subject on which it expects the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) sequence: u64,
    pub(super) consumer_sequence: u64,
    pub(super) delivered: u32,
    pub(super) stored_at: Timestamp,
    pub(super) pending: u64,
}

impl Position {
    /// Reads `$JS.ACK.[<domain>.<account>.]<stream>.<consumer>.<delivered>.<sequence>.<consumer seq>.<ns>.<pending>[.…]`.
    pub(super) fn parse(reply: &str) -> Option<Self> {
        const SHORT: usize = 7;
        const LONG: usize = 9;
        let tokens: Vec<&str> = reply.strip_prefix("$JS.ACK.")?.split('.').collect();
        let numbers = match tokens.len() {
            SHORT => tokens.get(2..)?,
            LONG.. => tokens.get(4..)?,
            _ => return None,
        };
        let number = |index: usize| numbers.get(index)?.parse::<u64>().ok();
        Some(Self {
            delivered: u32::try_from(number(0)?).unwrap_or(u32::MAX),
            sequence: number(1)?,
            consumer_sequence: number(2)?,
            stored_at: Timestamp::from_ms(i64::try_from(number(3)? / 1_000_000).ok()?),
            pending: number(4)?,
        })
    }
}

/// A delivered message and its answers.
pub(super) struct Delivered {
    link: Link,
    acker: Acker,
    reply: Subject,
    pub(super) subject: Subject,
    pub(super) headers: Headers,
    pub(super) payload: Bytes,
    pub(super) position: Position,
}

impl Delivered {
    /// `None`: not a delivery of a consumer.
    pub(super) fn new(link: &Link, acker: &Acker, message: Message) -> Option<Self> {
        let headers = headers_of(&message);
        let reply = message.reply?;
        let position = Position::parse(&reply)?;
        Some(Self {
            link: link.clone(),
            acker: acker.clone(),
            reply,
            subject: message.subject,
            headers,
            payload: message.payload,
            position,
        })
    }

    pub(super) async fn ack(&self) -> Result<(), BusError> {
        self.acker.ack(self.reply.clone()).await
    }

    pub(super) async fn nak(&self, delay: Duration) -> Result<(), BusError> {
        self.answer(nak_with(delay)).await
    }

    pub(super) async fn term(&self, reason: &str) -> Result<(), BusError> {
        let reason: String = reason.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect();
        self.answer(format!("+TERM {reason}").into()).await
    }

    pub(super) async fn in_progress(&self) -> Result<(), BusError> {
        self.answer_unconfirmed(Bytes::from_static(b"+WPI")).await
    }

    pub(super) async fn ack_unconfirmed(&self) -> Result<(), BusError> {
        self.answer_unconfirmed(Bytes::from_static(b"+ACK")).await
    }

    /// Answers and waits until the server has said that it heard. Boxed, because the rare answers would make every
    /// attempt's future large.
    async fn answer(&self, answer: Bytes) -> Result<(), BusError> {
        Box::pin(self.link.request(self.reply.clone(), None, answer, REQUEST_TIMEOUT)).await.map(drop)
    }

    async fn answer_unconfirmed(&self, answer: Bytes) -> Result<(), BusError> {
        Box::pin(self.link.publish(self.reply.clone(), answer)).await
    }
}

/// `-NAK`, with a delay in nanoseconds if there is one.
pub(super) fn nak_with(delay: Duration) -> Bytes {
    if delay.is_zero() {
        Bytes::from_static(b"-NAK")
    } else {
        format!("-NAK {{\"delay\": {}}}", delay.as_nanos()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_the_answer_subject_are_read() {
        let expected = Position {
            delivered: 2,
            sequence: 17,
            consumer_sequence: 5,
            stored_at: Timestamp::from_ms(1_795_330_000_123),
            pending: 4,
        };
        for reply in [
            "$JS.ACK.ECRON_RUNS.a_b.2.17.5.1795330000123456789.4",
            "$JS.ACK.hub.ACC.ECRON_RUNS.a_b.2.17.5.1795330000123456789.4",
            "$JS.ACK._.ACC.ECRON_RUNS.a_b.2.17.5.1795330000123456789.4.token",
        ] {
            assert_eq!(Position::parse(reply), Some(expected), "{reply}");
        }
        for bad in ["", "$JS.ACK.", "$JS.ACK.s.c.x.17.5.1.4", "_INBOX.a.b", "$JS.ACK.s.c.1.2.3.4"] {
            assert_eq!(Position::parse(bad), None, "{bad}");
        }
    }
}
