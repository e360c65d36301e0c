//! Catching up at the job's own pace, over the memory twins on a clock that jumps: after a pause, after a downtime, and as a
//! dry run said before.

#![expect(clippy::expect_used, reason = "a name that a test makes up is a name")]

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use dispatcher::gate::Gates;
use dispatcher::queue_rules::QueueRules;
use dispatcher::settle::Settler;
use harness::world::World;
use model::name::JobId;
use model::shard::ShardCount;
use model::time::Timestamp;
use serde_json::json;

fn every(name: &str, seconds: u64, catch_up: &str) -> serde_json::Value {
    json!({
        "apiVersion": "ecron/v1", "kind": "Job", "metadata": {"name": name},
        "spec": {
            "schedule": {"every": format!("{seconds}s")}, "queue": "work",
            "catchUp": {"policy": catch_up, "max": 10000}, "history": {"succeeded": 1000, "failed": 0, "skipped": 1000},
        },
    })
}

fn job(name: &str) -> JobId {
    format!("default/{name}").parse().expect("a name")
}

/// A job that is due every ten seconds and catches up no faster than one every twelve, two at once.
fn rated(name: &str) -> serde_json::Value {
    let mut rated = every(name, 10, "all");
    rated["spec"]["catchUp"]["rate"] = json!("5/1m burst 2");
    rated
}

/// When each of a job's runs that were due within a time was started, in order.
fn starts(world: &World, name: &str, after: Timestamp, until: Timestamp) -> Vec<Timestamp> {
    let within = |run: &&model::id::RunId| match run {
        model::id::RunId::Occurrence(run) => {
            run.job == job(name) && after < run.due_at && run.due_at <= until
        }
        model::id::RunId::AdHoc { .. } => false,
    };
    let started = world.started.iter().filter(|(run, _)| within(run));
    let mut starts: Vec<Timestamp> = started.flat_map(|(_, starts)| starts.clone()).collect();
    starts.sort_unstable();
    starts
}

/// What waits for its turn in a catch-up: due instants, and what is said of them.
async fn held_back(world: &World, name: &str) -> Result<Vec<(String, String)>> {
    let runs = world.ask("runs", json!({"job": format!("default/{name}"), "limit": 1000})).await?;
    let runs = runs["runs"].as_array().cloned().unwrap_or_default();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let held_back = runs.iter().filter(|run| run["waitsFor"] == "catch-up");
    Ok(held_back.map(|run| (text(&run["dueAt"]), text(&run["reason"]))).collect())
}

/// How far apart they are, in seconds.
fn steps(starts: &[Timestamp]) -> Vec<i64> {
    starts.windows(2).map(|pair| pair[1].ms_since(pair[0]) / 1_000).collect()
}

#[tokio::test]
async fn a_preview_says_what_a_resume_starts() -> Result<()> {
    let mut world = World::begin()?;
    world.start();
    for (name, policy) in [("all", "all"), ("latest", "latest"), ("none", "none")] {
        world.apply(every(name, 10, policy)).await?;
    }
    world.run(60).await?;
    let nothing = world.ask("catch-up", json!({})).await?;
    assert_eq!((&nothing["jobs"], &nothing["runs"]), (&json!([]), &json!(0)));
    world.ask("pause", json!({"namespace": "default"})).await?;
    world.run(100).await?;
    let preview = world.ask("catch-up", json!({"namespace": "default"})).await?;
    assert_eq!((&preview["missed"], &preview["runs"]), (&json!(30), &json!(11)), "{preview}");
    assert_eq!(
        (&preview["jobs"][0]["job"], &preview["jobs"][0]["namespacePaused"]),
        (&json!("default/all"), &json!(true))
    );
    let ran = world.started.len();
    world.ask("resume", json!({"namespace": "default"})).await?;
    world.run(5).await?;
    let expected = preview["runs"].as_u64().unwrap_or_default() as usize;
    let between = world.started.len() - ran;
    ensure!((expected..expected + 4).contains(&between), "{between} runs, {expected} were announced");
    // The end of a downtime, the same way.
    world.run(60).await?;
    world.crash();
    world.run(60).await?;
    let down = world.ask("catch-up", json!({"job": "default/all"})).await?;
    ensure!(down["runs"].as_u64().is_some_and(|runs| (5..8).contains(&runs)), "{down}");
    Ok(())
}

