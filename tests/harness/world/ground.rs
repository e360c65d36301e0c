//! What a world stands on: memory twins or real servers.

use std::time::Duration;

use anyhow::Result;
use dispatcher::DispatcherBus;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use planner::service::PlannerBus;

/// By then, executors that aren't the world's own have begun what was published.
const HAND_OVER: Duration = Duration::from_millis(1);

/// All that the world needs of a bus.
pub trait WorldBus: PlannerBus + DispatcherBus {}
impl<T: PlannerBus + DispatcherBus> WorldBus for T {}

/// How a world waits for what doesn't wait for its clock.
pub struct Ground {
    /// Until nobody has anything left to do at the present instant.
    pub quiet: Box<dyn Fn() -> BoxFuture<'static, Result<()>> + Send + Sync>,
    /// How long a settler waits for an event that is stored.
    pub settle_wait: Duration,
}

impl std::fmt::Debug for Ground {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ground").field("settle_wait", &self.settle_wait).finish_non_exhaustive()
    }
}

impl Ground {
    /// In memory, where the runtime's clock stands still until nobody has anything to do.
    pub(super) fn memory() -> Self {
        let quiet = || tokio::time::sleep(HAND_OVER).map(Ok).boxed();
        Self { quiet: Box::new(quiet), settle_wait: Duration::ZERO }
    }
}
