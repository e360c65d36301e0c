//! Checkpoints across a wipe of Redis: what was dispatched stays known, whoever owns a shard and whenever a planner reads.

use std::time::Duration;

use bus::Checkpoints;
use bus::nats::{NatsBus, NatsOptions};
use harness::roles::Ground;
use harness::wait::{seen, wait_until};
use harness::witness::now_ms;
use model::time::Timestamp;

const DEADLINE: Duration = Duration::from_secs(60);
const SHARDS: usize = 4;

/// A planner rebuilds a shard from its checkpoint. Were it missing for a moment, or an older one of a dead node's in its
/// place, then what was dispatched would be published again, or what wasn't would be lost.
#[tokio::test]
async fn a_wipe_takes_no_shard_out_of_the_checkpoints() -> anyhow::Result<()> {
    let ground = Ground::start().await?;
    let _planner = ground.role("planner", &["planner", "--shards", "4"]).await?;
    let _dispatcher = ground.role("dispatcher", &["dispatcher", "--shards", "4"]).await?;
    let bus = NatsBus::connect(&ground.nats.url(), NatsOptions::default()).await?;
    let mut known = wait_until(DEADLINE, "every shard has a checkpoint", || async {
        let found = bus.checkpoints().await?;
        seen(found.len() == SHARDS, found)
    })
    .await?;
    let port = ground.redis.port().to_string();
    harness::cli::program(harness::servers::redis_cli()?, &["-p", &port, "FLUSHALL"]).await?.ok()?;
    let wiped_at = Timestamp::from_ms(now_ms());
    while known.values().any(|until| *until <= wiped_at) {
        let found = bus.checkpoints().await?;
        for (shard, until) in &known {
            let now = found.get(shard);
            assert!(now >= Some(until), "shard {shard} was dispatched until {until}, and now {now:?}");
        }
        known = found;
        anyhow::ensure!(
            now_ms() - wiped_at.as_ms() < 60_000,
            "dispatching goes on: not within a minute: {known:?}"
        );
    }
    Ok(())
}
