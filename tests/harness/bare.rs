//! NATS without ecron: what is in a queue, a stream or a bucket, as any client sees it.

use std::time::Duration;

use anyhow::Context;
use async_nats::jetstream::{self, consumer::PullConsumer};
use futures_util::StreamExt;

/// How long it may take until it is our turn at a consumer that others read, too.
const TAKE_TIMEOUT: Duration = Duration::from_secs(60);

/// A message of a queue.
#[derive(Clone, Debug)]
pub struct Message {
    pub sequence: u64,
    pub run_id: Option<String>,
    pub due_at: Option<String>,
    pub payload: String,
}

/// JetStream on a server.
pub async fn jetstream(nats_url: &str) -> anyhow::Result<jetstream::Context> {
    let client = async_nats::connect(nats_url).await.with_context(|| format!("connect to {nats_url}"))?;
    Ok(jetstream::new(client))
}

/// Takes everything off a queue: its messages in the order of the stream. Ends once nothing comes for a second.
pub async fn drain(nats_url: &str, consumer: &str) -> anyhow::Result<Vec<Message>> {
    let jetstream = jetstream(nats_url).await?;
    let stream = jetstream.get_stream("ECRON_RUNS").await?;
    let consumer: PullConsumer = stream
        .get_consumer(consumer)
        .await
        .map_err(|problem| anyhow::anyhow!("find {consumer}: {problem}"))?;
    let mut messages = Vec::new();
    loop {
        let mut batch = consumer.fetch().max_messages(100).expires(Duration::from_secs(1)).messages().await?;
        let known = messages.len();
        while let Some(message) = batch.next().await {
            let message = message.map_err(|problem| anyhow::anyhow!("read a message: {problem}"))?;
            let header =
                |name: &str| message.headers.as_ref()?.get(name).map(|value| value.as_str().to_owned());
            let info = message.info().map_err(|problem| anyhow::anyhow!("read its place: {problem}"))?;
            messages.push(Message {
                sequence: info.stream_sequence,
                run_id: header("Ecron-Run-Id"),
                due_at: header("Ecron-Due-At"),
                payload: String::from_utf8_lossy(&message.payload).into_owned(),
            });
            message.ack().await.map_err(|problem| anyhow::anyhow!("acknowledge: {problem}"))?;
        }
        if messages.len() == known {
            return Ok(messages);
        }
    }
}

/// Takes one message from a consumer, whoever else reads there, and lets go of it unacknowledged.
pub async fn take_without_ack(nats_url: &str, stream: &str, consumer: &str) -> anyhow::Result<()> {
    let stream = jetstream(nats_url).await?.get_stream(stream).await?;
    let consumer: PullConsumer = stream
        .get_consumer(consumer)
        .await
        .map_err(|problem| anyhow::anyhow!("find {consumer}: {problem}"))?;
    let mut batch = consumer.fetch().max_messages(1).expires(TAKE_TIMEOUT).messages().await?;
    let taken = batch.next().await.context("take a message: none came")?;
    taken.map(|_| ()).map_err(|problem| anyhow::anyhow!("take a message: {problem}"))
}

/// Requests in flight at once.
const REQUESTS_AT_ONCE: usize = 32;

/// Asks planners for so many runs of a job, as any client may; answers with their ids.
pub async fn trigger(nats_url: &str, job: &str, times: usize) -> anyhow::Result<Vec<String>> {
    let client = async_nats::connect(nats_url).await.with_context(|| format!("connect to {nats_url}"))?;
    let body = serde_json::json!({ "job": job }).to_string();
    let one = async || {
        let answer = client.request("ecron.api.v1.trigger", body.clone().into()).await?;
        let answer: serde_json::Value = serde_json::from_slice(&answer.payload)?;
        let run = answer["ok"]["run"].as_str().with_context(|| format!("a run in {answer}"))?;
        anyhow::Ok(run.to_owned())
    };
    let asked = futures_util::stream::iter((0..times).map(|_| one()));
    asked.buffered(REQUESTS_AT_ONCE).collect::<Vec<_>>().await.into_iter().collect()
}
