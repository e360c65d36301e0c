//! Runs under way: what their attempts say of themselves.

use model::progress::{Fraction, Progress};
use model::run::{Generation, Outcome, RunState};

use super::world::{at, attempt, occurrence, settlement};
use super::{Fixture, World};
use crate::{LedgerStore, LiveStore};

fn note(attempt: u32, instant: &str) -> Progress {
    Progress {
        generation: Generation(0),
        attempt,
        started_at: at("07:00:00"),
        at: at(instant),
        fraction: Some(Fraction::from(0.4)),
        message: Some("rows 4000/10000".into()),
        executor: "worker-1".into(),
    }
}

pub async fn the_newest_note_of_an_attempt_under_way_is_shown<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let run = w.published("a/b", at("07:00:00")).await;
    let shown = async || f.store().latest_progress(w.shard, &run).await.unwrap();
    assert_eq!(shown().await, None);
    for said in [note(1, "07:00:02"), note(1, "07:00:01"), Progress { fraction: None, ..note(1, "07:00:02") }]
    {
        f.store().note_progress(w.shard, &run, &said).await.unwrap();
    }
    assert_eq!(shown().await, Some(Progress { fraction: None, ..note(1, "07:00:02") }));
    let redriven = Progress { generation: Generation(1), ..note(1, "07:00:09") };
    f.store().note_progress(w.shard, &run, &redriven).await.unwrap();
    assert_eq!(shown().await.map(|note| note.at), Some(at("07:00:02")));
}

pub async fn the_end_of_an_attempt_ends_its_notes<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let run = w.published("a/b", at("07:00:00")).await;
    let shown = async || f.store().latest_progress(w.shard, &run).await.unwrap();
    f.store().note_progress(w.shard, &run, &note(1, "07:00:02")).await.unwrap();
    let end = attempt(1, Outcome::Failed);
    f.store().note_attempt(w.shard, &run, Generation(0), &end, "worker-1").await.unwrap();
    assert_eq!(shown().await, None);
    f.store().note_progress(w.shard, &run, &note(1, "07:00:03")).await.unwrap();
    assert_eq!(shown().await, None, "it came too late");
    f.store().note_progress(w.shard, &run, &note(2, "07:00:03")).await.unwrap();
    assert_eq!(shown().await, Some(note(2, "07:00:03")));
    f.store().settle(w.shard, &settlement(run.clone(), 2, RunState::Succeeded)).await.unwrap();
    assert_eq!(shown().await, None);
    f.store().note_progress(w.shard, &run, &note(3, "07:00:04")).await.unwrap();
    assert_eq!(shown().await, None);
}

pub async fn nothing_is_noted_of_a_run_without_a_record<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let unknown = occurrence("a/c", at("07:00:00"));
    f.store().note_progress(w.shard, &unknown, &note(1, "07:00:01")).await.unwrap();
    assert_eq!(f.store().latest_progress(w.shard, &unknown).await, Ok(None));
    assert_eq!(f.store().run(w.shard, &unknown).await, Ok(None));
}
