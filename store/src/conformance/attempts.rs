//! Runs on their way: worry, attempts that will be retried, bare terms.

use model::run::{Generation, Outcome, RunState};

use super::world::{at, attempt, entry, occurrence, sent, settlement};
use super::{Fixture, World};
use crate::LedgerStore;

pub async fn overdue_runs_come_by_worry<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    for (name, worry) in [("a/c", "07:30:00"), ("a/a", "07:40:00"), ("a/b", "07:30:00"), ("a/d", "07:50:00")]
    {
        w.planned(name, 3, &[at("07:00:00")]).await;
        let mut published = sent(entry(name, at("07:00:00"), 3), 5);
        published.worry_at = at(worry);
        w.confirm(&[published]).await;
    }
    let overdue = async |now, limit| {
        let runs = f.store().overdue(w.shard, at(now), limit).await.unwrap();
        runs.into_iter().map(|run| run.occurrence.job.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(overdue("07:29:59", 10).await, Vec::<String>::new());
    assert_eq!(overdue("07:30:00", 10).await, ["a/b", "a/c"]);
    assert_eq!(overdue("07:45:00", 10).await, ["a/b", "a/c", "a/a"]);
    assert_eq!(overdue("07:45:00", 1).await, ["a/b"]);
    let run = &f.store().overdue(w.shard, at("07:30:00"), 1).await.unwrap()[0];
    assert_eq!((run.revision.0, run.generation, run.sequence), (3, Generation(0), 5));
    assert_eq!((run.published_at, run.worry_at), (at("07:00:00"), at("07:30:00")));
}

pub async fn worry_can_be_put_off<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let run = w.published("a/b", at("07:00:00")).await;
    f.store().worry_later(w.shard, w.dispatcher, &run, at("09:00:00")).await.unwrap();
    assert_eq!(f.store().overdue(w.shard, at("08:59:59"), 10).await.unwrap().len(), 0);
    assert_eq!(f.store().overdue(w.shard, at("09:00:00"), 10).await.unwrap().len(), 1);
}

pub async fn worry_about_an_ended_run_changes_nothing<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let run = w.published("a/b", at("07:00:00")).await;
    f.store().settle(w.shard, &settlement(run.clone(), 1, RunState::Succeeded)).await.unwrap();
    f.store().worry_later(w.shard, w.dispatcher, &run, at("09:00:00")).await.unwrap();
    f.store()
        .worry_later(w.shard, w.dispatcher, &occurrence("a/c", at("07:00:00")), at("09:00:00"))
        .await
        .unwrap();
    assert_eq!(w.sent_ids().await, Vec::<String>::new());
}

pub async fn a_failed_attempt_is_noted<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let run = w.published("a/b", at("07:00:00")).await;
    let end = attempt(1, Outcome::TimedOut);
    f.store().note_attempt(w.shard, &run, Generation(0), &end, "worker-2").await.unwrap();
    let record = f.store().run(w.shard, &run).await.unwrap().unwrap();
    assert_eq!((record.state, record.last), (RunState::Dispatched, Some(end)));
    assert_eq!(record.executor.as_deref(), Some("worker-2"));
    assert_eq!(w.sent_ids().await, [run.to_string()]);
}

pub async fn only_the_newest_attempt_is_noted<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let run = w.published("a/b", at("07:00:00")).await;
    let note = async |generation, number, outcome, executor: &str| {
        let end = attempt(number, outcome);
        f.store().note_attempt(w.shard, &run, Generation(generation), &end, executor).await.unwrap();
        let record = f.store().run(w.shard, &run).await.unwrap().unwrap();
        (record.generation.0, record.last.unwrap().attempt, record.executor.unwrap())
    };
    let is = |generation, number, executor: &str| (generation, number, executor.to_string());
    assert_eq!(note(0, 2, Outcome::Failed, "two").await, is(0, 2, "two"));
    assert_eq!(note(0, 1, Outcome::Failed, "late").await, is(0, 2, "two"));
    assert_eq!(note(0, 2, Outcome::Lost, "again").await, is(0, 2, "two"));
    assert_eq!(note(1, 1, Outcome::Failed, "redriven").await, is(1, 1, "redriven"));
    assert_eq!(note(0, 9, Outcome::Failed, "before").await, is(1, 1, "redriven"));
}

pub async fn attempts_of_ended_runs_are_not_noted<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let run = w.published("a/b", at("07:00:00")).await;
    f.store().settle(w.shard, &settlement(run.clone(), 1, RunState::Succeeded)).await.unwrap();
    let before = f.store().run(w.shard, &run).await.unwrap();
    let end = attempt(7, Outcome::Failed);
    f.store().note_attempt(w.shard, &run, Generation(3), &end, "late").await.unwrap();
    assert_eq!(f.store().run(w.shard, &run).await.unwrap(), before);
    let unknown = occurrence("a/c", at("07:00:00"));
    f.store().note_attempt(w.shard, &unknown, Generation(0), &end, "late").await.unwrap();
    assert_eq!(f.store().run(w.shard, &unknown).await.unwrap(), None);
}

pub async fn terms_are_remembered<F: Fixture>(f: &F) {
    assert_eq!(f.store().terminated(17).await, Ok(None));
    f.store().note_terminated(17, "bad input: line 3", at("07:00:00")).await.unwrap();
    f.store().note_terminated(18, "", at("07:00:00")).await.unwrap();
    assert_eq!(f.store().terminated(17).await, Ok(Some("bad input: line 3".into())));
    assert_eq!(f.store().terminated(18).await, Ok(Some(String::new())));
    assert_eq!(f.store().terminated(19).await, Ok(None));
    for _ in 0..2 {
        f.store().forget_terminated(17).await.unwrap();
    }
    assert_eq!(f.store().terminated(17).await, Ok(None));
    assert_eq!(f.store().terminated(18).await, Ok(Some(String::new())));
}
