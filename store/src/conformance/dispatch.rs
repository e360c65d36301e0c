//! From the minute tier to `sent`: take, missed, confirm, skip, drop.

use model::id::Revision;
use model::run::{RunState, SkipReason};
use model::time::Timestamp;

use super::world::{at, entry, install, occurrence, record, sent, settlement, skip};
use super::{Fixture, World};
use crate::ledger::{LEDGER_BATCH_MAX, Sent, Settled, Taken};
use crate::{LedgerStore, PlanStore};

async fn take<F: Fixture>(w: &World<'_, F>, until: Timestamp, limit: usize) -> Taken {
    w.store().take(w.shard, w.dispatcher, until, limit).await.unwrap()
}

fn ids(taken: &Taken) -> Vec<String> {
    taken.entries.iter().map(|taken| taken.entry.to_string()).collect()
}

pub async fn nothing_is_taken_from_a_shard_without_a_cursor<F: Fixture>(f: &F) {
    let w = World::held(f).await;
    w.planned("a/b", 1, &[at("06:30:00")]).await;
    let taken = take(&w, at("07:00:00"), 10).await;
    assert!(taken.now > Timestamp::from_ms(0));
    assert_eq!(taken, Taken { now: taken.now, ..Taken::default() });
    assert_eq!(f.store().cursor(w.shard).await.unwrap(), None);
}

pub async fn due_entries_come_in_order_and_stay<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    w.planned("a/b", 1, &[at("07:01:00"), at("07:00:00.001"), at("07:00:00"), at("07:01:01")]).await;
    w.planned("a/a", 1, &[at("07:00:00")]).await;
    let taken = take(&w, at("07:01:00"), 10).await;
    let due = [
        "a/a@2026-11-22T07:00:00Z#1",
        "a/b@2026-11-22T07:00:00Z#1",
        "a/b@2026-11-22T07:00:00.001Z#1",
        "a/b@2026-11-22T07:01:00Z#1",
    ];
    assert_eq!(ids(&taken), due);
    assert_eq!((taken.taken_before, taken.taken_until), (at("06:00:00"), at("07:01:00")));
    assert_eq!(taken.next_due, Some(at("07:01:01")));
    let again = take(&w, at("07:01:00"), 10).await;
    assert_eq!((ids(&again), again.taken_before), (ids(&taken), at("07:01:00")), "nothing was removed");
    assert_eq!(f.store().cursor(w.shard).await.unwrap().unwrap().taken_until, at("07:01:00"));
}

pub async fn take_stops_before_what_is_not_planned_yet<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    w.planned("a/b", 1, &[at("07:59:59.999"), at("08:00:00"), at("08:00:01")]).await;
    let taken = take(&w, at("09:00:00"), 10).await;
    assert_eq!(ids(&taken), ["a/b@2026-11-22T07:59:59.999Z#1"]);
    assert_eq!((taken.taken_until, taken.next_due), (at("07:59:59.999"), Some(at("08:00:00"))));
    f.store().progress(w.shard, w.planner, Some(at("08:01:00")), None).await.unwrap();
    let taken = take(&w, at("08:00:00"), 10).await;
    assert_eq!((taken.taken_before, taken.entries.len()), (at("07:59:59.999"), 2));
    assert_eq!(taken.taken_until, at("08:00:00"));
}

pub async fn take_stops_at_its_limit<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let dues: Vec<_> = (0..5).map(|second| at("07:00:58").plus_ms(second * 1000)).collect();
    w.planned("a/b", 1, &dues).await;
    for limit in 1..5 {
        let last = dues[limit - 1];
        let taken = take(&w, at("07:30:00"), limit).await;
        assert_eq!((taken.entries.len(), taken.taken_until), (limit, last), "limit {limit}");
        assert_eq!(taken.next_due, Some(dues[limit]));
    }
    let taken = take(&w, at("07:30:00"), 5).await;
    assert_eq!((taken.entries.len(), taken.taken_until, taken.next_due), (5, at("07:30:00"), None));
}

pub async fn many_at_one_instant_are_taken_in_parts<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let due = at("07:00:00");
    for number in 0..7 {
        w.planned(&format!("a/job-{number}"), 1, &[due]).await;
    }
    let first = take(&w, due, 4).await;
    assert_eq!((first.entries.len(), first.taken_until), (4, due));
    let published: Vec<_> = first.entries.iter().map(|taken| sent(taken.entry.clone(), 1)).collect();
    w.confirm(&published).await;
    let second = take(&w, due, 4).await;
    assert_eq!(second.entries.len(), 3);
    assert!(second.entries.iter().all(|taken| !first.entries.contains(taken)));
}

