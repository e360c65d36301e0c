//! Runs whose job was edited after they were published.

use bus::wire::standing::OrderReply;
use bytes::Bytes;
use model::id::Revision;
use model::limits::EDITS_KNOWN_FOR;
use model::run::SkipReason;

use super::*;
use crate::fence::{Newest, fenced_job};

fn revised() -> OrderReply {
    let order = Order { revision: Revision(8), timeout: Duration::from_secs(7), ..order() };
    OrderReply::revised(&order, &Bytes::from_static(b"new"))
}

/// Leaves its payload with the run's history.
fn echoes() -> impl Handler {
    Raw(async |_, payload: Bytes| {
        Ok::<_, HandlerError>(Output::text(String::from_utf8_lossy(&payload).into_owned()))
    })
}

#[tokio::test]
async fn a_run_of_the_newest_revision_asks_nobody() {
    let world = World::new();
    world.bus.announce(7);
    assert_eq!(world.carry_out(echoes(), message(order())).await, Ending::Succeeded);
    assert_eq!((world.said().as_str(), world.bus.looks()), ("RA", 1));
}

#[tokio::test]
async fn a_superseded_run_is_carried_out_by_the_present_order() {
    let world = World::new();
    world.bus.announce(8);
    world.bus.answer(&revised());
    assert_eq!(world.carry_out(echoes(), message(order())).await, Ending::Succeeded);
    assert_eq!(world.said(), "ORA");
    let (report, _) = world.report();
    assert_eq!((report.revision, report.output.as_deref()), (Revision(8), Some("new")));
}

#[tokio::test]
async fn a_retry_is_carried_out_by_the_present_order_too() {
    let world = World::new();
    world.bus.announce(8);
    world.bus.answer(&revised());
    assert_eq!(world.carry_out(echoes(), nth(2)).await, Ending::Succeeded);
    let (report, _) = world.report();
    assert_eq!((report.end.attempt, report.revision), (2, Revision(8)));
}

#[tokio::test]
async fn a_letter_of_a_revised_run_holds_what_was_tried() {
    let world = World::new();
    world.bus.announce(8);
    world.bus.answer(&revised());
    let gives_up = Raw(async |_, _| Err::<(), _>(HandlerError::permanent("no")));
    world.carry_out(gives_up, message(order())).await;
    let letter = world.letter();
    assert_eq!(letter.payload, "new");
    assert_eq!(letter.original_headers.get("Ecron-Revision").map(String::as_str), Some("8"));
}

#[tokio::test]
async fn an_announced_edit_that_is_not_installed_changes_nothing_yet() {
    let world = World::new();
    world.bus.announce(8);
    world.bus.answer(&OrderReply::AsPublished);
    assert_eq!(world.carry_out(echoes(), message(order())).await, Ending::Succeeded);
    assert_eq!(world.report().0.revision, Revision(7));
}

#[tokio::test]
async fn a_run_of_a_deleted_job_is_skipped_and_its_retry_cancelled() {
    for (attempt, ending, state) in
        [(1, Ending::Skipped, RunState::Skipped), (2, Ending::Cancelled, RunState::Cancelled)]
    {
        let world = World::new();
        world.bus.announce(9);
        world.bus.answer(&OrderReply::Deleted);
        assert_eq!(world.carry_out(never_called(), nth(attempt)).await, ending);
        assert_eq!(world.said(), "ORA");
        let (report, _) = world.report();
        assert_eq!(report.ends_run, Some(state));
        let why = report.reason.or(report.end.error);
        assert_eq!(why.as_deref(), Some(SkipReason::Deleted.describe()));
    }
}

#[tokio::test]
async fn a_message_whose_run_is_elsewhere_is_only_acknowledged() {
    let world = World::new();
    world.bus.announce(8);
    world.bus.answer(&OrderReply::Elsewhere);
    assert_eq!(world.carry_out(never_called(), message(order())).await, Ending::Elsewhere);
    assert_eq!(world.said(), "OA");
}

#[tokio::test]
async fn while_nobody_knows_its_order_a_superseded_run_is_put_off_without_counting() {
    let world = World::new();
    world.bus.announce(8);
    assert_eq!(world.carry_out(never_called(), message(order())).await, Ending::HandedBack);
    let tally = Tally { handed_back: 1, ..Tally::default() };
    assert_eq!(world.bus.calls(), [Call::Order, Call::Note(1, tally), Call::Nak(1, 2 * SECOND)]);
}

