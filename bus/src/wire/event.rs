//! Events as JSON: attempt reports of executors, and what the server says of terminated messages. Version 1 is one report,
//! version 2 several, each in the form of version 1.

use bytes::Bytes;
use model::id::{Revision, RunId};
use model::limits::{ERROR_BYTES_MAX, OUTPUT_BYTES_MAX, PROGRESS_BYTES_MAX};
use model::name::QueueId;
use model::progress::{Fraction, Progress};
use model::run::{AttemptEnd, Generation, Outcome, RunState};
use model::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::audit::decode_audit;
use crate::events::{AttemptReport, Event, ProgressNote};
use crate::subjects::{AUDIT_EVENT, STREAM_RUNS, queue_of_consumer};

/// One report.
const ONE: u32 = 1;
/// Several reports in one message.
const SEVERAL: u32 = 2;

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

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProgressV1 {
    v: u32,
    run_id: String,
    queue: String,
    generation: u32,
    attempt: u32,
    started_at: String,
    at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fraction: Option<Fraction>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(default)]
    executor: String,
}

#[derive(Deserialize)]
struct AttemptsV2 {
    reports: Vec<AttemptV1>,
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
        v: ONE,
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

/// A note of progress as JSON. Its message is cut to its limit.
#[must_use]
pub fn encode_progress(note: &ProgressNote) -> Bytes {
    let Progress { generation, attempt, started_at, at, fraction, message, executor } = &note.progress;
    let form = ProgressV1 {
        v: ONE,
        run_id: note.run_id.to_string(),
        queue: note.queue.to_string(),
        generation: generation.0,
        attempt: *attempt,
        started_at: started_at.to_string(),
        at: at.to_string(),
        fraction: *fraction,
        message: message.as_deref().map(|text| bounded(text, PROGRESS_BYTES_MAX).into()),
        executor: executor.clone(),
    };
    // Numbers and texts only: it can't fail; and if it did, the reader would count it as undecodable.
    serde_json::to_vec(&form).unwrap_or_default().into()
}

/// Several encoded reports as one message.
#[must_use]
pub fn encode_reports<'a>(reports: impl Iterator<Item = &'a Bytes>) -> Bytes {
    let mut json = format!("{{\"v\":{SEVERAL},\"reports\":[").into_bytes();
    for (index, report) in reports.enumerate() {
        if index > 0 {
            json.push(b',');
        }
        json.extend_from_slice(report);
    }
    json.extend_from_slice(b"]}");
    json.into()
}

/// The events of one message as the stream holds it; at least one.
#[must_use]
pub fn decode_events(subject: &str, payload: &[u8]) -> Vec<Event> {
    let undecodable =
        |problem: String| Event::Undecodable { problem: format!("{}: {problem}", bounded(subject, 200)) };
    let events = if subject.starts_with("$JS.EVENT.") {
        decode_terminated(payload).map(|event| vec![event])
    } else if subject.starts_with("ecron.event.attempt.") {
        decode_reports(payload).map(|reports| {
            let event = |report: Result<_, String>| report.map_or_else(undecodable, Event::Attempt);
            reports.into_iter().map(event).collect()
        })
    } else if subject == AUDIT_EVENT {
        decode_audit(payload).map(|record| vec![Event::Audit(record)])
    } else if subject.starts_with("ecron.event.progress.") {
        decode_progress(payload).map(|note| vec![Event::Progress(note)])
    } else {
        Err("unknown kind of event".into())
    };
    events.unwrap_or_else(|problem| vec![undecodable(problem)])
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

fn check_version(payload: &[u8]) -> Result<(), String> {
    let version: Version = serde_json::from_slice(payload).map_err(|e| e.to_string())?;
    if version.v == ONE {
        Ok(())
    } else {
        Err(format!("version {}; this version of ecron reads only {ONE}", version.v))
    }
}

fn instant(field: &str, text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|e| format!("{field}: failed to {e}"))
}

fn decode_progress(payload: &[u8]) -> Result<ProgressNote, String> {
    check_version(payload)?;
    let form: ProgressV1 = serde_json::from_slice(payload).map_err(|e| e.to_string())?;
    Ok(ProgressNote {
        run_id: form.run_id.parse::<RunId>().map_err(|e| format!("runId: failed to {e}"))?,
        queue: form.queue.parse::<QueueId>().map_err(|e| format!("queue: {e}"))?,
        progress: Progress {
            generation: Generation(form.generation),
            attempt: form.attempt,
            started_at: instant("startedAt", &form.started_at)?,
            at: instant("at", &form.at)?,
            fraction: form.fraction,
            message: form.message.map(|text| bounded(&text, PROGRESS_BYTES_MAX).into()),
            executor: form.executor,
        },
    })
}

/// Each report by itself: what one of them says wrong must not hide the others.
fn decode_reports(payload: &[u8]) -> Result<Vec<Result<AttemptReport, String>>, String> {
    let version: Version = serde_json::from_slice(payload).map_err(|e| e.to_string())?;
    let forms = match version.v {
        ONE => vec![serde_json::from_slice(payload).map_err(|e| e.to_string())?],
        SEVERAL => serde_json::from_slice::<AttemptsV2>(payload).map_err(|e| e.to_string())?.reports,
        other => {
            return Err(format!("version {other}; this version of ecron reads only {ONE} and {SEVERAL}"));
        }
    };
    if forms.is_empty() {
        return Err("reports: there is none".into());
    }
    Ok(forms.into_iter().map(read_report).collect())
}

