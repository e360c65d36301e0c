//! Jobs that run a while after their last run has ended.

use std::time::Duration;

use model::run::{RunState, SkipReason};
use model::time::Timestamp;

use super::world::{at, entry, install, job, occurrence, record, sent, settlement, skip};
use super::{Fixture, World};
use crate::ledger::{CancelMark, Settled};
use crate::plan::{After, JobRecord};
use crate::{LedgerStore, PlanStore};

fn following(revision: u64, minutes: u64) -> JobRecord {
    let after = After { delay: Duration::from_secs(60 * minutes), last: None };
    JobRecord { after: Some(after), ..record(revision, None) }
}

impl<F: Fixture> World<'_, F> {
    async fn follow(&self, expected: Option<u64>, record: JobRecord) {
        let mut new = install("a/b", expected, Some(record));
        new.after_first = Some(at("07:00:00"));
        self.install(&new).await;
    }

    async fn due(&self) -> Option<Timestamp> {
        self.store().jobs(self.shard, &[job("a/b")]).await.unwrap()[0].as_ref().unwrap().after_due
    }

    /// Ends the run due at an instant at 07:00:02.
    async fn end_at(&self, due_at: Timestamp) -> Settled {
        let end = settlement(occurrence("a/b", due_at), 1, RunState::Succeeded);
        self.store().settle(self.shard, &end).await.unwrap()
    }
}

pub async fn the_next_run_follows_the_end_of_the_last<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    w.follow(None, following(1, 10)).await;
    assert_eq!(w.minute_tier().await, ["a/b@2026-11-22T07:00:00Z#1"]);
    assert_eq!(w.due().await, Some(at("07:00:00")));
    w.confirm(&[sent(entry("a/b", at("07:00:00"), 1), 7)]).await;
    assert_eq!(w.minute_tier().await, Vec::<String>::new());
    assert_eq!(w.end_at(at("07:00:00")).await, Settled::Recorded);
    assert_eq!(w.minute_tier().await, ["a/b@2026-11-22T07:10:02Z#1"]);
    assert_eq!(w.due().await, Some(at("07:10:02")));
    assert_eq!(w.end_at(at("07:00:00")).await, Settled::AlreadyEnded);
    assert_eq!(w.minute_tier().await.len(), 1);
    // So soon that the shard should be looked at.
    w.follow(
        Some(1),
        JobRecord { after: Some(After { delay: Duration::ZERO, last: None }), ..record(2, None) },
    )
    .await;
    assert_eq!(w.minute_tier().await, ["a/b@2026-11-22T07:00:03Z#2"]);
    let end = settlement(occurrence("a/b", at("07:00:03")), 2, RunState::Succeeded);
    assert_eq!(f.store().settle(w.shard, &end).await, Ok(Settled::RecordedAndReleased));
}

pub async fn every_kind_of_end_is_followed<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    w.follow(None, following(1, 10)).await;
    let skipped = skip(entry("a/b", at("07:00:00"), 1), SkipReason::StartingDeadline);
    f.store().skip(w.shard, w.dispatcher, &[skipped]).await.unwrap();
    assert_eq!(w.minute_tier().await, ["a/b@2026-11-22T07:10:00.005Z#1"]);
    let mark = CancelMark { at: at("07:05:00"), by: "ada".into(), reason: None };
    let run = occurrence("a/b", at("07:10:00.005"));
    f.store().cancel(w.shard, &run, false, &mark, false).await.unwrap();
    assert_eq!(w.minute_tier().await, ["a/b@2026-11-22T07:20:00.005Z#1"], "as if it had run when it was due");
}

pub async fn nothing_follows_while_another_is_under_way<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    w.follow(None, following(1, 10)).await;
    w.confirm(&[sent(entry("a/b", at("07:00:00"), 1), 7)]).await;
    let asked_for = w.trigger("a/b", at("07:00:01.5"), None).await.due_at;
    w.confirm(&[sent(entry("a/b", asked_for, 1), 8)]).await;
    w.end_at(at("07:00:00")).await;
    assert_eq!(w.minute_tier().await, Vec::<String>::new());
    w.end_at(asked_for).await;
    assert_eq!(w.minute_tier().await, ["a/b@2026-11-22T07:10:02Z#1"]);
    // One that was asked for moves nothing.
    let asked_for = w.trigger("a/b", at("07:00:05.5"), None).await.due_at;
    w.confirm(&[sent(entry("a/b", asked_for, 1), 9)]).await;
    w.end_at(asked_for).await;
    assert_eq!(w.minute_tier().await, ["a/b@2026-11-22T07:10:02Z#1"]);
}

pub async fn an_edit_keeps_what_is_planned_and_moves_it_with_the_delay<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    w.follow(None, following(1, 10)).await;
    w.confirm(&[sent(entry("a/b", at("07:00:00"), 1), 7)]).await;
    w.follow(Some(1), following(2, 10)).await;
    assert_eq!(w.minute_tier().await, Vec::<String>::new(), "it is under way");
    w.end_at(at("07:00:00")).await;
    w.follow(Some(2), following(3, 10)).await;
    assert_eq!(w.minute_tier().await, ["a/b@2026-11-22T07:10:02Z#3"]);
    w.follow(Some(3), following(4, 20)).await;
    assert_eq!(w.minute_tier().await, ["a/b@2026-11-22T07:20:02Z#4"]);
    w.install(&install("a/b", Some(4), Some(record(5, None)))).await;
    assert_eq!((w.minute_tier().await.len(), w.due().await), (0, None));
    w.follow(Some(5), following(6, 10)).await;
    assert_eq!(w.minute_tier().await, ["a/b@2026-11-22T07:00:00.001Z#6"], "the first again");
}

pub async fn nothing_follows_after_the_last_instant<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let after = After { delay: Duration::from_secs(600), last: Some(at("07:10:00")) };
    w.follow(None, JobRecord { after: Some(after), ..record(1, None) }).await;
    w.confirm(&[sent(entry("a/b", at("07:00:00"), 1), 7)]).await;
    w.end_at(at("07:00:00")).await;
    assert_eq!((w.minute_tier().await.len(), w.due().await), (0, None));
}
