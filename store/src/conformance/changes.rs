//! Change logs and interruptions.

use model::change::{Change, ChangeKind};
use model::id::Revision;
use model::limits::{CHANGES_MAX, INTERRUPTIONS_MAX};
use model::misfire::Interruption;
use model::schedule::ScheduleSpec;

use super::world::{at, horizon, install, job, record};
use super::{Fixture, World};
use crate::ChangeStore;
use crate::error::StoreError;
use crate::lease::Epoch;
use crate::plan::Installed;

fn change(revision: u64, kind: ChangeKind) -> Change {
    let schedule = ScheduleSpec { cron: vec!["30 2 * * *".into()], ..ScheduleSpec::default() };
    Change {
        at: at("07:00:00"),
        revision: Revision(revision),
        kind,
        by: (revision % 2 == 1).then(|| "ann@host".into()),
        schedule: (kind == ChangeKind::Created).then_some(schedule),
    }
}

pub async fn a_change_is_noted_with_its_install<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let log = async |name| f.store().changes(w.shard, &job(name)).await.unwrap();
    assert_eq!(log("a/b").await, []);
    let mut new = install("a/b", None, Some(record(1, horizon(at("11:00:00")))));
    new.change = Some(change(1, ChangeKind::Created));
    assert_eq!(w.install(&new).await, Installed::Done);
    let mut edit = install("a/b", Some(9), Some(record(2, None)));
    edit.change = Some(change(2, ChangeKind::Paused));
    assert_eq!(w.install(&edit).await, Installed::Conflict);
    assert_eq!(log("a/b").await, [change(1, ChangeKind::Created)], "what isn't installed isn't noted");
    edit.expected = Some(Revision(1));
    assert_eq!(w.install(&edit).await, Installed::Done);
    assert_eq!(log("a/b").await, [change(2, ChangeKind::Paused), change(1, ChangeKind::Created)]);
    assert_eq!(log("a/b-c").await, []);
}

pub async fn the_log_of_a_job_is_bounded_and_outlives_it<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    for revision in 1..=CHANGES_MAX as u64 + 5 {
        let expected = Some(revision - 1).filter(|before| *before > 0);
        let mut edit = install("a/b", expected, Some(record(revision, None)));
        edit.change = Some(change(revision, ChangeKind::Edited));
        assert_eq!(w.install(&edit).await, Installed::Done);
    }
    let last = CHANGES_MAX as u64 + 5;
    let mut gone = install("a/b", Some(last), None);
    gone.change = Some(change(last + 1, ChangeKind::Deleted));
    assert_eq!(w.install(&gone).await, Installed::Done);
    let log = f.store().changes(w.shard, &job("a/b")).await.unwrap();
    assert_eq!((log.len(), log[0].kind, log[1].revision), (CHANGES_MAX, ChangeKind::Deleted, Revision(last)));
}

pub async fn interruptions_are_noted_and_bounded<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    let gap = |number: i64| Interruption {
        since: at("07:00:00").plus_ms(number * 60_000),
        until: at("07:00:20").plus_ms(number * 60_000),
    };
    let stale = f.store().note_interruption(w.shard, Epoch(1), gap(0)).await;
    assert_eq!(stale, Err(StoreError::Fenced));
    let last = INTERRUPTIONS_MAX as i64 + 2;
    for number in (0..=last).chain([last]) {
        f.store().note_interruption(w.shard, w.dispatcher, gap(number)).await.unwrap();
    }
    let known = f.store().interruptions(w.shard).await.unwrap();
    assert_eq!((known.len(), known[0], known[1]), (INTERRUPTIONS_MAX, gap(last), gap(last - 1)));
}
