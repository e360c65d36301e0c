//! Tables and properties of the gate, by the letters of `gate`'s head.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn at(ms: i64) -> Timestamp {
    Timestamp::from_ms(1_800_000_000_000 + ms)
}

fn occurrence(job: &str, due_ms: i64) -> Occurrence {
    Occurrence { job: job.parse().unwrap(), due_at: at(due_ms) }
}

fn run(job: &str, due_ms: i64, priority: Priority) -> GateRun {
    GateRun { occurrence: occurrence(job, due_ms), priority, rate_key: None }
}

fn keyed(job: &str, due_ms: i64, key: &str) -> GateRun {
    GateRun { rate_key: Some(key.into()), ..run(job, due_ms, Priority::Normal) }
}

fn many(job: &str, priority: Priority, count: i64) -> Vec<GateRun> {
    (0..count).map(|due| run(job, due, priority)).collect()
}

fn limited(concurrency: u32) -> GateRules {
    GateRules { concurrency: Some(concurrency), ..GateRules::default() }
}

/// Lets `turns` runs go one at a time, each ending at once, and counts whose they were.
fn turns(gate: &mut Gate, rules: &GateRules, turns: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    let mut ended = gate.unseen(at(i64::MAX / 4_000_000), 100);
    for _ in 0..turns {
        let picked = gate.leave(rules, at(0), &ended, 100).runs;
        for run in &picked {
            *counts.entry(run.job.to_string()).or_default() += 1;
        }
        ended = picked;
    }
    counts
}

#[test]
fn without_waiting_everything_goes_up_to_the_limit_by_due() {
    let mut gate = Gate::default();
    let runs = [
        run("a/x", 30, Priority::Normal),
        run("a/y", 10, Priority::Normal),
        run("a/z", 20, Priority::Normal),
    ];
    let picked = gate.admit(&limited(2), at(50), &runs, 100);
    assert_eq!(picked.runs, [occurrence("a/y", 10), occurrence("a/z", 20)]);
    assert_eq!(picked.next_at, None, "only an end helps");
    assert!(gate.is_waiting(&occurrence("a/x", 30)));
    let picked = gate.leave(&limited(2), at(60), &[occurrence("a/y", 10)], 100);
    assert_eq!(picked.runs, [occurrence("a/x", 30)]);
    assert_eq!((gate.active(), gate.waiting()), (2, vec![]));
}

#[test]
fn asking_again_changes_nothing() {
    let rules = GateRules { rate: "1/1m".parse().ok(), ..limited(5) };
    let mut gate = Gate::default();
    let runs = [run("a/x", 0, Priority::Normal), run("a/y", 0, Priority::Normal)];
    assert_eq!(gate.admit(&rules, at(0), &runs, 100).runs.len(), 1);
    let next = Some(at(60_025));
    for ms in [0, 1, 60_024] {
        assert_eq!(gate.admit(&rules, at(ms), &runs, 100), Picked { runs: vec![], next_at: next }, "{ms}");
    }
    assert!(gate.is_active(&runs[0].occurrence) && gate.is_waiting(&runs[1].occurrence));
    assert_eq!(gate.admit(&rules, at(60_025), &runs, 100).runs, [runs[1].occurrence.clone()]);
    // An end that is reported twice frees one place.
    for _ in 0..2 {
        gate.leave(&rules, at(60_030), &[runs[0].occurrence.clone()], 100);
        assert_eq!(gate.active(), 1);
    }
}

#[test]
fn a_paused_queue_lets_nobody_go_and_forgets_nobody() {
    let mut gate = Gate::default();
    let paused = GateRules { paused: true, ..GateRules::default() };
    assert!(paused.is_gated());
    assert_eq!(gate.admit(&paused, at(0), &many("a/x", Priority::High, 3), 100), Picked::default());
    assert_eq!(gate.waiting().len(), 1);
    assert_eq!(gate.leave(&GateRules::default(), at(0), &[], 2).next_at, Some(at(0)), "more may go at once");
    assert_eq!(gate.leave(&GateRules::default(), at(0), &[], 2).runs.len(), 1);
}

