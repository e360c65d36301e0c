//! The rules at work: planner, dispatcher and settler over the memory twins, on a clock that jumps. Seeds of failed
//! histories go into `tests/seeds.txt` and stay.

#![expect(clippy::expect_used, reason = "a name that a test makes up is a name")]

use ambient::Entropy;
use anyhow::{Result, ensure};
use bus::QueueReader;
use bus::queue::Delivery;
use harness::world::World;
use model::name::JobId;
use model::time::Timestamp;
use serde_json::json;

fn every(name: &str, seconds: u64, catch_up: &str) -> serde_json::Value {
    json!({
        "apiVersion": "ecron/v1", "kind": "Job", "metadata": {"name": name},
        "spec": {
            "schedule": {"every": format!("{seconds}s")}, "queue": "work",
            "catchUp": {"policy": catch_up, "max": 10000}, "history": {"succeeded": 0, "failed": 0, "skipped": 1000},
        },
    })
}

fn job(name: &str) -> JobId {
    format!("default/{name}").parse().expect("a name")
}

async fn expected(world: &World, name: &str, since: Timestamp, until: Timestamp) -> Result<Vec<Timestamp>> {
    let schedule = world.declared(&job(name)).await?.schedule;
    let mut dues = Vec::new();
    let mut after = since;
    while let Some(due) = schedule.next_after(after).filter(|due| *due <= until) {
        dues.push(due);
        after = due;
    }
    Ok(dues)
}

#[tokio::test]
async fn every_occurrence_runs_exactly_once_and_on_time() -> Result<()> {
    let mut world = World::begin()?;
    world.start();
    let (_, since) = world.apply(every("tick", 7, "latest")).await?;
    world.run(600).await?;
    let due = expected(&world, "tick", since, world.clock.now()).await?;
    ensure!(due.len() > 80, "only {} occurrences", due.len());
    assert_eq!(world.started_dues(&job("tick")), due);
    assert_eq!(world.doubled(), Vec::<&model::id::RunId>::new());
    for (run, starts) in &world.started {
        let model::id::RunId::Occurrence(occurrence) = run else { continue };
        ensure!(starts[0].ms_since(occurrence.due_at) <= 1_000, "{run} was late");
    }
    Ok(())
}

#[tokio::test]
async fn an_interruption_is_caught_up_by_each_jobs_policy() -> Result<()> {
    for (policy, down) in
        [("none", 60), ("latest", 60), ("all", 60), ("none", 4_000), ("latest", 4_000), ("all", 4_000)]
    {
        let mut world = World::begin()?;
        world.start();
        let (_, since) = world.apply(every("tick", 10, policy)).await?;
        world.run(300).await?;
        let down_since = world.clock.now();
        world.crash();
        world.run(down).await?;
        let up_since = world.clock.now();
        world.start();
        world.run(300).await?;
        let all = expected(&world, "tick", since, world.clock.now()).await?;
        // What was due before the first dispatch after the outage: the leases of the dead take up to three seconds.
        let started = world.started_dues(&job("tick"));
        let missed = |due: &&Timestamp| **due > down_since && **due <= up_since;
        let missed_and_run = started.iter().filter(missed).count();
        let missed_all = all.iter().filter(missed).count();
        ensure!(missed_all >= 6, "{policy}: only {missed_all} were missed");
        match policy {
            "none" => ensure!(missed_and_run == 0, "none after {down} s: {missed_and_run} runs"),
            "latest" => ensure!(missed_and_run == 1, "latest after {down} s: {missed_and_run} runs"),
            _ => assert_eq!(started, all, "all after {down} s"),
        }
        let met = |due: &&Timestamp| !missed(due);
        let on_time: Vec<_> = all.iter().filter(met).collect();
        assert_eq!(started.iter().filter(met).collect::<Vec<_>>(), on_time, "{policy} after {down} s");
        assert_eq!(world.doubled().len(), 0);
    }
    Ok(())
}

#[tokio::test]
async fn a_short_crash_is_lateness_whatever_the_policy() -> Result<()> {
    let mut world = World::begin()?;
    world.start();
    let (_, since) = world.apply(every("tick", 2, "none")).await?;
    for _ in 0..20 {
        world.run(17).await?;
        world.crash();
        world.start();
    }
    world.run(30).await?;
    assert_eq!(world.started_dues(&job("tick")), expected(&world, "tick", since, world.clock.now()).await?);
    assert_eq!(world.doubled().len(), 0);
    Ok(())
}

