//! The bench: a bus that holds one suite's messages, and an executor on it.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ambient::{Clock, Shutdown};
use bus::cancel::{CancelListener, CancelNotice, CancelRequest};
use bus::dead::{DeadLetter, Redriven, StoredDeadLetter};
use bus::edits::{EditMark, Edits};
use bus::events::{AttemptReport, ProgressNote};
use bus::logs::{LogBatch, LogWriter};
use bus::order::{Order, OrderProblem, WorkKind};
use bus::queue::{Delivery, Notes};
use bus::specs::{SpecChange, SpecStore, StoredSpec};
use bus::{ApiClient, BusError, DeadLetters, EditReader, EventWriter, QueueReader};
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use model::id::{Revision, RunId};
use model::name::{JobId, Name, QueueId};
use model::retry::RetryPolicy;
use model::run::Generation;
use model::shard::ShardId;
use model::time::Timestamp;
use tokio::sync::{Notify, mpsc};

use crate::executor::{BuiltinOptions, run_with};

/// The binary whose `__child` starts the commands.
pub(crate) fn ecron() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_ecron"))
}

/// An executor at work, which stops with this.
pub(crate) struct Bench {
    pub(crate) bus: Arc<TestBus>,
    shutdown: Shutdown,
    sequence: AtomicU64,
}

/// How a run left the executor.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) report: AttemptReport,
    pub(crate) letter: Option<DeadLetter>,
    pub(crate) answer: Answer,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    Ack,
    Nak(Duration),
    Term,
}

impl Done {
    pub(crate) fn output(&self) -> &str {
        self.report.output.as_deref().unwrap_or_default()
    }

    /// The error of an attempt that is to be repeated.
    pub(crate) fn retried(&self) -> &str {
        assert!(matches!(self.answer, Answer::Nak(_)), "{self:?}");
        self.report.end.error.as_deref().expect("an error")
    }

    /// The error of a dead letter.
    pub(crate) fn given_up(&self) -> &str {
        assert_eq!(self.answer, Answer::Term, "{self:?}");
        &self.letter.as_ref().expect("a dead letter").error
    }

    pub(crate) fn succeeded(&self) -> &str {
        assert_eq!(self.answer, Answer::Ack, "{self:?}");
        self.output()
    }
}

pub(crate) fn order(kind: WorkKind) -> Order {
    Order {
        run_id: "billing/nightly@2026-11-22T06:45:00Z".parse().unwrap(),
        queue: "billing/work".parse().unwrap(),
        kind,
        revision: Revision(7),
        generation: Generation(0),
        due_at: "2026-11-22T06:45:00Z".parse().unwrap(),
        attempt_base: 0,
        timeout: Duration::from_secs(60),
        retry: RetryPolicy { jitter: 0.0, ..RetryPolicy::default() },
        start_by: None,
        deadline: None,
        headers: BTreeMap::new(),
    }
}

impl Bench {
    pub(crate) fn new(allow_exec: bool) -> Self {
        Self::with_queues(allow_exec, vec!["billing/work".parse().unwrap()])
    }

    pub(crate) fn with_queues(allow_exec: bool, queues: Vec<QueueId>) -> Self {
        let (bus, shutdown) = (Arc::new(TestBus::default()), Shutdown::new());
        let options = BuiltinOptions { queues, allow_exec, concurrency: 4 };
        let running = run_with(Arc::clone(&bus), options, Clock::system(), shutdown.clone(), ecron());
        tokio::spawn(async { running.await.unwrap() });
        Self { bus, shutdown, sequence: AtomicU64::new(1) }
    }

    pub(crate) async fn exec(&self, spec: serde_json::Value) -> Done {
        self.carry_out(order(WorkKind::Exec), &spec).await
    }

    pub(crate) async fn shell(&self, line: &str) -> Done {
        self.exec(serde_json::json!({ "shell": line })).await
    }

    pub(crate) async fn http(&self, spec: serde_json::Value) -> Done {
        self.carry_out(order(WorkKind::Http), &spec).await
    }

    pub(crate) async fn carry_out(&self, order: Order, payload: &serde_json::Value) -> Done {
        let sequence = self.sequence.fetch_add(1, Ordering::SeqCst);
        let run = self.bus.put(sequence, order, payload);
        tokio::time::timeout(Duration::from_secs(60), run).await.expect("an end within a minute")
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.shutdown.stop();
    }
}

/// A bus with one queue. What is put in comes out; what is said is told to whoever put it in.
#[derive(Default)]
pub(crate) struct TestBus {
    waiting: Mutex<VecDeque<TestDelivery>>,
    arrived: Notify,
    /// The report and the letter of the run in question; runs of this suite don't share a bus at the same time.
    said: Arc<Mutex<(Option<AttemptReport>, Option<DeadLetter>)>>,
    pub(crate) specs: Mutex<Vec<Vec<SpecChange>>>,
    pub(crate) fetched: Mutex<Vec<QueueId>>,
    pub(crate) fetching: Notify,
    /// `source text` of each line.
    pub(crate) logged: Mutex<Vec<String>>,
}

pub(crate) struct TestDelivery {
    sequence: u64,
    order: Result<Order, OrderProblem>,
    payload: Bytes,
    headers: BTreeMap<String, String>,
    answers: mpsc::UnboundedSender<Answer>,
}

