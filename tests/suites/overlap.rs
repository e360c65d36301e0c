//! Runs that fall due while earlier ones are under way, by each policy, over the memory twins on a clock that jumps. The
//! executor takes several seconds for a run. Seeds of failed histories go into `tests/overlap-seeds.txt` and stay.

#![expect(clippy::expect_used, reason = "a name that a test makes up is a name")]

use std::collections::BTreeMap;
use std::time::Duration;

use ambient::Entropy;
use anyhow::{Result, ensure};
use harness::world::World;
use model::name::JobId;
use model::run::{RunState, SkipReason};
use model::time::Timestamp;
use serde_json::json;
use store::ledger::RunRecord;

fn every(name: &str, seconds: u64, overlap: &str) -> serde_json::Value {
    json!({
        "apiVersion": "ecron/v1", "kind": "Job", "metadata": {"name": name},
        "spec": {
            "schedule": {"every": format!("{seconds}s")}, "queue": "work", "overlap": overlap,
            "catchUp": {"policy": "all", "max": 10000},
            "history": {"succeeded": 1000, "failed": 1000, "skipped": 1000},
        },
    })
}

fn job(name: &str) -> JobId {
    format!("default/{name}").parse().expect("a name")
}

/// A world with the job `tick`, every ten seconds, each of whose runs takes 25.
async fn ticking(overlap: &str) -> Result<World> {
    let mut world = World::begin()?;
    world.takes.insert(job("tick"), Duration::from_secs(25));
    world.start();
    world.apply(every("tick", 10, overlap)).await?;
    Ok(world)
}

fn counted(runs: &BTreeMap<Timestamp, RunRecord>, reason: &SkipReason) -> usize {
    let text = reason.describe();
    runs.values().filter(|run| run.skip_reason.as_deref() == Some(text)).count()
}

/// How far apart the started runs were due, in seconds.
fn steps(started: &[Timestamp]) -> Vec<i64> {
    started.windows(2).map(|pair| pair[1].ms_since(pair[0]) / 1_000).collect()
}

#[tokio::test]
async fn skip_leaves_out_what_falls_due_meanwhile() -> Result<()> {
    let mut world = ticking("skip").await?;
    world.run(305).await?;
    let started = world.started_dues(&job("tick"));
    ensure!(steps(&started).iter().all(|step| *step == 30), "{started:?}");
    ensure!(started.len() == 10, "{} started", started.len());
    assert_eq!(world.most_at_once[&job("tick")], 1);
    let runs = world.runs(&job("tick")).await?;
    assert_eq!(counted(&runs, &SkipReason::Overlap), 20);
    Ok(())
}

#[tokio::test]
async fn queue_one_runs_the_newest_that_waited() -> Result<()> {
    let mut world = ticking("queue-one").await?;
    world.run(605).await?;
    let started = world.started_dues(&job("tick"));
    // Each start comes right after the end before it, with the occurrence that was due last by then.
    for (run, starts) in &world.started {
        let model::id::RunId::Occurrence(occurrence) = run else { continue };
        ensure!(starts[0].ms_since(occurrence.due_at) < 12_000, "{run} started at {}", starts[0]);
    }
    ensure!((22..=24).contains(&started.len()), "{} started", started.len());
    assert_eq!(world.most_at_once[&job("tick")], 1);
    let runs = world.runs(&job("tick")).await?;
    let coalesced = counted(&runs, &SkipReason::Coalesced);
    let waiting = runs.values().filter(|run| run.state == RunState::Waiting).count();
    assert_eq!((started.len() + coalesced + waiting, runs.len()), (60, 60));
    Ok(())
}

#[tokio::test]
async fn queue_all_runs_every_one_in_order() -> Result<()> {
    let mut world = ticking("queue-all").await?;
    world.run(605).await?;
    let started = world.started_dues(&job("tick"));
    ensure!(steps(&started).iter().all(|step| *step == 10), "{started:?}");
    ensure!((22..=24).contains(&started.len()), "{} started", started.len());
    assert_eq!(world.most_at_once[&job("tick")], 1);
    let runs = world.runs(&job("tick")).await?;
    let waiting = runs.values().filter(|run| run.state == RunState::Waiting).count();
    assert_eq!(started.len() + waiting, 60);
    Ok(())
}

