//! What an operator does to jobs, with real processes: pause, look ahead, resume, trigger, backfill, simulate.

use std::collections::BTreeSet;
use std::time::Duration;

use harness::bare;
use harness::cli::Cli;
use harness::up::Up;
use harness::wait::{Look, wait_until};
use harness::witness::{instant, now_ms};
use serde_json::{Value, json};

use crate::jobs::{NEVER_SOON, REMEMBER_ALL, every, payload};

const DEADLINE: Duration = Duration::from_secs(90);
const MINUTE_MS: i64 = 60_000;

#[tokio::test]
async fn an_operator_pauses_looks_ahead_and_resumes() -> anyhow::Result<()> {
    let up = Up::start().await?;
    let (cli, witness) = (up.cli(), up.witness("control"));
    let job = "ops/tick";
    cli.apply(&every(job, 1, &witness.line(), &["catchUp: {policy: all, rate: 20/s}", REMEMBER_ALL])).await?;
    cli.wait_for_runs(job, "have begun", DEADLINE, |runs| runs.len() >= 3).await?;
    for (pause, resume) in [(["pause", job], ["resume", job]), (["pause", "ops"], ["resume", "ops"])] {
        let of_namespace = pause[1] == "ops";
        let turn = |words: [&'static str; 2]| {
            if of_namespace {
                vec![words[0], "namespace", words[1], "--wait"]
            } else {
                vec![words[0], words[1], "--wait"]
            }
        };
        let said = cli.ok(&turn(pause)).await?;
        assert!(said.contains("paused"), "{said}");
        let paused_ms = now_ms();
        let shown = cli.ok(&["get", "jobs", "-n", "ops"]).await?;
        assert!(
            shown.contains(if of_namespace { "(paused with its namespace)" } else { "(paused)" }),
            "{shown}"
        );
        assert!(cli.ok(&["describe", job]).await?.contains("not before it is resumed"));
        let ahead = wait_until(DEADLINE, "a few occurrences were missed", || async {
            let ahead = cli.json(&["catch-up", "--dry-run", job]).await?;
            let enough = ahead["runs"].as_u64().is_some_and(|runs| runs >= 3);
            Ok(if enough { Look::Enough(ahead) } else { Look::NotYet(format!("{ahead:#}")) })
        })
        .await?;
        assert_eq!(ahead["jobs"][0]["namespacePaused"], json!(of_namespace), "{ahead:#}");
        assert!(cli.ok(&["catch-up", "--dry-run", "-n", "ops"]).await?.contains("would start"));
        let late = |run: &harness::witness::Begun| run.due_ms > paused_ms;
        assert!(!witness.begun()?.iter().any(late), "it ran while paused");
        cli.ok(&turn(resume)).await?;
        let resumed_ms = now_ms();
        // Everything that was missed, and what comes after it.
        let ran = |runs: &[harness::cli::Run]| {
            let ended: BTreeSet<&str> =
                runs.iter().filter(|run| run.state == "succeeded").map(|run| run.due_at.as_str()).collect();
            let dues = (paused_ms.div_euclid(1_000) + 1..=resumed_ms.div_euclid(1_000) + 1)
                .map(|s| instant(s * 1_000));
            dues.into_iter().all(|due| ended.contains(due.as_str()))
        };
        cli.wait_for_runs(job, "have all caught up", DEADLINE, ran).await?;
    }
    let again = cli.ok(&["resume", job]).await?;
    assert!(again.contains("isn't paused by itself"), "{again}");
    assert_eq!(cli.run(&["pause", "ops/nobody"]).await?.code, Some(1));
    assert_eq!(cli.run(&["catch-up"]).await?.code, Some(2), "there is only a dry run");
    Ok(())
}