pub async fn the_taken_mark_never_goes_back<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    w.planned("a/b", 1, &[at("06:30:00"), at("06:40:00"), at("07:10:00")]).await;
    take(&w, at("07:00:00"), 10).await;
    let earlier = take(&w, at("06:35:00"), 10).await;
    assert_eq!(ids(&earlier), ["a/b@2026-11-22T06:30:00Z#1"]);
    assert_eq!((earlier.taken_before, earlier.taken_until), (at("07:00:00"), at("07:00:00")));
    assert_eq!(earlier.next_due, Some(at("07:10:00")), "after the mark, not after what was asked for");
    let cut = take(&w, at("07:00:00"), 1).await;
    assert_eq!((cut.entries.len(), cut.taken_until), (1, at("07:00:00")));
}

pub async fn old_minutes_are_found<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let old: Timestamp = "2025-03-01T00:00:30Z".parse().unwrap();
    w.planned("a/b", 1, &[old, at("07:00:00")]).await;
    let taken = take(&w, at("07:00:00"), 10).await;
    assert_eq!(ids(&taken), ["a/b@2025-03-01T00:00:30Z#1", "a/b@2026-11-22T07:00:00Z#1"]);
}

pub async fn take_tells_the_jobs_present_revision<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    for name in ["a/same", "a/edited", "a/deleted"] {
        w.planned(name, 1, &[at("07:00:00")]).await;
    }
    w.install(&install("a/edited", Some(1), Some(record(2, None)))).await;
    w.install(&install("a/deleted", Some(1), None)).await;
    let taken = take(&w, at("07:00:00"), 10).await;
    let revisions: Vec<_> = taken
        .entries
        .iter()
        .map(|taken| (taken.entry.occurrence.job.name.as_str().to_string(), taken.job_revision))
        .collect();
    let expected = [("deleted", None), ("edited", Some(Revision(2))), ("same", Some(Revision(1)))];
    assert_eq!(revisions, expected.map(|(name, revision)| (name.to_string(), revision)));
}

pub async fn missed_entries_are_looked_at_only<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    w.planned("a/b", 1, &[at("06:00:00"), at("06:00:01"), at("06:30:00"), at("07:00:00"), at("07:00:01")])
        .await;
    let missed = f.store().missed(w.shard, w.dispatcher, at("06:00:00"), at("07:00:00"), 10).await.unwrap();
    let ids: Vec<_> = missed.iter().map(|taken| taken.entry.to_string()).collect();
    assert_eq!(
        ids,
        ["a/b@2026-11-22T06:00:01Z#1", "a/b@2026-11-22T06:30:00Z#1", "a/b@2026-11-22T07:00:00Z#1"]
    );
    assert!(missed.iter().all(|taken| taken.job_revision == Some(Revision(1))));
    assert_eq!(f.store().cursor(w.shard).await.unwrap(), Some(w.cursor_at("06:00:00")));
    let none = f.store().missed(w.shard, w.dispatcher, at("07:00:01"), at("07:30:00"), 10).await;
    assert_eq!(none, Ok(Vec::new()));
}

pub async fn missed_entries_of_one_instant_come_whole<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let (early, due, late) = (at("06:10:00"), at("06:10:01"), at("06:10:02"));
    w.planned("a/early", 1, &[early]).await;
    for number in 0..12 {
        w.planned(&format!("a/job-{number:02}"), 1, &[due]).await;
    }
    w.planned("a/late", 1, &[late]).await;
    let missed = async |limit| {
        f.store().missed(w.shard, w.dispatcher, at("06:00:00"), at("07:00:00"), limit).await.unwrap().len()
    };
    for (limit, found) in [(1, 1), (2, 13), (5, 13), (13, 13), (14, 14), (100, 14)] {
        assert_eq!(missed(limit).await, found, "limit {limit}");
    }
}

