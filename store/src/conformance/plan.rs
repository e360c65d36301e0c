//! Cursors, installing, the coarse tiers, and what goes from them into the minute tier.

use model::bucket::{Placed, Tier};
use model::id::Revision;
use model::limits::EDIT_IN_FORCE_AFTER;
use model::misfire::MissedReason;
use model::run::{RunState, SkipReason};
use model::time::Timestamp;

use super::world::{at, entry, half_hour, horizon, install, job, occurrence, record, sent, settlement};
use super::{Fixture, World};
use crate::error::StoreError;
use crate::inspect::BucketKind;
use crate::plan::{Advance, Installed, SpecsRead, Waiting};
use crate::{Inspect, LeaseStore, LedgerStore, PlanStore};

fn step(name: &str, revision: u64, from: Placed, minute: &[Timestamp], next: Option<Placed>) -> Advance {
    let minute = minute.to_vec();
    Advance { job: job(name), revision: Revision(revision), from, minute, next, skipped: Vec::new() }
}

pub async fn a_shard_is_begun_once<F: Fixture>(f: &F) {
    let w = World::held(f).await;
    let cursor = w.cursor_at("06:00:00");
    assert_eq!(f.store().cursor(w.shard).await.unwrap(), None);
    assert_eq!(f.store().begin(w.shard, w.planner, &cursor).await.unwrap(), cursor);
    let other = crate::plan::Cursor { incarnation: "incarnation-2".into(), ..w.cursor_at("07:00:00") };
    assert_eq!(f.store().begin(w.shard, w.planner, &other).await.unwrap(), cursor);
    assert_eq!(f.store().cursor(w.shard).await.unwrap(), Some(cursor.clone()));
    let shards = [w.shard, model::shard::ShardId(8)];
    let cursors = f.store().cursors(&shards).await.unwrap();
    assert_eq!(cursors, [(shards[0], Some(cursor)), (shards[1], None)]);
    f.wipe().await;
    assert_eq!(f.store().cursor(w.shard).await.unwrap(), None);
}

pub async fn progress_never_goes_back<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let read = |to| SpecsRead { from: Revision(0), to: Revision(to) };
    let progress = |at, revision: Option<u64>| f.store().progress(w.shard, w.planner, at, revision.map(read));
    let cursor = async || f.store().cursor(w.shard).await.unwrap().unwrap();
    progress(Some(at("08:01:00")), None).await.unwrap();
    progress(None, Some(9)).await.unwrap();
    progress(Some(at("07:00:00")), Some(8)).await.unwrap();
    progress(None, None).await.unwrap();
    let reached = cursor().await;
    assert_eq!((reached.planned_until, reached.spec_revision), (at("08:01:00"), Revision(9)));
    assert_eq!(reached.taken_until, at("06:00:00"));
}

/// A store that came back from an older file.
pub async fn progress_from_beyond_the_cursor_is_fenced<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let progress = async |from, to| {
        let specs = SpecsRead { from: Revision(from), to: Revision(to) };
        f.store().progress(w.shard, w.planner, None, Some(specs)).await
    };
    assert_eq!(progress(0, 7).await, Ok(()));
    assert_eq!(progress(7, 9).await, Ok(()));
    assert_eq!(progress(7, 9).await, Ok(()), "an answer that was lost");
    assert_eq!(progress(10, 12).await, Err(StoreError::Fenced));
    let cursor = f.store().cursor(w.shard).await.unwrap().unwrap();
    assert_eq!(cursor.spec_revision, Revision(9));
}

pub async fn progress_without_a_cursor_is_fenced<F: Fixture>(f: &F) {
    let w = World::held(f).await;
    let progress = f.store().progress(w.shard, w.planner, Some(at("08:00:00")), None).await;
    assert_eq!(progress, Err(StoreError::Fenced));
}

pub async fn a_job_is_created_edited_and_deleted<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let jobs = async || f.store().jobs(w.shard, &[job("a/none"), job("a/b")]).await.unwrap();
    let mut first = record(1, half_hour(at("07:20:00")));
    first.condition = Some("the newest spec is invalid".into());
    assert_eq!(w.install(&install("a/b", None, Some(first.clone()))).await, Installed::Done);
    assert_eq!(jobs().await, [None, Some(first)]);
    let second = record(2, horizon(at("11:00:00")));
    assert_eq!(w.install(&install("a/b", Some(1), Some(second.clone()))).await, Installed::Done);
    assert_eq!(jobs().await, [None, Some(second)], "what the new record lacks is gone");
    assert_eq!(w.install(&install("a/b", Some(2), None)).await, Installed::Done);
    assert_eq!(jobs().await, [None, None]);
    assert!(f.store().buckets(w.shard, 10).await.unwrap().is_empty());
    assert_eq!(w.install(&install("a/b", None, None)).await, Installed::Done, "deleting nothing is fine");
}

