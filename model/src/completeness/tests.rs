//! What an audit concludes: tables, and properties over random lives of a job.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::manifest::{Node, accept, decode_job};
use crate::pause::Pause;
use crate::spec::Acceptance;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_ms(1_800_000_000_000 + seconds * 1000)
}

/// A job that was accepted at 0 s.
fn every(seconds: i64, catch_up: &str) -> Declared {
    let document = json!({
        "apiVersion": "ecron/v1", "kind": "Job", "metadata": {"name": "a"},
        "spec": {"schedule": {"every": format!("{seconds}s")}, "catchUp": {"policy": catch_up, "max": 3}},
    });
    let spec = decode_job(&Node::from_json(document), at(0)).unwrap();
    let acceptance = accept(&spec, None, at(0));
    Declared::of(spec, acceptance).unwrap()
}

/// A job every 10 s that was created at 0 s, 1,000 s later; planned until 1,080 s. Nothing is forgotten.
fn facts(declared: &Declared) -> Facts<'_> {
    Facts {
        declared,
        now: at(1_000),
        planned_until: at(1_080),
        taken_until: at(1_000),
        begun_at: Some(at(-100)),
        place: Some((at(1_080), true)),
        changed_at: Some(at(0)),
        interruptions: &[],
        interruptions_forgotten: false,
        histories: [Kept { limit: 1_000, kept: 100, ended: 100, oldest: Some(at(10)) }, many(), many()],
    }
}

fn many() -> Kept {
    Kept { limit: 100, ..Kept::default() }
}

const NOTHING: Found = Found::Nothing;

#[test]
fn what_is_there_is_accounted_for() {
    let declared = every(10, "latest");
    let run = |state, reason: Option<&str>| Found::Run { state, reason: reason.map(Into::into) };
    let table = [
        (Found::Entry, Verdict::Planned),
        (Found::HeldBack, Verdict::Planned),
        (Found::Hidden, Verdict::Gap(Gap::Index)),
        (run(RunState::Waiting, None), Verdict::UnderWay),
        (run(RunState::Dispatched, None), Verdict::UnderWay),
        (run(RunState::Succeeded, None), Verdict::Ended(RunState::Succeeded)),
        (run(RunState::Cancelled, None), Verdict::Ended(RunState::Cancelled)),
        (run(RunState::Skipped, Some("late")), Verdict::Skipped(Some("late".into()))),
    ];
    for (found, verdict) in table {
        for due in [900, 1_010, 1_090] {
            assert_eq!(facts(&declared).judge(at(due), &found), verdict, "{due}");
        }
    }
}

