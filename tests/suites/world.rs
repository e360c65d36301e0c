//! The rules at work: planner, dispatcher and settler over the memory twins, on a clock that jumps. Seeds of failed
//! histories go into `tests/seeds.txt` and stay.

#![expect(clippy::expect_used, reason = "a name that a test makes up is a name")]

use ambient::Entropy;
use anyhow::{Result, ensure};
use bus::QueueReader;
use bus::queue::Delivery;
use harness::world::{INJECTED, World};
use model::name::JobId;
use model::time::Timestamp;
use serde_json::json;
use store::StoreError;
use store::memory::Fault;

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

/// A publication that nobody answers for may have been lost, and was.
#[tokio::test]
async fn what_nobody_answered_for_is_published_again() -> Result<()> {
    let mut world = World::begin()?;
    world.start();
    let (_, since) = world.apply(every("tick", 2, "none")).await?;
    world.run(11).await?;
    world.bus.lose_publications(3);
    world.run(60).await?;
    assert_eq!(world.started_dues(&job("tick")), expected(&world, "tick", since, world.clock.now()).await?);
    assert_eq!(world.doubled().len(), 0);
    Ok(())
}

/// Entries are taken a little ahead, and wait for their instant. (The executor of this world takes no run before it is due.)
#[tokio::test]
async fn what_is_taken_ahead_is_published_when_it_is_due() -> Result<()> {
    let mut world = World::begin()?;
    world.start();
    world.run(3).await?;
    // Between two steps, but so soon after the first that its pass takes it.
    let due = world.clock.now().plus_ms(10_005);
    let mut once = every("once", 1, "none");
    once["spec"]["schedule"] = json!({"at": due.to_string()});
    world.apply(once).await?;
    world.run(9).await?;
    let (clock, step) = (world.clock.clone(), due.plus_ms(-5));
    tokio::spawn(async move {
        clock.sleep_until(step).await;
        // By then the pass waits for nothing but the clock.
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
        clock.set(due);
    });
    world.run(1).await?;
    assert_eq!(world.clock.now(), due);
    assert_eq!(world.started_dues(&job("once")), [due]);
    Ok(())
}

/// A dispatcher dies between publishing and confirming; the run has ended and its id is forgotten. Only its outcome tells
/// whoever takes over that it was published, and the settlers are behind.
#[tokio::test]
async fn whoever_takes_over_lets_the_outcomes_catch_up_first() -> Result<()> {
    let mut faults_that_left_it_unconfirmed = 0;
    for operations in 0..60 {
        let mut world = World::begin()?;
        world.start();
        let (_, since) = world.apply(every("tick", 4, "all")).await?;
        world.run(10).await?;
        let due = expected(&world, "tick", world.clock.now(), world.clock.now().plus_ms(4_000)).await?[0];
        let steps = u32::try_from(due.ms_since(world.clock.now()) / 1_000)?;
        world.run(steps).await?;
        world.store.fail_after(operations, Fault::Before(StoreError::Failed(INJECTED.into())));
        world.run(1).await?;
        let unconfirmed = world.record(&job("tick"), due).await.is_ok_and(|record| record.is_none());
        faults_that_left_it_unconfirmed +=
            usize::from(unconfirmed && world.started_dues(&job("tick")).contains(&due));
        world.crash();
        world.bus.forget_ids();
        world.unsettled = true;
        world.start();
        let clock = world.clock.clone();
        // Whoever waits for the settlers waits by the clock, which nobody else moves meanwhile.
        let ticker = tokio::spawn(async move {
            loop {
                for _ in 0..50 {
                    tokio::task::yield_now().await;
                }
                clock.advance(std::time::Duration::from_millis(50));
            }
        });
        world.run(6).await?;
        ticker.abort();
        world.unsettled = false;
        world.run(20).await?;
        let all = expected(&world, "tick", since, world.clock.now()).await?;
        assert_eq!(world.started_dues(&job("tick")), all, "after {operations} operations");
        ensure!(world.doubled().is_empty(), "after {operations} operations: doubled {:?}", world.doubled());
    }
    ensure!(faults_that_left_it_unconfirmed > 0, "no fault came between the two");
    Ok(())
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
