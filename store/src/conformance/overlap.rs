//! Runs that wait: for an earlier run of their job, for their queue, or to be published.

use model::dispatch::Admission;
use model::id::{Occurrence, Revision};
use model::overlap::Standing;
use model::run::{RunState, SkipReason, WaitsFor};
use model::time::Timestamp;

use super::world::{at, entry, install, job, occurrence, record, sent, settlement, skip};
use super::{Fixture, World};
use crate::LedgerStore;
use crate::ledger::{Claim, Park, RunRecord, Settled, TakenEntry, Wait};
use crate::plan::JobRecord;

fn limited(revision: u64, rule: &str) -> JobRecord {
    JobRecord { overlap: Some(rule.parse().unwrap()), ..record(revision, None) }
}

/// Job `a/b` under a rule, with these occurrences in the minute tier.
async fn begun<'a, F: Fixture>(f: &'a F, rule: &str, dues: &[Timestamp]) -> World<'a, F> {
    let w = World::begun(f).await;
    let mut new = install("a/b", None, Some(limited(1, rule)));
    new.add_unseen = dues.to_vec();
    w.install(&new).await;
    w
}

fn claim(due_at: Timestamp) -> Claim {
    Claim { entry: entry("a/b", due_at, 1), revision: Revision(1), triggered: false }
}

fn park(due_at: Timestamp) -> Park {
    let wait = Wait::Overlap { newest_only: false };
    Park { entry: entry("a/b", due_at, 1), wait, triggered: false, at: at("07:30:00") }
}

fn run(due_at: Timestamp) -> Occurrence {
    occurrence("a/b", due_at)
}

const TIMES: [&str; 5] = ["07:00:00", "07:00:10", "07:00:20", "07:00:30", "07:01:40"];

fn dues() -> [Timestamp; 5] {
    TIMES.map(at)
}

impl<F: Fixture> World<'_, F> {
    async fn claim(&self, claims: &[Claim]) -> Vec<bool> {
        self.store().claim(self.shard, self.dispatcher, claims).await.unwrap()
    }

    async fn park(&self, parks: &[Park]) -> Vec<bool> {
        self.store().park(self.shard, self.dispatcher, parks).await.unwrap()
    }

    async fn take_all(&self) -> Vec<TakenEntry> {
        self.store().take(self.shard, self.dispatcher, at("07:30:00"), 100).await.unwrap().entries
    }

    /// Claims and publishes one.
    async fn start(&self, due_at: Timestamp) {
        assert_eq!(self.claim(&[claim(due_at)]).await, [true]);
        self.confirm(&[sent(entry("a/b", due_at, 1), 7)]).await;
    }

    async fn end(&self, due_at: Timestamp) -> Settled {
        let end = settlement(run(due_at), 1, RunState::Succeeded);
        self.store().settle(self.shard, &end).await.unwrap()
    }

    async fn record(&self, due_at: Timestamp) -> RunRecord {
        self.store().run(self.shard, &run(due_at)).await.unwrap().unwrap()
    }
}

pub async fn a_claimed_run_counts_and_is_known_again<F: Fixture>(f: &F) {
    let [one, two, ..] = dues();
    let w = begun(f, "skip 1", &[one, two]).await;
    let fresh = |taken: &TakenEntry| (taken.admission, taken.overlap);
    let nobody = Some(Standing { active: 0, waiting: 0 });
    let taken = w.take_all().await;
    assert_eq!(taken.iter().map(fresh).collect::<Vec<_>>(), [(Admission::Fresh, nobody); 2]);
    let asked_for = Claim { triggered: true, ..claim(one) };
    assert_eq!(w.claim(&[asked_for]).await, [true]);
    let record = w.record(one).await;
    assert_eq!((record.state, record.waits_for), (RunState::Waiting, Some(WaitsFor::Dispatch)));
    let taken = w.take_all().await;
    let under_way = Some(Standing { active: 1, waiting: 0 });
    assert_eq!(fresh(&taken[0]), (Admission::Claimed { triggered: true }, under_way));
    assert_eq!(fresh(&taken[1]), (Admission::Fresh, under_way));
    assert_eq!(w.claim(&[claim(one)]).await, [true], "again");
    w.confirm(&[sent(entry("a/b", one, 1), 7)]).await;
    let record = w.record(one).await;
    assert_eq!((record.state, record.waits_for, record.triggered), (RunState::Dispatched, None, true));
    assert_eq!(w.sent_ids().await, [run(one).to_string()]);
    assert_eq!(w.take_all().await[0].overlap, under_way);
    assert_eq!(w.end(one).await, Settled::Recorded);
    assert_eq!(w.take_all().await[0].overlap, nobody);
}

