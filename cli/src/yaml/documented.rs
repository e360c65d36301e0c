//! `docs/manifest.md` against the code: every YAML block is read, every default and limit is the one that holds.

use model::limits;
use model::manifest::{Calendars, Node, decode, decode_job, decode_with, duration_text, encode};
use model::time::Timestamp;
use serde_json::{Value, json};

use super::parse;

const PAGE: &str = include_str!("../../../docs/manifest.md");

/// The YAML blocks of the page.
fn blocks() -> Vec<&'static str> {
    PAGE.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

/// A whole manifest, or the `spec` of one.
fn document(block: &str) -> Node {
    let parsed = parse(block.as_bytes());
    assert_eq!(parsed.problems, [], "{block}");
    assert_eq!(parsed.documents.len(), 1, "{block}");
    let read = parsed.documents[0].clone();
    if read.get("apiVersion").is_some() {
        return read;
    }
    let spec = read.to_json();
    Node::from_json(json!({"apiVersion": "ecron/v1", "kind": "Job", "metadata": {"name": "x"}, "spec": spec}))
}

fn now() -> Timestamp {
    "2026-11-22T06:45:00Z".parse().unwrap()
}

#[test]
fn every_block_is_a_valid_manifest() {
    assert!(blocks().len() >= 8);
    for block in blocks() {
        // Each block stands for a file beside others that declare the calendars.
        let calendars = Calendars::default().assuming_others();
        if let Err(problems) = decode_with(&document(block), now(), &calendars) {
            panic!("{problems:#?}\n{block}");
        }
    }
}

#[test]
fn the_defaults_are_as_documented() {
    let block = blocks().into_iter().find(|block| block.starts_with("# every default")).unwrap();
    let documented = document(block).to_json();
    let smallest: Value = json!({
        "apiVersion": "ecron/v1", "kind": "Job", "metadata": {"name": "small"},
        "spec": {"schedule": {"every": "15s"}},
    });
    let job = decode_job(&Node::from_json(smallest), now()).unwrap();
    assert_eq!(documented, encode(&job));
}

#[test]
fn the_limits_are_as_documented() {
    let limits = [
        ("ATTEMPTS_MAX", limits::ATTEMPTS_MAX.to_string()),
        ("CALENDARS_BYTES_MAX", limits::CALENDARS_BYTES_MAX.to_string()),
        ("CATCH_UP_RUNS_MAX", limits::CATCH_UP_RUNS_MAX.to_string()),
        ("CATCH_UP_WINDOW_MAX", duration_text(limits::CATCH_UP_WINDOW_MAX)),
        ("CODE_RANGES_MAX", limits::CODE_RANGES_MAX.to_string()),
        ("HEADERS_MAX", limits::HEADERS_MAX.to_string()),
        ("HEADER_BYTES_MAX", limits::HEADER_BYTES_MAX.to_string()),
        ("HISTORY_RUNS_MAX", limits::HISTORY_RUNS_MAX.to_string()),
        ("LABELS_MAX", limits::LABELS_MAX.to_string()),
        ("LABEL_CHARS_MAX", limits::LABEL_CHARS_MAX.to_string()),
        ("LOST_ATTEMPTS_MAX", limits::LOST_ATTEMPTS_MAX.to_string()),
        ("MANIFEST_BYTES_MAX", limits::MANIFEST_BYTES_MAX.to_string()),
        ("MANIFEST_DEPTH_MAX", limits::MANIFEST_DEPTH_MAX.to_string()),
        ("MANIFEST_OBJECTS_MAX", limits::MANIFEST_OBJECTS_MAX.to_string()),
        ("MIN_INTERVAL_MAX", duration_text(limits::MIN_INTERVAL_MAX)),
        ("NAME_CHARS_MAX", limits::NAME_CHARS_MAX.to_string()),
        ("PAYLOAD_BYTES_MAX", limits::PAYLOAD_BYTES_MAX.to_string()),
        ("RATE_LIMITED_MAX", limits::RATE_LIMITED_MAX.to_string()),
        ("QUEUE_CONCURRENCY_MAX", limits::QUEUE_CONCURRENCY_MAX.to_string()),
        ("QUEUE_NAMESPACES_MAX", limits::QUEUE_NAMESPACES_MAX.to_string()),
        ("QUEUE_SHARE_MAX", limits::QUEUE_SHARE_MAX.to_string()),
        ("RETRY_DELAY_MAX", duration_text(limits::RETRY_DELAY_MAX)),
        ("TIMEOUT_MAX", duration_text(limits::TIMEOUT_MAX)),
    ];
    for (name, value) in &limits {
        assert!(PAGE.contains(&format!("| {name} | {value} |\n")), "{name} = {value}");
    }
    let table = PAGE.split("## Limits\n").nth(1).and_then(|rest| rest.split("\n\nMANIFEST").next()).unwrap();
    assert_eq!(table.lines().filter(|line| line.starts_with("| ")).count(), limits.len() + 1, "{table}");
}

#[test]
fn every_field_is_documented() {
    // What the decoder says it knows, out of its own mouth.
    let known = |spec: Value| -> String {
        let document =
            json!({"apiVersion": "ecron/v1", "kind": "Job", "metadata": {"name": "x"}, "spec": spec});
        decode(&Node::from_json(document), now())
            .unwrap_err()
            .into_iter()
            .map(|problem| problem.message)
            .collect()
    };
    for (spec, parent) in [
        (json!(1), "spec"),
        (json!({"schedule": 1}), "schedule"),
        (json!({"schedule": {"every": "1m"}, "exec": 1}), "exec"),
        (json!({"schedule": {"every": "1m"}, "http": 1}), "http"),
        (json!({"schedule": {"every": "1m"}, "retry": 1}), "retry"),
        (json!({"schedule": {"every": "1m"}, "catchUp": 1}), "catchUp"),
        (json!({"schedule": {"every": "1m"}, "history": 1}), "history"),
    ] {
        let message = known(spec);
        let fields =
            message.strip_prefix("expected a map with ").and_then(|rest| rest.split(", found").next());
        for field in fields.unwrap().split([',', ' ']).filter(|word| !word.is_empty() && *word != "or") {
            let names = [
                format!("`{field}`"),
                format!("`{parent}.{field}`"),
                format!("`.{field}`"),
                format!("`{field}:"),
                format!("`spec.{field}`"),
                format!("`{field}."),
            ];
            assert!(names.iter().any(|name| PAGE.contains(name.as_str())), "{parent}.{field}");
        }
    }
}