pub async fn an_edit_of_another_revision_is_a_conflict<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    w.planned("a/b", 3, &[at("07:00:00")]).await;
    for (expected, new) in [(None, Some(4)), (Some(2), Some(4)), (Some(4), None)] {
        let mut edit =
            install("a/b", expected, new.map(|revision| record(revision, horizon(at("10:00:00")))));
        edit.remove = vec![at("07:00:00")];
        edit.add = vec![at("07:01:00")];
        assert_eq!(w.install(&edit).await, Installed::Conflict, "{expected:?}");
    }
    let absent = install("a/c", Some(1), Some(record(2, None)));
    assert_eq!(w.install(&absent).await, Installed::Conflict);
    assert_eq!(w.minute_tier().await, ["a/b@2026-11-22T07:00:00Z#3"]);
    assert_eq!(f.store().jobs(w.shard, &[job("a/b")]).await.unwrap(), [Some(record(3, None))]);
}

pub async fn an_edit_moves_entries_and_the_coarse_place<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let mut first = install("a/b", None, Some(record(1, half_hour(at("07:40:00")))));
    first.add = vec![at("07:00:00"), at("07:00:30"), at("07:01:00")];
    w.install(&first).await;
    let mut edit = install("a/b", Some(1), Some(record(2, half_hour(at("07:10:00")))));
    edit.remove = vec![at("07:00:00"), at("07:01:00"), at("07:59:00")];
    edit.add = vec![at("07:00:30"), at("07:02:00")];
    w.install(&edit).await;
    assert_eq!(
        w.minute_tier().await,
        ["a/b@2026-11-22T07:00:30Z#1", "a/b@2026-11-22T07:00:30Z#2", "a/b@2026-11-22T07:02:00Z#2"],
        "only what the edit named was taken out"
    );
    assert_eq!(w.members(BucketKind::HalfHour).await, ["a/b@2026-11-22T07:10:00Z#2"]);
    w.install(&install("a/b", Some(2), Some(record(3, horizon(at("12:00:00")))))).await;
    assert_eq!(w.members(BucketKind::HalfHour).await, Vec::<String>::new());
    assert_eq!(w.members(BucketKind::Horizon).await, ["a/b"]);
    w.install(&install("a/b", Some(3), Some(record(4, None)))).await;
    assert_eq!(w.members(BucketKind::Horizon).await, Vec::<String>::new());
}

pub async fn an_edit_leaves_what_was_taken<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let dues = [at("07:00:00"), at("07:00:10"), at("07:00:20")];
    w.planned("a/b", 1, &dues).await;
    f.store().take(w.shard, w.dispatcher, at("07:00:10"), 10).await.unwrap();
    let mut edit = install("a/b", Some(1), Some(record(2, None)));
    edit.remove = dues.to_vec();
    edit.add = vec![at("07:00:05"), at("07:00:10"), at("07:00:11")];
    edit.add_unseen = vec![at("07:00:07")];
    assert_eq!(w.install(&edit).await, Installed::Done);
    assert_eq!(
        w.minute_tier().await,
        [
            "a/b@2026-11-22T07:00:00Z#1",
            "a/b@2026-11-22T07:00:07Z#2",
            "a/b@2026-11-22T07:00:10Z#1",
            "a/b@2026-11-22T07:00:11Z#2",
        ]
    );
}

pub async fn an_edit_records_what_it_skips<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let [missed, ran] = [at("07:00:00"), at("07:00:10")];
    w.install(&install("a/b", None, Some(record(1, None)))).await;
    f.store().settle(w.shard, &settlement(occurrence("a/b", ran), 1, RunState::Succeeded)).await.unwrap();
    let reason = SkipReason::Missed(MissedReason::PolicyNone);
    let mut resumed = install("a/b", Some(1), Some(record(2, None)));
    resumed.skipped = vec![(missed, reason.clone()), (ran, reason.clone())];
    assert_eq!(w.install(&resumed).await, Installed::Done);
    let runs = f.store().runs(w.shard, &job("a/b"), 9).await.unwrap();
    assert_eq!(
        runs.iter().map(|run| run.state).collect::<Vec<_>>(),
        [RunState::Succeeded, RunState::Skipped]
    );
    let skipped = &runs[1];
    assert_eq!(
        (skipped.occurrence.due_at, skipped.revision, skipped.ended_at),
        (missed, Revision(2), Some(at("07:00:03")))
    );
    assert_eq!(
        skipped.skip_reason.as_deref(),
        Some(reason.describe()),
        "decided when it was edited, not when it was due"
    );
}