pub async fn no_more_are_claimed_than_may_be_under_way<F: Fixture>(f: &F) {
    let dues = dues();
    let w = begun(f, "queue-all 2", &dues).await;
    // Another job's runs don't count, even if its name begins alike.
    w.published("a/b-c", dues[0]).await;
    w.published("a/a", dues[0]).await;
    let claims = dues.map(claim);
    assert_eq!(w.claim(&claims).await, [true, true, false, false, false]);
    assert_eq!(w.claim(&claims).await, [true, true, false, false, false]);
    w.confirm(&[sent(entry("a/b", dues[0], 1), 7)]).await;
    w.end(dues[0]).await;
    assert_eq!(w.claim(&claims).await, [false, true, true, false, false]);
    assert_eq!(w.minute_tier().await.len(), 4, "nothing left it but what ended");
    // Whoever waits is first.
    assert_eq!(w.park(&[park(dues[3])]).await, [true]);
    w.end(dues[1]).await;
    assert_eq!(w.claim(&[claim(dues[4]), claim(dues[3])]).await, [false, true]);
}

pub async fn a_claim_needs_the_present_revision<F: Fixture>(f: &F) {
    let [one, two, ..] = dues();
    let w = begun(f, "skip 2", &[one, two]).await;
    w.install(&install("a/b", Some(1), Some(limited(2, "skip 2")))).await;
    assert_eq!(w.claim(&[claim(one)]).await, [false]);
    let newer = Claim { revision: Revision(2), ..claim(one) };
    assert_eq!(w.claim(&[newer]).await, [true]);
    assert_eq!(w.minute_tier().await, ["a/b@2026-11-22T07:00:00Z#2", "a/b@2026-11-22T07:00:10Z#1"]);
    assert_eq!(w.record(one).await.revision, Revision(2));
    w.install(&install("a/b", Some(2), None)).await;
    assert_eq!(w.claim(&[Claim { revision: Revision(2), ..claim(two) }]).await, [false]);
    let stale = f.store().claim(w.shard, crate::lease::Epoch(1), &[claim(two)]).await;
    assert_eq!(stale, Err(crate::StoreError::Fenced));
    let stale = f.store().park(w.shard, crate::lease::Epoch(1), &[park(two)]).await;
    assert_eq!(stale, Err(crate::StoreError::Fenced));
}

pub async fn a_claim_of_a_known_run_only_clears_the_entry<F: Fixture>(f: &F) {
    let [one, ..] = dues();
    let w = begun(f, "skip 3", &[one]).await;
    let mut edit = install("a/b", Some(1), Some(limited(2, "skip 3")));
    edit.add_unseen = vec![one];
    w.install(&edit).await;
    w.start_under(one, 2).await;
    assert_eq!(w.minute_tier().await, ["a/b@2026-11-22T07:00:00Z#1"]);
    assert_eq!(w.claim(&[Claim { revision: Revision(2), ..claim(one) }]).await, [false]);
    assert_eq!(w.minute_tier().await, Vec::<String>::new());
    assert_eq!(w.claim(&[claim(one)]).await, [false], "it isn't there");
    assert_eq!(w.park(&[park(one)]).await, [false]);
    assert_eq!(w.state(&run(one)).await, Some(RunState::Dispatched));
}

impl<F: Fixture> World<'_, F> {
    async fn start_under(&self, due_at: Timestamp, revision: u64) {
        let entry = entry("a/b", due_at, revision);
        let claim = Claim { entry: entry.clone(), revision: Revision(revision), triggered: false };
        assert_eq!(self.claim(&[claim]).await, [true]);
        self.confirm(&[sent(entry, 7)]).await;
    }
}

