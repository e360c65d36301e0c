//! Whatever people and programs send us: refused or quarantined with a reason, and nobody else is delayed by it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use async_nats::HeaderMap;
use harness::bare;
use harness::cli::Letter;
use harness::up::{Slot, Up};
use harness::wait::{seen, wait_until};
use harness::witness::{Expected, Findings, now_ms};
use serde_json::{Value, json};

use crate::jobs::{REMEMBER_ALL, every, payload, triggered};

static UP: Slot = Slot::new();

async fn up() -> anyhow::Result<Arc<Up>> {
    Up::shared(&UP).await
}

const DEADLINE: Duration = Duration::from_secs(30);
const LATE_MS: i64 = 2_000;

/// Does something while a good job runs every second, and checks that every run of it was on time and the only one.
async fn beside_a_good_job<T>(
    up: &Up,
    job: &str,
    body: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let witness = up.witness(&job.replace('/', "-"));
    up.cli().apply(&every(job, 1, &witness.line(), &[REMEMBER_ALL])).await?;
    let after_ms = now_ms();
    let outcome = body.await?;
    let expected = Expected { job: job.into(), every_ms: 1_000, after_ms, until_ms: now_ms() };
    let begun = wait_until(DEADLINE, &format!("{job} has run"), || async {
        let begun = witness.begun()?;
        seen(expected.compare(&begun).missed.is_empty(), begun.clone())
    })
    .await?;
    assert_eq!(expected.compare(&begun), Findings::default());
    let late: Vec<_> = begun.iter().filter(|begun| begun.began_ms - begun.due_ms > LATE_MS).collect();
    assert!(late.is_empty(), "late: {late:#?}");
    up.cli().ok(&["delete", job]).await?;
    Ok(outcome)
}

const MISTAKES: &str = r#"apiVersion: ecron/v1
kind: Job
metadata:
  name: Bad.Name
  namespace: "two words"
  colour: red
spec:
  schedule:
    cron: "61 * * * *"
    timeZone: Mars/Olympus
  queue: "a>b"
  timeout: 0s
  retry: {attempts: 0}
  catchUp: {policy: sometimes}
  startingDeadline: soon
"#;

