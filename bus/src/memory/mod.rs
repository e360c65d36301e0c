//! The bus in memory, for tests and simulations: the same semantics as over NATS, by an injected clock.
//!
//! Ack waits, delays and the dedup window follow the clock; waiting for something to happen follows tokio's time (which
//! a simulation pauses). Whoever moves the clock by hand calls `wake` afterwards.

mod audit;
mod cancel;
mod core_nats;
mod edits;
mod log;
mod objects;
mod specs;
mod streams;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use model::name::QueueId;
use model::shard::ShardId;
use model::time::{Timestamp, duration_ms};
use tokio::sync::{Notify, broadcast};
use tokio::time::Instant;

use crate::api::ApiHandler;
use crate::checkpoints::Cluster;
use crate::edits::{Edit, EditMark};
use crate::error::BusError;
use crate::runs::Published;
use crate::subjects::{BUCKET_SPECS, QueueSubject, bucket_key, parse_queue_subject};
use crate::wire::headers::{Headers, MESSAGE_ID};

pub use cancel::MemoryCancelNotice;
pub use streams::{MemoryDelivery, MemoryEvent, MemoryIntakeDelivery};

use log::{Hands, Log, Stored};
use specs::Bucket;

/// Says what time it is.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// How long the streams remember message ids, as over NATS.
const DEDUP_WINDOW: Duration = Duration::from_secs(600);
/// Nudges and watched events that a slow reader may be behind; more are lost, as over core NATS.
const CORE_BUFFER: usize = 1_024;

/// One bus in memory. Cheap to clone; the clones share it.
#[derive(Clone)]
pub struct MemoryBus {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Clock,
    ack_wait: Duration,
    state: Mutex<State>,
    /// Told of everything that may let a waiting reader go on.
    changed: Notify,
    nudges: broadcast::Sender<ShardId>,
    events: broadcast::Sender<(String, Bytes)>,
    cancels: broadcast::Sender<MemoryCancelNotice>,
}

struct State {
    connected: bool,
    /// So many further publications of runs go nowhere.
    unanswered_runs: usize,
    /// Counts disconnections, so that readers of changes notice one that is over already.
    disconnections: u64,
    runs_created_at: Timestamp,
    runs: Log,
    queues: HashMap<QueueId, Hands>,
    /// By the sequence of the run's message, as over NATS.
    tallies: HashMap<u64, Bytes>,
    edits: HashMap<QueueId, Vec<(EditMark, Edit)>>,
    intake: Log,
    intake_hands: Hands,
    events: Log,
    event_hands: Hands,
    dead: Log,
    logs: Log,
    specs: Bucket,
    objects: Bucket,
    cluster: Option<Cluster>,
    checkpoints: BTreeMap<ShardId, Timestamp>,
    servers: Vec<(u64, ApiHandler)>,
    servers_made: u64,
}

impl std::fmt::Debug for MemoryBus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryBus").finish_non_exhaustive()
    }
}

