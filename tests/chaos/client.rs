//! ecron as any NATS client uses it, by docs/protocol.md, and how each request ended.

use std::time::Duration;

use anyhow::Context;
use async_nats::HeaderMap;
use async_nats::jetstream;
use futures_util::StreamExt;
use harness::witness::now_ms;
use model::time::Timestamp;
use serde_json::{Value, json};

use crate::evidence::{Answer, End, Journal, Published};

/// How long an answer may take; then it is unknown what happened.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the event stream may be silent while it is read to its end.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
pub(crate) struct Client {
    nats: async_nats::Client,
    jetstream: jetstream::Context,
}

/// An answer: what it says, or how it failed and why.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) asked_ms: i64,
    pub(crate) answered_ms: i64,
    pub(crate) answer: Answer,
    pub(crate) ok: Value,
    pub(crate) problem: String,
}

impl Client {
    pub(crate) async fn connect(url: &str) -> anyhow::Result<Self> {
        let nats = async_nats::ConnectOptions::new()
            .request_timeout(Some(REQUEST_TIMEOUT))
            .ping_interval(Duration::from_secs(2))
            .max_reconnects(None)
            .connect(url)
            .await
            .with_context(|| format!("connect to {url}"))?;
        let mut jetstream = jetstream::new(nats.clone());
        jetstream.set_timeout(REQUEST_TIMEOUT);
        Ok(Self { nats, jetstream })
    }

    /// Asks the API.
    pub(crate) async fn ask(&self, verb: &str, request: &Value) -> Reply {
        let asked_ms = now_ms();
        let replied = self.nats.request(format!("ecron.api.v1.{verb}"), request.to_string().into()).await;
        let (answer, ok, problem) = match replied {
            Ok(message) => read(&message.payload),
            Err(problem) => {
                let nobody = problem.kind() == async_nats::RequestErrorKind::NoResponders;
                let answer = if nobody { Answer::Failed } else { Answer::Unknown };
                (answer, Value::Null, problem.to_string())
            }
        };
        Reply { asked_ms, answered_ms: now_ms(), answer, ok, problem }
    }

    /// Gives ad-hoc work.
    pub(crate) async fn publish(
        &self,
        subject: String,
        headers: &[(&str, String)],
        payload: &Value,
    ) -> Reply {
        let asked_ms = now_ms();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.as_str());
        }
        let published = async {
            let ack = self.jetstream.publish_with_headers(subject, map, payload.to_string().into()).await?;
            ack.await
        };
        let (answer, problem) = match tokio::time::timeout(REQUEST_TIMEOUT, published).await {
            Ok(Ok(_)) => (Answer::Done, String::new()),
            Ok(Err(problem)) => (Answer::Unknown, problem.to_string()),
            Err(_) => (Answer::Unknown, "no answer in time".into()),
        };
        Reply { asked_ms, answered_ms: now_ms(), answer, ok: Value::Null, problem }
    }

    /// Notes every publication of a run for ever, but for those made while the server or this connection is down.
    pub(crate) async fn tap(&self, file: &Journal) -> anyhow::Result<()> {
        let mut runs = self.nats.subscribe("ecron.run.>").await?;
        while let Some(message) = runs.next().await {
            let header = |name: &str| {
                let value = message.headers.as_ref().and_then(|headers| headers.get(name));
                value.map(|value| value.as_str().to_owned()).unwrap_or_default()
            };
            file.note(&Published {
                run: header("Ecron-Run-Id"),
                generation: header("Ecron-Generation").parse().unwrap_or(0),
                message_id: header("Nats-Msg-Id"),
                at_ms: now_ms(),
            });
        }
        anyhow::bail!("listen to publications: the subscription ended")
    }

    /// Writes every outcome in the event stream to a file.
    pub(crate) async fn save_ends(&self, file: &Journal) -> anyhow::Result<()> {
        let stream = self.jetstream.get_stream("ECRON_EVENTS").await?;
        let last = stream.get_info().await?.state.last_sequence;
        let consumer: jetstream::consumer::OrderedPullConsumer =
            stream.create_consumer(jetstream::consumer::pull::OrderedConfig::default()).await?;
        let mut messages = consumer.messages().await?;
        while let Some(message) = tokio::time::timeout(READ_TIMEOUT, messages.next()).await? {
            let message = message?;
            let sequence = message.info().map_err(|problem| anyhow::anyhow!("{problem}"))?.stream_sequence;
            if message.subject.starts_with("ecron.event.attempt.") {
                let event: Value = serde_json::from_slice(&message.payload).context("read an event")?;
                // One report, or several that ended at once.
                let reports = event["reports"].as_array().cloned().unwrap_or_else(|| vec![event]);
                reports.iter().filter_map(|report| end(report, sequence)).for_each(|end| file.note(&end));
            }
            if sequence >= last {
                break;
            }
        }
        Ok(())
    }
}

/// The end that a report tells of, if it is one.
fn end(report: &Value, sequence: u64) -> Option<End> {
    let ended_at = report["endedAt"].as_str()?.parse::<Timestamp>().ok()?;
    Some(End {
        run: text(&report["runId"]),
        generation: number(&report["generation"]),
        attempt: number(&report["attempt"]),
        state: report["endsRun"].as_str()?.into(),
        sequence,
        executor: text(&report["executor"]),
        ended_ms: ended_at.as_ms(),
    })
}

fn read(payload: &[u8]) -> (Answer, Value, String) {
    let Ok(envelope) = serde_json::from_slice::<Value>(payload) else {
        return (Answer::Unknown, Value::Null, "an answer that isn't JSON".into());
    };
    let error = &envelope["error"];
    if error.is_null() {
        return (Answer::Done, envelope["ok"].clone(), String::new());
    }
    (answer_of(error), Value::Null, text(&error["message"]))
}

/// How an error of the API's reads.
#[must_use]
pub(crate) fn answer_of(error: &Value) -> Answer {
    match error["kind"].as_str() {
        Some("refused" | "not-found") => Answer::Refused,
        Some("failed") => Answer::Failed,
        _ => Answer::Unknown,
    }
}

#[must_use]
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn number(value: &Value) -> u32 {
    value.as_u64().and_then(|number| u32::try_from(number).ok()).unwrap_or(0)
}

/// The body of a request about one job.
#[must_use]
pub(crate) fn about(job: &str) -> Value {
    json!({"job": job})
}