pub async fn confirm_moves_an_entry_into_sent<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let due = at("07:00:00");
    w.planned("a/b", 1, &[due, at("07:00:30")]).await;
    let published = Sent {
        entry: entry("a/b", due, 1),
        sequence: 42,
        published_at: at("07:00:00.004"),
        worry_at: at("07:10:00"),
        republished: 0,
    };
    w.confirm(std::slice::from_ref(&published)).await;
    w.confirm(&[published]).await;
    assert_eq!(w.minute_tier().await, ["a/b@2026-11-22T07:00:30Z#1"]);
    let run = f.store().run(w.shard, &occurrence("a/b", due)).await.unwrap().unwrap();
    assert_eq!((run.state, run.revision, run.generation.0), (RunState::Dispatched, Revision(1), 0));
    assert_eq!((run.sequence, run.published_at), (Some(42), Some(at("07:00:00.004"))));
    assert_eq!((run.epoch, run.last, run.ended_at), (Some(w.dispatcher), None, None));
    let sent = crate::Inspect::sent(f.store(), w.shard, 10).await.unwrap();
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].sequence, sent[0].worry_at, sent[0].republished), (42, at("07:10:00"), 0));
}

pub async fn confirm_after_settle_changes_nothing<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let due = at("07:00:00");
    w.planned("a/b", 1, &[due]).await;
    let end = settlement(occurrence("a/b", due), 1, RunState::Succeeded);
    assert_eq!(f.store().settle(w.shard, &end).await, Ok(Settled::Recorded));
    assert_eq!(w.minute_tier().await, Vec::<String>::new(), "a run that ended isn't published again");
    w.confirm(&[sent(entry("a/b", due, 1), 9)]).await;
    assert_eq!(w.state(&occurrence("a/b", due)).await, Some(RunState::Succeeded));
    assert_eq!(w.sent_ids().await, Vec::<String>::new());
}

pub async fn settle_after_confirm_ends_the_run<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let run = w.published("a/b", at("07:00:00")).await;
    assert_eq!(w.sent_ids().await, [run.to_string()]);
    let end = settlement(run.clone(), 1, RunState::Succeeded);
    assert_eq!(f.store().settle(w.shard, &end).await, Ok(Settled::Recorded));
    assert_eq!(w.sent_ids().await, Vec::<String>::new());
    let record = f.store().run(w.shard, &run).await.unwrap().unwrap();
    assert_eq!((record.state, record.sequence), (RunState::Succeeded, Some(11)));
    assert_eq!(record.last, Some(end.last));
    assert_eq!((record.executor, record.output), (Some("worker-1".into()), Some("output".into())));
    assert_eq!(record.ended_at, Some(end.settled_at));
}

pub async fn confirm_of_the_same_occurrence_under_another_revision_only_clears_it<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let (due, other) = (at("07:00:00"), at("07:00:10"));
    w.planned("a/b", 1, &[due, other]).await;
    let mut edit = install("a/b", Some(1), Some(record(2, None)));
    edit.add_unseen = vec![due, other];
    w.install(&edit).await;
    assert_eq!(w.minute_tier().await.len(), 4);
    // The run of the old revision is published and ends; the entry of the new one goes with it.
    w.confirm(&[sent(entry("a/b", due, 1), 1)]).await;
    let run = occurrence("a/b", due);
    f.store().settle(w.shard, &settlement(run.clone(), 1, RunState::Succeeded)).await.unwrap();
    assert_eq!(w.minute_tier().await.len(), 2, "both entries of the ended run are gone");
    // Here the new one is confirmed while the old one is open.
    w.confirm(&[sent(entry("a/b", other, 1), 2), sent(entry("a/b", other, 2), 2)]).await;
    assert_eq!(w.minute_tier().await, Vec::<String>::new());
    assert_eq!(w.sent_ids().await, ["a/b@2026-11-22T07:00:10Z"]);
    let record = f.store().run(w.shard, &occurrence("a/b", other)).await.unwrap().unwrap();
    assert_eq!(record.revision, Revision(1), "what was published first");
}

pub async fn a_repair_updates_what_was_sent<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let run = w.published("a/b", at("07:00:00")).await;
    let mut repair = sent(entry("a/b", at("07:00:00"), 1), 77);
    repair.republished = 2;
    repair.published_at = at("07:30:00");
    repair.worry_at = at("07:40:00");
    w.confirm(&[repair]).await;
    let sent = crate::Inspect::sent(f.store(), w.shard, 10).await.unwrap();
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].sequence, sent[0].worry_at, sent[0].republished), (77, at("07:40:00"), 2));
    assert_eq!(f.store().run(w.shard, &run).await.unwrap().unwrap().published_at, Some(at("07:30:00")));
}

