//! A bus for tests: deliveries are put in by hand, every call is written down, and any of them can be made to fail.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ambient::Clock;
use bus::BusError;
use bus::cancel::{CancelListener, CancelNotice, CancelRequest};
use bus::dead::{DeadLetter, Redriven, StoredDeadLetter};
use bus::edits::{Edit, EditMark, Edits};
use bus::events::{AttemptReport, ProgressNote};
use bus::logs::{LogBatch, LogWriter};
use bus::order::{Order, OrderProblem, WorkKind};
use bus::queue::{Delivery, Notes};
use bus::wire::standing::OrderReply;
use bus::{ApiClient, DeadLetters, EditReader, EventWriter, QueueReader};
use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt as _};
use model::name::QueueId;
use model::retry::{RetryPolicy, Tally};
use model::run::AttemptEnd;
use model::time::Timestamp;
use tokio::sync::watch;

pub(crate) const ACK_WAIT: Duration = Duration::from_secs(30);

/// What the executor said to the bus.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Call {
    Report(Box<AttemptReport>),
    Park(Box<DeadLetter>),
    Ack(u64),
    Nak(u64, Duration),
    Note(u64, Tally),
    Term(u64),
    InProgress(u64),
    Fetch(usize),
    Progress(Box<ProgressNote>),
    Log(Box<LogBatch>),
    Order,
}

/// A kind of call, to make it fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Report,
    Park,
    Ack,
    Nak,
    Note,
    Tally,
    Term,
    InProgress,
    Fetch,
    Progress,
    Log,
    Edits,
    Order,
}

/// The bus. Clones share it.
#[derive(Clone)]
pub(crate) struct Double(Arc<Shared>);

struct Shared {
    clock: Clock,
    waiting: Mutex<VecDeque<Message>>,
    faults: Mutex<Vec<(Kind, BusError)>>,
    edits: Mutex<Vec<Edit>>,
    /// How long the answer about edits takes.
    edits_delay: Mutex<Duration>,
    /// The attempts that were noted last.
    noted: Mutex<Vec<AttemptEnd>>,
    /// How often edits were asked for.
    looks: AtomicUsize,
    /// What planners will say of orders.
    answers: Mutex<VecDeque<Bytes>>,
    calls: watch::Sender<Vec<Call>>,
    /// Bumped when something is put in.
    arrivals: watch::Sender<u64>,
}

/// A message on its way to an executor.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) order: Result<Order, OrderProblem>,
    pub(crate) payload: Bytes,
    pub(crate) subject: String,
    pub(crate) sequence: u64,
    pub(crate) stored_at: Timestamp,
    pub(crate) delivered: u32,
    pub(crate) tally: Tally,
    /// The attempts that were noted of it.
    pub(crate) attempts: Vec<AttemptEnd>,
}

pub(crate) struct Delivered {
    message: Message,
    headers: BTreeMap<String, String>,
    bus: Double,
}

pub(crate) fn order() -> Order {
    Order {
        run_id: "billing/nightly@1970-01-01T00:00:01Z".parse().unwrap(),
        queue: "billing/reports".parse().unwrap(),
        kind: WorkKind::Payload,
        revision: model::id::Revision(7),
        generation: model::run::Generation(0),
        due_at: Timestamp::from_ms(1_000),
        attempt_base: 0,
        timeout: Duration::from_secs(60),
        retry: RetryPolicy { jitter: 0.0, ..RetryPolicy::default() },
        start_by: None,
        deadline: None,
        headers: BTreeMap::from([("region".into(), "eu".into())]),
    }
}

