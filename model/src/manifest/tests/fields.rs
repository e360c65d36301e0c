//! Each field: what it takes, its default, and what is said of anything else.

use std::time::Duration;

use super::*;
use crate::limits::PAYLOAD_BYTES_MAX;
use crate::misfire::{CatchUp, CatchUpPolicy};
use crate::retry::RetryPolicy;
use crate::schedule::{Dialect, Fold, Gap};
use crate::spec::{HistoryLimits, TIMEOUT_DEFAULT, Work};

/// Asserts that a spec has exactly one problem: this field, and these words in the message.
#[track_caller]
fn refused(spec: Value, field: &str, words: &str) {
    one_problem(document(spec), field, words);
}

#[track_caller]
fn one_problem(document: Value, field: &str, words: &str) {
    let shown = document.to_string().chars().take(300).collect::<String>();
    let found = decoded(document).expect_err(&shown);
    assert_eq!(found.len(), 1, "{shown}\n{found:#?}");
    assert_eq!(found[0].field, field, "{found:?}");
    assert!(found[0].message.contains(words), "{shown}\n{found:#?}");
}

#[test]
fn a_small_manifest_gets_every_default() {
    let job = job(json!({}));
    assert_eq!(job.id.to_string(), "default/a");
    assert_eq!(job.queue.to_string(), "default/default");
    assert_eq!(job.work, Work::Payload(Value::Null));
    assert_eq!(job.timeout, TIMEOUT_DEFAULT);
    assert_eq!(job.retry, RetryPolicy::default());
    assert_eq!(job.catch_up, CatchUp::default());
    assert_eq!(job.history, HistoryLimits::default());
    assert_eq!((job.starting_deadline, job.suspend, job.delete_when_done), (None, false, false));
    assert!(job.labels.is_empty() && job.headers.is_empty());
}

#[test]
fn the_example_of_the_design_is_read() {
    let manifest = json!({
        "apiVersion": "ecron/v1", "kind": "Job",
        "metadata": {"name": "nightly-report", "namespace": "billing", "labels": {"team": "finance"}},
        "spec": {
            "schedule": {"cron": "30 2 * * 1-5", "timeZone": "Europe/Berlin"},
            "queue": "reports", "payload": {"region": "eu"}, "overlap": "allow",
            "catchUp": {"policy": "latest", "window": "24h", "max": 100},
            "startingDeadline": "5m", "timeout": "10m",
            "retry": {"attempts": 3, "initial": "10s", "factor": 2, "max": "10m", "jitter": 0.2},
            "priority": "normal", "suspend": false, "history": {"succeeded": 3, "failed": 10},
        },
    });
    let job = decoded(manifest).unwrap();
    assert_eq!(job.queue.to_string(), "billing/reports");
    assert_eq!(job.labels["team"], "finance");
    assert_eq!(job.schedule.cron, ["30 2 * * 1-5"]);
    assert_eq!(job.starting_deadline, Some(Duration::from_secs(300)));
    assert_eq!(job.catch_up, CatchUp::default());
    assert_eq!(job.work, Work::Payload(json!({"region": "eu"})));
}

