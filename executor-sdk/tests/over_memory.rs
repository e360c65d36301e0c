//! Whole runs over the bus in memory: publish, execute, and look at what is left in the streams.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on has failed")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ambient::{Clock, Shutdown};
use bus::cancel::{CancelRequest, CancelSignal as _};
use bus::events::{AttemptReport, Event, EventDelivery as _, EventReader as _};
use bus::memory::MemoryBus;
use bus::order::{Order, Publication, WorkKind};
use bus::{DeadLetters as _, QueueReader as _, RunStream as _};
use bytes::Bytes;
use ecron_executor_sdk::{Context, Executor, HandlerError, RunError};
use model::id::Revision;
use model::limits::LOST_ATTEMPTS_MAX;
use model::name::QueueId;
use model::retry::RetryPolicy;
use model::run::{Generation, Outcome, RunState};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

const SUBMIT: &str = "ecron.submit.billing.reports";

struct World {
    bus: MemoryBus,
    clock: Clock,
    shutdown: Shutdown,
}

#[derive(serde::Deserialize)]
struct Report {
    region: String,
}

fn queue() -> QueueId {
    "billing/reports".parse().unwrap()
}

fn order(retry_attempts: u32) -> Order {
    Order {
        run_id: "billing/nightly@2026-11-22T06:45:00Z".parse().unwrap(),
        queue: queue(),
        kind: WorkKind::Payload,
        revision: Revision(7),
        generation: Generation(0),
        due_at: "2026-11-22T06:45:00Z".parse().unwrap(),
        attempt_base: 0,
        timeout: Duration::from_secs(60),
        retry: RetryPolicy {
            attempts: retry_attempts,
            initial: Duration::from_millis(20),
            ..RetryPolicy::default()
        },
        start_by: None,
        deadline: None,
        headers: BTreeMap::new(),
    }
}

impl World {
    fn new(ack_wait: Duration) -> Self {
        let clock = Clock::system();
        let now = {
            let clock = clock.clone();
            move || clock.now()
        };
        Self { bus: MemoryBus::new(Arc::new(now), ack_wait), clock, shutdown: Shutdown::new() }
    }

    async fn publish(&self, order: Order) {
        let message_id = order.run_id.to_string();
        let payload = Bytes::from_static(br#"{"region":"eu"}"#);
        self.bus.publish(vec![Publication { order, message_id, payload }]).await.remove(0).unwrap();
    }

    fn submit(&self, headers: &[(&str, &str)], payload: &'static str) {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.bus.publish_raw(SUBMIT, headers, payload.into()).unwrap();
    }

    fn executor(&self) -> Executor<MemoryBus> {
        Executor::new(Arc::new(self.bus.clone())).clock(self.clock.clone()).shutdown(self.shutdown.clone())
    }

    /// Reports as they were stored, until one ends a run.
    async fn reports(&self) -> Vec<AttemptReport> {
        let mut reports = Vec::new();
        loop {
            for delivery in self.bus.fetch_events(1, Duration::from_secs(30)).await.unwrap() {
                delivery.ack().await.unwrap();
                let Event::Attempt(report) = delivery.event() else { continue };
                reports.push(report.clone());
                if report.ends_run.is_some() {
                    return reports;
                }
            }
        }
    }

    /// Stops, and checks that every message has left the stream.
    async fn all_answered(self, executor: JoinHandle<Result<(), RunError>>) {
        self.shutdown.stop();
        executor.await.unwrap().unwrap();
        assert_eq!(self.bus.extent().await.unwrap().messages, 0);
    }
}

#[tokio::test]
async fn two_failures_then_a_success_are_three_attempts_and_one_end() {
    let world = World::new(Duration::from_secs(30));
    let executor = world.executor().queue("billing/reports").unwrap().handle(
        |ctx: Context, report: Report| async move {
            assert_eq!(report.region, "eu");
            if ctx.attempt() < 3 { Err(HandlerError::from("not yet")) } else { Ok(()) }
        },
    );
    let executor = tokio::spawn(executor.run());
    world.publish(order(3)).await;
    let reports = world.reports().await;
    let told: Vec<_> = reports.iter().map(|r| (r.end.attempt, r.end.outcome, r.ends_run)).collect();
    let failed = Outcome::Failed;
    assert_eq!(
        told,
        [(1, failed, None), (2, failed, None), (3, Outcome::Succeeded, Some(RunState::Succeeded))]
    );
    for pair in reports.windows(2) {
        let delay = pair[0].end.attempt;
        let policy = order(3).retry.delay(&order(3).run_id.to_string(), delay);
        let waited = pair[1].end.started_at.ms_since(pair[0].end.ended_at);
        assert!(waited >= i64::try_from(policy.as_millis()).unwrap(), "{waited} ms after attempt {delay}");
    }
    world.all_answered(executor).await;
}

#[tokio::test]
async fn a_dead_letter_runs_again_when_it_is_redriven() {
    let world = World::new(Duration::from_secs(30));
    let attempts = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&attempts);
    let executor = world.executor().queue("billing/reports").unwrap().handle_bytes(move |ctx, _| {
        let mut seen = seen.lock().unwrap();
        seen.push(ctx.attempt());
        let fails = seen.len() <= 2;
        async move { if fails { Err(HandlerError::from("no stock")) } else { Ok(()) } }
    });
    let executor = tokio::spawn(executor.run());
    world.publish(order(2)).await;
    let end = world.reports().await.pop().unwrap();
    assert_eq!((end.ends_run, end.generation), (Some(RunState::DeadLettered), Generation(0)));
    let letters = world.bus.letters(0, 10).await.unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].letter.error.as_str(), letters[0].letter.attempts), ("no stock", 2));

    let cluster = bus::checkpoints::Cluster {
        id: "test".into(),
        shards: model::shard::ShardCount::default(),
        message_id_key: [0; 16],
        created_at: world.clock.now(),
    };
    bus::Checkpoints::init_cluster(&world.bus, &cluster).await.unwrap();
    world.bus.redrive(letters[0].number).await.unwrap();
    let end = world.reports().await.pop().unwrap();
    assert_eq!((end.ends_run, end.generation), (Some(RunState::Succeeded), Generation(1)));
    assert_eq!(*attempts.lock().unwrap(), [1, 2, 1]);
    assert!(world.bus.letters(0, 10).await.unwrap().is_empty());
    world.all_answered(executor).await;
}

