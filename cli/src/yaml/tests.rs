//! YAML as people write it, and as nobody should.

use model::manifest::decode;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn read(text: &str) -> Vec<Value> {
    let parsed = parse(text.as_bytes());
    assert_eq!(parsed.problems, [], "{text}");
    parsed.documents.iter().map(Node::to_json).collect()
}

/// `line: message` of each problem.
fn problems(text: &str) -> Vec<String> {
    parse(text.as_bytes()).problems.iter().map(ToString::to_string).collect()
}

#[test]
fn scalars_follow_the_core_schema() {
    for (text, value) in [
        ("on", json!("on")),
        ("yes", json!("yes")),
        ("No", json!("No")),
        ("y", json!("y")),
        ("true", json!(true)),
        ("False", json!(false)),
        ("~", json!(null)),
        ("null", json!(null)),
        ("'null'", json!("null")),
        ("\"5\"", json!("5")),
        ("5", json!(5)),
        ("-5", json!(-5)),
        ("+5", json!(5)),
        ("007", json!(7)),
        ("0o17", json!(15)),
        ("0x1F", json!(31)),
        ("18446744073709551615", json!(u64::MAX)),
        ("-9223372036854775808", json!(i64::MIN)),
        ("0.2", json!(0.2)),
        ("1e3", json!(1000.0)),
        (".5", json!(0.5)),
        ("5.", json!(5.0)),
        ("1.2.3", json!("1.2.3")),
        ("1_000", json!("1_000")),
        ("12:30", json!("12:30")),
        ("2026-12-25", json!("2026-12-25")),
        ("2026-11-22T06:45:00Z", json!("2026-11-22T06:45:00Z")),
        ("0 2 * * *", json!("0 2 * * *")),
        ("\"*/5 * * * *\"", json!("*/5 * * * *")),
        ("15s", json!("15s")),
        ("1e", json!("1e")),
        (".", json!(".")),
        ("+", json!("+")),
        ("0x", json!("0x")),
        ("inf", json!("inf")),
        ("nan", json!("nan")),
        ("!!str 5", json!("5")),
        ("!!int '5'", json!(5)),
        ("!!float 5", json!(5.0)),
        ("! 5", json!("5")),
        ("|\n  a\n  b\n", json!("a\nb\n")),
        (">-\n  a\n  b\n", json!("a b")),
    ] {
        assert_eq!(read(&format!("k: {text}\n")), [json!({"k": value})], "{text}");
    }
    assert!(matches!(parse(b".inf").documents[0].value, NodeValue::Float(f64::INFINITY)));
    assert!(matches!(parse(b"-.INF").documents[0].value, NodeValue::Float(f64::NEG_INFINITY)));
    assert!(matches!(parse(b".nan").documents[0].value, NodeValue::Float(float) if float.is_nan()));
}

#[test]
fn many_documents_keep_the_lines_of_the_file() {
    let text = "# first\n---\na: 1\n---\n# empty\n---\n\nb:\n  - x\n  - y: 2\n...\n---\nnull\n";
    let parsed = parse(text.as_bytes());
    assert_eq!(
        parsed.documents.iter().map(Node::to_json).collect::<Vec<_>>(),
        [json!({"a": 1}), json!({"b": ["x", {"y": 2}]})]
    );
    assert_eq!(parsed.documents[1].line_of("b"), Some(8));
    assert_eq!(parsed.documents[1].line_of("b[1].y"), Some(10));
    assert_eq!(read(""), [] as [Value; 0]);
    assert_eq!(read("# nothing\n"), [] as [Value; 0]);
    assert_eq!(read("\u{feff}a: 1\r\nb: 2\r\n"), [json!({"a": 1, "b": 2})]);
}

#[test]
fn json_is_yaml() {
    assert_eq!(
        read("{\n\t\"a\": [1, null, \"x\\u0041\\/\"],\n\t\"b\": {}\n}\n"),
        [json!({"a": [1, null, "xA/"], "b": {}})]
    );
    assert_eq!(parse(b"{\"a\": 1,\n \"b\": 2}").documents[0].line_of("b"), Some(2));
    assert_eq!(read("{\"a\": \"\\ud83d\\ude00\"}"), [json!({"a": "😀"})]);
}

#[test]
fn syntax_errors_have_a_line_and_spare_what_came_before() {
    let parsed = parse(b"a: 1\n---\nb: [1, 2\nc: 3\n");
    assert_eq!(parsed.documents.len(), 1);
    assert_eq!(parsed.problems.len(), 1);
    assert!(parsed.problems[0].line.is_some_and(|line| line >= 3), "{:?}", parsed.problems);
    for text in ["a: b: c\n", "a: 'x\n", "a: *nobody\n", "- a\nb: 1\n", "%YAML 9\n", "a: @x\n"] {
        let found = problems(text);
        assert_eq!(found.len(), 1, "{text:?} {found:?}");
        assert!(found[0].contains("is not YAML") && found[0].starts_with("line "), "{text:?} {found:?}");
    }
    assert_eq!(parse(b"a: 1\nb: \xff\n").problems[0].to_string(), "line 2: is not UTF-8 text");
}

