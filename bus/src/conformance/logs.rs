//! Logs, and notes of progress.

use futures_util::StreamExt;
use model::progress::{Fraction, Progress};
use model::run::Generation;
use model::time::Timestamp;

use super::{GLANCE, PATIENCE, World, queue};
use crate::events::{Event, EventDelivery, EventReader, EventWriter, ProgressNote};
use crate::logs::{LogBatch, LogLine, LogReader, LogWriter};

fn batch(run: &str, number: u32) -> LogBatch {
    let line = |text: String| LogLine { at: Timestamp::from_ms(1_000), from: None, text };
    LogBatch {
        run_id: run.parse().expect("a run id"),
        queue: queue("reports"),
        generation: Generation(0),
        attempt: 1,
        number,
        lines: vec![line(format!("{number} first")), line(format!("{number} second"))],
    }
}

pub async fn a_runs_log_is_read_in_order_and_apart_from_others(world: &impl World) {
    let (mine, other) = ("billing/reports~1", "billing/reports~2");
    for number in 0..3 {
        world.bus().log(&batch(mine, number)).await.expect("logged");
        world.bus().log(&batch(other, number)).await.expect("logged");
    }
    world.bus().log(&batch(mine, 2)).await.expect("logged again");
    let read = async |from, limit| {
        let run_id = mine.parse().expect("a run id");
        world.other().await.log_batches(&run_id, from, limit).await.expect("read")
    };
    let all = read(0, 10).await;
    let batches: Vec<LogBatch> = all.iter().map(|stored| stored.batch.clone()).collect();
    assert_eq!(batches, [batch(mine, 0), batch(mine, 1), batch(mine, 2)]);
    assert_eq!(read(all[0].sequence + 1, 1).await, all[1..2]);
    assert_eq!(read(all[2].sequence + 1, 10).await, []);
}

pub async fn a_note_of_progress_is_an_event(world: &impl World) {
    let progress = Progress {
        generation: Generation(0),
        attempt: 1,
        started_at: Timestamp::from_ms(1_000),
        at: Timestamp::from_ms(2_000),
        fraction: Some(Fraction::from(0.4)),
        message: Some("rows 4000/10000".into()),
        executor: "e1".into(),
    };
    let run_id = "billing/nightly@2026-11-22T06:45:00Z".parse().expect("a run id");
    let note = ProgressNote { run_id, queue: queue("reports"), progress };
    let mut watched = world.other().await.watch_events().await.expect("watched");
    world.bus().note_progress(&note).await.expect("noted");
    let batch = world.bus().fetch_events(10, PATIENCE).await.expect("fetch");
    let events: Vec<&Event> = batch.iter().map(EventDelivery::event).collect();
    assert_eq!(events, [&Event::Progress(note.clone())]);
    // The subscription may have come too late; what it heard is the same.
    if let Ok(heard) = tokio::time::timeout(GLANCE, watched.next()).await {
        assert_eq!(heard, Some(Event::Progress(note)));
    }
}
