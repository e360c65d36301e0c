//! Pulling: as many runs from a queue as there are free slots, each an attempt of its own.

use std::sync::Arc;
use std::time::Duration;

use ambient::Shutdown;
use bus::BusError;
use bus::queue::{Delivery, hand_back};
use model::name::QueueId;
use model::retry::RetryPolicy;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

use crate::attempt::{Attempt, Host};
use crate::executor::Bus;
use crate::fence::Fence;
use crate::handler::Handler;

/// How long one pull waits for a run. It is also how long stopping may have to wait for a pull: one that is dropped
/// halfway could leave runs with us that nobody knows of until their ack wait is over.
pub(crate) const FETCH_WAIT: Duration = Duration::from_secs(1);

/// Runs in one pull.
const FETCH_MAX: usize = 256;

/// The pauses while the bus can't be read: from 100 ms, doubling, up to 5 s.
const FETCH_BACKOFF: RetryPolicy = RetryPolicy {
    attempts: u32::MAX,
    initial: Duration::from_millis(100),
    factor: 2.0,
    max: Duration::from_secs(5),
    jitter: 0.2,
};

/// One queue, its handler, and the slots for its attempts.
pub(crate) struct Puller<B: Bus> {
    host: Arc<Host<B>>,
    queue: QueueId,
    handler: Arc<dyn Handler>,
    fence: Arc<Fence>,
    slots: Arc<Semaphore>,
    attempts: TaskTracker,
    /// Pulls that failed in a row.
    failures: u32,
}

/// What one pull came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pulled {
    Started { runs: usize },
    Failed(BusError),
    Stopping,
}

impl<B: Bus> Puller<B> {
    pub(crate) fn new(
        host: Arc<Host<B>>,
        queue: QueueId,
        handler: Arc<dyn Handler>,
        concurrency: usize,
        attempts: TaskTracker,
    ) -> Self {
        let fence = Arc::new(Fence::new(&queue, &host.clock));
        let slots = Arc::new(Semaphore::new(concurrency));
        Self { host, queue, handler, fence, slots, attempts, failures: 0 }
    }

    /// Pulls until stopping is asked for.
    pub(crate) async fn run(mut self, stop: Shutdown) {
        loop {
            match self.run_once(&stop).await {
                Pulled::Started { .. } => self.reachable(),
                Pulled::Failed(error) => self.unreachable(&error, &stop).await,
                Pulled::Stopping => return,
            }
        }
    }

    /// Waits for a free slot, pulls once, and starts what it got.
    pub(crate) async fn run_once(&self, stop: &Shutdown) -> Pulled {
        let Some(mut slots) = stop.unless_stopped(self.free_slots()).await else { return Pulled::Stopping };
        let deliveries = match self.host.bus.fetch(&self.queue, slots.num_permits(), FETCH_WAIT).await {
            Ok(deliveries) => deliveries,
            Err(error) => return Pulled::Failed(error),
        };
        let runs = deliveries.len();
        for delivery in deliveries {
            match slots.split(1) {
                Some(slot) if !stop.stopping() => self.start(delivery, slot),
                _ => self.hand_back(delivery),
            }
        }
        Pulled::Started { runs }
    }

    /// All free slots, up to `FETCH_MAX`; waits until there is one. Slots that the pull doesn't fill are free again
    /// when it returns.
    async fn free_slots(&self) -> OwnedSemaphorePermit {
        #[expect(clippy::expect_used, reason = "nobody closes this semaphore")]
        let mut slots = Arc::clone(&self.slots).acquire_owned().await.expect("an open semaphore");
        let more = self.slots.available_permits().min(FETCH_MAX - 1);
        if let Some(more) =
            u32::try_from(more).ok().and_then(|n| Arc::clone(&self.slots).try_acquire_many_owned(n).ok())
        {
            slots.merge(more);
        }
        slots
    }

    fn start(&self, delivery: B::Delivery, slot: OwnedSemaphorePermit) {
        let attempt = Attempt {
            host: Arc::clone(&self.host),
            handler: Arc::clone(&self.handler),
            fence: Arc::clone(&self.fence),
            delivery,
        };
        self.attempts.spawn(async move {
            let ending = attempt.carry_out().await;
            drop(slot);
            ending
        });
    }

    /// What arrives while we are stopping goes to another executor.
    fn hand_back(&self, delivery: B::Delivery) {
        self.attempts.spawn(async move {
            if let Err(error) = hand_back(&delivery).await {
                tracing::debug!(sequence = delivery.sequence(), %error, "failed to put back a message");
            }
        });
    }

    fn reachable(&mut self) {
        if self.failures > 0 {
            tracing::info!(queue = %self.queue, failures = self.failures, "the queue can be read again");
            self.failures = 0;
        }
    }

    /// Says so once, then pauses.
    async fn unreachable(&mut self, error: &BusError, stop: &Shutdown) {
        self.failures = self.failures.saturating_add(1);
        if self.failures == 1 {
            tracing::warn!(queue = %self.queue, %error, "failed to read the queue; trying until it works");
        }
        let pause = FETCH_BACKOFF.delay(&self.queue.to_string(), self.failures);
        stop.unless_stopped(self.host.clock.sleep(pause)).await;
    }
}
