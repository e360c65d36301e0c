//! Many nodes that start on empty servers in the same moment: they must agree on what can't be changed afterwards.

use std::collections::BTreeSet;

use ambient::{Clock, Entropy};
use bus::Checkpoints;
use bus::checkpoints::Cluster;
use bus::nats::{NatsBus, NatsOptions};
use futures_util::future::try_join_all;
use harness::servers;
use model::shard::ShardCount;

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
