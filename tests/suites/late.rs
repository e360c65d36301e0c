//! What is late belongs to the schedule that was in force when it was due: no edit undoes it, whoever was away meanwhile,
//! and whatever was lost.

#![expect(clippy::expect_used, reason = "a name that a test makes up is a name")]

use std::collections::BTreeMap;

use ambient::Entropy;
use anyhow::{Context, Result, ensure};
use bus::{Checkpoints, RunStream};
use harness::world::{INJECTED, World};
use model::name::JobId;
use model::run::RunState;
use model::shard::ShardCount;
use model::time::Timestamp;
use serde_json::{Value, json};
use store::StoreError;
use store::memory::Fault;

fn tick() -> JobId {
    "default/tick".parse().expect("a name")
}

fn every(seconds: u64, catch_up: &str) -> Value {
    json!({
        "apiVersion": "ecron/v1", "kind": "Job", "metadata": {"name": "tick"},
        "spec": {
            "schedule": {"every": format!("{seconds}s")}, "queue": "work", "payload": {"every": seconds},
            "catchUp": {"policy": catch_up, "max": 10000},
            "history": {"succeeded": 1000, "failed": 1000, "skipped": 1000},
        },
    })
}

/// Edits a job, and notes what was due until then.
#[derive(Debug, Default)]
struct Course {
    since: Option<Timestamp>,
    due: Vec<Timestamp>,
}

impl Course {
    async fn apply(&mut self, world: &World, manifest: Value) -> Result<()> {
        self.note(world).await?;
        let (_, since) = world.apply(manifest).await?;
        // A schedule that wasn't edited goes on counting: what it named so far has just been noted.
        self.since = Some(since.max(world.clock.now()));
        Ok(())
    }

    /// Everything that was due by now.
    async fn note(&mut self, world: &World) -> Result<&[Timestamp]> {
        if let Some(mut after) = self.since {
            let schedule = world.declared(&tick()).await?.schedule;
            let now = world.clock.now();
            while let Some(due) = schedule.next_after(after).filter(|due| *due <= now) {
                self.due.push(due);
                after = due;
            }
            self.since = Some(after);
        }
        Ok(&self.due)
    }
}

/// As the dispatchers do each second.
async fn checkpoint(world: &World) -> Result<()> {
    let until = world.clock.now();
    let all = ShardCount::new(4).expect("four shards").all();
    world.bus.save_checkpoint("node", &all.map(|shard| (shard, until)).collect()).await?;
    Ok(())
}

async fn assert_nothing_lost(world: &World, course: &mut Course, what: &str) -> Result<()> {
    assert_eq!(world.started_dues(&tick()), course.note(world).await?, "{what}");
    ensure!(world.doubled().is_empty(), "{what}: doubled {:?}", world.doubled());
    Ok(())
}

