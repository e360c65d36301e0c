//! The chain: every step from the schedule to the outcome, and how far this occurrence came.

use super::{
    Attempted, Cause, Facts, Fate, Follows, NO_REPORT, Naming, RunFacts, Status, Step, Then, attempts_made,
};
use crate::bucket::Tier;
use crate::run::{RunState, WaitsFor};
use crate::time::Timestamp;

fn step(what: &'static str, status: Status, at: Option<Timestamp>, note: impl Into<String>) -> Step {
    Step { what, status, at, note: note.into() }
}

pub(super) fn chain(facts: &Facts, then: &Then, naming: Option<&Naming>, cause: &Cause) -> Vec<Step> {
    let mut steps =
        vec![declared(facts, then), named(facts, then, naming, cause), enabled(facts, then, cause)];
    steps.push(current(facts, cause));
    steps.push(planned(facts, cause));
    steps.push(taken(facts, cause));
    steps.push(admitted(facts, then, cause));
    steps.extend(carried_out(facts));
    // Nothing comes after the step that stopped it.
    if let Some(stop) = steps.iter().position(|step| step.status == Status::Refused) {
        steps.truncate(stop + 1);
    }
    steps
}

/// What stopped a run before it was published.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop<'a> {
    /// Somebody cancelled it before it was due.
    Withdrawn(&'a RunFacts),
    /// Somebody cancelled it while it waited.
    CancelledWaiting(&'a RunFacts),
    /// It fell into an interruption or a pause, and its catch-up left it out.
    Missed { paused: bool },
}

impl<'a> Stop<'a> {
    fn of(facts: &'a Facts, cause: &Cause) -> Option<Self> {
        if cause.code.starts_with("catch-up") {
            let paused = !facts.interruptions.iter().any(|gap| gap.missed(facts.at));
            return Some(Self::Missed { paused });
        }
        let cancelled = |run: &&RunFacts| run.state == RunState::Cancelled && !run.was_published();
        let run = facts.run.as_ref().filter(cancelled)?;
        let ahead = run.ended_at.is_some_and(|ended_at| ended_at < facts.at);
        Some(if ahead { Self::Withdrawn(run) } else { Self::CancelledWaiting(run) })
    }
}

fn cancelled(run: &RunFacts) -> String {
    run.cancel.as_ref().map_or_else(|| "cancelled".into(), |cancel| format!("cancelled {}", cancel.whose()))
}

fn declared(facts: &Facts, then: &Then) -> Step {
    let what = "declared";
    let created = facts.declared.as_ref().map(|declared| declared.acceptance.created_at);
    let asked_for = facts.run.is_some() || facts.entry.is_some();
    let (status, more) =
        if asked_for { (Status::Done, "; the run was asked for") } else { (Status::Refused, "") };
    if let Some(deleted) = &then.deleted {
        return step(what, status, Some(deleted.at), format!("deleted before this instant{more}"));
    }
    if let (Some(later), Some(false)) = (then.created_later, then.existed) {
        return step(what, status, Some(later), format!("created after this instant{more}"));
    }
    match (&facts.invalid, &facts.declared) {
        (Some(problems), None) => step(what, Status::Refused, None, format!("invalid: {problems}")),
        (_, Some(_)) => step(what, Status::Done, created, "the job existed"),
        (None, None) => step(what, Status::Done, None, "the job existed, and is deleted since"),
    }
}

fn named(facts: &Facts, then: &Then, naming: Option<&Naming>, cause: &Cause) -> Step {
    let what = "named";
    let asked_for = facts.run.is_some() || facts.entry.is_some();
    let schedule = facts.declared.as_ref().filter(|_| then.older.is_none());
    let schedule = schedule.map(|declared| declared.schedule.describe());
    let schedule = schedule.unwrap_or_else(|| "by the schedule it had then".into());
    let backfill = facts.backfill.as_ref().map(|name| format!("; asked for by the backfill {name}"));
    let backfill = backfill.unwrap_or_default();
    match naming {
        Some(Naming::Named { .. }) if cause.code == "before-schedule" => {
            let since = facts.declared.as_ref().map(|declared| declared.acceptance.schedule_since);
            step(what, Status::Refused, since, "the schedule counts only since then")
        }
        Some(Naming::Named { reasons }) if reasons.is_empty() => {
            step(what, Status::Done, Some(facts.at), format!("{schedule}{backfill}"))
        }
        Some(Naming::Named { reasons }) => {
            let note = format!("{schedule} ({}){backfill}", reasons.join("; "));
            step(what, Status::Done, Some(facts.at), note)
        }
        None => step(what, Status::Open, None, "the schedule that it had then isn't known any more"),
        Some(Naming::FollowsEnds { .. }) if asked_for => {
            step(what, Status::Done, Some(facts.at), followed(facts, &schedule))
        }
        // It might have been due here.
        Some(Naming::FollowsEnds { .. }) if cause.code == "suspended" => {
            step(what, Status::Open, None, schedule)
        }
        Some(_) if asked_for => {
            let edited = then.edited.as_ref().or(facts.changes.first()).is_some_and(|c| c.at > facts.at);
            let note =
                if edited { "not by its present schedule" } else { "not by its schedule: it was triggered" };
            step(what, Status::Done, Some(facts.at), format!("{note}{backfill}"))
        }
        Some(_) => step(what, Status::Refused, None, schedule),
    }
}

/// Why a run is there whose job runs a while after its last run has ended.
fn followed(facts: &Facts, schedule: &str) -> String {
    match facts.follows {
        Some(Follows::End(at)) => format!("{schedule}: the one before ended at {at}"),
        Some(Follows::Planned) => schedule.to_owned(),
        None => format!("{schedule}, or triggered: which of them isn't remembered"),
    }
}

fn enabled(facts: &Facts, then: &Then, cause: &Cause) -> Step {
    let what = "enabled";
    let asked_for = facts.run.is_some() || facts.entry.is_some();
    let paused_now = || facts.declared.as_ref().is_some_and(|d| d.acceptance.paused_since().is_some());
    let (status, note) = match &then.paused {
        _ if cause.code == "suspended" && facts.run.is_some() => (Status::Refused, "the job was suspended"),
        Some(_) if cause.code.starts_with("catch-up") || cause.code == "forgotten" => {
            (Status::Done, "the job was suspended; its catch-up decided at the resume")
        }
        Some(_) if !asked_for => (Status::Refused, "the job was suspended"),
        Some(_) if facts.not_before.is_some() => {
            (Status::Done, "the job was suspended, and is caught up on since")
        }
        Some(_) => (Status::Done, "the job was suspended; this run was asked for, or came before"),
        None if facts.at > facts.now && paused_now() => (Status::Refused, "the job is suspended"),
        None => (Status::Done, "the job wasn't suspended"),
    };
    step(what, status, then.paused.as_ref().map(|paused| paused.at), note)
}

fn current(facts: &Facts, cause: &Cause) -> Step {
    let what = "installed";
    match (facts.revision, facts.observed) {
        _ if cause.code == "superseded" => step(what, Status::Refused, None, "superseded by an edit"),
        (Some(newest), Some(observed)) if observed < newest && facts.run.is_none() => {
            step(what, Status::Missing, None, format!("revision {newest}; revision {observed} is in force"))
        }
        (Some(newest), None) if facts.run.is_none() => {
            step(what, Status::Missing, None, format!("revision {newest}"))
        }
        _ => {
            let revision = facts.run.as_ref().map(|run| run.revision).or(facts.observed);
            step(what, Status::Done, None, revision.map(|r| format!("revision {r}")).unwrap_or_default())
        }
    }
}

fn planned(facts: &Facts, cause: &Cause) -> Step {
    let what = "planned";
    match Stop::of(facts, cause) {
        Some(Stop::Withdrawn(run)) => {
            let note = format!("{}, before it was due", cancelled(run));
            return step(what, Status::Refused, run.ended_at, note);
        }
        Some(Stop::Missed { paused: true }) => {
            return step(what, Status::Open, None, "not while the job was suspended");
        }
        Some(Stop::Missed { paused: false }) => {
            return step(what, Status::Open, None, "nobody dispatched its shard then");
        }
        Some(Stop::CancelledWaiting(_)) | None => {}
    }
    if facts.run.is_some() {
        return step(what, Status::Done, None, "it was in the minute tier; since when is not recorded");
    }
    if facts.not_before.is_some() {
        return step(what, Status::Done, None, "it comes back into the minute tier when it is its turn");
    }
    if let Some(revision) = facts.entry {
        return step(what, Status::Done, None, format!("in the minute tier, under revision {revision}"));
    }
    let until = facts.plan.map(|plan| plan.planned_until);
    match (facts.placed, until) {
        (Some(placed), _) if placed.due_at == facts.at => {
            let tier = if placed.tier == Tier::HalfHour { "half-hour tier" } else { "horizon" };
            step(what, Status::Open, None, format!("it waits in the {tier}"))
        }
        (_, Some(until)) if until > facts.at => {
            step(what, Status::Done, None, format!("everything before {until} is planned"))
        }
        (_, Some(until)) if facts.at > facts.now => {
            step(what, Status::Open, None, format!("the plan reaches until {until}"))
        }
        (_, Some(until)) => step(what, Status::Missing, None, format!("the plan reaches only until {until}")),
        (_, None) => step(what, Status::Missing, None, "nobody has planned this shard"),
    }
}

fn taken(facts: &Facts, cause: &Cause) -> Step {
    let what = "taken";
    if let Some(Stop::Missed { paused }) = Stop::of(facts, cause) {
        let note = if paused { "decided at the resume" } else { "decided after the interruption" };
        return step(what, Status::Open, None, note);
    }
    let until = facts.plan.map(|plan| plan.taken_until);
    let by = facts.dispatcher.as_ref().map(|node| format!(" (dispatcher: {node})")).unwrap_or_default();
    match until {
        _ if facts.run.is_some() => step(what, Status::Done, None, "by a dispatcher; when is not recorded"),
        Some(until) if until >= facts.at => {
            step(what, Status::Done, None, format!("everything up to {until} is taken{by}"))
        }
        Some(until) if facts.at <= facts.now => {
            step(what, Status::Missing, None, format!("the shard is taken only up to {until}{by}"))
        }
        _ => step(what, Status::Open, None, format!("when it is due{by}")),
    }
}

fn admitted(facts: &Facts, then: &Then, cause: &Cause) -> Step {
    let what = "admitted";
    let stop = Stop::of(facts, cause);
    if let Some(Stop::CancelledWaiting(run)) = stop {
        return step(what, Status::Refused, run.ended_at, format!("{} while it waited", cancelled(run)));
    }
    match &facts.run {
        Some(run) if run.state == RunState::Skipped && !run.was_published() => {
            let resumed = then.resumed.as_ref().filter(|_| stop == Some(Stop::Missed { paused: true }));
            let at = resumed.map(|resumed| resumed.at).or(run.ended_at);
            step(what, Status::Refused, at, run.skip_reason.clone().unwrap_or_default())
        }
        Some(run) if run.state == RunState::Waiting && run.waits_for != Some(WaitsFor::Dispatch) => step(
            what,
            Status::Missing,
            None,
            run.waits_for.map(|waits| format!("waits for {}", waits.as_str())).unwrap_or_default(),
        ),
        Some(_) => step(what, Status::Done, None, "by overlap, limits, deadline and catch-up"),
        None if facts.not_before.is_some() => {
            step(what, Status::Missing, facts.not_before, "held back by the catch-up's rate")
        }
        None if cause.code.starts_with("catch-up") => step(what, Status::Refused, None, "by catch-up"),
        None => step(what, Status::Open, None, ""),
    }
}

fn carried_out(facts: &Facts) -> Vec<Step> {
    let Some(run) = &facts.run else {
        let what = ["published", "delivered", "attempted", "acknowledged"];
        return what.map(|what| step(what, Status::Open, None, "")).to_vec();
    };
    let mut steps = vec![published(run), delivered(facts, run)];
    if run.attempts.is_empty() {
        steps.push(step("attempted", Status::Missing, None, "no attempt has been reported"));
    }
    for made in attempts_made(&run.attempts, None) {
        let attempt = match made {
            Attempted::Ended(attempt) => attempt,
            Attempted::Unreported { attempt, .. } => {
                steps.push(step(
                    "attempted",
                    Status::Open,
                    None,
                    format!("attempt {attempt} lost ({NO_REPORT})"),
                ));
                continue;
            }
        };
        let end = &attempt.end;
        let again = if attempt.generation.0 > 0 {
            format!(", after redrive {}", attempt.generation.0)
        } else {
            String::new()
        };
        let error = end.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
        let note = format!(
            "attempt {} {} at {} on {}{again}{error}",
            end.attempt,
            end.outcome.as_str(),
            end.ended_at,
            attempt.executor
        );
        steps.push(step("attempted", Status::Done, Some(end.started_at), note));
    }
    steps.push(match (run.state.is_end(), run.ended_at) {
        (true, at) => step("acknowledged", Status::Done, at, format!("settled as {}", run.state.as_str())),
        (false, _) => step("acknowledged", Status::Missing, None, "no end is known yet"),
    });
    steps
}

fn published(run: &RunFacts) -> Step {
    let Some(at) = run.published_at else {
        // Its record was lost, and its end came from an executor.
        let (status, note) =
            if run.was_published() { (Status::Done, "when isn't known") } else { (Status::Missing, "") };
        return step("published", status, None, note);
    };
    let by = match (&run.published_by, run.epoch) {
        (Some(node), Some(epoch)) => format!("by {node} under epoch {epoch}"),
        (None, Some(0)) => "by a redrive".to_owned(),
        (None, Some(epoch)) => format!("under epoch {epoch}"),
        (_, None) => String::new(),
    };
    let sequence = run.sequence.map(|sequence| format!(", sequence {sequence}")).unwrap_or_default();
    step("published", Status::Done, Some(at), format!("{by}{sequence}"))
}

fn delivered(facts: &Facts, run: &RunFacts) -> Step {
    let what = "delivered";
    let reached = facts.queue.as_ref().is_some_and(|queue| {
        queue.has_consumer && run.sequence.is_some_and(|sequence| queue.delivered_until >= sequence)
    });
    if !run.attempts.is_empty() || reached || (run.state.is_end() && run.state != RunState::Cancelled) {
        return step(what, Status::Done, None, "to an executor");
    }
    if run.state == RunState::Cancelled {
        let note = format!("{}: its message was taken off its queue", cancelled(run));
        return step(what, Status::Refused, run.ended_at, note);
    }
    match &facts.queue {
        Some(queue) => {
            let note = format!(
                "{}: {} wait, {} in hand, {} ask for work",
                queue.name, queue.undelivered, queue.in_hand, queue.waiting_pulls
            );
            step(what, Status::Missing, None, note)
        }
        None => step(what, Status::Open, None, "the queue can't be looked at"),
    }
}

impl Cause {
    /// Whether it explains something that hasn't come about although it should.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.fate == Fate::UnderWay
    }
}
