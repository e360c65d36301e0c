//! The completeness audit: whatever somebody takes out of the plan or the ledger by hand is found, named, put right within a
//! period, and runs once. (That it finds nothing where nobody took anything is what every suite over `harness::world` checks.)

#![expect(clippy::expect_used, reason = "a name that a test makes up is a name")]

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bus::QueueReader;
use harness::world::{AUDIT_PERIOD, World};
use model::id::Occurrence;
use model::name::JobId;
use model::run::RunState;
use model::time::Timestamp;
use serde_json::{Value, json};
use store::memory::Loss;

fn tick() -> JobId {
    "default/tick".parse().expect("a name")
}

fn manifest(schedule: &Value, more: &Value) -> Value {
    let mut spec = json!({"schedule": schedule, "queue": "work"});
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    json!({"apiVersion": "ecron/v1", "kind": "Job", "metadata": {"name": "tick"}, "spec": spec})
}

fn run(due_at: Timestamp) -> Occurrence {
    Occurrence { job: tick(), due_at }
}

fn seconds(seconds: i64) -> i64 {
    seconds * 1_000
}

/// A world with one job, after a while.
async fn begun(schedule: Value, more: Value) -> Result<(World, Timestamp)> {
    let mut world = World::begin()?;
    world.start();
    let (_, since) = world.apply(manifest(&schedule, &more)).await?;
    world.run(60).await?;
    Ok((world, since))
}

async fn next(world: &World) -> Result<Timestamp> {
    world.declared(&tick()).await?.timeline.next_after(world.clock.now()).context("it goes on")
}

fn lose(world: &mut World, loss: &Loss) -> Result<()> {
    world.losing = true;
    ensure!(world.store.lose(World::shard_of(&tick()), loss), "{loss:?} wasn't there");
    Ok(())
}

fn counts(world: &World) -> (usize, usize) {
    (world.found.load(Ordering::Relaxed), world.repaired.load(Ordering::Relaxed))
}

fn period() -> u32 {
    u32::try_from(AUDIT_PERIOD.as_secs()).expect("a few seconds")
}

/// Everything that was due since has run, once.
async fn is_whole(world: &World, since: Timestamp) -> Result<()> {
    let timeline = world.declared(&tick()).await?.timeline;
    let dues = std::iter::successors(timeline.next_after(since), |due| timeline.next_after(*due));
    let until = world.clock.now().plus_ms(-seconds(1));
    let expected: Vec<Timestamp> = dues.take_while(|due| *due <= until).collect();
    let started: Vec<Timestamp> =
        world.started_dues(&tick()).into_iter().filter(|due| *due <= until).collect();
    assert_eq!(started, expected);
    ensure!(world.doubled().is_empty(), "doubled: {:?}", world.doubled());
    Ok(())
}

/// Loses something, and waits for a period.
async fn repaired(mut world: World, since: Timestamp, loss: Loss) -> Result<World> {
    let what = format!("{loss:?}");
    lose(&mut world, &loss)?;
    world.run(period() + 1).await?;
    let (found, repaired) = counts(&world);
    ensure!(found == 1 && repaired == 1, "{what}: found {found}, repaired {repaired}");
    world.losing = false;
    world.run(120).await?;
    is_whole(&world, since).await?;
    Ok(world)
}

#[tokio::test]
async fn an_entry_of_the_minute_tier_is_put_back() -> Result<()> {
    for schedule in [json!({"every": "7s"}), json!({"every": "45s"}), json!({"cron": "* * * * *"})] {
        let (world, since) = begun(schedule, json!({})).await?;
        let due_at = next(&world).await?;
        repaired(world, since, Loss::Entry(run(due_at))).await?;
    }
    Ok(())
}

