//! What `explain` says of occurrences that an interruption, a deadline, a pause or an edit touched: the rules at work on
//! a clock that jumps.

#![expect(clippy::expect_used, reason = "a name that a test makes up is a name")]

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::world::World;
use model::name::JobId;
use model::time::{SECOND_MS, Timestamp};
use serde_json::{Value, json};

fn job(name: &str) -> JobId {
    format!("default/{name}").parse().expect("a name")
}

fn every(name: &str, seconds: u64, more: Value) -> Value {
    let mut manifest = json!({
        "apiVersion": "ecron/v1", "kind": "Job", "metadata": {"name": name},
        "spec": {"schedule": {"every": format!("{seconds}s"), "start": "2020-01-01T00:00:00Z"}, "queue": "work"},
    });
    if let (Some(spec), Value::Object(more)) = (manifest["spec"].as_object_mut(), more) {
        spec.extend(more);
    }
    manifest
}

async fn expect(world: &World, name: &str, at: Timestamp, code: &str, words: &[&str]) -> Result<()> {
    let answer = world.ask("explain", json!({"job": job(name).to_string(), "at": at.to_string()})).await?;
    let one = &answer["explanations"][0];
    let cause = one["cause"].as_str().with_context(|| format!("{answer:#}"))?;
    ensure!(one["code"] == code && words.iter().all(|word| cause.contains(word)), "{name} at {at}: {one:#}");
    Ok(())
}

/// Expects the whole chain, each step by its status and its name, and the last one by some of its words.
async fn expect_steps(
    world: &World,
    name: &str,
    at: Timestamp,
    steps: &[&str],
    words: &[&str],
) -> Result<()> {
    let answer = world.ask("explain", json!({"job": job(name).to_string(), "at": at.to_string()})).await?;
    let told = answer["explanations"][0]["steps"].as_array().with_context(|| format!("{answer:#}"))?;
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let seen: Vec<String> =
        told.iter().map(|step| format!("{} {}", word(&step["status"]), word(&step["step"]))).collect();
    let last = told.last().map(|step| word(&step["note"])).unwrap_or_default();
    ensure!(seen == steps && words.iter().all(|word| last.contains(word)), "{name} at {at}: {answer:#}");
    Ok(())
}

/// The steps that every occurrence of a job in force has behind it.
const IN_FORCE: [&str; 4] = ["done declared", "done named", "done enabled", "done installed"];

/// And those that a run has that ended with its first attempt.
const TO_ITS_END: [&str; 7] = [
    "done planned",
    "done taken",
    "done admitted",
    "done published",
    "done delivered",
    "done attempted",
    "done acknowledged",
];

fn in_force_then<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [IN_FORCE.as_slice(), more].concat()
}

/// The occurrence of an interval of ten seconds that is not after an instant, some steps earlier or later.
fn tick(at: Timestamp, steps: i64) -> Timestamp {
    at.floor(10 * SECOND_MS).plus_ms(steps * 10 * SECOND_MS)
}