fn read_report(form: AttemptV1) -> Result<AttemptReport, String> {
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
        assert_eq!(decode_events(SUBJECT, json.as_bytes()), [Event::Attempt(report())]);
        assert_eq!(report_id(&report()), "billing/nightly-report@2026-11-22T06:45:00Z/1/3");
    }

    #[test]
    fn the_json_of_a_note_of_progress_never_changes() {
        let note = ProgressNote {
            run_id: "billing/nightly-report@2026-11-22T06:45:00Z".parse().unwrap(),
            queue: "billing/reports".parse().unwrap(),
            progress: Progress {
                generation: Generation(0),
                attempt: 1,
                started_at: "2026-11-22T06:45:00.250Z".parse().unwrap(),
                at: "2026-11-22T06:45:09Z".parse().unwrap(),
                fraction: Some(Fraction::from(0.4)),
                message: Some("rows 4000/10000".into()),
                executor: "host-1".into(),
            },
        };
        let json = r#"{"v":1,"runId":"billing/nightly-report@2026-11-22T06:45:00Z","queue":"billing/reports","generation":0,"attempt":1,"startedAt":"2026-11-22T06:45:00.250Z","at":"2026-11-22T06:45:09Z","fraction":0.4,"message":"rows 4000/10000","executor":"host-1"}"#;
        assert_eq!(encode_progress(&note), json);
        assert_eq!(
            decode_events("ecron.event.progress.billing.reports", json.as_bytes()),
            vec![Event::Progress(note)]
        );
    }

    #[test]
    fn an_advisory_becomes_a_terminated_run() {
        let json = br#"{"type":"io.nats.jetstream.advisory.v1.terminated","id":"x","timestamp":"2026-11-22T06:45:00Z",
            "stream":"ECRON_RUNS","consumer":"billing_reports","consumer_seq":1,"stream_seq":7,"deliveries":2,"reason":"no"}"#;
        let subject = "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.ECRON_RUNS.billing_reports";
        let queue = "billing/reports".parse().ok();
        let expected = Event::Terminated { sequence: 7, deliveries: 2, reason: "no".into(), queue };
        assert_eq!(decode_events(subject, json), [expected]);
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let text = String::from_utf8(encode_report(&report()).to_vec()).unwrap();
        for (from, to, expected) in [
            ("\"v\":1", "\"v\":3", "version 3"),
            ("\"v\":1", "\"v\":2", "missing field `reports`"),
            ("timed-out", "lost-it", "outcome"),
            ("dead-lettered", "dispatched", "endsRun"),
            ("billing/reports", "billing", "queue"),
            ("\"attempt\":3", "\"attempt\":-3", "invalid value"),
        ] {
            let read = decode_events(SUBJECT, text.replace(from, to).as_bytes());
            let [Event::Undecodable { problem }] = read.as_slice() else { panic!("{to} was read") };
            assert!(problem.contains(expected), "{problem}");
        }
        let none = br#"{"v":2,"reports":[]}"#;
        for (subject, payload) in [("ecron.event.other", &b"{}"[..]), (SUBJECT, none)] {
            assert!(matches!(decode_events(subject, payload).as_slice(), [Event::Undecodable { .. }]));
        }
    }

    #[test]
    fn several_reports_in_one_message_never_change_and_stand_each_for_itself() {
        let (first, mut second) = (encode_report(&report()), report());
        second.end.attempt = 4;
        let (text, second_text) = (String::from_utf8(first.to_vec()).unwrap(), encode_report(&second));
        let several = encode_reports([&first, &second_text].into_iter());
        let expected =
            format!("{{\"v\":2,\"reports\":[{text},{}]}}", text.replace("\"attempt\":3", "\"attempt\":4"));
        assert_eq!(several, expected);
        assert_eq!(decode_events(SUBJECT, &several), [Event::Attempt(report()), Event::Attempt(second)]);
        let broken = expected.replacen("timed-out", "lost-it", 1);
        let read = decode_events(SUBJECT, broken.as_bytes());
        assert!(matches!(read.as_slice(), [Event::Undecodable { .. }, Event::Attempt(_)]), "{read:?}");
    }

    #[test]
    fn error_and_output_are_cut_to_their_limits() {
        let mut long = report();
        long.end.error = Some("é".repeat(ERROR_BYTES_MAX));
        long.output = Some("x".repeat(OUTPUT_BYTES_MAX + 1));
        let read = decode_events(SUBJECT, &encode_report(&long));
        let [Event::Attempt(read)] = read.as_slice() else { panic!() };
        assert_eq!(read.end.error.as_ref().unwrap().len(), ERROR_BYTES_MAX);
        assert_eq!(read.output.as_ref().unwrap().len(), OUTPUT_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn arbitrary_events_never_panic(subject in "\\PC{0,30}|ecron\\.event\\.attempt\\.a\\.b|\\$JS\\.EVENT\\.x",
            payload in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(!decode_events(&subject, &payload).is_empty());
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
            prop_assert_eq!(decode_events(SUBJECT, &encode_report(&original)), [Event::Attempt(original)]);
        }
    }
}
