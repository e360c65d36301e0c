//! One attempt at a time, over a bus that writes everything down.

use std::future::pending;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};

use bus::BusError;
use bus::order::WorkKind;
use model::retry::{RetryPolicy, Tally};
use model::run::Generation;
use tokio::sync::Notify;

use super::*;
use crate::answer::ANSWER_PERSISTENCE;
use crate::double::{ACK_WAIT, Call, Double, Kind, Message, message, order, passing};
use crate::handler::{HandlerError, Output, Raw, Typed};
use crate::running::CANCEL_GRACE;

#[path = "bounds.rs"]
mod bounds;
#[path = "cancelled.rs"]
mod cancelled;
#[path = "fenced.rs"]
mod fenced;
#[path = "said.rs"]
mod said;

const SECOND: Duration = Duration::from_secs(1);

/// A bus, a clock at four seconds past the due time, and an executor without a queue.
struct World {
    bus: Double,
    clock: Clock,
    drained: CancellationToken,
    hands: Hands,
}

impl World {
    fn new() -> Self {
        let clock = Clock::manual(Timestamp::from_ms(5_000));
        let hands = Hands::new(&clock, ACK_WAIT);
        Self { bus: Double::new(&clock), clock, drained: CancellationToken::new(), hands }
    }

    fn attempt(&self, handler: impl Handler, message: Message) -> Attempt<Double> {
        let (bus, clock) = (Arc::new(self.bus.clone()), self.clock.clone());
        let (drained, hands) = (self.drained.clone(), self.hands.clone());
        let host = Host { bus, clock, name: "host-1".into(), drained, hands };
        let fence = Arc::new(Fence::new(&order().queue, &self.clock));
        let delivery = self.bus.deliver(message);
        Attempt { host: Arc::new(host), handler: Arc::new(handler), fence, delivery }
    }

    /// Carries out one attempt while the clock runs in steps of a second.
    async fn carry_out(&self, handler: impl Handler, message: Message) -> Ending {
        passing(&self.clock, SECOND, self.attempt(handler, message).carry_out()).await
    }

    /// The only report, and the calls without it.
    fn report(&self) -> (AttemptReport, Vec<Call>) {
        let (mut reports, calls): (Vec<Call>, Vec<Call>) =
            self.bus.calls().into_iter().partition(|call| matches!(call, Call::Report(_)));
        match reports.pop() {
            Some(Call::Report(report)) if reports.is_empty() => (*report, calls),
            other => panic!("expected one report: {other:?} after {reports:?}"),
        }
    }

    fn letter(&self) -> DeadLetter {
        let letter = |call| if let Call::Park(letter) = call { Some(*letter) } else { None };
        self.bus.calls().into_iter().find_map(letter).expect("a dead letter")
    }

    /// The calls by their first letters: R(eport), P(ark), A(ck), N(ak), T(erm).
    fn said(&self) -> String {
        let letter = |call: &Call| format!("{call:?}").chars().next().unwrap_or('?');
        self.bus.calls().iter().map(letter).collect()
    }
}

fn succeeds() -> impl Handler {
    Raw(async |_, _| Ok::<_, HandlerError>(Output::text("42 rows")))
}

fn fails() -> impl Handler {
    Raw(async |_, _| Err::<(), _>("no stock"))
}

fn never_called() -> impl Handler {
    Raw(async |ctx: Context, _| -> Result<(), HandlerError> { panic!("{} was run", ctx.run_id()) })
}

/// The message at its nth attempt; all those before it failed.
fn nth(attempt: u32) -> Message {
    let tally = Tally { failed: attempt - 1, ..Tally::default() };
    Message { delivered: attempt, tally, ..message(order()) }
}

fn failed(failed: u32) -> Tally {
    Tally { failed, ..Tally::default() }
}

