//! Queues with limits, with two dispatchers and four executors, one of which is killed: the limits hold for all of them
//! together.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use harness::cli::Run;
use harness::roles::Ground;
use harness::wait::{seen, wait_until};
use harness::witness::now_ms;
use model::time::Timestamp;

const CONCURRENCY: i64 = 3;
/// Starts in a second, and at once.
const RATE: i64 = 5;
const BURST: i64 = 2;
/// Longer than a silent executor keeps a run from the others.
const LOAD_TIME: Duration = Duration::from_secs(45);
const DEADLINE: Duration = Duration::from_secs(60);

/// One attempt, as the command itself wrote it down.
#[derive(Clone, Debug)]
struct Attempt {
    run: String,
    number: u32,
    began_ms: i64,
    /// Unknown of one that was killed.
    ended_ms: Option<i64>,
}

fn attempts(file: &Path) -> Vec<Attempt> {
    let mut attempts: BTreeMap<(String, u32), Attempt> = BTreeMap::new();
    for line in std::fs::read_to_string(file).unwrap_or_default().lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [run, number, what, at] = words.as_slice() else { continue };
        let (Ok(number), Ok(at)) = (number.parse(), at.parse::<i64>()) else { continue };
        let key = ((*run).to_owned(), number);
        if *what == "begin" {
            attempts.insert(key, Attempt { run: (*run).to_owned(), number, began_ms: at, ended_ms: None });
        } else if let Some(attempt) = attempts.get_mut(&key) {
            attempt.ended_ms = Some(at);
        }
    }
    let mut attempts: Vec<Attempt> = attempts.into_values().collect();
    attempts.sort_by_key(|attempt| attempt.began_ms);
    attempts
}

/// Eight jobs, every two seconds each, of a queue.
fn jobs(queue: &str, file: &Path, seconds: &str) -> String {
    let shell = |what: &str| {
        format!("echo \"$ECRON_RUN_ID $ECRON_ATTEMPT {what} $(date +%s%3N)\" >> '{}'", file.display())
    };
    let job = |n: usize| {
        format!(
            "---\napiVersion: ecron/v1\nkind: Job\nmetadata: {{name: {queue}-{n}, namespace: load}}\nspec:\n  \
             schedule: {{every: 2s}}\n  queue: {queue}\n  history: {{succeeded: 1000}}\n  exec:\n    shell: |\n      {}\n      sleep {seconds}\n      {}\n",
            shell("begin"),
            shell("end")
        )
    };
    (0..8).map(job).collect()
}

/// The most attempts that were under way at one instant.
fn most_at_once(attempts: &[Attempt], killed_ms: i64) -> i64 {
    let mut changes: Vec<(i64, i64)> = Vec::new();
    for attempt in attempts {
        changes.push((attempt.began_ms, 1));
        changes.push((attempt.ended_ms.unwrap_or(killed_ms.max(attempt.began_ms)), -1));
    }
    // At the same instant an end comes first: it was written before the next one could be let go.
    changes.sort_unstable();
    let mut now = 0;
    changes
        .iter()
        .map(|(_, change)| {
            now += change;
            now
        })
        .max()
        .unwrap_or(0)
}

/// By how many starts the worst of all windows is above `BURST` and what its length allows.
fn rate_excess(starts: &[i64]) -> i64 {
    let mut excess = i64::MIN;
    for (first, begin) in starts.iter().enumerate() {
        for (count, end) in (1..).zip(&starts[first..]) {
            let allowed = BURST + ((end - begin) * RATE + 999) / 1_000;
            excess = excess.max(count - allowed);
        }
    }
    excess
}

fn started_ms(run: &Run) -> Option<i64> {
    Some(run.started_at.as_ref()?.parse::<Timestamp>().ok()?.as_ms())
}

/// The most starts in any second.
fn densest(starts: &[i64]) -> usize {
    let within = |first: usize| starts[first..].iter().take_while(|at| **at - starts[first] < 1_000).count();
    (0..starts.len()).map(within).max().unwrap_or(0)
}

#[tokio::test]
async fn limits_hold_for_four_executors_of_which_one_is_killed() -> anyhow::Result<()> {
    let ground = Ground::start().await?;
    let _planner = ground.role("planner", &["planner", "--shards", "4"]).await?;
    let _one = ground.role("dispatcher-1", &["dispatcher", "--shards", "4"]).await?;
    let _two = ground.role("dispatcher-2", &["dispatcher", "--shards", "4"]).await?;
    let cli = ground.cli();
    let queues = format!(
        "apiVersion: ecron/v1\nkind: Queue\nmetadata: {{name: limited, namespace: load}}\nspec: {{concurrency: {CONCURRENCY}}}\n---\n\
         apiVersion: ecron/v1\nkind: Queue\nmetadata: {{name: paced, namespace: load}}\nspec: {{rate: {RATE}/1s burst {BURST}}}\n"
    );
    cli.apply(&queues).await?;
    let mut executors = Vec::new();
    for n in 0..4 {
        let args = [
            "executor",
            "--allow-exec",
            "--queue",
            "load/limited",
            "--queue",
            "load/paced",
            "--concurrency",
            "6",
        ];
        executors.push(ground.role(&format!("executor-{n}"), &args).await?);
    }
    let (limited, paced) = (ground.folder().join("limited"), ground.folder().join("paced"));
    cli.apply(&jobs("limited", &limited, "0.4")).await?;
    cli.apply(&jobs("paced", &paced, "0.1")).await?;
    tokio::time::sleep(Duration::from_secs(6)).await;
    let mut victim = executors.remove(0);
    victim.kill9()?;
    let killed_ms = now_ms();
    tokio::time::sleep(LOAD_TIME).await;
    let gates = cli.json(&["inspect", "gates"]).await?;
    // As the executors noted it: a shell's own clock would tell how busy this machine is, too.
    let mut starts = Vec::new();
    for n in 0..8 {
        let runs = cli.runs(&format!("load/paced-{n}")).await?;
        starts.extend(runs.iter().filter(|run| run.attempts == 1).filter_map(started_ms));
    }
    starts.sort_unstable();
    for queue in ["limited", "paced"] {
        for n in 0..8 {
            cli.ok(&["delete", &format!("load/{queue}-{n}")]).await?;
        }
    }
    wait_until(DEADLINE, "the gates are empty", || async {
        let gates = cli.json(&["inspect", "gates"]).await?;
        let idle = gates
            .as_array()
            .is_some_and(|gates| gates.iter().all(|gate| gate["underWay"] == 0 && gate["waiting"] == 0));
        seen(idle, gates)
    })
    .await?;

    let attempts_of = attempts(&limited);
    let at_once = most_at_once(&attempts_of, killed_ms);
    let runs: BTreeSet<&str> = attempts_of.iter().map(|attempt| attempt.run.as_str()).collect();
    let again = attempts_of.iter().filter(|attempt| attempt.number > 1).count();
    let again_paced = attempts(&paced).iter().filter(|attempt| attempt.number > 1).count();
    println!(
        "limited: {} runs, {again} carried out again, at most {at_once} of {CONCURRENCY} at once; paced: {} starts, at most {} \
         in a second, excess {} ({again_paced} more carried out again); then {gates}",
        runs.len(),
        starts.len(),
        densest(&starts),
        rate_excess(&starts),
    );
    assert_eq!(at_once, CONCURRENCY, "reached, and not exceeded: {attempts_of:#?}");
    assert!(rate_excess(&starts) <= 0, "{starts:?}");
    assert!(runs.len() >= 100 && starts.len() >= 100, "{} and {} runs", runs.len(), starts.len());
    Ok(())
}