pub async fn an_occurrence_that_ran_is_not_planned_again<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let (open, ended, fresh) = (at("07:00:00"), at("07:00:10"), at("07:00:20"));
    let mut first = install("a/b", None, Some(record(1, half_hour(open))));
    first.add = vec![open, ended];
    w.install(&first).await;
    w.confirm(&[sent(entry("a/b", open, 1), 1)]).await;
    f.store().settle(w.shard, &settlement(occurrence("a/b", ended), 1, RunState::Succeeded)).await.unwrap();
    assert_eq!(w.minute_tier().await, Vec::<String>::new());

    let placed = half_hour(open).unwrap();
    let again = step("a/b", 1, placed, &[open, ended, fresh], half_hour(fresh));
    assert_eq!(f.store().advance(w.shard, w.planner, &[again]).await.unwrap(), [true]);
    assert_eq!(w.minute_tier().await, ["a/b@2026-11-22T07:00:20Z#1"]);
    let mut edit = install("a/b", Some(1), Some(record(2, None)));
    edit.remove = vec![fresh];
    edit.add = vec![open, fresh];
    edit.add_unseen = vec![ended];
    w.install(&edit).await;
    assert_eq!(w.minute_tier().await, ["a/b@2026-11-22T07:00:20Z#2"]);
}

pub async fn a_new_job_is_planned_even_in_the_past_if_unseen<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let mut new = install("a/b", None, Some(record(1, None)));
    new.add = vec![at("05:00:00"), at("06:00:00"), at("06:00:00.001")];
    new.add_unseen = vec![at("05:30:00")];
    w.install(&new).await;
    let planned = ["a/b@2026-11-22T05:30:00Z#1", "a/b@2026-11-22T06:00:00.001Z#1"];
    assert_eq!(w.minute_tier().await, planned);
}

pub async fn waiting_jobs_come_in_order_of_tier_and_time<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    for (name, placed) in [
        ("a/late", half_hour(at("07:59:59.999"))),
        ("a/at-bound", half_hour(at("08:00:00"))),
        ("a/early", half_hour(at("06:10:00"))),
        ("a/old", half_hour("2025-01-01T00:00:00Z".parse().unwrap())),
        ("a/far", horizon(at("08:29:00"))),
        ("a/farther", horizon(at("08:30:00"))),
        ("a/first-far", horizon(at("05:00:00"))),
        ("a/done", None),
    ] {
        w.install(&install(name, None, Some(record(4, placed)))).await;
    }
    let waiting = f.store().waiting(w.shard, w.planner, at("08:00:00"), at("08:30:00"), 100).await.unwrap();
    let found = |name: &str, placed: Option<Placed>| Waiting {
        job: job(name),
        placed: placed.unwrap(),
        revision: Revision(4),
    };
    assert_eq!(
        waiting,
        [
            found("a/old", half_hour("2025-01-01T00:00:00Z".parse().unwrap())),
            found("a/early", half_hour(at("06:10:00"))),
            found("a/late", half_hour(at("07:59:59.999"))),
            found("a/first-far", horizon(at("05:00:00"))),
            found("a/far", horizon(at("08:29:00"))),
        ]
    );
    let again = f.store().waiting(w.shard, w.planner, at("08:00:00"), at("08:30:00"), 100).await.unwrap();
    assert_eq!(again, waiting, "waiting removes nothing that counts");
}

pub async fn waiting_is_limited<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    for (name, placed) in [
        ("a/a", half_hour(at("06:10:00"))),
        ("a/b", half_hour(at("06:10:00"))),
        ("a/a-b", half_hour(at("06:10:00"))),
        ("a/c", horizon(at("06:00:00"))),
        ("a/d", half_hour(at("06:40:00"))),
    ] {
        w.install(&install(name, None, Some(record(1, placed)))).await;
    }
    for limit in 1..=6 {
        let found =
            f.store().waiting(w.shard, w.planner, at("08:00:00"), at("08:00:00"), limit).await.unwrap();
        let names: Vec<_> = found.into_iter().map(|waiting| waiting.job.to_string()).collect();
        let all = ["a/a-b", "a/a", "a/b", "a/d", "a/c"];
        assert_eq!(names, all[..limit.min(5)], "limit {limit}");
    }
}

