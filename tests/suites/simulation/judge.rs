//! The verdict when all is over and calm: what had to run did and has ended, nothing else ran, nothing is left behind, and what was due in
//! quiet times was on time.

use std::collections::BTreeMap;

use anyhow::Result;
use model::id::{Occurrence, RunId};
use model::name::JobId;
use model::time::Timestamp;
use store::LedgerStore;

use crate::faults::Losing;
use crate::jobs::Call;
use crate::play::{Outcome, Play};

/// What is due so soon before the end may still be under way.
const UNDER_WAY_MS: i64 = 180_000;
/// So long after the last trouble everything must be normal.
const RECOVERY_MS: i64 = 400_000;
/// In quiet times nothing begins later than this.
const LATE_MAX_MS: i64 = 1_500;

pub(crate) async fn outcome(
    seed: u64,
    play: &Play,
    begin_ms: i64,
    calm_since: i64,
    faults: BTreeMap<&'static str, u64>,
) -> Result<Outcome> {
    let watch = &play.cluster.watch;
    let now_ms = watch.now().as_ms();
    let until_ms = now_ms - UNDER_WAY_MS;
    let mut outcome = Outcome { seed, faults, ..Outcome::default() };
    let mut found: Vec<(&str, String)> = Vec::new();
    let runs = watch.seen().runs.clone();
    let mut calls: BTreeMap<JobId, &crate::jobs::Timeline> = BTreeMap::new();
    for job in &play.jobs {
        let id: JobId = job.id().parse()?;
        for due_ms in job.timeline.instants(until_ms) {
            if job.timeline.call(due_ms, &play.troubles) != Call::Must {
                continue;
            }
            outcome.owed += 1;
            let due_at = Timestamp::from_ms(due_ms);
            let run_id = RunId::Occurrence(Occurrence { job: id.clone(), due_at });
            let seen = runs.get(&run_id);
            let Some(first) = seen.and_then(|run| run.begun.first()) else {
                match seen {
                    Some(run) if run.is_mistakable() => outcome.mistaken += 1,
                    // As a dead letter: too many of its deliveries were lost.
                    Some(run) if run.ended > 0 => outcome.given_up += 1,
                    Some(_) | None => found.push(("I1", format!("{run_id} never began"))),
                }
                continue;
            };
            let late_ms = first.as_ms() - due_ms;
            if play.troubles.none_in(due_ms - RECOVERY_MS, due_ms + LATE_MAX_MS)
                && due_ms > begin_ms + RECOVERY_MS
            {
                outcome.late_max_ms = outcome.late_max_ms.max(late_ms);
                if late_ms > LATE_MAX_MS {
                    found.push(("I26", format!("{run_id} began {late_ms} ms late in quiet times")));
                }
            }
        }
        let shard = play.cluster.shards.shard_of(&id);
        for record in play.cluster.store.runs(shard, &id, usize::MAX).await? {
            if !record.state.is_end() && record.occurrence.due_at.as_ms() <= until_ms {
                found.push(("I10", format!("{} is {:?} in the end", record.occurrence, record.state)));
            }
        }
        calls.insert(id, &job.timeline);
    }
    for (run_id, run) in &runs {
        outcome.runs += u64::from(!run.begun.is_empty());
        outcome.begun_again += run.begun.len().saturating_sub(1) as u64;
        let Some(first) = run.begun.first() else { continue };
        if run.ended == 0 && run.is_mistakable() {
            outcome.mistaken += 1;
        } else if run.ended == 0 && first.as_ms() <= until_ms {
            found.push(("I1", format!("{run_id} began at {first} and has no outcome")));
        }
        let RunId::Occurrence(Occurrence { job, due_at }) = run_id else { continue };
        let call =
            calls.get(job).map_or(Call::Never, |timeline| timeline.call(due_at.as_ms(), &play.troubles));
        // An instant of a whole second is a schedule's; a trigger whose answer was lost is nobody's to name.
        let by_schedule = due_at.as_ms() % 1_000 == 0;
        if call == Call::Never && by_schedule && !play.triggered.contains(run_id) {
            found.push(("I2", format!("{run_id} began at {first}, and nothing names it")));
        }
    }
    for run_id in play.triggered.iter().filter(|_| play.loses() != Losing::Store) {
        let RunId::Occurrence(Occurrence { job, due_at }) = run_id else { continue };
        let kept = calls.get(job).is_some_and(|timeline| timeline.keeps(due_at.as_ms(), &play.troubles));
        if kept && due_at.as_ms() <= until_ms && !runs.contains_key(run_id) {
            found.push(("I1", format!("{run_id} was triggered, and never published")));
        }
    }
    found.into_iter().for_each(|(id, text)| watch.violate(id, text));
    let seen = watch.seen();
    outcome.seconds = u64::try_from((now_ms - begin_ms) / 1_000)?;
    outcome.legs = seen.legs;
    outcome.digest = seen.digest;
    outcome.old_copies = seen.old_copies;
    outcome.violated = seen.violated;
    outcome.violations.clone_from(&seen.violations);
    if calm_since > now_ms {
        outcome.violations.push("time went back".into());
    }
    Ok(outcome)
}
