//! What an audit is told, what it finds when somebody took something out, and how that is put right.

use model::change::{Change, ChangeKind};
use model::completeness::{Found, Kept};
use model::id::{Occurrence, Revision};
use model::run::{RunState, SkipReason};
use model::time::Timestamp;

use super::world::{at, entry, half_hour, horizon, install, job, occurrence, record, sent, settlement, skip};
use super::{Fixture, World};
use crate::completeness::{Absent, AuditNote, CompletenessStore, Holding, Lack, Question, RunList};
use crate::error::StoreError;
use crate::lease::Epoch;
use crate::ledger::{CancelMark, Claim, Park, Wait};
use crate::memory::Loss;
use crate::plan::{After, JobRecord};
use crate::{LedgerStore, SpaceStore};

fn question(name: &str, revision: u64, dues: &[Timestamp]) -> Question {
    Question { job: job(name), revision: Revision(revision), dues: dues.to_vec() }
}

fn run(due_at: Timestamp) -> Occurrence {
    occurrence("a/b", due_at)
}

impl<F: Fixture> World<'_, F> {
    async fn holding(&self, question: Question) -> Holding {
        let mut examined = self.store().examine(self.shard, &[question]).await.unwrap();
        assert_eq!(examined.cursor.unwrap().planned_until, at("08:00:00"));
        examined.jobs.pop().unwrap().unwrap()
    }

    async fn lose(&self, loss: Loss) {
        assert!(self.fixture.lose(self.shard, &loss).await, "{loss:?} wasn't there");
    }

    async fn lacks(&self, epoch: Option<Epoch>, runs: &[Occurrence]) -> Vec<(Absent, bool)> {
        let since = at("06:55:00");
        let found = self.store().mend(self.shard, epoch, since, runs).await.unwrap();
        found.into_iter().map(|Lack { absent, mended, .. }| (absent, mended)).collect()
    }

    /// Looks, mends, and looks again.
    async fn is_mended(&self, run: &Occurrence, absent: Absent) {
        let one = std::slice::from_ref(run);
        assert_eq!(self.lacks(None, one).await, [(absent, false)], "{run} {absent:?}");
        assert_eq!(self.lacks(Some(self.planner), one).await, [(absent, true)], "{run} {absent:?}");
        assert_eq!(self.lacks(Some(self.planner), one).await, [], "{run} {absent:?}");
    }

    async fn named(&self, list: RunList) -> Vec<String> {
        let (runs, next) = self.store().named_runs(self.shard, list, 0).await.unwrap();
        assert_eq!(next, None);
        let mut ids: Vec<String> = runs.iter().map(ToString::to_string).collect();
        ids.sort();
        ids
    }
}

pub async fn what_is_held_of_occurrences_is_told<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let [planned, kept_back, published, skipped, nothing, stale] =
        ["07:00:00", "07:00:10", "07:00:20", "07:00:30", "07:00:40", "07:00:50"].map(at);
    w.planned("a/b", 1, &[stale]).await;
    let mut edit = install("a/b", Some(1), Some(record(2, half_hour(at("07:40:00")))));
    edit.add_unseen = vec![planned, kept_back, published, skipped];
    let change = Change {
        at: at("07:00:03"),
        revision: Revision(2),
        kind: ChangeKind::Edited,
        by: None,
        schedule: None,
    };
    edit.change = Some(change.clone());
    w.install(&edit).await;
    f.store().space(w.shard, w.dispatcher, &[(entry("a/b", kept_back, 2), at("07:30:00"))]).await.unwrap();
    w.confirm(&[sent(entry("a/b", published, 2), 11)]).await;
    let skips = [skip(entry("a/b", skipped, 2), SkipReason::Suspended)];
    f.store().skip(w.shard, w.dispatcher, &skips).await.unwrap();
    let dues = [planned, kept_back, published, skipped, nothing, stale];
    let holding = w.holding(question("a/b", 2, &dues)).await;
    let found = |state, reason: Option<&str>| Found::Run { state, reason: reason.map(Into::into) };
    let expected = [
        Found::Entry,
        Found::HeldBack,
        found(RunState::Dispatched, None),
        found(RunState::Skipped, Some(SkipReason::Suspended.describe())),
        Found::Nothing,
        Found::Entry,
    ];
    assert_eq!(holding.found, expected, "a stale entry is an entry");
    assert_eq!(holding.placed, half_hour(at("07:40:00")).map(|placed| (placed, true)));
    assert_eq!((holding.newest_change, holding.broken_off), (Some(change), false));
    let once = Kept { limit: 0, kept: 1, ended: 1, oldest: Some(skipped) };
    assert_eq!(holding.histories, [Kept::default(), Kept::default(), once]);
    for (name, revision) in [("a/b", 1), ("a/none", 2)] {
        let examined = f.store().examine(w.shard, &[question(name, revision, &dues)]).await.unwrap();
        assert_eq!(examined.jobs, [None], "{name} {revision}");
    }
    let many = vec![planned; crate::completeness::EXAMINE_BATCH_MAX + 1];
    let refused = f.store().examine(w.shard, &[question("a/b", 2, &many)]).await;
    assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
}

