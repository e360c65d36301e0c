//! Cancel signals as JSON, version 1, and their answer.

use bytes::Bytes;
use model::limits::ERROR_BYTES_MAX;
use model::run::Generation;
use serde::{Deserialize, Serialize};

use super::event::bounded;
use crate::cancel::CancelRequest;

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CancelV1 {
    v: u32,
    run_id: String,
    generation: u32,
    #[serde(default)]
    by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnswerV1 {
    v: u32,
    in_hand: bool,
}

/// A signal as JSON. The reason is cut to its limit.
#[must_use]
pub fn encode_cancel(request: &CancelRequest) -> Bytes {
    let form = CancelV1 {
        v: VERSION,
        run_id: request.run_id.to_string(),
        generation: request.generation.0,
        by: request.by.clone(),
        reason: request.reason.as_deref().map(|text| bounded(text, ERROR_BYTES_MAX).into()),
    };
    // Numbers and texts only: it can't fail.
    serde_json::to_vec(&form).unwrap_or_default().into()
}

/// A signal from JSON.
///
/// # Errors
/// What is wrong with it.
pub fn decode_cancel(payload: &[u8]) -> Result<CancelRequest, String> {
    let form: CancelV1 = serde_json::from_slice(payload).map_err(|e| e.to_string())?;
    if form.v != VERSION {
        return Err(format!("version {}; this version of ecron reads only {VERSION}", form.v));
    }
    Ok(CancelRequest {
        run_id: form.run_id.parse().map_err(|e| format!("runId: failed to {e}"))?,
        generation: Generation(form.generation),
        by: form.by,
        reason: form.reason,
    })
}

/// The answer of an executor that has the run in hand.
#[must_use]
pub fn encode_in_hand() -> Bytes {
    serde_json::to_vec(&AnswerV1 { v: VERSION, in_hand: true }).unwrap_or_default().into()
}

/// Whether an answer says that the run is in hand.
#[must_use]
pub fn is_in_hand(payload: &[u8]) -> bool {
    serde_json::from_slice::<AnswerV1>(payload).is_ok_and(|answer| answer.in_hand)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_never_change() {
        let request = CancelRequest {
            run_id: "billing/nightly-report@2026-11-22T06:45:00Z".parse().unwrap(),
            generation: Generation(1),
            by: "ada@host-1".into(),
            reason: Some("wrong figures".into()),
        };
        let text = r#"{"v":1,"runId":"billing/nightly-report@2026-11-22T06:45:00Z","generation":1,"by":"ada@host-1","reason":"wrong figures"}"#;
        assert_eq!(encode_cancel(&request), text);
        assert_eq!(decode_cancel(text.as_bytes()), Ok(request));
        assert_eq!(encode_in_hand(), r#"{"v":1,"inHand":true}"#);
        assert!(is_in_hand(&encode_in_hand()));
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        for (text, why) in [
            ("", "EOF"),
            (r#"{"v":2,"runId":"a/b@2026-11-22T06:45:00Z","generation":0}"#, "version 2"),
            (r#"{"v":1,"runId":"nonsense","generation":0}"#, "runId"),
        ] {
            let problem = decode_cancel(text.as_bytes()).unwrap_err();
            assert!(problem.contains(why), "{text}: {problem}");
        }
        assert!(!is_in_hand(b"") && !is_in_hand(br#"{"v":1,"inHand":false}"#));
    }
}
