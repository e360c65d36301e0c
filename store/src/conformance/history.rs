//! How runs end, and how long that is remembered.

use model::id::Occurrence;
use model::run::{Generation, RunState, SkipReason};
use model::spec::HistoryLimits;

use super::world::{at, entry, install, job, occurrence, record, sent, settlement, skip};
use super::{Fixture, World};
use crate::error::StoreError;
use crate::ledger::Settled;
use crate::plan::Installed;
use crate::{LedgerStore, PlanStore};

pub async fn a_settlement_is_recorded_once<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let run = w.published("a/b", at("07:00:00")).await;
    let first = settlement(run.clone(), 1, RunState::Succeeded);
    let mut second = settlement(run.clone(), 1, RunState::DeadLettered);
    second.executor = "another".into();
    assert_eq!(f.store().settle(w.shard, &first).await, Ok(Settled::Recorded));
    let recorded = f.store().run(w.shard, &run).await.unwrap();
    assert_eq!(f.store().settle(w.shard, &first).await, Ok(Settled::AlreadyEnded));
    assert_eq!(f.store().settle(w.shard, &second).await, Ok(Settled::AlreadyEnded));
    assert_eq!(f.store().run(w.shard, &run).await.unwrap(), recorded);
    assert_eq!(f.store().runs(w.shard, &job("a/b"), 10).await.unwrap().len(), 1);
}

pub async fn settlements_follow_the_generation_rule<F: Fixture>(f: &F) {
    use RunState::{Cancelled, DeadLettered, Dispatched, Skipped, Succeeded};
    let w = World::begun(f).await;
    // The table of `model::run::accepts_end`.
    let table = [
        (None, 0, true),
        (Some((Dispatched, 0)), 0, true),
        (Some((Dispatched, 1)), 0, false),
        (Some((Dispatched, 1)), 1, true),
        (Some((Dispatched, 0)), 1, true),
        (Some((Succeeded, 0)), 0, false),
        (Some((DeadLettered, 0)), 0, false),
        (Some((DeadLettered, 0)), 1, true),
        (Some((Cancelled, 2)), 2, false),
        (Some((Skipped, 0)), 0, false),
    ];
    for (row, (standing, reported, accepted)) in table.into_iter().enumerate() {
        let name = format!("a/row-{row}");
        let due = at("07:00:00");
        let run = occurrence(&name, due);
        w.planned(&name, 1, &[due]).await;
        match standing {
            None => {}
            Some((Dispatched, generation)) => {
                w.confirm(&[sent(entry(&name, due, 1), 1)]).await;
                let end = super::world::attempt(1, model::run::Outcome::Failed);
                let generation = Generation(generation);
                f.store().note_attempt(w.shard, &run, generation, &end, "worker-1").await.unwrap();
            }
            Some((state, generation)) => {
                let mut end = settlement(run.clone(), 1, state);
                end.generation = Generation(generation);
                assert_eq!(f.store().settle(w.shard, &end).await, Ok(Settled::Recorded));
            }
        }
        let mut end = settlement(run.clone(), 1, Cancelled);
        end.generation = Generation(reported);
        let expected = if accepted { Settled::Recorded } else { Settled::AlreadyEnded };
        assert_eq!(f.store().settle(w.shard, &end).await, Ok(expected), "{standing:?} {reported}");
        let state = w.state(&run).await;
        let stands = standing.map(|(state, _)| state);
        assert_eq!(state, if accepted { Some(Cancelled) } else { stands }, "{standing:?} {reported}");
    }
}

pub async fn a_settlement_without_a_record_counts<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let run = w.published("a/b", at("07:00:00")).await;
    f.wipe().await;
    let end = settlement(run.clone(), 1, RunState::Succeeded);
    assert_eq!(f.store().settle(w.shard, &end).await, Ok(Settled::Recorded));
    assert_eq!(f.store().settle(w.shard, &end).await, Ok(Settled::AlreadyEnded));
    assert_eq!(w.state(&run).await, Some(RunState::Succeeded));
    // The rebuilt plan knows the run.
    let w = World::begun(f).await;
    w.planned("a/b", 1, &[run.due_at, at("07:01:00")]).await;
    assert_eq!(w.minute_tier().await, ["a/b@2026-11-22T07:01:00Z#1"]);
    assert_eq!(f.store().runs(w.shard, &job("a/b"), 10).await.unwrap().len(), 1);
}

