//! The gates of queues: the limits, the turns, and that every implementation lets the same runs go.

use std::collections::BTreeMap;
use std::fmt::Write;

use model::gate::GateRules;
use model::id::Occurrence;
use model::name::{Name, QueueId};
use model::priority::Priority;
use model::shard::ShardId;
use model::time::Timestamp;

use super::random::Random;
use super::world::{at, entry, occurrence, sent};
use super::{Fixture, World};
use crate::GateStore;
use crate::gate::{Admission, GATE_BATCH_MAX, GateRun, Picked};

const HOME: ShardId = ShardId(7);

fn queue() -> QueueId {
    "billing/reports".parse().unwrap()
}

fn limited(concurrency: u32) -> GateRules {
    GateRules { concurrency: Some(concurrency), ..GateRules::default() }
}

fn due(number: usize) -> Timestamp {
    at("07:00:00").plus_ms(i64::try_from(number).unwrap())
}

fn run(job: &str, number: usize) -> GateRun {
    GateRun { occurrence: occurrence(job, due(number)), priority: Priority::Normal, rate_key: None }
}

fn runs(job: &str, count: usize) -> Vec<GateRun> {
    (0..count).map(|number| run(job, number)).collect()
}

fn ids(runs: &[Occurrence]) -> Vec<String> {
    runs.iter().map(ToString::to_string).collect()
}

async fn admit(f: &impl Fixture, rules: &GateRules, now: Timestamp, runs: &[GateRun]) -> Admission {
    f.store().admit(HOME, &queue(), rules, now, runs).await.unwrap()
}

async fn leave(f: &impl Fixture, rules: &GateRules, now: Timestamp, ended: &[Occurrence]) -> Picked {
    f.store().leave(HOME, &queue(), rules, now, ended).await.unwrap()
}

pub async fn only_so_many_go_and_an_end_lets_the_next_go<F: Fixture>(f: &F) {
    let (rules, now) = (limited(2), at("07:00:01"));
    let asked = admit(f, &rules, now, &runs("a/b", 4)).await;
    assert_eq!(asked, Admission { may_go: vec![true, true, false, false], ..Admission::default() });
    // The others of an earlier call are released to whoever's call frees their place.
    let released = leave(f, &rules, now, &[occurrence("a/b", due(1))]).await;
    assert_eq!(ids(&released.runs), ["a/b@2026-11-22T07:00:00.002Z"]);
    assert_eq!(leave(f, &rules, now, &[occurrence("a/b", due(1))]).await, Picked::default(), "it had left");
    let view = f.store().gate(HOME, &queue()).await.unwrap();
    assert_eq!((view.active, view.waiting.len(), view.waiting[0].runs), (2, 1, 1));
    assert_eq!(view.waiting[0].first_due, due(3));
}

pub async fn asking_the_gate_again_changes_nothing<F: Fixture>(f: &F) {
    let rules = GateRules { rate: "1/1m".parse().ok(), ..limited(3) };
    for _ in 0..3 {
        let asked = admit(f, &rules, at("07:00:01"), &runs("a/b", 3)).await;
        assert_eq!(asked.may_go, [true, false, false]);
        assert_eq!((asked.released, asked.next_at), (vec![], Some(at("07:01:01.025"))));
    }
    let asked = admit(f, &rules, at("07:01:01.025"), &runs("c/d", 1)).await;
    assert_eq!((asked.may_go, ids(&asked.released)), (vec![true], vec![]), "namespaces take turns");
    let released = leave(f, &rules, at("07:03:00"), &[]).await;
    assert_eq!(ids(&released.runs), ["a/b@2026-11-22T07:00:00.001Z"]);
}

pub async fn a_key_without_a_token_is_passed_over<F: Fixture>(f: &F) {
    let rules = GateRules { key_rate: "1/10s".parse().ok(), ..GateRules::default() };
    let keyed = |number, key: &str| GateRun { rate_key: Some(key.into()), ..run("a/b", number) };
    let asking = [keyed(0, "k"), keyed(1, "k"), keyed(2, "l m"), run("a/b", 3)];
    let asked = admit(f, &rules, at("07:00:01"), &asking).await;
    assert_eq!(asked.may_go, [true, false, true, true]);
    assert_eq!(asked.next_at, Some(at("07:00:11.025")));
    assert_eq!(leave(f, &rules, at("07:00:11"), &[]).await.runs, []);
    assert_eq!(leave(f, &rules, at("07:00:12"), &[]).await.runs.len(), 1);
}

