//! What an operator does to jobs, over the memory twins on a clock that jumps: pausing and resuming.

#![expect(clippy::expect_used, reason = "a name that a test makes up is a name")]

use anyhow::{Result, ensure};
use harness::world::{INJECTED, World};
use model::name::JobId;
use model::run::RunState;
use model::time::Timestamp;
use serde_json::json;
use store::StoreError;
use store::memory::Fault;

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

/// The runs of a job that were triggered: due at a fraction of a second.
fn triggered(world: &World, name: &str) -> Vec<Timestamp> {
    world.started_dues(&job(name)).into_iter().filter(|due| due.floor(1_000) != *due).collect()
}

#[tokio::test]
async fn a_trigger_brings_its_payload_and_its_key_and_leaves_the_schedule_alone() -> Result<()> {
    let mut world = World::begin()?;
    world.start();
    let mut manifest = every("tick", 10, "none");
    manifest["spec"]["payload"] = json!({"region": "eu"});
    let (_, since) = world.apply(manifest).await?;
    world.run(30).await?;
    let ask = async |world: &World, more: serde_json::Value| -> Result<serde_json::Value> {
        let mut request = json!({"job": "default/tick", "by": "ada@host"});
        for (key, value) in more.as_object().into_iter().flatten() {
            request[key] = value.clone();
        }
        world.ask("trigger", request).await
    };
    let first = ask(&world, json!({"payload": {"region": "us"}, "key": "order-17"})).await?;
    let again = ask(&world, json!({"payload": {"region": "asia"}, "key": "order-17"})).await?;
    assert_eq!((&again["run"], &again["duplicate"]), (&first["run"], &json!(true)), "{first} {again}");
    let plain = ask(&world, json!({})).await?;
    let null = ask(&world, json!({"payload": null})).await?;
    world.run(40).await?;
    for (reply, payload) in [(&first, r#"{"region":"us"}"#), (&plain, r#"{"region":"eu"}"#), (&null, "null")]
    {
        let run = reply["run"].as_str().unwrap_or_default().parse()?;
        let given = world.payloads.get(&run).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        assert_eq!(given.as_deref(), Some(payload), "{reply}");
    }
    assert_eq!(triggered(&world, "tick").len(), 3);
    let mut scheduled = world.started_dues(&job("tick"));
    scheduled.retain(|due| due.floor(1_000) == *due);
    assert_eq!(scheduled, occurrences(&world, "tick", since, world.clock.now()).await?);
    // The same after a run stream was lost: a repair publishes what was asked for.
    world.run(24 * 3600 / 240).await?;
    for bad in [json!({"key": ""}), json!({"key": "a b"})] {
        let refused = ask(&world, bad).await;
        ensure!(refused.is_err_and(|problem| problem.to_string().contains("refused")));
    }
    Ok(())
}

#[tokio::test]
async fn an_edit_between_a_trigger_and_its_dispatch_does_not_concern_it() -> Result<()> {
    for overlap in ["allow", "queue-all"] {
        let mut world = World::begin()?;
        world.start();
        let mut manifest = every("tick", 3_600, "none");
        manifest["spec"]["overlap"] = json!(overlap);
        world.apply(manifest.clone()).await?;
        world.run(5).await?;
        world.ask("trigger", json!({"job": "default/tick"})).await?;
        world.ask("trigger", json!({"job": "default/tick", "payload": 7})).await?;
        manifest["spec"]["schedule"] = json!({"every": "2h"});
        manifest["spec"]["payload"] = json!("new");
        world.apply(manifest).await?;
        world.run(5).await?;
        let given: Vec<&[u8]> = world.payloads.values().map(Vec::as_slice).collect();
        assert_eq!(given, [b"\"new\"".as_slice(), b"7"], "{overlap}");
    }
    Ok(())
}

#[tokio::test]
async fn a_lost_triggered_run_is_published_again_with_its_payload() -> Result<()> {
    let mut world = World::begin()?;
    world.start();
    let mut manifest = every("tick", 3_600, "none");
    manifest["spec"]["queue"] = json!("later");
    world.apply(manifest).await?;
    world.run(5).await?;
    let reply = world.ask("trigger", json!({"job": "default/tick", "payload": [1, 2]})).await?;
    world.run(5).await?;
    world.bus.lose_runs();
    world.run(60).await?;
    use bus::QueueReader;
    use bus::queue::Delivery;
    let queue = "default/later".parse()?;
    let waiting = world.bus.fetch(&queue, 10, std::time::Duration::ZERO).await?;
    ensure!(waiting.len() == 1, "{} messages", waiting.len());
    assert_eq!(waiting[0].order().clone()?.run_id.to_string(), reply["run"].as_str().unwrap_or_default());
    assert_eq!(waiting[0].payload().as_ref(), b"[1,2]");
    Ok(())
}

async fn backfill(world: &World, name: &str) -> Result<serde_json::Value> {
    let mut reply = world.ask("backfills", json!({"backfill": name})).await?;
    Ok(reply["backfills"][0].take())
}

fn hours(from: &str, count: i64) -> Vec<Timestamp> {
    let from: Timestamp = from.parse().expect("an instant");
    (0..count).map(|hour| from.plus_ms(hour * 3_600_000)).collect()
}

const JUNE: &str = "2026-06-01T00:00:00Z";

/// An hourly job with a backfill of 48 hours in June.
async fn with_backfill(more: serde_json::Value) -> Result<World> {
    let mut world = World::begin()?;
    world.start();
    let mut manifest = every("hourly", 3_600, "none");
    manifest["spec"]["schedule"] = json!({"cron": "0 * * * *"});
    manifest["spec"]["history"] = json!({"succeeded": 0, "failed": 0, "skipped": 0});
    manifest["spec"]["startingDeadline"] = json!("1m");
    world.apply(manifest).await?;
    world.run(2).await?;
    let mut request = json!({
        "job": "default/hourly", "from": JUNE, "to": "2026-06-03T00:00:00Z", "name": "june", "maxActive": 4,
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        request[key] = value.clone();
    }
    let reply = world.ask("backfill", request).await?;
    assert_eq!((&reply["backfill"], &reply["total"]), (&json!("default/june"), &json!(48)), "{reply}");
    Ok(world)
}

#[tokio::test]
async fn a_backfill_runs_every_occurrence_once_a_few_at_a_time() -> Result<()> {
    for reverse in [false, true] {
        let mut world = with_backfill(json!({"reverse": reverse, "by": "ada@host"})).await?;
        // The job is paused: a backfill was asked for, and runs all the same.
        world.ask("pause", json!({"job": "default/hourly"})).await?;
        let mut begun = 0;
        while backfill(&world, "default/june").await?["phase"] == "running" {
            world.run(1).await?;
            ensure!(world.started.len() - begun <= 4, "more than four at once");
            begun = world.started.len();
            ensure!(begun <= 48, "too many");
        }
        assert_eq!(world.started_dues(&job("hourly")), hours(JUNE, 48));
        assert_eq!(world.doubled().len(), 0);
        let done = backfill(&world, "default/june").await?;
        assert_eq!(
            (&done["phase"], &done["succeeded"], &done["active"]),
            (&json!("done"), &json!(48), &json!(0))
        );
        assert_eq!((&done["by"], &done["started"]), (&json!("ada@host"), &json!(48)), "{done}");
        let first = world.started.iter().min_by_key(|(_, starts)| starts[0]).map(|(run, _)| run.to_string());
        let expected = if reverse { "2026-06-02T" } else { "2026-06-01T" };
        ensure!(first.as_ref().is_some_and(|run| run.contains(expected)), "{first:?} came first");
    }
    Ok(())
}

#[tokio::test]
async fn a_backfill_survives_crashes_and_wipes_with_exact_counts() -> Result<()> {
    use bus::Checkpoints;
    let mut world = with_backfill(json!({})).await?;
    for round in 0..12 {
        world.run(1).await?;
        match round % 3 {
            0 => {
                world.crash();
                world.run(2).await?;
                world.start();
            }
            1 => {
                let until = world.clock.now();
                let all = model::shard::ShardCount::new(4).expect("four shards").all();
                world.bus.save_checkpoint("node", &all.map(|shard| (shard, until)).collect()).await?;
                world.store.wipe();
            }
            _ => world.bus.forget_ids(),
        }
    }
    world.run(90).await?;
    assert_eq!(world.started_dues(&job("hourly")), hours(JUNE, 48));
    let done = backfill(&world, "default/june").await?;
    assert_eq!(
        (&done["phase"], &done["succeeded"], &done["total"]),
        (&json!("done"), &json!(48), &json!(48)),
        "{done}"
    );
    Ok(())
}

#[tokio::test]
async fn a_backfill_is_paused_resumed_and_cancelled() -> Result<()> {
    let mut world = with_backfill(json!({"maxActive": 1})).await?;
    world.run(10).await?;
    world.ask("pause", json!({"backfill": "default/june"})).await?;
    world.run(5).await?;
    let begun = world.started.len();
    ensure!((2..20).contains(&begun), "{begun} runs");
    world.run(20).await?;
    assert_eq!(world.started.len(), begun, "it is paused");
    let paused = backfill(&world, "default/june").await?;
    assert_eq!((&paused["phase"], &paused["succeeded"]), (&json!("paused"), &json!(begun)), "{paused}");
    world.ask("resume", json!({"backfill": "default/june"})).await?;
    world.run(10).await?;
    ensure!(world.started.len() > begun + 2);
    world.ask("cancel-backfill", json!({"backfill": "default/june"})).await?;
    world.run(5).await?;
    let begun = world.started.len();
    world.run(20).await?;
    let cancelled = backfill(&world, "default/june").await?;
    assert_eq!((world.started.len(), &cancelled["phase"]), (begun, &json!("cancelled")));
    assert_eq!((&cancelled["succeeded"], &cancelled["active"]), (&json!(begun), &json!(0)), "{cancelled}");
    let refused = world.ask("resume", json!({"backfill": "default/june"})).await;
    ensure!(refused.is_err_and(|problem| problem.to_string().contains("it is cancelled")));
    world.ask("delete-object", json!({"kind": "Backfill", "name": "default/june"})).await?;
    Ok(())
}

#[tokio::test]
async fn a_backfill_leaves_out_what_ran_and_ends_with_its_job() -> Result<()> {
    let mut world = World::begin()?;
    world.start();
    world.apply(every("tick", 10, "none")).await?;
    world.run(121).await?;
    let ran = world.started_dues(&job("tick")).len();
    let request = |dry: bool| {
        json!({
            "job": "default/tick", "from": "2026-11-22T06:35:00Z", "to": "2026-11-22T06:47:00Z", "dryRun": dry,
            "maxActive": 20,
        })
    };
    let preview = world.ask("backfill", request(true)).await?;
    assert_eq!(world.ask("backfills", json!({})).await?["backfills"], json!([]), "a dry run makes none");
    let made = world.ask("backfill", request(false)).await?;
    assert_eq!((&preview["total"], &preview["alreadyRan"]), (&made["total"], &made["alreadyRan"]));
    let name = made["backfill"].as_str().unwrap_or_default().to_owned();
    world.run(15).await?;
    let done = backfill(&world, &name).await?;
    assert_eq!(done["phase"], "done", "{done}");
    ensure!(done["alreadyRan"].as_u64().is_some_and(|left_out| left_out as usize >= ran - 1), "{done} {ran}");
    assert_eq!(world.doubled().len(), 0);

    world.ask("backfill", json!({
        "job": "default/tick", "from": "2026-11-01T00:00:00Z", "to": "2026-11-02T00:00:00Z", "name": "long",
    })).await?;
    world.run(5).await?;
    world.delete(&job("tick")).await?;
    world.run(5).await?;
    assert_eq!(backfill(&world, "default/long").await?["phase"], "failed");
    Ok(())
}

/// A job that runs one at a time: its backfill waits its turn beside the schedule, even while the job is paused.
#[tokio::test]
async fn a_backfill_of_a_limited_job_waits_its_turn() -> Result<()> {
    for policy in ["skip", "queue-one", "queue-all"] {
        for paused in [false, true] {
            let mut world = World::begin()?;
            world.start();
            let mut manifest = every("busy", 20, "none");
            manifest["spec"]["overlap"] = json!(policy);
            manifest["spec"]["startingDeadline"] = json!("5m");
            world.apply(manifest).await?;
            world.takes.insert(job("busy"), std::time::Duration::from_secs(3));
            world.run(30).await?;
            if paused {
                world.ask("pause", json!({"job": "default/busy"})).await?;
                world.run(5).await?;
            }
            let request = json!({
                "job": "default/busy", "from": "2026-11-20T00:00:00Z", "to": "2026-11-20T00:04:00Z", "name": "past",
                "maxActive": 5,
            });
            world.ask("backfill", request).await?;
            world.run(150).await?;
            let done = backfill(&world, "default/past").await?;
            assert_eq!(
                (&done["phase"], &done["succeeded"]),
                (&json!("done"), &json!(12)),
                "{policy} {paused} {done}"
            );
            assert_eq!(world.most_at_once.get(&job("busy")), Some(&1), "{policy} {paused}");
            assert_eq!(world.doubled().len(), 0);
        }
    }
    Ok(())
}

/// A dispatcher that dies in the middle of a cancellation, at each step in turn: nobody took the run, so it was never
/// carried out, and no other end may be recorded than that it was cancelled.
#[tokio::test]
async fn a_cancellation_that_is_interrupted_never_ends_as_a_success() -> Result<()> {
    const STEPS: usize = 24;
    for step in 0..STEPS {
        let mut world = World::without_executor()?;
        world.start();
        let mut tick = every("tick", 20, "none");
        tick["spec"]["history"]["failed"] = json!(100);
        world.apply(tick).await?;
        world.run(25).await?;
        let due_at = *world.runs(&job("tick")).await?.keys().next().expect("one is out");
        world.cancel(&job("tick"), due_at).await?;
        let died = StoreError::Failed(INJECTED.into());
        world.store.fail_after(step, Fault::Before(died));
        world.run(40).await?;
        let ended = world.record(&job("tick"), due_at).await?.expect("its record");
        assert_eq!(ended.state, RunState::Cancelled, "interrupted at step {step}: {ended:?}");
    }
    Ok(())
}