pub async fn a_run_waits_for_an_earlier_one_and_is_released<F: Fixture>(f: &F) {
    let [one, two, ..] = dues();
    let w = begun(f, "queue-all 1", &[one, two]).await;
    w.start(one).await;
    assert_eq!(w.park(&[Park { triggered: true, ..park(two) }]).await, [true]);
    assert_eq!(w.minute_tier().await, Vec::<String>::new());
    let record = w.record(two).await;
    assert_eq!((record.state, record.waits_for), (RunState::Waiting, Some(WaitsFor::Overlap)));
    assert_eq!(w.end(one).await, Settled::RecordedAndReleased);
    assert_eq!(w.end(one).await, Settled::AlreadyEnded);
    let taken = w.take_all().await;
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].entry, entry("a/b", two, 1));
    assert_eq!(taken[0].admission, Admission::Released { triggered: true });
    assert_eq!(taken[0].overlap, Some(Standing { active: 1, waiting: 0 }));
    w.start(two).await;
    assert_eq!(w.end(two).await, Settled::Recorded);
    assert_eq!(w.record(two).await.state, RunState::Succeeded);
}

pub async fn those_that_wait_go_in_order_of_due<F: Fixture>(f: &F) {
    let [one, two, three, four, five] = dues();
    let w = begun(f, "queue-all 2", &dues()).await;
    w.start(one).await;
    w.start(two).await;
    assert_eq!(w.park(&[park(five), park(three), park(four)]).await, [true; 3]);
    let ends = [one, two].map(|due_at| settlement(run(due_at), 1, RunState::DeadLettered));
    let settled = f.store().settle_all(w.shard, &ends).await.unwrap();
    assert_eq!(settled, [Settled::Recorded, Settled::RecordedAndReleased]);
    assert_eq!(w.minute_tier().await, ["a/b@2026-11-22T07:00:20Z#1", "a/b@2026-11-22T07:00:30Z#1"]);
    w.start(three).await;
    assert_eq!(w.end(three).await, Settled::RecordedAndReleased);
    assert_eq!(w.take_all().await.len(), 2);
}

pub async fn nobody_waits_if_there_is_room<F: Fixture>(f: &F) {
    let [one, two, three, ..] = dues();
    let w = begun(f, "queue-all 1", &[one, two, three]).await;
    assert_eq!(w.park(&[park(one)]).await, [false], "the earlier run ended meanwhile");
    w.start(one).await;
    assert_eq!(w.park(&[park(one), park(two)]).await, [false, true]);
    w.install(&install("a/b", Some(1), Some(record(2, None)))).await;
    assert_eq!(w.park(&[park(three)]).await, [false], "nothing limits it any more");
    w.install(&install("a/b", Some(2), None)).await;
    assert_eq!(w.park(&[park(three)]).await, [false], "its job is gone");
    assert_eq!(w.minute_tier().await, ["a/b@2026-11-22T07:00:10Z#1", "a/b@2026-11-22T07:00:20Z#1"]);
}

pub async fn only_the_newest_waits_if_asked_so<F: Fixture>(f: &F) {
    let [one, two, three, four, _] = dues();
    let w = begun(f, "queue-one 1", &dues()).await;
    w.start(one).await;
    let newest = |due_at| Park { wait: Wait::Overlap { newest_only: true }, ..park(due_at) };
    assert_eq!(w.park(&[newest(two), newest(four), newest(three)]).await, [true; 3]);
    for coalesced in [two, three] {
        let record = w.record(coalesced).await;
        assert_eq!((record.state, record.waits_for), (RunState::Skipped, None));
        assert_eq!(record.skip_reason.as_deref(), Some(SkipReason::Coalesced.describe()));
        assert_eq!(record.ended_at, Some(at("07:30:00")));
    }
    assert_eq!(w.record(four).await.state, RunState::Waiting);
    assert_eq!(w.end(one).await, Settled::RecordedAndReleased);
    assert_eq!(w.minute_tier().await, ["a/b@2026-11-22T07:00:30Z#1", "a/b@2026-11-22T07:01:40Z#1"]);
}