#[tokio::test]
async fn ad_hoc_work_and_redriven_letters_ask_for_nothing() {
    let ad_hoc = Order { run_id: "billing/reports~1".parse().unwrap(), ..order() };
    let redriven = Order { generation: Generation(1), attempt_base: 3, ..order() };
    for order in [ad_hoc, redriven] {
        let world = World::new();
        world.bus.announce(8);
        assert_eq!(world.carry_out(echoes(), message(order)).await, Ending::Succeeded);
        assert_eq!(world.bus.looks(), 0);
    }
}

#[tokio::test]
async fn who_may_not_read_edits_starts_runs_as_they_were_published() {
    let world = World::new();
    world.bus.announce(8);
    world.bus.fail(Kind::Edits, 1, &BusError::Refused("no permission".into()));
    assert_eq!(world.carry_out(echoes(), message(order())).await, Ending::Succeeded);
    assert_eq!(world.report().0.revision, Revision(7));
}

#[tokio::test]
async fn without_an_answer_about_edits_nothing_starts() {
    let world = World::new();
    world.bus.announce(8);
    world.bus.fail(Kind::Edits, 3, &BusError::Unknown("no answer".into()));
    world.bus.answer(&revised());
    assert_eq!(world.carry_out(echoes(), message(order())).await, Ending::Succeeded);
    assert_eq!(world.report().0.revision, Revision(8));
}

/// What a fence says of the run of `order()`.
async fn newest(fence: &Fence, bus: &Double) -> Newest {
    let order = order();
    let job = fenced_job(&order).unwrap();
    fence.newest(bus, job, order.revision, Timestamp::from_ms(1_001)).await.unwrap()
}

#[tokio::test]
async fn what_was_asked_is_shared_and_lapses() {
    let world = World::new();
    let fence = Fence::new(&order().queue, &world.clock);
    let asked_at = world.clock.monotonic();
    let yes = Newest::Yes { lapses_at: asked_at + EDITS_KNOWN_FOR };
    assert_eq!(newest(&fence, &world.bus).await, yes);
    world.bus.announce(8);
    world.clock.advance(EDITS_KNOWN_FOR / 2 - Duration::from_millis(1));
    assert_eq!(newest(&fence, &world.bus).await, yes, "nobody may go by the edit yet");
    assert_eq!(world.bus.looks(), 1);
    world.clock.advance(Duration::from_millis(1));
    assert_eq!(newest(&fence, &world.bus).await, Newest::Unsure);
    assert_eq!(world.bus.looks(), 2);
}

/// An answer that takes longer than it counts for is the best that there is: nothing would start any more without it.
#[tokio::test]
async fn a_slow_answer_counts_from_when_it_came() {
    let world = World::new();
    let fence = Fence::new(&order().queue, &world.clock);
    world.bus.slow_edits(2 * EDITS_KNOWN_FOR);
    let asked_at = world.clock.monotonic();
    let answer = passing(&world.clock, EDITS_KNOWN_FOR, newest(&fence, &world.bus)).await;
    let Newest::Yes { lapses_at } = answer else { panic!("unsure") };
    assert!(lapses_at >= asked_at + 3 * EDITS_KNOWN_FOR);
    assert_eq!(world.bus.looks(), 1);
    world.clock.advance(EDITS_KNOWN_FOR);
    let several = futures_util::future::join(newest(&fence, &world.bus), newest(&fence, &world.bus));
    passing(&world.clock, EDITS_KNOWN_FOR, several).await;
    assert_eq!(world.bus.looks(), 2, "those that wait share it");
}

#[tokio::test]
async fn a_run_that_was_stored_before_the_oldest_edit_that_is_kept_is_asked_about() {
    let world = World::new();
    world.clock.set(Timestamp::from_ms(100_000_000));
    let fence = Fence::new(&order().queue, &world.clock);
    assert_eq!(newest(&fence, &world.bus).await, Newest::Unsure);
}

#[tokio::test]
async fn a_handler_that_would_start_too_late_does_not_start() {
    let world = World::new();
    let (order, never) = (order(), CancellationToken::new());
    let ctx = Context::new(order.clone(), 1, world.clock.now(), world.clock.clone());
    let bounds = Bounds { lapses_at: world.clock.monotonic(), timeout: order.timeout };
    let run =
        running::run(Arc::new(never_called()), &ctx, Bytes::new(), bounds, &world.clock, &never, &never);
    assert_eq!(run.await, None);
}
