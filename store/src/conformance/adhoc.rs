//! Ad-hoc work: unique keys, and runs that didn't succeed at once.

use std::time::Duration;

use model::id::{Key, RunId};
use model::run::{AttemptEnd, Generation, Outcome, RunState};
use model::shard::ShardId;
use model::stats::FirstStart;
use model::time::Timestamp;
use model::unique::{Freed, Scope, UniqueKey, Until};

use super::Fixture;
use super::world::{at, attempt};
use crate::AdHocStore;
use crate::adhoc::{AdHocRun, Claimed};

const SHARD: ShardId = ShardId(3);

fn unique(scope: Scope) -> UniqueKey {
    UniqueKey { scope, queue: "billing/reports".parse().unwrap(), key: Key::new("order-17").unwrap() }
}

fn run_of(unique: &UniqueKey, ms: i64) -> RunId {
    unique.run_id(Timestamp::from_ms(1_795_329_900_000 + ms)).unwrap()
}

pub async fn a_key_is_taken_once<F: Fixture>(f: &F) {
    let (queue, namespace) = (unique(Scope::Queue), unique(Scope::Namespace));
    let (first, second) = (run_of(&queue, 1), run_of(&queue, 2));
    let claim =
        async |key: &UniqueKey, run: &RunId| f.store().claim_key(SHARD, key, run, Until::Done).await.unwrap();
    assert_eq!(claim(&queue, &first).await, Claimed::New);
    let taken = |published| Claimed::Taken { run_id: first.clone(), published };
    assert_eq!(claim(&queue, &second).await, taken(false));
    f.store().confirm_key(SHARD, &queue, &second).await.unwrap();
    assert_eq!(claim(&queue, &second).await, taken(false), "another run's word doesn't count");
    f.store().confirm_key(SHARD, &queue, &first).await.unwrap();
    assert_eq!(claim(&queue, &second).await, taken(true));
    assert_eq!(claim(&namespace, &run_of(&namespace, 3)).await, Claimed::New, "another scope");
}

pub async fn a_key_is_freed_by_its_own_run_as_it_asked<F: Fixture>(f: &F) {
    let key = unique(Scope::Queue);
    let cases = [
        (Until::Started, Freed::Started, true),
        (Until::Started, Freed::Ended, true),
        (Until::Done, Freed::Started, false),
        (Until::Done, Freed::Ended, true),
        (Until::Period(Duration::from_secs(60)), Freed::Ended, false),
        (Until::Period(Duration::from_secs(60)), Freed::Unpublished, true),
    ];
    for (number, (until, freed, expected)) in cases.into_iter().enumerate() {
        let run = run_of(&key, i64::try_from(number).unwrap());
        assert_eq!(f.store().claim_key(SHARD, &key, &run, until).await, Ok(Claimed::New));
        f.store().free_key(SHARD, &key, &run_of(&key, 99), Freed::Unpublished).await.unwrap();
        f.store().free_key(SHARD, &key, &run, freed).await.unwrap();
        let other = run_of(&key, 50);
        let is_free = f.store().claim_key(SHARD, &key, &other, until).await == Ok(Claimed::New);
        assert_eq!(is_free, expected, "{until:?} {freed:?}");
        for run in [&run, &other] {
            f.store().free_key(SHARD, &key, run, Freed::Unpublished).await.unwrap();
        }
    }
}

pub async fn a_key_is_free_when_its_period_is_over<F: Fixture>(f: &F) {
    let key = unique(Scope::Queue);
    let until = Until::Period(Duration::from_millis(200));
    let claim = async |ms| f.store().claim_key(SHARD, &key, &run_of(&key, ms), until).await.unwrap();
    assert_eq!(claim(1).await, Claimed::New);
    assert_ne!(claim(2).await, Claimed::New);
    f.pass(Duration::from_millis(300)).await;
    assert_eq!(claim(3).await, Claimed::New);
}

pub async fn the_newest_of_an_ad_hoc_run_is_remembered<F: Fixture>(f: &F) {
    let run_id: RunId = "billing/reports~order-17".parse().unwrap();
    let run = |generation, state, number, outcome| AdHocRun {
        run_id: run_id.clone(),
        generation: Generation(generation),
        state,
        due_at: at("07:00:00"),
        last: attempt(number, outcome),
        first: FirstStart::after(None, Generation(generation), at("07:00:00")),
        executor: "worker-1".into(),
        output: Some("half of it".into()),
    };
    assert_eq!(f.store().ad_hoc(SHARD, &run_id).await, Ok(None));
    let (failed, dispatched) = (Outcome::Failed, RunState::Dispatched);
    let dead = run(0, RunState::DeadLettered, 3, failed);
    for (noted, shown) in [
        (run(0, dispatched, 2, failed), run(0, dispatched, 2, failed)),
        (run(0, dispatched, 1, failed), run(0, dispatched, 2, failed)),
        (dead.clone(), dead.clone()),
        (run(0, dispatched, 4, failed), dead.clone()),
        (run(1, dispatched, 1, failed), run(1, dispatched, 1, failed)),
        (dead, run(1, dispatched, 1, failed)),
        (
            run(1, RunState::Succeeded, 2, Outcome::Succeeded),
            run(1, RunState::Succeeded, 2, Outcome::Succeeded),
        ),
    ] {
        f.store().note_ad_hoc(SHARD, &noted).await.unwrap();
        assert_eq!(f.store().ad_hoc(SHARD, &run_id).await, Ok(Some(shown)));
    }
}

pub async fn an_ad_hoc_run_keeps_its_first_start<F: Fixture>(f: &F) {
    let run_id: RunId = "billing/reports~order-18".parse().unwrap();
    let first = |at_text, generation, again| FirstStart {
        at: at(at_text),
        generation: Generation(generation),
        again_at: at(again),
    };
    for (generation, number, started, expected) in [
        (0, 1, "07:00:00", first("07:00:00", 0, "07:00:00")),
        (0, 2, "07:00:30", first("07:00:00", 0, "07:00:00")),
        (1, 1, "08:00:00", first("07:00:00", 1, "08:00:00")),
        (1, 2, "08:00:30", first("07:00:00", 1, "08:00:00")),
    ] {
        let last = AttemptEnd { started_at: at(started), ..attempt(number, Outcome::Failed) };
        let run = AdHocRun {
            run_id: run_id.clone(),
            generation: Generation(generation),
            state: RunState::Dispatched,
            due_at: at("07:00:00"),
            first: FirstStart::after(None, Generation(generation), last.started_at),
            last,
            executor: "worker-1".into(),
            output: None,
        };
        f.store().note_ad_hoc(SHARD, &run).await.unwrap();
        let known = f.store().ad_hoc(SHARD, &run_id).await.unwrap().unwrap();
        assert_eq!(known.first, expected, "{generation} {number}");
    }
}
