//! Entries that are kept out of the minute tier for a while.

use model::id::Revision;
use model::run::RunState;
use model::time::Timestamp;

use super::world::{at, entry, install, job, occurrence, record, settlement};
use super::{Fixture, World};
use crate::inspect::BucketKind;
use crate::lease::Epoch;
use crate::ledger::{CancelMark, CancelOutcome, Taken};
use crate::space::Spaced;
use crate::{LedgerStore, SpaceStore, StoreError};

async fn take<F: Fixture>(w: &World<'_, F>, until: &str) -> (Vec<String>, Option<Timestamp>) {
    let Taken { entries, next_due, .. } =
        w.store().take(w.shard, w.dispatcher, at(until), 100).await.unwrap();
    (entries.iter().map(|taken| taken.entry.to_string()).collect(), next_due)
}

/// What is kept back of a job: the time of day of its due instants, and of when each comes back.
async fn kept<F: Fixture>(w: &World<'_, F>, name: &str) -> Vec<(String, String)> {
    let spaced = w.store().spaced(w.shard, &job(name), 100).await.unwrap();
    let time = |at: Timestamp| at.to_string()[11..19].to_owned();
    spaced.into_iter().map(|(entry, at)| (time(entry.occurrence.due_at), time(at))).collect()
}

async fn cancel<F: Fixture>(w: &World<'_, F>, due_at: Timestamp) -> CancelOutcome {
    let mark = CancelMark { at: at("07:21:00"), by: "ada".into(), reason: None };
    w.store().cancel(w.shard, &occurrence("a/b", due_at), true, &mark, false).await.unwrap()
}

pub async fn spaced_entries_come_back_when_their_time_has_come<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let dues = [at("07:00:00"), at("07:00:01"), at("07:02:30")];
    w.planned("a/b", 1, &dues).await;
    w.planned("a/c", 1, &[dues[0]]).await;
    let later = ["07:30:00", "07:20:00", "07:30:00"].map(at);
    let mut spaced: Vec<Spaced> =
        dues.iter().zip(later).map(|(due, later)| (entry("a/b", *due, 1), later)).collect();
    spaced.push((entry("a/c", dues[0], 1), at("07:40:00")));
    assert_eq!(f.store().space(w.shard, Epoch(1), &spaced).await, Err(StoreError::Fenced));
    f.store().space(w.shard, w.dispatcher, &spaced).await.unwrap();
    f.store().space(w.shard, w.dispatcher, &spaced).await.unwrap();
    let pairs = [("07:00:01", "07:20:00"), ("07:00:00", "07:30:00"), ("07:02:30", "07:30:00")];
    assert_eq!(kept(&w, "a/b").await, pairs.map(|(due, at)| (due.into(), at.into())));
    assert_eq!(f.store().spaced(w.shard, &job("a/b"), 1).await.unwrap(), [spaced[1].clone()]);
    assert_eq!(w.members(BucketKind::Spaced).await.len(), 4);
    assert_eq!(take(&w, "07:10:00").await, (vec![], Some(at("07:20:00"))));
    let back = "a/b@2026-11-22T07:00:01Z#1".to_string();
    assert_eq!(take(&w, "07:20:00").await, (vec![back.clone()], Some(at("07:30:00"))));
    assert_eq!(cancel(&w, dues[0]).await, CancelOutcome::Cancelled);
    assert_eq!(take(&w, "07:30:00").await.0, [back, "a/b@2026-11-22T07:02:30Z#1".into()]);
    assert_eq!(kept(&w, "a/b").await, []);
}

pub async fn what_an_install_spaces_out_comes_later<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let [ran, first, second] = ["06:40:00", "06:50:00", "06:51:00"].map(at);
    w.planned("a/b", 1, &[]).await;
    take(&w, "07:00:00").await;
    f.store().settle(w.shard, &settlement(occurrence("a/b", ran), 1, RunState::Succeeded)).await.unwrap();
    let mut edit = install("a/b", Some(1), Some(record(2, None)));
    edit.spaced = vec![(ran, at("07:10:00")), (first, at("07:11:00")), (second, at("07:12:00"))];
    w.install(&edit).await;
    assert_eq!(w.minute_tier().await, Vec::<String>::new());
    let ids = |due: &str| vec![format!("a/b@2026-11-22T{due}Z#2")];
    assert_eq!(take(&w, "07:01:00").await, (vec![], Some(at("07:11:00"))), "what ran doesn't run again");
    assert_eq!(take(&w, "07:11:00").await, (ids("06:50:00"), Some(at("07:12:00"))));
    w.install(&install("a/b", Some(2), Some(record(3, None)))).await;
    assert_eq!(cancel(&w, second).await, CancelOutcome::Cancelled, "though its job was edited since");
    assert_eq!(
        (kept(&w, "a/b").await, w.state(&occurrence("a/b", second)).await),
        (vec![], Some(RunState::Cancelled))
    );
    let cancelled = f.store().run(w.shard, &occurrence("a/b", second)).await.unwrap().unwrap();
    assert_eq!(cancelled.revision, Revision(3));
}

pub async fn what_is_spaced_out_goes_on_after_an_interruption<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let dues: Vec<Timestamp> = (0..2_500).map(|n| at("06:30:00").plus_ms(n)).collect();
    w.planned("a/b", 1, &dues).await;
    let spaced: Vec<Spaced> = dues
        .iter()
        .zip(0..)
        .map(|(due, n)| (entry("a/b", *due, 1), at("07:00:00").plus_ms(n * 1_000)))
        .collect();
    f.store().space(w.shard, w.dispatcher, &spaced).await.unwrap();
    let delay = async |epoch, until| f.store().delay_spaced(w.shard, epoch, at(until)).await;
    assert_eq!(delay(Epoch(1), "07:20:00").await, Err(StoreError::Fenced));
    for until in ["06:59:00", "07:20:00", "07:20:00"] {
        assert_eq!(delay(w.dispatcher, until).await, Ok(()));
    }
    let moved = f.store().spaced(w.shard, &job("a/b"), 3_000).await.unwrap();
    let expected: Vec<Spaced> =
        spaced.into_iter().map(|(entry, at)| (entry, at.plus_ms(20 * 60_000))).collect();
    assert_eq!(moved, expected, "all together, once");
}
