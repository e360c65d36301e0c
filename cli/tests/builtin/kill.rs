//! An executor that is killed: nothing that it started goes on.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use bus::order::WorkKind;
use serde_json::json;

use crate::bench::{Bench, order};
use crate::commands::{alive, until_gone};

const FOLDER: &str = "ECRON_TEST_FOLDER";
/// Its own process and its background one, and one that takes no signals.
const LINE: &str =
    "sleep 1000 & echo $$ $! > pids.new; trap '' TERM HUP INT; mv pids.new pids; wait; sleep 1000";

/// Not a test: the executor that the test below kills, in a process of its own.
#[tokio::test]
#[ignore = "started by the test below"]
async fn an_executor_to_be_killed() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let spec = json!({"shell": LINE, "workingDir": folder});
    Bench::new(true).carry_out(order(WorkKind::Exec), &spec).await;
}

#[tokio::test]
async fn commands_end_with_an_executor_that_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut executor = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::an_executor_to_be_killed", "--ignored"])
        .env(FOLDER, folder.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pids = pids(folder.path().join("pids")).await;
    assert_eq!(pids.len(), 2);
    assert!(pids.iter().all(|pid| alive(pid)));
    executor.kill().unwrap();
    executor.wait().unwrap();
    for pid in &pids {
        until_gone(pid).await;
    }
}

async fn pids(file: PathBuf) -> Vec<String> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        if let Ok(text) = std::fs::read_to_string(&file) {
            return text.split_whitespace().map(str::to_owned).collect();
        }
        assert!(tokio::time::Instant::now() < deadline, "the command hasn't started");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn a_child_whose_parent_is_gone_runs_nothing() {
    let child =
        |args: &[&str]| Command::new(crate::bench::ecron()).arg("__child").args(args).output().unwrap();
    let refused = child(&["--parent", "1", "--", "echo", "must not be seen"]);
    assert_eq!((refused.status.code(), refused.stdout.len()), (Some(125), 0));
    assert_eq!(child(&["echo"]).status.code(), Some(125));
    assert_eq!(String::from_utf8_lossy(&child(&["--", "echo", "a server"]).stdout), "a server\n");
    let ours = std::process::id().to_string();
    let run = child(&["--parent", &ours, "--", "echo", "--", "seen"]);
    assert_eq!(String::from_utf8_lossy(&run.stdout), "-- seen\n");
}