#[tokio::test]
async fn ten_mistakes_are_ten_answers_with_line_and_field() -> anyhow::Result<()> {
    let up = up().await?;
    let cli = up.cli();
    let manifests = format!("{MISTAKES}{}", payload("good/innocent", "schedule: {every: 1h}", &[]));
    let expected = [
        (4, "metadata.name"),
        (5, "metadata.namespace"),
        (6, "metadata.colour"),
        (9, "spec.schedule.cron"),
        (10, "spec.schedule.timeZone"),
        (11, "spec.queue"),
        (12, "spec.timeout"),
        (13, "spec.retry.attempts"),
        (14, "spec.catchUp.policy"),
        (15, "spec.startingDeadline"),
    ];
    for command in [["apply", "-f", "-"].as_slice(), &["validate", "-"]] {
        let answer = cli.run_with(command, &manifests).await?;
        assert_eq!(answer.code, Some(2), "{answer:?}");
        for (line, field) in expected {
            let place = format!("<stdin>:{line}: {field}: ");
            assert!(answer.stderr.contains(&place), "{place:?} is missing in\n{}", answer.stderr);
        }
        assert_eq!(answer.stderr.matches("<stdin>:").count(), expected.len(), "{}", answer.stderr);
    }
    // A manifest is accepted as a whole or not at all.
    assert_eq!(cli.run(&["get", "job", "good/innocent"]).await?.code, Some(1));
    let structured = cli.run_with(&["validate", "-", "-o", "json"], &manifests).await?;
    let structured: Value = serde_json::from_str(&structured.stdout)?;
    assert_eq!(structured["problems"].as_array().map(Vec::len), Some(expected.len()), "{structured:#}");
    assert_eq!(structured["valid"], json!(["good/innocent"]));
    Ok(())
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_says_why() -> anyhow::Result<()> {
    let up = up().await?;
    let cli = up.cli();
    let large = format!("payload: {{x: \"{}\"}}", "x".repeat(300_000));
    let hourly = "schedule: {every: 1h}";
    let cases = [
        (payload("bad/zone", "schedule: {cron: \"0 0 * * *\", timeZone: Europe/Berln}", &[]), "Europe/Berln"),
        (payload("bad/never", "schedule: {cron: \"0 0 30 2 *\"}", &[]), "never occurs"),
        (payload("bad/past", "schedule: {at: [\"2001-01-01T00:00:00Z\"]}", &[]), "never occurs"),
        (payload("bad/large", hourly, &[&large]), "262144"),
        (payload("bad/unknown", hourly, &["shedule: 5m"]), "spec.shedule: unknown field"),
        (payload("bad/two", hourly, &["payload: {}", "http: {url: \"http://a.b/\"}"]), "only one of"),
        (payload("bad/star*", hourly, &[]), "'*'"),
        (payload("bad/greater>", hourly, &[]), "'>'"),
        (payload("bad/dot.dot", hourly, &[]), "'.'"),
        ("a: [\n".into(), "YAML"),
        ("a: &a [*a, *a]\n".into(), "<stdin>"),
        (String::new(), "no manifest"),
        ("\u{0}\u{1}".into(), "<stdin>"),
    ];
    for (manifest, reason) in cases {
        let answer = cli.run_with(&["apply", "-f", "-"], &manifest).await?;
        let shown: String = manifest.chars().take(300).collect();
        assert_eq!(answer.code, Some(2), "{shown}\n{answer:?}");
        assert!(
            answer.stderr.contains(reason),
            "{reason:?} is missing in the answer to\n{shown}\n{}",
            answer.stderr
        );
    }
    for args in [
        ["get", "job", "a.b"].as_slice(),
        &["trigger", "a/*"],
        &["delete", "a/>"],
        &["describe", "two words"],
        &["executor", "--queue", "a/>"],
        &["get", "run", "no run id"],
        &["frobnicate"],
    ] {
        let answer = cli.run(args).await?;
        assert_eq!(answer.code, Some(2), "{args:?}: {answer:?}");
        assert!(!answer.stderr.trim().is_empty(), "{args:?}: {answer:?}");
    }
    let jobs = cli.json(&["get", "jobs", "-n", "bad"]).await?;
    assert_eq!(jobs.as_array().map(Vec::len), Some(0), "{jobs:#}");
    Ok(())
}

/// The API checks for itself: not everybody who calls it is our command line.
#[tokio::test]
async fn the_api_refuses_what_the_command_line_would_never_send() -> anyhow::Result<()> {
    let up = up().await?;
    let client = async_nats::connect(up.nats_url()).await?;
    let bad = json!({"apiVersion": "ecron/v1", "kind": "Job", "metadata": {"name": "A.B"}, "spec": {"schedule": {"every": "never"}}});
    let bodies = [
        json!({"manifests": [bad]}).to_string(),
        json!({"manifests": [bad, bad], "dryRun": true}).to_string(),
        json!({"manifests": "all"}).to_string(),
        json!({"manifests": [], "force": true}).to_string(),
        "[".repeat(100_000),
        String::new(),
    ];
    for body in bodies {
        let shown: String = body.chars().take(200).collect();
        let answer = client.request("ecron.api.v1.apply", body.into()).await?;
        let answer: Value = serde_json::from_slice(&answer.payload)?;
        assert_eq!(answer["error"]["kind"], "refused", "{shown}: {answer:#}");
    }
    Ok(())
}

/// Headers, by name and value.
type Pairs<'a> = &'a [(&'a str, &'a str)];

fn headers(pairs: Pairs<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, *value);
    }
    headers
}

/// The letters about messages of one subject, by what their payload was.
async fn letters_of(up: &Up, subject: &str, count: usize) -> anyhow::Result<Vec<Letter>> {
    let ours = |letter: &Letter| letter.subject == subject;
    let what = format!("{count} letters about {subject}");
    up.cli().wait_for_letters(&what, DEADLINE, ours, |letters| letters.len() >= count).await
}

