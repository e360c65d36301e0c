//! Pulling from a consumer: the hot path of every executor.
//!
//! A fetch becomes one pull request, which the server holds: it delivers what is there, and then each message as it is
//! stored, up to the limit. The fetch returns as soon as there is a message and no other is at hand; the rest of its
//! pull stays with the server for the next fetch, which adopts it. So an idle executor has a message as soon as it is
//! stored, no batch is waited for, and never more is asked for than the caller had room for.
//!
//! One task a consumer owns the reader on which all its pulls are answered, so that no message is lost when a
//! caller gives up: what its pull still brings goes to the next fetch or, if none comes within `SPARE_WAIT`, back to the
//! server for somebody else. A pull that was asked for on a lost connection is asked for again on the new one. Only pulls
//! and what they bring use the reader's connection; answers to messages go over the trusted one.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::{Message, StatusCode};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::acks::Acker;
use super::link::Link;
use super::message::{Delivered, Position, nak_with};
use super::queue::NatsDelivery;
use super::reader::{Access, Heard, Reader};
use super::streams::ConsumerSpec;
use crate::error::BusError;
use crate::queue::{hand_back, hand_back_delay};
use crate::subjects::STREAM_RUNS;

/// The longest that one pull is left with the server; a fetch that waits longer asks again. Bounds for how long a pull
/// outlives a caller who gave up.
const PULL_EXPIRES_MAX: Duration = Duration::from_secs(5);
/// How much later than the pull's end we stop waiting for the server to say that it ended.
const PULL_SLACK: Duration = Duration::from_millis(500);
/// How long a message that nobody took is kept for the next fetch.
const SPARE_WAIT: Duration = Duration::from_millis(100);
/// Before asking again when the server ended a pull for a reason of its own, or the consumer had to be created.
const RETRY_DELAY: Duration = Duration::from_millis(100);
/// The most messages that one pull asks for.
const BATCH_MAX: usize = 1_000;

/// The handle on a consumer's task, which ends when the last handle is gone.
#[derive(Clone)]
pub(super) struct Puller {
    link: Link,
    /// Fetches that have room, and nothing to fill it.
    waiting: Arc<AtomicUsize>,
    acker: Acker,
    inputs: mpsc::UnboundedSender<Input>,
}

enum Input {
    Fetch(Fetch),
    /// A batch whose caller gave up at the last moment.
    Returned(Vec<Message>),
}

type Batch = Result<Vec<Message>, BusError>;

struct Fetch {
    limit: usize,
    deadline: Instant,
    reply: oneshot::Sender<Batch>,
}

/// Waits for a batch; dropped with a batch in it, it gives the batch back.
struct Ticket {
    reply: oneshot::Receiver<Batch>,
    inputs: mpsc::UnboundedSender<Input>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.reply.close();
        if let Ok(Ok(batch)) = self.reply.try_recv() {
            // If the task is gone too, so is the connection, and the ack wait decides.
            let _ = self.inputs.send(Input::Returned(batch));
        }
    }
}

impl Puller {
    /// `gather`: how long a fetch that has a message waits for others.
    pub(super) fn spawn(access: &Access, consumer: ConsumerSpec, gather: Duration) -> Self {
        let (inputs, received) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let link = access.trusted.clone();
        let acker = Acker::spawn(link.clone());
        let begin = {
            let (access, acker, waiting) = (access.clone(), acker.clone(), Arc::clone(&waiting));
            move || Pulls::new(access, acker, consumer, gather, waiting)
        };
        tokio::spawn(run(begin, received));
        Self { acker, link, inputs, waiting }
    }

    /// Whether somebody could take more messages at once, and there are none.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Up to `limit` messages; waits up to `wait` for the first. Dropping the future loses none.
    pub(super) async fn fetch(&self, limit: usize, wait: Duration) -> Result<Vec<Delivered>, BusError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let (reply, received) = oneshot::channel();
        let fetch = Fetch { limit: limit.min(BATCH_MAX), deadline: Instant::now() + wait, reply };
        let gone = || BusError::Failed("the reader of this consumer is gone".into());
        self.inputs.send(Input::Fetch(fetch)).map_err(|_| gone())?;
        let mut ticket = Ticket { reply: received, inputs: self.inputs.clone() };
        let batch = (&mut ticket.reply).await.map_err(|_| gone())??;
        Ok(batch.into_iter().filter_map(|message| Delivered::new(&self.link, &self.acker, message)).collect())
    }
}

/// A fetch that waits, and the pull that was made for it.
struct Waiting {
    fetch: Fetch,
    got: Vec<Message>,
    /// When the first message of `got` came.
    got_since: Option<Instant>,
    pull: Pull,
}

