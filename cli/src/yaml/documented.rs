//! `docs/manifest.md` against the code: every YAML block is read, every default and limit is the one that holds.

use std::collections::BTreeMap;
use std::time::Duration;

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

/// How a limit's value is written on the page.
trait Shown {
    fn shown(&self) -> String;
}

macro_rules! shown_as_numbers {
    ($($number:ty),*) => {
        $(impl Shown for $number {
            fn shown(&self) -> String {
                self.to_string()
            }
        })*
    };
}

shown_as_numbers!(u16, u32, u64, usize, i64);

impl Shown for Duration {
    fn shown(&self) -> String {
        duration_text(*self)
    }
}

macro_rules! values {
    ($($name:ident)*) => {
        [$((stringify!($name), limits::$name.shown())),*]
    };
}

/// Name and first sentence of every limit, out of their source.
fn sentences() -> BTreeMap<String, String> {
    let (mut found, mut comment) = (BTreeMap::new(), String::new());
    for line in include_str!("../../../model/src/limits.rs").lines() {
        if let Some(text) = line.strip_prefix("/// ") {
            comment.push_str(text);
            comment.push(' ');
        } else if let Some((name, _)) = line.strip_prefix("pub const ").and_then(|rest| rest.split_once(':'))
        {
            let sentence = comment.split(". ").next().unwrap_or_default().trim_end_matches(['.', ' ']);
            found.insert(name.to_owned(), sentence.to_owned());
            comment.clear();
        }
    }
    found
}

#[test]
fn the_limits_are_as_documented() {
    let values: BTreeMap<&str, String> = values! {
        ACTIVE_MAX ATTEMPTS_KEPT_MAX ATTEMPTS_MAX BACKFILL_ACTIVE_MAX BACKFILL_KEPT
        BACKFILL_RUNS_MAX BY_CHARS_MAX CALENDARS_BYTES_MAX CATCH_UP_RUNS_MAX CATCH_UP_WINDOW_MAX
        CHANGES_MAX CODE_RANGES_MAX DEFER_MAX EDITS_KNOWN_FOR EDIT_IN_FORCE_AFTER ERROR_BYTES_MAX
        FORECAST_MINUTES_MAX FORECAST_OCCURRENCES_MAX GATE_SCAN_MAX HEADERS_MAX HEADER_BYTES_MAX
        HISTORY_RUNS_MAX INTERRUPTIONS_MAX KEY_CHARS_MAX LABELS_MAX LABEL_CHARS_MAX LOGS_BYTES_MAX
        LOG_BYTES_MAX LOG_LINE_BYTES_MAX LOST_ATTEMPTS_MAX MANIFEST_BYTES_MAX MANIFEST_DEPTH_MAX
        MANIFEST_OBJECTS_MAX MIN_INTERVAL_MAX NAME_CHARS_MAX OUTPUT_BYTES_MAX OVERLAP_WAITING_MAX
        OWNERS_MAX PAYLOAD_BYTES_MAX PROGRESS_BYTES_MAX QUEUE_CONCURRENCY_MAX QUEUE_NAMESPACES_MAX
        QUEUE_SHARE_MAX RATE_LIMITED_MAX RATE_PERIOD_MAX RATE_STARTS_MAX RETRY_DELAY_MAX
        SCHEDULE_KEPT_BYTES_MAX SHARDS_MAX SUPERSEDED_BYTES_MAX SUPERSEDED_MAX TIMEOUT_MAX
        TRIGGER_KEY_KEPT UNIQUE_PERIOD_MAX
    }
    .into();
    let sentences = sentences();
    assert!(
        sentences.keys().map(String::as_str).eq(values.keys().copied()),
        "every limit has its value here"
    );
    let rows = values.iter().map(|(name, value)| format!("| {name} | {value} | {} |\n", sentences[*name]));
    let table: String = rows.collect();
    assert!(PAGE.contains(&format!("|---|---|---|\n{table}\n")), "the table should be\n{table}");
    for (name, value) in [
        ("CANCEL_GRACE", dispatcher::cancel::CANCEL_GRACE),
        ("INTERRUPTION_MIN", model::misfire::INTERRUPTION_MIN),
    ] {
        assert!(PAGE.contains(&format!("({name}, {})", value.shown())), "{name} = {}", value.shown());
    }
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
