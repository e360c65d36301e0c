//! Stopping: one signal asks for it, a second one insists.
//!
//! Owns the listening to SIGINT and SIGTERM. What "stopping" means is up to each part; this only says when, and how
//! long a part may take to finish what it has begun.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;

/// How long work that has begun may go on after the request to stop, unless said otherwise.
pub const DRAIN_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// The exit code of a process that a second signal ended: 128 + SIGINT, as shells have it.
const INSISTED_EXIT_CODE: i32 = 130;

/// A request to stop, as everybody who must follow it holds it. Clones share it.
#[derive(Clone, Debug)]
pub struct Shutdown {
    token: CancellationToken,
    drain_timeout: Duration,
}

impl Shutdown {
    /// A request that comes only by `stop`.
    #[must_use]
    pub fn new() -> Self {
        Self { token: CancellationToken::new(), drain_timeout: DRAIN_TIMEOUT_DEFAULT }
    }

    /// A request that comes with the first SIGINT or SIGTERM. The second one ends the process at once, with code 130.
    /// Must be called inside a tokio runtime.
    pub fn on_signals() -> io::Result<Self> {
        let shutdown = Self::new();
        let signals = Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        };
        tokio::spawn(follow(signals, shutdown.clone()));
        Ok(shutdown)
    }

    /// The same request with another time to drain.
    #[must_use]
    pub fn with_drain_timeout(self, drain_timeout: Duration) -> Self {
        Self { drain_timeout, ..self }
    }

    /// A request that comes when this one does, or earlier by its own `stop`, which doesn't reach this one.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { token: self.token.child_token(), drain_timeout: self.drain_timeout }
    }

    /// Asks everybody who holds this, or a child of it, to stop.
    pub fn stop(&self) {
        self.token.cancel();
    }

    /// Whether stopping was asked for.
    #[must_use]
    pub fn stopping(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Waits until stopping is asked for.
    pub async fn stopped(&self) {
        self.token.cancelled().await;
    }

    /// Does something unless, or until, stopping is asked for: then it is dropped, and there is no result.
    pub async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.token.run_until_cancelled(work).await
    }

    /// How long work that has begun may go on after `stopped`.
    #[must_use]
    pub fn drain_timeout(&self) -> Duration {
        self.drain_timeout
    }

    /// Waits until stopping is asked for and the time to drain is over. Call it before `stopped` returns, or the time
    /// counts from the call.
    pub async fn drain_over(&self, clock: &Clock) {
        self.stopped().await;
        clock.sleep(self.drain_timeout).await;
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

async fn follow(mut signals: Signals, shutdown: Shutdown) {
    signals.next().await;
    tracing::info!("stopping; a second signal stops at once");
    shutdown.stop();
    signals.next().await;
    tracing::warn!("stopped at once by a second signal");
    std::process::exit(INSISTED_EXIT_CODE);
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[test]
    fn stopping_goes_down_but_not_up() {
        let parent = Shutdown::new();
        let (one, two) = (parent.child(), parent.child());
        one.stop();
        assert!(one.stopping() && !two.stopping() && !parent.stopping());
        parent.stop();
        assert!(two.stopping());
    }

    #[test]
    fn the_time_to_drain_counts_from_the_request() {
        let clock = Clock::manual(model::time::Timestamp::from_ms(0));
        let shutdown = Shutdown::new().with_drain_timeout(Duration::from_secs(5));
        let mut over = Box::pin(shutdown.drain_over(&clock));
        clock.advance(Duration::from_secs(60));
        assert!(over.as_mut().now_or_never().is_none());
        shutdown.stop();
        assert!(over.as_mut().now_or_never().is_none());
        clock.advance(Duration::from_secs(5));
        assert!(over.as_mut().now_or_never().is_some());
    }
}