pub async fn a_settlement_in_an_open_state_is_refused<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let run = w.published("a/b", at("07:00:00")).await;
    let wrong = f.store().settle(w.shard, &settlement(run, 1, RunState::Dispatched)).await;
    assert!(matches!(wrong, Err(StoreError::Refused(_))), "{wrong:?}");
    assert_eq!(w.sent_ids().await.len(), 1);
}

pub async fn a_batch_of_settlements_is_answered_in_order<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let (one, two) = (w.published("a/b", at("07:00:00")).await, w.published("a/c", at("07:00:00")).await);
    let ends = [
        settlement(one.clone(), 1, RunState::Succeeded),
        settlement(one.clone(), 1, RunState::DeadLettered),
        settlement(two.clone(), 1, RunState::DeadLettered),
    ];
    let settled = f.store().settle_all(w.shard, &ends).await.unwrap();
    assert_eq!(settled, [Settled::Recorded, Settled::AlreadyEnded, Settled::Recorded]);
    assert_eq!(w.state(&one).await, Some(RunState::Succeeded));
    assert_eq!(w.state(&two).await, Some(RunState::DeadLettered));
    assert_eq!(f.store().settle_all(w.shard, &[]).await, Ok(Vec::new()));
}

pub async fn each_kind_of_end_is_trimmed_apart<F: Fixture>(f: &F) {
    use RunState::{Cancelled, DeadLettered, Dispatched, Skipped, Succeeded};
    let w = World::begun(f).await;
    let limits = HistoryLimits { succeeded: 2, failed: 3, skipped: 1 };
    let mut new = install("a/b", None, Some(crate::plan::JobRecord { history: limits, ..record(1, None) }));
    let due = |number: i64| at("07:00:00").plus_ms(number * 1000);
    new.add = (0..40).map(due).collect();
    w.install(&new).await;
    for number in 0..20 {
        let run = Occurrence { job: job("a/b"), due_at: due(number) };
        let state = [Succeeded, DeadLettered, Succeeded, Cancelled][(number % 4) as usize];
        f.store().settle(w.shard, &settlement(run, 1, state)).await.unwrap();
    }
    for number in [21, 20] {
        let skipped = skip(entry("a/b", due(number), 1), SkipReason::Suspended);
        f.store().skip(w.shard, w.dispatcher, &[skipped]).await.unwrap();
    }
    w.confirm(&[sent(entry("a/b", due(30), 1), 1), sent(entry("a/b", due(31), 1), 2)]).await;
    let left: Vec<_> = f
        .store()
        .runs(w.shard, &job("a/b"), 100)
        .await
        .unwrap()
        .into_iter()
        .map(|run| (run.occurrence.due_at.ms_since(due(0)) / 1000, run.state))
        .collect();
    let expected = [
        (31, Dispatched),
        (30, Dispatched),
        (21, Skipped),
        (19, Cancelled),
        (18, Succeeded),
        (17, DeadLettered),
        (16, Succeeded),
        (15, Cancelled),
    ];
    assert_eq!(left, expected);
    assert_eq!(w.state(&Occurrence { job: job("a/b"), due_at: due(0) }).await, None, "its record is gone");
    assert_eq!(w.state(&Occurrence { job: job("a/b"), due_at: due(20) }).await, None, "so is the older skip");
}

pub async fn a_limit_of_none_keeps_none<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let limits = HistoryLimits { succeeded: 0, failed: 0, skipped: 0 };
    let mut new = install("a/b", None, Some(crate::plan::JobRecord { history: limits, ..record(1, None) }));
    new.add = vec![at("07:00:00"), at("07:00:10")];
    w.install(&new).await;
    let end = settlement(occurrence("a/b", at("07:00:00")), 1, RunState::Succeeded);
    assert_eq!(f.store().settle(w.shard, &end).await, Ok(Settled::Recorded));
    let skipped = skip(entry("a/b", at("07:00:10"), 1), SkipReason::Suspended);
    f.store().skip(w.shard, w.dispatcher, &[skipped]).await.unwrap();
    assert_eq!(w.minute_tier().await, Vec::<String>::new());
    assert_eq!(f.store().runs(w.shard, &job("a/b"), 10).await, Ok(Vec::new()));
}

