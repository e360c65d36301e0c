//! Runs that are stopped: by a newer one, by hand, before they are due; handlers that don't want to; and jobs that follow
//! their own ends, which a stopped run must not break.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use harness::cli::{Cli, Run};
use harness::up::{Slot, Up};
use harness::wait::{seen, wait_until};
use harness::witness::{instant, now_ms};
use model::time::Timestamp;
use serde_json::Value;

use crate::jobs::{REMEMBER_ALL, every, payload, triggered};

static UP: Slot = Slot::new();

async fn up() -> anyhow::Result<Arc<Up>> {
    Up::shared(&UP).await
}

const DEADLINE: Duration = Duration::from_secs(60);
/// What an executor or a dispatcher that waits for a handler's own end would take at least.
const AT_ONCE: Duration = Duration::from_secs(5);

/// A line of shell that notes the run and its process, and then whatever follows.
fn noted(file: &Path, then: &str) -> String {
    format!("echo \"$ECRON_RUN_ID $$\" >> '{}'\n{then}", file.display())
}

/// Runs and processes in the order in which they began.
async fn begun(file: &Path, count: usize) -> anyhow::Result<Vec<(String, u32)>> {
    wait_until(DEADLINE, &format!("{count} run(s) have begun"), || async {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let begun: Vec<(String, u32)> = text
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter_map(|(run, pid)| Some((run.to_owned(), pid.parse().ok()?)))
            .collect();
        seen(begun.len() >= count, begun)
    })
    .await
}

/// Waits until a process is gone (or waits to be reaped).
async fn gone(pid: u32) -> anyhow::Result<()> {
    wait_until(DEADLINE, &format!("process {pid} is gone"), || async {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        seen(state.is_none_or(|state| state == 'Z'), state)
    })
    .await
    .map(drop)
}

async fn run(cli: &Cli, run: &str) -> anyhow::Result<Value> {
    cli.json(&["get", "run", run]).await
}

async fn has_state(cli: &Cli, id: &str, state: &str) -> anyhow::Result<Value> {
    wait_until(DEADLINE, &format!("{id} is {state}"), || async {
        let view = run(cli, id).await.unwrap_or_default();
        seen(view["state"] == state, view)
    })
    .await
}

fn file(up: &Up, name: &str) -> PathBuf {
    up.folder().join(name)
}

#[tokio::test]
async fn a_newer_run_replaces_the_one_under_way() -> anyhow::Result<()> {
    let up = up().await?;
    let (cli, noted_in) = (up.cli(), file(&up, "replaced"));
    let job = "cancel/replace";
    let shell = noted(&noted_in, "exec sleep 1000");
    cli.apply(&triggered(job, &shell, &["overlap: replace", REMEMBER_ALL])).await?;
    cli.ok(&["trigger", job]).await?;
    let (first, first_pid) = begun(&noted_in, 1).await?.remove(0);
    cli.ok(&["trigger", job]).await?;
    let both = begun(&noted_in, 2).await?;
    gone(first_pid).await?;
    let replaced = has_state(&cli, &first, "cancelled").await?;
    assert_eq!(replaced["cancel"]["by"], "(overlap: replace)", "{replaced:#}");
    let (second, second_pid) = &both[1];
    let view = run(&cli, second).await?;
    assert_eq!(view["state"], "dispatched", "{view:#}");
    // One at a time: the second began once the first had been told, and was gone.
    let ended: Timestamp = replaced["endedAt"].as_str().context("its end")?.parse()?;
    let since: Timestamp = view["publishedAt"].as_str().context("when it was published")?.parse()?;
    assert!(ended <= since, "{ended} {since}");
    cli.ok(&["cancel", second, "--wait"]).await?;
    gone(*second_pid).await?;
    Ok(())
}

#[tokio::test]
async fn a_run_under_way_is_stopped_by_hand() -> anyhow::Result<()> {
    let up = up().await?;
    let (mut cli, noted_in) = (up.cli(), file(&up, "stopped"));
    cli.env.push(("ECRON_BY".into(), "ann@desk".into()));
    let job = "cancel/stopped";
    cli.apply(&triggered(job, &noted(&noted_in, "echo reading\nexec sleep 1000"), &[REMEMBER_ALL])).await?;
    cli.ok(&["trigger", job]).await?;
    let (id, pid) = begun(&noted_in, 1).await?.remove(0);
    let clock = ambient::Clock::system();
    let began = clock.monotonic();
    let said = cli.ok(&["cancel", &id, "--reason", "wrong figures", "--wait"]).await?;
    assert!(clock.monotonic() - began < AT_ONCE, "it took {:?}", clock.monotonic() - began);
    let asked = said.lines().find(|line| line.starts_with("Cancelled:")).context("who asked for it")?;
    assert!(asked.ends_with("by ann@desk: wrong figures"), "{said}");
    gone(pid).await?;
    let view = run(&cli, &id).await?;
    assert_eq!(
        (&view["cancel"]["by"], &view["cancel"]["reason"]),
        (&"ann@desk".into(), &"wrong figures".into())
    );
    assert_eq!((&view["lastOutcome"], &view["attempts"]), (&"cancelled".into(), &1.into()), "{view:#}");
    let again = cli.run(&["cancel", &id]).await?;
    assert!(again.code == Some(2) && again.stderr.contains("it has ended already (cancelled)"), "{again:?}");
    let told = cli.ok(&["explain", &id]).await?;
    assert!(told.contains("by ann@desk: wrong figures"), "{told}");
    let stats = cli.json(&["get", "job", job]).await?["status"]["stats"].take();
    assert_eq!(stats["cancelled"], 1, "{stats:#}");
    Ok(())
}

