//! Clients that nobody here wrote (nats-py): they submit work and execute queues with no ecron code.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use harness::cli::{Letter, finish};
use harness::python;
use harness::up::{Slot, Up};
use harness::wait::{seen, wait_until};
use harness::witness::{instant, now_ms};
use model::time::Timestamp;
use serde_json::{Value, json};

use crate::jobs::{NEVER_SOON, payload};

static UP: Slot = Slot::new();

async fn up() -> anyhow::Result<Arc<Up>> {
    Up::shared(&UP).await
}

/// A bare client reports nothing; its runs are settled once they are overdue (15 s) and looked at (every 5 s).
const SETTLED_BY: Duration = Duration::from_secs(60);

async fn execute(up: &Up, queue: &str, count: usize) -> anyhow::Result<Vec<Value>> {
    let deliveries = python::run("execute.py", &[&up.nats_url(), "bare", queue, &count.to_string()]).await?;
    deliveries.as_array().cloned().context("a list of deliveries")
}

async fn submit(up: &Up, messages: Value) -> anyhow::Result<Value> {
    python::run("submit.py", &[&up.nats_url(), &messages.to_string()]).await
}

#[tokio::test]
async fn runs_of_a_bare_executor_end_as_it_acked_naked_or_termed_them() -> anyhow::Result<()> {
    let up = up().await?;
    let cli = up.cli();
    let wishes = ["ack", "nak", "term"];
    let jobs = wishes.map(|wish| {
        let work = format!("payload: {{do: {wish}}}");
        payload(&format!("bare/{wish}"), NEVER_SOON, &["queue: work", &work])
    });
    cli.apply(&jobs.concat()).await?;
    let mut runs = Vec::new();
    for wish in wishes {
        let reply = cli.json(&["trigger", &format!("bare/{wish}")]).await?;
        runs.push(reply["run"].as_str().context("a run id")?.to_owned());
    }
    let deliveries = execute(&up, "work", wishes.len()).await?;
    assert_eq!(deliveries.len(), 4, "one of them twice: {deliveries:#?}");
    for delivery in &deliveries {
        assert_eq!(delivery["subject"], "ecron.run.bare.work");
        let run = delivery["headers"]["Ecron-Run-Id"].as_str().unwrap_or_default();
        assert!(runs.iter().any(|known| known == run), "{delivery:#}");
        for header in ["Ecron-Due-At", "Ecron-Timeout", "Ecron-Retry", "Ecron-Wire"] {
            assert!(delivery["headers"][header].is_string(), "{header}: {delivery:#}");
        }
    }
    let naked: Vec<&Value> =
        deliveries.iter().filter(|delivery| delivery["payload"] == r#"{"do":"nak"}"#).collect();
    let [first, second] = naked.as_slice() else { anyhow::bail!("expected two deliveries: {deliveries:#?}") };
    let delay_ms = second["atMs"].as_i64().unwrap_or_default() - first["atMs"].as_i64().unwrap_or_default();
    assert!((1_900..6_000).contains(&delay_ms), "nak's delay was 2 s, it came after {delay_ms} ms");

    for (wish, state) in [("ack", "succeeded"), ("nak", "succeeded"), ("term", "dead-lettered")] {
        let job = format!("bare/{wish}");
        let settled = cli.wait_for_runs(&job, "are settled", SETTLED_BY, |runs| {
            runs.iter().all(|run| run.ended_at.is_some())
        });
        let runs = settled.await?;
        let [run] = runs.as_slice() else { anyhow::bail!("expected one run of {job}: {runs:#?}") };
        assert_eq!(run.state, state, "{run:#?}");
    }
    let ours = |letter: &Letter| letter.run.starts_with("bare/term@");
    let letters =
        cli.wait_for_letters("there is a letter", SETTLED_BY, ours, |letters| !letters.is_empty()).await?;
    let [letter] = letters.as_slice() else { anyhow::bail!("expected one letter: {letters:#?}") };
    assert_eq!(letter.reason, "terminated", "{letter:#?}");
    assert_eq!(letter.payload, json!({"do": "term"}), "the payload is kept for a redrive: {letter:#?}");
    Ok(())
}

#[tokio::test]
async fn ad_hoc_work_reaches_an_executor_once_for_each_message_id() -> anyhow::Result<()> {
    let up = up().await?;
    let subject = "ecron.submit.bare.adhoc";
    let answers = submit(
        &up,
        json!([
            {"subject": subject, "payload": "no id"},
            {"subject": subject, "payload": "no id"},
            {"subject": subject, "payload": "with id", "headers": {"Nats-Msg-Id": "order-17", "X-Mine": "kept"}},
            {"subject": subject, "payload": "with id again", "headers": {"Nats-Msg-Id": "order-17"}},
        ]),
    )
    .await?;
    let duplicates: Vec<bool> =
        answers.as_array().context("answers")?.iter().map(|answer| answer["duplicate"] == true).collect();
    assert_eq!(duplicates, [false, false, false, true], "{answers:#}");
    assert!(answers.as_array().is_some_and(|all| all.iter().all(|answer| answer["stream"] == "ECRON_RUNS")));
    let deliveries = execute(&up, "adhoc", 3).await?;
    let payloads: Vec<&str> = deliveries.iter().filter_map(|delivery| delivery["payload"].as_str()).collect();
    assert_eq!(payloads, ["no id", "no id", "with id"]);
    assert_eq!(deliveries[2]["headers"]["X-Mine"], "kept");
    Ok(())
}

#[tokio::test]
async fn deferred_work_comes_at_its_time_and_once_for_each_key() -> anyhow::Result<()> {
    let up = up().await?;
    let subject = "ecron.defer.bare.later";
    let at_ms = now_ms() + 6_000;
    let before_ms = now_ms();
    let keyed = json!({"Ecron-At": instant(at_ms), "Ecron-Key": "reminder-1"});
    let answers = submit(
        &up,
        json!([
            {"subject": subject, "payload": "at", "headers": keyed},
            {"subject": subject, "payload": "at, again", "headers": keyed},
            {"subject": subject, "payload": "delay", "headers": {"Ecron-Delay": "3s", "X-Mine": "kept"}},
        ]),
    )
    .await?;
    assert!(
        answers.as_array().is_some_and(|all| all.iter().all(|answer| answer["stream"] == "ECRON_INTAKE"))
    );
    let deliveries = execute(&up, "later", 2).await?;
    let came = |payload: &str| deliveries.iter().find(|delivery| delivery["payload"] == payload);
    let (at, delay) =
        (came("at").context("the one with Ecron-At")?, came("delay").context("the one with Ecron-Delay")?);
    assert_eq!(deliveries.len(), 2, "{deliveries:#?}");
    for (delivery, due_ms) in [(at, at_ms), (delay, before_ms + 3_000)] {
        let late_ms = delivery["atMs"].as_i64().unwrap_or_default() - due_ms;
        assert!((0..5_000).contains(&late_ms), "{late_ms} ms late: {delivery:#}");
    }
    let due = at["headers"]["Ecron-Due-At"].as_str().unwrap_or_default().parse::<Timestamp>();
    assert_eq!(due.map(Timestamp::as_ms), Ok(at_ms), "{at:#}");
    assert_eq!(delay["headers"]["X-Mine"], "kept", "{delay:#}");
    // A one-off leaves no job behind.
    wait_until(SETTLED_BY, "the one-off jobs are gone", || async {
        let jobs = up.cli().json(&["get", "jobs", "-n", "bare"]).await?;
        let names: Vec<String> =
            jobs.as_array().into_iter().flatten().map(|job| job["job"].to_string()).collect();
        seen(!names.iter().any(|name| name.contains("defer-")), names)
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn the_example_handler_executes_jobs_and_ad_hoc_work() -> anyhow::Result<()> {
    let up = up().await?;
    let cli = up.cli();
    let schedule = "schedule: {every: 1s, start: \"2020-01-01T00:00:00Z\"}";
    cli.apply(&payload("billing/report", schedule, &["queue: reports", "payload: {region: eu}"])).await?;
    let mut example = std::process::Command::new(harness::binary::example()?);
    example.env("ECRON_NATS_URL", up.nats_url());
    let mut example = harness::process::Process::spawn(example, "report_handler", up.folder())?;
    example.says("eu attempt 1", 2, SETTLED_BY).await?;
    submit(
        &up,
        json!([{"subject": "ecron.submit.billing.reports", "payload": r#"{"region": "us"}"#, "headers": {"Nats-Msg-Id": "o-1"}}]),
    )
    .await?;
    example.says("billing/reports~o-1 us attempt 1", 1, SETTLED_BY).await?;
    // A payload that the handler can't read is a dead letter at once, and the queue goes on.
    submit(
        &up,
        json!([{"subject": "ecron.submit.billing.reports", "payload": "not json", "headers": {"Nats-Msg-Id": "o-2"}}]),
    )
    .await?;
    let ours = |letter: &Letter| letter.run == "billing/reports~o-2";
    let letters =
        cli.wait_for_letters("there is a letter", SETTLED_BY, ours, |letters| !letters.is_empty()).await?;
    assert_eq!(letters.len(), 1, "{letters:#?}");
    cli.wait_for_runs("billing/report", "succeed", SETTLED_BY, |runs| {
        runs.iter().any(|run| run.state == "succeeded")
    })
    .await?;
    cli.ok(&["delete", "billing/report"]).await?;
    example.signal(rustix::process::Signal::TERM)?;
    assert_eq!(example.ended(harness::up::STOP_TIMEOUT).await?.code(), Some(0), "{}", example.log());
    Ok(())
}

#[tokio::test]
async fn redis_cli_shows_a_run_from_plan_to_history() -> anyhow::Result<()> {
    let up = up().await?;
    let cli = up.cli();
    cli.apply(&payload("seen/once", NEVER_SOON, &["queue: nobody", "payload: {}"])).await?;
    let reply = cli.json(&["trigger", "seen/once"]).await?;
    let run = reply["run"].as_str().context("a run id")?;
    let keys = wait_until(SETTLED_BY, "the run is published", || async {
        let keys = up.redis_cli(&["--scan", "--pattern", &format!("ecron:*:run:{run}")]).await?;
        seen(keys.contains(run), keys)
    })
    .await?;
    let prefix = keys.trim().split("run:").next().unwrap_or_default().to_owned();
    assert!(prefix.starts_with("ecron:{"), "{keys}");
    let sent = up.redis_cli(&["ZRANGE", &format!("{prefix}sent"), "0", "-1"]).await?;
    assert!(sent.lines().any(|member| member == run), "{sent}");
    let record = up.redis_cli(&["HGETALL", &format!("{prefix}run:{run}")]).await?;
    assert!(record.contains("dispatched"), "{record}");
    let shown = cli.json(&["inspect", "sent", "--first", "100"]).await?;
    assert!(shown.to_string().contains(run), "{shown:#}");
    Ok(())
}

#[tokio::test]
async fn a_bare_client_of_the_api_gets_an_answer_to_every_question() -> anyhow::Result<()> {
    let up = up().await?;
    let client = async_nats::connect(up.nats_url()).await?;
    for (verb, body) in
        [("list", "{}"), ("get", "{\"job\": \"no/such\"}"), ("get", "not json"), ("dance", "{}")]
    {
        let answer = client.request(format!("ecron.api.v1.{verb}"), body.into()).await?;
        let answer: Value = serde_json::from_slice(&answer.payload)?;
        assert_eq!(answer["v"], 1, "{verb} {body}: {answer:#}");
        let is_fine = verb == "list";
        assert_eq!(
            (answer["ok"].is_object(), answer["error"].is_object()),
            (is_fine, !is_fine),
            "{verb}: {answer:#}"
        );
    }
    // The command line is just another client of it.
    let mut ecron = up.cli().command(&["get", "jobs"])?;
    ecron.env_remove("ECRON_REDIS_URL");
    finish(ecron.into(), "").await?.ok()?;
    Ok(())
}