#[tokio::test]
async fn a_resumed_job_catches_up_no_faster_than_its_rate() -> Result<()> {
    let mut world = World::begin()?;
    world.start();
    world.apply(rated("tick")).await?;
    world.run(33).await?;
    let paused_at = world.clock.now();
    world.ask("pause", json!({"job": "default/tick"})).await?;
    world.run(100).await?;
    let preview = world.ask("catch-up", json!({"job": "default/tick"})).await?;
    assert_eq!((&preview["runs"], &preview["overMs"]), (&json!(10), &json!(96_000)), "{preview}");
    let resumed_at = world.clock.now();
    world.ask("resume", json!({"job": "default/tick"})).await?;
    world.run(1).await?;
    let held_back = held_back(&world, "tick").await?;
    assert_eq!(held_back.len(), 8, "{held_back:?}");
    for (due, reason) in &held_back {
        let told = world.ask("explain", json!({"job": "default/tick", "at": due})).await?;
        let told = &told["explanations"][0];
        let until = reason.rsplit(' ').next().unwrap_or_default();
        assert_eq!(
            (told["fate"].as_str(), told["code"].as_str()),
            (Some("under-way"), Some("waits-for-catch-up")),
            "{told}"
        );
        ensure!(told["cause"].as_str().is_some_and(|cause| cause.ends_with(until)), "{told} {until}");
        let run = world.ask("run", json!({"run": format!("default/tick@{due}")})).await?;
        assert_eq!((&run["state"], &run["waitsFor"]), (&json!("waiting"), &json!("catch-up")));
    }
    world.run(99).await?;
    let caught_up = starts(&world, "tick", paused_at, resumed_at);
    assert_eq!(steps(&caught_up), [0, 12, 12, 12, 12, 12, 12, 12, 12], "{caught_up:?}");
    let over = caught_up[9].ms_since(caught_up[0]);
    assert_eq!(over, 96_000, "as it was said before");
    // Its own occurrences don't wait behind them.
    let own = starts(&world, "tick", resumed_at, world.clock.now());
    assert_eq!(steps(&own), vec![10; own.len() - 1]);
    assert_eq!(world.doubled().len(), 0);
    Ok(())
}

#[tokio::test]
async fn what_waits_for_its_turn_in_a_catch_up_goes_on_after_another_interruption() -> Result<()> {
    let mut world = World::begin()?;
    world.start();
    world.apply(rated("tick")).await?;
    world.run(33).await?;
    let down_at = world.clock.now();
    world.crash();
    world.run(100).await?;
    let up_at = world.clock.now();
    world.start();
    world.run(30).await?;
    assert_eq!(starts(&world, "tick", down_at, up_at).len(), 4);
    // For longer than all of them would take.
    world.crash();
    world.run(600).await?;
    world.start();
    world.run(110).await?;
    let caught_up = starts(&world, "tick", down_at, up_at);
    assert_eq!(steps(&caught_up)[4..], [12, 12, 12, 12, 12], "{caught_up:?}");
    assert_eq!(world.doubled().len(), 0);
    Ok(())
}

/// A job that is due every ten seconds and catches up no faster than one a second.
fn each_second(name: &str) -> serde_json::Value {
    let mut each_second = every(name, 10, "all");
    each_second["spec"]["catchUp"]["rate"] = json!("1/1s");
    each_second
}

#[tokio::test]
async fn a_stall_that_is_no_interruption_starts_nothing_at_once() -> Result<()> {
    for stalled in [2, 3, 6, 9] {
        for crashes in [false, true] {
            let mut world = World::begin()?;
            world.start();
            world.apply(each_second("tick")).await?;
            world.run(33).await?;
            let down_at = world.clock.now();
            world.crash();
            world.run(150).await?;
            let up_at = world.clock.now();
            world.start();
            world.run(4).await?;
            if crashes {
                // Not for so long that its leases run out: the planner goes on.
                world.crash_dispatcher();
                world.start_dispatcher();
            }
            world.stalled = true;
            world.run(stalled).await?;
            world.stalled = false;
            world.run(30).await?;
            let caught_up = starts(&world, "tick", down_at, up_at);
            assert_eq!(caught_up.len(), 15, "{caught_up:?}");
            let steps = steps(&caught_up);
            ensure!(steps.iter().all(|step| *step > 0), "{stalled} s, crashed: {crashes}: {steps:?}");
            assert_eq!(world.doubled().len(), 0);
        }
    }
    Ok(())
}

#[tokio::test]
async fn catching_up_begins_when_the_outcomes_of_before_are_settled() -> Result<()> {
    let mut world = World::begin()?;
    world.start();
    world.apply(each_second("tick")).await?;
    world.run(33).await?;
    world.unsettled = true;
    world.run(10).await?;
    let down_at = world.clock.now();
    world.crash();
    world.run(100).await?;
    let up_at = world.clock.now();
    world.start();
    let (clock, bus) = (world.clock.clone(), Arc::clone(&world.bus));
    let shards = ShardCount::new(4).expect("four shards");
    let rules = QueueRules::default();
    let settler = Settler::new(Gates::new(Arc::clone(&world.store), bus, clock.clone(), shards, rules));
    let settle_late = async {
        for pause in 0..36 {
            if pause == 30 {
                settler.run_once(Duration::ZERO).await?;
            }
            clock.advance(Duration::from_millis(50));
            tokio::task::yield_now().await;
        }
        Ok::<(), anyhow::Error>(())
    };
    let (stepped, settled) = tokio::join!(world.step(), settle_late);
    stepped?;
    settled?;
    world.unsettled = false;
    world.run(30).await?;
    let caught_up = starts(&world, "tick", down_at, up_at);
    assert_eq!(caught_up.len(), 10, "{caught_up:?}");
    assert_eq!(steps(&caught_up), [1; 9], "{caught_up:?}");
    Ok(())
}
