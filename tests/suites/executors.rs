//! Executors over a real nats-server: what they count, what they hear, what they tell while they are at work.

#![allow(clippy::unwrap_used, reason = "tests, and helpers of tests")]

use std::sync::Arc;
use std::time::Duration;

use ambient::{Clock, Shutdown};
use bus::cancel::{CancelRequest, CancelSignal};
use bus::checkpoints::Cluster;
use bus::conformance::{publication, queue};
use bus::events::{AttemptReport, Event, EventDelivery};
use bus::nats::{NatsBus, NatsOptions};
use bus::order::{Publication, WorkKind};
use bus::{Checkpoints, EventReader, LogReader, QueueReader, RunStream};
use dispatcher::gate::Gates;
use dispatcher::queue_rules::QueueRules;
use dispatcher::settle::Settler;
use executor_sdk::{Context, Executor, HandlerError, Output};
use harness::servers::{self, Server};
use model::limits::LOST_ATTEMPTS_MAX;
use model::run::{Outcome, RunState};
use model::shard::ShardCount;
use planner::api::Api;
use serde_json::{Value, json};
use store::memory::MemoryStore;
use tokio::sync::Notify;

/// Long enough for anything that is bound to come.
const PATIENCE: Duration = Duration::from_secs(30);

struct Ground {
    bus: Arc<NatsBus>,
    shutdown: Shutdown,
    server: Server,
}

fn options() -> NatsOptions {
    NatsOptions { name: "executors-test".into(), ack_wait: Duration::from_secs(1), ..NatsOptions::default() }
}

impl Ground {
    async fn start() -> Self {
        let server = servers::nats(&[]).await.unwrap();
        let bus = NatsBus::connect(&server.url(), options()).await.unwrap();
        assert_eq!(bus.ensure_streams().await, Ok(vec![]));
        Self { bus: Arc::new(bus), shutdown: Shutdown::new(), server }
    }

    /// An executor with a connection of its own.
    async fn executor(&self) -> Executor {
        let bus = NatsBus::connect(&self.server.url(), options()).await.unwrap();
        Executor::new(Arc::new(bus)).shutdown(self.shutdown.clone())
    }

    async fn publish(&self, second: i64, attempts: u32) -> Publication {
        let mut run = publication(&queue("reports"), "nightly", second);
        (run.order.kind, run.order.start_by) = (WorkKind::Payload, None);
        run.order.retry.attempts = attempts;
        run.order.retry.initial = Duration::from_millis(20);
        self.bus.publish(vec![run.clone()]).await.remove(0).unwrap();
        run
    }

    /// Reports as they were stored, until one ends a run.
    async fn reports(&self) -> Vec<AttemptReport> {
        let mut reports = Vec::new();
        loop {
            let batch = self.bus.fetch_events(1, PATIENCE).await.unwrap();
            assert!(!batch.is_empty(), "no end was reported: {reports:?}");
            for delivery in batch {
                delivery.ack().await.unwrap();
                let Event::Attempt(report) = delivery.event() else { continue };
                reports.push(report.clone());
                if report.ends_run.is_some() {
                    return reports;
                }
            }
        }
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        self.shutdown.stop();
    }
}

#[tokio::test]
async fn lost_attempts_and_rate_limits_leave_the_policy_its_own_attempts() {
    let ground = Ground::start().await;
    ground.publish(1, 2).await;
    let queue = queue("reports");
    for _ in 0..LOST_ATTEMPTS_MAX {
        // Takes it and is never heard of again.
        assert_eq!(ground.bus.fetch(&queue, 1, PATIENCE).await.unwrap().len(), 1);
    }
    let executor = ground.executor().await.queue_id(queue).handle_bytes(async |ctx: Context, _| {
        match ctx.attempt() {
            // After five lost ones: turned away twice, a failure, turned away once more, the last failure.
            6 | 7 | 9 => Err::<(), _>(HandlerError::retry_after(Duration::from_millis(5), "busy")),
            _ => Err(HandlerError::from("no stock")),
        }
    });
    tokio::spawn(executor.run());
    let reports = ground.reports().await;
    let attempts: Vec<u32> = reports.iter().map(|report| report.end.attempt).collect();
    assert_eq!(attempts, [6, 7, 8, 9, 10]);
    assert_eq!(reports[4].ends_run, Some(RunState::DeadLettered));
}

#[tokio::test]
async fn a_cancelled_run_ends_where_it_is_carried_out() {
    let ground = Ground::start().await;
    let begun = Arc::new(Notify::new());
    let signal = Arc::clone(&begun);
    let executor = ground.executor().await.queue_id(queue("reports")).handle_bytes(move |ctx: Context, _| {
        signal.notify_one();
        async move {
            ctx.cancelled().await;
            Err::<(), _>("interrupted")
        }
    });
    tokio::spawn(executor.run());
    let order = ground.publish(1, 3).await.order;
    begun.notified().await;
    let request = CancelRequest {
        queue: order.queue,
        run_id: order.run_id,
        generation: order.generation,
        by: Some("ann@host".into()),
        reason: None,
    };
    assert_eq!(ground.bus.cancel(&request, PATIENCE).await, Ok(true));
    let end = ground.reports().await.pop().unwrap();
    assert_eq!((end.end.outcome, end.ends_run), (Outcome::Cancelled, Some(RunState::Cancelled)));
    assert_eq!(end.end.error.as_deref(), Some("cancelled by ann@host"));
    // It is out of everybody's hands now.
    assert_eq!(ground.bus.cancel(&request, Duration::from_millis(200)).await, Ok(false));
}