#[test]
fn what_is_missing_is_a_gap_only_if_nothing_explains_it() {
    let declared = every(10, "latest");
    let paused = |since: i64, until: Option<i64>| {
        let pause = Some(Pause { since: at(since), until: until.map(at) });
        Declared { acceptance: Acceptance { pause, ..declared.acceptance.clone() }, ..declared.clone() }
    };
    let (is_paused, was_paused) = (paused(1_005, None), paused(500, Some(600)));
    let gap = [Interruption { since: at(500), until: at(600) }];
    let none = every(10, "none");
    let all = every(10, "all");
    let of = facts(&declared);
    let missed = |declared| Facts { interruptions: &gap, ..facts(declared) };
    let history = |first: Kept| Facts { histories: [first, many(), many()], ..of.clone() };
    let full = Kept { limit: 3, kept: 3, ended: 100, oldest: Some(at(980)) };
    let excused = |excuse| Verdict::Excused(excuse);
    let table = [
        ("not taken", of.clone(), 1_010, Verdict::Gap(Gap::Entry)),
        ("taken", of.clone(), 1_000, Verdict::Gap(Gap::Record)),
        ("taken long ago", of.clone(), 10, Verdict::Gap(Gap::Record)),
        ("its job's place stands for it", of.clone(), 1_080, Verdict::Planned),
        (
            "a place that is gone",
            Facts { place: Some((at(1_080), false)), ..of.clone() },
            1_080,
            Verdict::Gap(Gap::Place),
        ),
        ("no place at all", Facts { place: None, ..of.clone() }, 1_080, Verdict::Gap(Gap::Place)),
        (
            "a place too late",
            Facts { place: Some((at(1_090), true)), ..of.clone() },
            1_080,
            Verdict::Gap(Gap::Place),
        ),
        (
            "a place within the plan",
            Facts { place: Some((at(1_050), true)), ..of.clone() },
            1_050,
            Verdict::Planned,
        ),
        ("before the job", of.clone(), 0, excused(Excuse::BeforeTheBeginning)),
        (
            "rebuilt since",
            Facts { begun_at: Some(at(990)), ..of.clone() },
            990,
            excused(Excuse::BeforeTheBeginning),
        ),
        ("edited since", Facts { changed_at: Some(at(990)), ..of.clone() }, 990, excused(Excuse::Changed)),
        (
            "edited before",
            Facts { changed_at: Some(at(990)), ..of.clone() },
            1_000,
            Verdict::Gap(Gap::Record),
        ),
        ("paused", Facts { place: None, ..facts(&is_paused) }, 1_010, excused(Excuse::Paused)),
        ("paused, beyond", Facts { place: None, ..facts(&is_paused) }, 1_080, excused(Excuse::Paused)),
        (
            "due before the pause",
            Facts { place: None, ..facts(&is_paused) },
            1_000,
            Verdict::Gap(Gap::Record),
        ),
        ("was paused", facts(&was_paused), 510, excused(Excuse::Paused)),
        (
            "nobody dispatches",
            Facts { taken_until: at(980), ..of.clone() },
            990,
            excused(Excuse::Interrupted),
        ),
        (
            "nobody dispatches, not due",
            Facts { taken_until: at(980), ..of.clone() },
            1_010,
            Verdict::Gap(Gap::Entry),
        ),
        ("a little late", Facts { taken_until: at(995), ..of.clone() }, 1_000, Verdict::Gap(Gap::Entry)),
        ("forgotten", history(full), 980, excused(Excuse::Forgotten)),
        ("remembered", history(full), 990, Verdict::Gap(Gap::Record)),
        ("nothing kept", history(Kept { limit: 0, ..full }), 980, excused(Excuse::Forgotten)),
        ("nothing left", history(Kept { kept: 0, oldest: None, ..full }), 1_000, excused(Excuse::Forgotten)),
        ("the counts are gone", history(Kept { ended: 0, ..full }), 980, excused(Excuse::Forgotten)),
        ("missed, another ran", missed(&declared), 590, excused(Excuse::Missed)),
        ("the latest", missed(&declared), 600, Verdict::Gap(Gap::Record)),
        ("no catch-up", missed(&none), 600, excused(Excuse::Missed)),
        ("all of three", missed(&all), 580, Verdict::Gap(Gap::Record)),
        ("beyond three", missed(&all), 570, excused(Excuse::Missed)),
        (
            "older interruptions",
            Facts { interruptions_forgotten: true, ..missed(&all) },
            600,
            excused(Excuse::Missed),
        ),
        (
            "after them",
            Facts { interruptions_forgotten: true, ..missed(&all) },
            610,
            Verdict::Gap(Gap::Record),
        ),
    ];
    for (what, facts, due, verdict) in table {
        assert_eq!(facts.judge(at(due), &NOTHING), verdict, "{what}");
    }
}

#[test]
fn a_history_that_keeps_nothing_tells_nothing() {
    let declared = every(10, "latest");
    let none = Kept { limit: 0, kept: 0, ended: 5, oldest: None };
    let facts = Facts { histories: [none, many(), many()], ..facts(&declared) };
    assert_eq!(facts.judge(at(1_000), &NOTHING), Verdict::Excused(Excuse::Forgotten));
    let unknown = Kept { ended: 0, ..none };
    let facts = Facts { histories: [unknown, many(), many()], ..facts };
    assert_eq!(facts.judge(at(1_000), &NOTHING), Verdict::Excused(Excuse::Forgotten));
}

#[test]
fn only_what_is_fresh_is_put_right_without_being_asked() {
    let declared = every(10, "latest");
    let facts = facts(&declared);
    assert!(facts.may_repair(at(700), Gap::Record) && !facts.may_repair(at(699), Gap::Record));
    assert!(facts.may_repair(at(10), Gap::Entry) && facts.may_repair(at(10), Gap::Place));
}

#[test]
fn the_plan_is_asked_about_up_to_its_edge() {
    let declared = every(10, "latest");
    let seconds =
        |dues: Vec<Timestamp>| dues.iter().map(|due| due.ms_since(at(0)) / 1000).collect::<Vec<_>>();
    assert_eq!(
        seconds(facts(&declared).expected(at(985), 100)),
        [990, 1_000, 1_010, 1_020, 1_030, 1_040, 1_050, 1_060, 1_070, 1_080]
    );
    assert_eq!(seconds(facts(&declared).expected(at(0), 2)), [990, 1_000, 1_010, 1_020]);
    let hourly = every(3_600, "latest");
    assert_eq!(seconds(facts(&hourly).expected(at(0), 100)), [3_600]);
}

