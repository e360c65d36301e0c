//! Cancelling: before a run is due, while it waits, on its way, published.

use model::id::Revision;
use model::run::{RunState, WaitsFor};
use model::time::Timestamp;

use super::world::{at, entry, install, job, occurrence, record, sent, settlement};
use super::{Fixture, World};
use crate::control::{AskedFor, Trigger};
use crate::ledger::{CancelMark, CancelOutcome, Claim, Park, Wait};
use crate::plan::{Advance, JobRecord};
use crate::{ControlStore, LedgerStore, PlanStore, StatsStore};

fn mark() -> CancelMark {
    CancelMark { at: at("07:10:00"), by: "ada@host-1".into(), reason: Some("wrong figures".into()) }
}

impl<'a, F: Fixture> World<'a, F> {
    /// With a job of which one run may be under way, and its occurrences.
    async fn begin_limited(fixture: &'a F, dues: &[Timestamp]) -> Self {
        let w = World::begun(fixture).await;
        let limited = JobRecord { overlap: "queue-all 1".parse().ok(), ..record(1, None) };
        let mut new = install("a/b", None, Some(limited));
        new.add_unseen = dues.to_vec();
        w.install(&new).await;
        w
    }

    async fn cancel(&self, due_at: Timestamp, named: bool) -> CancelOutcome {
        let run = occurrence("a/b", due_at);
        self.store().cancel(self.shard, &run, named, &mark(), false).await.unwrap()
    }

    async fn taken(&self, until: &str) {
        self.store().take(self.shard, self.dispatcher, at(until), 100).await.unwrap();
    }

    async fn is_cancelled(&self, due_at: Timestamp) {
        let run = self.store().run(self.shard, &occurrence("a/b", due_at)).await.unwrap().unwrap();
        assert_eq!((run.state, run.waits_for), (RunState::Cancelled, None));
        assert_eq!((run.cancel, run.ended_at, run.last), (Some(mark()), Some(mark().at), None));
    }
}

pub async fn a_future_run_is_withdrawn_for_good<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let (near, far) = (at("07:00:00"), at("07:50:00"));
    let mut new = install("a/b", None, Some(record(1, super::world::half_hour(far))));
    new.add_unseen = vec![near];
    w.install(&new).await;
    assert_eq!(w.cancel(near, true).await, CancelOutcome::Cancelled);
    assert_eq!(w.cancel(far, true).await, CancelOutcome::Cancelled);
    assert_eq!(w.minute_tier().await, Vec::<String>::new());
    w.is_cancelled(near).await;
    w.is_cancelled(far).await;
    assert_eq!(w.cancel(far, true).await, CancelOutcome::Ended(RunState::Cancelled));
    let step = Advance {
        job: job("a/b"),
        revision: Revision(1),
        from: super::world::half_hour(far).unwrap(),
        minute: vec![far],
        next: None,
        skipped: vec![],
    };
    f.store().advance(w.shard, w.planner, &[step]).await.unwrap();
    let mut edit = install("a/b", Some(1), Some(record(2, None)));
    edit.add = vec![near, far];
    w.install(&edit).await;
    assert_eq!(w.minute_tier().await, Vec::<String>::new(), "nobody puts them in again");
    assert_eq!(f.store().runs(w.shard, &job("a/b"), 10).await.unwrap().len(), 2);
    w.install(&install("a/b", Some(2), None)).await;
    assert_eq!(f.store().runs(w.shard, &job("a/b"), 10).await.unwrap().len(), 0, "gone with its job");
}

pub async fn a_withdrawn_run_outlives_its_jobs_history<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let history = model::spec::HistoryLimits { succeeded: 0, failed: 0, skipped: 0 };
    w.install(&install("a/b", None, Some(JobRecord { history, ..record(1, None) }))).await;
    assert_eq!(w.cancel(at("07:00:00"), true).await, CancelOutcome::Cancelled);
    let other = settlement(occurrence("a/b", at("06:30:00")), 1, RunState::DeadLettered);
    f.store().settle(w.shard, &other).await.unwrap();
    w.is_cancelled(at("07:00:00")).await;
    assert_eq!(f.store().runs(w.shard, &job("a/b"), 10).await.unwrap().len(), 1);
}

pub async fn a_run_that_nobody_named_is_unknown<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let (triggered, other) = (at("07:00:00.001"), at("07:00:01"));
    assert_eq!(w.cancel(other, true).await, CancelOutcome::Unknown, "no such job");
    w.planned("a/b", 1, &[triggered]).await;
    assert_eq!(w.cancel(other, false).await, CancelOutcome::Unknown);
    assert_eq!(w.cancel(triggered, false).await, CancelOutcome::Cancelled, "it is planned");
    w.taken("07:00:02").await;
    assert_eq!(w.cancel(other, true).await, CancelOutcome::Unknown, "long past");
}