#[tokio::test]
async fn malformed_ad_hoc_work_is_quarantined_with_the_reason() -> anyhow::Result<()> {
    let up = up().await?;
    let jetstream = bare::jetstream(&up.nats_url()).await?;
    let defer = "ecron.defer.adhoc.exec";
    let deferred: [(Pairs<'_>, &str); 6] = [
        (&[], "Ecron-At"),
        (&[("Ecron-Delay", "a while")], "Ecron-Delay"),
        (&[("Ecron-At", "tomorrow")], "Ecron-At"),
        (&[("Ecron-At", "2030-01-01T00:00:00Z"), ("Ecron-Delay", "5s")], "together"),
        (&[("Ecron-Delay", "1s"), ("Ecron-Retry", "attempts=many")], "Ecron-Retry"),
        (&[("Ecron-Delay", "1s"), ("Ecron-Kind", "exec")], "Ecron-Kind"),
    ];
    let submit = "ecron.submit.adhoc.exec";
    let submitted: [(Pairs<'_>, &str); 4] = [
        (&[("Ecron-Retry", "attempts=many")], "Ecron-Retry"),
        (&[("Ecron-Timeout", "soon")], "Ecron-Timeout"),
        (&[("Ecron-Kind", "exec")], "Ecron-Kind"),
        (&[("Ecron-Key", "two words")], "Ecron-Key"),
    ];
    // Were it believed, it would run this.
    let trap = up.folder().join("trapped");
    let command = json!({"shell": format!("touch '{}'", trap.display())}).to_string();
    beside_a_good_job(&up, "adhoc/good", async {
        for (subject, cases) in [(defer, deferred.as_slice()), (submit, &submitted)] {
            for (pairs, _) in cases {
                let ack =
                    jetstream.publish_with_headers(subject, headers(pairs), command.clone().into()).await?;
                ack.await?;
            }
        }
        // Well-formed, but nothing that the executor of commands would carry out.
        jetstream.publish(submit, command.clone().into()).await?.await?;
        for (subject, cases, extra) in [(defer, deferred.as_slice(), 0), (submit, &submitted, 1)] {
            let letters = letters_of(&up, subject, cases.len() + extra).await?;
            assert_eq!(letters.len(), cases.len() + extra, "{letters:#?}");
            for (pairs, reason) in cases {
                let told = letters
                    .iter()
                    .any(|letter| letter.error.contains(reason) && letter.reason == "malformed headers");
                assert!(told, "no letter names {reason} for {pairs:?}: {letters:#?}");
            }
            assert!(
                letters.iter().all(|letter| letter.payload["shell"].is_string()),
                "payloads are kept: {letters:#?}"
            );
        }
        Ok(())
    })
    .await?;
    assert!(!trap.exists(), "a publisher had a command run");
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_read_on_a_queue_is_quarantined_and_the_queue_goes_on() -> anyhow::Result<()> {
    let up = up().await?;
    let jetstream = bare::jetstream(&up.nats_url()).await?;
    let subject = "ecron.run.poison.exec";
    let trap = up.folder().join("poisoned");
    let command = json!({"shell": format!("touch '{}'", trap.display())}).to_string();
    beside_a_good_job(&up, "poison/good", async {
        let wire = [
            ("Ecron-Wire", "99"),
            ("Ecron-Run-Id", "poison/good@2026-01-01T00:00:00Z"),
            ("Ecron-Kind", "exec"),
        ];
        let cases: [(Pairs<'_>, Vec<u8>); 4] = [
            (&[], vec![0xff, 0xfe, 0x00]),
            (&[("Ecron-Wire", "1")], command.clone().into_bytes()),
            (&wire, command.clone().into_bytes()),
            (&[("Ecron-Wire", "1"), ("Ecron-Run-Id", "\u{1f4a5}")], vec![]),
        ];
        for (pairs, body) in &cases {
            jetstream.publish_with_headers(subject, headers(pairs), body.clone().into()).await?.await?;
        }
        let letters = letters_of(&up, subject, cases.len()).await?;
        assert_eq!(letters.len(), cases.len(), "{letters:#?}");
        assert!(
            letters.iter().all(|letter| letter.reason == "undecodable" && letter.error.contains("Ecron-")),
            "{letters:#?}"
        );
        let answer = up.cli().run(&["dead", "redrive", &letters[0].number.to_string()]).await?;
        assert_eq!(answer.code, Some(1), "what can't be read can't run: {answer:?}");
        // The same queue works on.
        up.cli().apply(&triggered("poison/after", "echo fine", &[])).await?;
        let run = up.cli().json(&["trigger", "poison/after", "--wait", "--timeout", "30s"]).await?;
        assert_eq!(run["state"], "succeeded", "{run:#}");
        Ok(())
    })
    .await?;
    assert!(!trap.exists(), "a command of unknown origin was run");
    Ok(())
}

#[tokio::test]
async fn an_invalid_spec_in_the_bucket_is_a_condition_and_stalls_nobody() -> anyhow::Result<()> {
    let up = up().await?;
    let cli = up.cli();
    let witness = up.witness("spoilt");
    let bucket = bare::jetstream(&up.nats_url()).await?.get_key_value("ecron_specs").await?;
    beside_a_good_job(&up, "kv/good", async {
        let job = "kv/spoilt";
        cli.apply(&every(job, 1, &witness.line(), &[REMEMBER_ALL])).await?;
        let after_ms = now_ms();
        let key = key_of(&bucket, ".kv.spoilt").await?;
        // Written past the API: not JSON, not a job, a job that says nonsense.
        for garbage in ["not json", "{}", r#"{"v":1,"spec":{"schedule":{"every":"0s"}}}"#, "[[[["] {
            let revision = bucket.put(&key, garbage.to_owned().into()).await?;
            let view = wait_until(DEADLINE, "the condition shows", || async {
                let view = cli.json(&["get", "job", job]).await?;
                seen(view["status"]["condition"].is_string() && view["status"]["revision"] == revision, view)
            })
            .await?;
            assert!(view["status"]["observedRevision"].as_u64() < Some(revision), "{view:#}");
        }
        // Keys that are no job's, and one in a shard that isn't its own.
        for key in ["nonsense", "00.a", "99999.kv.x", "00.KV.Bad", "00.kv.spoilt", "07.kv.spoilt"] {
            bucket.put(key, "{}".into()).await?;
        }
        // Its last valid revision stays in force.
        let until_ms = now_ms() + 2_000;
        harness::witness::until_ms(until_ms).await;
        let expected = Expected { job: job.into(), every_ms: 1_000, after_ms, until_ms };
        let begun = wait_until(DEADLINE, "the spoilt job runs as it did", || async {
            let begun = witness.begun()?;
            seen(expected.compare(&begun).missed.is_empty(), begun.clone())
        })
        .await?;
        assert_eq!(expected.compare(&begun), Findings::default());
        let shown = cli.ok(&["get", "jobs", "-n", "kv"]).await?;
        assert!(shown.contains("invalid"), "{shown}");
        // A valid one heals it.
        cli.apply(&every(job, 1, "true", &[])).await?;
        let view = cli.json(&["get", "job", job]).await?;
        assert_eq!(view["status"]["condition"], Value::Null, "{view:#}");
        let jobs = cli.json(&["get", "jobs", "-n", "kv"]).await?;
        let listed: Vec<&Value> =
            jobs.as_array().into_iter().flatten().filter(|view| view["job"] == job).collect();
        let [view] = listed.as_slice() else { anyhow::bail!("expected one {job}: {jobs:#}") };
        assert_eq!(view["status"]["condition"], Value::Null, "{view:#}");
        cli.ok(&["delete", job]).await?;
        Ok(())
    })
    .await
}

async fn key_of(bucket: &async_nats::jetstream::kv::Store, ending: &str) -> anyhow::Result<String> {
    use futures_util::TryStreamExt;
    let keys: Vec<String> = bucket.keys().await?.try_collect().await?;
    keys.into_iter().find(|key| key.ends_with(ending)).with_context(|| format!("a key that ends in {ending}"))
}
