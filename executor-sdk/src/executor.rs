//! The executor: which queues it serves with which handlers, and its life from start to drained.

use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use ambient::{Clock, Shutdown};
use bus::{DeadLetters, EventWriter, QueueReader};
use bytes::Bytes;
use futures_util::future::join_all;
use model::name::{FullNameError, QueueId};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::attempt::Host;
use crate::context::Context;
use crate::handler::{AnyWork, Handler, HandlerError, Output, Raw, Typed};
use crate::pull::Puller;

/// Attempts of one queue that run at the same time, unless said otherwise.
pub const CONCURRENCY_DEFAULT: usize = 8;
/// Attempts of one queue that may run at the same time.
pub const CONCURRENCY_MAX: usize = 10_000;

/// All that an executor needs of the bus.
pub trait Bus: QueueReader + EventWriter + DeadLetters {}
impl<T: QueueReader + EventWriter + DeadLetters> Bus for T {}

/// Why an executor didn't run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("serve a queue: none was given; call `queue(…)?.handle(…)` before `run`")]
    NoQueue,
    #[error("listen to signals")]
    Signals(#[from] io::Error),
}

/// An executor in the making. See the crate's example.
pub struct Executor<B> {
    bus: Arc<B>,
    clock: Clock,
    shutdown: Option<Shutdown>,
    drain_timeout: Option<Duration>,
    name: Option<String>,
    served: Vec<Served>,
}

/// A queue and what serves it.
struct Served {
    queue: QueueId,
    concurrency: usize,
    handler: Arc<dyn Handler>,
}

impl<B: Bus> Executor<B> {
    /// An executor on a bus that is already there.
    pub fn new(bus: impl Into<Arc<B>>) -> Self {
        Self {
            bus: bus.into(),
            clock: Clock::system(),
            shutdown: None,
            drain_timeout: None,
            name: None,
            served: Vec::new(),
        }
    }

    /// Its name in reports; the host's name and the process id, unless set.
    #[must_use]
    pub fn name(self, name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// Another clock than the system's.
    #[must_use]
    pub fn clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// Stops with this, instead of with SIGINT and SIGTERM.
    #[must_use]
    pub fn shutdown(self, shutdown: Shutdown) -> Self {
        Self { shutdown: Some(shutdown), ..self }
    }

    /// How long attempts may go on after the request to stop (30 s unless set). Then they are cancelled, and their runs
    /// go to other executors at once.
    #[must_use]
    pub fn drain_timeout(self, drain_timeout: Duration) -> Self {
        Self { drain_timeout: Some(drain_timeout), ..self }
    }

    /// Serves a queue, written `namespace/name`. What follows says how.
    pub fn queue(self, queue: &str) -> Result<Binding<B>, FullNameError> {
        Ok(self.queue_id(queue.parse()?))
    }

    /// The same for a queue's id.
    #[must_use]
    pub fn queue_id(self, queue: QueueId) -> Binding<B> {
        Binding { executor: self, queue, concurrency: CONCURRENCY_DEFAULT }
    }

    /// Carries out runs until it is told to stop, then lets those that have begun come to an end.
    pub async fn run(self) -> Result<(), RunError> {
        if self.served.is_empty() {
            return Err(RunError::NoQueue);
        }
        let shutdown = match self.shutdown {
            Some(shutdown) => shutdown,
            None => Shutdown::on_signals()?,
        };
        let shutdown = match self.drain_timeout {
            Some(drain_timeout) => shutdown.with_drain_timeout(drain_timeout),
            None => shutdown,
        };
        let drained = CancellationToken::new();
        let host = Arc::new(Host {
            bus: self.bus,
            clock: self.clock.clone(),
            name: self.name.unwrap_or_else(default_name),
            drained: drained.clone(),
        });
        let attempts = TaskTracker::new();
        let pullers = self.served.into_iter().map(|Served { queue, concurrency, handler }| {
            tracing::info!(%queue, concurrency, executor = host.name, "serving a queue");
            Puller::new(Arc::clone(&host), queue, handler, concurrency, attempts.clone())
                .run(shutdown.clone())
        });
        let mut work = pin!(async {
            join_all(pullers).await;
            tracing::info!(running = attempts.len(), "pulls no more; waiting for what runs");
            attempts.close();
            attempts.wait().await;
        });
        if !done_before(&mut work, shutdown.drain_over(&self.clock)).await {
            tracing::warn!(running = attempts.len(), "time to drain is over; cancelling what runs");
            drained.cancel();
            work.await;
        }
        tracing::info!("stopped");
        Ok(())
    }
}

async fn done_before(work: impl Future<Output = ()>, deadline: impl Future<Output = ()>) -> bool {
    tokio::select! {
        biased;
        () = work => true,
        () = deadline => false,
    }
}

/// A queue that waits for its handler.
pub struct Binding<B> {
    executor: Executor<B>,
    queue: QueueId,
    concurrency: usize,
}

impl<B: Bus> Binding<B> {
    /// How many attempts of this queue run at the same time: at least 1, at most `CONCURRENCY_MAX`.
    #[must_use]
    pub fn concurrency(self, concurrency: usize) -> Self {
        Self { concurrency: concurrency.clamp(1, CONCURRENCY_MAX), ..self }
    }

    /// A handler of payloads in JSON, read by serde. One that it can't read is a dead letter at once.
    #[must_use]
    pub fn handle<F, P, Fut, O, E>(self, handler: F) -> Executor<B>
    where
        F: Fn(Context, P) -> Fut + Send + Sync + 'static,
        P: DeserializeOwned + 'static,
        Fut: Future<Output = Result<O, E>> + Send + 'static,
        O: Into<Output> + 'static,
        E: Into<HandlerError> + 'static,
    {
        self.serve(Typed(handler, PhantomData))
    }

    /// A handler of payloads as they come.
    #[must_use]
    pub fn handle_bytes<F, Fut, O, E>(self, handler: F) -> Executor<B>
    where
        F: Fn(Context, Bytes) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, E>> + Send + 'static,
        O: Into<Output> + 'static,
        E: Into<HandlerError> + 'static,
    {
        self.serve(Raw(handler))
    }

    /// A handler of every kind of work, by [`Context::kind`]: for executors like the built-in one.
    #[must_use]
    pub fn handle_work<F, Fut, O, E>(self, handler: F) -> Executor<B>
    where
        F: Fn(Context, Bytes) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, E>> + Send + 'static,
        O: Into<Output> + 'static,
        E: Into<HandlerError> + 'static,
    {
        self.serve(AnyWork(handler))
    }

    fn serve(self, handler: impl Handler) -> Executor<B> {
        let Self { mut executor, queue, concurrency } = self;
        executor.served.push(Served { queue, concurrency, handler: Arc::new(handler) });
        executor
    }
}

impl<B> std::fmt::Debug for Executor<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let queues: Vec<&QueueId> = self.served.iter().map(|served| &served.queue).collect();
        f.debug_struct("Executor").field("name", &self.name).field("queues", &queues).finish_non_exhaustive()
    }
}

impl<B> std::fmt::Debug for Binding<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Binding").field("queue", &self.queue).finish_non_exhaustive()
    }
}

/// The host's name and the process id: where to look when a report names it.
fn default_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { "executor" } else { host.trim() };
    format!("{host}-{}", std::process::id())
}

#[cfg(test)]
mod tests;
