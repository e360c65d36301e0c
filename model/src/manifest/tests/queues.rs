//! Queues: what they say, what is refused, and how a job names one.

use super::*;
use crate::manifest::foreign_queue;
use crate::spec::{QueueSpec, Senders};

fn queue(spec: Value) -> Result<QueueSpec, Vec<Problem>> {
    let document = json!({
        "apiVersion": "ecron/v1", "kind": "Queue", "metadata": {"name": "reports", "namespace": "billing"}, "spec": spec,
    });
    match decode(&Node::from_json(document), now())? {
        Object::Queue(queue) => Ok(queue),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_queue_says_its_limits() {
    let full = queue(json!({
        "concurrency": 8, "rate": "100/1m burst 10", "keyRate": "5/s", "paused": true,
        "shares": {"billing": 3, "ops": 1}, "from": ["ops", "web"],
    }))
    .unwrap();
    assert_eq!(full.id.to_string(), "billing/reports");
    assert_eq!((full.rules.concurrency, full.rules.paused, full.rules.shares.len()), (Some(8), true, 2));
    assert_eq!(full.rules.rate.map(|rate| rate.to_string()).as_deref(), Some("100/1m burst 10"));
    assert_eq!(full.rules.key_rate.map(|rate| rate.to_string()).as_deref(), Some("5/1s"));
    let takes = |queue: &QueueSpec, name: &str| queue.accepts(&name.parse().unwrap());
    assert!(takes(&full, "ops") && takes(&full, "billing") && !takes(&full, "other"));
    let open = queue(json!({"from": ["*"]})).unwrap();
    assert!(takes(&open, "other") && open.from == Senders::Any && !open.rules.is_gated());
    let bare = queue(json!({})).unwrap();
    assert!(takes(&bare, "billing") && !takes(&bare, "ops") && !bare.rules.is_gated());
}

#[test]
fn what_is_wrong_with_a_queue_is_said_with_its_field() {
    for (spec, field, words) in [
        (json!({"concurrency": 0}), "spec.concurrency", "between 1 and 100000 (QUEUE_CONCURRENCY_MAX)"),
        (json!({"rate": "fast"}), "spec.rate", "10/s"),
        (json!({"keyRate": 5}), "spec.keyRate", "a number of starts and a period"),
        (json!({"paused": "yes"}), "spec.paused", "true or false"),
        (json!({"shares": {"billing": 0}}), "spec.shares.billing", "QUEUE_SHARE_MAX"),
        (json!({"shares": {"Billing": 1}}), "spec.shares.Billing", "is no name"),
        (json!({"from": "ops"}), "spec.from", "expected a list"),
        (json!({"from": ["ops", "*"]}), "spec.from", "every namespace"),
        (json!({"from": ["a b"]}), "spec.from[0]", "is no name"),
        (json!({"limit": 3}), "spec.limit", "unknown field"),
    ] {
        let found = queue(spec.clone()).unwrap_err();
        assert_eq!(found.len(), 1, "{spec}: {found:#?}");
        assert!(found[0].field == field && found[0].message.contains(words), "{spec}: {found:#?}");
    }
}

#[test]
fn a_job_names_its_own_queue_or_anothers() {
    for (named, full, foreign) in [
        ("reports", "default/reports", false),
        ("default/reports", "default/reports", false),
        ("billing/reports", "billing/reports", true),
    ] {
        let document = document(json!({"queue": named}));
        assert_eq!(decoded(document.clone()).unwrap().queue.to_string(), full);
        assert_eq!(foreign_queue(&Node::from_json(document)).is_some(), foreign, "{named}");
    }
    for bad in ["a/b/c", "a/", "/b", "A/b"] {
        assert_eq!(problems(document(json!({"queue": bad}))).len(), 1, "{bad}");
    }
}
