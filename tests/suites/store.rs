//! The store on a real Redis: the conformance suite, agreement with the memory twin, and what only a server can show:
//! unreadable values, lost scripts, crashes, pauses, memory pressure.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use harness::servers::{self, Server};
use model::time::{Timestamp, duration_ms};
use store::LeaseStore;
use store::conformance::{Fixture, random};
use store::memory::MemoryStore;
use store::redis::{RedisOptions, RedisStore};

/// A store on a private server.
struct Real {
    store: RedisStore,
    server: Server,
}

impl Fixture for Real {
    type Store = RedisStore;

    fn store(&self) -> &RedisStore {
        &self.store
    }

    async fn pass(&self, time: Duration) {
        let start = self.store.now().await.unwrap();
        while self.store.now().await.unwrap().ms_since(start) <= duration_ms(time) {
            tokio::task::yield_now().await;
        }
    }

    async fn wipe(&self) {
        raw(&self.server, &["FLUSHALL"]).await;
    }
}

/// A store in memory, with a clock that stands still.
struct Memory(MemoryStore);

impl Fixture for Memory {
    type Store = MemoryStore;

    fn store(&self) -> &MemoryStore {
        &self.0
    }

    async fn pass(&self, _: Duration) {}

    async fn wipe(&self) {
        self.0.wipe();
    }
}

async fn real_with(settings: &[&str]) -> Real {
    let server = servers::redis(settings).await.unwrap();
    let store = RedisStore::connect(&server.url(), RedisOptions::default()).await.unwrap();
    Real { store, server }
}

async fn real() -> Real {
    real_with(&[]).await
}

/// One command over a connection of its own.
async fn raw(server: &Server, words: &[&str]) -> redis::Value {
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command.query_async(&mut connection).await.unwrap()
}

store::conformance_tests!(real());

#[tokio::test]
async fn redis_and_memory_agree() {
    let real = real().await;
    let memory = Memory(MemoryStore::new(Arc::new(|| Timestamp::from_ms(1_800_000_000_000))));
    for seed in 0..60 {
        random::agree(&memory, &real, seed, 150).await;
    }
}