#[test]
fn the_document_itself() {
    let with = |change: &dyn Fn(&mut Value)| {
        let mut document = document(json!({}));
        change(&mut document);
        document
    };
    type Change<'a> = &'a dyn Fn(&mut Value);
    let cases: &[(Change<'_>, &str, &str)] = &[
        (&|d| *d = json!([]), "", "expected a map with apiVersion, kind, metadata or spec, found a list"),
        (&|d| *d = Value::Null, "", "found nothing"),
        (&|d| d["apiVersion"] = json!("batch/v1"), "apiVersion", "must be ecron/v1, not \"batch/v1\""),
        (&|d| d["apiVersion"] = json!(1), "apiVersion", "expected text, found the integer 1"),
        (
            &|d| d["kind"] = json!("CronJob"),
            "kind",
            "must be Job, Calendar, Namespace, Queue or Backfill, not \"CronJob\"",
        ),
        (&|d| d["kind"] = json!("job"), "kind", "did you mean Job?"),
        (&|d| d["status"] = json!({}), "status", "unknown field"),
        (&|d| d["spec"] = json!("x"), "spec", "expected a map"),
        (&|d| d["metadata"] = json!({}), "metadata.name", "must be given"),
        (&|d| d["metadata"]["name"] = json!(7), "metadata.name", "put it in quotes"),
        (&|d| d["metadata"]["name"] = json!("a.b"), "metadata.name", "'.' at position 2"),
        (&|d| d["metadata"]["name"] = json!("*"), "metadata.name", "only a-z"),
        (&|d| d["metadata"]["name"] = json!(">"), "metadata.name", "only a-z"),
        (&|d| d["metadata"]["name"] = json!("a b"), "metadata.name", "only a-z"),
        (&|d| d["metadata"]["name"] = json!("a".repeat(64)), "metadata.name", "the limit is 63"),
        (&|d| d["metadata"]["namespace"] = json!("-x"), "metadata.namespace", "begin and end"),
        (&|d| d["metadata"]["nmae"] = json!("x"), "metadata.nmae", "did you mean name?"),
        (&|d| d["metadata"]["labels"] = json!(["x"]), "metadata.labels", "expected a map, found a list"),
        (&|d| d["metadata"]["labels"] = json!({"a": 1}), "metadata.labels.a", "put it in quotes"),
        (&|d| d["metadata"]["labels"] = json!({"a b": "x"}), "metadata.labels[\"a b\"]", "without spaces"),
        (&|d| d["metadata"]["labels"] = json!({"a": "x\ny"}), "metadata.labels.a", "control"),
        (
            &|d| d["metadata"]["labels"] = json!({"a": "x".repeat(129)}),
            "metadata.labels.a",
            "LABEL_CHARS_MAX",
        ),
    ];
    for (change, field, words) in cases {
        one_problem(with(change), field, words);
    }
    let labels: serde_json::Map<_, _> = (0..65).map(|n| (n.to_string(), json!("x"))).collect();
    one_problem(
        with(&|d| d["metadata"]["labels"] = Value::Object(labels.clone())),
        "metadata.labels",
        "LABELS_MAX",
    );
    assert_eq!(problems(json!({})).len(), 4);
}

#[test]
fn schedules() {
    for (schedule, field, words) in [
        (json!({}), "", "names no instant"),
        (json!("0 2 * * *"), "", "goes into schedule.cron"),
        (json!({"cron": 5}), ".cron", "expected text"),
        (json!({"cron": []}), ".cron", "empty list"),
        (json!({"cron": "61 * * * *"}), ".cron", "minute"),
        (json!({"cron": ["* * * * *", "* * *"]}), ".cron[1]", "5"),
        (json!({"cron": "0 0 30 2 *"}), ".cron", "never occurs"),
        (json!({"cron": "* * * * *", "timeZone": "Europe/Berln"}), ".timeZone", "time zone"),
        (json!({"cron": "* * * * *", "timezone": "UTC"}), ".timezone", "did you mean timeZone?"),
        (json!({"cron": "* * * * *", "dialect": "vixie"}), ".dialect", "dialect"),
        (json!({"cron": "0 0 0 ? * 2", "dialect": "vixie"}), ".dialect", "dialect"),
        (json!({"cron": "0 2 * * *", "gap": "jump"}), ".gap", "skip"),
        (json!({"cron": "0 2 * * *", "fold": 1}), ".fold", "expected text"),
        (json!({"every": 15}), ".every", "15s"),
        (json!({"every": "15"}), ".every", "unit"),
        (json!({"every": "1ms"}), ".every", "100ms"),
        (json!({"at": "tomorrow"}), ".at", "RFC 3339"),
        (json!({"at": ["2027-01-01T00:00:00Z", "2027-13-01T00:00:00Z"]}), ".at[1]", "RFC 3339"),
        (json!({"at": "2026-11-22T06:45:00Z"}), ".at", "never occurs after 2026-11-22T06:45:00Z"),
        (json!({"every": "1m", "end": "2026-11-22T06:45:00Z"}), "", "never occurs after"),
        (
            json!({"every": "1m", "start": "2027-01-02T00:00:00Z", "end": "2027-01-01T00:00:00Z"}),
            ".end",
            "before",
        ),
        (json!({"every": "1m", "count": 0}), ".count", "between 1 and 100000"),
        (json!({"every": "1m", "exclude": ["xmas"]}), ".exclude[0]", "2026-12-25"),
        (
            json!({"every": "1m", "exclude": ["2026-12-25", {"calendar": "x"}]}),
            ".exclude[1]",
            "calendar \"x\" is unknown",
        ),
        (json!({"every": "1m", "jitter": 5}), ".jitter", "5s"),
        (json!([]), "", "must not be an empty list"),
        (json!(["0 2 * * *"]), "[0]", "schedule.cron"),
        (json!([{"every": "1m"}, {"cron": "61 * * * *"}]), "[1].cron", "minute field \"61\""),
        (json!([{"every": "1m"}, {"cron": "0 0 31 2 *"}]), "[1].cron", "it never occurs"),
        (
            json!([{"every": "1m"}, {"every": "1m", "exclude": [{"calendar": "x"}]}]),
            "[1].exclude[0]",
            "unknown",
        ),
        (json!([{"every": "1m"}, {"after": "1m"}]), "[1].after", "can't stand beside other schedules"),
        (json!([{"at": "2020-01-01T00:00:00Z"}, {"at": "2021-01-01T00:00:00Z"}]), "", "never occurs after"),
        (json!(vec![json!({"every": "1m"}); 21]), "", "21 schedules: expected at most 20"),
    ] {
        refused(json!({"schedule": schedule}), &format!("spec.schedule{field}"), words);
    }
    one_problem(document(json!({"schedule": null})), "spec.schedule", "must be given");
    let full = job(json!({"schedule": {
        "cron": ["0 2 * * *", "0 3 * * *"], "at": "2027-01-01T00:00:00Z", "dialect": "unix",
        "timeZone": "Europe/Berlin", "gap": "skip", "fold": "both", "start": "2026-12-01T00:00:00+01:00",
        "end": "2030-01-01T00:00:00Z", "count": 9, "exclude": ["2026-12-25", {"cron": "* * 1 1 *"}],
        "jitter": "10s", "spread": "1m",
    }}));
    assert_eq!(full.schedule.dialect, Some(Dialect::Unix));
    assert_eq!((full.schedule.gap, full.schedule.fold), (Some(Gap::Skip), Some(Fold::Both)));
    assert_eq!((full.schedule.cron.len(), full.schedule.exclude.len(), full.schedule.count), (2, 2, Some(9)));
}

#[test]
fn mistakes_of_one_schedule_are_told_together() {
    let schedule = json!({"cron": ["99 * * * *", "x"], "timeZone": "Mars/Base", "at": "soon", "gap": "hop"});
    let found = problems(document(json!({"schedule": schedule})));
    assert_eq!(found.len(), 5, "{found:#?}");
}

#[test]
fn policies_and_limits_of_runs() {
    for word in ["allow", "skip", "queue-one", "queue-all", "replace"] {
        assert_eq!(job(json!({"overlap": word})).overlap.as_str(), word);
    }
    let full = job(json!({
        "maxActive": 3, "deadline": "1h", "rateKey": "customer-7", "priority": "high",
        "catchUp": {"policy": "all", "rate": "10/m"},
    }));
    assert_eq!((full.max_active, full.deadline), (Some(3), Some(Duration::from_secs(3_600))));
    assert_eq!((full.priority.as_str(), full.rate_key.as_deref()), ("high", Some("customer-7")));
    assert_eq!(full.catch_up.rate.map(|rate| rate.to_string()).as_deref(), Some("10/1m"));
    refused(json!({"maxActive": 0}), "spec.maxActive", "ACTIVE_MAX");
    refused(json!({"deadline": "0s"}), "spec.deadline", "TIMEOUT_MAX");
    refused(json!({"rateKey": "a b"}), "spec.rateKey", "KEY_CHARS_MAX");
    refused(json!({"catchUp": {"rate": "fast"}}), "spec.catchUp.rate", "10/s");
    refused(json!({"catchUp": {"rate": 10}}), "spec.catchUp.rate", "10/1m, found the integer 10");
    refused(json!({"overlap": "alow"}), "spec.overlap", "did you mean allow?");
    refused(json!({"priority": "hi"}), "spec.priority", "must be high, normal or low");
    refused(json!({"priority": 1}), "spec.priority", "expected text");
    job(json!({"overlap": "allow", "priority": "normal"}));
}

#[test]
fn rules_have_ranges() {
    for (spec, field, words) in [
        (json!({"timeout": 600}), "timeout", "600s for seconds"),
        (json!({"timeout": "600"}), "timeout", "unit"),
        (json!({"timeout": "8d"}), "timeout", "is 8d; it must be between 1ms and 7d (TIMEOUT_MAX)"),
        (json!({"timeout": "0s"}), "timeout", "between"),
        (json!({"timeout": "1us"}), "timeout", "millisecond"),
        (json!({"timeout": ["1s"]}), "timeout", "found a list"),
        (json!({"startingDeadline": "0s"}), "startingDeadline", "between"),
        (json!({"startingDeadline": "soon"}), "startingDeadline", "expected"),
        (json!({"retry": 3}), "retry", "expected a map with attempts"),
        (
            json!({"retry": {"attempts": 0}}),
            "retry.attempts",
            "is 0; it must be between 1 and 100 (ATTEMPTS_MAX)",
        ),
        (json!({"retry": {"attempts": 101}}), "retry.attempts", "ATTEMPTS_MAX"),
        (json!({"retry": {"attempts": -1}}), "retry.attempts", "is -1"),
        (json!({"retry": {"attempts": "3"}}), "retry.attempts", "expected an integer, found the text \"3\""),
        (json!({"retry": {"attempts": 1.5}}), "retry.attempts", "expected an integer"),
        (json!({"retry": {"initial": 10}}), "retry.initial", "10s"),
        (json!({"retry": {"max": "25h"}}), "retry.max", "RETRY_DELAY_MAX"),
        (json!({"retry": {"initial": "2m", "max": "1m"}}), "retry.max", "shorter than initial"),
        (json!({"retry": {"factor": 0.5}}), "retry.factor", "between 1 and 100"),
        (json!({"retry": {"jitter": 1.5}}), "retry.jitter", "between 0 and 1"),
        (json!({"retry": {"jitter": "20%"}}), "retry.jitter", "expected a number"),
        (json!({"retry": {"atempts": 3}}), "retry.atempts", "did you mean attempts?"),
        (json!({"catchUp": "all"}), "catchUp", "expected a map"),
        (json!({"catchUp": {"policy": "newest"}}), "catchUp.policy", "must be none, latest or all"),
        (json!({"catchUp": {"window": "367d"}}), "catchUp.window", "CATCH_UP_WINDOW_MAX"),
        (json!({"catchUp": {"max": 0}}), "catchUp.max", "CATCH_UP_RUNS_MAX"),
        (json!({"history": {"failed": 1001}}), "history.failed", "HISTORY_RUNS_MAX"),
        (json!({"suspend": "no"}), "suspend", "expected true or false, found the text \"no\""),
        (json!({"queue": "a_b"}), "queue", "'_' at position 2"),
        (json!({"concurrencyPolicy": "Forbid"}), "concurrencyPolicy", "it is said with spec.overlap"),
        (json!({"timeZone": "UTC"}), "timeZone", "it is said with spec.schedule.timeZone"),
        (json!({"catch_up": {}}), "catch_up", "did you mean catchUp?"),
    ] {
        refused(spec, &format!("spec.{field}"), words);
    }
    let long = job(json!({"retry": {"initial": "20m", "attempts": 5}, "catchUp": {"policy": "all"}}));
    assert_eq!((long.retry.initial, long.retry.max), (Duration::from_secs(1200), Duration::from_secs(1200)));
    assert_eq!(long.catch_up.policy, CatchUpPolicy::All);
    assert_eq!(
        job(json!({"retry": null, "labels": null, "timeout": null})
            .as_object()
            .map(|m| {
                let mut m = m.clone();
                m.remove("labels");
                Value::Object(m)
            })
            .unwrap())
        .timeout,
        TIMEOUT_DEFAULT
    );
}

#[test]
fn work_is_one_of_three() {
    refused(json!({"payload": 1, "exec": {"shell": "x"}}), "spec.exec", "only one of payload, exec or http");
    assert_eq!(job(json!({"exec": {"shell": "x"}})).queue.name.as_str(), "exec");
    assert_eq!(job(json!({"http": {"url": "http://x"}})).queue.name.as_str(), "http");
    assert_eq!(job(json!({"http": {"url": "http://x"}, "queue": "q"})).queue.name.as_str(), "q");
    let size = "x".repeat(PAYLOAD_BYTES_MAX - 2);
    assert_eq!(job(json!({"payload": size})).work, Work::Payload(json!(size)));
    refused(
        json!({"payload": format!("{size}x")}),
        "spec.payload",
        "has 262145 bytes as JSON; the limit is 262144",
    );
    refused(json!({"exec": {"shell": size}}), "spec.exec", "PAYLOAD_BYTES_MAX");
}

#[test]
fn commands() {
    for (exec, field, words) in [
        (json!({}), "", "either command (a list) or shell (a line)"),
        (json!("ls"), "", "expected a map"),
        (json!({"command": ["a"], "shell": "b"}), ".shell", "only one of"),
        (json!({"command": "ls -l"}), ".command", "goes into shell"),
        (json!({"command": []}), ".command", "must not be empty"),
        (json!({"command": ["", "x"]}), ".command[0]", "must not be empty"),
        (json!({"command": ["x", 5]}), ".command[1]", "put it in quotes"),
        (json!({"command": ["x", "a\u{0}b"]}), ".command[1]", "NUL"),
        (json!({"shell": ""}), ".shell", "must not be empty"),
        (json!({"shell": "x", "env": {"A=B": "x"}}), ".env[\"A=B\"]", "name of a variable"),
        (json!({"shell": "x", "env": {"A": 1}}), ".env.A", "put it in quotes"),
        (json!({"shell": "x", "workingDir": ""}), ".workingDir", "must not be empty"),
        (json!({"shell": "x", "cwd": "/"}), ".cwd", "unknown field"),
        (json!({"shell": "x", "user": 0}), ".user", "put it in quotes"),
    ] {
        refused(json!({"exec": exec}), &format!("spec.exec{field}"), words);
    }
    let Work::Exec(exec) = job(json!({"exec": {
        "command": ["a", ""], "env": {"A": ""}, "stdin": "", "workingDir": "/x", "user": "u",
    }}))
    .work
    else {
        panic!("no exec")
    };
    assert_eq!((exec.command.len(), exec.stdin.as_deref(), exec.user.as_deref()), (2, Some(""), Some("u")));
}

#[test]
fn requests() {
    for (http, field, words) in [
        (json!({}), ".url", "must be given"),
        (json!({"url": "example.org"}), ".url", "http://"),
        (json!({"url": "ftp://example.org"}), ".url", "http://"),
        (json!({"url": "http://"}), ".url", "names no host"),
        (json!({"url": "http://u@/x"}), ".url", "names no host"),
        (json!({"url": "http://x/a b"}), ".url", "%20"),
        (json!({"url": "http://x", "method": "get"}), ".method", "did you mean GET?"),
        (json!({"url": "http://x", "headers": {"A B": "x"}}), ".headers[\"A B\"]", "name of a header"),
        (json!({"url": "http://x", "headers": {"A": "x\r\ny"}}), ".headers.A", "printable"),
        (json!({"url": "http://x", "body": {}}), ".body", "expected text"),
    ] {
        refused(json!({"http": http}), &format!("spec.http{field}"), words);
    }
}

#[test]
fn headers() {
    for (headers, field, words) in [
        (json!({"ecron-x": "1"}), "[\"ecron-x\"]", "belong to ecron"),
        (json!({"Nats-Msg-Id": "1"}), ".Nats-Msg-Id", "belong to NATS"),
        (json!({"a:b": "1"}), "[\"a:b\"]", "name of a header"),
        (json!({"a": " x"}), ".a", "begin or end"),
        (json!({"a": "ä"}), ".a", "printable ASCII"),
        (json!({"a": "x".repeat(9000)}), "", "HEADER_BYTES_MAX"),
    ] {
        let field = field.replace("[\"ecron-x\"]", ".ecron-x");
        refused(json!({"headers": headers}), &format!("spec.headers{field}"), words);
    }
    let many: serde_json::Map<_, _> = (0..33).map(|n| (format!("h{n}"), json!("x"))).collect();
    refused(json!({"headers": many}), "spec.headers", "HEADERS_MAX");
}

#[test]
fn depth_and_size_are_bounded() {
    let deep = (0..70).fold(json!(1), |inner, _| json!([inner]));
    one_problem(document(json!({"payload": deep})), "", "MANIFEST_DEPTH_MAX");
    let large = json!({"shell": "x", "env": {"A": "x".repeat(600_000)}});
    one_problem(document(json!({"exec": large})), "", "MANIFEST_BYTES_MAX");
}

#[test]
fn codes_after_which_trying_again_cannot_help() {
    let codes = json!(["2", 3, "64-78"]);
    let Work::Exec(exec) = job(json!({"exec": {"shell": "true", "permanentExitCodes": codes}})).work else {
        panic!("no command")
    };
    let permanent: Vec<u16> = (0..=255).filter(|code| exec.is_permanent(*code)).collect();
    let expected: Vec<u16> = [2, 3].into_iter().chain(64..=78).chain([126, 127]).collect();
    assert_eq!(permanent, expected);

    let url = "https://example.org";
    let http = |extra: Value| {
        let mut http = json!({"url": url});
        http.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        match job(json!({"http": http})).work {
            Work::Http(http) => http,
            other => panic!("{other:?}"),
        }
    };
    let default = http(json!({}));
    let lenient: Vec<u16> = (400..=599).filter(|status| !default.is_permanent(*status)).collect();
    assert_eq!(lenient, [408, 425, 429].into_iter().chain(500..=599).collect::<Vec<_>>());
    let own = http(json!({"permanentStatuses": [404, "500-502"]}));
    assert_eq!(
        [400, 404, 429, 501, 503].map(|status| own.is_permanent(status)),
        [false, true, false, true, false]
    );
    assert!(!http(json!({"permanentStatuses": []})).is_permanent(404));

    let exec = |codes: Value| json!({"exec": {"shell": "true", "permanentExitCodes": codes}});
    refused(exec(json!([0])), "spec.exec.permanentExitCodes[0]", "within 1 to 255");
    refused(exec(json!(["9-3"])), "spec.exec.permanentExitCodes[0]", "within 1 to 255");
    refused(exec(json!(vec!["1"; 33])), "spec.exec.permanentExitCodes", "CODE_RANGES_MAX");
    let statuses = json!({"http": {"url": url, "permanentStatuses": ["200-404"]}});
    refused(statuses, "spec.http.permanentStatuses[0]", "within 300 to 599");
}