/// Its run is due long before anybody looks, and its job runs so often that its history soon forgets.
#[tokio::test]
async fn an_entry_that_was_due_before_anybody_looked_runs_late_and_once() -> Result<()> {
    for every in [3, 5, 20] {
        for delay in [0, 3, 6, 8] {
            let (mut world, since) = begun(json!({"every": format!("{every}s")}), json!({})).await?;
            world.run(delay).await?;
            let due_at = next(&world).await?;
            repaired(world, since, Loss::Entry(run(due_at))).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_place_in_the_coarse_tiers_is_put_back() -> Result<()> {
    for (schedule, seconds) in [("*/5 * * * *", 700), ("*/20 * * * *", 1_500), ("55 7 * * *", 4_200)] {
        let schedule = json!({"cron": schedule});
        let (world, since) = begun(schedule, json!({})).await?;
        let mut world = repaired(world, since, Loss::Place(tick())).await?;
        world.run(seconds).await?;
        is_whole(&world, since).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_published_run_is_worried_about_again() -> Result<()> {
    let mut world = World::begin()?;
    world.start();
    // Nobody takes it off its queue.
    let mut unserved = manifest(&json!({"every": "7s"}), &json!({}));
    unserved["spec"]["queue"] = json!("nobody");
    world.apply(unserved).await?;
    world.run(20).await?;
    let due_at =
        world.declared(&tick()).await?.timeline.previous_before(world.clock.now()).context("one is due")?;
    lose(&mut world, &Loss::Sent(run(due_at)))?;
    world.run(period() + 1).await?;
    assert_eq!(counts(&world), (1, 1));
    // Had it not come back, nobody would notice that the stream loses it.
    world.bus.lose_runs();
    world.run(60).await?;
    let queue = "default/nobody".parse()?;
    let waiting = world.bus.fetch(&queue, 1_000, Duration::ZERO).await?;
    let mut times = 0;
    for delivery in &waiting {
        use bus::queue::Delivery;
        times += usize::from(delivery.order().clone()?.due_at == due_at);
    }
    assert_eq!(times, 1);
    Ok(())
}

/// Its message is in the queue; only the record of it is gone.
#[tokio::test]
async fn the_record_of_an_open_run_is_written_anew() -> Result<()> {
    let mut world = World::begin()?;
    world.takes.insert(tick(), Duration::from_secs(40));
    world.start();
    let (_, since) = world.apply(manifest(&json!({"cron": "* * * * *"}), &json!({}))).await?;
    world.run(75).await?;
    let due_at =
        world.declared(&tick()).await?.timeline.previous_before(world.clock.now()).context("one is due")?;
    assert_eq!(world.record(&tick(), due_at).await?.map(|record| record.state), Some(RunState::Dispatched));
    lose(&mut world, &Loss::Run(run(due_at)))?;
    world.run(period() + 1).await?;
    assert_eq!(counts(&world), (1, 1));
    world.losing = false;
    world.run(60).await?;
    assert_eq!(world.record(&tick(), due_at).await?.map(|record| record.state), Some(RunState::Succeeded));
    is_whole(&world, since).await
}

#[tokio::test]
async fn who_waits_for_an_earlier_run_is_let_go_after_all() -> Result<()> {
    for losing_while_busy in [true, false] {
        let mut world = World::begin()?;
        world.takes.insert(tick(), Duration::from_secs(15));
        world.start();
        let more = json!({"overlap": "queue-all", "history": {"succeeded": 100}});
        let (_, since) =
            world.apply(manifest(&json!({"every": "20s", "end": "2026-11-22T06:47:30Z"}), &more)).await?;
        world.takes.insert(tick(), Duration::from_secs(55));
        world.run(45).await?;
        let waiting = world.runs(&tick()).await?;
        let waits = waiting.iter().find(|(_, record)| record.state == RunState::Waiting);
        let due_at = *waits.context("one waits")?.0;
        lose(&mut world, &Loss::Waits(run(due_at)))?;
        world.takes.insert(tick(), Duration::from_secs(1));
        world.run(if losing_while_busy { period() + 1 } else { 90 }).await?;
        assert_eq!(counts(&world), (1, 1));
        world.losing = false;
        world.run(400).await?;
        assert_eq!(world.most_at_once.get(&tick()), Some(&1));
        is_whole(&world, since).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_trigger_is_not_lost_with_its_entry() -> Result<()> {
    let (mut world, _) = begun(json!({"cron": "0 3 * * *"}), json!({})).await?;
    world.crash_dispatcher();
    let reply = world.ask("trigger", json!({"job": "default/tick"})).await?;
    let id = reply["run"].as_str().context("a run")?.to_owned();
    let asked: Occurrence = id.parse()?;
    lose(&mut world, &Loss::Entry(asked.clone()))?;
    world.run(period() + 1).await?;
    assert_eq!(counts(&world), (1, 1));
    world.losing = false;
    world.start_dispatcher();
    world.run(10).await?;
    assert_eq!(world.started_dues(&tick()), [asked.due_at]);
    ensure!(world.doubled().is_empty(), "once");
    Ok(())
}

#[tokio::test]
async fn a_chain_of_runs_goes_on_after_its_entry_was_lost() -> Result<()> {
    let (mut world, _) = begun(json!({"after": "30s"}), json!({})).await?;
    let before = world.started_dues(&tick()).len();
    let record = store::PlanStore::jobs(&*world.store, World::shard_of(&tick()), &[tick()]).await?;
    let due_at = record[0].as_ref().and_then(|record| record.after_due).context("one is planned")?;
    lose(&mut world, &Loss::Entry(run(due_at)))?;
    world.run(period() + 1).await?;
    assert_eq!(counts(&world), (1, 1));
    world.losing = false;
    world.run(100).await?;
    ensure!(world.started_dues(&tick()).len() >= before + 3, "it goes on");
    ensure!(world.doubled().is_empty(), "once each");
    Ok(())
}

/// As after a wipe: what was taken counts as dispatched, what is ahead is planned.
#[tokio::test]
async fn a_jobs_record_is_written_anew() -> Result<()> {
    for (schedule, history) in
        [(json!({"every": "20s"}), 3), (json!({"every": "20s"}), 0), (json!({"cron": "0 * * * *"}), 0)]
    {
        let (mut world, since) = begun(schedule, json!({"history": {"succeeded": history}})).await?;
        // In the middle between two: what falls due without a record is skipped, as that of a deleted job.
        while next(&world).await?.ms_since(world.clock.now()) < seconds(15) {
            world.run(1).await?;
        }
        lose(&mut world, &Loss::Job(tick()))?;
        world.run(period() + 1).await?;
        let (found, repaired) = counts(&world);
        assert_eq!((found, repaired), (1, 1));
        world.losing = false;
        world.run(1_000).await?;
        is_whole(&world, since).await?;
    }
    Ok(())
}

/// What is spread out after an interruption waits for its turn; one of them is taken out.
#[tokio::test]
async fn what_a_catch_up_holds_back_is_put_back() -> Result<()> {
    let more = json!({
        "catchUp": {"policy": "all", "max": 100, "rate": "1/20s"}, "history": {"succeeded": 1000, "skipped": 1000},
    });
    let (mut world, since) = begun(json!({"every": "30s"}), more).await?;
    world.crash();
    world.run(200).await?;
    world.start();
    world.run(30).await?;
    let spaced = store::SpaceStore::spaced(&*world.store, World::shard_of(&tick()), &tick(), 100).await?;
    let (entry, _) = spaced.last().context("some are held back")?.clone();
    repaired_late(&mut world, Loss::HeldBack(entry.occurrence)).await?;
    world.run(400).await?;
    is_whole(&world, since).await
}

async fn repaired_late(world: &mut World, loss: Loss) -> Result<()> {
    lose(world, &loss)?;
    world.run(period() + 1).await?;
    assert_eq!(counts(world), (1, 1), "{loss:?}");
    world.losing = false;
    Ok(())
}

/// Of a run that has ended only its record is lost: it doesn't run again.
#[tokio::test]
async fn a_run_whose_history_is_lost_does_not_run_again() -> Result<()> {
    for (every, history) in [(7, 3), (7, 100), (40, 3), (40, 1)] {
        let more = json!({"history": {"succeeded": history}});
        let (mut world, since) = begun(json!({"every": format!("{every}s")}), more).await?;
        world.run(60).await?;
        let ended = world.runs(&tick()).await?;
        for (due_at, _) in ended.iter().filter(|(_, record)| record.state.is_end()).take(2) {
            lose(&mut world, &Loss::Run(run(*due_at)))?;
            world.run(period() + 1).await?;
        }
        world.run(300).await?;
        is_whole(&world, since).await?;
    }
    Ok(())
}