#[tokio::test]
async fn a_handler_that_takes_no_notice_is_killed() -> anyhow::Result<()> {
    let up = up().await?;
    let (cli, noted_in) = (up.cli(), file(&up, "stubborn"));
    let job = "cancel/stubborn";
    let shell = noted(&noted_in, "trap '' TERM INT\nwhile :; do sleep 0.1; done");
    cli.apply(&triggered(job, &shell, &[REMEMBER_ALL])).await?;
    cli.ok(&["trigger", job]).await?;
    let (id, pid) = begun(&noted_in, 1).await?.remove(0);
    let said = cli.ok(&["cancel", &id]).await?;
    assert!(said.contains("is cancelling: its executor is being told"), "{said}");
    gone(pid).await?;
    let view = has_state(&cli, &id, "cancelled").await?;
    assert_eq!(view["lastOutcome"], "cancelled", "its executor reported it: {view:#}");
    Ok(())
}

#[tokio::test]
async fn an_occurrence_that_is_not_due_yet_is_cancelled_and_its_neighbours_run() -> anyhow::Result<()> {
    const EVERY_MS: i64 = 2_000;
    let up = up().await?;
    let (cli, noted_in) = (up.cli(), file(&up, "future"));
    let job = "cancel/future";
    cli.apply(&every(job, 2, &noted(&noted_in, "true"), &[REMEMBER_ALL])).await?;
    let due_ms = (now_ms().div_euclid(EVERY_MS) + 5) * EVERY_MS;
    let [before, cancelled, after] = [-1, 0, 1].map(|n| instant(due_ms + n * EVERY_MS));
    let said = cli.ok(&["cancel", job, "--at", &cancelled, "--reason", "maintenance"]).await?;
    assert_eq!(said.trim_end(), format!("run {job}@{cancelled} is cancelled"));
    let told = cli.ok(&["explain", job, "--at", &cancelled]).await?;
    assert!(told.contains("will not run") && told.contains("maintenance"), "{told}");
    let ran = |due: &str, runs: &[Run]| runs.iter().any(|run| run.due_at == due && run.state == "succeeded");
    cli.wait_for_runs(job, "go on", DEADLINE, |runs| ran(&after, runs) && ran(&before, runs)).await?;
    assert!(!std::fs::read_to_string(&noted_in)?.contains(&cancelled), "it never began");
    assert_eq!(run(&cli, &format!("{job}@{cancelled}")).await?["state"], "cancelled");
    let nobody = cli.run(&["cancel", job, "--at", &instant(due_ms + 77)]).await?;
    assert!(nobody.code == Some(1) && nobody.stderr.contains("doesn't name it"), "{nobody:?}");
    Ok(())
}

#[tokio::test]
async fn a_job_follows_its_own_ends_through_failures_and_cancellations() -> anyhow::Result<()> {
    const DELAY_MS: i64 = 700;
    let up = up().await?;
    let (cli, noted_in) = (up.cli(), file(&up, "follows"));
    let job = "cancel/follows";
    // The second run fails, and the third goes on until it is cancelled.
    let shell = "case $(wc -l < \"$FILE\") in\n2) exit 3 ;;\n3) exec sleep 1000 ;;\nesac\nsleep 0.2";
    let shell = format!("FILE='{}'\n{}", noted_in.display(), noted(&noted_in, shell));
    let mut text =
        payload(job, &format!("schedule: {{after: {DELAY_MS}ms}}"), &["retry: {attempts: 1}", REMEMBER_ALL]);
    text.push_str("  exec:\n    shell: |\n");
    for line in shell.lines() {
        text.push_str(&format!("      {line}\n"));
    }
    cli.apply(&text).await?;
    let (third, _) = begun(&noted_in, 3).await?.remove(2);
    cli.ok(&["cancel", &third, "--wait"]).await?;
    let enough = |runs: &[Run]| runs.iter().filter(|run| run.ended_at.is_some()).count() >= 5;
    let runs = cli.wait_for_runs(job, "are five", DEADLINE, enough).await?;
    cli.ok(&["delete", job]).await?;
    let states: Vec<&str> = runs.iter().map(|run| run.state.as_str()).take(5).collect();
    assert_eq!(states, ["succeeded", "dead-lettered", "cancelled", "succeeded", "succeeded"]);
    for pair in runs[..5].windows(2) {
        let ended: Timestamp = pair[0].ended_at.as_ref().context("an end")?.parse()?;
        let due: Timestamp = pair[1].due_at.parse()?;
        assert_eq!(due.ms_since(ended), DELAY_MS, "from the end of {pair:#?}");
    }
    Ok(())
}