pub async fn runs_come_newest_first<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let dues = [at("07:00:00"), at("07:00:10"), at("07:00:20"), at("07:00:30")];
    w.planned("a/b", 1, &dues).await;
    w.planned("a/b-c", 1, &[at("07:00:15")]).await;
    let end = |due, state| settlement(occurrence("a/b", due), 1, state);
    f.store().settle(w.shard, &end(dues[2], RunState::Succeeded)).await.unwrap();
    f.store().settle(w.shard, &end(dues[0], RunState::DeadLettered)).await.unwrap();
    let skipped = skip(entry("a/b", dues[1], 1), SkipReason::Suspended);
    f.store().skip(w.shard, w.dispatcher, &[skipped]).await.unwrap();
    w.confirm(&[sent(entry("a/b", dues[3], 1), 1), sent(entry("a/b-c", at("07:00:15"), 1), 1)]).await;
    let runs = async |limit| {
        let runs = f.store().runs(w.shard, &job("a/b"), limit).await.unwrap();
        runs.into_iter().map(|run| run.occurrence.due_at).collect::<Vec<_>>()
    };
    assert_eq!(runs(10).await, [dues[3], dues[2], dues[1], dues[0]]);
    assert_eq!(runs(2).await, [dues[3], dues[2]]);
    assert_eq!(runs(0).await, []);
    assert_eq!(f.store().runs(w.shard, &job("a/none"), 10).await, Ok(Vec::new()));
}

pub async fn a_redriven_run_moves_between_lists<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let run = w.published("a/b", at("07:00:00")).await;
    f.store().settle(w.shard, &settlement(run.clone(), 1, RunState::DeadLettered)).await.unwrap();
    let mut again = settlement(run.clone(), 1, RunState::Succeeded);
    again.generation = Generation(1);
    again.output = None;
    assert_eq!(f.store().settle(w.shard, &again).await, Ok(Settled::Recorded));
    let runs = f.store().runs(w.shard, &job("a/b"), 10).await.unwrap();
    assert_eq!(runs.len(), 1);
    assert_eq!((runs[0].state, runs[0].generation), (RunState::Succeeded, Generation(1)));
    assert_eq!((runs[0].output.as_ref(), &runs[0].last), (None, &Some(again.last)), "nothing old is left");
}

pub async fn a_deleted_job_takes_its_history_along<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let dues = [at("07:00:00"), at("07:00:10"), at("07:00:20")];
    w.planned("a/b", 1, &dues).await;
    w.published("a/b-c", at("07:00:00")).await;
    let ended = settlement(occurrence("a/b", dues[0]), 1, RunState::Succeeded);
    f.store().settle(w.shard, &ended).await.unwrap();
    let other = settlement(occurrence("a/b-c", dues[0]), 1, RunState::Succeeded);
    f.store().settle(w.shard, &other).await.unwrap();
    let skipped = skip(entry("a/b", dues[1], 1), SkipReason::Suspended);
    f.store().skip(w.shard, w.dispatcher, &[skipped]).await.unwrap();
    let mut delete = install("a/b", Some(1), None);
    delete.remove = dues.to_vec();
    assert_eq!(w.install(&delete).await, Installed::Done);
    assert_eq!(w.minute_tier().await, Vec::<String>::new());
    assert_eq!(f.store().jobs(w.shard, &[job("a/b")]).await, Ok(vec![None]));
    assert_eq!(f.store().runs(w.shard, &job("a/b"), 10).await, Ok(Vec::new()));
    assert_eq!(w.state(&ended.occurrence).await, None);
    assert_eq!(f.store().runs(w.shard, &job("a/b-c"), 10).await.unwrap().len(), 1, "another job's stays");
}

pub async fn an_open_run_survives_its_job<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let run = w.published("a/b", at("07:00:00")).await;
    w.install(&install("a/b", Some(1), None)).await;
    assert_eq!(w.sent_ids().await, [run.to_string()]);
    let end = settlement(run.clone(), 1, RunState::Succeeded);
    assert_eq!(f.store().settle(w.shard, &end).await, Ok(Settled::Recorded));
    assert_eq!(f.store().settle(w.shard, &end).await, Ok(Settled::AlreadyEnded));
    assert_eq!(w.state(&run).await, Some(RunState::Succeeded));
}