#[tokio::test]
async fn max_active_lets_so_many_run_beside_each_other() -> Result<()> {
    let mut world = World::begin()?;
    world.takes.insert(job("tick"), Duration::from_secs(45));
    world.start();
    let mut limited = every("tick", 10, "allow");
    limited["spec"]["maxActive"] = json!(3);
    world.apply(limited.clone()).await?;
    world.run(305).await?;
    assert_eq!(world.most_at_once[&job("tick")], 3);
    let started = world.started_dues(&job("tick"));
    ensure!(steps(&started).iter().all(|step| *step == 10), "{started:?}");
    ensure!((18..=20).contains(&started.len()), "{} started", started.len());
    // Without the limit, those that waited go at once.
    limited["spec"]["maxActive"] = json!(null);
    let unlimited = every("tick", 10, "allow");
    world.apply(unlimited).await?;
    world.run(3).await?;
    assert_eq!(world.started_dues(&job("tick")).len(), 30);
    Ok(())
}

#[tokio::test]
async fn those_that_wait_survive_an_edit_of_something_else() -> Result<()> {
    let mut world = ticking("queue-all").await?;
    world.run(105).await?;
    let mut edited = every("tick", 10, "queue-all");
    edited["spec"]["payload"] = json!({"version": 2});
    world.apply(edited).await?;
    world.run(500).await?;
    let started = world.started_dues(&job("tick"));
    ensure!(steps(&started).iter().all(|step| *step == 10), "{started:?}");
    assert_eq!(world.most_at_once[&job("tick")], 1);
    assert_eq!(world.doubled().len(), 0);
    Ok(())
}

#[tokio::test]
async fn those_that_wait_are_skipped_if_their_job_is_gone() -> Result<()> {
    let mut world = ticking("queue-all").await?;
    world.run(105).await?;
    let before = world.runs(&job("tick")).await?;
    let waiting = before.values().filter(|run| run.state == RunState::Waiting).count();
    ensure!(waiting >= 5, "{waiting} wait");
    world.delete(&job("tick")).await?;
    world.run(60).await?;
    let runs = world.runs(&job("tick")).await?;
    assert_eq!(counted(&runs, &SkipReason::Deleted), waiting);
    ensure!(runs.values().all(|run| run.state.is_end()), "{runs:?}");
    Ok(())
}

#[tokio::test]
async fn the_starting_deadline_counts_while_a_run_waits() -> Result<()> {
    let mut world = World::begin()?;
    world.takes.insert(job("tick"), Duration::from_secs(25));
    world.start();
    let mut hurried = every("tick", 10, "queue-all");
    hurried["spec"]["startingDeadline"] = json!("40s");
    world.apply(hurried).await?;
    world.run(605).await?;
    for (run, starts) in &world.started {
        let model::id::RunId::Occurrence(occurrence) = run else { continue };
        ensure!(starts[0].ms_since(occurrence.due_at) <= 41_000, "{run} started at {}", starts[0]);
    }
    let runs = world.runs(&job("tick")).await?;
    ensure!(counted(&runs, &SkipReason::StartingDeadline) > 20, "{runs:?}");
    assert_eq!(world.most_at_once[&job("tick")], 1);
    let started = world.started_dues(&job("tick")).len();
    ensure!((21..=24).contains(&started), "a skipped run makes room at once: {started} started");
    Ok(())
}

#[tokio::test]
async fn a_triggered_run_obeys_the_policy_and_survives_an_edit() -> Result<()> {
    let mut world = World::begin()?;
    world.takes.insert(job("tick"), Duration::from_secs(25));
    world.start();
    let mut daily = every("tick", 10, "queue-all");
    daily["spec"]["schedule"] = json!({"every": "1d"});
    world.apply(daily.clone()).await?;
    world.run(5).await?;
    for _ in 0..3 {
        world.ask("trigger", json!({"job": "default/tick"})).await?;
        world.run(2).await?;
    }
    assert_eq!(world.started_dues(&job("tick")).len(), 1);
    daily["spec"]["payload"] = json!(7);
    world.apply(daily).await?;
    world.run(90).await?;
    assert_eq!(world.started_dues(&job("tick")).len(), 3);
    assert_eq!(world.most_at_once[&job("tick")], 1);
    Ok(())
}

