//! The chain: every step from the schedule to the outcome, and how far this occurrence came.

use super::{Cause, Facts, Fate, Naming, RunFacts, Status, Step, Then};
use crate::bucket::Tier;
use crate::run::{RunState, WaitsFor};
use crate::time::Timestamp;

fn step(what: &'static str, status: Status, at: Option<Timestamp>, note: impl Into<String>) -> Step {
    Step { what, status, at, note: note.into() }
}

pub(super) fn chain(facts: &Facts, then: &Then, naming: Option<&Naming>, cause: &Cause) -> Vec<Step> {
    let mut steps = vec![declared(facts, then), named(facts, then, naming), enabled(facts, then)];
    steps.push(current(facts, cause));
    steps.push(planned(facts));
    steps.push(taken(facts));
    steps.push(admitted(facts, cause));
    steps.extend(carried_out(facts));
    // Nothing comes after the step that stopped it.
    if let Some(stop) = steps.iter().position(|step| step.status == Status::Refused) {
        steps.truncate(stop + 1);
    }
    steps
}

fn declared(facts: &Facts, then: &Then) -> Step {
    let what = "declared";
    let created = facts.declared.as_ref().map(|declared| declared.acceptance.created_at);
    if let Some(deleted) = &then.deleted {
        return step(what, Status::Refused, Some(deleted.at), "deleted before this instant");
    }
    if let (Some(later), Some(false)) = (then.created_later, then.existed) {
        return step(what, Status::Refused, Some(later), "created after this instant");
    }
    match (&facts.invalid, &facts.declared) {
        (Some(problems), None) => step(what, Status::Refused, None, format!("invalid: {problems}")),
        (_, Some(_)) => step(what, Status::Done, created, "the job existed"),
        (None, None) => step(what, Status::Done, None, "the job existed, and is deleted since"),
    }
}

fn named(facts: &Facts, then: &Then, naming: Option<&Naming>) -> Step {
    let what = "named";
    let schedule = facts.declared.as_ref().filter(|_| then.older.is_none());
    let schedule = schedule.map(|declared| declared.schedule.describe());
    let schedule = schedule.unwrap_or_else(|| "by the schedule it had then".into());
    match naming {
        Some(Naming::Named { reasons }) if reasons.is_empty() => {
            step(what, Status::Done, Some(facts.at), schedule)
        }
        Some(Naming::Named { reasons }) => {
            step(what, Status::Done, Some(facts.at), format!("{schedule} ({})", reasons.join("; ")))
        }
        None => step(what, Status::Open, None, "the schedule that it had then isn't known any more"),
        Some(_) if facts.run.is_some() || facts.entry.is_some() => {
            let edited = then.edited.as_ref().or(facts.changes.first()).is_some_and(|c| c.at > facts.at);
            let note =
                if edited { "not by its present schedule" } else { "not by its schedule: it was triggered" };
            step(what, Status::Done, Some(facts.at), note)
        }
        Some(_) => step(what, Status::Refused, None, schedule),
    }
}

fn enabled(facts: &Facts, then: &Then) -> Step {
    let what = "enabled";
    match &then.paused {
        Some(paused) if facts.run.is_none() && facts.entry.is_none() => {
            step(what, Status::Refused, Some(paused.at), "the job was suspended")
        }
        Some(paused) if facts.not_before.is_some() => {
            step(what, Status::Done, Some(paused.at), "the job was suspended, and is caught up on since")
        }
        Some(paused) => step(
            what,
            Status::Done,
            Some(paused.at),
            "the job was suspended; this run was asked for, or came before",
        ),
        None if facts.at > facts.now
            && facts.declared.as_ref().is_some_and(|d| d.acceptance.paused_since().is_some()) =>
        {
            step(what, Status::Refused, None, "the job is suspended")
        }
        None => step(what, Status::Done, None, "the job wasn't suspended"),
    }
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

fn planned(facts: &Facts) -> Step {
    let what = "planned";
    if facts.run.is_some() {
        return step(what, Status::Done, None, "it was in the minute tier");
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

fn taken(facts: &Facts) -> Step {
    let what = "taken";
    let until = facts.plan.map(|plan| plan.taken_until);
    let by = facts.dispatcher.as_ref().map(|node| format!(" (dispatcher: {node})")).unwrap_or_default();
    match until {
        _ if facts.run.is_some() => step(what, Status::Done, None, "by a dispatcher"),
        Some(until) if until >= facts.at => {
            step(what, Status::Done, None, format!("everything up to {until} is taken{by}"))
        }
        Some(until) if facts.at <= facts.now => {
            step(what, Status::Missing, None, format!("the shard is taken only up to {until}{by}"))
        }
        _ => step(what, Status::Open, None, format!("when it is due{by}")),
    }
}

fn admitted(facts: &Facts, cause: &Cause) -> Step {
    let what = "admitted";
    match &facts.run {
        Some(run) if run.state == RunState::Skipped => {
            step(what, Status::Refused, run.ended_at, run.skip_reason.clone().unwrap_or_default())
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
    for attempt in &run.attempts {
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
    let Some(at) = run.published_at else { return step("published", Status::Missing, None, "") };
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
