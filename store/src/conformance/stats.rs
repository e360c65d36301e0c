//! What adds up over runs, the attempts behind one, and redrives.

use model::limits::ATTEMPTS_KEPT_MAX;
use model::run::{AttemptEnd, Generation, Outcome, RunState, SkipReason};

use super::world::{at, attempt, entry, install, job, occurrence, record, sent, settlement, skip};
use super::{Fixture, World};
use crate::lease::{Epoch, Role};
use crate::ledger::Settled;
use crate::plan::Installed;
use crate::stats::Reopening;
use crate::{ControlStore, LedgerStore, StatsStore};

fn reopening(run: &model::id::Occurrence, generation: u32) -> Reopening {
    Reopening {
        occurrence: run.clone(),
        revision: model::id::Revision(9),
        generation: Generation(generation),
        sequence: 90 + u64::from(generation),
        published_at: at("07:30:00"),
        worry_at: at("07:31:00"),
    }
}

pub async fn ends_are_counted_and_edits_keep_the_counts<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let stats = async || f.store().stats(w.shard, &job("a/b")).await.unwrap();
    assert_eq!(stats().await, Default::default());
    // World's attempts take a second, from 07:00:00 on.
    let run = w.published("a/b", at("06:59:58")).await;
    let end = settlement(run, 1, RunState::Succeeded);
    for expected in [Settled::Recorded, Settled::AlreadyEnded] {
        assert_eq!(f.store().settle(w.shard, &end).await, Ok(expected));
    }
    let counted = stats().await;
    assert_eq!((counted.succeeded, counted.failed, counted.cancelled, counted.skipped), (1, 0, 0, 0));
    assert_eq!(counted.last_success_at, Some(at("07:00:01")));
    assert_eq!((counted.lateness.total(), counted.duration.total()), (1, 1));
    let edit = install("a/b", Some(1), Some(record(2, None)));
    assert_eq!(w.install(&edit).await, Installed::Done);
    assert_eq!(stats().await, counted);
    assert_eq!(w.install(&install("a/b", Some(2), None)).await, Installed::Done);
    assert_eq!(stats().await, Default::default(), "they go with their job");
}

pub async fn skips_are_counted<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    w.planned("a/b", 1, &[at("07:00:00"), at("07:00:01")]).await;
    let one = skip(entry("a/b", at("07:00:00"), 1), SkipReason::Suspended);
    let other = skip(entry("a/b", at("07:00:02"), 1), SkipReason::Suspended);
    f.store().skip(w.shard, w.dispatcher, &[one.clone(), other, one]).await.unwrap();
    assert_eq!(f.store().stats(w.shard, &job("a/b")).await.unwrap().skipped, 1);
}

pub async fn all_attempts_of_a_run_are_kept<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let run = w.published("a/b", at("07:00:00")).await;
    let most = u32::try_from(ATTEMPTS_KEPT_MAX).unwrap();
    let note = async |number| {
        let end = attempt(number, Outcome::Failed);
        f.store().note_attempt(w.shard, &run, Generation(0), &end, "worker one").await.unwrap();
    };
    for number in [1, 3, 2] {
        note(number).await;
    }
    let kept = f.store().past_attempts(w.shard, &run).await.unwrap();
    let numbers: Vec<_> = kept.iter().map(|past| past.end.attempt).collect();
    assert_eq!(numbers, [1, 3], "an older one that comes late isn't noted");
    assert_eq!(kept[0].end, attempt(1, Outcome::Failed));
    assert_eq!((kept[0].generation, kept[0].executor.as_str()), (Generation(0), "worker one"));
    for number in 4..most + 60 {
        note(number).await;
    }
    let kept = f.store().past_attempts(w.shard, &run).await.unwrap();
    assert!(kept.len() >= ATTEMPTS_KEPT_MAX && kept.len() < ATTEMPTS_KEPT_MAX + 40, "{}", kept.len());
    assert_eq!(kept.last().unwrap().end.attempt, most + 59);
    let first = f.store().stats(w.shard, &job("a/b")).await.unwrap();
    assert_eq!(first.lateness.total(), 1, "only the first attempt tells how late the run was");
}

pub async fn a_run_is_as_late_as_its_first_attempt_and_takes_as_long_as_all<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let run = w.published("a/b", at("06:59:58")).await;
    let end = |number, started: &str, ended: &str| AttemptEnd {
        started_at: at(started),
        ended_at: at(ended),
        ..attempt(number, Outcome::Failed)
    };
    let known = async || f.store().run(w.shard, &run).await.unwrap().unwrap();
    let times = |record: &crate::ledger::RunRecord| {
        record.first_start().map(|first| (first.at, first.again_at)).unwrap()
    };
    for (number, started, ended) in [(1, "07:00:00", "07:00:01"), (2, "07:00:05", "07:00:06")] {
        let end = end(number, started, ended);
        f.store().note_attempt(w.shard, &run, Generation(0), &end, "worker-1").await.unwrap();
        assert_eq!(times(&known().await), (at("07:00:00"), at("07:00:00")));
    }
    let mut dead = settlement(run.clone(), 1, RunState::DeadLettered);
    dead.last = end(3, "07:00:15", "07:00:16");
    f.store().settle(w.shard, &dead).await.unwrap();
    assert_eq!(times(&known().await), (at("07:00:00"), at("07:00:00")));
    let stats = async || f.store().stats(w.shard, &job("a/b")).await.unwrap();
    let counted = stats().await;
    assert_eq!((counted.lateness.total(), counted.lateness.percentile(99)), (1, Some(1_984)), "2 s");
    assert_eq!((counted.duration.total(), counted.duration.percentile(99)), (1, Some(15_872)), "16 s");
    // The hour that it was a dead letter isn't work.
    f.store().reopen(w.shard, &reopening(&run, 1)).await.unwrap();
    assert_eq!(known().await.first_start(), None, "no attempt of the new generation has ended yet");
    let mut good = settlement(run.clone(), 1, RunState::Succeeded);
    good.generation = Generation(1);
    good.last = end(1, "07:59:00", "07:59:02");
    f.store().settle(w.shard, &good).await.unwrap();
    assert_eq!(times(&known().await), (at("07:00:00"), at("07:59:00")));
    let counted = stats().await;
    assert_eq!((counted.lateness.total(), counted.duration.total()), (1, 2));
    assert_eq!(counted.duration.percentile(50), Some(1_984), "2 s");
}

