//! The verb `order.<ns>.<queue>`: what is to become of a run that was published under a revision that may be superseded.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use model::name::QueueId;
use serde::{Deserialize, Serialize};

use super::headers::Headers;
use super::order::{RawRun, decode_order, encode_order};
use crate::error::BusError;
use crate::order::Order;
use crate::subjects::QueueSubject;

/// Asks about a run as its message names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderRequest {
    pub run: String,
    pub revision: u64,
    pub generation: u32,
}

/// What is to become of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fate", rename_all = "kebab-case")]
pub enum OrderReply {
    /// No newer revision is installed: it is carried out as it was published.
    AsPublished,
    /// It is carried out by this order instead: the headers and the body of a message of the present revision.
    Revised {
        headers: Headers,
        #[serde(rename = "payloadBase64")]
        payload_base64: String,
    },
    /// Another message carries it now: this one is acknowledged without a report.
    Elsewhere,
    /// Its job is deleted.
    Deleted,
}

/// An order in place of a message's own.
#[derive(Clone, Debug, PartialEq)]
pub struct Revised {
    pub order: Order,
    pub headers: Headers,
    pub payload: Bytes,
}

/// The same as an executor uses it.
#[derive(Clone, Debug, PartialEq)]
pub enum Fate {
    AsPublished,
    Revised(Box<Revised>),
    Elsewhere,
    Deleted,
}

#[derive(Deserialize)]
struct Envelope {
    ok: Option<OrderReply>,
    error: Option<Problem>,
}

#[derive(Deserialize)]
struct Problem {
    kind: String,
    message: String,
}

impl OrderReply {
    #[must_use]
    pub fn revised(order: &Order, payload: &Bytes) -> Self {
        Self::Revised { headers: encode_order(order), payload_base64: STANDARD.encode(payload) }
    }
}

/// The question about an order that came.
#[must_use]
pub fn encode_question(order: &Order) -> Bytes {
    let request = OrderRequest {
        run: order.run_id.to_string(),
        revision: order.revision.0,
        generation: order.generation.0,
    };
    // Numbers and texts only: it can't fail.
    serde_json::to_vec(&request).unwrap_or_default().into()
}

/// The answer to it. `Refused`: whoever answers won't say, ever.
pub fn decode_answer(queue: &QueueId, answer: &[u8]) -> Result<Fate, BusError> {
    let unreadable = |problem: String| BusError::Refused(format!("the answer can't be read: {problem}"));
    let envelope: Envelope =
        serde_json::from_slice(answer).map_err(|problem| unreadable(problem.to_string()))?;
    match envelope {
        Envelope { error: Some(Problem { kind, message }), .. } => Err(match kind.as_str() {
            "failed" => BusError::Failed(message),
            "unknown" => BusError::Unknown(message),
            _ => BusError::Refused(message),
        }),
        Envelope { ok: Some(reply), .. } => fate(queue, reply).map_err(unreadable),
        Envelope { ok: None, error: None } => Err(unreadable("it says nothing".into())),
    }
}

fn fate(queue: &QueueId, reply: OrderReply) -> Result<Fate, String> {
    let (headers, payload) = match reply {
        OrderReply::AsPublished => return Ok(Fate::AsPublished),
        OrderReply::Elsewhere => return Ok(Fate::Elsewhere),
        OrderReply::Deleted => return Ok(Fate::Deleted),
        OrderReply::Revised { headers, payload_base64 } => (headers, STANDARD.decode(payload_base64)),
    };
    let payload = Bytes::from(payload.map_err(|problem| format!("payloadBase64: {problem}"))?);
    let subject = QueueSubject::Run.of(queue);
    let stored_at = model::time::Timestamp::from_ms(0);
    let raw = RawRun { subject: &subject, headers: &headers, payload: &payload, sequence: 0, stored_at };
    let order = decode_order(raw).map_err(|problem| problem.to_string())?;
    Ok(Fate::Revised(Box::new(Revised { order, headers, payload })))
}

#[cfg(test)]
mod tests {
    use model::id::Revision;
    use model::retry::RetryPolicy;
    use model::run::Generation;
    use model::time::Timestamp;

    use super::*;
    use crate::order::WorkKind;

    fn order() -> Order {
        Order {
            run_id: "billing/nightly-report@2026-11-22T06:45:00Z".parse().unwrap(),
            queue: "billing/reports".parse().unwrap(),
            kind: WorkKind::Payload,
            revision: Revision(17),
            generation: Generation(0),
            due_at: Timestamp::from_ms(1_000),
            attempt_base: 0,
            timeout: std::time::Duration::from_secs(60),
            retry: RetryPolicy::default(),
            start_by: None,
            deadline: None,
            headers: Headers::new(),
        }
    }

    #[test]
    fn question_and_answers_never_change() {
        let order = order();
        let question =
            r#"{"run":"billing/nightly-report@2026-11-22T06:45:00Z","revision":17,"generation":0}"#;
        assert_eq!(encode_question(&order), question);
        let answer = |text: &str| decode_answer(&order.queue, text.as_bytes());
        for (text, fate) in [
            (r#"{"v":1,"ok":{"fate":"as-published"}}"#, Fate::AsPublished),
            (r#"{"v":1,"ok":{"fate":"elsewhere"}}"#, Fate::Elsewhere),
            (r#"{"v":1,"ok":{"fate":"deleted"}}"#, Fate::Deleted),
        ] {
            assert_eq!(answer(text), Ok(fate));
        }
        let payload = Bytes::from_static(b"42");
        let reply = serde_json::to_value(OrderReply::revised(&order, &payload)).unwrap();
        assert_eq!(reply["payloadBase64"], "NDI=");
        let Ok(Fate::Revised(revised)) = answer(&serde_json::json!({"v": 1, "ok": reply}).to_string()) else {
            panic!("not revised")
        };
        assert_eq!((revised.order, revised.payload), (order.clone(), payload));
        let problem = |kind: &str| answer(&format!(r#"{{"v":1,"error":{{"kind":"{kind}","message":"m"}}}}"#));
        assert_eq!(problem("failed"), Err(BusError::Failed("m".into())));
        assert_eq!(problem("unknown"), Err(BusError::Unknown("m".into())));
        assert_eq!(problem("not-found"), Err(BusError::Refused("m".into())));
        for bad in [
            "",
            "{}",
            r#"{"ok":{"fate":"revised","headers":{},"payloadBase64":""}}"#,
            r#"{"ok":{"fate":"?"}}"#,
        ] {
            assert!(matches!(answer(bad), Err(BusError::Refused(_))), "{bad}");
        }
    }
}