/// A pull that the server holds for us.
#[derive(Clone, Copy)]
struct Pull {
    remaining: usize,
    /// When to ask again if the server hasn't said that it ended.
    ends_at: Instant,
}

struct Pulls {
    /// The trusted connection.
    link: Link,
    acker: Acker,
    reader: Reader,
    consumer: ConsumerSpec,
    last_pull: u64,
    /// By the number of their pull.
    waiting: BTreeMap<u64, Waiting>,
    /// Pulls whose fetch is over but which the server may still answer.
    orphans: BTreeMap<u64, Pull>,
    /// Messages that nobody waits for, and since when.
    spare: VecDeque<(Instant, Message)>,
    /// Whether the consumer has been seen since the last doubt.
    ensured: bool,
    gather: Duration,
    /// How many wait, for others to see.
    waiting_count: Arc<AtomicUsize>,
}

enum Woken {
    Heard(Heard),
    Input(Option<Input>),
    Tick,
}

async fn run(begin: impl FnOnce() -> Pulls, mut inputs: mpsc::UnboundedReceiver<Input>) {
    // Nothing to do before the first fetch.
    let Some(first) = inputs.recv().await else { return };
    let mut pulls = begin();
    pulls.handle(Woken::Input(Some(first))).await;
    loop {
        let tick = pulls.next_tick();
        let woken = wait(&mut pulls.reader, &mut inputs, tick).await;
        if !pulls.handle(woken).await {
            break;
        }
    }
    pulls.give_back_all().await;
}

async fn wait(reader: &mut Reader, inputs: &mut mpsc::UnboundedReceiver<Input>, tick: Instant) -> Woken {
    tokio::select! {
        biased;
        heard = reader.hear() => Woken::Heard(heard),
        input = inputs.recv() => Woken::Input(input),
        () = tokio::time::sleep_until(tick) => Woken::Tick,
    }
}

impl Pulls {
    fn new(
        access: Access,
        acker: Acker,
        consumer: ConsumerSpec,
        gather: Duration,
        waiting_count: Arc<AtomicUsize>,
    ) -> Self {
        Self {
            link: access.trusted.clone(),
            acker,
            reader: Reader::new(access, consumer.clone()),
            consumer,
            last_pull: 0,
            waiting: BTreeMap::new(),
            orphans: BTreeMap::new(),
            spare: VecDeque::new(),
            ensured: false,
            gather,
            waiting_count,
        }
    }

    /// `false`: nobody is left to fetch for.
    async fn handle(&mut self, woken: Woken) -> bool {
        match woken {
            Woken::Input(None) => return false,
            Woken::Heard(Heard::Message(message)) => self.on_message(message).await,
            Woken::Heard(Heard::Ready) => self.on_ready().await,
            Woken::Input(Some(Input::Fetch(fetch))) => self.on_fetch(fetch).await,
            Woken::Input(Some(Input::Returned(batch))) => self.keep_spare(batch),
            Woken::Tick => self.on_tick().await,
        }
        self.waiting_count.store(self.waiting.len(), Ordering::Relaxed);
        true
    }

    async fn on_fetch(&mut self, fetch: Fetch) {
        self.sweep_abandoned();
        if !self.spare.is_empty() {
            let count = self.spare.len().min(fetch.limit);
            let batch = self.spare.drain(..count).map(|(_, message)| message).collect();
            self.answer(fetch.reply, batch);
            return;
        }
        let adopted = self.orphans.iter().find(|(_, pull)| pull.remaining <= fetch.limit).map(|(id, _)| *id);
        match adopted.and_then(|id| self.orphans.remove(&id).map(|pull| (id, pull))) {
            Some((id, pull)) => {
                self.waiting.insert(id, Waiting { fetch, got: Vec::new(), got_since: None, pull });
            }
            None => self.pull_for(fetch).await,
        }
    }

    /// Asks the server for a fetch, which then waits.
    async fn pull_for(&mut self, fetch: Fetch) {
        let now = Instant::now();
        if !self.ensured
            && let Err(error) = self.ensure().await
        {
            return self.fail(fetch, error);
        }
        if !self.reader.is_ready() {
            return self.hold(fetch);
        }
        let expires = fetch.deadline.saturating_duration_since(now).clamp(PULL_EXPIRES_MIN, PULL_EXPIRES_MAX);
        self.last_pull += 1;
        let id = self.last_pull;
        let remaining = self.reader.batch(fetch.limit);
        let expires_ns = u64::try_from(expires.as_nanos()).unwrap_or(u64::MAX);
        let request = json!({"batch": remaining, "expires": expires_ns});
        // Without a connection the pull is asked for when there is one again.
        if let Err(error) = self.reader.pull(id, request.to_string()).await {
            tracing::debug!(consumer = %self.consumer.name, %error, "failed to pull");
        }
        let pull = Pull { remaining, ends_at: now + expires + PULL_SLACK };
        self.waiting.insert(id, Waiting { fetch, got: Vec::new(), got_since: None, pull });
    }

