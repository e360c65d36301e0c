//! Run messages: an order as headers, and headers as an order. Message ids.

use std::hash::Hasher;

use bytes::Bytes;
use model::id::{Key, Revision, RunId};
use model::name::QueueId;
use model::run::Generation;
use model::time::Timestamp;
use siphasher::sip::SipHasher24;

use super::headers::{
    self, ATTEMPT_BASE, DEADLINE, DUE_AT, GENERATION, Headers, KIND, MESSAGE_ID, RETRY, REVISION, RUN_ID,
    START_BY, TIMEOUT, WIRE, WIRE_VERSION, problem,
};
use super::publisher;
use crate::order::{Order, OrderProblem, Publication, WorkKind};
use crate::subjects::{QueueSubject, parse_queue_subject};

/// A message of the run stream as it came, before anybody believed it.
#[derive(Clone, Copy, Debug)]
pub struct RawRun<'a> {
    pub subject: &'a str,
    pub headers: &'a Headers,
    pub payload: &'a Bytes,
    /// Its sequence in the run stream.
    pub sequence: u64,
    /// When the server stored it.
    pub stored_at: Timestamp,
}

/// The message id of a run: the run's id and a keyed suffix, so that no publisher can occupy a future run's id; then
/// `/g<generation>` and `/r<republished>` where they aren't zero, so that a redrive and a rescue aren't taken for
/// duplicates.
///
/// ```
/// use ecron_bus::wire::message_id;
/// use model::run::Generation;
/// let run = "billing/nightly-report@2026-11-22T06:45:00Z".parse().unwrap();
/// let id = message_id(&[0; 16], &run, Generation(0), 2);
/// assert_eq!(id, "billing/nightly-report@2026-11-22T06:45:00Z~0b46f2a2d13a8bf5/r2");
/// ```
#[must_use]
pub fn message_id(key: &[u8; 16], run_id: &RunId, generation: Generation, republished: u32) -> String {
    let run_id = run_id.to_string();
    let mut hasher = SipHasher24::new_with_key(key);
    hasher.write(format!("{run_id}/{}/{republished}", generation.0).as_bytes());
    let mut id = format!("{run_id}~{:016x}", hasher.finish());
    if generation.0 > 0 {
        id.push_str(&format!("/g{}", generation.0));
    }
    if republished > 0 {
        id.push_str(&format!("/r{republished}"));
    }
    id
}

impl WorkKind {
    /// The word of `Ecron-Kind`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Payload => "payload",
            Self::Exec => "exec",
            Self::Http => "http",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        [Self::Payload, Self::Exec, Self::Http].into_iter().find(|kind| kind.as_str() == word)
    }
}

/// The headers of a run message. A user's header with a reserved name is left out.
#[must_use]
pub fn encode_order(order: &Order) -> Headers {
    let mut headers = headers::users(&order.headers);
    each_header(order, |name, value| {
        headers.insert(name.into(), value);
    });
    headers
}

