//! What an attempt may cost its run: what counts as a failure and what doesn't, and when there is no time left.

use model::limits::{LOST_ATTEMPTS_MAX, RATE_LIMITED_MAX};

use super::*;

/// The message after so many attempts that were lost with their executors.
fn after_lost(lost: u32) -> Message {
    Message { delivered: lost + 1, ..message(order()) }
}

#[tokio::test]
async fn what_a_rate_limit_turned_away_comes_again_without_counting() {
    let busy = || Raw(async |_, _| Err::<(), _>(HandlerError::retry_after(SECOND * 77, "busy")));
    for attempt in [1, 3] {
        let world = World::new();
        let ending = world.carry_out(busy(), nth(attempt)).await;
        assert_eq!(ending, Ending::Retried { delay: SECOND * 77 });
        let noted = Tally { limited: 1, ..failed(attempt - 1) };
        assert_eq!(world.report().1[0], Call::Note(1, noted));
    }
    // 997 times turned away, twice failed: this failure is the third.
    let tally = Tally { limited: 997, ..failed(2) };
    let worn = Message { delivered: 1_000, tally, ..message(order()) };
    let reason = DeadReason::AttemptsExhausted;
    assert_eq!(World::new().carry_out(fails(), worn).await, Ending::DeadLettered { reason });
}

#[tokio::test]
async fn a_rate_limit_does_not_turn_away_for_ever() {
    let busy = || Raw(async |_, _| Err::<(), _>(HandlerError::retry_after(SECOND * 77, "busy")));
    let often = |failures| {
        let tally = Tally { limited: RATE_LIMITED_MAX, ..failed(failures) };
        Message { delivered: RATE_LIMITED_MAX + failures + 1, tally, ..message(order()) }
    };
    let world = World::new();
    assert_eq!(world.carry_out(busy(), often(0)).await, Ending::Retried { delay: SECOND * 77 });
    assert_eq!(world.report().1[0], Call::Note(1, Tally { limited: RATE_LIMITED_MAX, ..failed(1) }));
    let reason = DeadReason::AttemptsExhausted;
    assert_eq!(World::new().carry_out(busy(), often(2)).await, Ending::DeadLettered { reason });
}

#[tokio::test]
async fn a_letter_tells_how_every_attempt_ended_but_the_lost_ones() {
    // The second of four deliveries was lost with its executor.
    let (mut attempts, mut failures) = (vec![], 0);
    for delivered in [1, 3, 4] {
        let world = World::new();
        let made = Message { attempts, delivered, tally: failed(failures), ..message(order()) };
        let ending = world.carry_out(fails(), made).await;
        (attempts, failures) = (world.bus.noted(), failures + 1);
        if delivered < 4 {
            assert!(matches!(ending, Ending::Retried { .. }), "{ending:?}");
            continue;
        }
        let letter = world.letter();
        let told: Vec<_> = letter.attempt_log.iter().map(|end| (end.attempt, end.error.as_deref())).collect();
        let no_stock = Some("no stock");
        assert_eq!(told, [(1, no_stock), (3, no_stock), (4, no_stock)]);
        assert_eq!(letter.attempt_log.last(), Some(&world.report().0.end));
    }
}

#[tokio::test]
async fn a_run_that_is_delivered_after_its_deadline_is_a_dead_letter() {
    let world = World::new();
    let late = Order { deadline: Some(Timestamp::from_ms(5_000)), ..order() };
    let reason = DeadReason::DeadlineExceeded;
    assert_eq!(world.carry_out(never_called(), message(late)).await, Ending::DeadLettered { reason });
    assert_eq!((world.said().as_str(), world.letter().attempts), ("PRT", 0));
    let (report, _) = world.report();
    assert_eq!((report.end.outcome, report.ends_run), (Outcome::TimedOut, Some(RunState::DeadLettered)));
    let error = "the run's deadline, 1970-01-01T00:00:05Z, had passed before attempt 1";
    assert_eq!(report.end.error.as_deref(), Some(error));
    // What was to have started earlier still isn't run at all, rather than overdue.
    let neither = Order {
        start_by: Some(Timestamp::from_ms(4_000)),
        deadline: Some(Timestamp::from_ms(4_500)),
        ..order()
    };
    assert_eq!(World::new().carry_out(never_called(), message(neither)).await, Ending::Skipped);
}

