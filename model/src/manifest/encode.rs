//! From an object back to its manifest. Every field is written, defaults too: what is stored must not change its
//! meaning when a later version has other defaults.

use serde_json::{Map, Value, json};

use super::policy::CATCH_UP_POLICIES;
use super::scalar::duration_text;
use super::{API_VERSION, Object};
use crate::misfire::CatchUpPolicy;
use crate::name::Name;
use crate::spec::{CalendarSpec, JobSpec, NamespaceSpec, QueueSpec, Senders, Work};

/// The manifest of a job: `decode` gives the same job back.
///
/// `Work::Bytes` and `delete_when_done` belong to deferred ad-hoc work and have no place in a manifest: the stored
/// form keeps them beside it.
#[must_use]
pub fn encode(job: &JobSpec) -> Value {
    let mut metadata = Map::new();
    metadata.insert("name".into(), job.id.name.as_str().into());
    metadata.insert("namespace".into(), job.id.namespace.as_str().into());
    if !job.labels.is_empty() {
        metadata.insert("labels".into(), json!(job.labels));
    }
    json!({"apiVersion": API_VERSION, "kind": "Job", "metadata": metadata, "spec": spec(job)})
}

/// The manifest of any object: `decode` gives the same object back.
#[must_use]
pub fn encode_object(object: &Object) -> Value {
    match object {
        Object::Job(job) => encode(job),
        Object::Calendar(CalendarSpec { id, calendar }) => json!({
            "apiVersion": API_VERSION, "kind": "Calendar",
            "metadata": {"name": id.name.as_str(), "namespace": id.namespace.as_str()}, "spec": calendar,
        }),
        Object::Namespace(NamespaceSpec { name, min_interval, paused }) => {
            let mut spec = Map::new();
            if let Some(least) = min_interval {
                spec.insert("minInterval".into(), duration_text(*least).into());
            }
            spec.insert("paused".into(), (*paused).into());
            let metadata = json!({"name": name.as_str()});
            json!({"apiVersion": API_VERSION, "kind": "Namespace", "metadata": metadata, "spec": spec})
        }
        Object::Queue(queue) => json!({
            "apiVersion": API_VERSION, "kind": "Queue",
            "metadata": {"name": queue.id.name.as_str(), "namespace": queue.id.namespace.as_str()},
            "spec": queue_spec(queue),
        }),
    }
}

fn queue_spec(queue: &QueueSpec) -> Value {
    let rules = &queue.rules;
    let mut spec = Map::new();
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            spec.insert(key.into(), value);
        }
    };
    put("concurrency", rules.concurrency.map(Value::from));
    put("rate", rules.rate.map(|rate| rate.to_string().into()));
    put("keyRate", rules.key_rate.map(|rate| rate.to_string().into()));
    put("paused", Some(rules.paused.into()));
    let shares = || rules.shares.iter().map(|(name, share)| (name.to_string(), (*share).into()));
    put("shares", (!rules.shares.is_empty()).then(|| Value::Object(shares().collect())));
    put(
        "from",
        match &queue.from {
            Senders::Any => Some(json!(["*"])),
            Senders::Named(names) if names.is_empty() => None,
            Senders::Named(names) => Some(names.iter().map(Name::as_str).collect()),
        },
    );
    Value::Object(spec)
}

/// As a job's manifest names its queue: without the namespace, if it is the job's own.
fn queue_name(job: &JobSpec) -> Value {
    if job.queue.namespace == job.id.namespace {
        return job.queue.name.as_str().into();
    }
    job.queue.to_string().into()
}

fn spec(job: &JobSpec) -> Value {
    let mut spec = Map::new();
    let mut put = |key: &str, value: Value| {
        spec.insert(key.into(), value);
    };
    put("schedule", json!(job.schedule));
    put("queue", queue_name(job));
    match &job.work {
        Work::Payload(payload) if payload.is_null() => {}
        Work::Payload(payload) => put("payload", payload.clone()),
        Work::Exec(exec) => put("exec", json!(exec)),
        Work::Http(http) => put("http", json!(http)),
        Work::Bytes(_) => {}
    }
    if !job.headers.is_empty() {
        put("headers", json!(job.headers));
    }
    put("overlap", job.overlap.as_str().into());
    if let Some(most) = job.max_active {
        put("maxActive", most.into());
    }
    put("catchUp", {
        let catch_up = &job.catch_up;
        let mut value = json!({
            "policy": policy_word(catch_up.policy), "window": duration_text(catch_up.window), "max": catch_up.max,
        });
        if let (Some(rate), Some(fields)) = (catch_up.rate, value.as_object_mut()) {
            fields.insert("rate".into(), rate.to_string().into());
        }
        value
    });
    if let Some(deadline) = job.starting_deadline {
        put("startingDeadline", duration_text(deadline).into());
    }
    put("timeout", duration_text(job.timeout).into());
    if let Some(deadline) = job.deadline {
        put("deadline", duration_text(deadline).into());
    }
    put("retry", {
        let retry = &job.retry;
        json!({
            "attempts": retry.attempts,
            "initial": duration_text(retry.initial),
            "factor": retry.factor,
            "max": duration_text(retry.max),
            "jitter": retry.jitter,
        })
    });
    put("priority", job.priority.as_str().into());
    if let Some(key) = &job.rate_key {
        put("rateKey", key.as_str().into());
    }
    put("suspend", job.suspend.into());
    put("history", {
        let history = &job.history;
        json!({"succeeded": history.succeeded, "failed": history.failed, "skipped": history.skipped})
    });
    Value::Object(spec)
}

/// The word of a catch-up policy.
#[must_use]
pub fn policy_word(policy: CatchUpPolicy) -> &'static str {
    // The table has every policy: a test encodes and decodes each.
    CATCH_UP_POLICIES.iter().find(|(_, known)| *known == policy).map_or("none", |(word, _)| *word)
}
