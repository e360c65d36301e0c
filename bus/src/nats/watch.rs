//! Reading the changes of the spec bucket, in order and without gaps.
//!
//! An ephemeral consumer from a sequence, read by pulls. Any doubt (a gap, a lost connection, a lost consumer, another
//! bucket under the same name) ends the stream: its reader starts again from the last `CaughtUp` and misses nothing.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, IntoConsumerConfig, pull};
use async_nats::jetstream::stream::Info;
use async_nats::{Message, StatusCode, Subscriber};
use futures_util::{Stream, StreamExt, stream};
use model::id::Revision;
use model::name::Name;
use model::shard::ShardId;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use super::checkpoints::is_marker;
use super::headers::headers_of;
use super::link::Link;
use super::message::Position;
use super::specs::signature_of;
use super::streams::existing_stream;
use crate::error::BusError;
use crate::specs::{SpecChange, StoredSpec};
use crate::subjects::{BUCKET_SPECS, bucket_key, bucket_stream, bucket_subject, parse_spec_key};

/// Changes that one pull asks for.
const BATCH: usize = 1_000;
/// How long the server holds one pull.
const PULL_EXPIRES: Duration = Duration::from_secs(30);
/// Between two checks of an idle reader, each of which says `CaughtUp`.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// When the server forgets a consumer that nobody reads any more.
const INACTIVE_THRESHOLD: Duration = Duration::from_secs(30);
/// Shards that are asked for by name; more of them are picked out of all.
const SHARD_FILTERS_MAX: usize = 32;

/// Which specs a reader wants.
pub(super) struct Scope {
    filters: Vec<String>,
    /// If set: only these shards, of what the filters let through.
    shards: Option<BTreeSet<ShardId>>,
    /// Keys and headers only: every spec looks empty.
    names_only: bool,
}

impl Scope {
    pub(super) fn names(shard: ShardId) -> Self {
        Self { names_only: true, ..Self::shards(&[shard]) }
    }

    pub(super) fn shards(shards: &[ShardId]) -> Self {
        if shards.len() > SHARD_FILTERS_MAX {
            let all = vec![bucket_subject(BUCKET_SPECS, ">")];
            let shards = Some(shards.iter().copied().collect());
            return Self { filters: all, shards, names_only: false };
        }
        let wanted: BTreeSet<ShardId> = shards.iter().copied().collect();
        let filter = |shard: &ShardId| bucket_subject(BUCKET_SPECS, &format!("{shard}.>"));
        Self { filters: wanted.iter().map(filter).collect(), shards: Some(wanted), names_only: false }
    }

    pub(super) fn namespace(namespace: Option<&Name>) -> Self {
        let pattern = namespace.map_or_else(|| ">".to_owned(), |namespace| format!("*.{namespace}.*"));
        let filters = vec![bucket_subject(BUCKET_SPECS, &pattern)];
        Self { filters, shards: None, names_only: false }
    }

    fn wants(&self, shard: ShardId) -> bool {
        self.shards.as_ref().is_none_or(|shards| shards.contains(&shard))
    }
}

pub(super) struct Reader {
    link: Link,
    scope: Scope,
    subscription: Subscriber,
    inbox: String,
    consumer: String,
    /// When the bucket was created: another instant means another bucket.
    bucket_created_ns: i128,
    lost: watch::Receiver<u64>,
    ready: VecDeque<SpecChange>,
    /// Messages received so far; the next one's number in the consumer is one more.
    received: u64,
    /// Messages that the server may still send for the last pull.
    outstanding: usize,
    next_check: Instant,
}

#[derive(serde::Deserialize)]
struct ConsumerAnswer {
    name: String,
    num_pending: u64,
    delivered: DeliveredAnswer,
}

#[derive(serde::Deserialize)]
struct DeliveredAnswer {
    consumer_seq: u64,
}

enum Woken {
    Message(Option<Message>),
    Lost,
    Check,
}