pub(crate) fn message(order: Order) -> Message {
    let payload = Bytes::from_static(br#"{"region":"eu"}"#);
    Message {
        order: Ok(order),
        payload,
        subject: "ecron.run.billing.reports".into(),
        sequence: 1,
        stored_at: Timestamp::from_ms(1_001),
        delivered: 1,
        tally: Tally::default(),
        attempts: vec![],
    }
}

impl Double {
    pub(crate) fn new(clock: &Clock) -> Self {
        Self(Arc::new(Shared {
            clock: clock.clone(),
            waiting: Mutex::default(),
            faults: Mutex::default(),
            edits: Mutex::default(),
            edits_delay: Mutex::default(),
            noted: Mutex::default(),
            looks: AtomicUsize::default(),
            answers: Mutex::default(),
            calls: watch::Sender::default(),
            arrivals: watch::Sender::default(),
        }))
    }

    pub(crate) fn put(&self, message: Message) {
        lock(&self.0.waiting).push_back(message);
        self.0.arrivals.send_modify(|n| *n += 1);
    }

    /// What a delivery of this message looks like, without a queue.
    pub(crate) fn deliver(&self, message: Message) -> Delivered {
        let headers = BTreeMap::from([("Raw".into(), "as it came".into())]);
        Delivered { message, headers, bus: self.clone() }
    }

    /// A planner announces that the job of `order()` was edited.
    pub(crate) fn announce(&self, revision: u64) {
        let edit = Edit { job: "billing/nightly".parse().unwrap(), revision: model::id::Revision(revision) };
        lock(&self.0.edits).push(edit);
    }

    /// From now on answers about edits take so long.
    pub(crate) fn slow_edits(&self, delay: Duration) {
        *lock(&self.0.edits_delay) = delay;
    }

    /// How often edits were asked for.
    pub(crate) fn looks(&self) -> usize {
        self.0.looks.load(Ordering::Relaxed)
    }

    /// The attempts that were noted last.
    pub(crate) fn noted(&self) -> Vec<AttemptEnd> {
        lock(&self.0.noted).clone()
    }

    /// A planner's next answer about an order.
    pub(crate) fn answer(&self, ok: &OrderReply) {
        let answer = serde_json::json!({"v": 1, "ok": ok}).to_string();
        lock(&self.0.answers).push_back(answer.into());
    }

    /// The next `times` calls of this kind fail.
    pub(crate) fn fail(&self, kind: Kind, times: usize, error: &BusError) {
        lock(&self.0.faults).extend((0..times).map(|_| (kind, error.clone())));
    }

    /// Every call that succeeded or was made to fail, in order, without pulls, heartbeats and what the handler says.
    pub(crate) fn calls(&self) -> Vec<Call> {
        let said = |call: &&Call| {
            !matches!(call, Call::Fetch(_) | Call::InProgress(_) | Call::Progress(_) | Call::Log(_))
        };
        self.0.calls.borrow().iter().filter(said).cloned().collect()
    }

    /// Every call of any kind, in order.
    pub(crate) fn all_calls(&self) -> Vec<Call> {
        self.0.calls.borrow().clone()
    }

    pub(crate) fn count(&self, wanted: impl Fn(&Call) -> bool) -> usize {
        self.0.calls.borrow().iter().filter(|call| wanted(call)).count()
    }

    /// Waits until `count` such calls have been made.
    pub(crate) async fn until(&self, count: usize, wanted: impl Fn(&Call) -> bool) {
        let enough = |calls: &Vec<Call>| calls.iter().filter(|call| wanted(call)).count() >= count;
        self.0.calls.subscribe().wait_for(enough).await.unwrap();
    }

    fn said(&self, kind: Kind, call: Call) -> Result<(), BusError> {
        self.0.calls.send_modify(|calls| calls.push(call));
        self.fault(kind)
    }

    fn fault(&self, kind: Kind) -> Result<(), BusError> {
        let mut faults = lock(&self.0.faults);
        match faults.iter().position(|(of, _)| *of == kind) {
            Some(at) => Err(faults.remove(at).1),
            None => Ok(()),
        }
    }
}

/// Lets the clock run, a step whenever nothing else moves, until some work is done.
pub(crate) async fn passing<T>(clock: &Clock, step: Duration, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    for _ in 0..10_000 {
        for _ in 0..20 {
            if let Some(done) = futures_util::future::FutureExt::now_or_never(&mut work) {
                return done;
            }
            tokio::task::yield_now().await;
        }
        clock.advance(step);
    }
    panic!("the work is still not done at {}", clock.now());
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

impl Delivery for Delivered {
    fn order(&self) -> &Result<Order, OrderProblem> {
        &self.message.order
    }
    fn payload(&self) -> &Bytes {
        &self.message.payload
    }
    fn raw_headers(&self) -> &BTreeMap<String, String> {
        &self.headers
    }
    fn subject(&self) -> &str {
        &self.message.subject
    }
    fn sequence(&self) -> u64 {
        self.message.sequence
    }
    fn stored_at(&self) -> Timestamp {
        self.message.stored_at
    }
    fn delivered(&self) -> u32 {
        self.message.delivered
    }
    async fn ack(&self) -> Result<(), BusError> {
        self.bus.said(Kind::Ack, Call::Ack(self.sequence()))
    }
    async fn nak(&self, delay: Duration) -> Result<(), BusError> {
        self.bus.said(Kind::Nak, Call::Nak(self.sequence(), delay))
    }
    async fn term(&self, _reason: &str) -> Result<(), BusError> {
        self.bus.said(Kind::Term, Call::Term(self.sequence()))
    }
    async fn notes(&self) -> Result<Notes, BusError> {
        let Message { tally, attempts, .. } = self.message.clone();
        self.bus.fault(Kind::Tally).map(|()| Notes { tally, attempts })
    }
    async fn note(&self, notes: &Notes) -> Result<(), BusError> {
        lock(&self.bus.0.noted).clone_from(&notes.attempts);
        self.bus.said(Kind::Note, Call::Note(self.sequence(), notes.tally))
    }
    async fn in_progress(&self) -> Result<(), BusError> {
        self.bus.said(Kind::InProgress, Call::InProgress(self.sequence()))
    }
}

impl QueueReader for Double {
    type Delivery = Delivered;

    async fn fetch(&self, _: &QueueId, limit: usize, wait: Duration) -> Result<Vec<Delivered>, BusError> {
        let waited = self.0.clock.sleep(wait);
        let mut arrivals = self.0.arrivals.subscribe();
        self.said(Kind::Fetch, Call::Fetch(limit))?;
        let there_is_some = arrivals.wait_for(|_| !lock(&self.0.waiting).is_empty());
        futures_util::future::select(std::pin::pin!(there_is_some), std::pin::pin!(waited)).await;
        let mut waiting = lock(&self.0.waiting);
        let taken = limit.min(waiting.len());
        Ok(waiting.drain(..taken).map(|message| self.deliver(message)).collect())
    }

    fn ack_wait(&self) -> Duration {
        ACK_WAIT
    }
}

/// What nobody says here.
#[derive(Debug)]
pub(crate) enum Silence {}

impl CancelNotice for Silence {
    fn request(&self) -> &CancelRequest {
        match *self {}
    }
    async fn in_hand(&self) -> Result<(), BusError> {
        match *self {}
    }
}

impl CancelListener for Double {
    type Notice = Silence;

    async fn cancels(&self, _: &QueueId) -> Result<BoxStream<'static, Silence>, BusError> {
        Ok(futures_util::stream::pending().boxed())
    }
}

impl EventWriter for Double {
    async fn note_progress(&self, note: &ProgressNote) -> Result<(), BusError> {
        self.said(Kind::Progress, Call::Progress(Box::new(note.clone())))
    }

    async fn report(&self, report: &AttemptReport) -> Result<(), BusError> {
        self.said(Kind::Report, Call::Report(Box::new(report.clone())))
    }
}

impl EditReader for Double {
    async fn edits_after(&self, _: &QueueId, mark: Option<EditMark>) -> Result<Edits, BusError> {
        self.0.looks.fetch_add(1, Ordering::Relaxed);
        let delay = *lock(&self.0.edits_delay);
        if delay > Duration::ZERO {
            self.0.clock.sleep(delay).await;
        }
        self.fault(Kind::Edits)?;
        let announced = lock(&self.0.edits);
        let known = mark.map_or(0, |mark| mark.sequence as usize);
        let last = EditMark { sequence: announced.len() as u64, stored_at: Timestamp::from_ms(0) };
        let mark = (last.sequence > 0).then_some(last);
        Ok(Edits { edits: announced[known..].to_vec(), mark, complete_since: None })
    }
}

impl ApiClient for Double {
    async fn request(&self, verb: &str, _: Bytes, _: Duration) -> Result<Bytes, BusError> {
        assert_eq!(verb, "order.billing.reports");
        self.said(Kind::Order, Call::Order)?;
        lock(&self.0.answers).pop_front().ok_or_else(|| BusError::Failed("nobody listens there".into()))
    }
}

impl LogWriter for Double {
    async fn log(&self, batch: &LogBatch) -> Result<(), BusError> {
        self.said(Kind::Log, Call::Log(Box::new(batch.clone())))
    }
}

impl DeadLetters for Double {
    async fn park(&self, letter: &DeadLetter) -> Result<u64, BusError> {
        self.said(Kind::Park, Call::Park(Box::new(letter.clone()))).map(|()| 1)
    }
    async fn letters(&self, _: u64, _: usize) -> Result<Vec<StoredDeadLetter>, BusError> {
        Ok(Vec::new())
    }
    async fn letter(&self, _: u64) -> Result<Option<StoredDeadLetter>, BusError> {
        Ok(None)
    }
    async fn resend(&self, _: &StoredDeadLetter) -> Result<Redriven, BusError> {
        Ok(Redriven::NotFound)
    }
    async fn purge(&self, _: u64) -> Result<bool, BusError> {
        Ok(false)
    }
}