pub async fn a_waiting_run_can_be_settled<F: Fixture>(f: &F) {
    let [one, two, three, four, _] = dues();
    let w = begun(f, "queue-all 2", &dues()).await;
    w.start(one).await;
    w.claim(&[claim(two)]).await;
    w.park(&[park(three), park(four)]).await;
    let cancel = |due_at| settlement(run(due_at), 1, RunState::Cancelled);
    assert_eq!(f.store().settle(w.shard, &cancel(three)).await, Ok(Settled::Recorded));
    let record = w.record(three).await;
    assert_eq!((record.state, record.waits_for), (RunState::Cancelled, None));
    assert_eq!(f.store().settle(w.shard, &cancel(two)).await, Ok(Settled::RecordedAndReleased));
    assert_eq!(w.minute_tier().await, ["a/b@2026-11-22T07:00:30Z#1", "a/b@2026-11-22T07:01:40Z#1"]);
    // One that was released, too.
    assert_eq!(f.store().settle(w.shard, &cancel(four)).await, Ok(Settled::Recorded));
    assert_eq!(w.minute_tier().await, ["a/b@2026-11-22T07:01:40Z#1"]);
    assert_eq!(w.take_all().await[0].overlap, Some(Standing { active: 1, waiting: 0 }));
}

pub async fn a_released_run_that_is_skipped_makes_room<F: Fixture>(f: &F) {
    let [one, two, three, ..] = dues();
    let w = begun(f, "queue-all 1", &[one, two, three]).await;
    w.start(one).await;
    w.park(&[park(two), park(three)]).await;
    w.end(one).await;
    let skipped = skip(entry("a/b", two, 1), SkipReason::StartingDeadline);
    f.store().skip(w.shard, w.dispatcher, &[skipped]).await.unwrap();
    let record = w.record(two).await;
    assert_eq!((record.state, record.waits_for), (RunState::Skipped, None));
    assert_eq!(record.skip_reason.as_deref(), Some(SkipReason::StartingDeadline.describe()));
    let taken = w.take_all().await;
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].admission, Admission::Released { triggered: false });
}

pub async fn an_edit_of_the_limit_lets_waiting_runs_go<F: Fixture>(f: &F) {
    let [one, two, three, four, five] = dues();
    let w = begun(f, "queue-all 1", &dues()).await;
    w.start(one).await;
    w.park(&[park(two), park(three), park(four), park(five)]).await;
    w.install(&install("a/b", Some(1), Some(limited(2, "queue-one 1")))).await;
    assert_eq!(w.minute_tier().await, Vec::<String>::new(), "an edit of anything else disturbs nobody");
    w.install(&install("a/b", Some(2), Some(limited(3, "queue-all 2")))).await;
    assert_eq!(w.minute_tier().await, ["a/b@2026-11-22T07:00:10Z#1"]);
    w.install(&install("a/b", Some(3), Some(record(4, None)))).await;
    assert_eq!(w.minute_tier().await.len(), 4);
    let released = Admission::Released { triggered: false };
    assert!(w.take_all().await.iter().all(|taken| taken.admission == released));
}

pub async fn a_deleted_job_skips_those_that_wait<F: Fixture>(f: &F) {
    let [one, two, three, ..] = dues();
    let w = begun(f, "queue-all 1", &[one, two, three]).await;
    w.start(one).await;
    w.park(&[park(two), park(three)]).await;
    w.install(&install("a/b", Some(1), None)).await;
    for due_at in [two, three] {
        let record = w.record(due_at).await;
        assert_eq!((record.state, record.ended_at), (RunState::Skipped, Some(at("07:00:03"))));
        assert_eq!(record.skip_reason.as_deref(), Some(SkipReason::Deleted.describe()));
    }
    assert_eq!(w.end(one).await, Settled::Recorded);
    assert_eq!(w.minute_tier().await, Vec::<String>::new());
}

