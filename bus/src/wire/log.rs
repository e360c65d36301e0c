//! Logs as JSON, version 1.

use bytes::Bytes;
use model::name::QueueId;
use model::run::Generation;
use serde::{Deserialize, Serialize};

use crate::logs::{LogBatch, LogLine};

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogV1 {
    v: u32,
    run_id: String,
    queue: String,
    generation: u32,
    attempt: u32,
    number: u32,
    lines: Vec<LineV1>,
}

#[derive(Serialize, Deserialize)]
struct LineV1 {
    at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    text: String,
}

/// The message id of a batch: repeating it is harmless.
#[must_use]
pub fn log_id(batch: &LogBatch) -> String {
    format!("{}/{}/{}/{}", batch.run_id, batch.generation.0, batch.attempt, batch.number)
}

/// A batch as JSON.
#[must_use]
pub fn encode_log(batch: &LogBatch) -> Bytes {
    let line =
        |line: &LogLine| LineV1 { at: line.at.to_string(), from: line.from.clone(), text: line.text.clone() };
    let form = LogV1 {
        v: VERSION,
        run_id: batch.run_id.to_string(),
        queue: batch.queue.to_string(),
        generation: batch.generation.0,
        attempt: batch.attempt,
        number: batch.number,
        lines: batch.lines.iter().map(line).collect(),
    };
    // Numbers and texts only: it can't fail; and if it did, the reader would leave it out.
    serde_json::to_vec(&form).unwrap_or_default().into()
}

/// A batch; `None` if it can't be read.
#[must_use]
pub fn decode_log(payload: &[u8]) -> Option<LogBatch> {
    let form: LogV1 = serde_json::from_slice(payload).ok()?;
    (form.v == VERSION).then_some(())?;
    let line = |line: LineV1| Some(LogLine { at: line.at.parse().ok()?, from: line.from, text: line.text });
    Some(LogBatch {
        run_id: form.run_id.parse().ok()?,
        queue: form.queue.parse::<QueueId>().ok()?,
        generation: Generation(form.generation),
        attempt: form.attempt,
        number: form.number,
        lines: form.lines.into_iter().map(line).collect::<Option<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_of_a_log_never_changes() {
        let at = "2026-11-22T06:45:00.250Z".parse().unwrap();
        let batch = LogBatch {
            run_id: "billing/nightly-report@2026-11-22T06:45:00Z".parse().unwrap(),
            queue: "billing/reports".parse().unwrap(),
            generation: Generation(0),
            attempt: 2,
            number: 7,
            lines: vec![
                LogLine { at, from: None, text: "4000 rows".into() },
                LogLine { at, from: Some("stderr".into()), text: "\"quoted\"".into() },
            ],
        };
        let json = r#"{"v":1,"runId":"billing/nightly-report@2026-11-22T06:45:00Z","queue":"billing/reports","generation":0,"attempt":2,"number":7,"lines":[{"at":"2026-11-22T06:45:00.250Z","text":"4000 rows"},{"at":"2026-11-22T06:45:00.250Z","from":"stderr","text":"\"quoted\""}]}"#;
        assert_eq!(encode_log(&batch), json);
        assert_eq!(decode_log(json.as_bytes()), Some(batch.clone()));
        assert_eq!(log_id(&batch), "billing/nightly-report@2026-11-22T06:45:00Z/0/2/7");
        for bad in ["", "{}", &json.replace("\"v\":1", "\"v\":2"), &json.replace("00.250Z", "")] {
            assert_eq!(decode_log(bad.as_bytes()), None, "{bad}");
        }
    }
}