#[tokio::test]
async fn an_attempt_goes_on_no_longer_than_to_the_deadline() {
    let world = World::new();
    let handler = Raw(async |ctx: Context, _| {
        assert_eq!((ctx.deadline(), ctx.remaining()), (Timestamp::from_ms(12_000), SECOND * 7));
        ctx.cancelled().await;
        Err::<(), _>("told to stop")
    });
    let short = Order { deadline: Some(Timestamp::from_ms(12_000)), ..order() };
    let reason = DeadReason::DeadlineExceeded;
    assert_eq!(world.carry_out(handler, message(short)).await, Ending::DeadLettered { reason });
    let (report, _) = world.report();
    assert_eq!(report.end.ended_at, Timestamp::from_ms(12_000));
    assert_eq!((report.end.outcome, report.ends_run), (Outcome::TimedOut, Some(RunState::DeadLettered)));
    assert_eq!(report.end.error.as_deref(), Some("not done by the run's deadline, 1970-01-01T00:00:12Z"));
}

#[tokio::test]
async fn nobody_waits_for_an_attempt_that_could_only_start_after_the_deadline() {
    // The policy's delay is 10 s: at 5 s, the next attempt would start at 15 s.
    for (deadline_ms, dead) in [(15_000, true), (15_001, false)] {
        let world = World::new();
        let order = Order { deadline: Some(Timestamp::from_ms(deadline_ms)), ..order() };
        let ending = world.carry_out(fails(), message(order)).await;
        let (report, _) = world.report();
        if dead {
            assert_eq!(ending, Ending::DeadLettered { reason: DeadReason::DeadlineExceeded });
            let error =
                "no stock; no other attempt can start before the run's deadline, 1970-01-01T00:00:15Z";
            assert_eq!((report.end.outcome, report.end.error.as_deref()), (Outcome::Failed, Some(error)));
        } else {
            assert_eq!(ending, Ending::Retried { delay: SECOND * 10 });
        }
    }
}

#[tokio::test]
async fn attempts_that_are_lost_too_often_make_poison() {
    let world = World::new();
    let lost = LOST_ATTEMPTS_MAX;
    assert_eq!(world.carry_out(succeeds(), after_lost(lost)).await, Ending::Succeeded);

    let world = World::new();
    let reason = DeadReason::Poison;
    let once_more = after_lost(lost + 1);
    assert_eq!(world.carry_out(never_called(), once_more).await, Ending::DeadLettered { reason });
    assert_eq!((world.said().as_str(), world.letter().attempts), ("PRT", lost + 1));
    let (report, _) = world.report();
    assert_eq!((report.end.outcome, report.ends_run), (Outcome::Lost, Some(RunState::DeadLettered)));
    assert!(report.end.error.is_some());
}

#[tokio::test]
async fn lost_attempts_do_not_use_up_the_policys_own() {
    let reason = DeadReason::AttemptsExhausted;
    // Five were lost; the policy's three failures are still to come.
    for failures in 0..3 {
        let world = World::new();
        let message = Message { delivered: failures + 6, tally: failed(failures), ..message(order()) };
        let expected = match failures {
            0 => Ending::Retried { delay: SECOND * 10 },
            1 => Ending::Retried { delay: SECOND * 20 },
            _ => Ending::DeadLettered { reason },
        };
        assert_eq!(world.carry_out(fails(), message).await, expected, "{failures}");
    }
    let once = Order { retry: RetryPolicy { attempts: 1, ..order().retry }, ..order() };
    let second = Message { delivered: 2, ..message(once) };
    assert_eq!(World::new().carry_out(succeeds(), second.clone()).await, Ending::Succeeded);
    assert_eq!(World::new().carry_out(fails(), second).await, Ending::DeadLettered { reason });
}

#[tokio::test]
async fn an_executor_that_may_not_use_tallies_counts_its_attempts_as_lost() {
    let world = World::new();
    world.bus.fail(Kind::Tally, 1, &BusError::Refused("no permission".into()));
    world.bus.fail(Kind::Note, 1, &BusError::Refused("no permission".into()));
    assert_eq!(world.carry_out(fails(), nth(3)).await, Ending::Retried { delay: SECOND * 10 });
    // Away is another matter: it waits.
    let world = World::new();
    world.bus.fail(Kind::Tally, 2, &BusError::Failed("away".into()));
    let reason = DeadReason::AttemptsExhausted;
    assert_eq!(world.carry_out(fails(), nth(3)).await, Ending::DeadLettered { reason });
}
