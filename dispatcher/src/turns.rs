//! Turns: of one dispatcher's shards with very much that is due, a few at a time prepare it; the others wait in line.
//!
//! When a herd is due in every shard, all of them would decide, claim and ask gates in lockstep, and nothing would be
//! published before everything is prepared. One after the other, the first runs start while the next ones are prepared.

use std::sync::Arc;
use std::time::Duration;

use ambient::Clock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Shards that prepare at once: enough to keep the store busy while some of them compute.
const PREPARING_MAX: usize = 4;
/// With fewer entries than this a shard needn't wait for a turn: it is done before the line would have moved.
const HERD_MIN: usize = 50;
/// The longest wait for a turn. A shard whose store doesn't answer holds its turn for as long; others then go without.
const PATIENCE: Duration = Duration::from_millis(500);

/// Clones share the line.
#[derive(Clone, Debug)]
pub(crate) struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(PREPARING_MAX)))
    }
}

impl Turns {
    /// A turn to prepare so many entries, held until it is dropped; `None` if they need none, or it took too long to come.
    pub(crate) async fn next(&self, clock: &Clock, entries: usize) -> Option<OwnedSemaphorePermit> {
        if entries < HERD_MIN {
            return None;
        }
        tokio::select! {
            biased;
            turn = Arc::clone(&self.0).acquire_owned() => turn.ok(),
            () = clock.sleep(PATIENCE) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use model::time::Timestamp;

    use super::*;

    #[tokio::test]
    async fn who_waits_too_long_goes_without_a_turn() {
        let (turns, clock) = (Turns::default(), Clock::manual(Timestamp::from_ms(0)));
        let mut held = Vec::new();
        for _ in 0..PREPARING_MAX {
            held.push(turns.next(&clock, HERD_MIN).await.unwrap());
        }
        assert!(turns.next(&clock, HERD_MIN - 1).await.is_none(), "few need no turn");
        let waiting = turns.next(&clock, HERD_MIN);
        tokio::pin!(waiting);
        assert!(waiting.as_mut().now_or_never().is_none());
        clock.advance(PATIENCE);
        assert!(waiting.await.is_none());
        held.pop();
        assert!(turns.next(&clock, HERD_MIN).await.is_some());
    }
}
