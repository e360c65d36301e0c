//! The same histories on real servers: a private Redis and NATS, the same roles, the same clock that the test moves.
//!
//! What servers do by their own clocks is done for them at the test's pace: messages that are put back come again (`harness::pace`),
//! leases and names of the dead run out. Message ids and records that the servers forget by themselves they keep for minutes,
//! longer than any history is played. Lost executors aren't drawn, nor is a NATS that forgets ids.

use std::sync::Arc;
use std::time::Duration;

use ambient::Clock;
use anyhow::{Result, ensure};
use bus::ApiClient;
use bus::nats::{NatsBus, NatsOptions};
use bytes::Bytes;
use harness::pace::Pace;
use harness::servers;
use harness::world::{Ground, World};
use model::time::Timestamp;
use store::redis::{RedisOptions, RedisStore};

use crate::history::History;
use crate::play::{Seen, Stage, play_in};

/// How long a settler waits for an event that is stored.
const SETTLE_WAIT: Duration = Duration::from_secs(1);
/// How long a request waits by which it is found out whether somebody serves.
const ASKING: Duration = Duration::from_millis(100);
/// Somebody serves by then, or nobody does any more.
const SERVICE_MAX: Duration = Duration::from_secs(10);
/// The clock begins at a multiple of this after now, so that a history begins at the same time of an hour each time. It must
/// be ahead of the servers': their streams were created before anything was published.
const BEGIN_EVERY_MS: i64 = 15 * 60_000;
/// No step falls on an occurrence.
const BEGIN_PAST_MS: i64 = 500;

impl Stage for NatsBus {
    async fn await_service(&self, served: bool) -> Result<()> {
        let begun = tokio::time::Instant::now();
        while self.request("get", Bytes::from_static(b"{}"), ASKING).await.is_ok() != served {
            ensure!(begun.elapsed() < SERVICE_MAX, "requests are answered: {}", !served);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }
}

fn begin() -> Timestamp {
    let now = Clock::system().now().as_ms();
    Timestamp::from_ms(now - now.rem_euclid(BEGIN_EVERY_MS) + BEGIN_EVERY_MS + BEGIN_PAST_MS)
}

async fn play_on(history: &History) -> Result<Seen> {
    let redis = servers::redis(&[]).await?;
    let nats = servers::nats(&[]).await?;
    let store = Arc::new(RedisStore::connect(&redis.url(), RedisOptions::default()).await?);
    let bus = Arc::new(NatsBus::connect(&nats.url(), NatsOptions::default()).await?);
    bus.ensure_streams().await?;
    let clock = Clock::manual(begin());
    let pace = Pace::new(clock.clone());
    let (hands, stream) = (pace.clone(), Arc::clone(&bus));
    let quiet = move || {
        let (hands, stream) = (hands.clone(), Arc::clone(&stream));
        futures_util::FutureExt::boxed(async move { hands.quiet(&*stream).await })
    };
    let ground = Ground { quiet: Box::new(quiet), settle_wait: SETTLE_WAIT };
    play_in(history, World::over(store, bus, clock, ground), Some(pace)).await
}

/// Plays a history on servers of its own.
pub(crate) fn play(history: &History) -> Result<Seen> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(play_on(history))
}