pub async fn advance_moves_a_job_through_the_tiers<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let (far, near, next) = (at("09:00:00"), at("09:00:00"), at("09:45:00"));
    w.install(&install("a/b", None, Some(record(1, horizon(far))))).await;
    let advance = async |step| f.store().advance(w.shard, w.planner, &[step]).await.unwrap();
    assert_eq!(advance(step("a/b", 1, horizon(far).unwrap(), &[], half_hour(near))).await, [true]);
    assert_eq!(w.members(BucketKind::Horizon).await, Vec::<String>::new());
    assert_eq!(w.members(BucketKind::HalfHour).await, ["a/b@2026-11-22T09:00:00Z#1"]);
    let placed = half_hour(near).unwrap();
    assert_eq!(advance(step("a/b", 1, placed, &[near, at("09:00:30")], half_hour(next))).await, [true]);
    assert_eq!(w.minute_tier().await, ["a/b@2026-11-22T09:00:00Z#1", "a/b@2026-11-22T09:00:30Z#1"]);
    assert_eq!(w.members(BucketKind::HalfHour).await, ["a/b@2026-11-22T09:45:00Z#1"]);
    let placed = half_hour(next).unwrap();
    assert_eq!(advance(step("a/b", 1, placed, &[next], None)).await, [true]);
    assert_eq!(w.members(BucketKind::HalfHour).await, Vec::<String>::new());
    assert_eq!(f.store().jobs(w.shard, &[job("a/b")]).await.unwrap(), [Some(record(1, None))]);
}

pub async fn advance_refuses_what_has_changed<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let due = at("07:10:00");
    w.install(&install("a/b", None, Some(record(2, half_hour(due))))).await;
    w.install(&install("a/c", None, Some(record(2, half_hour(due))))).await;
    let placed = half_hour(due).unwrap();
    let steps = [
        step("a/none", 2, placed, &[due], None),
        step("a/b", 1, placed, &[due], None),
        step("a/c", 2, placed, &[due], horizon(at("11:00:00"))),
    ];
    assert_eq!(f.store().advance(w.shard, w.planner, &steps).await.unwrap(), [false, false, true]);
    for other in [Placed { tier: Tier::Horizon, due_at: due }, half_hour(at("07:11:00")).unwrap()] {
        let moved = f.store().advance(w.shard, w.planner, &[step("a/b", 2, other, &[due], None)]).await;
        assert_eq!(moved.unwrap(), [false], "{other:?}");
    }
    let repeated = f.store().advance(w.shard, w.planner, &steps).await.unwrap();
    assert_eq!(repeated, [false, false, false], "a step that was carried out isn't carried out again");
    assert_eq!(w.minute_tier().await, ["a/c@2026-11-22T07:10:00Z#2"]);
    assert_eq!(w.members(BucketKind::HalfHour).await, ["a/b@2026-11-22T07:10:00Z#2"]);
}

pub async fn advance_takes_one_step_of_a_job<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let (first, second) = (at("07:10:00"), at("07:20:00"));
    w.install(&install("a/b", None, Some(record(1, half_hour(first))))).await;
    let steps = [
        step("a/b", 1, half_hour(first).unwrap(), &[first], half_hour(second)),
        step("a/b", 1, half_hour(second).unwrap(), &[second], None),
    ];
    assert_eq!(f.store().advance(w.shard, w.planner, &steps).await.unwrap(), [true, false]);
    assert_eq!(w.members(BucketKind::HalfHour).await, ["a/b@2026-11-22T07:20:00Z#1"]);
}

pub async fn advance_records_what_it_skips<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let (first, missed, ran) = (at("06:10:00"), at("06:20:00"), at("06:30:00"));
    let mut new = install("a/b", None, Some(record(1, half_hour(first))));
    new.add = vec![ran];
    w.install(&new).await;
    w.confirm(&[sent(entry("a/b", ran, 1), 1)]).await;
    let mut one = step("a/b", 1, half_hour(first).unwrap(), &[], None);
    let (policy, latest) =
        (SkipReason::Missed(MissedReason::PolicyNone), SkipReason::Missed(MissedReason::SupersededByLatest));
    one.skipped = vec![(first, policy.clone()), (missed, latest), (ran, policy.clone())];
    assert_eq!(f.store().advance(w.shard, w.planner, &[one]).await.unwrap(), [true]);
    let run = f.store().run(w.shard, &occurrence("a/b", first)).await.unwrap().unwrap();
    assert_eq!((run.state, run.revision, run.ended_at), (RunState::Skipped, Revision(1), Some(first)));
    assert_eq!(run.skip_reason.as_deref(), Some(policy.describe()));
    assert_eq!((run.last, run.published_at), (None, None));
    assert_eq!(w.state(&occurrence("a/b", missed)).await, Some(RunState::Skipped));
    assert_eq!(w.state(&occurrence("a/b", ran)).await, Some(RunState::Dispatched), "it has a record already");
}

