//! Runs that somebody asked for: triggers with a key or a payload, and backfills.

use model::backfill::RunEnd;
use model::id::Key;
use model::name::BackfillId;
use model::run::{RunState, SkipReason};
use model::time::Timestamp;

use super::world::{at, entry, job, occurrence, sent, settlement, skip};
use super::{Fixture, World};
use crate::control::{AskedFor, BackfillRun, Trigger, Triggered};
use crate::error::StoreError;
use crate::lease::Epoch;
use crate::{ControlStore, LedgerStore};

fn trigger(name: &str, due_at: Timestamp, key: Option<&str>, payload: Option<&str>) -> Trigger {
    let key = key.map(|key| Key::new(key).unwrap());
    Trigger { job: job(name), due_at, key, payload: payload.map(Into::into) }
}

pub async fn a_trigger_takes_the_next_free_millisecond<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let ask = async |due| f.store().trigger(w.shard, &trigger("a/b", due, None, None)).await.unwrap();
    assert_eq!(ask(at("07:00:00")).await, None, "there is no such job");
    w.planned("a/b", 1, &[]).await;
    for (due, expected) in [
        ("07:00:00", "07:00:00.001"),
        ("07:00:00", "07:00:00.002"),
        ("07:00:00.250", "07:00:00.250"),
        ("07:00:01.999", "07:00:01.999"),
        ("07:00:01.999", "07:00:02.001"),
    ] {
        let triggered = ask(at(due)).await.unwrap();
        assert_eq!((triggered.due_at, triggered.duplicate), (at(expected), false), "{due}");
    }
    assert_eq!(w.minute_tier().await.len(), 5);
}

pub async fn a_trigger_takes_no_place_of_another_run<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let due = at("07:00:59.998");
    w.planned("a/b", 6, &[due]).await;
    w.planned("a/c", 1, &[]).await;
    assert_eq!(w.trigger("a/b", due, None).await.due_at, at("07:00:59.999"));
    w.confirm(&[sent(entry("a/b", at("07:00:59.999"), 6), 1)]).await;
    for next in ["07:01:00.001", "07:01:00.002"] {
        assert_eq!(
            w.trigger("a/b", due, None).await.due_at,
            at(next),
            "a run with a record is no free place"
        );
    }
    assert_eq!(w.trigger("a/c", due, None).await.due_at, due, "each job has its own");
    let expected = [
        "a/b@2026-11-22T07:00:59.998Z#6",
        "a/c@2026-11-22T07:00:59.998Z#1",
        "a/b@2026-11-22T07:01:00.001Z#6",
        "a/b@2026-11-22T07:01:00.002Z#6",
    ];
    assert_eq!(w.minute_tier().await, expected, "under the present revision");
}

pub async fn a_key_is_lost_with_the_store<F: Fixture>(f: &F) {
    let key = Some("order-17");
    for (due, again) in [("07:00:00.5", "07:00:01.5"), ("07:00:02.5", "07:00:03.5")] {
        let w = World::begun(f).await;
        w.planned("a/b", 1, &[]).await;
        assert_eq!(w.trigger("a/b", at(due), key).await, Triggered { due_at: at(due), duplicate: false });
        assert_eq!(w.trigger("a/b", at(again), key).await, Triggered { due_at: at(due), duplicate: true });
        f.wipe().await;
    }
}

pub async fn a_key_names_one_run_of_a_job<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    w.planned("a/b", 1, &[]).await;
    w.planned("a/c", 1, &[]).await;
    let ask = async |name, key, due| {
        let triggered =
            f.store().trigger(w.shard, &trigger(name, at(due), key, None)).await.unwrap().unwrap();
        (triggered.due_at, triggered.duplicate)
    };
    assert_eq!(ask("a/b", Some("k"), "07:00:00.5").await, (at("07:00:00.5"), false));
    assert_eq!(ask("a/b", Some("k"), "07:00:09").await, (at("07:00:00.5"), true));
    assert_eq!(ask("a/c", Some("k"), "07:00:09.5").await, (at("07:00:09.5"), false), "another job's");
    assert_eq!(ask("a/b", Some("l"), "07:00:09.5").await, (at("07:00:09.5"), false), "another key");
}

