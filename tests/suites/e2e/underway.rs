//! Runs under way as their users see them: progress, logs, deadlines; and work that is submitted, once or not.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use harness::cli::Cli;
use harness::process::Process;
use harness::up::{Slot, Up};
use harness::wait::{seen, wait_until};
use rustix::process::Signal;

use crate::jobs::triggered;

static UP: Slot = Slot::new();

async fn up() -> anyhow::Result<Arc<Up>> {
    Up::shared(&UP).await
}

const DEADLINE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_long_run_shows_since_when_it_runs_and_what_it_prints() -> anyhow::Result<()> {
    let up = up().await?;
    let cli = up.cli();
    let go_on = up.folder().join("go-on");
    let shell = format!(
        "echo reading\necho careful >&2\nwhile ! test -e '{}'; do sleep 0.1; done\necho done",
        go_on.display()
    );
    cli.apply(&triggered("underway/long", &shell, &[])).await?;
    let run = cli.json(&["trigger", "underway/long"]).await?;
    let run = run["run"].as_str().unwrap_or_default();
    wait_until(DEADLINE, "the run is seen to be under way", || async {
        let view = cli.json(&["get", "run", run]).await.unwrap_or_default();
        seen(view["state"] == "dispatched" && view["running"]["since"].is_string(), format!("{view:#}"))
    })
    .await?;
    assert!(cli.ok(&["get", "run", run]).await?.contains("Running:"));
    wait_until(DEADLINE, "its first lines are there", || async {
        let log = cli.ok(&["logs", run]).await.unwrap_or_default();
        seen(log.contains("reading") && log.contains("careful") && !log.contains("done"), log)
    })
    .await?;
    let following = cli.clone();
    let followed = run.to_owned();
    let follower = tokio::spawn(async move { following.ok(&["logs", &followed, "-f"]).await });
    std::fs::write(&go_on, "")?;
    let log = follower.await??;
    assert!(log.contains("reading\n") && log.ends_with("done\n"), "{log}");
    wait_until(DEADLINE, "the run has ended", || async {
        let view = cli.json(&["get", "run", run]).await.unwrap_or_default();
        seen(view["state"] == "succeeded" && view["running"].is_null(), format!("{view:#}"))
    })
    .await?;
    Ok(())
}

/// Triggers a job of a paused queue until a run of it waits: a pause takes effect within a second.
async fn held_back(cli: &Cli, job: &str) -> anyhow::Result<String> {
    loop {
        let run = cli.json(&["trigger", job]).await?["run"].as_str().unwrap_or_default().to_owned();
        let view = wait_until(DEADLINE, "the run has a state", || async {
            let view = cli.json(&["get", "run", &run]).await?;
            seen(view["waitsFor"] != "dispatch", view)
        })
        .await?;
        if view["waitsFor"] == "queue" {
            return Ok(run);
        }
        cli.ok(&["cancel", &run, "--wait"]).await?;
    }
}

#[tokio::test]
async fn a_watch_shows_a_run_going_through_its_states() -> anyhow::Result<()> {
    let up = up().await?;
    let cli = up.cli();
    let job = "underway/watched";
    let go_on = up.folder().join("watched-goes-on");
    let shell = format!("while ! test -e '{}'; do sleep 0.1; done", go_on.display());
    cli.apply("apiVersion: ecron/v1\nkind: Queue\nmetadata: {name: watched, namespace: underway}\nspec: {concurrency: 4}\n")
        .await?;
    cli.apply(&triggered(job, &shell, &["queue: watched"])).await?;
    cli.ok(&["pause", "queue", "underway/watched"]).await?;
    let mut watch = Process::spawn(cli.command(&["get", "runs", job, "-w"])?, "watch", up.folder())?;
    let mut follow = None;
    watch.says("DUE ", 1, DEADLINE).await?;
    let run = held_back(&cli, job).await?;
    let (_, due) = run.split_once('@').context("an instant")?;
    for state in ["waiting", "dispatched", "succeeded"] {
        let line = format!("{due:<24}  {job:<36}  {state}");
        watch.says(&line, 1, DEADLINE).await?;
        match state {
            "waiting" => {
                cli.ok(&["resume", "queue", "underway/watched"]).await?;
            }
            "dispatched" => {
                follow = Some(Process::spawn(cli.command(&["logs", &run, "-f"])?, "follow", up.folder())?);
                std::fs::write(&go_on, "")?;
            }
            _ => {}
        }
    }
    watch.signal(Signal::INT)?;
    assert_eq!(watch.ended(DEADLINE).await?.code(), Some(0), "{}", watch.log());
    let mut follow = follow.context("a follower")?;
    assert_eq!(follow.ended(DEADLINE).await?.code(), Some(0), "{}", follow.log());
    // Once more for one that is interrupted while it follows.
    std::fs::remove_file(&go_on)?;
    let run = cli.json(&["trigger", job]).await?["run"].as_str().unwrap_or_default().to_owned();
    let mut follow = Process::spawn(cli.command(&["logs", &run, "-f"])?, "follow-on", up.folder())?;
    wait_until(DEADLINE, "it listens for signals", || async {
        let status = std::fs::read_to_string(format!("/proc/{}/status", follow.pid()))?;
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
        seen(caught & 2 != 0, status)
    })
    .await?;
    follow.signal(Signal::INT)?;
    assert_eq!(follow.ended(DEADLINE).await?.code(), Some(0), "{}", follow.log());
    std::fs::write(&go_on, "")?;
    Ok(())
}