#[test]
fn a_key_without_a_token_is_passed_over() {
    let rules = GateRules { key_rate: "1/10s".parse().ok(), ..GateRules::default() };
    let mut gate = Gate::default();
    let runs =
        [keyed("a/x", 0, "k"), keyed("a/x", 1, "k"), keyed("a/x", 2, "l"), run("a/x", 3, Priority::Normal)];
    let picked = gate.admit(&rules, at(5), &runs, 100);
    let due: Vec<i64> = picked.runs.iter().map(|run| run.due_at.ms_since(at(0))).collect();
    assert_eq!(due, [0, 2, 3]);
    assert_eq!(picked.next_at, Some(at(10_030)));
    assert_eq!(gate.leave(&rules, at(10_029), &[], 100).runs, []);
    assert_eq!(gate.leave(&rules, at(10_030), &[], 100).runs, [occurrence("a/x", 1)]);
}

#[test]
fn looking_past_blocked_keys_is_bounded() {
    let rules = GateRules { key_rate: "1/10s".parse().ok(), ..GateRules::default() };
    let mut gate = Gate::default();
    let blocked = i64::try_from(GATE_SCAN_MAX).unwrap();
    let mut runs: Vec<GateRun> = (0..=blocked).map(|due| keyed("a/x", due, "k")).collect();
    runs.push(keyed("a/x", blocked + 1, "l"));
    assert_eq!(gate.admit(&rules, at(0), &runs, 1_000).runs, [occurrence("a/x", 0)]);
    gate.leave(&rules, at(0), &[occurrence("a/x", 1)], 1_000);
    assert!(gate.is_active(&occurrence("a/x", blocked + 1)));
}

#[test]
fn priorities_get_turns_as_16_to_4_to_1() {
    let mut gate = Gate::default();
    let mut runs = many("a/high", Priority::High, 1_000);
    runs.extend(many("a/normal", Priority::Normal, 1_000));
    runs.extend(many("a/low", Priority::Low, 1_000));
    gate.admit(&GateRules { paused: true, ..limited(1) }, at(0), &runs, 100);
    let counts = turns(&mut gate, &limited(1), 21 * 20);
    let expected = [("a/high", 320), ("a/low", 20), ("a/normal", 80)];
    for (job, expected) in expected {
        assert!(counts[job].abs_diff(expected) <= 1, "{counts:?}");
    }
}

#[test]
fn namespaces_get_turns_as_their_shares() {
    let shares = BTreeMap::from([(Name::new("billing").unwrap(), 3)]);
    let rules = GateRules { shares, ..limited(1) };
    let mut gate = Gate::default();
    let mut runs = many("billing/x", Priority::Normal, 1_000);
    runs.extend(many("ops/x", Priority::Normal, 1_000));
    gate.admit(&GateRules { paused: true, ..limited(1) }, at(0), &runs, 100);
    let counts = turns(&mut gate, &rules, 400);
    assert!(counts["billing/x"].abs_diff(300) <= 1, "{counts:?}");
}

#[test]
fn who_comes_late_gets_its_share_and_no_more() {
    let rules = limited(1);
    let mut gate = Gate::default();
    gate.admit(&rules, at(0), &many("a/x", Priority::Normal, 1_000), 100);
    turns(&mut gate, &rules, 300);
    gate.admit(&rules, at(0), &many("b/x", Priority::Normal, 1_000), 100);
    let counts = turns(&mut gate, &rules, 100);
    assert!(counts["b/x"].abs_diff(50) <= 1, "{counts:?}");
    // One that comes again and again, one at a time, doesn't get every turn either.
    gate.admit(&rules, at(0), &many("c/x", Priority::Normal, 1), 100);
    let mut counts = BTreeMap::new();
    for again in 1..200 {
        for (job, count) in turns(&mut gate, &rules, 1) {
            *counts.entry(job).or_insert(0) += count;
        }
        gate.admit(&rules, at(0), &[run("c/x", again, Priority::Normal)], 100);
    }
    assert!(counts["c/x"] <= 68, "{counts:?}");
}

#[test]
fn who_was_blocked_by_its_key_saves_no_credit() {
    let rules = GateRules { key_rate: "1/1m".parse().ok(), ..limited(1) };
    let mut gate = Gate::default();
    let mut runs: Vec<GateRun> = (0..300).map(|due| keyed("a/x", due, "k")).collect();
    runs.extend((0..300).map(|due| run("b/x", due, Priority::Normal)));
    gate.admit(&GateRules { paused: true, ..rules.clone() }, at(0), &runs, 100);
    let counts = turns(&mut gate, &rules, 100);
    assert_eq!(counts["a/x"], 1);
    let free = GateRules { key_rate: None, ..rules };
    let counts = turns(&mut gate, &free, 100);
    assert!(counts["a/x"].abs_diff(50) <= 1, "{counts:?}");
}