    async fn ensure(&mut self) -> Result<(), BusError> {
        self.consumer.ensure(&self.link).await?;
        self.ensured = true;
        Ok(())
    }

    /// A fetch that can't be served: told at once, unless the connection is down and may come back in time.
    fn fail(&mut self, fetch: Fetch, error: BusError) {
        if self.link.is_connected() || Instant::now() >= fetch.deadline {
            let _ = fetch.reply.send(Err(error));
            return;
        }
        self.hold(fetch);
    }

    /// Keeps a fetch for which nothing can be asked now, until the reader is ready or the fetch's time is up.
    fn hold(&mut self, fetch: Fetch) {
        self.last_pull += 1;
        let pull = Pull { remaining: 0, ends_at: fetch.deadline };
        self.waiting.insert(self.last_pull, Waiting { fetch, got: Vec::new(), got_since: None, pull });
    }

    async fn on_message(&mut self, message: Message) {
        // Only the server's own statuses come without a subject for the answer; a publisher can imitate the rest.
        if message.reply.is_some() {
            return self.on_delivery(message);
        }
        let id = message.subject.rsplit('.').next().and_then(|token| token.parse::<u64>().ok());
        let status = message.status.unwrap_or(StatusCode::OK);
        if let Some(id) = id {
            self.on_status(id, status, message.description.as_deref()).await;
        }
    }

    /// A delivery doesn't say which pull it answers (its subject is the message's own): the oldest fetch with room
    /// gets it. With one fetch at a time that is exact; with more, one may get another's and the other asks again.
    fn on_delivery(&mut self, message: Message) {
        let Some((id, waiting)) = self.waiting.iter_mut().find(|(_, waiting)| waiting.pull.remaining > 0)
        else {
            if let Some(mut orphan) = self.orphans.first_entry() {
                orphan.get_mut().remaining = orphan.get().remaining.saturating_sub(1);
                if orphan.get().remaining == 0 {
                    orphan.remove();
                }
            }
            return self.keep_spare(vec![message]);
        };
        let id = *id;
        waiting.pull.remaining -= 1;
        waiting.got_since.get_or_insert_with(Instant::now);
        waiting.got.push(message);
        if waiting.pull.remaining == 0 {
            self.finish(id);
        }
    }

    async fn on_status(&mut self, id: u64, status: StatusCode, description: Option<&str>) {
        if status == StatusCode::IDLE_HEARTBEAT {
            return;
        }
        self.orphans.remove(&id);
        let Some(waiting) = self.waiting.get_mut(&id) else { return };
        waiting.pull.remaining = 0;
        if !waiting.got.is_empty() {
            return self.finish(id);
        }
        let timed_out = status == StatusCode::TIMEOUT || status == StatusCode::NOT_FOUND;
        if !timed_out {
            // No consumer (any more), a server that is shutting down, a change of leader, too many pulls.
            tracing::debug!(consumer = %self.consumer.name, %status, description, "pull ended");
            self.ensured = false;
            waiting.pull.ends_at = Instant::now() + RETRY_DELAY;
            return;
        }
        self.ask_again(id).await;
    }

    /// The pull of a fetch ended without a message: asks again if there is time left.
    async fn ask_again(&mut self, id: u64) {
        let Some(waiting) = self.waiting.remove(&id) else { return };
        if waiting.fetch.reply.is_closed() {
            return;
        }
        if Instant::now() < waiting.fetch.deadline {
            return self.pull_for(waiting.fetch).await;
        }
        let _ = waiting.fetch.reply.send(self.reader.problem().map_or_else(|| Ok(Vec::new()), Err));
    }

    /// Hands a fetch what it got. Its pull, if the server may still hold it, is an orphan.
    fn finish(&mut self, id: u64) {
        let Some(waiting) = self.waiting.remove(&id) else { return };
        if waiting.pull.remaining > 0 {
            self.orphans.insert(id, waiting.pull);
        }
        self.answer(waiting.fetch.reply, waiting.got);
    }

    fn answer(&mut self, reply: oneshot::Sender<Batch>, batch: Vec<Message>) {
        if let Err(Ok(batch)) = reply.send(Ok(batch)) {
            self.keep_spare(batch);
        }
    }

    fn keep_spare(&mut self, batch: Vec<Message>) {
        let now = Instant::now();
        self.spare.extend(batch.into_iter().map(|message| (now, message)));
        self.serve_from_spare();
    }