#[tokio::test]
async fn an_interruption_is_told_with_what_catch_up_made_of_it() -> Result<()> {
    // Long and short: the planner thins a long one out, the dispatcher decides about a short one.
    for down_s in [100, 2_000] {
        let mut world = World::begin()?;
        world.start();
        let policy = |policy: Value| json!({"catchUp": policy});
        world.apply(every("none", 10, policy(json!({"policy": "none"})))).await?;
        world.apply(every("latest", 10, policy(json!({"policy": "latest"})))).await?;
        world.apply(every("window", 10, policy(json!({"policy": "all", "window": "45s"})))).await?;
        world.apply(every("max", 10, policy(json!({"policy": "all", "max": 2})))).await?;
        world.run(30).await?;
        let down = world.clock.now();
        world.crash();
        world.run(down_s).await?;
        let back = world.clock.now();
        let early = tick(down, 3);
        // Down still: said as such.
        expect(&world, "latest", early, "no-dispatcher", &["no dispatcher is running now"])
            .await
            .or(expect(&world, "latest", early, "no-planner", &["no planner is running now"]).await)?;
        world.start();
        world.run(30).await?;
        let gone = &["nobody dispatched", "from 2026-11-22T06:45:"];
        expect(&world, "none", early, "catch-up-none", &[gone, ["catchUp is none"].as_slice()].concat())
            .await?;
        expect(&world, "latest", early, "catch-up-latest", &[gone, ["only the latest"].as_slice()].concat())
            .await?;
        expect(&world, "window", early, "catch-up-window", &[gone, ["catchUp window"].as_slice()].concat())
            .await?;
        expect(&world, "max", early, "catch-up-max", &[gone, ["catchUp.max"].as_slice()].concat()).await?;
        expect(&world, "latest", tick(back, 0), "succeeded", &["it ran and succeeded"]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_came_too_late_is_told_by_its_deadline() -> Result<()> {
    let mut world = World::begin()?;
    world.start();
    world.apply(every("urgent", 10, json!({"startingDeadline": "3s", "catchUp": {"policy": "all"}}))).await?;
    world.run(30).await?;
    let down = world.clock.now();
    world.crash();
    world.run(60).await?;
    world.start();
    world.run(10).await?;
    expect(&world, "urgent", tick(down, 2), "starting-deadline", &["startingDeadline", "nobody dispatched"])
        .await
}

#[tokio::test]
async fn pauses_edits_and_deletions_are_told_with_their_instants() -> Result<()> {
    let mut world = World::begin()?;
    world.start();
    world.apply(every("tick", 10, json!({}))).await?;
    world.apply(every("moved", 10, json!({}))).await?;
    world.apply(every("gone", 10, json!({"history": {"succeeded": 100}}))).await?;
    world.run(40).await?;
    let paused = world.clock.now();
    world.apply(every("tick", 10, json!({"suspend": true}))).await?;
    world.apply(every("moved", 20, json!({}))).await?;
    world.delete(&job("gone")).await?;
    world.run(100).await?;
    expect(&world, "tick", tick(paused, 3), "suspended", &["suspended then", "paused at"]).await?;
    world.apply(every("tick", 10, json!({}))).await?;
    world.run(30).await?;
    // Resumed: its catch-up has decided.
    let words = &["the job was paused from", "to 2026"];
    expect(&world, "tick", tick(paused, 3), "catch-up-latest", words).await?;
    let odd = (1..=4).map(|steps| tick(paused, steps)).find(|at| at.as_ms() % (20 * SECOND_MS) != 0);
    let odd = odd.context("an instant that only the old schedule named")?;
    expect(&world, "moved", odd, "superseded", &["edited at", "doesn't name this instant"]).await?;
    expect(&world, "gone", tick(paused, 3), "deleted", &["deleted at"]).await?;
    expect(&world, "gone", tick(paused, -1), "deleted-since", &["its history went with it"]).await?;
    expect(&world, "tick", tick(world.clock.now(), 3), "due-later", &["minute tier"]).await
}

#[tokio::test]
async fn overlap_is_told_by_its_policy() -> Result<()> {
    let mut world = World::begin()?;
    world.start();
    // Nobody serves this queue, so the first run of each stays under way.
    let overlap = |policy: &str| json!({"overlap": policy, "queue": "unserved"});
    world.apply(every("skips", 10, overlap("skip"))).await?;
    world.apply(every("coalesces", 10, overlap("queue-one"))).await?;
    world.apply(every("queues", 10, overlap("queue-all"))).await?;
    let begun = world.clock.now();
    world.run(50).await?;
    let (first, third) = (tick(begun, 1), tick(begun, 3));
    expect(&world, "queues", first, "nobody-pulls", &["nobody pulls from the queue default/unserved"])
        .await?;
    expect(&world, "skips", third, "overlap", &["an earlier run was still under way"]).await?;
    expect(&world, "coalesces", third, "coalesced", &["a newer occurrence took its place"]).await?;
    expect(&world, "queues", third, "waits-for-earlier-run", &["waits for an earlier run"]).await
}

#[tokio::test]
async fn a_cancellation_is_told_with_who_asked_for_it() -> Result<()> {
    let mut world = World::begin()?;
    world.start();
    world.apply(every("tick", 10, json!({}))).await?;
    world.run(10).await?;
    let next = tick(world.clock.now(), 2);
    let run = format!("default/tick@{next}");
    world.ask("cancel", json!({"run": run, "by": "ann@desk", "reason": "not today"})).await?;
    let once = format!("it was cancelled at {} by ann@desk: not today", world.clock.now());
    expect(&world, "tick", next, "cancelled", &[&once]).await?;
    let withdrawn = in_force_then(&["refused planned"]);
    let words = ["cancelled by ann@desk: not today, before it was due"];
    expect_steps(&world, "tick", next, &withdrawn, &words).await?;
    world.run(30).await?;
    expect(&world, "tick", next, "cancelled", &["by ann@desk"]).await?;
    expect_steps(&world, "tick", next, &withdrawn, &words).await
}

#[tokio::test]
async fn a_run_that_is_cancelled_before_it_is_published_came_no_further() -> Result<()> {
    let mut world = World::begin()?;
    world.limit(json!({"concurrency": 1})).await?;
    world.takes.insert(job("narrow"), Duration::from_secs(1_000));
    world.start();
    world.apply(every("narrow", 10, json!({}))).await?;
    world.apply(every("unserved", 10, json!({"queue": "unserved"}))).await?;
    world.apply(every("queues", 10, json!({"queue": "unserved", "overlap": "queue-all"}))).await?;
    world.apply(every("replaces", 10, json!({"queue": "unserved", "overlap": "replace"}))).await?;
    let begun = world.clock.now();
    world.run(25).await?;
    let (first, second) = (tick(begun, 1), tick(begun, 2));
    for (name, at) in [("narrow", second), ("unserved", first), ("queues", second)] {
        let run = format!("{}@{at}", job(name));
        world.ask("cancel", json!({"run": run, "by": "ann@desk"})).await?;
    }
    world.run(5).await?;
    let waited = in_force_then(&["done planned", "done taken", "refused admitted"]);
    let words = ["cancelled by ann@desk while it waited"];
    expect_steps(&world, "narrow", second, &waited, &words).await?;
    expect_steps(&world, "queues", second, &waited, &words).await?;
    let published = ["done planned", "done taken", "done admitted", "done published", "refused delivered"];
    let published = in_force_then(&published);
    let words = ["cancelled by ann@desk: its message was taken off its queue"];
    expect_steps(&world, "unserved", first, &published, &words).await?;
    let words = ["by `overlap: replace`: a newer run takes its place"];
    expect(&world, "replaces", first, "cancelled", &words).await
}

#[tokio::test]
async fn what_was_triggered_while_nobody_dispatched_runs_whatever_catch_up_says() -> Result<()> {
    let mut world = World::begin()?;
    world.start();
    world.apply(every("tick", 3_600, json!({"catchUp": {"policy": "none"}}))).await?;
    world.run(30).await?;
    world.crash();
    let mut runs = Vec::new();
    for _ in 0..3 {
        world.run(5).await?;
        let reply = world.ask("trigger", json!({"job": "default/tick"})).await?;
        runs.push(reply["run"].as_str().context("a run")?.to_owned());
    }
    world.run(60).await?;
    world.start();
    world.run(20).await?;
    for run in runs {
        let (_, at) = run.split_once('@').context("an instant")?;
        expect(&world, "tick", at.parse()?, "succeeded", &["it ran and succeeded"]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_a_resume_caught_up_on_and_nobody_remembers_is_not_said_to_be_suspended() -> Result<()> {
    let mut world = World::begin()?;
    world.start();
    let extra = json!({"catchUp": {"policy": "all"}, "history": {"succeeded": 1}});
    world.apply(every("tick", 10, extra)).await?;
    world.run(30).await?;
    world.ask("pause", json!({"job": "default/tick"})).await?;
    let paused = world.clock.now();
    world.run(60).await?;
    world.ask("resume", json!({"job": "default/tick"})).await?;
    world.run(60).await?;
    expect(&world, "tick", tick(paused, 3), "forgotten", &["dealt with", "keeps 1 succeeded"]).await
}

#[tokio::test]
async fn a_pause_is_told_with_who_paused_and_what_the_resumption_made_of_it() -> Result<()> {
    let mut world = World::begin()?;
    world.start();
    world.apply(every("tick", 10, json!({"catchUp": {"policy": "none"}}))).await?;
    world.run(30).await?;
    world.ask("pause", json!({"job": "default/tick", "by": "ann@desk"})).await?;
    let paused = world.clock.now();
    world.run(60).await?;
    let (within, ahead) = (tick(paused, 3), tick(world.clock.now(), 5));
    expect(&world, "tick", within, "suspended", &["suspended then", "by ann@desk"]).await?;
    expect(&world, "tick", ahead, "suspended", &["is suspended", "by ann@desk"]).await?;
    world.ask("resume", json!({"job": "default/tick", "by": "bob@desk"})).await?;
    world.run(30).await?;
    let answer = world.ask("explain", json!({"job": "default/tick", "at": within.to_string()})).await?;
    let one = &answer["explanations"][0];
    let cause = one["cause"].as_str().unwrap_or_default();
    ensure!(
        one["fate"] == "did-not-run" && cause.contains("paused") && cause.contains("by ann@desk"),
        "{one:#}"
    );
    let steps = in_force_then(&["open planned", "open taken", "refused admitted"]);
    expect_steps(&world, "tick", within, &steps, &["catchUp is none"]).await
}

#[tokio::test]
async fn what_is_not_named_is_told_so_of_a_suspended_job_too() -> Result<()> {
    let mut world = World::begin()?;
    world.start();
    world.apply(every("tick", 10, json!({}))).await?;
    world.run(15).await?;
    world.ask("pause", json!({"job": "default/tick", "by": "ann@desk"})).await?;
    world.run(5).await?;
    let ahead = tick(world.clock.now(), 3);
    let odd = ahead.plus_ms(SECOND_MS);
    expect(&world, "tick", odd, "not-named", &["doesn't name this instant"]).await?;
    expect_steps(&world, "tick", odd, &["done declared", "refused named"], &[]).await?;
    expect(&world, "tick", ahead, "suspended", &["is suspended"]).await?;
    let steps = ["done declared", "done named", "refused enabled"];
    expect_steps(&world, "tick", ahead, &steps, &["suspended"]).await
}

#[tokio::test]
async fn a_schedule_that_came_later_is_told_with_its_instant() -> Result<()> {
    let mut world = World::begin()?;
    world.start();
    world.apply(every("edited", 20, json!({}))).await?;
    world.run(45).await?;
    let begun = world.clock.now();
    world.run(20).await?;
    world.apply(every("edited", 30, json!({}))).await?;
    let since = world.clock.now();
    world.run(5).await?;
    // The change log is gone with Redis: what the older schedule was isn't known any more.
    world.store.wipe();
    world.run(30).await?;
    let early = (-2..=2).map(|n| tick(begun, n)).find(|at| {
        let named = |seconds: i64| at.as_ms() % (seconds * SECOND_MS) == 0;
        named(30) && !named(20)
    });
    let early = early.context("an instant that only the new schedule names")?;
    let words = [format!("counts only since {since}, when it was declared")];
    expect(&world, "edited", early, "before-schedule", &[&words[0]]).await?;
    let steps = ["done declared", "refused named"];
    expect_steps(&world, "edited", early, &steps, &["counts only since then"]).await
}

#[tokio::test]
async fn a_job_that_follows_its_ends_says_which_end() -> Result<()> {
    let mut world = World::begin()?;
    world.takes.insert(job("follows"), Duration::from_secs(5));
    world.start();
    let mut follows = every("follows", 10, json!({}));
    follows["spec"]["schedule"] = json!({"after": "10s"});
    world.apply(follows).await?;
    world.run(60).await?;
    let runs = world.runs(&job("follows")).await?;
    let mut newest = runs.iter().rev().filter(|(_, run)| run.ended_at.is_some());
    let ((at, _), (_, before)) = newest.next().zip(newest.next()).context("two runs that have ended")?;
    let ended_at = before.ended_at.context("an end")?;
    let answer = world.ask("explain", json!({"job": "default/follows", "at": at.to_string()})).await?;
    let named = &answer["explanations"][0]["steps"][1];
    let note = named["note"].as_str().unwrap_or_default();
    ensure!(note.ends_with(&format!("the one before ended at {ended_at}")), "{answer:#}");
    expect_steps(&world, "follows", *at, &in_force_then(&TO_ITS_END), &["succeeded"]).await?;
    // None was due here.
    let odd = at.plus_ms(3 * SECOND_MS);
    expect(&world, "follows", odd, "follows-ends", &["10s after the last one ended", "none was due"]).await?;
    expect_steps(&world, "follows", odd, &["done declared", "refused named"], &[]).await
}

#[tokio::test]
async fn what_a_backfill_asked_for_is_told_with_its_name() -> Result<()> {
    let mut world = World::begin()?;
    world.start();
    world.apply(every("tick", 3_600, json!({"history": {"succeeded": 100}}))).await?;
    world.run(5).await?;
    let request = json!({
        "job": "default/tick", "name": "b1", "from": "2026-11-22T02:00:00Z", "to": "2026-11-22T04:00:00Z",
    });
    world.ask("backfill", request).await?;
    world.run(20).await?;
    let at: Timestamp = "2026-11-22T03:00:00Z".parse()?;
    expect(&world, "tick", at, "succeeded", &["it ran and succeeded"]).await?;
    expect_steps(&world, "tick", at, &in_force_then(&TO_ITS_END), &["succeeded"]).await?;
    let answer = world.ask("explain", json!({"job": "default/tick", "at": at.to_string()})).await?;
    let notes: Vec<&str> = ["/0/note", "/1/note"]
        .iter()
        .filter_map(|path| answer["explanations"][0]["steps"].pointer(path)?.as_str())
        .collect();
    ensure!(notes[0] == "created after this instant; the run was asked for", "{answer:#}");
    ensure!(notes[1].ends_with("asked for by the backfill default/b1"), "{answer:#}");
    Ok(())
}

#[tokio::test]
async fn a_run_that_waits_at_its_gate_is_told_with_the_queue() -> Result<()> {
    let mut world = World::begin()?;
    world.limit(json!({"concurrency": 1})).await?;
    world.takes.insert(job("narrow"), Duration::from_secs(1_000));
    world.start();
    world.apply(every("narrow", 10, json!({}))).await?;
    let begun = world.clock.now();
    world.run(25).await?;
    let words = ["at the gate of the queue default/work", "whose limits are reached (concurrency 1)"];
    expect(&world, "narrow", tick(begun, 2), "waits-at-gate", &words).await?;
    // Nothing is published before it is let through.
    let later = ["missing published", "missing delivered", "missing attempted", "missing acknowledged"];
    let steps = [["done planned", "done taken", "missing admitted"].as_slice(), &later].concat();
    expect_steps(&world, "narrow", tick(begun, 2), &in_force_then(&steps), &["no end is known yet"]).await
}