#[tokio::test]
async fn success_is_reported_then_acknowledged() {
    let world = World::new();
    let order = Order { attempt_base: 2, ..order() };
    let message = Message { delivered: 3, ..message(order.clone()) };
    assert_eq!(world.carry_out(succeeds(), message).await, Ending::Succeeded);
    assert_eq!(world.said(), "RA");
    let expected = AttemptReport {
        run_id: order.run_id,
        queue: order.queue,
        revision: order.revision,
        generation: Generation(0),
        end: AttemptEnd {
            attempt: 5,
            outcome: Outcome::Succeeded,
            error: None,
            started_at: Timestamp::from_ms(5_000),
            ended_at: Timestamp::from_ms(5_000),
        },
        ends_run: Some(RunState::Succeeded),
        reason: None,
        due_at: Timestamp::from_ms(1_000),
        executor: "host-1".into(),
        output: Some("42 rows".into()),
    };
    assert_eq!(world.report().0, expected);
}

#[tokio::test]
async fn the_context_tells_the_run() {
    let world = World::new();
    let handler = Typed(
        async |ctx: Context, payload: std::collections::BTreeMap<String, String>| {
            assert_eq!(ctx.run_id().to_string(), "billing/nightly@1970-01-01T00:00:01Z");
            assert_eq!((ctx.attempt(), ctx.attempts_max()), (2, 3));
            assert_eq!((ctx.due_at(), ctx.lateness()), (Timestamp::from_ms(1_000), SECOND * 4));
            assert_eq!((ctx.deadline(), ctx.remaining()), (Timestamp::from_ms(65_000), SECOND * 60));
            assert_eq!(ctx.queue().to_string(), "billing/reports");
            assert_eq!(ctx.headers()["region"], payload["region"]);
            assert!(!ctx.cancellation().is_cancelled());
            Ok::<_, HandlerError>(())
        },
        PhantomData,
    );
    assert_eq!(world.carry_out(handler, nth(2)).await, Ending::Succeeded);
}

#[tokio::test]
async fn a_failure_is_reported_then_put_back_with_the_policys_delay() {
    for (attempt, delay) in [(1, SECOND * 10), (2, SECOND * 20)] {
        let world = World::new();
        assert_eq!(world.carry_out(fails(), nth(attempt)).await, Ending::Retried { delay });
        let (report, rest) = world.report();
        assert_eq!(rest, [Call::Note(1, failed(attempt)), Call::Nak(1, delay)]);
        assert_eq!(world.said(), "RNN");
        assert_eq!((report.end.outcome, report.ends_run), (Outcome::Failed, None));
        assert_eq!(report.end.error.as_deref(), Some("no stock"));
    }
}

