//! Compares what was seen with what the model says.

use std::collections::{BTreeMap, BTreeSet};

use model::name::JobId;
use model::time::Timestamp;

use crate::play::{Begun, Seen, Standing};
use crate::rules::Rules;

/// Runs of one job that the store shows at once.
const SHOWN_MAX: usize = 500;

/// Every disagreement, in words; none if all is well.
pub(crate) fn disagreements(seed: u64, seen: &Seen) -> anyhow::Result<Vec<String>> {
    let mut rules = Rules::begin(seed, seen.begin);
    for fact in &seen.facts {
        rules.learn(fact)?;
    }
    let mut found = rules.objections.clone();
    found.extend(always(&seen.begun));
    found.extend(starts(rules.begun(), &seen.begun));
    found.extend(standings(&rules.standings(), &seen.standings));
    Ok(found)
}

/// What holds whatever the model says.
pub(crate) fn always(begun: &[Begun]) -> Vec<String> {
    let mut found = Vec::new();
    let mut attempts: BTreeSet<(&JobId, Timestamp, u32)> = BTreeSet::new();
    for one in begun {
        if one.at < one.due_at {
            found.push(format!("{one:?}: before it was due"));
        }
        if !attempts.insert((&one.job, one.due_at, one.attempt)) {
            found.push(format!("{one:?}: twice"));
        }
    }
    found
}

/// Attempts that began, in order of time; those of one instant in any order.
fn starts(expected: &[Begun], seen: &[Begun]) -> Vec<String> {
    let sorted = |begun: &[Begun]| begun.iter().cloned().collect::<BTreeSet<Begun>>();
    let (expected, seen) = (sorted(expected), sorted(seen));
    let missing = expected.difference(&seen).map(|one| format!("{}: should have begun: {one:?}", one.at));
    let extra =
        seen.difference(&expected).map(|one| format!("{}: began, and shouldn't have: {one:?}", one.at));
    let mut found: Vec<String> = missing.chain(extra).collect();
    found.sort();
    found
}

fn standings(expected: &BTreeMap<JobId, Standing>, seen: &BTreeMap<JobId, Standing>) -> Vec<String> {
    let mut found = Vec::new();
    let jobs: BTreeSet<&JobId> = expected.keys().chain(seen.keys()).collect();
    for job in jobs {
        let (Some(expected), Some(seen)) = (expected.get(job), seen.get(job)) else {
            let there = [expected.contains_key(job), seen.contains_key(job)];
            found.push(format!("{job}: is expected, is there: {there:?}"));
            continue;
        };
        let newest = expected.runs.keys().rev().nth(SHOWN_MAX - 1).copied().unwrap_or(Timestamp::from_ms(0));
        let dues: BTreeSet<&Timestamp> =
            expected.runs.keys().chain(seen.runs.keys()).filter(|due_at| **due_at >= newest).collect();
        for due_at in dues {
            let (wanted, got) = (expected.runs.get(due_at), seen.runs.get(due_at));
            let agree = match (wanted, got) {
                (Some((state, reason)), Some((seen, text))) => state == seen && fits(reason, text),
                (None, None) => true,
                (Some(_), None) => expected.forgettable.contains(due_at),
                _ => false,
            };
            if !agree {
                found.push(format!("{job}@{due_at}: expected {wanted:?}, was {got:?}"));
            }
        }
        if expected.counts != seen.counts {
            let (wanted, got) = (expected.counts, seen.counts);
            found.push(format!(
                "{job}: succeeded, failed, cancelled, skipped: expected {wanted:?}, were {got:?}"
            ));
        }
        if expected.next_due != seen.next_due {
            let (wanted, got) = (expected.next_due, seen.next_due);
            found.push(format!("{job}: next due: expected {wanted:?}, was {got:?}"));
        }
    }
    found
}

/// Whether a reason as people read it is the one of the model.
fn fits(expected: &Option<String>, text: &Option<String>) -> bool {
    let (Some(expected), Some(text)) = (expected, text) else { return expected.is_none() };
    let words: &[&str] = match expected.as_str() {
        "catch-up none" => &["catchUp is none"],
        "catch-up latest" => &["only the latest"],
        "catch-up window" => &["catchUp window"],
        "catch-up max" => &["catchUp.max"],
        "deadline" => &["startingDeadline"],
        "superseded" => &["no longer names"],
        "suspended" => &["suspended"],
        "deleted" => &["deleted"],
        "deleted or superseded" => &["deleted", "no longer names"],
        "overlap" => &["overlap is skip"],
        "coalesced" => &["a newer occurrence took its place"],
        _ => &[],
    };
    words.iter().any(|word| text.contains(word))
}

/// Prints a history's attempts, as they were seen and as the model says.
pub(crate) fn trace(history: &crate::history::History) -> anyhow::Result<()> {
    let seen = crate::play::play(history)?;
    let mut rules = Rules::begin(history.seed, seen.begin);
    for fact in &seen.facts {
        println!("{fact:?}");
        rules.learn(fact)?;
    }
    for (who, begun) in [("seen", seen.begun.as_slice()), ("model", rules.begun())] {
        for one in begun {
            let work = crate::history::Work::of(history.seed, &one.job, one.due_at);
            println!(
                "{who}: {} {}@{} #{} v{} {work:?}",
                one.at, one.job, one.due_at, one.attempt, one.version
            );
        }
    }
    for (job, standing) in &seen.standings {
        println!("{job}: {standing:#?}");
    }
    Ok(())
}
