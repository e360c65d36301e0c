//! Every name that ecron uses on NATS: subjects, streams, buckets, consumers. Nobody else spells one out.
//!
//! Names of namespaces and queues have the alphabet of a DNS label (`model::name`), so they are put into subjects and
//! consumer names as they are, and `_` separates without ambiguity.

use model::id::RunId;
use model::name::{BackfillId, CalendarId, JobId, Name, QueueId};
use model::object::{ObjectKey, ObjectKind};
use model::shard::{ShardId, stable_hash};

/// Published runs, and ad-hoc work for now. Work-queue: a message leaves when an executor acknowledges it.
pub const STREAM_RUNS: &str = "ECRON_RUNS";
/// Ad-hoc work for later. Work-queue: a message leaves when a planner made a job of it.
pub const STREAM_INTAKE: &str = "ECRON_INTAKE";
/// Reports of attempts, and the server's advisories about terminated run messages.
pub const STREAM_EVENTS: &str = "ECRON_EVENTS";
/// What became of the earlier deliveries of messages that will be delivered again.
pub const STREAM_TALLIES: &str = "ECRON_TALLIES";
/// What attempts say while they are at work.
pub const STREAM_LOGS: &str = "ECRON_LOGS";
/// Which jobs were edited, for the executors of their queues.
pub const STREAM_EDITS: &str = "ECRON_EDITS";
/// Dead letters, kept until redriven or purged.
pub const STREAM_DEAD: &str = "ECRON_DEAD";

pub const RUNS_ALL: &str = "ecron.run.*.*";
pub const SUBMITS_ALL: &str = "ecron.submit.*.*";
pub const DEFERS_ALL: &str = "ecron.defer.>";
pub const EVENTS_ALL: &str = "ecron.event.>";
pub const EDITS_ALL: &str = "ecron.edit.*.*";
pub const DEAD_ALL: &str = "ecron.dead.>";
pub const LOGS_ALL: &str = "ecron.log.>";
pub const TALLIES_ALL: &str = "ecron.tally.>";
/// Who asked for what: in the event stream.
pub const AUDIT_EVENT: &str = "ecron.event.audit";
/// What the server says when a client ends a run message for good.
pub const TERMINATED_ALL: &str = "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.ECRON_RUNS.>";

/// Specs: the truth about jobs.
pub const BUCKET_SPECS: &str = "ecron_specs";
/// Objects beside jobs: calendars, namespaces and queues.
pub const BUCKET_OBJECTS: &str = "ecron_objects";
/// Dispatch checkpoints and the cluster's settings.
pub const BUCKET_CHECKPOINTS: &str = "ecron_checkpoints";
/// The cluster's settings in `BUCKET_CHECKPOINTS`.
pub const KEY_CLUSTER: &str = "cluster";
/// What the keys of checkpoints begin with.
pub const KEY_NODE_PREFIX: &str = "node.";

/// The settlers' shared consumer of `STREAM_EVENTS`.
pub const CONSUMER_SETTLE: &str = "ecron_settle";
/// The planners' shared consumer of `STREAM_INTAKE`.
pub const CONSUMER_INTAKE: &str = "ecron_intake";

/// Servers of the API share the requests.
pub const API_GROUP: &str = "ecron-api";
pub const API_ALL: &str = "ecron.api.v1.>";
const API_PREFIX: &str = "ecron.api.v1.";
const ORDER_VERB_PREFIX: &str = "order.";

pub const NUDGES_ALL: &str = "ecron.nudge.*";
const NUDGE_PREFIX: &str = "ecron.nudge.";

/// What a message on a queue's subject is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QueueSubject {
    /// `ecron.run.…`: published by a dispatcher, its headers are believed.
    Run,
    /// `ecron.submit.…`: published by anybody, ad hoc.
    Submit,
    /// `ecron.defer.…`: published by anybody, for later.
    Defer,
}