    /// Spare messages go to whoever waits, the oldest fetch first.
    fn serve_from_spare(&mut self) {
        self.sweep_abandoned();
        while !self.spare.is_empty() {
            let Some(id) = self.waiting.iter().find(|(_, waiting)| waiting.got.is_empty()).map(|(id, _)| *id)
            else {
                return;
            };
            let Some(mut waiting) = self.waiting.remove(&id) else { return };
            let count = self.spare.len().min(waiting.fetch.limit);
            waiting.got.extend(self.spare.drain(..count).map(|(_, message)| message));
            if waiting.pull.remaining > 0 {
                self.orphans.insert(id, waiting.pull);
            }
            if let Err(Ok(batch)) = waiting.fetch.reply.send(Ok(waiting.got)) {
                let now = Instant::now();
                self.spare.extend(batch.into_iter().map(|message| (now, message)));
            }
        }
    }

    /// Callers who gave up leave their pull as an orphan and their messages as spare.
    fn sweep_abandoned(&mut self) {
        let gone: Vec<u64> =
            self.waiting.iter().filter(|(_, w)| w.fetch.reply.is_closed()).map(|(id, _)| *id).collect();
        let now = Instant::now();
        for id in gone {
            let Some(waiting) = self.waiting.remove(&id) else { continue };
            self.spare.extend(waiting.got.into_iter().map(|message| (now, message)));
            if waiting.pull.remaining > 0 {
                self.orphans.insert(id, waiting.pull);
            }
        }
    }

    /// The server has forgotten every pull, and may have lost the consumer.
    async fn on_ready(&mut self) {
        self.orphans.clear();
        self.ensured = false;
        for (id, waiting) in &mut self.waiting {
            waiting.pull.remaining = 0;
            tracing::debug!(pull = id, consumer = %self.consumer.name, "asking on a new connection");
        }
        let ids: Vec<u64> = self.waiting.keys().copied().collect();
        for id in ids {
            if self.waiting.get(&id).is_some_and(|waiting| !waiting.got.is_empty()) {
                self.finish(id);
            } else {
                self.ask_again(id).await;
            }
        }
    }

    async fn on_tick(&mut self) {
        let now = Instant::now();
        self.sweep_abandoned();
        self.orphans.retain(|_, pull| pull.ends_at > now);
        let old = self.spare.iter().take_while(|(since, _)| now >= *since + SPARE_WAIT).count();
        self.give_back(old).await;
        let due: Vec<u64> = self
            .waiting
            .iter()
            .filter(|(_, waiting)| now >= waiting.acts_at(self.gather))
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            if self.waiting.get(&id).is_some_and(|waiting| !waiting.got.is_empty()) {
                self.finish(id);
            } else {
                self.ask_again(id).await;
            }
        }
    }

    fn next_tick(&self) -> Instant {
        let far = Instant::now() + PULL_EXPIRES_MAX;
        let waiting = self.waiting.values().map(|waiting| waiting.acts_at(self.gather)).min();
        let spare = self.spare.front().map(|(since, _)| *since + SPARE_WAIT);
        let orphan = self.orphans.values().map(|pull| pull.ends_at).min();
        [waiting, spare, orphan].into_iter().flatten().min().map_or(far, |soonest| soonest.min(far))
    }

    /// Puts back the oldest spare messages.
    async fn give_back(&mut self, count: usize) {
        let messages: Vec<Message> = self.spare.drain(..count).map(|(_, message)| message).collect();
        let given_back = messages.into_iter().map(|message| self.put_back(message));
        futures_util::future::join_all(given_back).await;
    }

    /// A run's message goes back with a note that nobody started it, unless nothing can be stored now.
    async fn put_back(&self, message: Message) {
        let Some(reply) = message.reply.clone() else { return };
        if self.consumer.stream == STREAM_RUNS
            && self.link.is_connected()
            && let Some(delivered) = Delivered::new(&self.link, &self.acker, message)
        {
            let delivery = NatsDelivery::new(delivered, self.link.clone());
            if let Err(problem) = hand_back(&delivery).await {
                tracing::debug!(consumer = %self.consumer.name, %problem, "failed to put back a message");
            }
            return;
        }
        let delivered = Position::parse(&reply).map_or(1, |position| position.delivered);
        let _ = self.link.publish(reply, nak_with(hand_back_delay(delivered))).await;
    }

    async fn give_back_all(&mut self) {
        self.sweep_abandoned();
        self.give_back(self.spare.len()).await;
    }
}

/// The server refuses shorter ones.
const PULL_EXPIRES_MIN: Duration = Duration::from_millis(1);

impl Waiting {
    /// When to act if nothing comes.
    fn acts_at(&self, gather: Duration) -> Instant {
        match self.got_since {
            // Only once neither a message nor an input is at hand: see the order in `wait`.
            Some(since) => since + gather,
            None => self.pull.ends_at,
        }
    }
}
