//! Lines and duplicates: what only a text has.

use super::*;
use crate::manifest::{Entry, NodeValue, job_id};

/// Gives every key and value of a tree the number of its place in the text that `text` makes.
fn numbered(node: Node, line: &mut usize) -> Node {
    let here = *line;
    let value = match node.value {
        NodeValue::Map(entries) => NodeValue::Map(
            entries
                .into_iter()
                .map(|entry| {
                    *line += 1;
                    Entry { key: entry.key, line: Some(*line), value: numbered(entry.value, line) }
                })
                .collect(),
        ),
        other => other,
    };
    Node { line: Some(here), value }
}

#[test]
fn ten_mistakes_are_ten_problems_with_field_and_line() {
    let text = br#"{
        "apiVersion": "ecron/v2",
        "kind": "Job",
        "metadata": {
            "name": "Nightly Report",
            "labels": {
                "year": 2026
            }
        },
        "spec": {
            "schedule": {
                "cron": "61 2 * * *",
                "timeZone": "Europe/Berln"
            },
            "qeue": "reports",
            "timeout": 600,
            "retry": {
                "attempts": 500
            },
            "overlap": "forbid",
            "suspend": "no",
            "payload": null
        }
    }"#;
    let node = numbered(Node::from_json_bytes(text).unwrap(), &mut 1);
    let found = decode(&node, now()).unwrap_err();
    let places: Vec<(Option<usize>, &str)> =
        found.iter().map(|problem| (problem.line, problem.field.as_str())).collect();
    assert_eq!(
        places,
        [
            (Some(2), "apiVersion"),
            (Some(5), "metadata.name"),
            (Some(7), "metadata.labels.year"),
            (Some(10), "spec.schedule.cron"),
            (Some(11), "spec.schedule.timeZone"),
            (Some(12), "spec.qeue"),
            (Some(13), "spec.timeout"),
            (Some(15), "spec.retry.attempts"),
            (Some(16), "spec.overlap"),
            (Some(17), "spec.suspend"),
        ],
        "{found:#?}"
    );
}

#[test]
fn a_key_given_twice_is_a_problem_wherever_it_is() {
    let text = br#"{"apiVersion": "ecron/v1", "kind": "Job", "metadata": {"name": "a", "labels": {"x": "1", "x": "2"}},
        "spec": {"schedule": {"every": "1m"}, "timeout": "1m", "timeout": "2m", "payload": {"p": [{"q": 1, "q": 1}]}}}"#;
    let node = Node::from_json_bytes(text).unwrap();
    let fields: Vec<String> =
        decode(&node, now()).unwrap_err().into_iter().map(|problem| problem.field).collect();
    assert_eq!(fields, ["metadata.labels.x", "spec.timeout", "spec.payload.p[0].q"]);
}

#[test]
fn the_name_of_a_job_is_found_in_a_broken_document() {
    let id = |value: Value| job_id(&Node::from_json(value)).map(|id| id.to_string());
    assert_eq!(id(json!({"metadata": {"name": "a"}, "spec": 5})).as_deref(), Some("default/a"));
    assert_eq!(id(json!({"metadata": {"name": "a", "namespace": "b"}})).as_deref(), Some("b/a"));
    assert_eq!(id(json!({"metadata": {"name": "a", "namespace": 1}})), None);
    assert_eq!(id(json!({"metadata": {"name": "A"}})), None);
    assert_eq!(id(json!([])), None);
}

#[test]
fn every_field_of_a_problem_has_a_line() {
    let node = numbered(Node::from_json(json!({"spec": {"a": {}, "b": 1}, "kind": "Job"})), &mut 1);
    for problem in decode(&node, now()).unwrap_err() {
        assert!(problem.line.is_some(), "{problem:?}");
        assert!(node.line_of(&problem.field).is_some());
    }
}