#[tokio::test]
async fn the_last_failure_is_parked_then_reported_then_terminated() {
    let world = World::new();
    let reason = DeadReason::AttemptsExhausted;
    assert_eq!(world.carry_out(fails(), nth(3)).await, Ending::DeadLettered { reason });
    assert_eq!(world.said(), "PRT");
    assert_eq!(world.report().0.ends_run, Some(RunState::DeadLettered));
    let letter = world.letter();
    assert_eq!(letter.id, "billing/nightly@1970-01-01T00:00:01Z");
    assert_eq!((letter.reason, letter.attempts, letter.error.as_str()), (reason, 3, "no stock"));
    assert_eq!(letter.subject, "ecron.run.billing.reports");
    assert_eq!(letter.original_headers["Raw"], "as it came");
    assert_eq!(&letter.payload[..], br#"{"region":"eu"}"#);
}

#[tokio::test]
async fn a_permanent_failure_gives_up_at_once() {
    let world = World::new();
    let handler = Raw(async |_, _| Err::<(), _>(HandlerError::permanent("no such customer")));
    let reason = DeadReason::Permanent;
    assert_eq!(world.carry_out(handler, nth(1)).await, Ending::DeadLettered { reason });
    assert_eq!((world.letter().attempts, world.said().as_str()), (1, "PRT"));
}

#[tokio::test]
async fn a_payload_of_another_shape_is_a_dead_letter() {
    let world = World::new();
    let handler = Typed(async |_, _: Vec<u8>| Ok::<_, HandlerError>(()), PhantomData);
    let reason = DeadReason::Undecodable;
    assert_eq!(world.carry_out(handler, nth(1)).await, Ending::DeadLettered { reason });
    let error = world.letter().error;
    assert!(error.starts_with("read the payload as alloc::vec::Vec<u8>: invalid type: map"), "{error}");
}

#[tokio::test]
async fn a_handler_of_payloads_gets_no_commands() {
    let world = World::new();
    let exec = message(Order { kind: WorkKind::Exec, ..order() });
    let reason = DeadReason::Permanent;
    assert_eq!(world.carry_out(never_called(), exec).await, Ending::DeadLettered { reason });
    assert!(world.letter().error.contains("for the built-in executor"), "{}", world.letter().error);
}

#[tokio::test]
async fn a_run_that_is_too_late_is_skipped_with_a_reason() {
    let world = World::new();
    let late = Order { start_by: Some(Timestamp::from_ms(4_999)), ..order() };
    assert_eq!(world.carry_out(never_called(), message(late.clone())).await, Ending::Skipped);
    assert_eq!(world.said(), "RA");
    let (report, _) = world.report();
    assert_eq!(report.ends_run, Some(RunState::Skipped));
    assert_eq!(report.reason.as_deref(), Some("not started within startingDeadline"));

    let started = [
        message(Order { start_by: Some(Timestamp::from_ms(5_000)), ..late.clone() }),
        Message { delivered: 2, ..message(late) },
    ];
    for message in started {
        assert_eq!(World::new().carry_out(succeeds(), message).await, Ending::Succeeded);
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_quarantined() {
    let subjects = [
        ("ecron.run.billing.reports", DeadReason::Undecodable),
        ("ecron.submit.billing.reports", DeadReason::MalformedHeaders),
    ];
    for (subject, reason) in subjects {
        let world = World::new();
        let problem = OrderProblem { header: "Ecron-Timeout".into(), problem: "not a duration".into() };
        let message = Message { order: Err(problem), subject: subject.into(), sequence: 17, ..nth(1) };
        assert_eq!(world.carry_out(never_called(), message).await, Ending::DeadLettered { reason });
        assert_eq!(world.said(), "PT");
        let letter = world.letter();
        assert_eq!((letter.id.as_str(), letter.reason), ("ECRON_RUNS/17", reason));
        assert_eq!(letter.error, "failed to read header Ecron-Timeout: not a duration");
    }
}

#[tokio::test]
async fn what_is_too_large_to_park_whole_is_cut_and_says_so() {
    let world = World::new();
    world.bus.fail(Kind::Park, 1, &BusError::Refused("maximum payload exceeded".into()));
    let problem = OrderProblem { header: "payload".into(), problem: "has 1000000 bytes".into() };
    let message = Message { order: Err(problem), payload: vec![b'x'; 1_000_000].into(), ..nth(1) };
    world.carry_out(never_called(), message).await;
    assert_eq!(world.said(), "PPT");
    let Some(Call::Park(letter)) = world.bus.calls().into_iter().nth(1) else { panic!("not parked again") };
    assert_eq!(letter.payload.len(), PAYLOAD_BYTES_MAX);
    assert!(letter.error.ends_with("(kept: 262144 of 1000000 bytes, 1 of 1 headers)"), "{}", letter.error);

    // One within the limits is parked whole or not at all.
    let world = World::new();
    world.bus.fail(Kind::Park, 3, &BusError::Refused("stream is full".into()));
    world.carry_out(fails(), nth(3)).await;
    let Some(Call::Park(letter)) = world.bus.calls().into_iter().nth(3) else { panic!("not parked again") };
    assert_eq!(*letter, world.letter());
}

#[tokio::test]
async fn a_panic_is_a_failed_attempt() {
    let world = World::new();
    let handler =
        Raw(async |ctx: Context, _| -> Result<(), HandlerError> { panic!("{} rows", ctx.attempt()) });
    assert_eq!(world.carry_out(handler, nth(1)).await, Ending::Retried { delay: SECOND * 10 });
    let error = world.report().0.end.error;
    assert_eq!(error.as_deref(), Some("the handler panicked: 1 rows"));
}

#[tokio::test]
async fn a_handler_that_takes_too_long_is_cancelled() {
    let world = World::new();
    let handler = Raw(async |ctx: Context, _| {
        ctx.cancelled().await;
        Err::<(), _>(HandlerError::permanent("told to stop").with_output("half of it"))
    });
    assert_eq!(world.carry_out(handler, nth(1)).await, Ending::Retried { delay: SECOND * 10 });
    let (report, _) = world.report();
    assert_eq!((report.end.outcome, report.ends_run), (Outcome::TimedOut, None));
    assert_eq!(report.end.ended_at.ms_since(report.end.started_at), 60_000);
    assert_eq!(report.end.error.as_deref(), Some("not done within its timeout of 60s"));
    assert_eq!(report.output.as_deref(), Some("half of it"));
}

#[tokio::test]
async fn a_handler_that_does_not_listen_is_aborted() {
    struct Guard(Arc<AtomicUsize>);
    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let (world, dropped) = (World::new(), Arc::new(AtomicUsize::new(0)));
    let guarded = Arc::clone(&dropped);
    let deaf = Raw(move |_, _| {
        let guard = Guard(Arc::clone(&guarded));
        async move {
            let _guard = guard;
            pending::<Result<(), HandlerError>>().await
        }
    });
    let reason = DeadReason::AttemptsExhausted;
    assert_eq!(world.carry_out(deaf, nth(3)).await, Ending::DeadLettered { reason });
    let (report, _) = world.report();
    assert_eq!(report.end.outcome, Outcome::TimedOut);
    let took =
        Duration::from_millis(u64::try_from(report.end.ended_at.ms_since(report.end.started_at)).unwrap());
    assert_eq!(took, SECOND * 60 + CANCEL_GRACE);
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn heartbeats_keep_the_message_while_the_handler_runs() {
    let world = World::new();
    world.bus.fail(Kind::InProgress, 2, &BusError::Failed("away".into()));
    let clock = world.clock.clone();
    let slow = Raw(move |_, _| {
        let nap = clock.sleep(ACK_WAIT);
        async move {
            nap.await;
            Ok::<_, HandlerError>(())
        }
    });
    assert_eq!(world.carry_out(slow, nth(1)).await, Ending::Succeeded);
    let beats = world.bus.count(|call| matches!(call, Call::InProgress(1)));
    assert!((2..=3).contains(&beats), "{beats}");
}

#[tokio::test]
async fn an_outcome_is_stored_before_the_message_ends_however_long_that_takes() {
    let errors =
        [BusError::Failed("away".into()), BusError::Unknown("slow".into()), BusError::Refused("full".into())];
    for error in &errors {
        let world = World::new();
        world.bus.fail(Kind::Report, 12, error);
        world.bus.fail(Kind::Ack, 3, error);
        assert_eq!(world.carry_out(succeeds(), nth(1)).await, Ending::Succeeded);
        assert_eq!(world.said(), "RRRRRRRRRRRRRAAAA");
        let beats = world.bus.count(|call| matches!(call, Call::InProgress(1)));
        assert!(beats >= 3, "no heartbeats while answering: {beats}");
    }
}

#[tokio::test]
async fn a_message_whose_outcome_cannot_be_stored_stays_unanswered() {
    let error = BusError::Unknown("slow".into());
    let table = [(succeeds as fn() -> _, 1, Kind::Report, "R"), (succeeds, 1, Kind::Ack, "RA")];
    for (handler, attempt, kind, said) in table {
        let world = World::new();
        world.bus.fail(kind, usize::MAX >> 50, &error);
        assert_eq!(world.carry_out(handler(), nth(attempt)).await, Ending::Unanswered);
        assert_eq!(squeezed(&world.said()), said);
        assert!(world.clock.monotonic() < ANSWER_PERSISTENCE + SECOND * 10);
    }
    let table = [
        (1, Kind::Report, "R"),
        (1, Kind::Note, "RN"),
        (1, Kind::Nak, "RN"),
        (3, Kind::Park, "P"),
        (3, Kind::Report, "PR"),
        (3, Kind::Term, "PRT"),
    ];
    for (attempt, kind, said) in table {
        let world = World::new();
        world.bus.fail(kind, usize::MAX >> 50, &error);
        assert_eq!(world.carry_out(fails(), nth(attempt)).await, Ending::Unanswered);
        assert_eq!(squeezed(&world.said()), said);
    }
}

/// Without repetitions.
fn squeezed(said: &str) -> String {
    let mut letters: Vec<char> = said.chars().collect();
    letters.dedup();
    letters.into_iter().collect()
}

#[tokio::test]
async fn an_interrupted_run_goes_to_another_executor_at_once() {
    let world = World::new();
    let started = Arc::new(Notify::new());
    let signal = Arc::clone(&started);
    let handler = Raw(move |ctx: Context, _| {
        let signal = Arc::clone(&signal);
        async move {
            signal.notify_one();
            ctx.cancelled().await;
            Err::<(), HandlerError>("interrupted".into())
        }
    });
    // The report of it only explains: if it can't be stored, the message goes back all the same.
    world.bus.fail(Kind::Report, 1, &BusError::Failed("away".into()));
    let attempt = tokio::spawn(world.attempt(handler, nth(3)).carry_out());
    started.notified().await;
    world.drained.cancel();
    assert_eq!(attempt.await.unwrap(), Ending::HandedBack);
    let (report, rest) = world.report();
    let noted = Tally { handed_back: 1, ..failed(2) };
    assert_eq!(rest, [Call::Note(1, noted), Call::Nak(1, Duration::ZERO)]);
    assert_eq!((report.end.outcome, report.ends_run), (Outcome::Cancelled, None));
}

#[tokio::test]
async fn a_handler_that_finishes_while_it_is_interrupted_has_finished() {
    let world = World::new();
    world.drained.cancel();
    let handler = Raw(async |ctx: Context, _| {
        ctx.cancelled().await;
        Ok::<_, HandlerError>(Output::text("just in time"))
    });
    assert_eq!(world.carry_out(handler, nth(1)).await, Ending::Succeeded);
    assert_eq!(world.report().0.output.as_deref(), Some("just in time"));
}

#[tokio::test]
async fn no_time_left_to_drain_ends_the_insisting() {
    let world = World::new();
    world.drained.cancel();
    world.bus.fail(Kind::Report, 100, &BusError::Failed("away".into()));
    assert_eq!(world.carry_out(succeeds(), nth(1)).await, Ending::Unanswered);
    assert_eq!(world.said(), "R");
}

#[tokio::test]
async fn texts_are_kept_within_their_limits() {
    let world = World::new();
    let handler = Raw(async |_, _| {
        Err::<(), _>(HandlerError::permanent("e".repeat(100_000)).with_output("o".repeat(1_000_000)))
    });
    world.carry_out(handler, nth(1)).await;
    let (report, _) = world.report();
    assert_eq!(report.end.error.map(|error| error.len() <= ERROR_BYTES_MAX), Some(true));
    assert_eq!(report.output.map(|output| output.len() <= OUTPUT_BYTES_MAX), Some(true));
    assert!(world.letter().error.len() <= ERROR_BYTES_MAX);
}