pub async fn a_history_tells_how_far_it_reaches<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    w.planned("a/b", 1, &[]).await;
    for minute in 0..5 {
        let due_at = at("07:00:00").plus_ms(minute * 60_000);
        f.store().settle(w.shard, &settlement(run(due_at), 1, RunState::Succeeded)).await.unwrap();
    }
    let failed = settlement(run(at("07:20:00")), 1, RunState::DeadLettered);
    f.store().settle(w.shard, &failed).await.unwrap();
    let mark = CancelMark { at: at("07:21:00"), by: "ada".into(), reason: None };
    f.store().cancel(w.shard, &run(at("07:50:00")), true, &mark, false).await.unwrap();
    let expected = [
        Kept { limit: 0, kept: 3, ended: 5, oldest: Some(at("07:02:00")) },
        Kept { limit: 0, kept: 1, ended: 1, oldest: Some(at("07:20:00")) },
        Kept::default(),
    ];
    assert_eq!(w.holding(question("a/b", 1, &[at("07:55:00")])).await.histories, expected);
    let found = w.holding(question("a/b", 1, &[at("07:20:00")])).await;
    assert_eq!(found.histories, [Kept::default(); 3], "nothing hangs on it");
}

pub async fn a_place_or_an_entry_that_was_taken_out_is_missed<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let due_at = at("07:00:00");
    for (name, placed) in [("a/b", half_hour(at("07:40:00"))), ("a/c", horizon(at("11:00:00")))] {
        let mut new = install(name, None, Some(record(1, placed)));
        new.add_unseen = vec![due_at, at("07:00:10")];
        w.install(&new).await;
        let back = (entry(name, at("07:00:10"), 1), at("07:30:00"));
        f.store().space(w.shard, w.dispatcher, &[back]).await.unwrap();
        let state = async || {
            let holding = w.holding(question(name, 1, &[due_at, at("07:00:10")])).await;
            (holding.placed.map(|(_, is_there)| is_there), holding.found)
        };
        assert_eq!(state().await, (Some(true), vec![Found::Entry, Found::HeldBack]));
        w.lose(Loss::Place(job(name))).await;
        w.lose(Loss::Entry(occurrence(name, due_at))).await;
        w.lose(Loss::HeldBack(occurrence(name, at("07:00:10")))).await;
        assert_eq!(state().await, (Some(false), vec![Found::Nothing; 2]));
        // The same install again lays them out as they were, and changes nothing where nothing is missing.
        let again = crate::plan::Install { expected: Some(Revision(1)), ..new };
        for _ in 0..2 {
            w.install(&again).await;
            assert_eq!(state().await, (Some(true), vec![Found::Entry; 2]));
        }
    }
    assert_eq!(w.minute_tier().await.len(), 4);
}