pub async fn advance_carries_many_occurrences<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let start = at("07:00:00");
    let mut steps = Vec::new();
    for number in 0..30 {
        let name = format!("a/job-{number:02}");
        w.install(&install(&name, None, Some(record(1, half_hour(start))))).await;
        let seconds: Vec<_> = (0..60).map(|second| start.plus_ms(second * 1000)).collect();
        steps.push(step(&name, 1, half_hour(start).unwrap(), &seconds, half_hour(at("07:01:00"))));
    }
    let done = f.store().advance(w.shard, w.planner, &steps).await.unwrap();
    assert_eq!(done, vec![true; 30]);
    assert_eq!(w.minute_tier().await.len(), 1_800);
    assert_eq!(w.members(BucketKind::HalfHour).await.len(), 30);
    assert_eq!(f.store().advance(w.shard, w.planner, &[]).await.unwrap(), Vec::<bool>::new());
}

pub async fn buckets_show_the_plan<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let mut new = install("a/b", None, Some(record(1, half_hour(at("07:40:00")))));
    new.add = vec![at("07:01:00"), at("07:00:30"), at("07:00:10"), at("07:00:20")];
    w.install(&new).await;
    w.install(&install("a/c", None, Some(record(1, horizon(at("17:00:00")))))).await;
    let buckets = f.store().buckets(w.shard, 2).await.unwrap();
    let shown: Vec<_> = buckets
        .iter()
        .map(|bucket| (bucket.kind, bucket.key.as_str(), bucket.entries, bucket.first.len()))
        .collect();
    assert_eq!(
        shown,
        [
            (BucketKind::Minute, "ecron:{07}:minute:2026-11-22T07:00Z", 3, 2),
            (BucketKind::Minute, "ecron:{07}:minute:2026-11-22T07:01Z", 1, 1),
            (BucketKind::HalfHour, "ecron:{07}:half-hour:2026-11-22T07:30Z", 1, 1),
            (BucketKind::Horizon, "ecron:{07}:horizon", 1, 1),
        ]
    );
    assert_eq!(buckets[0].first[0], ("a/b@2026-11-22T07:00:10Z#1".into(), at("07:00:10")));
    assert_eq!(buckets[3].first, [("a/c".into(), at("17:00:00"))]);
}

pub async fn an_edit_is_in_force_once_the_shard_was_taken_again<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let in_force =
        async || f.store().in_force(w.shard, &job("a/b")).await.unwrap().map(|revision| revision.0);
    let take = async || f.store().take(w.shard, w.dispatcher, at("07:00:00"), 10).await.unwrap();
    assert_eq!(in_force().await, None);
    w.install(&install("a/b", None, Some(record(1, None)))).await;
    assert_eq!(in_force().await, Some(1), "there was none before");
    take().await;
    w.install(&install("a/b", Some(1), Some(record(2, None)))).await;
    f.pass(EDIT_IN_FORCE_AFTER).await;
    assert_eq!(in_force().await, Some(1), "a dispatcher may have taken one");
    take().await;
    assert_eq!(in_force().await, Some(2));
    w.install(&install("a/b", Some(2), Some(record(3, None)))).await;
    f.store().release(crate::lease::Role::Dispatcher, "node-a", &[w.shard]).await.unwrap();
    f.pass(EDIT_IN_FORCE_AFTER).await;
    assert_eq!(in_force().await, Some(3), "nobody dispatches");
}

pub async fn an_edit_is_in_force_once_executors_must_have_asked<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let in_force =
        async || f.store().in_force(w.shard, &job("a/b")).await.unwrap().map(|revision| revision.0);
    let take = async || f.store().take(w.shard, w.dispatcher, at("07:00:00"), 10).await.unwrap();
    w.install(&install("a/b", None, Some(record(1, None)))).await;
    w.install(&install("a/b", Some(1), Some(record(2, None)))).await;
    take().await;
    assert_eq!(in_force().await, Some(1), "an executor may have asked just before");
    w.install(&install("a/b", Some(2), Some(record(3, None)))).await;
    take().await;
    assert_eq!(in_force().await, Some(1), "nor was the one in between in force");
    f.pass(EDIT_IN_FORCE_AFTER).await;
    assert_eq!(in_force().await, Some(3));
}