#[tokio::test]
async fn replace_cancels_the_earlier_run_and_starts_when_it_has_ended() -> Result<()> {
    let mut world = ticking("replace").await?;
    world.run(305).await?;
    let started = world.started_dues(&job("tick"));
    ensure!(steps(&started).iter().all(|step| *step == 10), "{started:?}");
    ensure!(started.len() >= 28, "{} started", started.len());
    assert_eq!(world.most_at_once[&job("tick")], 1);
    let runs = world.runs(&job("tick")).await?;
    let cancelled = runs.values().filter(|run| run.state == RunState::Cancelled);
    let by_us = cancelled.filter(|run| run.cancel.as_ref().is_some_and(|mark| mark.by.contains("replace")));
    ensure!(by_us.count() >= started.len() - 2, "{runs:?}");
    Ok(())
}

#[tokio::test]
async fn a_run_that_does_not_stop_is_disregarded_after_the_grace() -> Result<()> {
    let mut world = ticking("replace").await?;
    world.takes.insert(job("tick"), Duration::from_secs(300));
    world.stubborn.insert(job("tick"));
    world.run(100).await?;
    let runs = world.runs(&job("tick")).await?;
    let started = world.started_dues(&job("tick"));
    let first = &runs[&started[0]];
    assert_eq!(first.state, RunState::Cancelled);
    let mark = first.cancel.as_ref().map(|mark| mark.at);
    let took = first.ended_at.zip(mark).map(|(ended_at, at)| ended_at.ms_since(at));
    ensure!(took.is_some_and(|took| (30_000..33_000).contains(&took)), "{first:?}");
    // Its own report changes nothing.
    world.run(300).await?;
    assert_eq!(world.runs(&job("tick")).await?[&started[0]].state, RunState::Cancelled);
    Ok(())
}

#[tokio::test]
async fn a_run_can_be_cancelled_at_every_stage_of_its_life() -> Result<()> {
    use store::ledger::CancelOutcome;
    let mut world = ticking("queue-all").await?;
    world.run(25).await?;
    let id = job("tick");
    let running = world.started_dues(&id).pop().expect("one runs");
    let waiting = running.plus_ms(10_000);
    let (planned, far) = (running.plus_ms(50_000), running.plus_ms(3_600_000));
    assert_eq!(world.cancel(&id, far).await?, CancelOutcome::Cancelled);
    assert_eq!(world.cancel(&id, planned).await?, CancelOutcome::Cancelled);
    assert_eq!(world.cancel(&id, waiting).await?, CancelOutcome::Cancelled);
    assert_eq!(world.cancel(&id, running).await?, CancelOutcome::Requested);
    assert_eq!(world.cancel(&id, running.plus_ms(1)).await?, CancelOutcome::Unknown);
    world.run(200).await?;
    for due in [planned, waiting, running] {
        let record = world.record(&id, due).await?.expect("a record");
        assert_eq!((record.state, due), (RunState::Cancelled, due));
    }
    let started = world.started_dues(&id);
    ensure!(!started.contains(&planned) && !started.contains(&waiting), "{started:?}");
    assert_eq!(world.cancel(&id, running).await?, CancelOutcome::Ended(RunState::Cancelled));
    // Without others in its way, the far one would have been on time.
    world.takes.insert(id.clone(), Duration::ZERO);
    world.run(3_600).await?;
    let started = world.started_dues(&id);
    ensure!(started.contains(&far.plus_ms(10_000)) && !started.contains(&far), "{started:?}");
    assert_eq!(world.doubled().len(), 0);
    Ok(())
}

