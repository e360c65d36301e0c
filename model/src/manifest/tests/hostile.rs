//! Whatever is found in the store or sent to the API: problems, never a panic, and never many of them.

use proptest::prelude::*;

use super::round_trip::jobs;
use super::*;
use crate::manifest::{Entry, NodeValue, PROBLEMS_MAX, encode, from_bytes, to_bytes};
use crate::spec::Acceptance;

/// Trees that look like a manifest here and there.
fn trees() -> impl Strategy<Value = Node> {
    let leaf = prop_oneof![
        Just(NodeValue::Null),
        any::<bool>().prop_map(NodeValue::Bool),
        any::<i128>().prop_map(NodeValue::Int),
        any::<f64>().prop_map(NodeValue::Float),
        any::<String>().prop_map(NodeValue::String),
        prop_oneof![
            Just("ecron/v1"),
            Just("Job"),
            Just("Calendar"),
            Just("Namespace"),
            Just("a"),
            Just("1h"),
            Just("* * * * *"),
            Just("allow")
        ]
        .prop_map(|text| NodeValue::String(text.into())),
    ]
    .prop_map(|value| Node { line: None, value });
    let key = prop_oneof![
        8 => proptest::sample::select(vec![
            "apiVersion", "kind", "metadata", "spec", "name", "namespace", "labels", "schedule", "cron", "every", "at",
            "exec", "http", "command", "shell", "env", "url", "headers", "retry", "attempts", "max", "catchUp", "payload",
            "timeZone", "exclude", "count", "v", "manifest", "createdAt", "calendar", "calendars", "dialect", "minInterval",
        ]).prop_map(str::to_owned),
        1 => any::<String>(),
    ];
    leaf.prop_recursive(6, 64, 8, move |inner| {
        let entry = (key.clone(), any::<Option<usize>>(), inner.clone())
            .prop_map(|(key, line, value)| Entry { key, line, value });
        prop_oneof![
            proptest::collection::vec(inner, 0..6)
                .prop_map(|items| Node { line: Some(1), value: NodeValue::Seq(items) }),
            proptest::collection::vec(entry, 0..8)
                .prop_map(|entries| Node { line: None, value: NodeValue::Map(entries) }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_tree_is_a_job_or_problems(tree in trees()) {
        if let Err(problems) = decode(&tree, now()) {
            prop_assert!((1..=PROBLEMS_MAX + 1).contains(&problems.len()));
            for problem in problems {
                let _ = tree.line_of(&problem.field);
                prop_assert!(!problem.message.is_empty());
            }
        }
        let text = tree.to_json().to_string();
        let _ = from_bytes(text.as_bytes(), now());
    }

    #[test]
    fn any_bytes_are_a_job_or_problems(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(from_bytes(&bytes, now()).is_err());
    }

    #[test]
    fn a_damaged_stored_job_is_a_job_or_problems(job in jobs(), index: prop::sample::Index, byte: u8) {
        let mut stored = to_bytes(&job, &Acceptance::new(now()));
        let index = index.index(stored.len());
        stored[index] = byte;
        let _ = from_bytes(&stored, now());
    }

    #[test]
    fn a_part_replaced_by_something_else_is_told_in_bounded_words(job in jobs(), tree in trees(), place in 0usize..14) {
        let mut document = encode(&job);
        if let Some(spec) = document["spec"].as_object_mut() {
            let key = spec.keys().nth(place % spec.len()).cloned().unwrap_or_default();
            spec.insert(key, tree.to_json());
        }
        if let Err(problems) = decode(&Node::from_json(document), now()) {
            for problem in problems {
                prop_assert!(problem.to_string().len() < 2_000, "{problem}");
            }
        }
    }
}

#[test]
fn a_thousand_unknown_fields_are_counted() {
    let spec: serde_json::Map<_, _> = (0..1000).map(|n| (format!("field-{n}"), json!(1))).collect();
    let found = problems(document(Value::Object(spec)));
    assert_eq!(found.len(), PROBLEMS_MAX + 1);
    assert_eq!(found[PROBLEMS_MAX], "has 900 more problems");
}