#[tokio::test]
async fn a_wiped_store_is_rebuilt_without_loss_or_double() -> Result<()> {
    use bus::Checkpoints;
    let mut world = World::begin()?;
    world.start();
    let (_, since) = world.apply(every("tick", 3, "none")).await?;
    for _ in 0..10 {
        world.run(23).await?;
        let until = world.clock.now();
        let all = model::shard::ShardCount::new(4).expect("four shards").all();
        world.bus.save_checkpoint("node", &all.map(|shard| (shard, until)).collect()).await?;
        world.store.wipe();
    }
    world.run(30).await?;
    assert_eq!(world.started_dues(&job("tick")), expected(&world, "tick", since, world.clock.now()).await?);
    assert_eq!(world.doubled().len(), 0);
    Ok(())
}

/// Loses something of the run stream while runs wait in it; in the end each occurrence must be in it, once.
async fn lose(losing: impl Fn(&World)) -> Result<()> {
    let mut world = World::begin()?;
    world.start();
    let mut unserved = every("tick", 5, "latest");
    unserved["spec"]["queue"] = json!("nobody");
    let (_, since) = world.apply(unserved).await?;
    world.run(31).await?;
    losing(&world);
    world.run(60).await?;
    let queue = "default/nobody".parse()?;
    let waiting = world.bus.fetch(&queue, 1000, std::time::Duration::ZERO).await?;
    let mut runs = Vec::new();
    for delivery in &waiting {
        runs.push(delivery.order().clone()?.due_at);
    }
    runs.sort();
    assert_eq!(runs, expected(&world, "tick", since, world.clock.now()).await?);
    Ok(())
}

#[tokio::test]
async fn a_lost_run_stream_is_filled_again_from_the_ledger() -> Result<()> {
    lose(|world| world.bus.lose_runs()).await
}

/// What lost them may remember their ids all the same: a repair under the same id would be taken for a copy.
#[tokio::test]
async fn lost_runs_are_published_again_under_ids_of_their_own() -> Result<()> {
    lose(|world| world.bus.lose_newest_runs(4)).await
}

/// Random histories of edits, crashes, short outages and wipes: with `catchUp: all`, nothing may be missed, doubled or
/// early, whatever the order.
#[tokio::test]
async fn random_histories_lose_and_double_nothing() -> Result<()> {
    for line in include_str!("../seeds.txt").lines().filter(|line| !line.starts_with('#')) {
        history(line.trim().parse()?).await?;
    }
    for seed in 1..=20 {
        history(seed).await?;
    }
    Ok(())
}

async fn history(seed: u64) -> Result<()> {
    let entropy = Entropy::seeded(seed);
    let draw = |below: u64| entropy.next_u64() % below;
    let mut world = World::begin()?;
    world.start();
    // For each job: the occurrences that must have run, collected whenever its schedule changes.
    let mut owed: Vec<(String, Vec<Timestamp>)> = Vec::new();
    let mut since = Vec::new();
    for n in 0..3 {
        let name = format!("job-{n}");
        let (_, counts_since) = world.apply(every(&name, 2 + draw(20), "all")).await?;
        since.push(counts_since);
        owed.push((name, Vec::new()));
    }
    world.run(5).await?;
    for _ in 0..25 {
        match draw(5) {
            0 => {
                let which = draw(3) as usize;
                let (name, dues) = &mut owed[which];
                dues.extend(expected(&world, name, since[which], world.clock.now()).await?);
                let (_, counts_since) = world.apply(every(name, 2 + draw(20), "all")).await?;
                // An unchanged schedule goes on counting; what it owes up to now has just been noted.
                since[which] = counts_since.max(world.clock.now());
            }
            1 => {
                world.crash();
                world.run(draw(8) as u32).await?;
                world.start();
            }
            2 => {
                world.crash();
                world.run(15 + draw(200) as u32).await?;
                world.start();
            }
            3 => world.bus.forget_ids(),
            _ => {}
        }
        world.run(1 + draw(40) as u32).await?;
    }
    let until = world.clock.now();
    world.run(30).await?;
    for (which, (name, mut dues)) in owed.into_iter().enumerate() {
        dues.extend(expected(&world, &name, since[which], until).await?);
        let started = world.started_dues(&job(&name));
        let missing: Vec<_> = dues.iter().filter(|due| !started.contains(due)).collect();
        ensure!(missing.is_empty(), "seed {seed}: {name} missed {missing:?}");
        let extra: Vec<_> = started.iter().filter(|due| **due <= until && !dues.contains(due)).collect();
        ensure!(extra.is_empty(), "seed {seed}: {name} ran at {extra:?}, which no revision named");
    }
    ensure!(world.doubled().is_empty(), "seed {seed}: doubled {:?}", world.doubled());
    Ok(())
}