/// A job's life, as planner, dispatcher and executors would have it: at most three of each list are kept.
#[derive(Default)]
struct Life {
    runs: BTreeMap<Timestamp, RunState>,
    lists: [Vec<Timestamp>; 3],
    ended: [u64; 3],
}

impl Life {
    fn end(&mut self, due_at: Timestamp, state: RunState) {
        let list = match state {
            RunState::Succeeded => 0,
            RunState::Skipped => 2,
            _ => 1,
        };
        self.runs.insert(due_at, state);
        self.ended[list] += 1;
        self.lists[list].push(due_at);
        self.lists[list].sort_unstable();
        if self.lists[list].len() > 3 {
            let gone = self.lists[list].remove(0);
            self.runs.remove(&gone);
        }
    }

    fn kept(&self) -> [Kept; 3] {
        [0, 1, 2].map(|list| Kept {
            limit: 3,
            kept: self.lists[list].len() as u64,
            ended: self.ended[list],
            oldest: self.lists[list].first().copied(),
        })
    }

    fn found(&self, due_at: Timestamp) -> Found {
        let run = self.runs.get(&due_at);
        run.map_or(Found::Nothing, |state| Found::Run { state: *state, reason: None })
    }
}

proptest! {
    /// Whatever becomes of the runs, in whatever order they end: nothing is a gap but what somebody took out. And what is
    /// taken out is found, unless the history has forgotten as much.
    #[test]
    fn nothing_is_a_gap_but_what_was_taken_out(
        ends in proptest::collection::vec((0usize..4, 0i64..40), 0..60),
        lost in 0usize..100,
    ) {
        let declared = every(10, "latest");
        let mut life = Life::default();
        let taken: Vec<Timestamp> = (1..=ends.len() as i64).map(|n| at(n * 10)).collect();
        let mut order: Vec<usize> = (0..ends.len()).collect();
        order.sort_by_key(|index| *index as i64 * 10 + ends[*index].1);
        for index in order {
            let states = [RunState::Dispatched, RunState::Succeeded, RunState::DeadLettered, RunState::Skipped];
            match states[ends[index].0] {
                RunState::Dispatched => drop(life.runs.insert(taken[index], RunState::Dispatched)),
                state => life.end(taken[index], state),
            }
        }
        let now = taken.last().copied().unwrap_or(at(0));
        let facts = |life: &Life| Facts {
            now, taken_until: now, planned_until: now.plus_ms(60_000), place: Some((now.plus_ms(1), true)),
            histories: life.kept(), ..facts(&declared)
        };
        for due_at in &taken {
            let verdict = facts(&life).judge(*due_at, &life.found(*due_at));
            prop_assert!(!matches!(verdict, Verdict::Gap(_)), "{due_at}: {verdict:?}");
        }
        // Somebody takes one open run's record out.
        let open: Vec<Timestamp> =
            life.runs.iter().filter(|(_, state)| !state.is_end()).map(|(due_at, _)| *due_at).collect();
        if let Some(gone) = open.get(lost % open.len().max(1)) {
            life.runs.remove(gone);
            for due_at in &taken {
                let facts = facts(&life);
                let expected = match facts.forgotten_until() {
                    Some(until) if due_at <= &until => Verdict::Excused(Excuse::Forgotten),
                    _ => Verdict::Gap(Gap::Record),
                };
                let verdict = facts.judge(*due_at, &life.found(*due_at));
                if due_at == gone {
                    prop_assert_eq!(verdict, expected);
                } else {
                    prop_assert!(!matches!(verdict, Verdict::Gap(_)), "{due_at}: {verdict:?}");
                }
            }
        }
        // Or a member of a history, by hand, with its record.
        let list = lost % 3;
        if !life.lists[list].is_empty() {
            let index = lost % life.lists[list].len();
            let gone = life.lists[list].remove(index);
            life.runs.remove(&gone);
            for due_at in taken.iter().filter(|due_at| **due_at != gone && !open.contains(due_at)) {
                let verdict = facts(&life).judge(*due_at, &life.found(*due_at));
                prop_assert!(!matches!(verdict, Verdict::Gap(_)), "{due_at}: {verdict:?}");
            }
        }
    }
}
