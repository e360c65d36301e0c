//! What attempts say while they are at work, over a bus that writes everything down.

use bus::events::ProgressNote;
use bus::logs::LogBatch;
use model::limits::{LOG_BYTES_MAX, LOG_LINE_BYTES_MAX};

use super::*;

const MS_100: Duration = Duration::from_millis(100);

fn notes(world: &World) -> Vec<ProgressNote> {
    let note = |call| if let Call::Progress(note) = call { Some(*note) } else { None };
    world.bus.all_calls().into_iter().filter_map(note).collect()
}

fn batches(world: &World) -> Vec<LogBatch> {
    let batch = |call| if let Call::Log(batch) = call { Some(*batch) } else { None };
    world.bus.all_calls().into_iter().filter_map(batch).collect()
}

/// Carries out one attempt while the clock runs in steps of 100 ms.
async fn carry_out(world: &World, handler: impl Handler) -> Ending {
    passing(&world.clock, MS_100, world.attempt(handler, nth(1)).carry_out()).await
}

#[tokio::test]
async fn a_short_attempt_that_says_nothing_sends_nothing() {
    let world = World::new();
    assert_eq!(carry_out(&world, succeeds()).await, Ending::Succeeded);
    assert_eq!((notes(&world), batches(&world)), (vec![], vec![]));
}

#[tokio::test]
async fn an_attempt_that_takes_a_second_is_said_to_be_under_way_once() {
    let world = World::new();
    let clock = world.clock.clone();
    let slow = Raw(move |_, _| {
        let nap = clock.sleep(SECOND * 5);
        async move {
            nap.await;
            Ok::<_, HandlerError>(())
        }
    });
    assert_eq!(carry_out(&world, slow).await, Ending::Succeeded);
    let notes = notes(&world);
    let [note] = notes.as_slice() else { panic!("{notes:?}") };
    assert_eq!(
        (note.progress.started_at, note.progress.at),
        (Timestamp::from_ms(5_000), Timestamp::from_ms(6_000))
    );
    assert_eq!((note.progress.fraction, note.progress.attempt), (None, 1));
    assert_eq!(note.progress.executor, "host-1");
}

#[tokio::test]
async fn progress_is_told_once_a_second_and_the_last_one_always() {
    let world = World::new();
    let clock = world.clock.clone();
    let counting = Raw(move |ctx: Context, _| {
        let clock = clock.clone();
        async move {
            for row in 1..=25 {
                ctx.progress(f64::from(row) / 25.0, format!("rows {row}/25"));
                clock.sleep(MS_100).await;
            }
            Ok::<_, HandlerError>(())
        }
    });
    assert_eq!(carry_out(&world, counting).await, Ending::Succeeded);
    let notes = notes(&world);
    let at: Vec<i64> = notes.iter().map(|note| note.progress.at.as_ms()).collect();
    assert_eq!(notes[0].progress.message.as_deref(), Some("rows 1/25"));
    // The last one may come sooner: it is what counts.
    assert!(at[..at.len() - 1].windows(2).all(|pair| pair[1] - pair[0] >= 900), "{at:?}");
    let last = &notes.last().unwrap().progress;
    assert_eq!((last.fraction, last.message.as_deref()), (Some(1.0.into()), Some("rows 25/25")));
    assert!((3..=4).contains(&notes.len()), "{at:?}");
    // It was told before the end was.
    let calls = world.bus.all_calls();
    let told = calls.iter().rposition(|call| matches!(call, Call::Progress(_))).unwrap();
    let ended = calls.iter().position(|call| matches!(call, Call::Report(_))).unwrap();
    assert!(told < ended);
}

#[tokio::test]
async fn lines_are_sent_together_in_order() {
    let world = World::new();
    // Away for a moment: nothing is lost, and nothing is held up.
    world.bus.fail(Kind::Log, 1, &BusError::Failed("away".into()));
    let clock = world.clock.clone();
    let talking = Raw(move |ctx: Context, _| {
        let clock = clock.clone();
        async move {
            ctx.log("one\ntwo");
            ctx.log_from("stderr", "three");
            clock.sleep(SECOND * 3).await;
            ctx.log("the last words");
            Err::<(), _>("no stock")
        }
    });
    carry_out(&world, talking).await;
    let mut batches = batches(&world);
    let failed = batches.remove(0);
    assert_eq!(failed, batches[0], "the same once more");
    let lines: Vec<(u32, &str, &str)> = batches
        .iter()
        .flat_map(|batch| batch.lines.iter().map(|line| (batch.number, line)))
        .map(|(number, line)| (number, line.from.as_deref().unwrap_or("-"), line.text.as_str()))
        .collect();
    assert_eq!(lines, [(0, "-", "one"), (0, "-", "two"), (0, "stderr", "three"), (1, "-", "the last words")]);
}

#[tokio::test]
async fn a_log_is_cut_at_its_limit_and_says_so() {
    let world = World::new();
    let talking = Raw(async |ctx: Context, _| {
        ctx.log("x".repeat(LOG_LINE_BYTES_MAX * 2));
        for _ in 0..200 {
            ctx.log("y".repeat(10_000));
        }
        Ok::<_, HandlerError>(())
    });
    carry_out(&world, talking).await;
    let batches = batches(&world);
    let lines: Vec<&str> =
        batches.iter().flat_map(|batch| &batch.lines).map(|line| line.text.as_str()).collect();
    let bytes: usize = lines.iter().map(|line| line.len()).sum();
    assert!((LOG_BYTES_MAX - 20_000..=LOG_BYTES_MAX).contains(&bytes), "{bytes}");
    assert!(lines[0].len() <= LOG_LINE_BYTES_MAX && lines[0].contains("bytes left out"));
    assert!(lines.last().unwrap().starts_with("[the log is cut here"), "{:?}", lines.last());
    assert!(batches.iter().all(|batch| batch.lines.len() <= 5));
}

#[tokio::test]
async fn an_executor_that_may_not_log_carries_on_without() {
    let world = World::new();
    world.bus.fail(Kind::Log, 1, &BusError::Refused("no permission".into()));
    let clock = world.clock.clone();
    let talking = Raw(move |ctx: Context, _| {
        let clock = clock.clone();
        async move {
            for _ in 0..5 {
                ctx.log("hello");
                clock.sleep(SECOND).await;
            }
            Ok::<_, HandlerError>(())
        }
    });
    assert_eq!(carry_out(&world, talking).await, Ending::Succeeded);
    assert_eq!(batches(&world).len(), 1);
}

#[tokio::test]
async fn last_words_that_nobody_takes_hold_up_the_end_for_two_seconds_at_most() {
    let world = World::new();
    world.bus.fail(Kind::Log, 100, &BusError::Failed("away".into()));
    let talking = Raw(async |ctx: Context, _| {
        ctx.log("hello");
        Ok::<_, HandlerError>(())
    });
    assert_eq!(carry_out(&world, talking).await, Ending::Succeeded);
    assert!(world.report().0.end.ended_at.ms_since(Timestamp::from_ms(5_000)) <= 2_100);
}