pub async fn a_deleted_job_may_leave_its_history<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let ended = w.published("a/b", at("07:00:00")).await;
    f.store().settle(w.shard, &settlement(ended.clone(), 1, RunState::Succeeded)).await.unwrap();
    let mut delete = install("a/b", Some(1), None);
    delete.keep_history = true;
    w.install(&delete).await;
    assert_eq!(w.state(&ended).await, Some(RunState::Succeeded));
    assert_eq!(f.store().runs(w.shard, &ended.job, 10).await.unwrap().len(), 1);
}

pub async fn held_runs_count_and_come_back<F: Fixture>(f: &F) {
    let [one, two, three, ..] = dues();
    let w = begun(f, "queue-all 2", &[one, two, three]).await;
    w.planned("a/unlimited", 1, &[one]).await;
    w.claim(&[claim(one)]).await;
    let hold = |name, due_at| Park { entry: entry(name, due_at, 1), wait: Wait::Queue, ..park(due_at) };
    assert_eq!(w.park(&[hold("a/b", one), hold("a/unlimited", one)]).await, [true; 2]);
    let record = w.record(one).await;
    assert_eq!((record.state, record.waits_for), (RunState::Waiting, Some(WaitsFor::Queue)));
    let held = async |passed, limit| f.store().held(w.shard, passed, limit).await.unwrap();
    assert_eq!(held(0, 10).await, [run(one), occurrence("a/unlimited", one)]);
    assert_eq!((held(1, 10).await.len(), held(0, 1).await.len(), held(2, 10).await.len()), (1, 1, 0));
    let taken = w.take_all().await;
    assert_eq!(taken[0].overlap, Some(Standing { active: 1, waiting: 0 }), "it is under way");
    let both = [run(one), occurrence("a/unlimited", one)];
    assert_eq!(f.store().unpark(w.shard, &both).await, Ok(vec![true, true]));
    assert_eq!(f.store().unpark(w.shard, &both).await, Ok(vec![false, false]));
    let taken = w.take_all().await;
    let released = Admission::Released { triggered: false };
    assert_eq!(taken.iter().filter(|taken| taken.admission == released).count(), 2);
    assert_eq!(w.park(&[hold("a/b", one)]).await, [true], "back again");
    assert_eq!(f.store().unpark(w.shard, &both[..1]).await, Ok(vec![true]));
    w.start(one).await;
    assert_eq!(w.state(&run(one)).await, Some(RunState::Dispatched));
}

pub async fn a_held_run_that_ended_does_not_come_back<F: Fixture>(f: &F) {
    let [one, ..] = dues();
    let w = begun(f, "queue-all 2", &[one]).await;
    w.park(&[Park { wait: Wait::Queue, ..park(one) }]).await;
    let cancelled = settlement(run(one), 1, RunState::Cancelled);
    assert_eq!(f.store().settle(w.shard, &cancelled).await, Ok(Settled::Recorded));
    assert_eq!(f.store().held(w.shard, 0, 10).await, Ok(Vec::new()));
    assert_eq!(f.store().unpark(w.shard, &[run(one)]).await, Ok(vec![false]));
    assert_eq!(w.minute_tier().await, Vec::<String>::new());
}

pub async fn runs_that_wait_are_listed<F: Fixture>(f: &F) {
    let [one, two, three, four, _] = dues();
    let w = begun(f, "queue-all 1", &dues()).await;
    w.start(one).await;
    w.park(&[park(two), park(four)]).await;
    w.park(&[Park { wait: Wait::Queue, ..park(three) }]).await;
    let runs = f.store().runs(w.shard, &job("a/b"), 10).await.unwrap();
    let told: Vec<_> = runs.iter().map(|run| (run.occurrence.due_at, run.state, run.waits_for)).collect();
    let expected = [
        (four, RunState::Waiting, Some(WaitsFor::Overlap)),
        (three, RunState::Waiting, Some(WaitsFor::Queue)),
        (two, RunState::Waiting, Some(WaitsFor::Overlap)),
        (one, RunState::Dispatched, None),
    ];
    assert_eq!(told, expected);
}
