//! What untrusted publishers send: ad-hoc work for now (`ecron.submit.…`) and for later (`ecron.defer.…`).
//!
//! Only the headers named here are read. Any other `Ecron-*` header is a problem rather than ignored: a misspelt retry
//! policy must not silently become the default, and `Ecron-Kind: exec` must never be believed.

use std::time::Duration;

use bytes::Bytes;
use model::id::{Key, Revision, RunId};
use model::limits::{DEFER_MAX, HEADER_BYTES_MAX, PAYLOAD_BYTES_MAX};
use model::name::QueueId;
use model::retry::RetryPolicy;
use model::run::Generation;
use model::spec::TIMEOUT_DEFAULT;
use model::time::Timestamp;

use super::headers::{self, AT, DELAY, Headers, KEY, MESSAGE_ID, RETRY, TIMEOUT, WIRE, problem};
use super::order::{RawRun, sequence_key};
use crate::order::{Order, OrderProblem, WorkKind};
use crate::subjects::{QueueSubject, parse_queue_subject};

/// Ad-hoc work for later, as its publisher asked for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Deferred {
    pub queue: QueueId,
    /// The publisher's idempotency key, if it gave one.
    pub key: Option<Key>,
    /// When to run it; an instant that had passed when the message arrived became that of its arrival.
    pub due_at: Timestamp,
    pub timeout: Duration,
    pub retry: RetryPolicy,
    /// The user's own headers.
    pub headers: Headers,
    pub payload: Bytes,
}

/// What both kinds of ad-hoc work may say.
struct Request {
    key: Option<Key>,
    timeout: Duration,
    retry: RetryPolicy,
}

fn read_request(headers: &Headers, payload: &Bytes, known: &[&str]) -> Result<Request, OrderProblem> {
    if payload.len() > PAYLOAD_BYTES_MAX {
        let bytes = payload.len();
        return Err(problem("payload", format!("has {bytes} bytes; the limit is {PAYLOAD_BYTES_MAX}")));
    }
    let bytes = headers::block_bytes(headers);
    if bytes > HEADER_BYTES_MAX {
        return Err(problem("block", format!("has {bytes} bytes; the limit is {HEADER_BYTES_MAX}")));
    }
    if let Some(name) = headers.keys().find(|name| headers::is_ours(name) && !known.contains(&name.as_str()))
    {
        return Err(problem(name, format!("isn't one that a publisher may send ({})", known.join(", "))));
    }
    if let Some(version) = headers::optional(headers, WIRE)? {
        headers::check_version(version)?;
    }
    let key = match headers::optional(headers, KEY)? {
        Some(key) => Some((KEY, key)),
        None => headers::optional(headers, MESSAGE_ID)?.map(|key| (MESSAGE_ID, key)),
    };
    let key = key
        .map(|(name, text)| Key::new(text).map_err(|e| problem(name, format!("failed to {e}"))))
        .transpose()?;
    let timeout = headers::optional(headers, TIMEOUT)?.map(headers::timeout).transpose()?;
    let retry = headers::optional(headers, RETRY)?.map(headers::retry).transpose()?;
    Ok(Request { key, timeout: timeout.unwrap_or(TIMEOUT_DEFAULT), retry: retry.unwrap_or_default() })
}

/// The order in a message on `ecron.submit.…`. Its run id is the queue's name with the publisher's key, its message id
/// or, failing both, its place in the stream.
pub(crate) fn decode_submit(queue: QueueId, raw: RawRun<'_>) -> Result<Order, OrderProblem> {
    let request = read_request(raw.headers, raw.payload, &[WIRE, KEY, TIMEOUT, RETRY])?;
    let key = match request.key {
        Some(key) => key,
        None => sequence_key(raw.sequence)?,
    };
    Ok(Order {
        run_id: RunId::AdHoc { queue: queue.clone(), key },
        queue,
        kind: WorkKind::Payload,
        revision: Revision(0),
        generation: Generation(0),
        due_at: raw.stored_at,
        attempt_base: 0,
        timeout: request.timeout,
        retry: request.retry,
        start_by: None,
        deadline: None,
        headers: headers::users(raw.headers),
    })
}