#[tokio::test]
async fn what_an_attempt_says_is_heard_while_it_runs() {
    let ground = Ground::start().await;
    let go_on = Arc::new(Notify::new());
    let signal = Arc::clone(&go_on);
    let executor = ground.executor().await.queue_id(queue("reports")).handle_bytes(move |ctx: Context, _| {
        let signal = Arc::clone(&signal);
        async move {
            ctx.log("opening the books\nreading");
            ctx.progress(0.4, "rows 4000/10000");
            signal.notified().await;
            ctx.log("done");
            Ok::<_, HandlerError>(Output::json(&[1, 2, 3]))
        }
    });
    tokio::spawn(executor.run());
    let order = ground.publish(1, 1).await.order;
    // Both come before the attempt ends.
    let note = ground.bus.fetch_events(1, PATIENCE).await.unwrap().pop().unwrap();
    note.ack().await.unwrap();
    let Event::Progress(said) = note.event() else { panic!("{:?}", note.event()) };
    assert_eq!((&said.run_id, said.progress.fraction), (&order.run_id, Some(0.4.into())));
    let lines = async || {
        let batches = ground.bus.log_batches(&order.run_id, 0, 100).await.unwrap();
        batches.into_iter().flat_map(|stored| stored.batch.lines).map(|line| line.text).collect::<Vec<_>>()
    };
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while lines().await != ["opening the books", "reading"] {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", lines().await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    go_on.notify_one();
    let end = ground.reports().await.pop().unwrap();
    assert_eq!(end.output.as_deref(), Some("[1,2,3]"));
    assert_eq!(lines().await, ["opening the books", "reading", "done"], "the last words come before the end");
}

/// A planner's API and a dispatcher's settler beside the executors; what they remember is in memory.
struct Node {
    api: Api<MemoryStore, NatsBus>,
    settler: Settler<MemoryStore, NatsBus>,
}

impl Node {
    async fn on(ground: &Ground) -> Self {
        let (clock, shards) = (Clock::system(), ShardCount::default());
        let cluster = Cluster { id: "c".into(), shards, message_id_key: [7; 16], created_at: clock.now() };
        ground.bus.init_cluster(&cluster).await.unwrap();
        let now = clock.clone();
        let store = Arc::new(MemoryStore::new(Arc::new(move || now.now())));
        let api = Api::new(Arc::clone(&store), Arc::clone(&ground.bus), clock.clone(), shards);
        let gates = Gates::new(store, Arc::clone(&ground.bus), clock, shards, QueueRules::default());
        Self { api, settler: Settler::new(gates) }
    }

    async fn ask(&self, verb: &str, request: Value) -> Value {
        let answer = self.api.answer(verb, request.to_string().as_bytes()).await;
        serde_json::from_slice(&answer).unwrap()
    }

    async fn submit(&self, until: &str) -> (String, bool) {
        let unique = json!({"until": until});
        let request = json!({"queue": "billing/reports", "key": "order-17", "payload": 1, "unique": unique});
        let answer = self.ask("submit", request).await;
        let reply = &answer["ok"];
        (reply["run"].as_str().unwrap().to_owned(), reply["duplicate"].as_bool().unwrap())
    }

    /// Settles until something else than this run is told.
    async fn until_free(&self, run: &str, until: &str) -> String {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            self.settler.run_once(Duration::from_millis(50)).await.unwrap();
            match self.submit(until).await {
                (next, false) => return next,
                (same, true) => assert_eq!(same, run),
            }
            assert!(tokio::time::Instant::now() < deadline, "the key isn't freed");
        }
    }
}

#[tokio::test]
async fn unique_work_is_free_at_its_start_or_its_end_and_its_failure_is_remembered() {
    let ground = Ground::start().await;
    let node = Node::on(&ground).await;
    let (run, duplicate) = node.submit("started").await;
    assert!(!duplicate);
    assert_eq!(node.submit("started").await, (run.clone(), true));
    let go_on = Arc::new(Notify::new());
    let signal = Arc::clone(&go_on);
    let executor = ground.executor().await.queue_id(queue("reports")).handle_bytes(move |_, _| {
        let signal = Arc::clone(&signal);
        async move {
            signal.notified().await;
            Err::<(), _>(HandlerError::permanent("no stock"))
        }
    });
    tokio::spawn(executor.run());
    // The first one is at work: its key is free, and the second one takes it until it is done.
    let second = node.until_free(&run, "started").await;
    go_on.notify_one();
    let third = node.until_free(&second, "started").await;
    go_on.notify_one();
    go_on.notify_one();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let view = loop {
        node.settler.run_once(Duration::from_millis(50)).await.unwrap();
        let answer = node.ask("run", json!({"run": run})).await;
        if answer["ok"].is_object() {
            break answer["ok"].clone();
        }
        assert!(tokio::time::Instant::now() < deadline, "{answer}");
    };
    assert_eq!(
        (&view["state"], &view["error"], &view["attempts"]),
        (&json!("dead-lettered"), &json!("no stock"), &json!(1))
    );
    assert_ne!(third, second);
}
