//! Events as JSON, version 1: attempt reports of executors, and what the server says of terminated messages.

use bytes::Bytes;
use model::id::{Revision, RunId};
use model::limits::{ERROR_BYTES_MAX, OUTPUT_BYTES_MAX};
use model::name::QueueId;
use model::run::{AttemptEnd, Generation, Outcome, RunState};
use model::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::audit::decode_audit;
use crate::events::{AttemptReport, Event};
use crate::subjects::{AUDIT_EVENT, STREAM_RUNS, queue_of_consumer};

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AttemptV1 {
    v: u32,
    run_id: String,
    queue: String,
    revision: u64,
    generation: u32,
    attempt: u32,
    outcome: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    started_at: String,
    ended_at: String,
    due_at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ends_run: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(default)]
    executor: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    output: Option<String>,
}

#[derive(Deserialize)]
struct Version {
    v: u32,
}

/// The server's advisory, as far as we read it.
#[derive(Deserialize)]
struct TerminatedAdvisory {
    stream: String,
    consumer: String,
    stream_seq: u64,
    #[serde(default)]
    deliveries: u32,
    #[serde(default)]
    reason: String,
}

/// The message id of a report: repeating it is harmless.
#[must_use]
pub fn report_id(report: &AttemptReport) -> String {
    format!("{}/{}/{}", report.run_id, report.generation.0, report.end.attempt)
}

/// The beginning of a text, at most `bytes_max` bytes long.
#[must_use]
pub fn bounded(text: &str, bytes_max: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or(text)
}

/// A report as JSON. Error and output are cut to their limits.
#[must_use]
pub fn encode_report(report: &AttemptReport) -> Bytes {
    let form = AttemptV1 {
        v: VERSION,
        run_id: report.run_id.to_string(),
        queue: report.queue.to_string(),
        revision: report.revision.0,
        generation: report.generation.0,
        attempt: report.end.attempt,
        outcome: report.end.outcome.as_str().into(),
        error: report.end.error.as_deref().map(|text| bounded(text, ERROR_BYTES_MAX).into()),
        started_at: report.end.started_at.to_string(),
        ended_at: report.end.ended_at.to_string(),
        due_at: report.due_at.to_string(),
        ends_run: report.ends_run.map(|state| state.as_str().into()),
        reason: report.reason.as_deref().map(|text| bounded(text, ERROR_BYTES_MAX).into()),
        executor: report.executor.clone(),
        output: report.output.as_deref().map(|text| bounded(text, OUTPUT_BYTES_MAX).into()),
    };
    // Numbers and texts only: it can't fail; and if it did, the reader would count it as undecodable.
    serde_json::to_vec(&form).unwrap_or_default().into()
}

/// An event as the stream holds it.
#[must_use]
pub fn decode_event(subject: &str, payload: &[u8]) -> Event {
    let event = if subject.starts_with("$JS.EVENT.") {
        decode_terminated(payload)
    } else if subject.starts_with("ecron.event.attempt.") {
        decode_report(payload).map(Event::Attempt)
    } else if subject == AUDIT_EVENT {
        decode_audit(payload).map(Event::Audit)
    } else {
        Err("unknown kind of event".into())
    };
    event.unwrap_or_else(|problem| Event::Undecodable {
        problem: format!("{}: {problem}", bounded(subject, 200)),
    })
}

fn decode_terminated(payload: &[u8]) -> Result<Event, String> {
    let advisory: TerminatedAdvisory = serde_json::from_slice(payload).map_err(|e| e.to_string())?;
    if advisory.stream != STREAM_RUNS {
        return Err(format!("advisory about stream {:?}", advisory.stream));
    }
    Ok(Event::Terminated {
        sequence: advisory.stream_seq,
        deliveries: advisory.deliveries,
        reason: advisory.reason,
        queue: queue_of_consumer(&advisory.consumer),
    })
}