pub async fn a_payload_is_kept_until_its_run_ends<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    w.planned("a/b", 1, &[]).await;
    let dues = [at("07:00:00.100"), at("07:00:00.200"), at("07:00:00.300")];
    let payloads = [Some(r#"{"region":"eu"}"#), Some("null"), None];
    for (due, payload) in dues.iter().zip(payloads) {
        f.store().trigger(w.shard, &trigger("a/b", *due, None, payload)).await.unwrap();
    }
    let runs = dues.map(|due| occurrence("a/b", due));
    let asked = async || {
        let asked = f.store().asked_for(w.shard, &runs).await.unwrap();
        asked.into_iter().map(|asked| asked.payload).collect::<Vec<_>>()
    };
    assert_eq!(asked().await, payloads.map(|payload| payload.map(str::to_owned)));
    let scheduled = [runs[0].clone(), occurrence("a/b", at("07:00:00.400"))];
    let triggered = f.store().asked_for(w.shard, &scheduled).await.unwrap();
    assert_eq!(triggered.iter().map(|asked| asked.triggered).collect::<Vec<_>>(), [true, false]);
    w.confirm(&[sent(entry("a/b", dues[0], 1), 1)]).await;
    assert_eq!(asked().await[0].as_deref(), payloads[0], "it may have to be published again");
    f.store().settle(w.shard, &settlement(runs[0].clone(), 1, RunState::DeadLettered)).await.unwrap();
    f.store()
        .skip(w.shard, w.dispatcher, &[skip(entry("a/b", dues[1], 1), SkipReason::Deleted)])
        .await
        .unwrap();
    assert_eq!(asked().await, [None, None, None]);
    assert_eq!(f.store().asked_for(w.shard, &[]).await.unwrap(), []);
}

pub async fn a_backfill_starts_what_has_no_run_yet<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let backfill: BackfillId = "a/june".parse().unwrap();
    let other: BackfillId = "a/july".parse().unwrap();
    let [ran, planned, fresh] = [at("05:00:00"), at("05:01:00"), at("05:02:00")];
    let start = async |backfill: &BackfillId, dues: &[Timestamp]| {
        f.store().start_backfilled(w.shard, w.planner, backfill, &job("a/b"), dues).await
    };
    assert_eq!(start(&backfill, &[fresh]).await, Ok(None), "there is no such job");
    w.planned("a/b", 1, &[ran, planned]).await;
    f.store().settle(w.shard, &settlement(occurrence("a/b", ran), 1, RunState::Succeeded)).await.unwrap();
    for _ in 0..2 {
        assert_eq!(start(&backfill, &[ran, planned, fresh]).await, Ok(Some(vec![false, false, true])));
    }
    assert_eq!(start(&other, &[fresh]).await, Ok(Some(vec![false])), "it is another one's");
    assert_eq!(w.minute_tier().await, ["a/b@2026-11-22T05:01:00Z#1", "a/b@2026-11-22T05:02:00Z#1"]);
    let asked = f.store().asked_for(w.shard, &[occurrence("a/b", planned), occurrence("a/b", fresh)]).await;
    assert_eq!(asked.unwrap().iter().map(|asked| asked.backfilled).collect::<Vec<_>>(), [false, true]);
    let fenced =
        f.store().start_backfilled(w.shard, Epoch(1), &backfill, &job("a/b"), &[at("05:03:00")]).await;
    assert_eq!(fenced, Err(StoreError::Fenced));
}

pub async fn the_end_of_a_backfills_run_is_kept_until_it_is_counted<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let backfill: BackfillId = "a/june".parse().unwrap();
    let dues = ["05:00:00", "05:01:00", "05:02:00", "05:03:00"].map(at);
    w.planned("a/b", 1, &[]).await;
    f.store().start_backfilled(w.shard, w.planner, &backfill, &job("a/b"), &dues).await.unwrap();
    let end = async |due, state| {
        f.store().settle(w.shard, &settlement(occurrence("a/b", due), 1, state)).await.unwrap();
    };
    end(dues[0], RunState::Succeeded).await;
    end(dues[0], RunState::DeadLettered).await;
    end(dues[1], RunState::Cancelled).await;
    f.store()
        .skip(w.shard, w.dispatcher, &[skip(entry("a/b", dues[2], 1), SkipReason::Deleted)])
        .await
        .unwrap();
    let ends = [Some(RunEnd::Succeeded), Some(RunEnd::Failed), Some(RunEnd::Skipped), None];
    let run = |(due, end): (&Timestamp, &Option<RunEnd>)| BackfillRun {
        occurrence: occurrence("a/b", *due),
        backfill: backfill.clone(),
        end: *end,
    };
    let expected: Vec<_> = dues.iter().zip(&ends).map(run).collect();
    let known = async || {
        let mut runs = f.store().backfill_runs(w.shard).await.unwrap();
        runs.sort_by(|a, b| a.occurrence.cmp(&b.occurrence));
        runs
    };
    assert_eq!(known().await, expected);
    let counted: Vec<_> = expected[..3].iter().map(|run| run.occurrence.clone()).collect();
    f.store().forget_backfill_runs(w.shard, w.planner, &counted).await.unwrap();
    f.store().forget_backfill_runs(w.shard, w.planner, &[]).await.unwrap();
    assert_eq!(known().await, expected[3..]);
    let asked = f.store().asked_for(w.shard, &[occurrence("a/b", dues[3])]).await.unwrap();
    assert_eq!(asked, [AskedFor { backfilled: true, ..AskedFor::default() }]);
}