#[test]
fn keys_must_be_text() {
    for (text, words) in [
        ("a: 1\n5: x\n", "line 2: has the key 5"),
        ("true: x\n", "has the key true"),
        ("~: x\n", "has the key null"),
        ("? [a]\n: x\n", "list or a map as a key"),
        ("{a: b}: x\n", "list or a map as a key"),
        ("base: &b {x: 1}\nc:\n  <<: *b\n", "line 3: has a merge key"),
        ("a: !mine x\n", "has the tag !mine"),
        ("a: !mine [x]\n", "has the tag !mine"),
        ("a: !!binary aGk=\n", "not supported"),
        ("a: !!int x\n", "says otherwise"),
        ("a: 18446744073709551616\n", "more than 64 bits"),
    ] {
        let found = problems(text);
        assert_eq!(found.len(), 1, "{text} {found:?}");
        assert!(found[0].contains(words), "{text} {found:?}");
    }
    assert_eq!(read("'5': x\n"), [json!({"5": "x"})]);
}

#[test]
fn duplicate_keys_reach_the_decoder() {
    let parsed = parse(b"kind: Job\nkind: Job\n");
    let found = decode(&parsed.documents[0], model::time::Timestamp::from_ms(0)).unwrap_err();
    assert!(
        found.iter().any(|problem| problem.to_string() == "line 2: kind: is given twice; first on line 1"),
        "{found:?}"
    );
}

#[test]
fn anchors_and_aliases_expand_within_a_document() {
    assert_eq!(
        read("a: &x {y: 1}\nb: *x\nc: [*x, *x]\n"),
        [json!({"a": {"y": 1}, "b": {"y": 1}, "c": [{"y": 1}, {"y": 1}]})]
    );
    assert_eq!(read("&k key: 1\nother: *k\n"), [json!({"key": 1, "other": "key"})]);
    assert_eq!(problems("a: &x [*x]\n").len(), 1);
    assert_eq!(problems("a: &x 1\n---\nb: *x\n").len(), 1);
}

#[test]
fn expansion_and_depth_are_bounded() {
    let mut laughs = String::from("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for n in 1..12 {
        let items = vec![format!("*a{}", n - 1); 9].join(", ");
        laughs.push_str(&format!("a{n}: &a{n} [{items}]\n"));
    }
    assert!(problems(&laughs)[0].contains("ALIAS_BYTES_MAX"));
    for deep in ["[".repeat(100_000), "- ".repeat(100_000), "{a: ".repeat(10_000)] {
        let found = problems(&deep);
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("MANIFEST_DEPTH_MAX") || found[0].contains("not YAML"), "{}", found[0]);
    }
    let mut ladder = format!("a0: &a0 {}x{}\n", "[".repeat(50), "]".repeat(50));
    for n in 1..50 {
        ladder.push_str(&format!("a{n}: &a{n} {}*a{}{}\n", "[".repeat(50), n - 1, "]".repeat(50)));
    }
    assert!(problems(&ladder)[0].contains("MANIFEST_DEPTH_MAX"));
    let many = "--- 1\n".repeat(MANIFEST_OBJECTS_MAX + 1);
    assert!(problems(&many)[0].contains("MANIFEST_OBJECTS_MAX"));
    let bad_keys = "1: x\n".repeat(1_000);
    assert_eq!(problems(&bad_keys).len(), PROBLEMS_MAX);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        let _ = parse(text.as_bytes());
    }

    #[test]
    fn any_text_of_yaml_letters_is_read_or_refused(text in "[-a: \n\\[\\]{}&*!|>'\"%@`#,?.~<0-9\t\r\\\\]{0,80}") {
        let parsed = parse(text.as_bytes());
        for document in &parsed.documents {
            let _ = decode(document, model::time::Timestamp::from_ms(0));
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes);
    }
}

#[test]
fn ten_mistakes_are_ten_problems_with_field_and_line() {
    let parsed = parse(include_bytes!("../../tests/data/ten-mistakes.yaml"));
    assert_eq!(parsed.problems, []);
    let now = "2026-11-22T06:45:00Z".parse().unwrap();
    let found: Vec<String> =
        decode(&parsed.documents[0], now).unwrap_err().iter().map(ToString::to_string).collect();
    let expected = [
        "line 2: apiVersion: must be ecron/v1, not \"ecron/v2\"",
        "line 5: metadata.name: \"Nightly Report\" is no name: it has 'N' at position 1",
        "line 7: metadata.labels.year: expected text, found the integer 2026; put it in quotes",
        "line 10: spec.schedule.cron: minute field \"61\"",
        "line 11: spec.schedule.timeZone: \"Europe/Berln\" is no time zone",
        "line 12: spec.qeue: unknown field; did you mean queue?",
        "line 13: spec.timeout: expected a duration with a unit",
        "line 15: spec.retry.attempts: is 500; it must be between 1 and 100 (ATTEMPTS_MAX)",
        "line 16: spec.overlap: must be allow, skip, queue-one, queue-all or replace, not \"forbid\"",
        "line 17: spec.suspend: expected true or false, found the text \"no\"",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\n{expected}");
    }
}
