//! The checker itself, on histories with planted faults: what it can't see would go unnoticed for ever.

use super::*;
use crate::evidence::{CatchUp, Declared, Fallen, Injected, Operation, Published, Shown};
use crate::jobs::every;

const JOB: &str = "chaos/two";

fn operation(asked_ms: i64, act: Act, answer: Answer) -> Operation {
    Operation { asked_ms, answered_ms: asked_ms + 100, act, answer, problem: String::new() }
}

fn run_at(due_ms: i64) -> String {
    format!("{JOB}@{}", Timestamp::from_ms(due_ms))
}

/// What an executor sees of one good run.
fn seen(run: &str, due_ms: i64, sequence: u64, begun_ms: i64) -> Vec<Seen> {
    let run = run.to_owned();
    vec![
        Seen::Delivered { run: run.clone(), generation: 0, sequence, delivered: 1, at_ms: begun_ms },
        Seen::Begun { run: run.clone(), attempt: 1, due_ms, token: None, at_ms: begun_ms },
        Seen::Ended { run, attempt: 1, succeeded: true, at_ms: begun_ms + 5 },
    ]
}

fn end(run: &str, attempt: u32, state: &str, ended_ms: i64) -> End {
    End {
        run: run.into(),
        generation: 0,
        attempt,
        state: state.into(),
        sequence: 1,
        executor: "executor-1".into(),
        ended_ms,
    }
}

fn fault(from_ms: i64, until_ms: i64, forgets: bool) -> Injected {
    Injected { kind: "executor-kill".into(), target: String::new(), from_ms, until_ms, forgets }
}

/// A job that occurs every two seconds and did so perfectly from 2 s to 10 s; some fault came before.
fn good() -> Evidence {
    let act = Act::Apply { job: JOB.into(), declared: every(2_000) };
    let mut evidence = Evidence {
        operations: vec![operation(1_000, act, Answer::Done)],
        faults: vec![fault(-60_000, -50_000, false)],
        until_ms: 10_999,
        ..Evidence::default()
    };
    for (index, due_ms) in (2_000..=10_000).step_by(2_000).enumerate() {
        let run = run_at(due_ms);
        evidence.seen.extend(seen(&run, due_ms, index as u64 + 1, due_ms + 3));
        evidence.ends.push(end(&run, 1, "succeeded", due_ms + 8));
    }
    evidence
}

#[test]
fn a_good_history_holds() {
    let verdict = check(&good());
    assert_eq!(verdict.findings, Vec::<String>::new());
    let counts = (verdict.occurrences, verdict.runs, verdict.faults, verdict.lateness_max_ms);
    assert_eq!(counts, (5, 5, 1, 3));
    assert!(verdict.holds, "{verdict:?}");
}

#[test]
fn nothing_at_all_does_not_hold() {
    assert!(!check(&Evidence::default()).holds);
}

type Plant = fn(&mut Evidence);
type Count = fn(&Verdict) -> usize;

#[test]
fn every_planted_violation_is_caught() {
    fn of(evidence: &mut Evidence, run: &str) {
        evidence.seen.retain(|seen| match seen {
            Seen::Delivered { run: of, .. } | Seen::Begun { run: of, .. } | Seen::Ended { run: of, .. } => {
                of != run
            }
            Seen::Reported { .. } => true,
        });
    }
    // (sort, what is planted, what counts it)
    let table: [(&str, Plant, Count); 15] = [
        ("missed", |e| of(e, &run_at(6_000)), |v| v.missed),
        (
            "missed ad-hoc work",
            |e| {
                let act = Act::Submit { token: "t".into(), not_before_ms: None };
                e.operations.push(operation(3_000, act, Answer::Done));
            },
            |v| v.missed,
        ),
        (
            "missed trigger",
            |e| {
                let run = Some("chaos/by-hand@1970-01-01T00:00:03.05Z".into());
                let act = Act::Trigger { job: "chaos/by-hand".into(), run };
                e.operations.push(operation(3_000, act, Answer::Done));
            },
            |v| v.missed,
        ),
        ("doubled", |e| e.seen.extend(seen(&run_at(6_000), 6_000, 77, 6_500)), |v| v.doubled),
        (
            "early",
            |e| {
                of(e, &run_at(6_000));
                e.seen.extend(seen(&run_at(6_000), 6_000, 3, 5_999));
            },
            |v| v.early,
        ),
        (
            "published early",
            |e| {
                let (run, message_id) = (run_at(6_000), String::new());
                e.published.push(Published { run, generation: 0, message_id, at_ms: 5_999 });
            },
            |v| v.early,
        ),
        (
            "deferred work early",
            |e| {
                let act = Act::Submit { token: "t".into(), not_before_ms: Some(9_000) };
                e.operations.push(operation(3_000, act, Answer::Done));
                let (run, token) = ("chaos/defer-1@x".to_owned(), Some("t".to_owned()));
                e.seen.push(Seen::Begun { run: run.clone(), attempt: 1, due_ms: 8_000, token, at_ms: 8_500 });
                e.ends.push(end(&run, 1, "succeeded", 8_600));
            },
            |v| v.early,
        ),
        (
            "two outcomes that differ",
            |e| {
                e.faults.push(fault(5_000, 7_000, false));
                e.ends.push(end(&run_at(6_000), 2, "dead-lettered", 6_500));
            },
            |v| v.double_outcomes,
        ),
        (
            "two outcomes out of the blue",
            |e| e.ends.push(end(&run_at(6_000), 2, "succeeded", 6_500)),
            |v| v.double_outcomes,
        ),
        ("unended", |e| e.ends.retain(|end| end.run != run_at(6_000)), |v| v.unended),
        (
            "invented instant",
            |e| {
                e.seen.extend(seen(&run_at(7_000), 7_000, 70, 7_001));
                e.ends.push(end(&run_at(7_000), 1, "succeeded", 7_002));
            },
            |v| v.invented,
        ),
        (
            "invented job",
            |e| {
                e.seen.extend(seen("chaos/none@x", 7_000, 70, 7_001));
                e.ends.push(end("chaos/none@x", 1, "succeeded", 7_002));
            },
            |v| v.invented,
        ),
        (
            "run of a suspended job",
            |e| {
                let declared = Declared { suspended: true, ..every(2_000) };
                e.operations.push(operation(11_000, Act::Apply { job: JOB.into(), declared }, Answer::Done));
                e.until_ms = 60_000;
                e.seen.extend(seen(&run_at(50_000), 50_000, 70, 50_001));
                e.ends.push(end(&run_at(50_000), 1, "succeeded", 50_002));
            },
            |v| v.invented,
        ),
        (
            "history rewritten",
            |e| {
                for (at_ms, state) in [(7_000, "succeeded"), (8_000, "dead-lettered")] {
                    e.shown.push(Shown { at_ms, run: run_at(6_000), generation: 0, state: state.into() });
                }
            },
            |v| v.rewritten,
        ),
        (
            "requests that fail without a fault",
            |e| e.operations.push(operation(9_000, Act::Read { verb: "get".into() }, Answer::Unknown)),
            |v| v.failed_without_fault,
        ),
    ];
    for (what, plant, count) in table {
        let mut evidence = good();
        plant(&mut evidence);
        let verdict = check(&evidence);
        assert_eq!(count(&verdict), 1, "{what}: {verdict:?}");
        assert!(!verdict.holds && !verdict.findings.is_empty(), "{what}: {verdict:?}");
    }
}

