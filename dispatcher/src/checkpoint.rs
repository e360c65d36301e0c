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

/// How far each shard has come, as its passes say. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Mutex<BTreeMap<ShardId, Timestamp>>>);

impl Progress {
    /// Notes a shard's progress; it never goes back.
    pub fn note(&self, shard: ShardId, dispatched_until: Timestamp) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.entry(shard).or_insert(dispatched_until);
        *known = dispatched_until.max(*known);
    }

    /// Forgets a shard that somebody else owns now.
    pub fn forget(&self, shard: ShardId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&shard);
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
