//! Dead letters in bulk, what a redrive does to the ledger, statistics that survive, and the audit.

use std::time::Duration;

use anyhow::Context;
use harness::cli::Cli;
use harness::python;
use harness::up::Up;
use harness::wait::{seen, wait_until};
use serde_json::{Value, json};

use crate::jobs::{NEVER_SOON, REMEMBER_ALL, every, payload, triggered};

const DEADLINE: Duration = Duration::from_secs(60);

async fn trigger(cli: &Cli, job: &str, times: usize) -> anyhow::Result<Vec<String>> {
    let mut runs = Vec::new();
    for _ in 0..times {
        let reply = cli.json(&["trigger", job]).await?;
        runs.push(reply["run"].as_str().context("a run")?.to_owned());
    }
    Ok(runs)
}

async fn letters(cli: &Cli, more: &[&str], wanted: usize) -> anyhow::Result<Vec<Value>> {
    wait_until(DEADLINE, &format!("{wanted} letters {more:?}"), || async {
        let found = cli.json(&[&["dead", "list"], more].concat()).await?;
        let found = found.as_array().cloned().unwrap_or_default();
        seen(found.len() == wanted, found)
    })
    .await
}

#[tokio::test]
async fn letters_are_chosen_previewed_redriven_and_purged_in_bulk() -> anyhow::Result<()> {
    let up = Up::start().await?;
    let mut cli = up.cli();
    cli.env.push(("ECRON_BY".into(), "ann@desk".into()));
    let healed = up.folder().join("healed");
    let shell = format!("test -e {} || {{ echo no disk >&2; exit 3; }}", healed.display());
    let once = "retry: {attempts: 1}";
    let twice = "retry: {attempts: 2, initial: 100ms}";
    let jobs = [
        triggered("dead/disk", &shell, &[twice, REMEMBER_ALL]),
        triggered("dead/net", "echo no route >&2; exit 4", &[once, REMEMBER_ALL]),
    ];
    cli.apply(&jobs.concat()).await?;
    trigger(&cli, "dead/disk", 6).await?;
    trigger(&cli, "dead/net", 2).await?;
    let all = letters(&cli, &[], 8).await?;
    letters(&cli, &["--job", "dead/disk"], 6).await?;
    letters(&cli, &["--error", "no ROUTE", "--reason", "attempts-exhausted", "-n", "dead"], 2).await?;
    letters(&cli, &["--error", "/no (disk|route)/", "--newer-than", "1h"], 8).await?;
    letters(&cli, &["--older-than", "1h"], 0).await?;

    // All attempts of a letter's run are kept, and each one's error.
    let number = |letter: &Value| letter["number"].as_u64().unwrap_or(0);
    let disk = letters(&cli, &["--job", "dead/disk"], 6).await?;
    let shown = cli.json(&["dead", "show", &number(&disk[0]).to_string()]).await?;
    let attempts = shown["attemptLog"].as_array().context("its attempts")?;
    assert_eq!(attempts.len(), 2, "{shown:#}");
    let is_told = |attempt: &Value| attempt["error"].as_str().is_some_and(|error| error.contains("no disk"));
    assert!(attempts.iter().all(is_told), "{shown:#}");

    // Nothing is done without being chosen, agreed to, or when it is only a rehearsal.
    for refused in [
        &["dead", "redrive"] as &[&str],
        &["dead", "redrive", "--job", "dead/disk"],
        &["dead", "redrive", "1", "--all"],
    ] {
        assert_eq!(cli.run(refused).await?.code, Some(2), "{refused:?}");
    }
    let rehearsal = cli.ok(&["dead", "redrive", "--all", "--dry-run"]).await?;
    assert!(
        rehearsal.contains("8 letter(s) would be redriven") && rehearsal.contains("no disk"),
        "{rehearsal}"
    );
    letters(&cli, &[], 8).await?;
    // Nothing is sent into a queue that lets nothing through.
    cli.ok(&["pause", "queue", "dead/exec"]).await?;
    let refused = cli.run(&["dead", "redrive", "--all", "--yes"]).await?;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("dead/exec is paused"), "{refused:?}");
    cli.ok(&["resume", "queue", "dead/exec"]).await?;
    letters(&cli, &[], 8).await?;

    // Redriven at their rate, all but one that somebody purged meanwhile: the others go on.
    std::fs::write(&healed, "")?;
    let clock = ambient::Clock::system();
    let began = clock.monotonic();
    let done = cli.ok(&["dead", "redrive", "--job", "dead/disk", "--rate", "5", "--yes"]).await?;
    assert!(done.contains("6 letter(s) redriven"), "{done}");
    assert!(clock.monotonic() - began >= Duration::from_millis(900), "six letters at five a second");
    let again = cli.ok(&["dead", "redrive", "--job", "dead/disk", "--yes"]).await?;
    assert!(again.contains("no dead letter is chosen"), "a second time does nothing: {again}");
    let runs = cli
        .wait_for_runs("dead/disk", "all succeed", DEADLINE, |runs| {
            runs.len() == 6 && runs.iter().all(|run| run.state == "succeeded" && run.generation == 1)
        })
        .await?;
    let run = cli.json(&["get", "run", &runs[0].run]).await?;
    let outcomes: Vec<(u64, &str)> = run["attemptLog"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|attempt| {
            (attempt["generation"].as_u64().unwrap_or(9), attempt["outcome"].as_str().unwrap_or(""))
        })
        .collect();
    assert_eq!(outcomes, [(0, "failed"), (0, "failed"), (1, "succeeded")], "{run:#}");
    let net: Vec<u64> = all
        .iter()
        .filter(|letter| letter["error"].as_str().is_some_and(|e| e.contains("route")))
        .map(number)
        .collect();
    let missing = cli.run(&["dead", "purge", "99999", &net[0].to_string()]).await?;
    assert_eq!(missing.code, Some(1), "{missing:?}");
    assert!(
        missing.stdout.contains(&format!("letter {} purged", net[0])),
        "the other one all the same: {missing:?}"
    );
    cli.ok(&["dead", "purge", "--all", "--yes"]).await?;
    letters(&cli, &[], 0).await?;

    // What was done is on record, with who did it and how many.
    let audit = cli.json(&["get", "audit"]).await?;
    let audit = audit.as_array().context("records")?;
    let of = |action: &str| -> u64 {
        let of_action =
            audit.iter().filter(|record| record["action"] == action && record["by"] == "ann@desk");
        of_action.map(|record| record["count"].as_u64().unwrap_or(1)).sum()
    };
    assert_eq!((of("apply"), of("redrive"), of("purge")), (2, 6, 2), "{audit:#?}");
    let whole = audit.iter().find(|record| record["action"] == "redrive" && record["count"] == 6);
    assert!(whole.is_some(), "six letters at five a second are one line: {audit:#?}");

    // Both kinds of end count, for each generation.
    let stats = cli.json(&["get", "job", "dead/disk"]).await?["status"]["stats"].take();
    assert_eq!(
        (&stats["succeeded"], &stats["failed"], &stats["successRate"]),
        (&json!(6), &json!(6), &json!(0.5))
    );
    Ok(())
}