#[tokio::test]
async fn a_run_that_nobody_has_in_hand_is_taken_off_the_stream() -> Result<()> {
    use bus::RunStream;
    let mut world = World::begin()?;
    world.start();
    let mut nobodys = every("tick", 10, "allow");
    nobodys["spec"]["queue"] = json!("nobody");
    world.apply(nobodys).await?;
    world.run(25).await?;
    let runs = world.runs(&job("tick")).await?;
    let (due, run) =
        runs.iter().find(|(_, run)| run.state == RunState::Dispatched).expect("one is published");
    world.cancel(&job("tick"), *due).await?;
    world.run(2).await?;
    let record = world.record(&job("tick"), *due).await?.expect("a record");
    assert_eq!(record.state, RunState::Cancelled);
    assert_eq!(world.bus.stored_run(run.sequence.expect("a sequence")).await?, None);
    Ok(())
}

#[tokio::test]
async fn a_job_that_follows_its_own_ends_runs_once_at_a_time_and_never_stops() -> Result<()> {
    let mut world = World::begin()?;
    world.takes.insert(job("tick"), Duration::from_secs(25));
    world.start();
    let mut follows = every("tick", 10, "allow");
    follows["spec"]["schedule"] = json!({"after": "30s"});
    world.apply(follows.clone()).await?;
    world.run(600).await?;
    let started = world.started_dues(&job("tick"));
    // 25 s of work, up to a second until its end is settled, 30 s of waiting, up to a second until the next start.
    ensure!(steps(&started).iter().all(|step| (55..=57).contains(step)), "{started:?}");
    ensure!((10..=11).contains(&started.len()), "{started:?}");
    // Crashes, an outage, an edit of something else and a cancelled run don't break the chain.
    for _ in 0..5 {
        world.crash();
        world.run(3).await?;
        world.start();
        world.run(17).await?;
    }
    world.crash();
    world.run(200).await?;
    world.start();
    follows["spec"]["payload"] = json!(7);
    world.apply(follows.clone()).await?;
    world.run(100).await?;
    let before = world.started_dues(&job("tick"));
    ensure!(before.len() >= started.len() + 2, "{before:?}");
    let last = *before.last().expect("it ran");
    world.cancel(&job("tick"), last).await?;
    world.run(120).await?;
    let after = world.started_dues(&job("tick"));
    ensure!(after.len() > before.len(), "{after:?}");
    assert_eq!((world.most_at_once[&job("tick")], world.doubled().len()), (1, 0));
    // A wiped store counts from its rebuilding.
    world.store.wipe();
    world.run(120).await?;
    ensure!(world.started_dues(&job("tick")).len() > after.len(), "it stopped after a wipe");
    // Suspended, and resumed.
    follows["spec"]["suspend"] = json!(true);
    world.apply(follows.clone()).await?;
    world.run(60).await?;
    let suspended = world.started_dues(&job("tick")).len();
    world.run(120).await?;
    assert_eq!(world.started_dues(&job("tick")).len(), suspended);
    follows["spec"]["suspend"] = json!(false);
    world.apply(follows).await?;
    world.run(60).await?;
    ensure!(world.started_dues(&job("tick")).len() > suspended, "it stopped after a pause");
    assert_eq!(world.doubled().len(), 0);
    Ok(())
}

#[tokio::test]
async fn what_is_caught_up_starts_no_faster_than_its_rate() -> Result<()> {
    let mut world = World::begin()?;
    world.start();
    let mut slow = every("slow", 10, "allow");
    slow["spec"]["catchUp"]["rate"] = json!("6/1m burst 2");
    world.apply(slow).await?;
    world.apply(every("free", 10, "allow")).await?;
    world.run(60).await?;
    world.crash();
    world.run(600).await?;
    let back = world.clock.now();
    world.start();
    world.run(60).await?;
    // Crashes change nothing, nor does somebody else who takes over.
    for _ in 0..5 {
        world.crash();
        world.run(4).await?;
        world.start();
        world.run(60).await?;
    }
    world.run(400).await?;
    let starts = |name: &str| {
        let caught_up = world.started.iter().filter_map(|(run, starts)| match run {
            model::id::RunId::Occurrence(run) if run.job == job(name) && run.due_at <= back => {
                Some(starts[0])
            }
            _ => None,
        });
        let mut starts: Vec<Timestamp> = caught_up.filter(|start| *start > back).collect();
        starts.sort();
        starts
    };
    let (slow, free) = (starts("slow"), starts("free"));
    ensure!(slow.len() >= 60 && free.len() == slow.len(), "{} and {}", slow.len(), free.len());
    ensure!(free.iter().all(|start| start.ms_since(back) < 10_000), "{free:?}");
    for (index, window) in slow.windows(3).enumerate() {
        let apart = window[2].ms_since(window[0]);
        ensure!(apart >= 10_000, "{index}: three starts in {apart} ms");
    }
    assert_eq!(world.doubled().len(), 0);
    Ok(())
}

