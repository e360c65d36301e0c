//! The executor as a whole: pulling, concurrency, outages, draining.

use std::sync::atomic::{AtomicUsize, Ordering};

use ambient::shutdown::DRAIN_TIMEOUT_DEFAULT;
use bus::BusError;
use bus::queue::hand_back_delay;
use model::limits::LOST_ATTEMPTS_MAX;
use model::retry::Tally;
use model::time::Timestamp;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use super::*;
use crate::double::{Call, Double, Kind, Message, message, order, passing};
use crate::running::CANCEL_GRACE;

const STEP: Duration = Duration::from_millis(100);

struct World {
    bus: Double,
    clock: Clock,
    shutdown: Shutdown,
    /// Handlers that are at work now, and the most there ever were.
    running: watch::Sender<(usize, usize)>,
    /// A handler needs a permit to end.
    permits: Arc<Semaphore>,
}

impl World {
    fn new() -> Self {
        let clock = Clock::manual(Timestamp::from_ms(5_000));
        Self {
            bus: Double::new(&clock),
            clock,
            shutdown: Shutdown::new(),
            running: watch::Sender::new((0, 0)),
            permits: Arc::new(Semaphore::new(0)),
        }
    }

    fn put(&self, sequences: std::ops::Range<u64>) {
        for sequence in sequences {
            self.bus.put(Message { sequence, ..message(order()) });
        }
    }

    /// An executor whose handlers wait for a permit, or for their cancellation.
    fn start(&self, concurrency: usize) -> JoinHandle<Result<(), RunError>> {
        let (running, permits) = (self.running.clone(), Arc::clone(&self.permits));
        let handler = move |ctx: Context, _| {
            let (running, permits) = (running.clone(), Arc::clone(&permits));
            async move {
                running.send_modify(|(now, most)| {
                    *now += 1;
                    *most = (*most).max(*now);
                });
                let permitted = ctx.cancellation().run_until_cancelled(permits.acquire()).await;
                running.send_modify(|(now, _)| *now -= 1);
                permitted.ok_or("cancelled")?.unwrap().forget();
                Ok::<_, HandlerError>(())
            }
        };
        let executor = Executor::new(Arc::new(self.bus.clone()))
            .clock(self.clock.clone())
            .shutdown(self.shutdown.clone())
            .queue("billing/reports")
            .unwrap()
            .concurrency(concurrency)
            .handle_bytes(handler);
        tokio::spawn(executor.run())
    }

    async fn until_running(&self, wanted: usize) {
        self.running.subscribe().wait_for(|(now, _)| *now == wanted).await.unwrap();
    }

    async fn until_acknowledged(&self, count: usize) {
        self.bus.until(count, |call| matches!(call, Call::Ack(_))).await;
    }

    async fn passing<T>(&self, work: impl Future<Output = T>) -> T {
        passing(&self.clock, STEP, work).await
    }
}