#[tokio::test]
async fn statistics_survive_edits_and_restarts() -> anyhow::Result<()> {
    let mut up = Up::start().await?;
    let cli = up.cli();
    cli.apply(&every("stat/tick", 1, "true", &["history: {succeeded: 2}"])).await?;
    let stats = async || -> anyhow::Result<Value> {
        Ok(cli.json(&["get", "job", "stat/tick"]).await?["status"]["stats"].take())
    };
    let counted = async |least: u64| {
        wait_until(DEADLINE, &format!("{least} runs are counted"), || async {
            let stats = stats().await?;
            seen(stats["succeeded"].as_u64().is_some_and(|count| count >= least), stats)
        })
        .await
    };
    counted(5).await?;
    cli.apply(&every("stat/tick", 1, "true # edited", &["history: {succeeded: 2}"])).await?;
    let before = counted(7).await?["succeeded"].as_u64().context("a count")?;
    assert_eq!(up.interrupt().await?, Some(0));
    up.start_again().await?;
    let after = counted(before + 3).await?;
    for field in ["lateness", "duration"] {
        let times = &after[format!("{field}Ms")];
        assert!(times["p50"].as_u64() <= times["p99"].as_u64() && times["p99"].is_u64(), "{after:#}");
    }
    assert_eq!(after["successRate"], 1.0);
    let described = cli.ok(&["describe", "stat/tick"]).await?;
    for words in [
        "succeeded, 0 failed",
        "100.0 % of those that ran",
        "Lateness:   p50",
        "Duration:   p50",
        "last at 20",
    ] {
        assert!(described.contains(words), "{words:?} in\n{described}");
    }
    assert!(cli.runs("stat/tick").await?.len() <= 3, "the history itself is as short as it was");
    let one = cli.json(&["get", "runs", "-n", "stat", "--state", "succeeded", "--limit", "1"]).await?;
    assert_eq!(one["runs"].as_array().map(Vec::len), Some(1), "{one:#}");
    Ok(())
}

#[tokio::test]
async fn a_redriven_run_is_settled_also_if_a_bare_client_carries_it_out() -> anyhow::Result<()> {
    let up = Up::start().await?;
    let cli = up.cli();
    let job = payload("bare/again", NEVER_SOON, &["queue: work", "payload: {do: term}", REMEMBER_ALL]);
    cli.apply(&job).await?;
    let run = trigger(&cli, "bare/again", 1).await?.remove(0);
    let carry_out = async || python::run("execute.py", &[&up.nats_url(), "bare", "work", "1"]).await;
    let ended = async |state: &str, generation: u64| {
        wait_until(DEADLINE, &format!("{run} is {state}"), || async {
            let view = cli.json(&["get", "run", &run]).await?;
            seen(view["state"] == state && view["generation"] == generation, view)
        })
        .await
    };
    // It terms it, again and again: each time a dead letter.
    carry_out().await?;
    ended("dead-lettered", 0).await?;
    let first = letters(&cli, &[], 1).await?;
    cli.ok(&["dead", "redrive", &first[0]["number"].to_string()]).await?;
    ended("dispatched", 1).await?;
    carry_out().await?;
    let view = ended("dead-lettered", 1).await?;
    assert_eq!(view["attemptLog"].as_array().map(Vec::len), Some(2), "{view:#}");
    letters(&cli, &[], 1).await.map(drop)
}