impl QueueSubject {
    fn prefix(self) -> &'static str {
        match self {
            Self::Run => "ecron.run.",
            Self::Submit => "ecron.submit.",
            Self::Defer => "ecron.defer.",
        }
    }

    /// The subject of a queue: `ecron.run.billing.reports`.
    #[must_use]
    pub fn of(self, queue: &QueueId) -> String {
        format!("{}{}.{}", self.prefix(), queue.namespace, queue.name)
    }
}

/// The kind and queue of a subject; `None` if it is none of a queue's.
#[must_use]
pub fn parse_queue_subject(subject: &str) -> Option<(QueueSubject, QueueId)> {
    let kinds = [QueueSubject::Run, QueueSubject::Submit, QueueSubject::Defer];
    let (kind, rest) =
        kinds.into_iter().find_map(|kind| subject.strip_prefix(kind.prefix()).map(|rest| (kind, rest)))?;
    let (namespace, name) = rest.split_once('.')?;
    Some((kind, QueueId { namespace: Name::new(namespace).ok()?, name: Name::new(name).ok()? }))
}

/// The durable consumer of a queue: `billing_reports`.
#[must_use]
pub fn queue_consumer(queue: &QueueId) -> String {
    format!("{}_{}", queue.namespace, queue.name)
}

/// The queue of a consumer's name.
#[must_use]
pub fn queue_of_consumer(consumer: &str) -> Option<QueueId> {
    let (namespace, name) = consumer.split_once('_')?;
    Some(QueueId { namespace: Name::new(namespace).ok()?, name: Name::new(name).ok()? })
}

/// Where attempts of a queue's runs are reported.
#[must_use]
pub fn attempt_event(queue: &QueueId) -> String {
    format!("ecron.event.attempt.{}.{}", queue.namespace, queue.name)
}

/// Where attempts of a queue's runs say how they are doing.
#[must_use]
pub fn progress_event(queue: &QueueId) -> String {
    format!("ecron.event.progress.{}.{}", queue.namespace, queue.name)
}

/// A run's log. Ids may hold characters that subjects can't, hence the hash (`model::shard::stable_hash`).
#[must_use]
pub fn log(queue: &QueueId, run_id: &RunId) -> String {
    format!("ecron.log.{}.{}.{}", queue.namespace, queue.name, run_token(run_id))
}

/// The same for whoever doesn't know the run's queue.
#[must_use]
pub fn log_anywhere(run_id: &RunId) -> String {
    format!("ecron.log.*.*.{}", run_token(run_id))
}

fn run_token(run_id: &RunId) -> String {
    format!("{:016x}", stable_hash(&[&run_id.to_string()]))
}

/// Where executors of a queue are told to end a run.
#[must_use]
pub fn cancel(queue: &QueueId) -> String {
    format!("ecron.cancel.{}.{}", queue.namespace, queue.name)
}

/// Where executors of a queue learn which jobs were edited.
#[must_use]
pub fn edit(queue: &QueueId) -> String {
    format!("ecron.edit.{}.{}", queue.namespace, queue.name)
}

/// The verb by which an executor of a queue asks for a run's order. It names the queue, so that each executor can be
/// allowed to ask for its own.
#[must_use]
pub fn order_verb(queue: &QueueId) -> String {
    format!("{ORDER_VERB_PREFIX}{}.{}", queue.namespace, queue.name)
}

/// The queue of such a verb.
#[must_use]
pub fn parse_order_verb(verb: &str) -> Option<QueueId> {
    let (namespace, name) = verb.strip_prefix(ORDER_VERB_PREFIX)?.split_once('.')?;
    Some(QueueId { namespace: Name::new(namespace).ok()?, name: Name::new(name).ok()? })
}

/// The tally of a message of a queue, by its sequence in `STREAM_RUNS`.
#[must_use]
pub fn tally(queue: &QueueId, sequence: u64) -> String {
    format!("ecron.tally.{}.{}.{sequence}", queue.namespace, queue.name)
}

/// Where dead letters of a queue are kept. A letter whose queue can't be read is kept under `-`.
#[must_use]
pub fn dead(queue: Option<&QueueId>) -> String {
    match queue {
        Some(queue) => format!("ecron.dead.{}.{}", queue.namespace, queue.name),
        None => "ecron.dead.-.-".into(),
    }
}