pub async fn an_older_repair_changes_nothing<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    w.published("a/b", at("07:00:00")).await;
    let repair = |number, sequence| {
        let mut repair = sent(entry("a/b", at("07:00:00"), 1), sequence);
        repair.republished = number;
        repair
    };
    w.confirm(&[repair(2, 77)]).await;
    w.confirm(&[repair(1, 66), repair(0, 11)]).await;
    let sent = crate::Inspect::sent(f.store(), w.shard, 10).await.unwrap();
    assert_eq!((sent[0].sequence, sent[0].republished), (77, 2));
}

pub async fn skipped_entries_are_recorded_with_a_reason<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let due = at("07:00:00");
    w.planned("a/b", 1, &[due]).await;
    let skipped = skip(entry("a/b", due, 1), SkipReason::StartingDeadline);
    f.store().skip(w.shard, w.dispatcher, std::slice::from_ref(&skipped)).await.unwrap();
    f.store().skip(w.shard, w.dispatcher, std::slice::from_ref(&skipped)).await.unwrap();
    assert_eq!(w.minute_tier().await, Vec::<String>::new());
    let run = f.store().run(w.shard, &occurrence("a/b", due)).await.unwrap().unwrap();
    assert_eq!((run.state, run.ended_at), (RunState::Skipped, Some(skipped.at)));
    assert_eq!(run.skip_reason.as_deref(), Some(SkipReason::StartingDeadline.describe()));
    assert_eq!(f.store().runs(w.shard, &run.occurrence.job, 10).await.unwrap().len(), 1);
}

pub async fn skip_leaves_others_alone<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let (open, absent) = (at("07:00:00"), at("07:00:10"));
    w.planned("a/b", 1, &[open]).await;
    let mut edit = install("a/b", Some(1), Some(record(2, None)));
    edit.add_unseen = vec![open];
    w.install(&edit).await;
    w.confirm(&[sent(entry("a/b", open, 1), 1)]).await;
    let skips = [
        skip(entry("a/b", open, 2), SkipReason::Superseded),
        skip(entry("a/b", absent, 2), SkipReason::Superseded),
    ];
    f.store().skip(w.shard, w.dispatcher, &skips).await.unwrap();
    assert_eq!(w.minute_tier().await, Vec::<String>::new(), "the entry goes");
    assert_eq!(w.state(&occurrence("a/b", open)).await, Some(RunState::Dispatched), "its run stays");
    assert_eq!(w.state(&occurrence("a/b", absent)).await, None, "an entry that isn't there has no run");
}

pub async fn dropped_entries_leave_no_record<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let dues = [at("07:00:00"), at("07:01:00"), at("07:02:00")];
    w.planned("a/b", 1, &dues).await;
    let entries = [entry("a/b", dues[0], 1), entry("a/b", dues[1], 1), entry("a/none", dues[2], 1)];
    f.store().drop_entries(w.shard, w.dispatcher, &entries).await.unwrap();
    assert_eq!(w.minute_tier().await, ["a/b@2026-11-22T07:02:00Z#1"]);
    assert_eq!(w.state(&occurrence("a/b", dues[0])).await, None);
    f.store().drop_entries(w.shard, w.dispatcher, &[]).await.unwrap();
}

pub async fn large_batches_are_carried_out<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let dues: Vec<_> = (0..1_200).map(|number| at("07:00:00").plus_ms(number * 100)).collect();
    w.planned("a/b", 1, &dues).await;
    let taken = take(&w, at("07:30:00"), 10_000).await;
    assert_eq!(taken.entries.len(), LEDGER_BATCH_MAX, "however much is asked for");
    let published: Vec<_> = dues.iter().map(|due| sent(entry("a/b", *due, 1), 1)).collect();
    w.confirm(&published).await;
    assert_eq!(w.minute_tier().await, Vec::<String>::new());
    let ends: Vec<_> =
        dues.iter().map(|due| settlement(occurrence("a/b", *due), 1, RunState::Succeeded)).collect();
    let settled = f.store().settle_all(w.shard, &ends).await.unwrap();
    assert_eq!(settled, vec![Settled::Recorded; 1_200]);
    assert_eq!(w.sent_ids().await, Vec::<String>::new());
}