/// The request in a message on `ecron.defer.…`, which arrived at `received_at`: exactly one of `Ecron-At` and
/// `Ecron-Delay`, and what a submitted message may say.
pub fn defer_request(
    subject: &str,
    headers: &Headers,
    payload: &Bytes,
    received_at: Timestamp,
) -> Result<Deferred, OrderProblem> {
    let Some((QueueSubject::Defer, queue)) = parse_queue_subject(subject) else {
        return Err(problem("subject", "isn't ecron.defer.NAMESPACE.QUEUE"));
    };
    let request = read_request(headers, payload, &[WIRE, AT, DELAY, KEY, TIMEOUT, RETRY])?;
    let (name, asked) = match (headers::optional(headers, AT)?, headers::optional(headers, DELAY)?) {
        (Some(_), Some(_)) => {
            return Err(problem(AT, "was given together with Ecron-Delay; expected one of them"));
        }
        (None, None) => return Err(problem(AT, "is missing, and so is Ecron-Delay; expected one of them")),
        (Some(at), None) => (AT, headers::instant(AT, at)?),
        (None, Some(delay)) => (DELAY, received_at.plus(headers::duration(DELAY, delay)?)),
    };
    if asked > received_at.plus(DEFER_MAX) {
        let days = DEFER_MAX.as_secs() / 86_400;
        return Err(problem(name, format!("is more than {days} days ahead")));
    }
    Ok(Deferred {
        queue,
        key: request.key,
        due_at: asked.max(received_at),
        timeout: request.timeout,
        retry: request.retry,
        headers: headers::users(headers),
        payload: payload.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::order::decode_order;
    use super::*;

    const NOW: Timestamp = Timestamp::from_ms(1_795_330_000_000);

    fn headers(pairs: &[(&str, &str)]) -> Headers {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn submit(pairs: &[(&str, &str)]) -> Result<Order, OrderProblem> {
        let payload = Bytes::from_static(b"x");
        let headers = headers(pairs);
        let subject = "ecron.submit.billing.reports";
        decode_order(RawRun { subject, headers: &headers, payload: &payload, sequence: 42, stored_at: NOW })
    }

    fn defer(pairs: &[(&str, &str)]) -> Result<Deferred, OrderProblem> {
        defer_request("ecron.defer.billing.reports", &headers(pairs), &Bytes::from_static(b"x"), NOW)
    }

    #[test]
    fn a_submitted_message_needs_no_header_at_all() {
        let order = submit(&[]).unwrap();
        assert_eq!(order.run_id.to_string(), "billing/reports~seq-42");
        assert_eq!((order.due_at, order.timeout), (NOW, TIMEOUT_DEFAULT));
        assert_eq!((order.kind, order.revision), (WorkKind::Payload, Revision(0)));
    }

    #[test]
    fn the_key_names_the_run_and_else_the_message_id() {
        let both = [("Ecron-Key", "order-17"), ("Nats-Msg-Id", "m-1")];
        assert_eq!(submit(&both).unwrap().run_id.to_string(), "billing/reports~order-17");
        assert_eq!(submit(&both[1..]).unwrap().run_id.to_string(), "billing/reports~m-1");
        assert_eq!(submit(&[("Nats-Msg-Id", "two words")]).unwrap_err().header, "Nats-Msg-Id");
    }

    #[test]
    fn what_a_publisher_may_not_say_is_a_problem_and_never_believed() {
        for name in
            ["Ecron-Kind", "Ecron-Run-Id", "Ecron-Generation", "ecron-key", "Ecron-Retries", "Ecron-At"]
        {
            assert_eq!(submit(&[(name, "exec")]).unwrap_err().header, name);
        }
        assert_eq!(submit(&[("Ecron-Retry", "attempts=0")]).unwrap_err().header, "Ecron-Retry");
        assert_eq!(submit(&[("Ecron-Timeout", "8d")]).unwrap_err().header, "Ecron-Timeout");
        assert_eq!(submit(&[("Ecron-Key", "a\nb")]).unwrap_err().problem, "was given more than once");
        assert_eq!(submit(&[("X", &"x".repeat(HEADER_BYTES_MAX))]).unwrap_err().header, "block");
    }

    #[test]
    fn users_headers_pass_and_the_servers_do_not() {
        let order = submit(&[("traceparent", "00"), ("Nats-Msg-Id", "m"), ("X-A", "1\n2")]).unwrap();
        assert_eq!(order.headers, headers(&[("traceparent", "00"), ("X-A", "1\n2")]));
    }

    #[test]
    fn too_large_a_payload_is_a_problem() {
        let payload = Bytes::from(vec![0; PAYLOAD_BYTES_MAX + 1]);
        let headers = Headers::new();
        let subject = "ecron.submit.a.b";
        let raw = RawRun { subject, headers: &headers, payload: &payload, sequence: 1, stored_at: NOW };
        assert_eq!(decode_order(raw).unwrap_err().header, "payload");
    }

    #[test]
    fn deferred_work_names_an_instant_or_a_delay() {
        let at = NOW.plus_ms(60_000);
        assert_eq!(defer(&[("Ecron-At", &at.to_string())]).unwrap().due_at, at);
        assert_eq!(defer(&[("Ecron-Delay", "1m")]).unwrap().due_at, at);
        assert_eq!(defer(&[("Ecron-At", "2020-01-01T00:00:00Z")]).unwrap().due_at, NOW, "past: now");
        assert_eq!(defer(&[]).unwrap_err().header, "Ecron-At");
        assert!(defer(&[("Ecron-At", &at.to_string()), ("Ecron-Delay", "1m")]).is_err());
        assert_eq!(defer(&[("Ecron-Delay", "367d")]).unwrap_err().header, "Ecron-Delay");
        assert_eq!(defer(&[("Ecron-At", "2199-01-01T00:00:00Z")]).unwrap_err().header, "Ecron-At");
        let full =
            defer(&[("Ecron-Delay", "5s"), ("Ecron-Key", "k"), ("Ecron-Retry", "attempts=1")]).unwrap();
        assert_eq!((full.key.unwrap().as_str(), full.retry.attempts), ("k", 1));
        assert!(defer_request("ecron.submit.a.b", &Headers::new(), &Bytes::new(), NOW).is_err());
    }
}
