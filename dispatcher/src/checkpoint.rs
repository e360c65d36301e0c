//! Checkpoints: for each owned shard, "everything due up to T was published or skipped", once a second.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ambient::{Clock, Shutdown};
use bus::Checkpoints;
use model::shard::ShardId;
use model::time::Timestamp;

/// At most this often.
pub const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);

/// How far each shard has come, as its passes say. Clones share it. It keeps shards that somebody else owns now: what was
/// dispatched stays so, and a checkpoint that left it out, or began anew after a wipe, would let a planner that reads it in
/// that moment rebuild the shard from an older one.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Mutex<BTreeMap<ShardId, Timestamp>>>);

impl Progress {
    /// Notes a shard's progress; it never goes back.
    pub fn note(&self, shard: ShardId, dispatched_until: Timestamp) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.entry(shard).or_insert(dispatched_until);
        *known = dispatched_until.max(*known);
    }

    fn snapshot(&self) -> BTreeMap<ShardId, Timestamp> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Saves progress until shutdown, and once more then.
pub async fn run<B: Checkpoints>(
    bus: &B,
    node: &str,
    progress: &Progress,
    clock: &Clock,
    shutdown: &Shutdown,
) {
    let mut saved = BTreeMap::new();
    loop {
        let stopping = shutdown.stopping();
        let present = progress.snapshot();
        if present != saved {
            match bus.save_checkpoint(node, &present).await {
                Ok(()) => saved = present,
                // The next one says all that this one would have.
                Err(problem) => tracing::debug!(%problem, "a checkpoint wasn't saved"),
            }
        }
        if stopping {
            return;
        }
        tokio::select! {
            biased;
            () = shutdown.stopped() => {}
            () = clock.sleep(CHECKPOINT_INTERVAL) => {}
        }
    }
}
