//! Audit records as JSON, version 1.

use bytes::Bytes;
use model::change::signature;
use serde::{Deserialize, Serialize};

use super::event::bounded;
use crate::audit::AuditRecord;

const VERSION: u32 = 1;
/// Bytes of a target or a detail.
const TEXT_BYTES_MAX: usize = 1024;

#[derive(Serialize, Deserialize)]
struct AuditV1 {
    v: u32,
    at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    action: String,
    target: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    operation: Option<String>,
}

/// A record as JSON. Long texts are cut.
#[must_use]
pub fn encode_audit(record: &AuditRecord) -> Bytes {
    let form = AuditV1 {
        v: VERSION,
        at: record.at.to_string(),
        by: record.by.as_deref().and_then(signature),
        action: record.action.clone(),
        target: bounded(&record.target, TEXT_BYTES_MAX).into(),
        count: record.count,
        detail: record.detail.as_deref().map(|text| bounded(text, TEXT_BYTES_MAX).into()),
        operation: record.operation.as_deref().and_then(signature),
    };
    // Numbers and texts only: it can't fail.
    serde_json::to_vec(&form).unwrap_or_default().into()
}

/// A record from its JSON, or what is wrong with it.
pub fn decode_audit(payload: &[u8]) -> Result<AuditRecord, String> {
    let form: AuditV1 = serde_json::from_slice(payload).map_err(|problem| problem.to_string())?;
    if form.v != VERSION {
        return Err(format!("version {}; this version of ecron reads only {VERSION}", form.v));
    }
    Ok(AuditRecord {
        at: form.at.parse().map_err(|problem| format!("at: failed to {problem}"))?,
        by: form.by,
        action: form.action,
        target: form.target,
        count: form.count,
        detail: form.detail,
        operation: form.operation,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_never_changes() {
        let record = AuditRecord {
            at: "2026-11-22T06:45:00Z".parse().unwrap(),
            by: Some("ann@host".into()),
            action: "redrive".into(),
            target: "job billing/nightly-report".into(),
            count: Some(12),
            detail: None,
            operation: None,
        };
        let text = r#"{"v":1,"at":"2026-11-22T06:45:00Z","by":"ann@host","action":"redrive","target":"job billing/nightly-report","count":12}"#;
        assert_eq!(encode_audit(&record), text);
        assert_eq!(decode_audit(text.as_bytes()), Ok(record.clone()));
        let part = AuditRecord { operation: Some("17-4".into()), ..record };
        let text_of_part = format!("{},\"operation\":\"17-4\"}}", &text[..text.len() - 1]);
        assert_eq!(encode_audit(&part), text_of_part);
        assert_eq!(decode_audit(text_of_part.as_bytes()), Ok(part));
        assert!(decode_audit(text.replacen('1', "2", 1).as_bytes()).is_err());
    }
}