fn decode_report(payload: &[u8]) -> Result<AttemptReport, String> {
    let version: Version = serde_json::from_slice(payload).map_err(|e| e.to_string())?;
    if version.v != VERSION {
        return Err(format!("version {}; this version of ecron reads only {VERSION}", version.v));
    }
    let form: AttemptV1 = serde_json::from_slice(payload).map_err(|e| e.to_string())?;
    let instant =
        |field: &str, text: &str| text.parse::<Timestamp>().map_err(|e| format!("{field}: failed to {e}"));
    let state = |word: String| match RunState::from_word(&word) {
        Some(end) if end.is_end() => Ok(end),
        Some(_) | None => Err(format!("endsRun: {word:?} is no end of a run")),
    };
    Ok(AttemptReport {
        run_id: form.run_id.parse::<RunId>().map_err(|e| format!("runId: failed to {e}"))?,
        queue: form.queue.parse::<QueueId>().map_err(|e| format!("queue: {e}"))?,
        revision: Revision(form.revision),
        generation: Generation(form.generation),
        end: AttemptEnd {
            attempt: form.attempt,
            outcome: Outcome::from_word(&form.outcome)
                .ok_or_else(|| format!("outcome: {:?} is unknown", form.outcome))?,
            error: form.error.map(|text| bounded(&text, ERROR_BYTES_MAX).into()),
            started_at: instant("startedAt", &form.started_at)?,
            ended_at: instant("endedAt", &form.ended_at)?,
        },
        ends_run: form.ends_run.map(state).transpose()?,
        reason: form.reason,
        due_at: instant("dueAt", &form.due_at)?,
        executor: form.executor,
        output: form.output.map(|text| bounded(&text, OUTPUT_BYTES_MAX).into()),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn report() -> AttemptReport {
        AttemptReport {
            run_id: "billing/nightly-report@2026-11-22T06:45:00Z".parse().unwrap(),
            queue: "billing/reports".parse().unwrap(),
            revision: Revision(17),
            generation: Generation(1),
            end: AttemptEnd {
                attempt: 3,
                outcome: Outcome::TimedOut,
                error: Some("no answer".into()),
                started_at: "2026-11-22T06:45:00.250Z".parse().unwrap(),
                ended_at: "2026-11-22T06:55:00.250Z".parse().unwrap(),
            },
            ends_run: Some(RunState::DeadLettered),
            reason: None,
            due_at: "2026-11-22T06:45:00Z".parse().unwrap(),
            executor: "host-1".into(),
            output: None,
        }
    }

    const SUBJECT: &str = "ecron.event.attempt.billing.reports";

    #[test]
    fn the_json_of_a_report_never_changes() {
        let json = r#"{"v":1,"runId":"billing/nightly-report@2026-11-22T06:45:00Z","queue":"billing/reports","revision":17,"generation":1,"attempt":3,"outcome":"timed-out","error":"no answer","startedAt":"2026-11-22T06:45:00.250Z","endedAt":"2026-11-22T06:55:00.250Z","dueAt":"2026-11-22T06:45:00Z","endsRun":"dead-lettered","executor":"host-1"}"#;
        assert_eq!(encode_report(&report()), json);
        assert_eq!(decode_event(SUBJECT, json.as_bytes()), Event::Attempt(report()));
        assert_eq!(report_id(&report()), "billing/nightly-report@2026-11-22T06:45:00Z/1/3");
    }

    #[test]
    fn an_advisory_becomes_a_terminated_run() {
        let json = br#"{"type":"io.nats.jetstream.advisory.v1.terminated","id":"x","timestamp":"2026-11-22T06:45:00Z",
            "stream":"ECRON_RUNS","consumer":"billing_reports","consumer_seq":1,"stream_seq":7,"deliveries":2,"reason":"no"}"#;
        let subject = "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.ECRON_RUNS.billing_reports";
        let queue = "billing/reports".parse().ok();
        let expected = Event::Terminated { sequence: 7, deliveries: 2, reason: "no".into(), queue };
        assert_eq!(decode_event(subject, json), expected);
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let text = String::from_utf8(encode_report(&report()).to_vec()).unwrap();
        for (from, to, expected) in [
            ("\"v\":1", "\"v\":2", "version 2"),
            ("timed-out", "lost-it", "outcome"),
            ("dead-lettered", "dispatched", "endsRun"),
            ("billing/reports", "billing", "queue"),
            ("\"attempt\":3", "\"attempt\":-3", "invalid value"),
        ] {
            let Event::Undecodable { problem } = decode_event(SUBJECT, text.replace(from, to).as_bytes())
            else {
                panic!("{to} was read");
            };
            assert!(problem.contains(expected), "{problem}");
        }
        assert!(matches!(decode_event("ecron.event.other", b"{}"), Event::Undecodable { .. }));
    }

    #[test]
    fn error_and_output_are_cut_to_their_limits() {
        let mut long = report();
        long.end.error = Some("é".repeat(ERROR_BYTES_MAX));
        long.output = Some("x".repeat(OUTPUT_BYTES_MAX + 1));
        let Event::Attempt(read) = decode_event(SUBJECT, &encode_report(&long)) else { panic!() };
        assert_eq!(read.end.error.unwrap().len(), ERROR_BYTES_MAX);
        assert_eq!(read.output.unwrap().len(), OUTPUT_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn arbitrary_events_never_panic(subject in "\\PC{0,30}|ecron\\.event\\.attempt\\.a\\.b|\\$JS\\.EVENT\\.x",
            payload in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_event(&subject, &payload);
        }

        #[test]
        fn reports_round_trip(error in proptest::option::of("\\PC{0,50}"), output in proptest::option::of("\\PC{0,50}"),
            attempt in any::<u32>(), generation in any::<u32>(), executor in "\\PC{0,20}") {
            let mut original = report();
            original.end.error = error;
            original.end.attempt = attempt;
            original.generation = Generation(generation);
            original.output = output;
            original.executor = executor;
            prop_assert_eq!(decode_event(SUBJECT, &encode_report(&original)), Event::Attempt(original));
        }
    }
}