/// Says the headers of an order that are ours.
pub(crate) fn each_header(order: &Order, mut set: impl FnMut(&'static str, String)) {
    set(WIRE, WIRE_VERSION.into());
    set(RUN_ID, order.run_id.to_string());
    set(REVISION, order.revision.to_string());
    set(GENERATION, order.generation.0.to_string());
    set(DUE_AT, order.due_at.to_string());
    set(ATTEMPT_BASE, order.attempt_base.to_string());
    set(TIMEOUT, headers::format_duration(order.timeout));
    set(RETRY, headers::format_retry(&order.retry));
    set(KIND, order.kind.as_str().into());
    if let Some(start_by) = order.start_by {
        set(START_BY, start_by.to_string());
    }
    if let Some(deadline) = order.deadline {
        set(DEADLINE, deadline.to_string());
    }
}

/// The headers of a publication: its order's, and its message id.
#[must_use]
pub fn encode_publication(publication: &Publication) -> Headers {
    let mut headers = encode_order(&publication.order);
    headers.insert(MESSAGE_ID.into(), publication.message_id.clone());
    headers
}

/// What a message of the run stream asks for: a dispatcher's run, or a publisher's ad-hoc work.
pub fn decode_order(raw: RawRun<'_>) -> Result<Order, OrderProblem> {
    match parse_queue_subject(raw.subject) {
        Some((QueueSubject::Run, queue)) => decode_run(queue, raw.headers),
        Some((QueueSubject::Submit, queue)) => publisher::decode_submit(queue, raw),
        Some((QueueSubject::Defer, _)) | None => {
            Err(problem("subject", "isn't one of a queue (ecron.run.… or ecron.submit.…)"))
        }
    }
}

fn decode_run(queue: QueueId, headers: &Headers) -> Result<Order, OrderProblem> {
    headers::check_version(headers::required(headers, WIRE)?)?;
    let run_id = headers::required(headers, RUN_ID)?;
    let run_id: RunId =
        run_id.parse().map_err(|e: model::id::IdError| problem(RUN_ID, format!("failed to {e}")))?;
    if let RunId::AdHoc { queue: named, .. } = &run_id
        && *named != queue
    {
        return Err(problem(RUN_ID, format!("belongs to queue {named}, but came on that of {queue}")));
    }
    let kind = headers::required(headers, KIND)?;
    let start_by = headers::optional(headers, START_BY)?;
    let deadline = headers::optional(headers, DEADLINE)?;
    Ok(Order {
        run_id,
        queue,
        kind: WorkKind::from_word(kind)
            .ok_or_else(|| problem(KIND, format!("is {kind:?}; known are payload, exec, http")))?,
        revision: Revision(headers::number(REVISION, headers::required(headers, REVISION)?)?),
        generation: Generation(headers::number(GENERATION, headers::required(headers, GENERATION)?)?),
        due_at: headers::instant(DUE_AT, headers::required(headers, DUE_AT)?)?,
        attempt_base: headers::number(ATTEMPT_BASE, headers::required(headers, ATTEMPT_BASE)?)?,
        timeout: headers::timeout(headers::required(headers, TIMEOUT)?)?,
        retry: headers::retry(headers::required(headers, RETRY)?)?,
        start_by: start_by.map(|text| headers::instant(START_BY, text)).transpose()?,
        deadline: deadline.map(|text| headers::instant(DEADLINE, text)).transpose()?,
        headers: headers::users(headers),
    })
}

/// The key of a message that its publisher gave none: its place in the stream.
pub(crate) fn sequence_key(sequence: u64) -> Result<Key, OrderProblem> {
    Key::new(&format!("seq-{sequence}")).map_err(|e| problem(headers::KEY, format!("failed to {e}")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use model::retry::RetryPolicy;
    use proptest::prelude::*;

    use super::*;

    fn order() -> Order {
        Order {
            run_id: "billing/nightly-report@2026-11-22T06:45:00Z".parse().unwrap(),
            queue: "billing/reports".parse().unwrap(),
            kind: WorkKind::Payload,
            revision: Revision(17),
            generation: Generation(0),
            due_at: "2026-11-22T06:45:00Z".parse().unwrap(),
            attempt_base: 0,
            timeout: Duration::from_secs(600),
            retry: RetryPolicy::default(),
            start_by: Some("2026-11-22T06:50:00Z".parse().unwrap()),
            deadline: None,
            headers: [("traceparent".to_owned(), "00-1-2-01".to_owned())].into(),
        }
    }

    fn decode(headers: &Headers) -> Result<Order, OrderProblem> {
        decode_order(RawRun {
            subject: "ecron.run.billing.reports",
            headers,
            payload: &Bytes::new(),
            sequence: 1,
            stored_at: Timestamp::from_ms(0),
        })
    }

    #[test]
    fn the_headers_of_a_run_never_change() {
        let publication = Publication { order: order(), message_id: "id".into(), payload: Bytes::new() };
        let text: Vec<String> =
            encode_publication(&publication).iter().map(|(name, value)| format!("{name}: {value}")).collect();
        let expected = "Ecron-Attempt-Base: 0|Ecron-Due-At: 2026-11-22T06:45:00Z|Ecron-Generation: 0|\
            Ecron-Kind: payload|Ecron-Retry: attempts=3,initial=10s,factor=2,max=10m,jitter=0.2|Ecron-Revision: 17|\
            Ecron-Run-Id: billing/nightly-report@2026-11-22T06:45:00Z|Ecron-Start-By: 2026-11-22T06:50:00Z|\
            Ecron-Timeout: 10m|Ecron-Wire: 1|Nats-Msg-Id: id|traceparent: 00-1-2-01";
        assert_eq!(text.join("|"), expected);
    }

    #[test]
    fn message_ids_never_change() {
        let run: RunId = "billing/nightly-report@2026-11-22T06:45:00Z".parse().unwrap();
        let key = *b"0123456789abcdef";
        assert_eq!(
            message_id(&key, &run, Generation(0), 0),
            "billing/nightly-report@2026-11-22T06:45:00Z~6ccf077f5f982cdb"
        );
        assert_eq!(
            message_id(&key, &run, Generation(2), 3),
            "billing/nightly-report@2026-11-22T06:45:00Z~fbd6a1a1d7cce9b0/g2/r3"
        );
    }

    #[test]
    fn every_missing_malformed_or_repeated_header_is_named() {
        let good = encode_order(&order());
        for name in [WIRE, RUN_ID, REVISION, GENERATION, DUE_AT, ATTEMPT_BASE, TIMEOUT, RETRY, KIND] {
            let mut headers = good.clone();
            headers.remove(name);
            assert_eq!(decode(&headers).unwrap_err(), problem(name, "is missing"));
            headers.insert(name.into(), "?".into());
            assert_eq!(decode(&headers).unwrap_err().header, name);
            headers.insert(name.into(), format!("{}\n{}", good[name], good[name]));
            assert_eq!(decode(&headers).unwrap_err(), problem(name, "was given more than once"));
        }
    }

    #[test]
    fn an_unknown_version_is_refused_with_both_named() {
        let mut headers = encode_order(&order());
        headers.insert(WIRE.into(), "2".into());
        assert_eq!(
            decode(&headers).unwrap_err().to_string(),
            "read header Ecron-Wire: is \"2\"; this version of ecron reads only \"1\""
        );
    }

    #[test]
    fn an_ad_hoc_run_can_only_come_on_its_own_queue() {
        let mut headers = encode_order(&order());
        headers.insert(RUN_ID.into(), "other/reports~17".into());
        assert_eq!(decode(&headers).unwrap_err().header, RUN_ID);
        headers.insert(RUN_ID.into(), "billing/reports~17".into());
        assert!(decode(&headers).is_ok());
    }

    fn orders() -> impl Strategy<Value = Order> {
        let when = 0i64..7_000_000_000_000;
        let retry = (1u32..=100, 0u64..86_400_000, 1.0f64..=100.0, 0u64..86_400_000, 0.0f64..=1.0);
        let ids = prop_oneof![
            when.clone().prop_map(|ms| format!("a/b@{}", Timestamp::from_ms(ms))),
            "[!-~]{1,128}".prop_map(|key| format!("ns/queue~{key}")),
        ];
        let users = proptest::collection::btree_map("X-[a-z]{1,8}", "[ -~]{0,20}", 0..4);
        let kind = prop_oneof![Just(WorkKind::Payload), Just(WorkKind::Exec), Just(WorkKind::Http)];
        let numbers = (any::<u64>(), any::<u32>(), any::<u32>(), 1u64..604_800_000);
        (ids, kind, numbers, when.clone(), proptest::option::of(when), retry, users).prop_map(
            |(id, kind, (revision, generation, base, timeout), due, start_by, retry, headers)| Order {
                run_id: id.parse().unwrap(),
                queue: "ns/queue".parse().unwrap(),
                kind,
                revision: Revision(revision),
                generation: Generation(generation),
                due_at: Timestamp::from_ms(due),
                attempt_base: base,
                timeout: Duration::from_millis(timeout),
                retry: RetryPolicy {
                    attempts: retry.0,
                    initial: Duration::from_millis(retry.1),
                    factor: retry.2,
                    max: Duration::from_millis(retry.3),
                    jitter: retry.4,
                },
                start_by: start_by.map(Timestamp::from_ms),
                deadline: start_by.map(Timestamp::from_ms),
                headers,
            },
        )
    }

    proptest! {
        #[test]
        fn orders_round_trip(order in orders()) {
            let payload = Bytes::new();
            let headers = encode_order(&order);
            let raw = RawRun { subject: "ecron.run.ns.queue", headers: &headers, payload: &payload, sequence: 1,
                stored_at: Timestamp::from_ms(0) };
            prop_assert_eq!(decode_order(raw), Ok(order));
        }

        #[test]
        fn arbitrary_headers_never_panic(
            subject in "(ecron\\.(run|submit|defer)\\.)?\\PC{0,20}|ecron\\.(run|submit)\\.a\\.b",
            names in proptest::collection::vec(prop_oneof![
                Just("Ecron-Retry".to_owned()), Just("Ecron-Timeout".to_owned()), Just("Ecron-Key".to_owned()),
                Just("Ecron-Run-Id".to_owned()), Just("Ecron-Due-At".to_owned()), Just("Ecron-Wire".to_owned()),
                Just("Nats-Msg-Id".to_owned()), Just("Ecron-At".to_owned()), Just("Ecron-Delay".to_owned()), any::<String>(),
            ], 0..12),
            values in proptest::collection::vec(any::<String>(), 12),
        ) {
            let headers: Headers = names.into_iter().zip(values).collect();
            let payload = Bytes::new();
            let stored_at = Timestamp::from_ms(0);
            let raw = RawRun { subject: &subject, headers: &headers, payload: &payload, sequence: 1, stored_at };
            let _ = decode_order(raw);
            let _ = publisher::defer_request(&subject, &headers, &payload, stored_at);
        }
    }
}
