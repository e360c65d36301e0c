//! The run stream as dispatchers use it.

use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use model::name::QueueId;
use model::time::Timestamp;
use serde_json::json;
use tokio::time::Instant;

use super::headers::publication_headers;
use super::link::{Link, Outgoing};
use super::streams::{ConsumerSpec, existing_stream};
use super::{ACK_PENDING_MAX, NatsBus, PUBLISH_TIMEOUT, lock};
use crate::error::BusError;
use crate::order::Publication;
use crate::runs::{PUBLISH_BATCH_MAX, Published, RunStream, StoredRun, StreamExtent};
use crate::subjects::{QueueSubject, STREAM_RUNS, parse_queue_subject};
use crate::wire::headers::{Headers, MESSAGE_ID, START_BY};

/// For how long a queue's consumer that was seen counts as there. It bounds how long a queue whose stream was replaced
/// is without one; executors create theirs anyway.
const QUEUE_ENSURED_FOR: Duration = Duration::from_secs(30);

/// A message as the stream stores it.
pub(super) struct StoredMessage {
    pub(super) subject: String,
    pub(super) sequence: u64,
    pub(super) headers: Headers,
    pub(super) payload: Bytes,
    pub(super) stored_at: Timestamp,
}

#[derive(serde::Deserialize)]
struct MessageAnswer {
    message: RawMessage,
}

#[derive(serde::Deserialize)]
struct RawMessage {
    subject: String,
    seq: u64,
    #[serde(default)]
    hdrs: String,
    #[serde(default)]
    data: String,
    time: String,
}

/// A message as the stream stores it, with its header block unread.
pub(super) struct UnreadMessage {
    pub(super) subject: String,
    pub(super) sequence: u64,
    pub(super) block: Vec<u8>,
    pub(super) payload: Bytes,
    pub(super) stored_at: Timestamp,
}

/// Which stored message: by `{"seq": 7}`, `{"last_by_subj": "…"}` or `{"seq": 7, "next_by_subj": "…"}`. Asks the
/// stream's leader, so that it never answers with an older state than was acknowledged. `None`: there is none.
pub(super) async fn stored_message(
    link: &Link,
    stream: &str,
    which: &serde_json::Value,
) -> Result<Option<StoredMessage>, BusError> {
    let unread = unread_message(link, stream, which).await?;
    Ok(unread.map(|unread| StoredMessage {
        headers: parse_headers(&String::from_utf8_lossy(&unread.block)),
        subject: unread.subject,
        sequence: unread.sequence,
        payload: unread.payload,
        stored_at: unread.stored_at,
    }))
}

/// Like `stored_message`. The answer is JSON, so that no header block can harm the connection.
pub(super) async fn unread_message(
    link: &Link,
    stream: &str,
    which: &serde_json::Value,
) -> Result<Option<UnreadMessage>, BusError> {
    unread_message_unless(link, stream, which, &[]).await
}

/// Like `unread_message`; `None` also if the stream says one of these.
pub(super) async fn unread_message_unless(
    link: &Link,
    stream: &str,
    which: &serde_json::Value,
    absent: &[ErrorCode],
) -> Result<Option<UnreadMessage>, BusError> {
    let absent = [absent, &[ErrorCode::NO_MESSAGE_FOUND, ErrorCode::SEQUENCE_NOT_FOUND]].concat();
    let verb = format!("STREAM.MSG.GET.{stream}");
    let Some(answer) = link.js_maybe::<MessageAnswer>(&verb, which, &absent).await? else { return Ok(None) };
    let raw = answer.message;
    let unreadable =
        |what: &str| BusError::Refused(format!("message {} of {stream}: unreadable {what}", raw.seq));
    Ok(Some(UnreadMessage {
        block: STANDARD.decode(&raw.hdrs).map_err(|_| unreadable("headers"))?,
        payload: STANDARD.decode(&raw.data).map_err(|_| unreadable("data"))?.into(),
        stored_at: raw.time.parse().map_err(|_| unreadable("time"))?,
        subject: raw.subject,
        sequence: raw.seq,
    }))
}