/// Random histories of crashes, outages and edits: never more at once than may be, nothing is lost or doubled, and every
/// occurrence either ran or has a record that says why not.
#[tokio::test]
async fn random_histories_keep_the_limits_and_account_for_every_occurrence() -> Result<()> {
    let kept = include_str!("../overlap-seeds.txt").lines().filter(|line| !line.starts_with('#'));
    for line in kept {
        history(line.trim().parse()?).await?;
    }
    // More with ECRON_TEST_SEEDS=N.
    let seeds = std::env::var("ECRON_TEST_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    for seed in 1..=seeds {
        history(seed).await?;
    }
    Ok(())
}

async fn history(seed: u64) -> Result<()> {
    let entropy = Entropy::seeded(seed);
    let draw = |below: u64| entropy.next_u64() % below;
    let policies = ["allow", "skip", "queue-one", "queue-all", "replace"];
    let mut world = World::begin()?;
    world.start();
    let mut limits = Vec::new();
    let mut jobs = Vec::new();
    for n in 0..3 {
        let name = format!("job-{n}");
        let limit = 1 + draw(3);
        let mut spec = every(&name, 2 + draw(20), policies[draw(5) as usize]);
        spec["spec"]["maxActive"] = json!(limit);
        world.takes.insert(job(&name), Duration::from_secs(draw(40)));
        world.apply(spec.clone()).await?;
        limits.push(limit as usize);
        jobs.push((name, spec));
    }
    let since = world.clock.now();
    world.run(5).await?;
    for _ in 0..25 {
        let which = draw(3) as usize;
        match draw(6) {
            0 => {
                // Any field but schedule and limit.
                let (_, spec) = &mut jobs[which];
                spec["spec"]["overlap"] = json!(policies[draw(5) as usize]);
                spec["spec"]["payload"] = json!(draw(100));
                world.apply(spec.clone()).await?;
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
            4 => {
                let (name, _) = &jobs[which];
                world.takes.insert(job(name), Duration::from_secs(draw(40)));
            }
            _ => {}
        }
        world.run(1 + draw(40) as u32).await?;
    }
    let until = world.clock.now().plus_ms(-5_000);
    for ((name, _), limit) in jobs.iter().zip(&limits) {
        let id = job(name);
        let most = world.most_at_once.get(&id).copied().unwrap_or(0);
        ensure!(most <= *limit, "seed {seed}: {most} runs of {name} at once, of {limit}");
        let started = world.started_dues(&id);
        let schedule = world.declared(&id).await?.schedule;
        let mut after = since;
        while let Some(due) = schedule.next_after(after).filter(|due| *due <= until) {
            after = due;
            let record = world.record(&id, due).await?;
            let ran = started.contains(&due);
            match record.map(|record| record.state) {
                // Its history is full.
                None if started.len() > 1_000 && ran => {}
                None => ensure!(false, "seed {seed}: {name} has no record of {due}; ran: {ran}"),
                Some(RunState::Skipped) => ensure!(!ran, "seed {seed}: {name} ran {due}, and says skipped"),
                Some(RunState::Cancelled) => {}
                Some(RunState::Succeeded) => ensure!(ran, "seed {seed}: {name} didn't run {due}"),
                Some(_) => {}
            }
        }
    }
    ensure!(world.doubled().is_empty(), "seed {seed}: doubled {:?}", world.doubled());
    Ok(())
}
