//! The executor: which queues it serves with which handlers, and its life from start to drained.

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use ambient::{Clock, Shutdown};
use bus::nats::{NatsBus, NatsOptions};
use bus::{
    ApiClient, BusError, CancelListener, DeadLetters, EditReader, EventWriter, LogWriter, QueueReader,
};
use bytes::Bytes;
use futures_util::stream::{BoxStream, Stream, StreamExt as _};
use model::name::{FullNameError, QueueId};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::attempt::Host;
use crate::context::Context;
use crate::handler::{AnyWork, Handler, HandlerError, Output, Raw, Typed};
use crate::hands::Hands;
use crate::pull::Puller;

/// Attempts of one queue that run at the same time, unless said otherwise.
pub const CONCURRENCY_DEFAULT: usize = 8;
/// Attempts of one queue that may run at the same time.
pub const CONCURRENCY_MAX: usize = 10_000;

/// All that an executor needs of the bus.
pub trait Bus:
    QueueReader + EventWriter + DeadLetters + CancelListener + LogWriter + EditReader + ApiClient
{
}
impl<T> Bus for T where
    T: QueueReader + EventWriter + DeadLetters + CancelListener + LogWriter + EditReader + ApiClient
{
}

/// Why an executor didn't run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("serve a queue: none was given; call `queue(…)?.handle(…)` before `run`")]
    NoQueue,
    #[error("listen to signals")]
    Signals(#[from] io::Error),
}

/// An executor in the making. See the crate's example.
pub struct Executor<B = NatsBus> {
    bus: Arc<B>,
    clock: Clock,
    shutdown: Option<Shutdown>,
    drain_timeout: Option<Duration>,
    name: Option<String>,
    served: Vec<Served>,
}

/// Queues and what serves them.
struct Served {
    queues: Queues,
    concurrency: usize,
    handler: Arc<dyn Handler>,
}

enum Queues {
    One(QueueId),
    Found(BoxStream<'static, QueueId>),
}

impl Executor<NatsBus> {
    /// An executor on a NATS server (or several, separated by commas). What a deployment needs beyond that is in
    /// `NatsOptions`: connect a `NatsBus` with it, and call [`Executor::new`].
    pub async fn connect(url: &str) -> Result<Self, BusError> {
        let options = NatsOptions { name: default_name(), ..NatsOptions::default() };
        Ok(Self::new(Arc::new(NatsBus::connect(url, options).await?)))
    }
}

impl<B: Bus> Executor<B> {
    /// An executor on a bus that is already there.
    pub fn new(bus: Arc<B>) -> Self {
        Self {
            bus,
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
        Binding { executor: self, queues: Queues::One(queue), concurrency: CONCURRENCY_DEFAULT }
    }

    /// Serves every queue that a stream names, from when it does: for executors that look for work themselves.
    /// Naming a queue again changes nothing.
    #[must_use]
    pub fn queues_as_found(self, queues: impl Stream<Item = QueueId> + Send + 'static) -> Binding<B> {
        Binding { executor: self, queues: Queues::Found(queues.boxed()), concurrency: CONCURRENCY_DEFAULT }
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
        let hands = Hands::new(&self.clock, self.bus.ack_wait());
        let host = Arc::new(Host {
            hands,
            bus: self.bus,
            clock: self.clock.clone(),
            name: self.name.unwrap_or_else(default_name),
            drained: drained.clone(),
        });
        let crew = Crew { host, attempts: TaskTracker::new(), pulling: TaskTracker::new(), shutdown };
        for served in self.served {
            crew.serve(served);
        }
        let Crew { attempts, pulling, shutdown, .. } = crew;
        let mut work = pin!(async {
            pulling.close();
            pulling.wait().await;
            tracing::info!(running = attempts.len(), "pulls no more; waiting for what runs");
            attempts.close();
            attempts.wait().await;
        });
        let time_over = async {
            shutdown.drain_over(&self.clock).await;
            // What is handed back mustn't come back by a pull of our own that is still under way.
            pulling.wait().await;
        };
        if !done_before(&mut work, time_over).await {
            tracing::warn!(running = attempts.len(), "time to drain is over; cancelling what runs");
            drained.cancel();
            work.await;
        }
        tracing::info!("stopped");
        Ok(())
    }
}

/// What an executor at work consists of.
struct Crew<B> {
    host: Arc<Host<B>>,
    attempts: TaskTracker,
    /// The pullers, and those who look for queues to pull from.
    pulling: TaskTracker,
    shutdown: Shutdown,
}

impl<B: Bus> Crew<B> {
    fn serve(&self, served: Served) {
        let Served { queues, concurrency, handler } = served;
        match queues {
            Queues::One(queue) => self.pull(queue, concurrency, handler),
            Queues::Found(mut queues) => {
                let crew = self.clone();
                self.pulling.spawn(async move {
                    let mut known = BTreeSet::new();
                    while let Some(Some(queue)) = crew.shutdown.unless_stopped(queues.next()).await {
                        if known.insert(queue.clone()) {
                            crew.pull(queue, concurrency, Arc::clone(&handler));
                        }
                    }
                });
            }
        }
    }

    fn pull(&self, queue: QueueId, concurrency: usize, handler: Arc<dyn Handler>) {
        tracing::info!(%queue, concurrency, executor = self.host.name, "serving a queue");
        let (host, listening, stop) = (Arc::clone(&self.host), queue.clone(), self.shutdown.clone());
        self.pulling.spawn(async move {
            host.hands.listen(&*host.bus, &listening, &host.clock, &stop).await;
        });
        let puller = Puller::new(Arc::clone(&self.host), queue, handler, concurrency, self.attempts.clone());
        self.pulling.spawn(puller.run(self.shutdown.clone()));
    }
}

impl<B> Clone for Crew<B> {
    fn clone(&self) -> Self {
        Self {
            host: Arc::clone(&self.host),
            attempts: self.attempts.clone(),
            pulling: self.pulling.clone(),
            shutdown: self.shutdown.clone(),
        }
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
pub struct Binding<B = NatsBus> {
    executor: Executor<B>,
    queues: Queues,
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
        let Self { mut executor, queues, concurrency } = self;
        executor.served.push(Served { queues, concurrency, handler: Arc::new(handler) });
        executor
    }
}

impl std::fmt::Debug for Queues {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::One(queue) => write!(f, "{queue}"),
            Self::Found(_) => f.write_str("as found"),
        }
    }
}

impl<B> std::fmt::Debug for Executor<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let queues: Vec<&Queues> = self.served.iter().map(|served| &served.queues).collect();
        f.debug_struct("Executor").field("name", &self.name).field("queues", &queues).finish_non_exhaustive()
    }
}

impl<B> std::fmt::Debug for Binding<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Binding").field("queues", &self.queues).finish_non_exhaustive()
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