#[tokio::test]
async fn a_trigger_takes_a_payload_and_a_key() -> anyhow::Result<()> {
    let mut up = Up::start().await?;
    let cli = up.cli();
    cli.apply(&payload(
        "ops/report",
        NEVER_SOON,
        &["queue: unserved", "payload: {region: eu}", "suspend: true"],
    ))
    .await?;
    let ask = async |more: &[&str]| cli.json(&[&["trigger", "ops/report"], more].concat()).await;
    let first = ask(&["--payload", r#"{"region": "us"}"#, "--key", "order-17"]).await?;
    let again = ask(&["--payload", r#"{"region": "asia"}"#, "--key", "order-17"]).await?;
    assert_eq!((&again["run"], &again["duplicate"]), (&first["run"], &json!(true)));
    let plain = ask(&[]).await?;
    let messages = wait_until(DEADLINE, "both runs are in the queue", || async {
        let runs = cli.runs("ops/report").await?;
        let all = runs.iter().filter(|run| run.state == "dispatched").count() == 2;
        Ok(if all { Look::Enough(()) } else { Look::NotYet(format!("{runs:#?}")) })
    });
    messages.await?;
    let mut found: Vec<(Option<String>, String)> = bare::drain(&up.nats_url(), "ops_unserved")
        .await?
        .into_iter()
        .map(|m| (m.run_id, m.payload))
        .collect();
    found.sort();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let expected = [(text(&first["run"]), r#"{"region":"us"}"#), (text(&plain["run"]), r#"{"region":"eu"}"#)];
    assert_eq!(found, expected.map(|(run, body)| (run, body.to_owned())));
    for bad in [["--payload", "{region"], ["--key", "a b"]] {
        let refused = cli.run(&[&["trigger", "ops/report"], bad.as_slice()].concat()).await?;
        assert_eq!(refused.code, Some(2), "{refused:?}");
    }
    // The key is as durable as Redis, and belongs to its job alone.
    up.interrupt().await?;
    up.start_again().await?;
    let later = ask(&["--key", "order-17"]).await?;
    assert_eq!((&later["run"], &later["duplicate"]), (&first["run"], &json!(true)), "after a restart");
    cli.apply(&payload("ops/other", NEVER_SOON, &["queue: unserved", "payload: {}"])).await?;
    let others = cli.json(&["trigger", "ops/other", "--key", "order-17"]).await?;
    assert!(!others["duplicate"].as_bool().unwrap_or_default(), "{others}");
    Ok(())
}

#[tokio::test]
async fn a_backfill_survives_kill_9_and_counts_exactly() -> anyhow::Result<()> {
    const TOTAL: i64 = 60;
    let mut up = Up::start().await?;
    let (cli, witness) = (up.cli(), up.witness("backfill"));
    let job = "ops/minutely";
    let text = every(job, 1, &witness.line(), &["overlap: allow", "startingDeadline: 30s"])
        .replace("schedule: {every: 1s, start: \"2020-01-01T00:00:00Z\"}", "schedule: {cron: \"* * * * *\"}");
    cli.apply(&text).await?;
    let from_ms = (now_ms() - 86_400_000).div_euclid(MINUTE_MS) * MINUTE_MS;
    let (from, to) = (instant(from_ms), instant(from_ms + TOTAL * MINUTE_MS));
    let range = ["--from", from.as_str(), "--to", to.as_str(), "--max-active", "3", "--name", "yesterday"];
    let dry = cli.ok(&[&["backfill", job, "--dry-run"], range.as_slice()].concat()).await?;
    assert!(dry.contains("would run 60 occurrence(s)"), "{dry}");
    assert!(cli.ok(&["get", "backfills"]).await?.contains("no backfills"));
    let made = cli.ok(&[&["backfill", job], range.as_slice()].concat()).await?;
    assert!(made.contains("backfill ops/yesterday created: 60 occurrence(s)"), "{made}");
    for enough in [5, 20] {
        wait_until(DEADLINE, "some runs have ended", || async {
            let shown = cli.json(&["get", "backfill", "ops/yesterday"]).await?;
            assert!(shown["active"].as_u64().is_some_and(|active| active <= 3), "{shown:#}");
            let some = shown["succeeded"].as_u64().is_some_and(|count| count >= enough);
            Ok(if some { Look::Enough(()) } else { Look::NotYet(format!("{shown:#}")) })
        })
        .await?;
        if enough == 5 {
            up.kill9_ecron()?
        } else {
            up.kill9_everything()?
        }
        up.start_again().await?;
    }
    let watched = cli.ok(&["get", "backfill", "ops/yesterday", "-w"]).await?;
    assert!(watched.trim_end().lines().last().is_some_and(|line| line.contains("60/60 done")), "{watched}");
    let done = cli.json(&["get", "backfill", "ops/yesterday"]).await?;
    let count = |field: &str| done[field].as_i64().unwrap_or(-1);
    assert_eq!((count("total"), count("succeeded"), count("failed")), (TOTAL, TOTAL, 0), "{done:#}");
    let begun: BTreeSet<i64> = witness
        .begun()?
        .iter()
        .map(|begun| begun.due_ms)
        .filter(|due| *due < from_ms + TOTAL * MINUTE_MS)
        .collect();
    assert_eq!(begun, (0..TOTAL).map(|minute| from_ms + minute * MINUTE_MS).collect());
    let refused = cli.run(&["cancel", "backfill", "ops/yesterday"]).await?;
    assert!(refused.code == Some(2) && refused.stderr.contains("it is done"), "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn a_simulation_needs_no_server() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let cli = Cli::offline(folder.path());
    let schedule = "schedule: {cron: \"*/10 * * * *\", exclude: [\"2026-12-25\"]}";
    let text = payload("sim/job", schedule, &["overlap: skip", "payload: {}"]);
    let args = [
        "simulate",
        "-f",
        "-",
        "--from",
        "2026-12-24T23:30:00Z",
        "--to",
        "2026-12-25T00:10:00Z",
        "--duration",
        "15m",
    ];
    let table = cli.run_with(&args, &text).await?.ok()?;
    assert_eq!(table.lines().count(), 5, "{table}");
    for part in ["run", "overlap is skip", "excluded", "ends 2026-12-24T23:45:00Z"] {
        assert!(table.contains(part), "{part} is missing in\n{table}");
    }
    let lines: Value =
        serde_json::from_str(&cli.run_with(&[&args[..], &["-o", "json"]].concat(), &text).await?.ok()?)?;
    let fates: Vec<&str> =
        lines.as_array().into_iter().flatten().filter_map(|line| line["fate"].as_str()).collect();
    assert_eq!(fates, ["run", "skip", "run", "excluded"]);
    let wrong = cli.run_with(&args, &text.replace("*/10", "*/0")).await?;
    assert!(wrong.code == Some(2) && wrong.stderr.contains("spec.schedule.cron"), "{wrong:?}");
    Ok(())
}