#[must_use]
pub fn api(verb: &str) -> String {
    format!("{API_PREFIX}{verb}")
}

#[must_use]
pub fn parse_api(subject: &str) -> Option<&str> {
    subject.strip_prefix(API_PREFIX)
}

#[must_use]
pub fn nudge(shard: ShardId) -> String {
    format!("{NUDGE_PREFIX}{shard}")
}

#[must_use]
pub fn parse_nudge(subject: &str) -> Option<ShardId> {
    parse_shard(subject.strip_prefix(NUDGE_PREFIX)?)
}

/// The key of a spec: `27.billing.nightly-report`.
#[must_use]
pub fn spec_key(shard: ShardId, job: &JobId) -> String {
    format!("{shard}.{}.{}", job.namespace, job.name)
}

/// The shard and job of a spec's key; `None` if it isn't ours to understand.
#[must_use]
pub fn parse_spec_key(key: &str) -> Option<(ShardId, JobId)> {
    let mut tokens = key.split('.');
    let shard = parse_shard(tokens.next()?)?;
    let namespace = Name::new(tokens.next()?).ok()?;
    let name = Name::new(tokens.next()?).ok()?;
    tokens.next().is_none().then_some((shard, JobId { namespace, name }))
}

/// The key of an object that isn't a job: `calendar.billing.de-holidays`, `namespace.billing`.
#[must_use]
pub fn object_key(key: &ObjectKey) -> String {
    let kind = key.kind().word();
    match key {
        ObjectKey::Calendar(id) => format!("{kind}.{}.{}", id.namespace, id.name),
        ObjectKey::Backfill(id) => format!("{kind}.{}.{}", id.namespace, id.name),
        ObjectKey::Namespace(name) => format!("{kind}.{name}"),
        ObjectKey::Queue(id) => format!("{kind}.{}.{}", id.namespace, id.name),
    }
}

/// The keys of all objects of a kind, optionally of one namespace only.
#[must_use]
pub fn object_keys(kind: ObjectKind, namespace: Option<&Name>) -> String {
    let word = kind.word();
    match (kind.is_in_namespace(), namespace) {
        (true, Some(namespace)) => format!("{word}.{namespace}.*"),
        (true, None) => format!("{word}.*.*"),
        (false, Some(namespace)) => format!("{word}.{namespace}"),
        (false, None) => format!("{word}.*"),
    }
}

/// The object of a key; `None` if it isn't ours to understand.
#[must_use]
pub fn parse_object_key(key: &str) -> Option<ObjectKey> {
    let mut tokens = key.split('.');
    let kind = tokens.next()?;
    let namespace = Name::new(tokens.next()?).ok()?;
    let mut name = || Name::new(tokens.next()?).ok();
    let object = match ObjectKind::ALL.into_iter().find(|known| known.word() == kind)? {
        ObjectKind::Calendar => ObjectKey::Calendar(CalendarId { namespace, name: name()? }),
        ObjectKind::Backfill => ObjectKey::Backfill(BackfillId { namespace, name: name()? }),
        ObjectKind::Namespace => ObjectKey::Namespace(namespace),
        ObjectKind::Queue => ObjectKey::Queue(QueueId { namespace, name: name()? }),
    };
    tokens.next().is_none().then_some(object)
}

/// Only the canonical text counts: `7` and `007` aren't the shard `07`.
fn parse_shard(text: &str) -> Option<ShardId> {
    let shard = ShardId(text.parse().ok()?);
    (shard.to_string() == text).then_some(shard)
}

/// The stream behind a KV bucket.
#[must_use]
pub fn bucket_stream(bucket: &str) -> String {
    format!("KV_{bucket}")
}

/// The subject of a key (or key pattern) in a KV bucket.
#[must_use]
pub fn bucket_subject(bucket: &str, key: &str) -> String {
    format!("$KV.{bucket}.{key}")
}

