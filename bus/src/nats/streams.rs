//! Streams, buckets and shared consumers: what they must be, creating them, and how existing ones differ.

use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::stream::{Config, DiscardPolicy, Info, RetentionPolicy, StorageType};
use model::durability::NatsFacts;
use model::limits::LOGS_BYTES_MAX;
use serde_json::json;

use super::link::Link;
use super::{ACK_PENDING_MAX, NatsOptions, PULLS_WAITING_MAX};
use crate::edits::{EDITS_AGE_MAX, EDITS_KEPT_MAX};
use crate::error::BusError;
use crate::subjects::{
    BUCKET_CHECKPOINTS, BUCKET_OBJECTS, BUCKET_SPECS, DEAD_ALL, DEFERS_ALL, EDITS_ALL, EVENTS_ALL, LOGS_ALL,
    QueueSubject, RUNS_ALL, STREAM_DEAD, STREAM_EDITS, STREAM_EVENTS, STREAM_INTAKE, STREAM_LOGS,
    STREAM_RUNS, STREAM_TALLIES, SUBMITS_ALL, TALLIES_ALL, TERMINATED_ALL, bucket_stream, bucket_subject,
    queue_consumer,
};

/// How long a stream remembers message ids. Longer than any publisher of ours repeats one (seconds: a takeover, a
/// reconnect), and enough for a person's script to retry an ad-hoc publication; but ids are held in memory, some 150
/// bytes each, and at 5,000 messages a second ten minutes are half a gigabyte.
pub const DEDUP_WINDOW: Duration = Duration::from_secs(600);
/// Dead letters are few, and the end of a run is reported again until it is acknowledged: remember for longer.
pub const DEAD_DEDUP_WINDOW: Duration = Duration::from_secs(3_600);
/// How long what planners and dispatchers read is kept from the next one. Both handle a message in milliseconds and may
/// handle it twice; but whoever takes over a shard waits for an outcome that is in dead hands, and must not wait for so
/// long that occurrences count as missed (`model::misfire::INTERRUPTION_MIN`).
const SHARED_ACK_WAIT: Duration = Duration::from_secs(5);
/// How long reports of attempts are kept.
pub const EVENTS_AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);
/// How long logs are kept.
const LOGS_AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);
/// How long a tally is kept: longer than the wait before an attempt (`RETRY_DELAY_MAX`) and the attempt itself
/// (`TIMEOUT_MAX`).
const TALLY_AGE_MAX: Duration = Duration::from_secs(9 * 24 * 3_600);
/// Tallies that are kept; the oldest go first. A message whose tally is gone counts its attempts as lost ones.
const TALLIES_MAX: i64 = 1_000_000;

/// Every stream and bucket, as we create them.
fn wanted(options: &NatsOptions) -> Vec<Config> {
    let stream = |name: &str, subjects: &[&str], description: &str| Config {
        name: name.into(),
        subjects: subjects.iter().map(|subject| (*subject).to_owned()).collect(),
        description: Some(description.into()),
        storage: StorageType::File,
        discard: DiscardPolicy::New,
        duplicate_window: DEDUP_WINDOW,
        num_replicas: options.replicas,
        max_messages: -1,
        max_bytes: -1,
        max_messages_per_subject: -1,
        max_consumers: -1,
        ..Config::default()
    };
    let bucket = |name: &str, description: &str| Config {
        max_messages_per_subject: 1,
        allow_rollup: true,
        deny_delete: true,
        allow_direct: true,
        duplicate_window: Duration::from_secs(120),
        ..stream(&bucket_stream(name), &[&bucket_subject(name, ">")], description)
    };
    vec![
        Config {
            retention: RetentionPolicy::WorkQueue,
            max_bytes: options.run_bytes_max.unwrap_or(-1),
            ..stream(STREAM_RUNS, &[RUNS_ALL, SUBMITS_ALL], "ecron: published runs, and ad-hoc work for now")
        },
        Config {
            retention: RetentionPolicy::WorkQueue,
            ..stream(STREAM_INTAKE, &[DEFERS_ALL], "ecron: ad-hoc work for later")
        },
        Config {
            retention: RetentionPolicy::Limits,
            discard: DiscardPolicy::Old,
            max_age: EVENTS_AGE_MAX,
            ..stream(STREAM_EVENTS, &[EVENTS_ALL, TERMINATED_ALL], "ecron: reports of attempts")
        },
        Config {
            retention: RetentionPolicy::Limits,
            duplicate_window: DEAD_DEDUP_WINDOW,
            ..stream(STREAM_DEAD, &[DEAD_ALL], "ecron: dead letters, until redriven or purged")
        },
        Config {
            retention: RetentionPolicy::Limits,
            discard: DiscardPolicy::Old,
            max_age: LOGS_AGE_MAX,
            max_bytes: LOGS_BYTES_MAX,
            ..stream(STREAM_LOGS, &[LOGS_ALL], "ecron: what attempts say while they are at work")
        },
        Config {
            retention: RetentionPolicy::Limits,
            discard: DiscardPolicy::Old,
            max_age: TALLY_AGE_MAX,
            max_messages: TALLIES_MAX,
            max_messages_per_subject: 1,
            duplicate_window: Duration::from_secs(120),
            ..stream(STREAM_TALLIES, &[TALLIES_ALL], "ecron: what became of deliveries that weren't the last")
        },
        Config {
            retention: RetentionPolicy::Limits,
            discard: DiscardPolicy::Old,
            max_age: EDITS_AGE_MAX,
            max_messages_per_subject: EDITS_KEPT_MAX as i64,
            allow_direct: true,
            duplicate_window: Duration::from_secs(120),
            ..stream(STREAM_EDITS, &[EDITS_ALL], "ecron: which jobs were edited, for executors")
        },
        bucket(BUCKET_SPECS, "ecron: job specs"),
        bucket(BUCKET_OBJECTS, "ecron: calendars, namespaces and queues"),
        bucket(BUCKET_CHECKPOINTS, "ecron: dispatch checkpoints and cluster settings"),
    ]
}