pub async fn a_chain_that_broke_off_is_told<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let after = After { delay: std::time::Duration::from_secs(60), last: None };
    let record = JobRecord { after: Some(after), ..record(1, None) };
    let mut new = install("a/b", None, Some(record));
    new.after_first = Some(at("07:00:00"));
    w.install(&new).await;
    let broken_off = async || w.holding(question("a/b", 1, &[])).await.broken_off;
    assert!(!broken_off().await, "planned");
    w.lose(Loss::Entry(run(at("07:00:00")))).await;
    assert!(broken_off().await);
    new.expected = Some(Revision(1));
    w.install(&new).await;
    assert!(!broken_off().await, "planned again");
    w.confirm(&[sent(entry("a/b", at("07:00:00"), 1), 7)]).await;
    assert!(!broken_off().await, "under way");
}

pub async fn a_run_goes_where_its_record_says<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let [one, two, three] = ["07:00:00", "07:00:10", "07:00:20"].map(at);
    let mut new = install(
        "a/b",
        None,
        Some(JobRecord { overlap: Some("queue-all 2".parse().unwrap()), ..record(1, None) }),
    );
    new.add_unseen = vec![one, two, three];
    w.install(&new).await;
    let claims = [one, two].map(|due_at| Claim {
        entry: entry("a/b", due_at, 1),
        revision: Revision(1),
        triggered: false,
    });
    assert_eq!(f.store().claim(w.shard, w.dispatcher, &claims).await.unwrap(), [true, true]);
    let park =
        |due_at, wait| Park { entry: entry("a/b", due_at, 1), wait, triggered: false, at: at("07:30:00") };
    let waits = park(three, Wait::Overlap { newest_only: false });
    assert_eq!(f.store().park(w.shard, w.dispatcher, &[waits]).await.unwrap(), [true]);
    let all = [one, two, three].map(run);
    assert_eq!(w.lacks(Some(w.planner), &all).await, [], "nothing is missing");
    assert_eq!(w.named(RunList::Open).await, [&all[0], &all[1]].map(ToString::to_string));

    // About to be published.
    w.lose(Loss::Entry(all[0].clone())).await;
    let fenced = f.store().mend(w.shard, Some(Epoch(1)), at("06:55:00"), &all).await;
    assert_eq!(fenced, Err(StoreError::Fenced));
    w.is_mended(&all[0], Absent::Entry).await;
    assert_eq!(w.minute_tier().await.len(), 2);
    // Published.
    w.confirm(&[sent(entry("a/b", one, 1), 7)]).await;
    w.lose(Loss::Sent(all[0].clone())).await;
    assert_eq!(w.named(RunList::Sent).await, Vec::<String>::new());
    w.is_mended(&all[0], Absent::Sent).await;
    assert_eq!(w.sent_ids().await, [all[0].to_string()]);
    // Being cancelled.
    let mark = CancelMark { at: at("07:21:00"), by: "ada".into(), reason: None };
    f.store().cancel(w.shard, &all[0], true, &mark, false).await.unwrap();
    w.lose(Loss::Cancelling(all[0].clone())).await;
    w.is_mended(&all[0], Absent::Cancelling).await;
    // Waiting for its queue.
    assert_eq!(f.store().park(w.shard, w.dispatcher, &[park(two, Wait::Queue)]).await.unwrap(), [true]);
    assert_eq!(w.named(RunList::Held).await, [all[1].to_string()]);
    w.lose(Loss::Held(all[1].clone())).await;
    w.is_mended(&all[1], Absent::Held).await;
    assert_eq!(f.store().unpark(w.shard, &[all[1].clone()]).await.unwrap(), [true]);
    assert_eq!(w.lacks(Some(w.planner), &all).await, []);
    // Waiting for an earlier run.
    w.lose(Loss::Waits(all[2].clone())).await;
    w.is_mended(&all[2], Absent::Waits).await;
    assert_eq!(w.minute_tier().await, [entry("a/b", two, 1).to_string()], "it waits on");
    f.store().settle(w.shard, &settlement(all[0].clone(), 1, RunState::Succeeded)).await.unwrap();
    assert_eq!(w.minute_tier().await.len(), 2, "and goes when there is room");
    assert_eq!(w.lacks(Some(w.planner), &all).await, []);
}