#[tokio::test]
async fn never_more_attempts_than_slots_and_no_run_pulled_without_one() {
    let world = World::new();
    world.put(0..10);
    let executor = world.start(3);
    world.until_running(3).await;
    assert_eq!(world.bus.count(|call| matches!(call, Call::Fetch(limit) if *limit > 3)), 0);
    // All slots are taken: nothing is pulled until one is free.
    let pulls = world.bus.count(|call| matches!(call, Call::Fetch(_)));
    world.clock.advance(Duration::from_secs(20));
    tokio::task::yield_now().await;
    assert_eq!(world.bus.count(|call| matches!(call, Call::Fetch(_))), pulls);

    world.permits.add_permits(10);
    world.until_acknowledged(10).await;
    assert_eq!(world.running.borrow().1, 3);
    world.shutdown.stop();
    world.passing(executor).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_panic_leaves_the_executor_alive() {
    let (world, calls) = (World::new(), Arc::new(AtomicUsize::new(0)));
    world.put(0..3);
    let counted = Arc::clone(&calls);
    let executor = Executor::new(Arc::new(world.bus.clone()))
        .clock(world.clock.clone())
        .shutdown(world.shutdown.clone())
        .queue("billing/reports")
        .unwrap()
        .concurrency(1)
        .handle_bytes(move |_, _| {
            assert!(counted.fetch_add(1, Ordering::SeqCst) == 2, "a bug in the handler");
            async { Ok::<_, HandlerError>(()) }
        });
    let executor = tokio::spawn(executor.run());
    world.until_acknowledged(1).await;
    assert_eq!(world.bus.count(|call| matches!(call, Call::Nak(..))), 2);
    world.shutdown.stop();
    world.passing(executor).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_outage_is_waited_out() {
    let world = World::new();
    world.bus.fail(Kind::Fetch, 30, &BusError::Failed("connection refused".into()));
    world.put(0..1);
    world.permits.add_permits(1);
    let executor = world.start(1);
    world.passing(world.until_acknowledged(1)).await;
    // 100 ms, 200 ms, … 5 s: thirty pulls that failed took about two minutes, not a hot loop and not an hour.
    let took = world.clock.monotonic().as_secs();
    assert!((90..180).contains(&took), "{took} s");
    world.shutdown.stop();
    world.passing(executor).await.unwrap().unwrap();
}

#[tokio::test]
async fn stopping_interrupts_the_wait_for_a_bus_that_is_away() {
    let world = World::new();
    world.bus.fail(Kind::Fetch, 1_000, &BusError::Failed("connection refused".into()));
    let executor = world.start(1);
    world.bus.until(1, |call| matches!(call, Call::Fetch(_))).await;
    world.shutdown.stop();
    executor.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_runs_may_finish_after_the_request_to_stop() {
    let world = World::new();
    world.put(0..2);
    let executor = world.start(8);
    world.until_running(2).await;
    world.shutdown.stop();
    world.clock.advance(DRAIN_TIMEOUT_DEFAULT - STEP);
    tokio::task::yield_now().await;
    assert!(!executor.is_finished());
    world.permits.add_permits(2);
    executor.await.unwrap().unwrap();
    assert_eq!(world.bus.count(|call| matches!(call, Call::Ack(_))), 2);
    assert_eq!(world.bus.count(|call| matches!(call, Call::Nak(..))), 0);
}

#[tokio::test]
async fn what_does_not_finish_in_time_is_handed_back() {
    let world = World::new();
    world.put(0..2);
    let executor = world.start(8);
    world.until_running(2).await;
    world.shutdown.stop();
    world.passing(executor).await.unwrap().unwrap();
    let took = world.clock.monotonic();
    assert!((DRAIN_TIMEOUT_DEFAULT..DRAIN_TIMEOUT_DEFAULT + CANCEL_GRACE).contains(&took), "{took:?}");
    assert_eq!(world.bus.count(|call| *call == Call::Nak(0, Duration::ZERO)), 1);
    assert_eq!(world.bus.count(|call| *call == Call::Nak(1, Duration::ZERO)), 1);
    assert_eq!(world.bus.count(|call| matches!(call, Call::Ack(_))), 0);
}

#[tokio::test]
async fn a_run_that_arrives_while_stopping_is_handed_back_without_being_run() {
    let world = World::new();
    let executor = world.start(8);
    world.bus.until(1, |call| matches!(call, Call::Fetch(_))).await;
    world.shutdown.stop();
    world.put(0..1);
    executor.await.unwrap().unwrap();
    let given_back = Tally { handed_back: 1, ..Tally::default() };
    assert_eq!(world.bus.calls(), [Call::Note(0, given_back), Call::Nak(0, hand_back_delay(1))]);
    assert_eq!(world.running.borrow().1, 0);
}

#[tokio::test]
async fn no_number_of_orderly_leaves_makes_a_lost_attempt() {
    let (mut delivered, mut tally) = (1, Tally::default());
    for _ in 0..3 * LOST_ATTEMPTS_MAX {
        let world = World::new();
        let executor = world.start(8);
        world.bus.until(1, |call| matches!(call, Call::Fetch(_))).await;
        world.shutdown.stop();
        world.bus.put(Message { delivered, tally, ..message(order()) });
        executor.await.unwrap().unwrap();
        let noted = |call: &Call| if let Call::Note(_, tally) = call { Some(*tally) } else { None };
        tally = world.bus.calls().iter().find_map(noted).unwrap();
        delivered += 1;
        assert_eq!(tally.lost(delivered), 0, "{tally:?}");
    }
    let world = World::new();
    world.bus.put(Message { delivered, tally, ..message(order()) });
    world.permits.add_permits(1);
    let executor = world.start(1);
    world.until_acknowledged(1).await;
    world.shutdown.stop();
    world.passing(executor).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_copy_of_a_run_is_another_attempt_at_it() {
    let world = World::new();
    world.bus.put(message(order()));
    world.bus.put(Message { delivered: 2, ..message(order()) });
    world.permits.add_permits(2);
    let executor = world.start(2);
    world.until_acknowledged(2).await;
    let attempts: Vec<u32> = world.bus.calls().iter().filter_map(attempt_of).collect();
    assert_eq!(attempts, [1, 2]);
    world.shutdown.stop();
    world.passing(executor).await.unwrap().unwrap();
}

fn attempt_of(call: &Call) -> Option<u32> {
    if let Call::Report(report) = call { Some(report.end.attempt) } else { None }
}

#[tokio::test]
async fn queues_are_served_as_they_are_found_each_once() {
    let world = World::new();
    let (named, queues) = tokio::sync::mpsc::unbounded_channel::<QueueId>();
    let queues =
        futures_util::stream::unfold(queues, async |mut queues| Some((queues.recv().await?, queues)));
    let executor = Executor::new(Arc::new(world.bus.clone()))
        .clock(world.clock.clone())
        .shutdown(world.shutdown.clone())
        .queues_as_found(queues)
        .handle_bytes(async |_, _| Ok::<_, HandlerError>(()));
    let executor = tokio::spawn(executor.run());
    for queue in ["billing/reports", "billing/reports", "billing/mails"] {
        named.send(queue.parse().unwrap()).unwrap();
    }
    world.bus.until(2, |call| matches!(call, Call::Fetch(_))).await;
    world.put(0..1);
    world.until_acknowledged(1).await;
    world.shutdown.stop();
    world.passing(executor).await.unwrap().unwrap();
    // One of the two pulled again after its run.
    assert!(world.bus.count(|call| matches!(call, Call::Fetch(_))) <= 3);
}

#[tokio::test]
async fn an_executor_without_a_queue_says_so() {
    let bus = Double::new(&Clock::system());
    assert!(matches!(Executor::new(Arc::new(bus)).run().await, Err(RunError::NoQueue)));
}

#[test]
fn queue_names_are_checked() {
    let bus = Double::new(&Clock::system());
    assert!(Executor::new(Arc::new(bus)).queue("billing.reports").is_err());
}