/// Removes a message from its stream; `false` if it isn't there (any more).
pub(super) async fn delete_message(link: &Link, stream: &str, sequence: u64) -> Result<bool, BusError> {
    // What JetStream says of a message that isn't there depends on where it isn't.
    let absent =
        [ErrorCode::NO_MESSAGE_FOUND, ErrorCode::SEQUENCE_NOT_FOUND, ErrorCode::STREAM_MESSAGE_DELETE_FAILED];
    let body = json!({"seq": sequence, "no_erase": true});
    let verb = format!("STREAM.MSG.DELETE.{stream}");
    Ok(link.js_maybe::<serde::de::IgnoredAny>(&verb, &body, &absent).await?.is_some())
}

/// A block of headers as the server stores it: `NATS/1.0`, then `Name: value`, a line each.
fn parse_headers(block: &str) -> Headers {
    let mut headers = Headers::new();
    for line in block.split("\r\n").skip(1) {
        let Some((name, value)) = line.split_once(':') else { continue };
        headers
            .entry(name.to_owned())
            .and_modify(|values| {
                values.push(crate::wire::headers::REPEATED);
                values.push_str(value.trim());
            })
            .or_insert_with(|| value.trim().to_owned());
    }
    headers
}

impl RunStream for NatsBus {
    async fn publish(&self, publications: Vec<Publication>) -> Vec<Result<Published, BusError>> {
        let mut results = Vec::with_capacity(publications.len());
        let mut publications = publications.into_iter().peekable();
        while publications.peek().is_some() {
            let batch = publications.by_ref().take(PUBLISH_BATCH_MAX).map(outgoing).collect();
            results.extend(self.link().store(batch, PUBLISH_TIMEOUT).await.into_iter().map(|stored| {
                stored.map(|stored| Published { sequence: stored.sequence, duplicate: stored.duplicate })
            }));
        }
        results
    }

    async fn stored_message_id(&self, sequence: u64) -> Result<Option<String>, BusError> {
        let stored = stored_message(self.link(), STREAM_RUNS, &json!({"seq": sequence})).await?;
        Ok(stored.map(|mut message| message.headers.remove(MESSAGE_ID).unwrap_or_default()))
    }

    async fn stored_run(&self, sequence: u64) -> Result<Option<StoredRun>, BusError> {
        let stored = stored_message(self.link(), STREAM_RUNS, &json!({"seq": sequence})).await?;
        Ok(stored.map(|mut message| StoredRun {
            message_id: message.headers.remove(MESSAGE_ID).unwrap_or_default(),
            queue: parse_queue_subject(&message.subject).map(|(_, queue)| queue),
            start_by: message.headers.get(START_BY).and_then(|text| text.parse().ok()),
        }))
    }

    async fn extent(&self) -> Result<StreamExtent, BusError> {
        let info = existing_stream(self.link(), STREAM_RUNS).await?;
        let created_ms = info.created.unix_timestamp_nanos() / 1_000_000;
        Ok(StreamExtent {
            created_at: Timestamp::from_ms(i64::try_from(created_ms).unwrap_or(0)),
            last_sequence: info.state.last_sequence,
            messages: info.state.messages,
        })
    }

    async fn ensure_queue(&self, queue: &QueueId) -> Result<(), BusError> {
        let now = Instant::now();
        let seen = lock(&self.shared.ensured).get(queue).copied();
        if seen.is_some_and(|seen| now < seen + QUEUE_ENSURED_FOR) {
            return Ok(());
        }
        ConsumerSpec::of_queue(queue, self.shared.options.ack_wait).ensure(self.link()).await?;
        lock(&self.shared.ensured).insert(queue.clone(), now);
        Ok(())
    }

    async fn limit_queue(&self, queue: &QueueId, most: Option<u32>) -> Result<(), BusError> {
        let spec = ConsumerSpec::of_queue(queue, self.shared.options.ack_wait);
        spec.limit(self.link(), most.map_or(ACK_PENDING_MAX, i64::from)).await
    }

    async fn withdraw(&self, sequence: u64) -> Result<bool, BusError> {
        delete_message(self.link(), STREAM_RUNS, sequence).await
    }

    fn connected(&self) -> bool {
        self.link().is_connected()
    }
}

fn outgoing(publication: Publication) -> Outgoing {
    Outgoing {
        subject: QueueSubject::Run.of(&publication.order.queue),
        headers: publication_headers(&publication),
        payload: publication.payload,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_headers_are_read_with_repeated_ones_joined() {
        let headers = parse_headers("NATS/1.0\r\nA: 1\r\nB:two: 2 \r\nA: 3\r\nnonsense\r\n\r\n");
        let expected = [("A", "1\n3"), ("B", "two: 2")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(headers, Headers::from(expected));
    }
}
