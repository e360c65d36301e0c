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
use model::shard::ShardCount;
use model::time::Timestamp;
use planner::install::install_plan;
use serde_json::json;
use store::plan::Cursor;

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
    json!({
        "apiVersion": "ecron/v1", "kind": "Job", "metadata": {"name": "first"},
        "spec": {"schedule": {"every": "2s"}, "queue": "work", "catchUp": {"policy": "all"}},
    })
}

/// The API accepts a job as soon as one planner runs, also for a shard that has no owner yet.
#[tokio::test]
async fn a_job_that_was_accepted_before_its_shard_had_a_plan_misses_nothing() -> anyhow::Result<()> {
    let mut world = World::begin()?;
    let (spec, since) = world.apply(every_two_seconds()).await?;
    world.run(7).await?;
    world.start();
    world.run(30).await?;
    let schedule = world.declared(&spec.id).await?.schedule;
    let due = std::iter::successors(schedule.next_after(since), |due| schedule.next_after(*due));
    let due: Vec<Timestamp> = due.take_while(|due| *due <= world.clock.now()).collect();
    assert_eq!(world.started_dues(&spec.id), due);
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