/// The key of a subject in a KV bucket.
#[must_use]
pub fn bucket_key<'a>(bucket: &str, subject: &'a str) -> Option<&'a str> {
    subject.strip_prefix("$KV.")?.strip_prefix(bucket)?.strip_prefix('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_other_languages_expect() {
        let queue: QueueId = "billing/reports".parse().unwrap();
        assert_eq!(QueueSubject::Run.of(&queue), "ecron.run.billing.reports");
        assert_eq!(QueueSubject::Submit.of(&queue), "ecron.submit.billing.reports");
        assert_eq!(QueueSubject::Defer.of(&queue), "ecron.defer.billing.reports");
        assert_eq!(queue_consumer(&queue), "billing_reports");
        assert_eq!(attempt_event(&queue), "ecron.event.attempt.billing.reports");
        assert_eq!(dead(Some(&queue)), "ecron.dead.billing.reports");
        assert_eq!(progress_event(&queue), "ecron.event.progress.billing.reports");
        let run = "billing/nightly-report@2026-11-22T06:45:00Z".parse().unwrap();
        assert_eq!(log(&queue, &run), "ecron.log.billing.reports.895d3d87e4879a2c");
        assert_eq!(log_anywhere(&run), "ecron.log.*.*.895d3d87e4879a2c");
        assert_eq!(cancel(&queue), "ecron.cancel.billing.reports");
        assert_eq!(tally(&queue, 17), "ecron.tally.billing.reports.17");
        assert_eq!(edit(&queue), "ecron.edit.billing.reports");
        assert_eq!(api(&order_verb(&queue)), "ecron.api.v1.order.billing.reports");
        assert_eq!(api("apply"), "ecron.api.v1.apply");
        assert_eq!(nudge(ShardId(7)), "ecron.nudge.07");
        let job: JobId = "billing/nightly-report".parse().unwrap();
        assert_eq!(spec_key(ShardId(7), &job), "07.billing.nightly-report");
        assert_eq!(bucket_subject(BUCKET_SPECS, "07.a.b"), "$KV.ecron_specs.07.a.b");
    }

    #[test]
    fn names_are_read_back_and_others_are_not() {
        let queue: QueueId = "billing/reports".parse().unwrap();
        for kind in [QueueSubject::Run, QueueSubject::Submit, QueueSubject::Defer] {
            assert_eq!(parse_queue_subject(&kind.of(&queue)), Some((kind, queue.clone())));
        }
        for bad in ["ecron.run.a", "ecron.run.a.b.c", "ecron.run.A.b", "ecron.other.a.b", "", "ecron.run.."] {
            assert_eq!(parse_queue_subject(bad), None, "{bad}");
        }
        assert_eq!(queue_of_consumer("billing_reports"), Some(queue));
        assert_eq!(queue_of_consumer("ecron-settle"), None);
        let job: JobId = "billing/nightly-report".parse().unwrap();
        assert_eq!(parse_spec_key("1023.billing.nightly-report"), Some((ShardId(1023), job)));
        for bad in ["7.a.b", "007.a.b", "07.a", "07.a.b.c", "xx.a.b", "07.A.b"] {
            assert_eq!(parse_spec_key(bad), None, "{bad}");
        }
        for key in ["calendar.billing.de-holidays", "namespace.billing", "queue.billing.reports"] {
            assert_eq!(parse_object_key(key).map(|object| object_key(&object)).as_deref(), Some(key));
        }
        for bad in ["calendar.a", "calendar.a.b.c", "namespace.a.b", "job.a.b", "namespace", "calendar.A.b"] {
            assert_eq!(parse_object_key(bad), None, "{bad}");
        }
        assert_eq!(parse_nudge("ecron.nudge.07"), Some(ShardId(7)));
        assert_eq!(parse_api("ecron.api.v1.apply"), Some("apply"));
        assert_eq!(parse_order_verb("order.billing.reports"), Some("billing/reports".parse().unwrap()));
        for bad in ["order", "order.", "order.a", "order.a.b.c", "order.A.b", "apply"] {
            assert_eq!(parse_order_verb(bad), None, "{bad}");
        }
        assert_eq!(bucket_key(BUCKET_SPECS, "$KV.ecron_specs.07.a.b"), Some("07.a.b"));
    }
}
