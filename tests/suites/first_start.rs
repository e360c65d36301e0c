//! First starts on empty servers: what nodes that start at once must agree on, and what the first jobs must not lose.

use std::collections::BTreeSet;

use ambient::{Clock, Entropy};
use bus::Checkpoints;
use bus::checkpoints::Cluster;
use bus::nats::{NatsBus, NatsOptions};
use futures_util::future::try_join_all;
use harness::servers;
use harness::world::World;
use model::declared::Declared;
use model::id::Revision;
use model::manifest::{self, Node};
use model::name::JobId;
use model::shard::ShardCount;
use model::time::Timestamp;
use planner::install::install_plan;
use serde_json::json;
use store::plan::{Cursor, UNOWNED_MAX};

const NODES: usize = 8;
const ROUNDS: usize = 10;

/// Two nodes with different keys would publish the same run under different message ids, and JetStream would store both.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_start_at_once_agree_on_the_clusters_settings() -> anyhow::Result<()> {
    for round in 0..ROUNDS {
        let nats = servers::nats(&[]).await?;
        let url = nats.url();
        let node = || async {
            let bus = NatsBus::connect(&url, NatsOptions::default()).await?;
            bus.ensure_streams().await?;
            let entropy = Entropy::system();
            let proposal = Cluster {
                id: entropy.mint_id(),
                shards: ShardCount::default(),
                message_id_key: entropy.key128(),
                created_at: Clock::system().now(),
            };
            let cluster = bus.init_cluster(&proposal).await?;
            anyhow::Ok((cluster, bus))
        };
        let nodes = try_join_all((0..NODES).map(|_| node())).await?;
        let stored = nodes[0].1.cluster().await?;
        let ids: BTreeSet<&str> = nodes.iter().map(|(cluster, _)| cluster.id.as_str()).collect();
        let stored_id = stored.as_ref().map(|cluster| cluster.id.as_str());
        assert_eq!((ids.len(), stored_id), (1, ids.first().copied()), "round {round}: {ids:?}");
    }
    Ok(())
}

fn every_two_seconds() -> serde_json::Value {
    every(2, "all")
}

fn every(seconds: u32, catch_up: &str) -> serde_json::Value {
    json!({
        "apiVersion": "ecron/v1", "kind": "Job", "metadata": {"name": "first"},
        "spec": {
            "schedule": {"every": format!("{seconds}s")}, "queue": "work", "catchUp": {"policy": catch_up},
            "history": {"skipped": 1000},
        },
    })
}

/// The instants that a job names after one and up to another.
async fn named(
    world: &World,
    job: &JobId,
    after: Timestamp,
    until: Timestamp,
) -> anyhow::Result<Vec<Timestamp>> {
    let schedule = world.declared(job).await?.schedule;
    let due = std::iter::successors(schedule.next_after(after), |due| schedule.next_after(*due));
    Ok(due.take_while(|due| *due <= until).collect())
}

/// The API accepts a job as soon as one planner runs, also for a shard that has no owner yet.
#[tokio::test]
async fn a_job_that_was_accepted_before_its_shard_had_a_plan_misses_nothing() -> anyhow::Result<()> {
    let mut world = World::begin()?;
    let (spec, since) = world.apply(every_two_seconds()).await?;
    world.run(7).await?;
    world.start();
    world.run(30).await?;
    assert_eq!(world.started_dues(&spec.id), named(&world, &spec.id, since, world.clock.now()).await?);
    Ok(())
}

/// What is late for at most an hour (`UNOWNED_MAX`) because its shard never had an owner isn't missed; a shard begins no
/// earlier than that.
#[tokio::test]
async fn a_shard_that_nobody_owned_begins_an_hour_back() -> anyhow::Result<()> {
    let hour = u32::try_from(UNOWNED_MAX.as_secs())?;
    for (unowned, forgotten) in [(hour - 60, 0), (hour + 120, 120)] {
        let mut world = World::begin()?;
        let (spec, since) = world.apply(every(60, "none")).await?;
        world.run(unowned).await?;
        world.start();
        world.run(90).await?;
        let due = named(&world, &spec.id, since.plus_ms(forgotten * 1_000), world.clock.now()).await?;
        assert_eq!(world.started_dues(&spec.id), due, "after {unowned} s");
    }
    Ok(())
}

/// A planner without a dispatcher plans; a dispatcher that comes within the hour finds a late shard, one that comes later an
/// interrupted one, and each job's catch-up decides.
#[tokio::test]
async fn the_first_dispatcher_floods_nobody() -> anyhow::Result<()> {
    let hour = u32::try_from(UNOWNED_MAX.as_secs())?;
    for (policy, alone, missed_and_run) in
        [("none", hour - 60, None), ("none", hour + 60, Some(0)), ("latest", hour + 60, Some(1))]
    {
        let mut world = World::begin()?;
        world.stalled = true;
        world.start();
        let (spec, since) = world.apply(every(60, policy)).await?;
        world.run(alone).await?;
        let began = world.clock.now();
        world.stalled = false;
        world.run(90).await?;
        let due = named(&world, &spec.id, since, world.clock.now()).await?;
        let started = world.started_dues(&spec.id);
        match missed_and_run {
            None => assert_eq!(started, due, "{policy}, {alone} s"),
            Some(runs) => {
                let (missed, later): (Vec<&Timestamp>, Vec<&Timestamp>) =
                    started.iter().partition(|due| **due <= began);
                assert_eq!((missed.len(), later.len()), (runs, 1), "{policy}, {alone} s");
            }
        }
    }
    Ok(())
}

/// While no spec is known at all, time moves on in the plans of all shards. What it passed between a job's acceptance and
/// its installation isn't dispatched yet.
#[test]
fn the_very_first_job_keeps_what_was_due_before_it_was_installed() -> anyhow::Result<()> {
    let accepted: Timestamp = "2026-11-22T06:45:00.500Z".parse()?;
    let spec = manifest::decode_job(&Node::from_json(every_two_seconds()), accepted)
        .map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
    let value = manifest::to_bytes(&spec, &manifest::accept(&spec, None, accepted));
    let declared = Declared::read(&value, accepted).map_err(|problems| anyhow::anyhow!(problems))?;
    let cursor = Cursor {
        incarnation: "1-1".into(),
        planned_until: "2026-11-22T06:47:00Z".parse()?,
        taken_until: "2026-11-22T06:45:03Z".parse()?,
        spec_revision: Revision(0),
    };
    let plan = install_plan(&declared, Revision(1), None, &cursor, accepted.plus_ms(3_000));
    assert_eq!(plan.add_unseen.first().copied(), declared.schedule.next_after(accepted));
    Ok(())
}
