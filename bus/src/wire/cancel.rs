//! The cancel signal as JSON, version 1.

use bytes::Bytes;
use model::limits::ERROR_BYTES_MAX;
use model::name::QueueId;
use model::run::Generation;
use serde::{Deserialize, Serialize};

use super::event::bounded;
use crate::cancel::CancelRequest;

const VERSION: u32 = 1;

/// What an executor answers that has the run in hand.
pub const IN_HAND: &[u8] = br#"{"v":1,"inHand":true}"#;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CancelV1 {
    v: u32,
    run_id: String,
    generation: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    #[serde(default)]
    in_hand: bool,
}

#[must_use]
pub fn encode_cancel(request: &CancelRequest) -> Bytes {
    let text = |text: &Option<String>| text.as_deref().map(|text| bounded(text, ERROR_BYTES_MAX).to_owned());
    let form = CancelV1 {
        v: VERSION,
        run_id: request.run_id.to_string(),
        generation: request.generation.0,
        by: text(&request.by),
        reason: text(&request.reason),
    };
    // Numbers and texts only: it can't fail; and if it did, the reader would hear nothing.
    serde_json::to_vec(&form).unwrap_or_default().into()
}

/// A signal that came for a queue; `None` if it can't be read.
#[must_use]
pub fn decode_cancel(queue: &QueueId, payload: &[u8]) -> Option<CancelRequest> {
    let form: CancelV1 = serde_json::from_slice(payload).ok()?;
    (form.v == VERSION).then_some(())?;
    Some(CancelRequest {
        queue: queue.clone(),
        run_id: form.run_id.parse().ok()?,
        generation: Generation(form.generation),
        by: form.by,
        reason: form.reason,
    })
}

/// Whether an executor's answer says that it has the run in hand.
#[must_use]
pub fn says_in_hand(payload: &[u8]) -> bool {
    serde_json::from_slice(payload).is_ok_and(|answer: Answer| answer.in_hand)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_of_a_cancel_signal_never_changes() {
        let request = CancelRequest {
            queue: "billing/reports".parse().unwrap(),
            run_id: "billing/nightly-report@2026-11-22T06:45:00Z".parse().unwrap(),
            generation: Generation(1),
            by: Some("ann@host".into()),
            reason: Some("wrong month".into()),
        };
        let json = r#"{"v":1,"runId":"billing/nightly-report@2026-11-22T06:45:00Z","generation":1,"by":"ann@host","reason":"wrong month"}"#;
        assert_eq!(encode_cancel(&request), json);
        assert_eq!(request.describe(), "cancelled by ann@host: wrong month");
        assert_eq!(decode_cancel(&request.queue, json.as_bytes()), Some(request.clone()));
        let bare = CancelRequest { by: None, reason: None, ..request.clone() };
        assert_eq!((bare.describe().as_str(), encode_cancel(&bare).len()), ("cancelled", 76));
        for bad in ["", "{}", "null", &json.replace("\"v\":1", "\"v\":2"), &json.replace('@', "-")] {
            assert_eq!(decode_cancel(&request.queue, bad.as_bytes()), None, "{bad}");
        }
        assert!(says_in_hand(IN_HAND));
        assert!(!says_in_hand(b"{}") && !says_in_hand(b"") && !says_in_hand(br#"{"inHand":false}"#));
    }
}