pub async fn a_paused_gate_keeps_who_asks<F: Fixture>(f: &F) {
    let paused = GateRules { paused: true, ..GateRules::default() };
    let asked = admit(f, &paused, at("07:00:01"), &runs("a/b", 3)).await;
    assert_eq!(asked, Admission { may_go: vec![false; 3], ..Admission::default() });
    assert_eq!(leave(f, &GateRules::default(), at("07:00:01"), &[]).await.runs.len(), 3);
}

pub async fn priorities_and_namespaces_take_turns<F: Fixture>(f: &F) {
    let shares = BTreeMap::from([(Name::new("a").unwrap(), 3)]);
    let rules = GateRules { shares, ..limited(1) };
    let paused = GateRules { paused: true, ..rules.clone() };
    for priority in Priority::ALL {
        for job in ["a/b", "c/d"] {
            let name = format!("{job}-{}", priority.as_str());
            let asking: Vec<_> =
                runs(&name, 300).into_iter().map(|run| GateRun { priority, ..run }).collect();
            admit(f, &paused, at("07:00:01"), &asking).await;
        }
    }
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut ended = Vec::new();
    for _ in 0..21 * 8 {
        ended = leave(f, &rules, at("07:00:01"), &ended).await.runs;
        for run in &ended {
            *counts.entry(run.job.to_string()).or_default() += 1;
        }
    }
    let expected = [
        ("a/b-high", 96),
        ("a/b-normal", 24),
        ("a/b-low", 6),
        ("c/d-high", 32),
        ("c/d-normal", 8),
        ("c/d-low", 2),
    ];
    for (job, turns) in expected {
        assert!(counts[job].abs_diff(turns) <= 1, "{counts:?}");
    }
}

pub async fn who_ended_while_waiting_is_forgotten<F: Fixture>(f: &F) {
    let rules = limited(1);
    admit(f, &rules, at("07:00:01"), &runs("a/b", 3)).await;
    assert_eq!(leave(f, &rules, at("07:00:01"), &[occurrence("a/b", due(1))]).await.runs, []);
    let released = leave(f, &rules, at("07:00:01"), &[occurrence("a/b", due(0))]).await;
    assert_eq!(ids(&released.runs), ["a/b@2026-11-22T07:00:00.002Z"]);
    let both = [occurrence("a/b", due(2))];
    assert_eq!(leave(f, &rules, at("07:00:01"), &both).await, Picked::default());
    assert_eq!(f.store().gates(HOME).await.unwrap(), []);
}

pub async fn gates_are_listed_while_they_hold_anything<F: Fixture>(f: &F) {
    let rules = GateRules { rate: "1/s".parse().ok(), ..GateRules::default() };
    admit(f, &rules, at("07:00:01"), &runs("a/b", 1)).await;
    let other: QueueId = "a/x".parse().unwrap();
    f.store().admit(HOME, &other, &limited(1), at("07:00:01"), &runs("a/b", 1)).await.unwrap();
    assert_eq!(f.store().gates(HOME).await.unwrap(), [other, queue()]);
    assert_eq!(f.store().gates(ShardId(8)).await.unwrap(), []);
    leave(f, &rules, at("07:00:01"), &[occurrence("a/b", due(0))]).await;
    assert_eq!(f.store().gates(HOME).await.unwrap().len(), 2, "its rate remembers the start");
    leave(f, &rules, at("07:00:03"), &[]).await;
    assert_eq!(f.store().gates(HOME).await.unwrap().len(), 1);
}

pub async fn active_runs_that_nobody_saw_are_found<F: Fixture>(f: &F) {
    admit(f, &limited(9), at("07:00:01"), &runs("a/b", 2)).await;
    admit(f, &limited(9), at("07:00:02"), &runs("c/d", 1)).await;
    let unseen =
        async |time: &str, limit| ids(&f.store().gate_unseen(HOME, &queue(), at(time), limit).await.unwrap());
    assert_eq!(unseen("07:00:01", 9).await, ["a/b@2026-11-22T07:00:00.001Z", "a/b@2026-11-22T07:00:00Z"]);
    let seen = [occurrence("a/b", due(1)), occurrence("x/y", due(1))];
    f.store().gate_seen(HOME, &queue(), at("07:00:03"), &seen).await.unwrap();
    assert_eq!(unseen("07:00:02", 9).await, ["a/b@2026-11-22T07:00:00Z", "c/d@2026-11-22T07:00:00Z"]);
    assert_eq!(unseen("07:00:09", 1).await, ["a/b@2026-11-22T07:00:00Z"]);
    assert_eq!(unseen("07:00:09", 9).await.len(), 3, "nobody was added");
}

