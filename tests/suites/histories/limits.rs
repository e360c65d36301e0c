//! What holds in every history with limits, whoever gets which place: the plain model doesn't tell whose turn it is at a gate, nor how
//! catch-ups are spread out.

use std::collections::BTreeMap;

use anyhow::Result;
use model::name::{JobId, QueueId};
use model::time::Timestamp;

use crate::compare::always;
use crate::draw::ending;
use crate::history::{Deed, History, Limits, queue_of};
use crate::play::{Fact, Seen};

/// Everything that shouldn't have been, in words.
pub(crate) fn violations(history: &History, seen: &Seen) -> Result<Vec<String>> {
    let mut found = always(&seen.begun);
    found.extend(too_many_at_once(history.limits, seen));
    found.extend(too_many_in_a_period(history.limits, seen)?);
    found.extend(without_one_end(history, seen));
    Ok(found)
}

fn too_many_at_once(limits: Limits, seen: &Seen) -> Vec<String> {
    let Some(limit) = limits.concurrency else { return Vec::new() };
    let excess = seen.most_at_once.iter().filter(|(_, most)| **most > limit as usize);
    excess.map(|(queue, most)| format!("{queue}: {most} at once, though only {limit} may be")).collect()
}

/// Runs that were first started within one period.
fn too_many_in_a_period(limits: Limits, seen: &Seen) -> Result<Vec<String>> {
    let Some((starts, period_s, burst)) = limits.rate else { return Ok(Vec::new()) };
    let lifted_at = seen.facts.iter().find_map(|fact| match fact {
        Fact::Did { at, deed: Deed::LiftLimits, .. } => Some(*at),
        Fact::Did { .. } | Fact::Ticked { .. } => None,
    });
    let mut first_starts: BTreeMap<(&JobId, Timestamp), Timestamp> = BTreeMap::new();
    for begun in seen.begun.iter().filter(|begun| lifted_at.is_none_or(|lifted_at| begun.at < lifted_at)) {
        let first = first_starts.entry((&begun.job, begun.due_at)).or_insert(begun.at);
        *first = begun.at.min(*first);
    }
    let mut by_queue: BTreeMap<QueueId, Vec<Timestamp>> = BTreeMap::new();
    for ((job, _), at) in first_starts {
        by_queue.entry(queue_of(job)?).or_default().push(at);
    }
    let most = (starts + burst - 1) as usize;
    let mut found = Vec::new();
    for (queue, mut starts) in by_queue {
        starts.sort_unstable();
        for (index, first) in starts.iter().enumerate() {
            let end = first.plus_ms(i64::from(period_s) * 1_000);
            let count = starts[index..].iter().take_while(|at| **at < end).count();
            if count > most {
                found.push(format!("{queue}: {count} starts in the {period_s} s from {first}, not {most}"));
            }
        }
    }
    Ok(found)
}

/// In the end each run has ended, as one that was begun, once.
fn without_one_end(history: &History, seen: &Seen) -> Vec<String> {
    let mut found = Vec::new();
    // Shrinking may have left out the end, or who sees to it.
    let served =
        |fact: &Fact| matches!(fact, Fact::Ticked { planned, settled: true, .. } if !planned.is_empty());
    if !history.scenes.ends_with(&ending()) || !seen.facts.last().is_some_and(served) {
        return found;
    }
    for begun in &seen.begun {
        let standing = seen.standings.get(&begun.job);
        if standing.is_none_or(|standing| !standing.runs.contains_key(&begun.due_at)) {
            found.push(format!("{begun:?}: nobody knows this run"));
        }
    }
    for (job, standing) in &seen.standings {
        for (due_at, (state, _)) in &standing.runs {
            if ["waiting", "dispatched"].contains(&state.as_str()) {
                found.push(format!("{job}@{due_at}: is {state} in the end"));
            }
        }
        let counted: u64 = standing.counts.iter().sum();
        if standing.runs.len() as u64 != counted.min(RUNS_SHOWN) {
            found.push(format!("{job}: {} runs have ended, {counted} were counted", standing.runs.len()));
        }
    }
    found
}

/// Runs of one job that the store shows at once.
const RUNS_SHOWN: u64 = 500;