pub async fn who_waits_and_was_taken_out_goes_at_once_if_there_is_room<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let [one, two] = ["07:00:00", "07:00:10"].map(at);
    let limited = JobRecord { overlap: Some("queue-all 1".parse().unwrap()), ..record(1, None) };
    let mut new = install("a/b", None, Some(limited));
    new.add_unseen = vec![one, two];
    w.install(&new).await;
    let claim = Claim { entry: entry("a/b", one, 1), revision: Revision(1), triggered: false };
    f.store().claim(w.shard, w.dispatcher, &[claim]).await.unwrap();
    w.confirm(&[sent(entry("a/b", one, 1), 7)]).await;
    let wait = Wait::Overlap { newest_only: false };
    let park = Park { entry: entry("a/b", two, 1), wait, triggered: false, at: at("07:30:00") };
    f.store().park(w.shard, w.dispatcher, &[park]).await.unwrap();
    w.lose(Loss::Waits(run(two))).await;
    f.store().settle(w.shard, &settlement(run(one), 1, RunState::Succeeded)).await.unwrap();
    assert_eq!(w.minute_tier().await, Vec::<String>::new());
    w.is_mended(&run(two), Absent::Waits).await;
    assert_eq!(w.minute_tier().await, [entry("a/b", two, 1).to_string()]);
}

pub async fn a_run_that_is_named_and_has_no_record_is_planned_again<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let (late, due_at) = (at("06:55:00"), at("07:00:00"));
    for (name, due_at, mended) in [("a/b", due_at, true), ("a/late", late, false)] {
        let published = w.published(name, due_at).await;
        w.lose(Loss::Run(published.clone())).await;
        let one = std::slice::from_ref(&published);
        assert_eq!(w.lacks(None, one).await, [(Absent::Record, false)]);
        assert_eq!(w.lacks(Some(w.planner), one).await, [(Absent::Record, mended)], "{name}");
        let left = if mended { vec![] } else { vec![(Absent::Record, false)] };
        assert_eq!(w.lacks(Some(w.planner), one).await, left, "{name}");
    }
    assert_eq!(w.minute_tier().await, [entry("a/b", due_at, 1).to_string()]);
    assert_eq!(w.named(RunList::Sent).await, [occurrence("a/late", late).to_string()]);
    w.confirm(&[sent(entry("a/b", due_at, 1), 11)]).await;
    assert_eq!(w.state(&run(due_at)).await, Some(RunState::Dispatched), "as if it had been published now");

    let asked = w.trigger("a/b", at("07:10:00.5"), None).await;
    let asked = run(asked.due_at);
    assert_eq!(w.named(RunList::Triggered).await, [asked.to_string()]);
    assert_eq!(w.lacks(Some(w.planner), std::slice::from_ref(&asked)).await, []);
    w.lose(Loss::Entry(asked.clone())).await;
    w.is_mended(&asked, Absent::Entry).await;
    assert_eq!(w.minute_tier().await, [entry("a/b", asked.due_at, 1).to_string()]);
    let nobody = run(at("07:11:00"));
    assert_eq!(w.lacks(Some(w.planner), &[nobody]).await, [], "what nothing names isn't known");
}

pub async fn what_audits_came_to_is_remembered<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let notes = async || f.store().audit_notes(&[w.shard, model::shard::ShardId(8)]).await.unwrap();
    assert_eq!(notes().await, [None, None]);
    let note = |minute: &str, found, last_found: Option<&str>| AuditNote {
        at: at(minute),
        jobs: 5,
        occurrences: 70,
        found,
        mended: found,
        last_found: last_found.map(Into::into),
    };
    let write = async |epoch, note: &AuditNote| f.store().note_audit(w.shard, epoch, note).await;
    assert_eq!(write(Epoch(1), &note("07:00:00", 1, None)).await, Err(StoreError::Fenced));
    write(w.planner, &note("07:00:00", 2, Some("a/b: gone"))).await.unwrap();
    write(w.planner, &note("07:02:00", 0, None)).await.unwrap();
    assert_eq!(notes().await, [Some(note("07:02:00", 2, Some("a/b: gone"))), None]);
}