pub async fn a_run_is_planned_until_it_is_published<F: Fixture>(f: &F) {
    let w = World::begun(f).await;
    w.planned("a/b", 1, &[at("07:00:00")]).await;
    let is_planned = async |job: &str, time: &str| {
        f.store().is_planned(w.shard, &occurrence(job, at(time))).await.unwrap()
    };
    assert!(is_planned("a/b", "07:00:00").await);
    for (job, time) in [("a/b", "07:00:01"), ("a/b", "07:01:00"), ("a/bc", "07:00:00"), ("a/c", "07:00:00")] {
        assert!(!is_planned(job, time).await, "{job} {time}");
    }
    w.confirm(&[sent(entry("a/b", at("07:00:00"), 1), 11)]).await;
    assert!(!is_planned("a/b", "07:00:00").await);
}

pub async fn large_batches_pass_the_gate<F: Fixture>(f: &F) {
    let paused = GateRules { paused: true, ..GateRules::default() };
    let asking = runs("a/b", 2 * GATE_BATCH_MAX + 1);
    admit(f, &paused, at("07:00:01"), &asking).await;
    let open = GateRules::default();
    let first = leave(f, &open, at("07:00:01"), &[]).await;
    assert_eq!((first.runs.len(), first.next_at), (GATE_BATCH_MAX, Some(at("07:00:01"))));
    let ended: Vec<_> = asking.iter().map(|run| run.occurrence.clone()).collect();
    leave(f, &open, at("07:00:01"), &ended).await;
    assert_eq!(f.store().gate(HOME, &queue()).await.unwrap(), Default::default());
    let asked = admit(f, &open, at("07:00:02"), &asking).await;
    assert!(asked.may_go.iter().all(|may| *may) && asked.released.is_empty());
}

/// The property: two stores let the same runs go, whatever is asked.
pub async fn agree(one: &impl Fixture, two: &impl Fixture, seed: u64, steps: usize) {
    let mut random = Random::of(seed);
    let (mut now, mut rules) = (at("08:00:00"), GateRules::default());
    let mut history = Vec::new();
    for step in 0..steps {
        now = now.plus_ms(i64::try_from(random.below(400)).unwrap());
        if random.chance(10) {
            rules = draw_rules(&mut random);
        }
        let asking: Vec<GateRun> = (0..random.below(7)).map(|_| draw_run(&mut random)).collect();
        let ended: Vec<Occurrence> = (0..random.below(4)).map(|_| draw_run(&mut random).occurrence).collect();
        let what = random.below(8);
        history.push(format!("{step}: {what} at {now} {rules:?} asking {asking:?} ended {ended:?}"));
        let answers = [
            carry_out(one, what, &rules, now, &asking, &ended).await,
            carry_out(two, what, &rules, now, &asking, &ended).await,
        ];
        let last = history[history.len().saturating_sub(12)..].join("\n");
        assert_eq!(answers[0], answers[1], "seed {seed}, step {step}\n{last}");
    }
}

fn draw_rules(random: &mut Random) -> GateRules {
    let rate = |random: &mut Random| {
        let text = random.pick(&["3/s", "2/500ms burst 2", "5/s burst 5", "1/2s"]);
        random.chance(40).then(|| text.parse().unwrap())
    };
    let mut rules = GateRules {
        concurrency: random.chance(60).then(|| u32::try_from(random.below(6) + 1).unwrap()),
        rate: rate(random),
        key_rate: rate(random),
        paused: random.chance(10),
        shares: BTreeMap::new(),
    };
    for name in ["a", "b"] {
        if random.chance(30) {
            rules.shares.insert(Name::new(name).unwrap(), u32::try_from(random.below(5) + 1).unwrap());
        }
    }
    rules
}

fn draw_run(random: &mut Random) -> GateRun {
    let job = random.pick(&["a/a", "a/a-b", "b/c", "c-d/e", "c/e"]);
    let number = usize::try_from(random.below(25)).unwrap();
    let rate_key = random.chance(50).then(|| random.pick(&["k", "l", "m:n"]).to_owned());
    GateRun { occurrence: occurrence(job, due(number * 37)), priority: random.pick(&Priority::ALL), rate_key }
}

async fn carry_out(
    f: &impl Fixture,
    what: u64,
    rules: &GateRules,
    now: Timestamp,
    asking: &[GateRun],
    ended: &[Occurrence],
) -> String {
    let (store, queue) = (f.store(), queue());
    let mut answer = match what {
        0..4 => format!("{:?}", store.admit(HOME, &queue, rules, now, asking).await),
        4..7 => format!("{:?}", store.leave(HOME, &queue, rules, now, ended).await),
        _ => {
            let seen = store.gate_seen(HOME, &queue, now, ended).await;
            format!("{seen:?}{:?}", store.gate_unseen(HOME, &queue, now.plus_ms(-500), 4).await)
        }
    };
    let _ = write!(answer, "{:?}{:?}", store.gate(HOME, &queue).await, store.gates(HOME).await);
    answer
}