pub async fn a_waiting_run_is_cancelled_at_once<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let dues = [at("07:00:00"), at("07:00:10"), at("07:00:20"), at("07:00:30")];
    let limited = JobRecord { overlap: "queue-all 2".parse().ok(), ..record(1, None) };
    let mut new = install("a/b", None, Some(limited));
    new.add_unseen = dues.to_vec();
    w.install(&new).await;
    w.taken("07:30:00").await;
    let claim = Claim { entry: entry("a/b", dues[0], 1), revision: Revision(1), triggered: false };
    f.store().claim(w.shard, w.dispatcher, &[claim]).await.unwrap();
    let park = |due, wait| Park { entry: entry("a/b", due, 1), wait, triggered: false, at: due };
    let overlap = Wait::Overlap { newest_only: false };
    let parks = [park(dues[1], Wait::Queue), park(dues[2], overlap), park(dues[3], overlap)];
    assert_eq!(f.store().park(w.shard, w.dispatcher, &parks).await, Ok(vec![true; 3]));
    assert_eq!(w.cancel(dues[2], true).await, CancelOutcome::Cancelled);
    assert_eq!(w.cancel(dues[1], true).await, CancelOutcome::CancelledAndReleased, "it was under way");
    assert_eq!(w.cancel(dues[3], true).await, CancelOutcome::Cancelled, "though it was released just now");
    for due in &dues[1..] {
        w.is_cancelled(*due).await;
    }
    assert_eq!(w.minute_tier().await, ["a/b@2026-11-22T07:00:00Z#1"]);
    assert_eq!(f.store().held(w.shard, 0, 10).await, Ok(vec![]));
}

pub async fn a_run_on_its_way_is_only_marked<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let due = at("07:00:00");
    w.planned("a/b", 1, &[due]).await;
    w.taken("07:00:00").await;
    assert_eq!(w.cancel(due, true).await, CancelOutcome::Requested);
    let run = f.store().run(w.shard, &occurrence("a/b", due)).await.unwrap().unwrap();
    assert_eq!((run.state, run.waits_for), (RunState::Waiting, Some(WaitsFor::Dispatch)));
    assert_eq!(f.store().cancelling(w.shard, at("09:00:00"), 10).await.unwrap().len(), 0);
    w.confirm(&[sent(entry("a/b", due, 1), 7)]).await;
    let taken = f.store().take(w.shard, w.dispatcher, at("07:00:00"), 10).await.unwrap();
    assert_eq!(taken.cancels_at, Some(Timestamp::from_ms(0)), "at once");
    let run = f.store().cancelling(w.shard, due, 10).await.unwrap().remove(0);
    assert_eq!((run.sequence, run.cancel), (7, Some(mark())));
}

pub async fn a_limited_run_that_was_not_claimed_is_cancelled_at_once<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let due = at("07:00:00");
    let mut new = install("a/b", None, Some(JobRecord { overlap: "skip 1".parse().ok(), ..record(1, None) }));
    new.add_unseen = vec![due];
    w.install(&new).await;
    w.taken("07:00:00").await;
    assert_eq!(w.cancel(due, true).await, CancelOutcome::Cancelled);
    w.is_cancelled(due).await;
    let claim = Claim { entry: entry("a/b", due, 1), revision: Revision(1), triggered: false };
    assert_eq!(f.store().claim(w.shard, w.dispatcher, &[claim]).await, Ok(vec![false]));
}

pub async fn a_published_run_is_marked_and_comes_up<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let due = at("07:00:00");
    let run = w.published("a/b", due).await;
    assert_eq!(w.cancel(due, true).await, CancelOutcome::Requested);
    let later = CancelMark { at: at("07:20:00"), by: "bob".into(), reason: None };
    let again = f.store().cancel(w.shard, &run, true, &later, false).await;
    assert_eq!(again, Ok(CancelOutcome::Requested), "the first mark stays");
    let cancelling = async |now| f.store().cancelling(w.shard, at(now), 10).await.unwrap();
    assert_eq!(cancelling("07:09:59").await, []);
    let found = cancelling("07:10:00").await;
    assert_eq!((found.len(), &found[0].cancel), (1, &Some(mark())));
    let stale = f.store().cancel_later(w.shard, crate::lease::Epoch(1), &run, at("07:11:00")).await;
    assert_eq!(stale, Err(crate::StoreError::Fenced));
    f.store().cancel_later(w.shard, w.dispatcher, &run, at("07:11:00")).await.unwrap();
    assert_eq!(cancelling("07:10:59").await, []);
    assert_eq!(cancelling("07:11:00").await.len(), 1);
    assert_eq!(w.sent_ids().await.len(), 1, "it is still under way");
    f.store().settle(w.shard, &settlement(run.clone(), 1, RunState::Cancelled)).await.unwrap();
    assert_eq!(cancelling("09:00:00").await, []);
    f.store().cancel_later(w.shard, w.dispatcher, &run, at("07:11:00")).await.unwrap();
    assert_eq!(cancelling("09:00:00").await, [], "it doesn't come back");
    let record = f.store().run(w.shard, &run).await.unwrap().unwrap();
    assert_eq!(record.cancel, Some(mark()));
    assert_eq!(w.cancel(due, true).await, CancelOutcome::Ended(RunState::Cancelled));
}

