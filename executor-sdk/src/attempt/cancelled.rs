//! Attempts that somebody wants to end.

use bus::cancel::CancelRequest;

use super::*;

fn cancel_request() -> CancelRequest {
    let Order { queue, run_id, generation, .. } = order();
    CancelRequest {
        queue,
        run_id,
        generation,
        by: Some("ann@host".into()),
        reason: Some("wrong month".into()),
    }
}

#[tokio::test]
async fn a_cancelled_run_ends_with_its_attempt() {
    let world = World::new();
    let started = Arc::new(Notify::new());
    let signal = Arc::clone(&started);
    let handler = Raw(move |ctx: Context, _| {
        let signal = Arc::clone(&signal);
        async move {
            signal.notify_one();
            ctx.cancelled().await;
            Err::<(), _>(HandlerError::from("interrupted").with_output("half of it"))
        }
    });
    let attempt = tokio::spawn(world.attempt(handler, nth(1)).carry_out());
    started.notified().await;
    assert!(world.hands.cancel(&cancel_request()));
    assert_eq!(attempt.await.unwrap(), Ending::Cancelled);
    assert_eq!(world.said(), "RA");
    let (report, _) = world.report();
    assert_eq!((report.end.outcome, report.ends_run), (Outcome::Cancelled, Some(RunState::Cancelled)));
    assert_eq!(report.end.error.as_deref(), Some("cancelled by ann@host: wrong month"));
    assert_eq!(report.output.as_deref(), Some("half of it"));
    assert!(!world.hands.cancel(&cancel_request()), "it is out of hand");
}

#[tokio::test]
async fn a_handler_that_does_not_listen_to_a_cancellation_is_aborted_after_its_grace() {
    let world = World::new();
    let started = Arc::new(Notify::new());
    let signal = Arc::clone(&started);
    let deaf = Raw(move |_, _| {
        signal.notify_one();
        pending::<Result<(), HandlerError>>()
    });
    let attempt = tokio::spawn(world.attempt(deaf, nth(1)).carry_out());
    started.notified().await;
    world.hands.cancel(&cancel_request());
    assert_eq!(passing(&world.clock, SECOND, attempt).await.unwrap(), Ending::Cancelled);
    let (report, _) = world.report();
    let took = report.end.ended_at.ms_since(report.end.started_at);
    assert_eq!(u128::try_from(took).unwrap(), CANCEL_GRACE.as_millis());
}

#[tokio::test]
async fn what_was_cancelled_before_it_came_is_not_started() {
    let world = World::new();
    assert!(!world.hands.cancel(&cancel_request()));
    assert_eq!(world.carry_out(never_called(), nth(2)).await, Ending::Cancelled);
    assert_eq!(world.said(), "RA");
    let (report, _) = world.report();
    assert_eq!((report.end.attempt, report.ends_run), (2, Some(RunState::Cancelled)));
    // A redrive is another matter.
    let redriven = message(Order { generation: Generation(1), ..order() });
    assert_eq!(world.carry_out(succeeds(), redriven).await, Ending::Succeeded);
}

#[tokio::test]
async fn a_handler_that_finishes_while_it_is_cancelled_has_finished() {
    let world = World::new();
    let hands = world.hands.clone();
    let handler = Raw(move |ctx: Context, _| {
        hands.cancel(&cancel_request());
        async move {
            ctx.cancelled().await;
            Ok::<_, HandlerError>(())
        }
    });
    assert_eq!(world.carry_out(handler, nth(1)).await, Ending::Succeeded);
}
