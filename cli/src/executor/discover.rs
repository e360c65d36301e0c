//! Finding queues: which ones have work for the built-in executor, as the jobs say that are there and those that come.

use std::sync::Arc;
use std::time::Duration;

use ambient::Clock;
use bus::SpecStore;
use bus::specs::{SpecChange, StoredSpec};
use futures_util::stream::{self, BoxStream, Stream, StreamExt as _};
use model::id::Revision;
use model::limits::SHARDS_MAX;
use model::manifest;
use model::name::QueueId;
use model::shard::ShardId;
use model::spec::Work;

/// The pause before the jobs are read again, after the bus was lost.
const REOPEN_DELAY: Duration = Duration::from_secs(1);

/// The queue of every job with a command or a request, now and from now on; the same queue any number of times. Ends
/// never: a lost bus is waited for.
pub(super) fn queues<B: SpecStore>(
    bus: Arc<B>,
    clock: Clock,
) -> impl Stream<Item = QueueId> + Send + 'static {
    // Executors don't know how many shards the cluster has, and needn't: no job is in one that isn't there.
    let shards: Vec<ShardId> = (0..SHARDS_MAX).map(ShardId).collect();
    stream::unfold(Reading { bus, clock, shards, seen: Revision(0), open: None }, |mut reading| async {
        let queue = reading.next().await;
        Some((queue, reading))
    })
}

struct Reading<B> {
    bus: Arc<B>,
    clock: Clock,
    shards: Vec<ShardId>,
    /// Everything up to here has been read.
    seen: Revision,
    open: Option<BoxStream<'static, SpecChange>>,
}

impl<B: SpecStore> Reading<B> {
    async fn next(&mut self) -> QueueId {
        loop {
            match self.change().await {
                SpecChange::Put { spec, .. } => {
                    if let Some(queue) = queue_of(&spec) {
                        return queue;
                    }
                }
                SpecChange::CaughtUp { revision } => self.seen = revision,
                // A queue whose jobs are gone may still hold runs.
                SpecChange::Deleted { .. } | SpecChange::Foreign { .. } => {}
            }
        }
    }

    async fn change(&mut self) -> SpecChange {
        loop {
            if let Some(changes) = &mut self.open {
                if let Some(change) = changes.next().await {
                    return change;
                }
                self.open = None;
            }
            match self.bus.changes(&self.shards, self.seen).await {
                Ok(changes) => self.open = Some(changes),
                Err(error) => {
                    tracing::debug!(%error, "failed to read the jobs; trying again");
                    self.clock.sleep(REOPEN_DELAY).await;
                }
            }
        }
    }
}

/// The queue of a job that the built-in executor can carry out.
fn queue_of(spec: &StoredSpec) -> Option<QueueId> {
    // Most jobs of a large cluster have payloads: don't decode them to find that out.
    let mentions = |word: &[u8]| spec.value.windows(word.len()).any(|bytes| bytes == word);
    if !mentions(b"\"exec\"") && !mentions(b"\"http\"") {
        return None;
    }
    let (job, _) = manifest::from_bytes(&spec.value, spec.written_at).ok()?;
    match job.work {
        Work::Exec(_) | Work::Http(_) => Some(job.queue),
        Work::Payload(_) | Work::Bytes(_) => None,
    }
}