pub async fn a_published_run_can_be_ended_by_force<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let due = at("07:00:00");
    let run = w.published("a/b", due).await;
    w.cancel(due, true).await;
    let force = CancelMark { at: at("07:20:00"), by: "ecron".into(), reason: None };
    let ended = f.store().cancel(w.shard, &run, true, &force, true).await;
    assert_eq!(ended, Ok(CancelOutcome::Cancelled));
    let record = f.store().run(w.shard, &run).await.unwrap().unwrap();
    assert_eq!((record.state, record.ended_at), (RunState::Cancelled, Some(at("07:20:00"))));
    assert_eq!(record.cancel, Some(mark()));
    assert_eq!(w.sent_ids().await, Vec::<String>::new());
    assert_eq!(f.store().cancelling(w.shard, at("09:00:00"), 10).await, Ok(vec![]));
    let report = settlement(run, 1, RunState::Succeeded);
    assert_eq!(f.store().settle(w.shard, &report).await, Ok(crate::ledger::Settled::AlreadyEnded));
}

pub async fn what_is_cancelled_at_once_is_counted<F: Fixture>(f: &F) {
    let w = World::begin_limited(f, &[at("07:00:00"), at("07:00:10"), at("07:30:00")]).await;
    let cancelled = async || f.store().stats(w.shard, &job("a/b")).await.unwrap().cancelled;
    assert_eq!(w.cancel(at("07:30:00"), true).await, CancelOutcome::Cancelled, "long before it is due");
    assert_eq!(cancelled().await, 1);
    w.taken("07:10:00").await;
    let claim = Claim { entry: entry("a/b", at("07:00:00"), 1), revision: Revision(1), triggered: false };
    assert_eq!(f.store().claim(w.shard, w.dispatcher, &[claim]).await, Ok(vec![true]));
    assert_eq!(w.cancel(at("07:00:10"), true).await, CancelOutcome::Cancelled, "before it was claimed");
    assert_eq!(cancelled().await, 2);
    assert_eq!(w.cancel(at("07:00:00"), true).await, CancelOutcome::Requested);
    assert_eq!(cancelled().await, 2, "it hasn't ended");
    w.confirm(&[sent(entry("a/b", at("07:00:00"), 1), 1)]).await;
    let run = occurrence("a/b", at("07:00:00"));
    for ended in [CancelOutcome::Cancelled, CancelOutcome::Ended(RunState::Cancelled)] {
        assert_eq!(f.store().cancel(w.shard, &run, true, &mark(), true).await, Ok(ended));
    }
    let report = settlement(run, 1, RunState::Cancelled);
    f.store().settle(w.shard, &report).await.unwrap();
    let stats = f.store().stats(w.shard, &job("a/b")).await.unwrap();
    assert_eq!(
        (stats.cancelled, stats.lateness.total(), stats.duration.total()),
        (3, 0, 0),
        "by force, once"
    );
}

pub async fn what_is_cancelled_at_once_leaves_nothing_behind<F: Fixture>(f: &F) {
    use model::backfill::RunEnd;
    let w = World::begin_limited(f, &[]).await;
    let triggered = at("07:00:00.250");
    let ask = Trigger { job: job("a/b"), due_at: triggered, key: None, payload: Some("7".into()) };
    f.store().trigger(w.shard, &ask).await.unwrap();
    assert_eq!(w.cancel(triggered, false).await, CancelOutcome::Cancelled);
    let asked = f.store().asked_for(w.shard, &[occurrence("a/b", triggered)]).await.unwrap();
    assert_eq!(asked, [AskedFor::default()]);
    let backfilled = at("05:00:00");
    let backfill = "a/june".parse().unwrap();
    f.store().start_backfilled(w.shard, w.planner, &backfill, &job("a/b"), &[backfilled]).await.unwrap();
    assert_eq!(w.cancel(backfilled, true).await, CancelOutcome::Cancelled);
    let runs = f.store().backfill_runs(w.shard).await.unwrap();
    assert_eq!((runs.len(), runs[0].end), (1, Some(RunEnd::Failed)), "its backfill counts it");
}

pub async fn runs_under_way_are_listed<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let dues = [at("07:00:10"), at("07:00:00.500"), at("07:00:00")];
    w.planned("a/b", 1, &dues).await;
    w.published("a/b-c", at("07:00:00")).await;
    w.confirm(&dues.map(|due| sent(entry("a/b", due, 1), 1))).await;
    let ended = settlement(occurrence("a/b", dues[0]), 1, RunState::Succeeded);
    f.store().settle(w.shard, &ended).await.unwrap();
    let under_way = f.store().under_way(w.shard, &job("a/b")).await.unwrap();
    assert_eq!(under_way, [occurrence("a/b", dues[2]), occurrence("a/b", dues[1])]);
}
