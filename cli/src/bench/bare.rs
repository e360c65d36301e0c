//! What the broker does without us: JetStream itself, and its own message schedules. The floor and the rival.
//!
//! The one place outside `bus` that speaks to NATS directly: that is the point of it.

use std::fmt::Display;
use std::time::Duration;

use async_nats::jetstream::context::PublishAckFuture;
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use async_nats::jetstream::{Context, ContextBuilder, consumer};
use async_nats::{Client, HeaderMap};
use bus::nats::DEDUP_WINDOW;
use futures_util::StreamExt;
use model::time::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::lane::{Lane, Present};
use super::wall::Wall;
use crate::failure::Failure;

/// Publications without an ack.
const IN_FLIGHT_MAX: usize = 4_000;
/// Messages of one pull; the SDK's.
const PULL_MAX: usize = 256;
const PULL_EXPIRES: Duration = Duration::from_secs(30);
/// Messages that may wait for their ack, as for our queues.
const ACK_PENDING_MAX: i64 = 100_000;

const FLOOR_SUBJECT: &str = "bench.floor";
const NATIVE_TARGET: &str = "bench.native.due";

/// JetStream through two connections: one publishes, one consumes.
pub(super) struct Bare {
    publisher: Context,
    reader: Context,
}

/// A stream of ours, its consumer at work until this is dropped.
pub(super) struct Reading {
    task: JoinHandle<()>,
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Bare {
    pub(super) async fn connect(url: &str) -> Result<Self, Failure> {
        Ok(Self {
            publisher: context(url, "bench-publisher").await?,
            reader: context(url, "bench-reader").await?,
        })
    }

    pub(super) fn server_version(&self) -> String {
        self.client().try_server_info().map(|info| info.version).unwrap_or_default()
    }

    fn client(&self) -> Client {
        self.publisher.client()
    }

    /// Messages and bytes that a stream holds.
    pub(super) async fn held(&self, stream: &str) -> Result<(u64, u64), Failure> {
        let stream = self.reader.get_stream(stream).await.map_err(failed("look at a stream"))?;
        let state = &stream.cached_info().state;
        Ok((state.messages, state.bytes))
    }

    /// The floor's stream, new, and its consumer at work.
    pub(super) async fn open_floor(&self, present: Present, wall: Wall) -> Result<Reading, Failure> {
        self.open("BENCH_FLOOR", &[FLOOR_SUBJECT], FLOOR_SUBJECT, false, present, wall).await
    }

    /// The native schedules' stream, new, and its consumer at work.
    pub(super) async fn open_native(&self, present: Present, wall: Wall) -> Result<Reading, Failure> {
        self.open("BENCH_NATIVE", &["bench.native.>"], NATIVE_TARGET, true, present, wall).await
    }

    async fn open(
        &self,
        name: &str,
        subjects: &[&str],
        filter: &str,
        schedules: bool,
        present: Present,
        wall: Wall,
    ) -> Result<Reading, Failure> {
        // The one of an earlier repetition, if there was one.
        let _absent = self.reader.delete_stream(name).await;
        let config = Config {
            name: name.into(),
            subjects: subjects.iter().map(|subject| (*subject).to_owned()).collect(),
            retention: RetentionPolicy::WorkQueue,
            storage: StorageType::File,
            // The server refuses schedules beside DiscardNew. Without a limit neither discards anything.
            discard: if schedules { DiscardPolicy::Old } else { DiscardPolicy::New },
            duplicate_window: DEDUP_WINDOW,
            allow_message_schedules: schedules,
            ..Config::default()
        };
        let stream = self.reader.create_stream(config).await.map_err(failed("create a stream"))?;
        let config = consumer::pull::Config {
            durable_name: Some("reader".into()),
            ack_policy: consumer::AckPolicy::Explicit,
            filter_subject: filter.to_owned(),
            max_ack_pending: ACK_PENDING_MAX,
            ..consumer::pull::Config::default()
        };
        let consumer = stream.create_consumer(config).await.map_err(failed("create a consumer"))?;
        let pull = consumer.stream().max_messages_per_batch(PULL_MAX).expires(PULL_EXPIRES);
        let mut messages = pull.messages().await.map_err(failed("pull"))?;
        let task = tokio::spawn(async move {
            while let Some(message) = messages.next().await {
                let Ok(message) = message else { continue };
                present.mark(&message.payload, &wall);
                // An ack that is lost shows as a copy.
                let _shown = message.ack().await;
            }
        });
        Ok(Reading { task })
    }

    /// Publishes each run at its due instant; `Ok` once every ack came.
    pub(super) async fn publish_when_due(&self, lane: &Lane, wall: &Wall) -> Result<(), Failure> {
        let (acks, collected) = collector();
        for index in 0..lane.len() {
            let due_us = lane.due_us(index);
            if wall.now_us() < due_us {
                wall.sleep_until_us(due_us).await;
            }
            self.publish(FLOOR_SUBJECT, lane, index, &acks).await?;
        }
        drop(acks);
        collected.await.map_err(failed("collect the acks"))?
    }

    /// Publishes all runs at once, noting for each when; `Ok` once every ack came.
    pub(super) async fn publish_all(&self, subject: &str, lane: &Lane, wall: &Wall) -> Result<(), Failure> {
        let (acks, collected) = collector();
        for index in 0..lane.len() {
            lane.set_due(index, wall.now_us());
            self.publish(subject, lane, index, &acks).await?;
        }
        drop(acks);
        collected.await.map_err(failed("collect the acks"))?
    }

    /// Drains through the floor's stream.
    pub(super) async fn publish_floor(&self, lane: &Lane, wall: &Wall) -> Result<(), Failure> {
        self.publish_all(FLOOR_SUBJECT, lane, wall).await
    }

    async fn publish(
        &self,
        subject: &str,
        lane: &Lane,
        index: usize,
        acks: &mpsc::UnboundedSender<PublishAckFuture>,
    ) -> Result<(), Failure> {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", format!("{}-{index}", lane.number()));
        let sent = self.publisher.publish_with_headers(subject.to_owned(), headers, lane.body(index)).await;
        // The collector outlives the acks.
        let _collected = acks.send(sent.map_err(failed("publish"))?);
        Ok(())
    }

    /// Leaves each run with the server, to be published by it at its due instant.
    pub(super) async fn schedule(&self, lane: &Lane) -> Result<(), Failure> {
        let (acks, collected) = collector();
        for index in 0..lane.len() {
            let due_at = Timestamp::from_ms(lane.due_us(index) / 1_000);
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Schedule", format!("@at {due_at}"));
            headers.insert("Nats-Schedule-Target", NATIVE_TARGET);
            let subject = format!("bench.native.later.{}.{index}", lane.number());
            let sent = self.publisher.publish_with_headers(subject, headers, lane.body(index)).await;
            let _collected = acks.send(sent.map_err(failed("schedule"))?);
        }
        drop(acks);
        collected.await.map_err(failed("collect the acks"))?
    }
}

async fn context(url: &str, name: &str) -> Result<Context, Failure> {
    let client = async_nats::ConnectOptions::new().name(name).connect(url).await;
    let client = client.map_err(failed("connect to NATS"))?;
    Ok(ContextBuilder::new()
        .timeout(Duration::from_secs(30))
        .max_ack_inflight(IN_FLIGHT_MAX)
        .backpressure_on_inflight(true)
        .build(client))
}

/// Waits for acks in the order of publication, beside the publisher.
fn collector() -> (mpsc::UnboundedSender<PublishAckFuture>, JoinHandle<Result<(), Failure>>) {
    // Bounded by the publications in flight.
    let (acks, mut coming) = mpsc::unbounded_channel::<PublishAckFuture>();
    let collect = async move {
        while let Some(ack) = coming.recv().await {
            let ack = ack.await.map_err(failed("hear of a publication"))?;
            if ack.duplicate {
                return Err(Failure::failed("a message id was used twice"));
            }
        }
        Ok(())
    };
    (acks, tokio::spawn(collect))
}

fn failed<E: Display>(what: &'static str) -> impl Fn(E) -> Failure {
    move |problem| Failure::failed(format!("failed to {what}: {problem}"))
}
