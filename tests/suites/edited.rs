//! What planners say of runs that waited in their queue while their job was edited, over the memory twins.

use std::time::Duration;

use anyhow::{Context, Result};
use bus::checkpoints::Cluster;
use bus::events::AttemptReport;
use bus::queue::Delivery;
use bus::{Checkpoints, EventWriter, QueueReader};
use harness::world::World;
use model::run::{AttemptEnd, Outcome, RunState, SkipReason};
use model::shard::ShardCount;
use serde_json::{Value, json};

/// Nobody carries out the queue `later` here.
fn manifest(version: u64, queue: &str) -> Value {
    json!({
        "apiVersion": "ecron/v1", "kind": "Job", "metadata": {"name": "tick"},
        "spec": {
            "schedule": {"every": "10s"}, "queue": queue, "payload": {"version": version},
            "deadline": "1h", "startingDeadline": "30m", "history": {"succeeded": 100},
        },
    })
}

/// A world in which a run waits in `later`, of revision `1`-ish; its id and its revision.
async fn waiting() -> Result<(World, String, u64)> {
    let mut world = World::begin()?;
    let settings = Cluster {
        id: "edited".into(),
        shards: ShardCount::new(4).context("four shards")?,
        message_id_key: [7; 16],
        created_at: world.clock.now(),
    };
    world.bus.init_cluster(&settings).await?;
    world.start();
    world.apply(manifest(1, "later")).await?;
    world.run(15).await?;
    let runs = world.ask("runs", json!({"job": "default/tick"})).await?;
    let run = &runs["runs"][0];
    assert_eq!(run["state"], "dispatched", "{runs}");
    let revision = run["revision"].as_u64().unwrap_or_default();
    Ok((world, run["run"].as_str().unwrap_or_default().to_owned(), revision))
}

async fn order(world: &World, queue: &str, run: &str, revision: u64) -> Result<Value> {
    let request = json!({"run": run, "revision": revision, "generation": 0});
    world.ask(&format!("order.default.{queue}"), request).await
}

/// `{"version":2}` in base64.
const VERSION_2: &str = "eyJ2ZXJzaW9uIjoyfQ==";

#[tokio::test]
async fn a_run_of_the_present_revision_is_carried_out_as_it_was_published() -> Result<()> {
    let (world, run, revision) = waiting().await?;
    assert_eq!(order(&world, "later", &run, revision).await?, json!({"fate": "as-published"}));
    // Accepted, but not installed yet.
    world.apply(manifest(2, "later")).await?;
    assert_eq!(order(&world, "later", &run, revision).await?, json!({"fate": "as-published"}));
    Ok(())
}

#[tokio::test]
async fn a_superseded_run_gets_the_present_order() -> Result<()> {
    let (mut world, run, revision) = waiting().await?;
    world.apply(manifest(2, "later")).await?;
    world.run(1).await?;
    let order = order(&world, "later", &run, revision).await?;
    assert_eq!((&order["fate"], &order["payloadBase64"]), (&json!("revised"), &json!(VERSION_2)));
    let headers = &order["headers"];
    assert_eq!(headers["Ecron-Run-Id"], json!(run));
    assert!(
        headers["Ecron-Revision"].as_str().and_then(|text| text.parse().ok()) > Some(revision),
        "{order}"
    );
    // From when it was published, not from now.
    let record = world.ask("run", json!({"run": run})).await?;
    let published_at: model::time::Timestamp = record["publishedAt"].as_str().unwrap_or_default().parse()?;
    assert_eq!(headers["Ecron-Deadline"], json!(published_at.plus_ms(3_600_000).to_string()));
    Ok(())
}

#[tokio::test]
async fn a_triggered_run_keeps_its_own_payload() -> Result<()> {
    let (mut world, _, revision) = waiting().await?;
    let trigger = json!({"job": "default/tick", "payload": {"version": 2}});
    let run = world.ask("trigger", trigger).await?["run"].as_str().unwrap_or_default().to_owned();
    world.run(1).await?;
    world.apply(manifest(3, "later")).await?;
    world.run(1).await?;
    let order = order(&world, "later", &run, revision).await?;
    assert_eq!(order["payloadBase64"], json!(VERSION_2), "{order}");
    Ok(())
}

#[tokio::test]
async fn a_run_whose_job_has_moved_is_carried_out_in_its_new_queue_once() -> Result<()> {
    let (mut world, run, revision) = waiting().await?;
    world.apply(manifest(2, "work")).await?;
    world.run(1).await?;
    for _ in 0..2 {
        assert_eq!(order(&world, "later", &run, revision).await?, json!({"fate": "elsewhere"}));
    }
    world.run(2).await?;
    let record = world.ask("run", json!({"run": run})).await?;
    assert_eq!((&record["state"], &record["generation"]), (&json!("succeeded"), &json!(1)), "{record}");
    assert!(world.doubled().is_empty());
    assert_eq!(world.started_dues(&"default/tick".parse()?).len(), 1);
    assert_eq!(order(&world, "later", &run, revision).await?, json!({"fate": "elsewhere"}));
    Ok(())
}

#[tokio::test]
async fn a_run_of_a_deleted_job_is_told_so_and_one_that_redis_forgot_waits() -> Result<()> {
    let (mut world, run, revision) = waiting().await?;
    world.delete(&"default/tick".parse()?).await?;
    world.run(1).await?;
    assert_eq!(order(&world, "later", &run, revision).await?, json!({"fate": "deleted"}));

    let (mut world, run, revision) = waiting().await?;
    world.crash();
    world.store.wipe();
    let answer = order(&world, "later", &run, revision).await;
    assert!(answer.is_err_and(|problem| problem.to_string().contains("isn't installed yet")));
    Ok(())
}

#[tokio::test]
async fn why_a_run_of_a_deleted_job_was_skipped_is_explained() -> Result<()> {
    let (mut world, run, _) = waiting().await?;
    let delivery =
        world.bus.fetch(&"default/later".parse()?, 1, Duration::ZERO).await?.pop().context("it waits")?;
    world.delete(&"default/tick".parse()?).await?;
    world.run(1).await?;
    let (order, now) = (delivery.order().clone()?, world.clock.now());
    let end =
        AttemptEnd { attempt: 1, outcome: Outcome::Cancelled, error: None, started_at: now, ended_at: now };
    // What executors say of it (`executor-sdk/src/attempt/passing.rs`).
    let report = AttemptReport {
        run_id: order.run_id,
        queue: order.queue,
        revision: order.revision,
        generation: order.generation,
        end,
        ends_run: Some(RunState::Skipped),
        reason: Some(SkipReason::Deleted.describe().into()),
        due_at: order.due_at,
        executor: "host-1".into(),
        output: None,
    };
    world.bus.report(&report).await?;
    delivery.ack().await?;
    world.run(1).await?;
    let at = run.split_once('@').context("an occurrence")?.1;
    let explained = world.ask("explain", json!({"job": "default/tick", "at": at})).await?;
    let why = &explained["explanations"][0];
    assert_eq!((&why["fate"], &why["code"]), (&json!("did-not-run"), &json!("deleted")), "{why}");
    assert!(
        why["cause"].as_str().is_some_and(|cause| cause.contains("the job was deleted (deleted at ")),
        "{why}"
    );
    Ok(())
}