impl MemoryBus {
    #[must_use]
    pub fn new(clock: Clock, ack_wait: Duration) -> Self {
        let now = clock();
        let log = || Log::new(DEDUP_WINDOW);
        let state = State {
            connected: true,
            unanswered_runs: 0,
            disconnections: 0,
            runs_created_at: now,
            runs: log(),
            queues: HashMap::new(),
            tallies: HashMap::new(),
            edits: HashMap::new(),
            intake: log(),
            intake_hands: Hands::default(),
            events: log(),
            event_hands: Hands::default(),
            dead: log(),
            logs: log(),
            specs: Bucket::default(),
            objects: Bucket::default(),
            cluster: None,
            checkpoints: BTreeMap::new(),
            servers: Vec::new(),
            servers_made: 0,
        };
        let (nudges, events) = (broadcast::channel(CORE_BUFFER).0, broadcast::channel(CORE_BUFFER).0);
        let shared = Shared {
            clock,
            ack_wait,
            state: Mutex::new(state),
            changed: Notify::new(),
            nudges,
            events,
            cancels: broadcast::channel(CORE_BUFFER).0,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Lets waiting readers look again: to be called after the clock was moved by hand.
    pub fn wake(&self) {
        self.shared.changed.notify_waiters();
    }

    /// Cuts the connection, or mends it. Without one every operation is `Failed` and streams of changes end.
    pub fn set_connected(&self, connected: bool) {
        let mut state = self.lock();
        if state.connected && !connected {
            state.disconnections += 1;
        }
        state.connected = connected;
        drop(state);
        self.wake();
    }

    /// Forgets the run stream, as a server that lost it would: an empty one takes its place.
    pub fn lose_runs(&self) {
        let now = self.now();
        let mut state = self.lock();
        state.runs = Log::new(DEDUP_WINDOW);
        state.runs_created_at = now;
        state.queues.clear();
    }

    /// Lets the next publications of runs go nowhere: nothing is stored, and nobody answers.
    pub fn lose_publications(&self, count: usize) {
        self.lock().unanswered_runs = count;
    }

    /// Loses the newest messages of the run stream, as a cluster does whose new leader never had them. Their ids are
    /// remembered, and their sequences given to others.
    pub fn lose_newest_runs(&self, count: usize) {
        let mut state = self.lock();
        for _ in 0..count {
            let Some((sequence, _)) = state.runs.messages.pop_last() else { break };
            state.runs.last_sequence = sequence - 1;
            for hands in state.queues.values_mut() {
                hands.close(sequence);
            }
        }
    }

    /// Forgets the message ids of messages that aren't stored any more, as a server does when it is restarted.
    pub fn forget_ids(&self) {
        self.lock().runs.forget_ids();
    }

    /// Delivers once more what is in somebody's hands, as a server does whose consumer was made anew.
    pub fn deliver_again(&self) {
        self.lock().queues.values_mut().for_each(Hands::show);
        self.wake();
    }

    /// Publishes as any NATS client would, to a queue's `run`, `submit` or `defer` subject or to the spec bucket.
    pub fn publish_raw(
        &self,
        subject: &str,
        headers: Headers,
        payload: Bytes,
    ) -> Result<Published, BusError> {
        let message = Stored { subject: subject.into(), headers, payload, stored_at: self.now() };
        let mut state = self.state()?;
        let published = match parse_queue_subject(subject) {
            Some((QueueSubject::Run | QueueSubject::Submit, queue)) => state.append_run(&queue, message),
            Some((QueueSubject::Defer, _)) => {
                let published = state.intake.append(message);
                if !published.duplicate {
                    state.intake_hands.offer(published.sequence);
                }
                published
            }
            None => match bucket_key(BUCKET_SPECS, subject) {
                Some(key) => {
                    let revision = state.specs.write(key, Some(message.payload), message.stored_at, None);
                    Published { sequence: revision, duplicate: false }
                }
                None => return Err(BusError::Failed(format!("{subject}: nobody listens there"))),
            },
        };
        drop(state);
        self.wake();
        Ok(published)
    }

    fn now(&self) -> Timestamp {
        (self.shared.clock)()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, if connected.
    fn state(&self) -> Result<MutexGuard<'_, State>, BusError> {
        let state = self.lock();
        if state.connected { Ok(state) } else { Err(BusError::Failed("disconnected".into())) }
    }

    /// Looks until there is something or `wait` has passed. `look` also says when something may be there by itself.
    async fn wait_for<T>(
        &self,
        wait: Duration,
        mut look: impl FnMut(&mut State, Timestamp) -> (Vec<T>, Option<Timestamp>),
    ) -> Result<Vec<T>, BusError> {
        let deadline = Instant::now() + wait;
        loop {
            let changed = self.shared.changed.notified();
            let now = self.now();
            let (found, next) = look(&mut *self.state()?, now);
            if !found.is_empty() || Instant::now() >= deadline {
                return Ok(found);
            }
            let by_itself = next.map(|at| Duration::from_millis(at.ms_since(now).max(1).unsigned_abs()));
            let until = by_itself.map_or(deadline, |after| (Instant::now() + after).min(deadline));
            // Woken or not: look again.
            let _ = tokio::time::timeout_at(until, changed).await;
        }
    }
}

impl State {
    fn append_run(&mut self, queue: &QueueId, message: Stored) -> Published {
        let published = self.runs.append(message);
        if !published.duplicate {
            self.queues.entry(queue.clone()).or_default().offer(published.sequence);
        }
        published
    }

    fn append_event(&mut self, message: Stored) {
        let published = self.events.append(message);
        if !published.duplicate {
            self.event_hands.offer(published.sequence);
        }
    }
}

/// Headers with a message id.
fn with_id(mut headers: Headers, id: String) -> Headers {
    headers.insert(MESSAGE_ID.into(), id);
    headers
}

fn after(now: Timestamp, wait: Duration) -> Timestamp {
    now.plus_ms(duration_ms(wait))
}
