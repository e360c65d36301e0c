//! The conformance suite over the bus in memory.
#![cfg(feature = "conformance")]
#![allow(clippy::unwrap_used, reason = "a test that can't be set up fails")]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use ecron_bus::conformance::{ACK_WAIT, World};
use ecron_bus::memory::MemoryBus;
use ecron_bus::wire::Headers;
use model::time::{Timestamp, duration_ms};

/// A bus whose clock moves only when told to.
struct Memory {
    bus: MemoryBus,
    now_ms: Arc<AtomicI64>,
}

impl World for Memory {
    type Bus = MemoryBus;

    fn bus(&self) -> &MemoryBus {
        &self.bus
    }

    async fn other(&self) -> MemoryBus {
        self.bus.clone()
    }

    async fn publish_raw(&self, subject: &str, headers: Headers, payload: Bytes) {
        self.bus.publish_raw(subject, headers, payload).unwrap();
    }

    async fn pass(&self, duration: Duration) {
        self.now_ms.fetch_add(duration_ms(duration), Ordering::SeqCst);
        self.bus.wake();
    }
}

async fn world() -> Memory {
    let now_ms = Arc::new(AtomicI64::new(1_795_330_000_000));
    let read = now_ms.clone();
    let clock = Arc::new(move || Timestamp::from_ms(read.load(Ordering::SeqCst)));
    Memory { bus: MemoryBus::new(clock, ACK_WAIT), now_ms }
}

ecron_bus::bus_conformance!(world());

#[tokio::test]
async fn without_a_connection_everything_fails_and_changes_end() {
    use ecron_bus::{QueueReader, RunStream, SpecStore};
    use futures_util::StreamExt;
    use model::id::Revision;
    use model::shard::ShardId;

    let world = world().await;
    let changes = world.bus.changes(&[ShardId(7)], Revision(0)).await.unwrap();
    world.bus.set_connected(false);
    assert!(!world.bus.connected());
    assert!(world.bus.extent().await.is_err());
    assert!(world.bus.fetch(&"a/b".parse().unwrap(), 1, Duration::ZERO).await.is_err());
    let rest: Vec<_> = tokio::time::timeout(Duration::from_secs(5), changes.collect()).await.unwrap();
    assert!(rest.len() <= 1, "{rest:?}");
    world.bus.set_connected(true);
    assert!(world.bus.extent().await.is_ok());
}