impl TestBus {
    pub(crate) async fn put(&self, sequence: u64, order: Order, payload: &serde_json::Value) -> Done {
        let (answers, mut answered) = mpsc::unbounded_channel();
        let payload = Bytes::from(payload.to_string());
        let delivery =
            TestDelivery { sequence, order: Ok(order), payload, headers: BTreeMap::new(), answers };
        self.waiting.lock().unwrap().push_back(delivery);
        self.arrived.notify_one();
        let answer = answered.recv().await.expect("an answer");
        let (report, letter) = std::mem::take(&mut *self.said.lock().unwrap());
        Done { report: report.expect("a report before the answer"), letter, answer }
    }
}

impl Delivery for TestDelivery {
    fn order(&self) -> &Result<Order, OrderProblem> {
        &self.order
    }
    fn payload(&self) -> &Bytes {
        &self.payload
    }
    fn raw_headers(&self) -> &BTreeMap<String, String> {
        &self.headers
    }
    fn subject(&self) -> &str {
        "ecron.run.billing.work"
    }
    fn sequence(&self) -> u64 {
        self.sequence
    }
    fn stored_at(&self) -> Timestamp {
        Clock::system().now()
    }
    fn delivered(&self) -> u32 {
        1
    }
    async fn ack(&self) -> Result<(), BusError> {
        self.answer(Answer::Ack)
    }
    async fn nak(&self, delay: Duration) -> Result<(), BusError> {
        self.answer(Answer::Nak(delay))
    }
    async fn term(&self, _: &str) -> Result<(), BusError> {
        self.answer(Answer::Term)
    }
    async fn notes(&self) -> Result<Notes, BusError> {
        Ok(Notes::default())
    }
    async fn note(&self, _: &Notes) -> Result<(), BusError> {
        Ok(())
    }
    async fn in_progress(&self) -> Result<(), BusError> {
        Ok(())
    }
}

impl TestDelivery {
    fn answer(&self, answer: Answer) -> Result<(), BusError> {
        self.answers.send(answer).map_err(|_| BusError::Failed("the test is over".into()))
    }
}

impl QueueReader for TestBus {
    type Delivery = TestDelivery;

    async fn fetch(&self, queue: &QueueId, _: usize, wait: Duration) -> Result<Vec<TestDelivery>, BusError> {
        self.fetched.lock().unwrap().push(queue.clone());
        self.fetching.notify_one();
        if self.waiting.lock().unwrap().is_empty() {
            let _ = tokio::time::timeout(wait, self.arrived.notified()).await;
        }
        Ok(self.waiting.lock().unwrap().pop_front().into_iter().collect())
    }

    fn ack_wait(&self) -> Duration {
        Duration::from_secs(30)
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

impl CancelListener for TestBus {
    type Notice = Silence;

    async fn cancels(&self, _: &QueueId) -> Result<BoxStream<'static, Silence>, BusError> {
        Ok(stream::pending().boxed())
    }
}

impl EventWriter for TestBus {
    async fn note_progress(&self, _: &ProgressNote) -> Result<(), BusError> {
        Ok(())
    }

    async fn report(&self, report: &AttemptReport) -> Result<(), BusError> {
        self.said.lock().unwrap().0 = Some(report.clone());
        Ok(())
    }
}

impl EditReader for TestBus {
    async fn edits_after(&self, _: &QueueId, mark: Option<EditMark>) -> Result<Edits, BusError> {
        Ok(Edits { edits: Vec::new(), mark, complete_since: None })
    }
}

impl ApiClient for TestBus {
    async fn request(&self, verb: &str, _: Bytes, _: Duration) -> Result<Bytes, BusError> {
        Err(BusError::Failed(format!("{verb}: nobody listens there")))
    }
}

impl LogWriter for TestBus {
    async fn log(&self, batch: &LogBatch) -> Result<(), BusError> {
        self.logged.lock().unwrap().extend(
            batch
                .lines
                .iter()
                .map(|line| format!("{} {}", line.from.as_deref().unwrap_or_default(), line.text)),
        );
        Ok(())
    }
}

impl DeadLetters for TestBus {
    async fn park(&self, letter: &DeadLetter) -> Result<u64, BusError> {
        self.said.lock().unwrap().1 = Some(letter.clone());
        Ok(1)
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

impl SpecStore for TestBus {
    async fn put_by(
        &self,
        _: ShardId,
        _: &JobId,
        _: Option<Revision>,
        _: Bytes,
        _: Option<&str>,
    ) -> Result<Revision, BusError> {
        Err(BusError::Conflict)
    }
    async fn jobs_of(&self, _: ShardId) -> Result<Vec<JobId>, BusError> {
        Ok(vec![])
    }
    async fn delete_by(
        &self,
        _: ShardId,
        _: &JobId,
        _: Revision,
        _: Option<&str>,
    ) -> Result<Revision, BusError> {
        Err(BusError::Conflict)
    }
    async fn get(&self, _: ShardId, _: &JobId) -> Result<Option<StoredSpec>, BusError> {
        Ok(None)
    }
    /// Each call hands out the next prepared batch and ends; then there is no bus any more.
    async fn changes(&self, _: &[ShardId], _: Revision) -> Result<BoxStream<'static, SpecChange>, BusError> {
        let mut batches = self.specs.lock().unwrap();
        if batches.is_empty() {
            return Err(BusError::Failed("away".into()));
        }
        Ok(stream::iter(batches.remove(0)).boxed())
    }
    async fn list(&self, _: Option<&Name>) -> Result<BoxStream<'static, (JobId, StoredSpec)>, BusError> {
        Ok(stream::empty().boxed())
    }
}

pub(crate) fn ad_hoc(order: Order) -> Order {
    let run_id: RunId = "billing/work~17".parse().unwrap();
    Order { run_id, revision: Revision(0), due_at: Timestamp::from_ms(0), ..order }
}
