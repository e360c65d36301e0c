//! Queues with limits, with two dispatchers and four executors, one of which is killed: the limits hold for all of them
//! together.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use harness::bare;
use harness::cli::Cli;
use harness::roles::Ground;
use harness::up::Up;
use harness::wait::{seen, wait_until};
use harness::witness::now_ms;
use model::time::Timestamp;
use serde_json::Value;

use crate::jobs::triggered;

const CONCURRENCY: i64 = 3;
/// Starts in a second, and at once. Less than there is to do, so that no token is left over.
const RATE: i64 = 3;
const BURST: i64 = 2;
/// Starts in a second with one key, one at a time.
const KEY_RATE: i64 = 1;
/// Runs of one job that may be under way at once.
const MAX_ACTIVE: i64 = 2;
/// The queues of the load; the last has no limit, its jobs have.
const QUEUES: [&str; 4] = ["limited", "paced", "keyed", "own"];
const QUEUES_SERVED: [&str; 4] = ["load/limited", "load/paced", "load/keyed", "load/own"];
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
fn jobs(queue: &str, file: &Path, seconds: &str, more: impl Fn(usize) -> String) -> String {
    let shell = |what: &str| {
        format!("echo \"$ECRON_RUN_ID $ECRON_ATTEMPT {what} $(date +%s%3N)\" >> '{}'", file.display())
    };
    let job = |n: usize| {
        format!(
            "---\napiVersion: ecron/v1\nkind: Job\nmetadata: {{name: {queue}-{n}, namespace: load}}\nspec:\n  \
             schedule: {{every: 2s}}\n  queue: {queue}\n  history: {{succeeded: 1000}}\n{}  exec:\n    shell: |\n      {}\n      sleep {seconds}\n      {}\n",
            more(n),
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

/// By how many starts there were at any instant more than a bucket of so many tokens had let go by then, that fills at a
/// rate. It is full when the first run is due. A run starts some time after it was let go, later on a busy machine, so
/// starts can come closer together than that; but never before it.
fn rate_excess(starts: &[i64], first_due: i64, burst: i64, rate: i64) -> i64 {
    let excess = |(count, start): (i64, &i64)| count - (burst + (start - first_due) * rate / 1_000);
    (1..).zip(starts).map(excess).max().unwrap_or(0)
}

#[test]
fn an_excess_is_what_a_bucket_had_not_let_go_by_then() {
    for (starts, excess) in [
        (vec![0, 0, 200, 400], 0),
        (vec![0, 0, 199, 400], 1),
        (vec![0, 0, 0], 1),
        (vec![0, 1_000, 1_000, 1_200], -1),
        (vec![300, 310, 400, 410], 0),
        (vec![0, 5, 10, 15], 2),
    ] {
        assert_eq!(rate_excess(&starts, 0, 2, 5), excess, "{starts:?}");
    }
}

/// The instants that the runs of some of a queue's jobs say of themselves, in order. Of runs that needed one attempt: the
/// start of another one is its executor's end, not the gate's doing.
async fn instants(
    cli: &Cli,
    queue: &str,
    jobs: impl Iterator<Item = usize>,
    which: &str,
) -> anyhow::Result<Vec<i64>> {
    let mut instants = Vec::new();
    for n in jobs {
        let reply = cli.json(&["get", "runs", &format!("load/{queue}-{n}"), "--limit", "1000"]).await?;
        let of_run = |run: &Value| {
            let at = run[which].as_str().filter(|_| run["attempts"] == 1)?;
            Some(at.parse::<Timestamp>().ok()?.as_ms())
        };
        instants.extend(reply["runs"].as_array().into_iter().flatten().filter_map(of_run));
    }
    instants.sort_unstable();
    Ok(instants)
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
    let queue = |name: &str, spec: &str| {
        format!(
            "---\napiVersion: ecron/v1\nkind: Queue\nmetadata: {{name: {name}, namespace: load}}\nspec: {spec}\n"
        )
    };
    let queues = queue("limited", &format!("{{concurrency: {CONCURRENCY}}}"))
        + &queue("paced", &format!("{{rate: {RATE}/1s burst {BURST}}}"))
        + &queue("keyed", &format!("{{keyRate: {KEY_RATE}/1s}}"));
    cli.apply(&queues).await?;
    let mut executors = Vec::new();
    for n in 0..4 {
        let mut args = vec!["executor", "--allow-exec", "--concurrency", "6"];
        for queue in &QUEUES_SERVED {
            args.extend(["--queue", queue]);
        }
        executors.push(ground.role(&format!("executor-{n}"), &args).await?);
    }
    let [limited, paced, keyed, own] = QUEUES.map(|queue| ground.folder().join(queue));
    cli.apply(&jobs("limited", &limited, "0.4", |_| String::new())).await?;
    cli.apply(&jobs("paced", &paced, "0.1", |_| String::new())).await?;
    let key = |n: usize| format!("  rateKey: {}\n", ["even", "odd"][n % 2]);
    cli.apply(&jobs("keyed", &keyed, "0.1", key)).await?;
    // Each longer than its interval, and beside one another as far as the job allows.
    cli.apply(&jobs("own", &own, "2.5", |_| format!("  maxActive: {MAX_ACTIVE}\n"))).await?;
    tokio::time::sleep(Duration::from_secs(6)).await;
    let mut victim = executors.remove(0);
    victim.kill9()?;
    let killed_ms = now_ms();
    tokio::time::sleep(LOAD_TIME).await;
    let gates = cli.json(&["inspect", "gates"]).await?;
    // As the executors noted it: a shell's own clock would tell how busy this machine is, too.
    let starts = instants(&cli, "paced", 0..8, "startedAt").await?;
    let of_key = async |first: usize, which| instants(&cli, "keyed", (first..8).step_by(2), which).await;
    let (even, odd) = (of_key(0, "startedAt").await?, of_key(1, "startedAt").await?);
    let dues =
        [instants(&cli, "paced", 0..8, "dueAt").await?, of_key(0, "dueAt").await?, of_key(1, "dueAt").await?];
    let [first_paced, first_even, first_odd] = dues.map(|dues| dues.first().copied().unwrap_or(i64::MAX));
    for queue in QUEUES {
        for n in 0..8 {
            cli.ok(&["delete", &format!("load/{queue}-{n}")]).await?;
        }
    }
    wait_until(DEADLINE, "nothing is under way", || async {
        let gates = cli.json(&["inspect", "gates"]).await?;
        let idle = gates.as_array().is_some_and(|gates| gates.iter().all(|gate| gate["underWay"] == 0));
        seen(idle, gates)
    })
    .await?;

    let attempts_of = attempts(&limited);
    let at_once = most_at_once(&attempts_of, killed_ms);
    let runs: BTreeSet<&str> = attempts_of.iter().map(|attempt| attempt.run.as_str()).collect();
    let again = attempts_of.iter().filter(|attempt| attempt.number > 1).count();
    let own = attempts(&own);
    let most_of_one = (0..8).map(|n| {
        let job = format!("load/own-{n}@");
        let of_job: Vec<Attempt> =
            own.iter().filter(|attempt| attempt.run.starts_with(&job)).cloned().collect();
        most_at_once(&of_job, killed_ms)
    });
    let most_of_one: Vec<i64> = most_of_one.collect();
    let excesses = [
        rate_excess(&starts, first_paced, BURST, RATE),
        rate_excess(&even, first_even, 1, KEY_RATE),
        rate_excess(&odd, first_odd, 1, KEY_RATE),
    ];
    println!(
        "limited: {} runs, {again} carried out again, at most {at_once} of {CONCURRENCY} at once; own: at most {most_of_one:?} \
         of {MAX_ACTIVE} each; paced: {} starts, at most {} in a second; keyed: {} and {} starts; excesses {excesses:?}; \
         then {gates}",
        runs.len(),
        starts.len(),
        densest(&starts),
        even.len(),
        odd.len(),
    );
    assert_eq!(at_once, CONCURRENCY, "reached, and not exceeded: {attempts_of:#?}");
    assert!(most_of_one.iter().all(|most| *most == MAX_ACTIVE), "reached, and not exceeded: {most_of_one:?}");
    assert!(excesses.iter().all(|excess| *excess <= 0), "{excesses:?}");
    assert!(runs.len() >= 100 && starts.len() >= 100, "{} and {} runs", runs.len(), starts.len());
    assert!(even.len() >= 40 && odd.len() >= 40, "{} and {} starts", even.len(), odd.len());
    Ok(())
}

/// Triggers runs of each of these jobs, all of which wait at the gate of a paused queue that lets one at a time through,
/// resumes it, and answers with the jobs in the order of their starts.
async fn turns(up: &Up, queue: &str, waiting: &[(&str, usize)], turns: usize) -> anyhow::Result<Vec<String>> {
    let (cli, file) = (up.cli(), up.folder().join("turns"));
    let all: usize = waiting.iter().map(|(_, runs)| runs).sum();
    for (job, runs) in waiting {
        bare::trigger(&up.nats_url(), job, *runs).await?;
    }
    wait_until(DEADLINE, "all wait at the gate", || async {
        let gates = cli.json(&["inspect", "gates"]).await?;
        let gate = gates.as_array().into_iter().flatten().find(|gate| gate["queue"] == queue).cloned();
        seen(gate.as_ref().is_some_and(|gate| gate["waiting"] == all), gate)
    })
    .await?;
    cli.ok(&["resume", "queue", queue]).await?;
    wait_until(DEADLINE, &format!("{turns} have started"), || async {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let started: Vec<String> = text.lines().take(turns).map(str::to_owned).collect();
        seen(started.len() == turns, started)
    })
    .await
}

fn counted(turns: &[String], of: &str) -> usize {
    turns.iter().filter(|turn| *turn == of).count()
}

#[tokio::test]
async fn no_priority_starves() -> anyhow::Result<()> {
    let up = Up::start().await?;
    let file = up.folder().join("turns");
    let queue = "---\napiVersion: ecron/v1\nkind: Queue\nmetadata: {name: narrow, namespace: fair}\nspec: {concurrency: 1, paused: true}\n";
    let jobs = ["high", "normal", "low"].map(|priority| {
        let shell = format!("echo {priority} >> '{}'", file.display());
        triggered(&format!("fair/{priority}"), &shell, &["queue: narrow", &format!("priority: {priority}")])
    });
    up.cli().apply(&(queue.to_owned() + &jobs.concat())).await?;
    // Two rounds of 21 turns, with more waiting in each line than it can get.
    let waiting = [("fair/high", 40), ("fair/normal", 12), ("fair/low", 6)];
    let turns = turns(&up, "fair/narrow", &waiting, 42).await?;
    let counts = ["high", "normal", "low"].map(|priority| counted(&turns, priority));
    assert_eq!(counts, [32, 8, 2], "{turns:?}");
    Ok(())
}

#[tokio::test]
async fn no_namespace_starves() -> anyhow::Result<()> {
    let up = Up::start().await?;
    let file = up.folder().join("turns");
    let queue = "---\napiVersion: ecron/v1\nkind: Queue\nmetadata: {name: narrow, namespace: fair}\n\
                 spec: {concurrency: 1, paused: true, shares: {large: 3}, from: [\"*\"]}\n";
    let jobs = ["large", "small", "other"].map(|namespace| {
        let shell = format!("echo {namespace} >> '{}'", file.display());
        triggered(&format!("{namespace}/job"), &shell, &["queue: fair/narrow"])
    });
    up.cli().apply(&(queue.to_owned() + &jobs.concat())).await?;
    // Who asks for very much gets no more than its share while others wait, whatever was due first.
    let waiting = [("large/job", 60), ("small/job", 20), ("other/job", 12)];
    let turns = turns(&up, "fair/narrow", &waiting, 40).await?;
    let counts = ["large", "small", "other"].map(|namespace| counted(&turns, namespace));
    assert_eq!(counts, [24, 8, 8], "{turns:?}");
    Ok(())
}