#[tokio::test]
async fn a_run_ends_at_its_deadline_however_many_attempts_it_has_left() -> anyhow::Result<()> {
    let up = up().await?;
    let cli = up.cli();
    let rules = ["deadline: 3s", "retry: {attempts: 10, initial: 1s, factor: 1, jitter: 0}"];
    cli.apply(&triggered("underway/slow", "sleep 60", &rules)).await?;
    cli.apply(&triggered("underway/broken", "exit 1", &rules)).await?;
    cli.apply(&triggered("underway/hopeless", "exit 64", &rules)).await?;
    let end = async |job: &str| {
        let answer = cli.run(&["trigger", job, "--wait", "--timeout", "60s", "-o", "json"]).await?;
        anyhow::Ok(serde_json::from_str::<serde_json::Value>(&answer.stdout)?)
    };
    let (slow, broken) = (end("underway/slow").await?, end("underway/broken").await?);
    assert_eq!(
        (slow["state"].as_str(), slow["lastOutcome"].as_str()),
        (Some("dead-lettered"), Some("timed-out")),
        "{slow:#}"
    );
    assert_eq!(slow["attempts"], 1);
    assert_eq!(
        (broken["state"].as_str(), broken["lastOutcome"].as_str()),
        (Some("dead-lettered"), Some("failed")),
        "{broken:#}"
    );
    let attempts = broken["attempts"].as_u64().unwrap_or_default();
    assert!((2..=4).contains(&attempts), "{broken:#}");
    let letters = cli.letters().await?;
    for run in [&slow, &broken] {
        let letter = letters.iter().find(|letter| Some(letter.run.as_str()) == run["run"].as_str());
        assert_eq!(letter.map(|letter| letter.reason.as_str()), Some("deadline exceeded"), "{letters:#?}");
    }
    Ok(())
}

#[tokio::test]
async fn unique_work_is_one_run_until_it_is_done() -> anyhow::Result<()> {
    let up = up().await?;
    let cli = up.cli();
    let submit = async || {
        let words = ["submit", "underway/unserved", "{}", "--key", "order-17", "--unique-until", "done"];
        let reply = cli.json(&words).await?;
        anyhow::Ok((reply["run"].as_str().unwrap_or_default().to_owned(), reply["duplicate"] == true))
    };
    let (run, duplicate) = submit().await?;
    assert!(!duplicate && run.starts_with("underway/unserved~order-17+q"), "{run}");
    assert_eq!(submit().await?, (run.clone(), true));
    // The built-in executor, once it serves that queue, has no handler for payloads: a dead letter.
    let exec = triggered("underway/host", "true", &["queue: unserved"]);
    cli.apply(&exec).await?;
    wait_until(DEADLINE, "the run has a record", || async {
        let answer = cli.run(&["get", "run", &run, "-o", "json"]).await;
        let text = answer.map(|answer| answer.stdout).unwrap_or_default();
        seen(text.contains("dead-lettered"), text)
    })
    .await?;
    wait_until(DEADLINE, "the key is free", || async {
        let reply = submit().await.unwrap_or_default();
        seen(!reply.1 && reply.0 != run && !reply.0.is_empty(), format!("{reply:?}"))
    })
    .await?;
    Ok(())
}