/// Creates what is missing and describes what differs.
pub(super) async fn ensure(link: &Link, options: &NatsOptions) -> Result<Vec<String>, BusError> {
    let mut drift = Vec::new();
    for config in wanted(options) {
        let found: Option<Info> = stream_info(link, &config.name).await?;
        match found {
            Some(info) => drift.extend(differences(&config, &info.config)),
            None => create(link, &config).await?,
        }
    }
    Ok(drift)
}

/// What there is of streams and buckets, without changing anything.
pub(super) async fn look(link: &Link, options: &NatsOptions) -> Result<NatsFacts, BusError> {
    let mut facts = NatsFacts { version: link.server_version(), ..NatsFacts::default() };
    for config in wanted(options) {
        match stream_info(link, &config.name).await? {
            Some(info) => {
                // Replicas are judged by themselves.
                let like_ours = Config { num_replicas: info.config.num_replicas, ..config };
                facts.drift.extend(differences(&like_ours, &info.config));
                facts.streams.push((like_ours.name, info.config.num_replicas));
            }
            None => facts.missing.push(config.name),
        }
    }
    Ok(facts)
}

async fn create(link: &Link, config: &Config) -> Result<(), BusError> {
    let name = &config.name;
    match link.js::<Info>(&format!("STREAM.CREATE.{name}"), config).await {
        Ok(_) => {
            tracing::info!(stream = %name, "created");
            Ok(())
        }
        // Somebody else created it in the same moment.
        Err(BusError::Refused(text)) => match stream_info(link, name).await? {
            Some(_) => Ok(()),
            None => Err(BusError::Refused(text)),
        },
        Err(other) => Err(other),
    }
}

pub(super) async fn stream_info(link: &Link, name: &str) -> Result<Option<Info>, BusError> {
    link.js_maybe(&format!("STREAM.INFO.{name}"), &json!({}), &[ErrorCode::STREAM_NOT_FOUND]).await
}

/// The stream's information; `Failed` if there is no such stream.
pub(super) async fn existing_stream(link: &Link, name: &str) -> Result<Info, BusError> {
    stream_info(link, name).await?.ok_or_else(|| BusError::Failed(format!("stream {name} doesn't exist")))
}

/// In which settings that matter to us a stream differs, for an operator to read.
fn differences(wanted: &Config, found: &Config) -> Vec<String> {
    let mut differences = Vec::new();
    let mut compare = |setting: &str, wanted_value: String, found_value: String| {
        if wanted_value != found_value {
            let name = &wanted.name;
            differences.push(format!("stream {name}: {setting} is {found_value}, expected {wanted_value}"));
        }
    };
    let sorted = |subjects: &[String]| {
        let mut subjects = subjects.to_vec();
        subjects.sort();
        subjects.join(" ")
    };
    let seconds = |duration: Duration| format!("{} s", duration.as_secs());
    compare("subjects", sorted(&wanted.subjects), sorted(&found.subjects));
    compare("retention", format!("{:?}", wanted.retention), format!("{:?}", found.retention));
    compare("storage", format!("{:?}", wanted.storage), format!("{:?}", found.storage));
    compare("discard", format!("{:?}", wanted.discard), format!("{:?}", found.discard));
    compare("duplicate window", seconds(wanted.duplicate_window), seconds(found.duplicate_window));
    compare("maximum age", seconds(wanted.max_age), seconds(found.max_age));
    compare("replicas", wanted.num_replicas.to_string(), found.num_replicas.to_string());
    compare(
        "messages per subject",
        wanted.max_messages_per_subject.to_string(),
        found.max_messages_per_subject.to_string(),
    );
    compare("maximum bytes", wanted.max_bytes.to_string(), found.max_bytes.to_string());
    differences
}