#[test]
fn late_starts_after_the_last_fault_are_a_violation_only_when_they_go_on() {
    for (lateness_ms, holds) in [(1_900, true), (50_000, true), (75_000, false)] {
        let mut evidence = good();
        evidence.faults.push(fault(4_000, 5_000, false));
        evidence.until_ms = 12_500;
        let run = run_at(12_000);
        evidence.seen.extend(seen(&run, 12_000, 9, 12_000 + lateness_ms));
        evidence.ends.push(end(&run, 1, "succeeded", 12_010 + lateness_ms));
        assert_eq!(check(&evidence).holds, holds, "{lateness_ms}");
    }
}

#[test]
fn what_a_fault_explains_is_no_violation() {
    let mut evidence = good();
    evidence.faults.push(fault(5_000, 6_500, true));
    // The executor died after its report and before its acknowledgement.
    let run = run_at(6_000);
    evidence.seen.push(Seen::Delivered {
        run: run.clone(),
        generation: 0,
        sequence: 3,
        delivered: 2,
        at_ms: 36_010,
    });
    evidence.seen.push(Seen::Begun {
        run: run.clone(),
        attempt: 2,
        due_ms: 6_000,
        token: None,
        at_ms: 36_010,
    });
    evidence.ends.push(end(&run, 2, "succeeded", 36_020));
    // A trigger was lost with Redis, a request failed meanwhile, and the history was forgotten.
    let triggered =
        Act::Trigger { job: "chaos/by-hand".into(), run: Some("chaos/by-hand@1970-01-01T00:00:05Z".into()) };
    evidence.operations.push(operation(5_000, triggered, Answer::Done));
    evidence.operations.push(operation(5_500, Act::Read { verb: "get".into() }, Answer::Failed));
    for (at_ms, state) in [(5_000, "dead-lettered"), (7_000, "succeeded")] {
        evidence.shown.push(Shown { at_ms, run: run_at(4_000), generation: 0, state: state.into() });
    }
    evidence.fallen.push(Fallen {
        node: "planner-1".into(),
        at_ms: 5_500,
        lived_ms: 100,
        status: "exit status: 1".into(),
    });
    let verdict = check(&evidence);
    assert_eq!((verdict.begun_again, verdict.repeated_ends, verdict.fallen), (1, 1, 1));
    assert!(verdict.holds, "{verdict:#?}");
}

#[test]
fn a_job_that_needs_not_catch_up_may_miss() {
    let declared = Declared { catch_up: CatchUp::Latest, ..every(2_000) };
    let mut evidence = good();
    evidence.operations = vec![operation(1_000, Act::Apply { job: JOB.into(), declared }, Answer::Done)];
    evidence.seen.clear();
    evidence.ends.clear();
    let verdict = check(&evidence);
    assert_eq!((verdict.missed, verdict.occurrences), (0, 0));
    // But a campaign in which nothing had to happen proves nothing.
    assert!(!verdict.holds);
}
