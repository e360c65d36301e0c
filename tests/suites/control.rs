//! What an operator does to jobs, over the memory twins on a clock that jumps: pausing and resuming.

#![expect(clippy::expect_used, reason = "a name that a test makes up is a name")]

use anyhow::{Result, ensure};
use harness::world::World;
use model::name::JobId;
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

/// The due instants of a job's runs that its history says were skipped.
async fn skipped(world: &World, name: &str) -> Result<Vec<String>> {
    let runs = world.ask("runs", json!({"job": format!("default/{name}"), "limit": 1000})).await?;
    let runs = runs["runs"].as_array().cloned().unwrap_or_default();
    let mut dues: Vec<String> = runs
        .iter()
        .filter(|run| run["state"] == "skipped")
        .map(|run| run["dueAt"].as_str().unwrap_or_default().to_owned())
        .collect();
    dues.sort();
    Ok(dues)
}

async fn occurrences(
    world: &World,
    name: &str,
    since: Timestamp,
    until: Timestamp,
) -> Result<Vec<Timestamp>> {
    let schedule = world.declared(&job(name)).await?.schedule;
    let mut dues = Vec::new();
    let mut after = since;
    while let Some(due) = schedule.next_after(after).filter(|due| *due <= until) {
        dues.push(due);
        after = due;
    }
    Ok(dues)
}

/// Pauses for a while (a few seconds, or longer than the horizon of the plan), resumes, and compares.
async fn paused_and_resumed(policy: &str, pause_s: u32, of_namespace: bool) -> Result<()> {
    let mut world = World::begin()?;
    world.start();
    let (_, since) = world.apply(every("tick", 10, policy)).await?;
    world.apply(every("other", 10, "none")).await?;
    let target = if of_namespace { json!({"namespace": "default"}) } else { json!({"job": "default/tick"}) };
    world.run(123).await?;
    let paused_at = world.clock.now();
    world.ask("pause", target.clone()).await?;
    world.run(pause_s).await?;
    let during = world.started_dues(&job("tick"));
    ensure!(during.iter().all(|due| *due <= paused_at), "{policy}: it ran while paused: {during:?}");
    let resumed_at = world.clock.now();
    world.ask("resume", target).await?;
    world.run(60).await?;

    let all = occurrences(&world, "tick", since, world.clock.now()).await?;
    let missed: Vec<_> = all.iter().copied().filter(|due| *due > paused_at && *due <= resumed_at).collect();
    ensure!(missed.len() as u32 >= pause_s / 10, "only {} were missed", missed.len());
    let caught_up = match policy {
        "none" => 0,
        "latest" => 1,
        _ => missed.len(),
    };
    let left_out = &missed[..missed.len() - caught_up];
    let expected: Vec<_> = all.iter().copied().filter(|due| !left_out.contains(due)).collect();
    assert_eq!(world.started_dues(&job("tick")), expected, "{policy} {pause_s} s");
    let recorded: Vec<_> = left_out.iter().rev().take(1000).rev().map(ToString::to_string).collect();
    assert_eq!(skipped(&world, "tick").await?, recorded, "{policy} {pause_s} s");
    if !of_namespace {
        assert_eq!(
            world.started_dues(&job("other")).len(),
            occurrences(&world, "other", since, world.clock.now()).await?.len(),
            "another job doesn't notice"
        );
    }
    assert_eq!(world.doubled().len(), 0);
    Ok(())
}

#[tokio::test]
async fn a_resumed_job_is_caught_up_by_its_policy() -> Result<()> {
    for policy in ["none", "latest", "all"] {
        for pause_s in [12, 75, 4_000] {
            paused_and_resumed(policy, pause_s, false).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_resumed_namespace_is_caught_up_by_each_jobs_policy() -> Result<()> {
    for policy in ["none", "latest", "all"] {
        paused_and_resumed(policy, 75, true).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_pause_survives_crashes_edits_and_a_wipe() -> Result<()> {
    use bus::Checkpoints;
    let mut world = World::begin()?;
    world.start();
    let (_, since) = world.apply(every("tick", 10, "all")).await?;
    world.run(60).await?;
    let paused_at = world.clock.now();
    world.ask("pause", json!({"job": "default/tick"})).await?;
    world.run(30).await?;
    world.crash();
    world.run(45).await?;
    world.start();
    world.run(20).await?;
    let checkpoint = async |world: &World| {
        let until = world.clock.now();
        let all = model::shard::ShardCount::new(4).expect("four shards").all();
        world.bus.save_checkpoint("node", &all.map(|shard| (shard, until)).collect()).await
    };
    checkpoint(&world).await?;
    world.store.wipe();
    world.run(20).await?;
    let mut edited = every("tick", 10, "all");
    edited["spec"]["timeout"] = json!("1m");
    edited["spec"]["suspend"] = json!(true);
    world.apply(edited).await?;
    world.run(20).await?;
    assert!(world.started_dues(&job("tick")).iter().all(|due| *due <= paused_at), "it stays paused");
    // Resumed, and Redis is lost before anything was dispatched.
    checkpoint(&world).await?;
    world.ask("resume", json!({"job": "default/tick"})).await?;
    world.store.wipe();
    world.run(60).await?;
    let all = occurrences(&world, "tick", since, world.clock.now()).await?;
    assert_eq!(world.started_dues(&job("tick")), all);
    assert_eq!(world.doubled().len(), 0);
    Ok(())
}

#[tokio::test]
async fn a_job_that_joins_a_paused_namespace_is_paused() -> Result<()> {
    let mut world = World::begin()?;
    world.start();
    let apply = |manifest: serde_json::Value| json!({"manifests": [manifest]});
    world.ask("apply", apply(every("before", 10, "none"))).await?;
    world.run(30).await?;
    let reply = world.ask("pause", json!({"namespace": "default", "by": "ada@host"})).await?;
    assert_eq!(reply["objects"][0]["updated"].as_array().map(Vec::len), Some(1), "{reply}");
    world.ask("apply", apply(every("after", 10, "none"))).await?;
    let ran = world.started.len();
    world.run(60).await?;
    assert_eq!(world.started.len(), ran);
    let status = world.ask("get", json!({"job": "default/after"})).await?["status"].clone();
    assert_eq!((&status["suspended"], &status["namespacePaused"]), (&json!(true), &json!(true)), "{status}");
    // Work that somebody asks for runs all the same.
    world.ask("trigger", json!({"job": "default/after"})).await?;
    world.run(3).await?;
    assert_eq!(world.started.len(), ran + 1);
    world.ask("resume", json!({"namespace": "default"})).await?;
    world.run(30).await?;
    assert_eq!(world.started.len(), ran + 1 + 6);
    let again = world.ask("resume", json!({"namespace": "default"})).await?;
    assert_eq!(again["objects"][0]["action"], "unchanged");
    Ok(())
}