#[tokio::test]
async fn ad_hoc_work_runs_and_what_cannot_be_read_does_not_hold_it_up() {
    let world = World::new(Duration::from_secs(30));
    world.bus.publish_raw("ecron.run.billing.reports", BTreeMap::new(), "noise".into()).unwrap();
    world.submit(&[("Ecron-Retry", "often")], "{}");
    world.submit(&[("Ecron-Kind", "exec")], r#"{"command":["id"]}"#);
    world.submit(&[("Ecron-Key", "wrong-shape")], r#"{"land":"de"}"#);
    world.submit(&[("Ecron-Key", "order-17"), ("X-Trace", "abc")], r#"{"region":"us"}"#);
    let executor = world.executor().queue("billing/reports").unwrap().concurrency(1).handle(
        |ctx: Context, report: Report| async move {
            assert_eq!((report.region.as_str(), ctx.headers()["X-Trace"].as_str()), ("us", "abc"));
            Ok::<_, HandlerError>(())
        },
    );
    let executor = tokio::spawn(executor.run());
    let first = world.reports().await.pop().unwrap();
    assert_eq!(
        (first.run_id.to_string().as_str(), first.ends_run),
        ("billing/reports~wrong-shape", Some(RunState::DeadLettered))
    );
    let second = world.reports().await.pop().unwrap();
    assert_eq!(
        (second.run_id.to_string().as_str(), second.ends_run),
        ("billing/reports~order-17", Some(RunState::Succeeded))
    );
    let letters = world.bus.letters(0, 10).await.unwrap();
    let reasons: Vec<&str> = letters.iter().map(|stored| stored.letter.reason.as_str()).collect();
    assert_eq!(reasons, ["undecodable", "malformed-headers", "malformed-headers", "undecodable"]);
    world.all_answered(executor).await;
}

#[tokio::test]
async fn a_run_whose_executor_was_lost_is_finished_by_another() {
    let world = World::new(Duration::from_millis(100));
    world.publish(order(1)).await;
    // Takes it and is never heard of again.
    let lost = world.bus.fetch(&queue(), 1, Duration::from_secs(5)).await.unwrap();
    assert_eq!(lost.len(), 1);
    let executor = world
        .executor()
        .queue("billing/reports")
        .unwrap()
        .handle_bytes(async |_, _| Ok::<_, HandlerError>(()));
    let executor = tokio::spawn(executor.run());
    let reports = world.reports().await;
    assert_eq!((reports.len(), reports[0].end.attempt), (1, 2));
    assert_eq!(reports[0].ends_run, Some(RunState::Succeeded));
    world.all_answered(executor).await;
}

#[tokio::test]
async fn lost_attempts_and_rate_limits_leave_the_policy_its_own_attempts() {
    let world = World::new(Duration::from_millis(50));
    world.publish(order(2)).await;
    for _ in 0..LOST_ATTEMPTS_MAX {
        // Takes it and is never heard of again.
        assert_eq!(world.bus.fetch(&queue(), 1, Duration::from_secs(5)).await.unwrap().len(), 1);
    }
    let executor = world.executor().queue("billing/reports").unwrap();
    let executor = executor.handle_bytes(async |ctx: Context, _| match ctx.attempt() {
        // After five lost ones: turned away twice, a failure, turned away once more, the last failure.
        6 | 7 | 9 => Err::<(), _>(HandlerError::retry_after(Duration::from_millis(5), "busy")),
        _ => Err(HandlerError::from("no stock")),
    });
    let executor = tokio::spawn(executor.run());
    let reports = world.reports().await;
    let attempts: Vec<u32> = reports.iter().map(|report| report.end.attempt).collect();
    assert_eq!(attempts, [6, 7, 8, 9, 10]);
    assert_eq!(reports[4].ends_run, Some(RunState::DeadLettered));
    world.all_answered(executor).await;
}

#[tokio::test]
async fn a_cancelled_run_ends_where_it_is_carried_out() {
    let world = World::new(Duration::from_secs(30));
    let signal = Arc::new(Notify::new());
    let begun = Arc::clone(&signal);
    let executor = world.executor().queue("billing/reports").unwrap().handle_bytes(move |ctx: Context, _| {
        begun.notify_one();
        async move {
            ctx.cancelled().await;
            Err::<(), _>("interrupted")
        }
    });
    let request = CancelRequest {
        queue: queue(),
        run_id: order(3).run_id,
        generation: Generation(0),
        by: None,
        reason: Some("wrong month".into()),
    };
    assert_eq!(world.bus.cancel(&request, Duration::from_millis(10)).await, Ok(false), "nobody is there");
    let executor = tokio::spawn(executor.run());
    world.publish(order(3)).await;
    signal.notified().await;
    assert_eq!(world.bus.cancel(&request, Duration::from_secs(30)).await, Ok(true));
    let end = world.reports().await.pop().unwrap();
    assert_eq!((end.end.outcome, end.ends_run), (Outcome::Cancelled, Some(RunState::Cancelled)));
    assert_eq!(end.end.error.as_deref(), Some("cancelled: wrong month"));
    world.all_answered(executor).await;
}

#[tokio::test]
async fn a_stopping_executor_hands_its_run_to_another_without_waiting_for_the_ack_wait() {
    let world = World::new(Duration::from_secs(3600));
    let (started, stop_slow) = (Arc::new(Notify::new()), Shutdown::new());
    let signal = Arc::clone(&started);
    let slow = world.executor().name("slow").shutdown(stop_slow.clone()).drain_timeout(Duration::ZERO);
    let slow = slow.queue("billing/reports").unwrap().handle_bytes(move |ctx: Context, _| {
        signal.notify_one();
        async move {
            ctx.cancelled().await;
            Err::<(), _>("interrupted")
        }
    });
    let slow = tokio::spawn(slow.run());
    world.publish(order(1)).await;
    started.notified().await;
    let other = world.executor().name("other").queue("billing/reports").unwrap();
    let other = tokio::spawn(other.handle_bytes(async |_, _| Ok::<_, HandlerError>(())).run());
    stop_slow.stop();
    slow.await.unwrap().unwrap();
    let reports = world.reports().await;
    let told: Vec<_> = reports.iter().map(|r| (r.executor.as_str(), r.end.outcome, r.end.attempt)).collect();
    assert_eq!(told, [("slow", Outcome::Cancelled, 1), ("other", Outcome::Succeeded, 2)]);
    world.all_answered(other).await;
}

#[tokio::test]
async fn an_outage_in_mid_run_delays_the_outcome_and_loses_nothing() {
    let world = World::new(Duration::from_secs(3600));
    let (runs, bus) = (Arc::new(AtomicU32::new(0)), world.bus.clone());
    let counted = Arc::clone(&runs);
    let executor = world.executor().queue("billing/reports").unwrap().handle_bytes(move |_, _| {
        counted.fetch_add(1, Ordering::SeqCst);
        // Everything after the handler meets a bus that is away, until somebody mends it.
        bus.set_connected(false);
        let bus = bus.clone();
        async move {
            tokio::spawn(async move {
                tokio::task::yield_now().await;
                bus.set_connected(true);
            });
            Ok::<_, HandlerError>(())
        }
    });
    let executor = tokio::spawn(executor.run());
    world.publish(order(1)).await;
    let reports = loop {
        match tokio::time::timeout(Duration::from_secs(30), world_reports(&world)).await.unwrap() {
            Some(reports) => break reports,
            None => tokio::task::yield_now().await,
        }
    };
    assert_eq!((reports.len(), reports[0].ends_run), (1, Some(RunState::Succeeded)));
    world.all_answered(executor).await;
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

/// The same as `reports` for a bus that may be away: `None` then.
async fn world_reports(world: &World) -> Option<Vec<AttemptReport>> {
    let deliveries = world.bus.fetch_events(100, Duration::from_secs(5)).await.ok()?;
    let reports = deliveries.iter().filter_map(|delivery| match delivery.event() {
        Event::Attempt(report) => Some(report.clone()),
        Event::Audit(_) | Event::Progress(_) | Event::Terminated { .. } | Event::Undecodable { .. } => None,
    });
    let reports: Vec<AttemptReport> = reports.collect();
    (!reports.is_empty()).then_some(reports)
}
