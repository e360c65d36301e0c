//! Executors that die or leave in the middle of a run.

use std::time::Duration;

use harness::process::Process;
use harness::roles::Ground;
use harness::wait::{seen, wait_until};
use rustix::process::Signal;

use crate::jobs::triggered;

/// How long a silent executor keeps a run from the others, and what may come on top of it on a busy machine.
const TAKEN_OVER_BY: Duration = Duration::from_secs(60);
const DEADLINE: Duration = Duration::from_secs(30);

/// Servers, a planner and a dispatcher; executors are the tests' own.
struct Cluster {
    _planner: Process,
    _dispatcher: Process,
    ground: Ground,
}

impl Cluster {
    async fn start() -> anyhow::Result<Self> {
        let ground = Ground::start().await?;
        let planner = ground.role("planner", &["planner", "--shards", "4"]).await?;
        let dispatcher = ground.role("dispatcher", &["dispatcher", "--shards", "4"]).await?;
        Ok(Self { _planner: planner, _dispatcher: dispatcher, ground })
    }

    async fn executor(&self, name: &str) -> anyhow::Result<Process> {
        self.ground.role(name, &["executor", "--allow-exec"]).await
    }
}

#[tokio::test]
async fn a_run_of_a_killed_executor_is_finished_by_another() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let (cli, witness) = (cluster.ground.cli(), cluster.ground.witness("killed"));
    let child = cluster.ground.folder().join("child.pid");
    // The first attempt would never end; the second does at once.
    let shell = format!(
        "{}\nif test \"$ECRON_ATTEMPT\" = 1; then sleep 600 & echo $! > '{}'; wait; fi",
        witness.line(),
        child.display()
    );
    cli.apply(&triggered("loss/killed", &shell, &["retry: {attempts: 1}"])).await?;
    let mut first = cluster.executor("first").await?;
    cli.json(&["trigger", "loss/killed"]).await?;
    wait_until(DEADLINE, "the first attempt has begun", || async {
        let pid = std::fs::read_to_string(&child).unwrap_or_default();
        seen(pid.ends_with('\n'), pid)
    })
    .await?;
    let _second = cluster.executor("second").await?;
    first.kill9()?;

    // Its command goes with it, and what that has started: nothing runs on that nobody reports.
    let pid = std::fs::read_to_string(&child)?.trim().to_owned();
    wait_until(DEADLINE, "its command is gone", || async {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let gone = state.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with('Z'));
        seen(gone, state)
    })
    .await?;
    let ended = cli.wait_for_runs("loss/killed", "have ended", TAKEN_OVER_BY, |runs| {
        runs.iter().all(|run| run.ended_at.is_some())
    });
    let runs = ended.await?;
    let [run] = runs.as_slice() else { anyhow::bail!("expected one run: {runs:#?}") };
    // A lost attempt counts but doesn't end a run: the policy allows one failure, and there was none.
    assert_eq!((run.state.as_str(), run.attempts), ("succeeded", 2), "{run:#?}");
    let shown = cli.ok(&["get", "run", &run.run]).await?;
    assert!(shown.contains("  1  lost: no report: its executor was lost"), "{shown}");
    let begun = witness.begun()?;
    assert_eq!(begun.iter().map(|begun| begun.attempt).collect::<Vec<_>>(), [1, 2], "{begun:#?}");
    assert_eq!(begun[0].run, begun[1].run);
    assert!(cli.letters().await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn an_executor_that_is_asked_to_end_finishes_its_run_and_takes_no_other() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let (cli, witness) = (cluster.ground.cli(), cluster.ground.witness("drained"));
    let shell = format!("{}\nsleep 4\necho done", witness.line());
    cli.apply(&triggered("loss/drained", &shell, &[])).await?;
    let mut executor = cluster.executor("executor").await?;
    let first = cli.json(&["trigger", "loss/drained"]).await?;
    wait_until(DEADLINE, "the run has begun", || async {
        seen(witness.begun()?.len() == 1, witness.begun()?)
    })
    .await?;
    executor.signal(Signal::TERM)?;
    let second = cli.json(&["trigger", "loss/drained"]).await?;
    assert_eq!(executor.ended(DEADLINE).await?.code(), Some(0), "{}", executor.log());
    let runs = cli.wait_for_runs("loss/drained", "show the first as ended", DEADLINE, |runs| {
        runs.iter().any(|run| run.ended_at.is_some())
    });
    let runs = runs.await?;
    let of =
        |reply: &serde_json::Value| runs.iter().find(|run| Some(run.run.as_str()) == reply["run"].as_str());
    let first =
        of(&first).map(|run| (run.state.as_str(), run.attempts, run.output.as_deref().map(str::trim)));
    assert_eq!(first, Some(("succeeded", 1, Some("done"))), "{runs:#?}");
    assert_eq!(of(&second).map(|run| run.state.as_str()), Some("dispatched"), "{runs:#?}");
    assert_eq!(witness.begun()?.len(), 1);

    // The next executor has it at once: nothing was left in the first one's hands. (It may count as its second attempt:
    // a pull that was under way can bring it to the first one, which puts it back.)
    let _next = cluster.executor("next").await?;
    let all = cli.wait_for_runs("loss/drained", "have all ended", Duration::from_secs(15), |runs| {
        runs.iter().all(|run| run.state == "succeeded")
    });
    all.await?;
    assert_eq!(witness.begun()?.len(), 2, "each began once: {:#?}", witness.begun()?);
    Ok(())
}

#[tokio::test]
async fn an_executor_is_not_needed_for_the_plan_and_work_waits_for_one() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let (cli, witness) = (cluster.ground.cli(), cluster.ground.witness("waiting"));
    cli.apply(&triggered("loss/waiting", &witness.line(), &[])).await?;
    for _ in 0..3 {
        cli.json(&["trigger", "loss/waiting"]).await?;
    }
    let open =
        |runs: &[harness::cli::Run]| runs.len() == 3 && runs.iter().all(|run| run.state == "dispatched");
    cli.wait_for_runs("loss/waiting", "are all dispatched", DEADLINE, open).await?;
    let _executor = cluster.executor("executor").await?;
    let done =
        |runs: &[harness::cli::Run]| runs.iter().all(|run| run.state == "succeeded" && run.attempts == 1);
    cli.wait_for_runs("loss/waiting", "have all succeeded", DEADLINE, done).await?;
    assert_eq!(witness.begun()?.len(), 3);
    Ok(())
}
