//! Manifests as a whole: tables of what is refused and how, round trips, and hostile input.

mod calendars;
mod fields;
mod hostile;
mod lines;
mod queues;
mod round_trip;
mod store;

use serde_json::{Value, json};

use super::{Node, Object, Problem, decode, decode_job};
use crate::spec::JobSpec;
use crate::time::Timestamp;

fn now() -> Timestamp {
    "2026-11-22T06:45:00Z".parse().unwrap()
}

/// A job with the given `spec`; `schedule` is added unless it is there.
fn document(mut spec: Value) -> Value {
    if let Some(spec) = spec.as_object_mut() {
        spec.entry("schedule").or_insert_with(|| json!({"every": "15s"}));
    }
    json!({"apiVersion": "ecron/v1", "kind": "Job", "metadata": {"name": "a"}, "spec": spec})
}

fn decoded(document: Value) -> Result<JobSpec, Vec<Problem>> {
    decode_job(&Node::from_json(document), now())
}

fn job(spec: Value) -> JobSpec {
    decoded(document(spec)).unwrap()
}

/// `field: message` of each problem.
fn problems(document: Value) -> Vec<String> {
    decoded(document).unwrap_err().iter().map(ToString::to_string).collect()
}