#[tokio::test]
async fn an_edit_while_everything_is_down_undoes_nothing_that_was_due() -> Result<()> {
    for down in [5, 9, 30, 400] {
        for edits in [vec![4], vec![3], vec![60, 2], vec![3, 5, 7, 2]] {
            let what = format!("{down} s, {edits:?}");
            let (mut world, mut course) = (World::begin()?, Course::default());
            world.start();
            course.apply(&world, every(2, "all")).await?;
            world.run(20).await?;
            world.crash();
            for seconds in edits {
                world.run(down).await?;
                course.apply(&world, every(seconds, "all")).await?;
            }
            world.run(3).await?;
            world.start();
            world.run(130).await?;
            assert_nothing_lost(&world, &mut course, &what).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_is_late_runs_as_the_newest_revision_says() -> Result<()> {
    let (mut world, mut course) = (World::begin()?, Course::default());
    world.start();
    course.apply(&world, every(2, "all")).await?;
    world.run(20).await?;
    world.crash();
    let down = world.clock.now();
    world.run(6).await?;
    course.apply(&world, every(50, "all")).await?;
    let edited = world.clock.now();
    world.start();
    world.run(8).await?;
    let payload = |due_at: Timestamp| {
        let mut payloads = world.payloads.iter();
        let found = payloads.find(|(run, _)| run.to_string() == format!("default/tick@{due_at}"));
        found.map(|(_, payload)| String::from_utf8_lossy(payload).into_owned())
    };
    let late: Vec<Timestamp> =
        world.started_dues(&tick()).into_iter().filter(|due| *due > down && *due <= edited).collect();
    assert_eq!(late.len(), 3);
    for due in late {
        assert_eq!(payload(due).as_deref(), Some(r#"{"every":50}"#), "{due}");
    }
    Ok(())
}

/// The newest revision's catch-up decides about an interruption, and leaves a record of each occurrence that it left out.
#[tokio::test]
async fn the_newest_catch_up_decides_about_what_was_missed() -> Result<()> {
    for (policy, runs) in [("none", 0), ("latest", 1), ("all", 30)] {
        let (mut world, mut course) = (World::begin()?, Course::default());
        world.start();
        course.apply(&world, every(2, "none")).await?;
        world.run(20).await?;
        world.crash();
        let down = world.clock.now();
        world.run(60).await?;
        course.apply(&world, every(300, policy)).await?;
        let edited = world.clock.now();
        world.start();
        world.run(30).await?;
        course.note(&world).await?;
        let missed: Vec<Timestamp> =
            course.due.iter().copied().filter(|due| *due > down && *due <= edited).collect();
        assert_eq!(missed.len(), 30);
        let records = world.runs(&tick()).await?;
        let ended = |state| {
            missed.iter().filter(|due| records.get(due).is_some_and(|run| run.state == state)).count()
        };
        assert_eq!(ended(RunState::Succeeded), runs, "{policy}");
        assert_eq!(ended(RunState::Skipped), 30 - runs, "{policy}");
    }
    Ok(())
}

/// The planner lives and installs the edit; what no dispatcher has taken is late by then.
#[tokio::test]
async fn an_edit_while_dispatch_is_behind_undoes_nothing_that_was_due() -> Result<()> {
    for down in [3, 8, 40] {
        let (mut world, mut course) = (World::begin()?, Course::default());
        world.start();
        course.apply(&world, every(2, "all")).await?;
        world.run(20).await?;
        world.stalled = true;
        world.run(down).await?;
        for seconds in [4, 3] {
            course.apply(&world, every(seconds, "all")).await?;
            world.run(2).await?;
        }
        world.stalled = false;
        world.run(30).await?;
        assert_nothing_lost(&world, &mut course, &format!("{down} s")).await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_edit_after_the_store_was_wiped_undoes_nothing_that_was_due() -> Result<()> {
    for down in [1, 5, 40, 1_000] {
        for edits in [vec![4], vec![60, 3]] {
            let what = format!("{down} s, {edits:?}");
            let (mut world, mut course) = (World::begin()?, Course::default());
            world.start();
            course.apply(&world, every(2, "all")).await?;
            world.run(20).await?;
            checkpoint(&world).await?;
            world.crash();
            world.store.wipe();
            for seconds in edits {
                world.run(down).await?;
                course.apply(&world, every(seconds, "all")).await?;
            }
            world.start();
            world.run(130).await?;
            assert_nothing_lost(&world, &mut course, &what).await?;
        }
    }
    Ok(())
}

/// A run that waits for an earlier one was due, too.
#[tokio::test]
async fn those_that_wait_outlive_an_edit_of_their_schedule() -> Result<()> {
    let (mut world, mut course) = (World::begin()?, Course::default());
    world.takes.insert(tick(), std::time::Duration::from_secs(25));
    world.start();
    let limited = |seconds| {
        let mut manifest = every(seconds, "all");
        manifest["spec"]["overlap"] = json!("queue-all");
        manifest
    };
    course.apply(&world, limited(10)).await?;
    world.run(105).await?;
    course.apply(&world, limited(10_000)).await?;
    world.run(300).await?;
    assert_eq!(world.most_at_once.get(&tick()), Some(&1));
    assert_nothing_lost(&world, &mut course, "queue-all").await
}

/// Random histories of edits, crashes, outages and wipes, in any order.
#[tokio::test]
async fn random_edits_at_any_time_lose_and_double_nothing() -> Result<()> {
    for seed in 1..=60 {
        let entropy = Entropy::seeded(seed);
        let draw = |below: u64| entropy.next_u64() % below;
        let (mut world, mut course) = (World::begin()?, Course::default());
        let mut done: BTreeMap<&str, usize> = BTreeMap::new();
        world.start();
        course.apply(&world, every(2 + draw(9), "all")).await?;
        world.run(5).await?;
        for _ in 0..15 {
            let what = [
                "edit",
                "crash",
                "crash, edit",
                "crash, edit twice",
                "crash, wipe, edit",
                "wipe",
                "stall",
                "fault, crash, edit",
            ][draw(8) as usize];
            *done.entry(what).or_default() += 1;
            if what.contains("wipe") {
                checkpoint(&world).await?;
            }
            if what.contains("fault") {
                // Somewhere between two steps of a pass.
                world.store.fail_after(draw(60) as usize, Fault::Before(StoreError::Failed(INJECTED.into())));
                world.run(1 + draw(2) as u32).await?;
                // One that waits for the planner's next start would let a dispatcher be there first.
                world.store.forgive();
            }
            if what.contains("crash") {
                world.crash();
                world.run(draw(25) as u32).await?;
            }
            if what.contains("wipe") {
                world.store.wipe();
            }
            if what == "stall" {
                world.stalled = true;
                world.run(draw(25) as u32).await?;
            }
            let edits = if what.contains("twice") {
                2
            } else {
                usize::from(what.contains("edit") || what == "stall")
            };
            for _ in 0..edits {
                course.apply(&world, every(2 + draw(9), "all")).await?;
                world.run(draw(5) as u32).await?;
            }
            world.stalled = false;
            if what.contains("crash") {
                world.start();
            }
            world.run(15 + draw(20) as u32).await?;
        }
        assert_nothing_lost(&world, &mut course, &format!("seed {seed}: {done:?}")).await?;
    }
    Ok(())
}

/// A job every half a minute, one run at a time, that is to start within twenty seconds.
fn hasty(queue: &str) -> Value {
    let mut hasty = every(30, "none");
    hasty["spec"]["queue"] = json!(queue);
    hasty["spec"]["overlap"] = json!("skip");
    hasty["spec"]["startingDeadline"] = json!("20s");
    hasty
}

#[tokio::test]
async fn what_nobody_was_given_in_time_is_skipped_and_lets_go_who_waits() -> Result<()> {
    let mut world = World::begin()?;
    world.start();
    world.apply(hasty("nobody")).await?;
    world.run(330).await?;
    let records = world.runs(&tick()).await?;
    let ended: Vec<_> = records.values().filter(|record| record.state.is_end()).collect();
    ensure!(ended.len() >= 9, "{records:?}");
    for record in ended {
        assert_eq!(record.state, RunState::Skipped, "{record:?}");
        assert_eq!(record.output.as_deref(), Some("not started within startingDeadline"), "{record:?}");
        let told =
            world.ask("explain", json!({"job": "default/tick", "at": record.occurrence.due_at.to_string()}));
        let told = told.await?;
        assert_eq!(told["explanations"][0]["code"], "starting-deadline", "{told}");
    }
    ensure!(world.bus.extent().await?.messages <= 1, "their messages are still there");
    Ok(())
}

#[tokio::test]
async fn what_somebody_was_given_in_time_may_take_its_time() -> Result<()> {
    let mut world = World::begin()?;
    world.start();
    world.apply(hasty("work")).await?;
    world.takes.insert(tick(), std::time::Duration::from_secs(100));
    world.run(400).await?;
    let records = world.runs(&tick()).await?;
    let succeeded = records.values().filter(|record| record.state == RunState::Succeeded).count();
    ensure!(succeeded >= 3, "{records:?}");
    let late = records.values().filter(|record| {
        record.output.as_deref() == Some(model::run::SkipReason::StartingDeadline.describe())
    });
    assert_eq!(late.count(), 0);
    Ok(())
}

/// An edit counts for what is in its queue, too: nothing is skipped by a deadline that isn't in force any more, nor kept for want of one.
#[tokio::test]
async fn what_nobody_was_given_is_skipped_by_the_deadline_of_now() -> Result<()> {
    for (before, after) in [(Some("20s"), None), (None, Some("20s"))] {
        let mut world = World::begin()?;
        world.start();
        let mut manifest = hasty("nobody");
        let mut applied = |deadline: Option<&str>| {
            manifest["spec"]["startingDeadline"] = json!(deadline);
            manifest.clone()
        };
        world.apply(applied(before)).await?;
        world.run(40).await?;
        world.apply(applied(after)).await?;
        world.run(60).await?;
        let records = world.runs(&tick()).await?;
        let first = records.values().next().context("a run")?;
        let state = if after.is_some() { RunState::Skipped } else { RunState::Dispatched };
        assert_eq!(first.state, state, "{before:?}, then {after:?}: {first:?}");
    }
    Ok(())
}