impl Reader {
    /// Starts after a revision; from the beginning if the bucket is younger than that.
    pub(super) async fn open(link: &Link, scope: Scope, after: Revision) -> Result<Self, BusError> {
        let lost = link.losses();
        let stream = bucket_stream(BUCKET_SPECS);
        let info = existing_stream(link, &stream).await?;
        let last = info.state.last_sequence;
        let start = if last < after.0 { 1 } else { after.0 + 1 };
        let config = pull::Config {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: start },
            ack_policy: AckPolicy::None,
            filter_subjects: scope.filters.clone(),
            headers_only: scope.names_only,
            inactive_threshold: INACTIVE_THRESHOLD,
            memory_storage: true,
            num_replicas: 1,
            max_deliver: 1,
            ..pull::Config::default()
        };
        // The general form: `pull::Config` is written with other field names than the server reads.
        let config = config.into_consumer_config();
        let body = json!({"stream_name": stream, "config": config, "action": "create"});
        let inbox = link.new_inbox();
        let subscription = link.subscribe(inbox.clone(), None).await?;
        let consumer: ConsumerAnswer = link.js(&format!("CONSUMER.CREATE.{stream}"), &body).await?;
        let mut ready = VecDeque::new();
        if consumer.num_pending == 0 {
            ready.push_back(SpecChange::CaughtUp { revision: Revision(last) });
        }
        Ok(Self {
            link: link.clone(),
            scope,
            subscription,
            inbox,
            consumer: consumer.name,
            bucket_created_ns: created_ns(&info),
            lost,
            ready,
            received: 0,
            outstanding: 0,
            next_check: Instant::now() + CHECK_INTERVAL,
        })
    }

    pub(super) fn into_stream(self) -> impl Stream<Item = SpecChange> + Send {
        stream::unfold(self, |mut reader| async move { reader.next().await.map(|change| (change, reader)) })
    }

    async fn next(&mut self) -> Option<SpecChange> {
        loop {
            if let Some(change) = self.ready.pop_front() {
                return Some(change);
            }
            if self.outstanding == 0 {
                self.pull().await.ok()?;
            }
            let woken = wait(&mut self.subscription, &mut self.lost, self.next_check).await;
            match woken {
                Woken::Message(Some(message)) => self.on_message(&message).ok()?,
                Woken::Message(None) | Woken::Lost => return None,
                Woken::Check => self.check().await.ok()?,
            }
        }
    }

    async fn pull(&mut self) -> Result<(), BusError> {
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", bucket_stream(BUCKET_SPECS), self.consumer);
        let expires_ns = u64::try_from(PULL_EXPIRES.as_nanos()).unwrap_or(u64::MAX);
        let request = json!({"batch": BATCH, "expires": expires_ns});
        self.link
            .publish_for(subject.into(), Some(self.inbox.clone().into()), request.to_string().into())
            .await?;
        self.outstanding = BATCH;
        Ok(())
    }

    /// `Err`: the stream can't go on.
    fn on_message(&mut self, message: &Message) -> Result<(), Doubt> {
        let Some(reply) = &message.reply else {
            return match message.status {
                Some(StatusCode::TIMEOUT) => {
                    self.outstanding = 0;
                    Ok(())
                }
                Some(StatusCode::IDLE_HEARTBEAT) => Ok(()),
                _ => Err(Doubt),
            };
        };
        let position = Position::parse(reply).ok_or(Doubt)?;
        if position.consumer_sequence != self.received + 1 {
            return Err(Doubt);
        }
        self.received += 1;
        self.outstanding = self.outstanding.saturating_sub(1);
        self.ready.extend(self.read_change(message, position));
        if position.pending == 0 {
            self.ready.push_back(SpecChange::CaughtUp { revision: Revision(position.sequence) });
            self.next_check = Instant::now() + CHECK_INTERVAL;
        }
        Ok(())
    }

    fn read_change(&self, message: &Message, position: Position) -> Option<SpecChange> {
        let revision = Revision(position.sequence);
        let key = bucket_key(BUCKET_SPECS, &message.subject).unwrap_or(&message.subject);
        let Some((shard, job)) = parse_spec_key(key) else {
            return Some(SpecChange::Foreign { key: key.to_owned(), revision });
        };
        if !self.scope.wants(shard) {
            return None;
        }
        let headers = headers_of(message);
        let by = signature_of(&headers);
        if is_marker(&headers) {
            return Some(SpecChange::Deleted { job, shard, revision, by });
        }
        let spec =
            StoredSpec { revision, value: message.payload.clone(), written_at: position.stored_at, by };
        Some(SpecChange::Put { job, shard, spec })
    }

    /// Whether the bucket is still the same and everything in it has been read.
    async fn check(&mut self) -> Result<(), BusError> {
        self.next_check = Instant::now() + CHECK_INTERVAL;
        let stream = bucket_stream(BUCKET_SPECS);
        let info = existing_stream(&self.link, &stream).await?;
        if created_ns(&info) != self.bucket_created_ns {
            return Err(BusError::Failed("the bucket was replaced".into()));
        }
        let verb = format!("CONSUMER.INFO.{stream}.{}", self.consumer);
        let consumer: ConsumerAnswer = self.link.js(&verb, &json!({})).await?;
        if consumer.num_pending == 0 && consumer.delivered.consumer_seq == self.received {
            // The stream was asked first, so that nothing up to its last sequence can be unread.
            self.ready.push_back(SpecChange::CaughtUp { revision: Revision(info.state.last_sequence) });
        }
        Ok(())
    }
}

/// Something that doesn't fit an unbroken stream.
struct Doubt;

async fn wait(subscription: &mut Subscriber, lost: &mut watch::Receiver<u64>, next_check: Instant) -> Woken {
    tokio::select! {
        biased;
        _ = lost.changed() => Woken::Lost,
        message = subscription.next() => Woken::Message(message),
        () = tokio::time::sleep_until(next_check) => Woken::Check,
    }
}

fn created_ns(info: &Info) -> i128 {
    info.created.unix_timestamp_nanos()
}