pub async fn backfilled_runs_tell_nothing_about_lateness<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    w.planned("a/b", 1, &[]).await;
    let backfill = "a/june".parse().unwrap();
    let dues = ["05:00:00", "05:01:00"].map(at);
    f.store().start_backfilled(w.shard, w.planner, &backfill, &job("a/b"), &dues).await.unwrap();
    w.confirm(&dues.map(|due| sent(entry("a/b", due, 1), 11))).await;
    let [one, other] = dues.map(|due| occurrence("a/b", due));
    let failed = attempt(1, Outcome::Failed);
    f.store().note_attempt(w.shard, &one, Generation(0), &failed, "worker-1").await.unwrap();
    f.store().settle(w.shard, &settlement(one, 1, RunState::Succeeded)).await.unwrap();
    f.store().settle(w.shard, &settlement(other, 1, RunState::Succeeded)).await.unwrap();
    let counted = f.store().stats(w.shard, &job("a/b")).await.unwrap();
    assert_eq!((counted.succeeded, counted.lateness.total(), counted.duration.total()), (2, 0, 2));
}

pub async fn a_dead_letter_is_reopened_once<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let run = w.published("a/b", at("07:00:00")).await;
    f.store().settle(w.shard, &settlement(run.clone(), 1, RunState::DeadLettered)).await.unwrap();
    assert_eq!(f.store().reopen(w.shard, &reopening(&run, 0)).await, Ok(false), "not of its own generation");
    assert_eq!(f.store().reopen(w.shard, &reopening(&run, 1)).await, Ok(true));
    assert_eq!(f.store().reopen(w.shard, &reopening(&run, 1)).await, Ok(false));
    let open = f.store().run(w.shard, &run).await.unwrap().unwrap();
    assert_eq!((open.state, open.generation, open.sequence), (RunState::Dispatched, Generation(1), Some(91)));
    assert_eq!((open.last.clone(), open.ended_at, open.revision.0), (None, None, 1));
    assert_eq!(f.store().runs(w.shard, &job("a/b"), 10).await.unwrap(), [open]);
    let sent = f.store().overdue(w.shard, at("07:31:00"), 10).await.unwrap();
    assert_eq!((sent.len(), sent[0].sequence, sent[0].generation), (1, 91, Generation(1)));
    let past = f.store().past_attempts(w.shard, &run).await.unwrap();
    assert_eq!((past.len(), past[0].generation), (1, Generation(0)), "what went wrong stays known");
    // A run that is forgotten can still be redriven.
    let forgotten = occurrence("a/gone", at("07:00:00"));
    assert_eq!(f.store().reopen(w.shard, &reopening(&forgotten, 1)).await, Ok(true));
    assert_eq!(f.store().run(w.shard, &forgotten).await.unwrap().unwrap().revision.0, 9);
}

pub async fn a_reopened_run_ends_in_its_new_generation<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let run = w.published("a/b", at("07:00:00")).await;
    let dead = settlement(run.clone(), 1, RunState::DeadLettered);
    f.store().settle(w.shard, &dead).await.unwrap();
    f.store().reopen(w.shard, &reopening(&run, 1)).await.unwrap();
    assert_eq!(f.store().settle(w.shard, &dead).await, Ok(Settled::AlreadyEnded), "of before the redrive");
    let mut end = settlement(run.clone(), 1, RunState::Succeeded);
    end.generation = Generation(1);
    assert_eq!(f.store().settle(w.shard, &end).await, Ok(Settled::Recorded));
    assert_eq!(w.state(&run).await, Some(RunState::Succeeded));
    assert!(w.sent_ids().await.is_empty());
    assert_eq!(f.store().reopen(w.shard, &reopening(&run, 1)).await, Ok(false), "its end was faster");
    let stats = f.store().stats(w.shard, &job("a/b")).await.unwrap();
    assert_eq!((stats.failed, stats.succeeded), (1, 1));
}

pub async fn an_epoch_is_told_as_its_node<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let owner = async |role, epoch| f.store().owner(w.shard, role, epoch).await.unwrap();
    assert_eq!(owner(Role::Dispatcher, w.dispatcher).await.as_deref(), Some("node-a"));
    assert_eq!(owner(Role::Planner, w.planner).await.as_deref(), Some("node-a"));
    assert_eq!(owner(Role::Planner, Epoch(1)).await, None);
}

pub async fn an_entry_is_found_by_its_revision<F: Fixture>(f: &F) {
    use model::id::Revision;
    let w = World::begun(f).await;
    w.planned("a/b", 3, &[at("07:00:00")]).await;
    let found = async |due, revisions: &[u64]| {
        let revisions: Vec<_> = revisions.iter().copied().map(Revision).collect();
        let run = occurrence("a/b", at(due));
        f.store().planned_as(w.shard, &run, &revisions).await.unwrap().map(|revision| revision.0)
    };
    assert_eq!(found("07:00:00", &[4, 3, 2]).await, Some(3));
    assert_eq!((found("07:00:00", &[4]).await, found("07:00:01", &[3]).await), (None, None));
    assert_eq!(found("07:00:00", &[]).await, None);
}