#[derive(Clone, Debug)]
enum Step {
    Admit(Vec<(u8, u8, u8, u8)>),
    Leave(u8),
    Wait(u16),
    Refill,
}

fn step() -> impl Strategy<Value = Step> {
    let run = (0u8..4, 0u8..40, 0u8..3, 0u8..4);
    prop_oneof![
        3 => proptest::collection::vec(run, 1..8).prop_map(Step::Admit),
        3 => any::<u8>().prop_map(Step::Leave),
        2 => (0u16..500).prop_map(Step::Wait),
        1 => Just(Step::Refill),
    ]
}

proptest! {
    /// (A), (B) and (E) on any history: the limits hold, nobody is lost, nobody goes twice.
    #[test]
    fn limits_hold_and_nobody_is_lost(
        steps in proptest::collection::vec(step(), 1..120), concurrency in 1u32..6, limit in 1u32..5, burst in 1u32..4,
    ) {
        let rate = Rate { limit, burst: burst.min(limit), per: std::time::Duration::from_millis(300) };
        let rules = GateRules { rate: Some(rate), key_rate: "2/200ms".parse().ok(), ..limited(concurrency) };
        let (mut gate, mut now) = (Gate::default(), at(0));
        let (mut asked, mut ended) = (BTreeSet::new(), BTreeSet::new());
        let mut starts: Vec<(Timestamp, Occurrence)> = Vec::new();
        for step in steps {
            let picked = match step {
                Step::Admit(runs) => {
                    let runs: Vec<GateRun> = runs.into_iter().map(|(job, due, priority, key)| GateRun {
                        occurrence: occurrence(&format!("n{}/j{job}", job % 2), due.into()),
                        priority: Priority::ALL[usize::from(priority)],
                        rate_key: (key > 0).then(|| key.to_string()),
                    }).filter(|run| !ended.contains(&run.occurrence)).collect();
                    asked.extend(runs.iter().map(|run| run.occurrence.clone()));
                    gate.admit(&rules, now, &runs, 3)
                }
                Step::Leave(which) => {
                    let active = gate.unseen(now, 100);
                    let run = active.get(usize::from(which) % active.len().max(1)).cloned();
                    ended.extend(run.clone());
                    gate.leave(&rules, now, &run.into_iter().collect::<Vec<_>>(), 3)
                }
                Step::Wait(ms) => { now = now.plus_ms(ms.into()); continue }
                Step::Refill => gate.leave(&rules, now, &[], 3),
            };
            for run in picked.runs {
                prop_assert!(starts.iter().all(|(_, known)| *known != run), "{run} went twice");
                starts.push((now, run));
            }
            prop_assert!(gate.active() <= concurrency as usize);
            let waiting: u64 = gate.waiting().iter().map(|(_, _, count, _)| count).sum();
            prop_assert_eq!(gate.active() + waiting as usize + ended.len(), asked.len());
            for run in &asked {
                let places = [gate.is_active(run), gate.is_waiting(run), ended.contains(run)];
                prop_assert_eq!(places.iter().filter(|is| **is).count(), 1);
            }
        }
        for (first, (start, _)) in starts.iter().enumerate() {
            let within = starts[first..].iter().take_while(|(at, _)| at.ms_since(*start) < 300).count();
            prop_assert!(within < (rate.limit + rate.burst) as usize);
        }
    }

    /// (C) With any mix waiting, every line gets a turn within a bounded number of turns.
    #[test]
    fn nobody_starves(lines in proptest::collection::vec((0u8..3, 0u8..4), 1..8), concurrency in 1u32..4) {
        let rules = limited(concurrency);
        let mut gate = Gate::default();
        let mut expected = BTreeSet::new();
        for (priority, namespace) in lines {
            let job = format!("n{namespace}/p{priority}");
            gate.admit(
                &GateRules { paused: true, ..GateRules::default() }, at(0),
                &many(&job, Priority::ALL[usize::from(priority)], 200), 100,
            );
            expected.insert(job);
        }
        let counts = turns(&mut gate, &rules, 21 * 5);
        for job in expected {
            prop_assert!(counts.contains_key(&job), "{job} of {counts:?}");
        }
    }
}