/// A pull consumer that must exist before it is read.
#[derive(Clone, Debug)]
pub(super) struct ConsumerSpec {
    pub(super) stream: &'static str,
    pub(super) name: String,
    /// Subjects that it reads; none: all of the stream's.
    pub(super) filters: Vec<String>,
    ack_wait: Duration,
}

impl ConsumerSpec {
    pub(super) fn of_queue(queue: &model::name::QueueId, ack_wait: Duration) -> Self {
        Self {
            stream: STREAM_RUNS,
            name: queue_consumer(queue),
            filters: [QueueSubject::Run, QueueSubject::Submit].map(|kind| kind.of(queue)).into(),
            ack_wait,
        }
    }

    pub(super) fn shared(stream: &'static str, name: &str) -> Self {
        Self { stream, name: name.into(), filters: Vec::new(), ack_wait: SHARED_ACK_WAIT }
    }

    fn config(&self, ack_wait: Duration, most_out: i64) -> pull::Config {
        pull::Config {
            durable_name: Some(self.name.clone()),
            name: Some(self.name.clone()),
            deliver_policy: DeliverPolicy::All,
            ack_policy: AckPolicy::Explicit,
            ack_wait,
            max_deliver: -1,
            filter_subjects: self.filters.clone(),
            max_ack_pending: most_out,
            max_waiting: PULLS_WAITING_MAX,
            ..pull::Config::default()
        }
    }

    async fn found(&self, link: &Link) -> Result<Option<FoundConsumerConfig>, BusError> {
        let verb = format!("CONSUMER.INFO.{}.{}", self.stream, self.name);
        let absent = [ErrorCode::CONSUMER_NOT_FOUND];
        let found: Option<FoundConsumer> = link.js_maybe(&verb, &json!({}), &absent).await?;
        Ok(found.map(|found| found.config))
    }

    async fn write(&self, link: &Link, config: pull::Config) -> Result<(), BusError> {
        let Self { stream, name, .. } = self;
        let body = json!({"stream_name": stream, "config": config, "action": ""});
        let verb = format!("CONSUMER.CREATE.{stream}.{name}");
        link.js::<serde::de::IgnoredAny>(&verb, &body).await?;
        tracing::info!(stream, consumer = %name, "created or updated");
        Ok(())
    }

    /// Creates the consumer if it isn't there. An ack wait that is shorter than ours is lengthened, never the other
    /// way round: an executor that heartbeats for a longer one would lose its messages while it works on them.
    pub(super) async fn ensure(&self, link: &Link) -> Result<(), BusError> {
        let found = self.found(link).await?;
        if found.as_ref().is_some_and(|found| Duration::from_nanos(found.ack_wait) >= self.ack_wait) {
            return Ok(());
        }
        let most_out = found.map_or(ACK_PENDING_MAX, |found| found.max_ack_pending);
        self.write(link, self.config(self.ack_wait, most_out)).await
    }

    /// Sets how many messages may be out at once; creates the consumer if it isn't there.
    pub(super) async fn limit(&self, link: &Link, most_out: i64) -> Result<(), BusError> {
        let found = self.found(link).await?;
        if found.as_ref().is_some_and(|found| found.max_ack_pending == most_out) {
            return Ok(());
        }
        let ack_wait = found.map_or(Duration::ZERO, |found| Duration::from_nanos(found.ack_wait));
        self.write(link, self.config(ack_wait.max(self.ack_wait), most_out)).await
    }
}

#[derive(serde::Deserialize)]
struct FoundConsumer {
    config: FoundConsumerConfig,
}

#[derive(serde::Deserialize)]
struct FoundConsumerConfig {
    /// In nanoseconds.
    #[serde(default)]
    ack_wait: u64,
    #[serde(default)]
    max_ack_pending: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_difference_that_matters_is_described() {
        let wanted = &wanted(&NatsOptions::default())[0];
        let found = Config {
            retention: RetentionPolicy::Limits,
            discard: DiscardPolicy::Old,
            duplicate_window: Duration::from_secs(120),
            subjects: vec!["ecron.run.>".into()],
            ..wanted.clone()
        };
        let expected = [
            "stream ECRON_RUNS: subjects is ecron.run.>, expected ecron.run.*.* ecron.submit.*.*",
            "stream ECRON_RUNS: retention is Limits, expected WorkQueue",
            "stream ECRON_RUNS: discard is Old, expected New",
            "stream ECRON_RUNS: duplicate window is 120 s, expected 600 s",
        ];
        assert_eq!(differences(wanted, &found), expected);
        assert!(differences(wanted, wanted).is_empty());
    }
}
