//! The one cause: the first of all possible reasons that holds, from the surest knowledge (the run's record) to the
//! least sure (what must have happened, since nothing is left of it).

use super::{Cause, Facts, Fate, Naming, RunFacts, Then};
use crate::change::{Change, ChangeKind};
use crate::misfire::{CatchUpPolicy, Interruption, MissedReason};
use crate::retry::AfterFailure;
use crate::run::{Outcome, RunState, SkipReason, WaitsFor};
use crate::spec::JobSpec;
use crate::time::{Timestamp, duration_text};

/// Missed occurrences that are counted to find which of them catch-up chose.
const MISSED_COUNTED_MAX: usize = 10_001;
/// A dispatcher that has the lease and hasn't taken what was due this long ago is behind (ms).
const BEHIND_MS: i64 = 3_000;

fn is(fate: Fate, code: &'static str, sentence: impl Into<String>) -> Cause {
    Cause { fate, code, sentence: sentence.into() }
}

/// `by ann@host`, if they said who they are.
fn by(change: &Change) -> String {
    change.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default()
}

pub(super) fn cause(facts: &Facts, then: &Then, naming: Option<&Naming>) -> Cause {
    if let Some(run) = &facts.run {
        return of_run(facts, then, run);
    }
    if let Some(not_before) = facts.not_before {
        let text =
            format!("it was missed, and waits for its turn: `catchUp.rate` holds it back until {not_before}");
        return is(Fate::UnderWay, "waits-for-catch-up", text);
    }
    if facts.entry.is_none()
        && let Some(cause) = of_job(facts, then, naming).or_else(|| of_schedule(facts, then, naming))
    {
        return cause;
    }
    if facts.at > facts.now { ahead(facts) } else { passed(facts) }
}

/// The run has a record: it says what became of it.
fn of_run(facts: &Facts, then: &Then, run: &RunFacts) -> Cause {
    let last = run.attempts.last();
    let ended = run.ended_at.map(|at| format!(" at {at}")).unwrap_or_default();
    match run.state {
        RunState::Succeeded => {
            let how = last.map_or(String::new(), |last| {
                let late = duration_text(last.end.started_at.ms_since(facts.at));
                format!(" on {}, {late} after it was due, attempt {}", last.executor, last.end.attempt)
            });
            is(Fate::Ran, "succeeded", format!("it ran and succeeded{ended}{how}"))
        }
        RunState::DeadLettered => {
            let error = last
                .and_then(|last| last.end.error.clone())
                .unwrap_or_else(|| "no error was reported".into());
            let attempts = last.map_or(0, |last| last.end.attempt);
            let text = format!(
                "it ran and failed{ended}: a dead letter after {attempts} attempt(s), the last error being: {error}; \
                 `ecron dead redrive` sends it again"
            );
            is(Fate::Failed, "dead-lettered", text)
        }
        RunState::Cancelled => {
            let said = || last.and_then(|last| last.end.error.clone()).or_else(|| run.output.clone());
            let why = match &run.cancel {
                Some(cancel) if run.ended_at == Some(cancel.at) => format!(" {}", cancel.whose()),
                Some(cancel) => format!(", as was asked for at {} {}", cancel.at, cancel.whose()),
                None => said().map(|why| format!(": {why}")).unwrap_or_default(),
            };
            let fate = if facts.at > facts.now { Fate::WillNotRun } else { Fate::DidNotRun };
            is(fate, "cancelled", format!("it was cancelled{ended}{why}"))
        }
        RunState::Skipped => skipped(facts, then, run),
        RunState::Waiting => waiting(facts, run),
        RunState::Dispatched => dispatched(facts, run),
    }
}

fn skipped(facts: &Facts, then: &Then, run: &RunFacts) -> Cause {
    let ended = run.ended_at.unwrap_or(facts.at);
    let reason = run
        .skip_reason
        .clone()
        .or_else(|| run.output.clone())
        .unwrap_or_else(|| "no reason was recorded".into());
    let text = |more: String| format!("it was skipped at {ended}: {reason}{more}");
    let known = |known: &SkipReason| reason == known.describe();
    let gap = facts.interruptions.iter().find(|gap| gap.missed(facts.at));
    let gap = gap.map(|gap| format!("; nobody dispatched it from {} to {}", gap.since, gap.until));
    let change = |kind| {
        facts.changes.iter().rev().find(|c: &&Change| c.kind == kind && c.at <= ended && then_is(then, c))
    };
    let done = |change: Option<&Change>, what: &str| {
        change.map(|c| format!(" ({what} at {}{}, revision {})", c.at, by(c), c.revision)).unwrap_or_default()
    };
    let missed = |reason| SkipReason::Missed(reason);
    // Without a reason in its record it was skipped by an executor, which has two.
    let by_executor = run.skip_reason.is_none() && !known(&SkipReason::Deleted);
    let (code, more) = if known(&SkipReason::StartingDeadline) || by_executor {
        ("starting-deadline", gap.unwrap_or_default())
    } else if known(&SkipReason::Superseded) {
        let edit = facts.changes.iter().find(|c| c.kind != ChangeKind::Deleted && c.at <= ended);
        ("superseded", done(edit, "edited"))
    } else if known(&SkipReason::Suspended) {
        ("suspended", done(then.paused.as_ref().or(change(ChangeKind::Paused)), "paused"))
    } else if known(&SkipReason::Deleted) {
        let gone = facts.changes.iter().find(|c| c.kind == ChangeKind::Deleted && c.at <= ended);
        ("deleted", done(gone, "deleted"))
    } else if known(&SkipReason::Overlap) {
        ("overlap", String::new())
    } else if known(&SkipReason::Coalesced) {
        ("coalesced", String::new())
    } else if known(&SkipReason::OverlapQueueFull) {
        ("overlap-queue-full", String::new())
    } else {
        let reasons = [
            (MissedReason::PolicyNone, "catch-up-none"),
            (MissedReason::SupersededByLatest, "catch-up-latest"),
            (MissedReason::OutsideWindow, "catch-up-window"),
            (MissedReason::BeyondMax, "catch-up-max"),
        ];
        let until = then.resumed.as_ref().map(|resumed| resumed.at.to_string()).unwrap_or_default();
        let pause =
            then.paused.as_ref().map(|c| format!("; the job was paused from {}{} to {until}", c.at, by(c)));
        let code = reasons.into_iter().find(|(reason, _)| known(&missed(*reason))).map(|(_, code)| code);
        (code.unwrap_or("skipped"), gap.or(pause).unwrap_or_default())
    };
    is(Fate::DidNotRun, code, text(more))
}

/// A pause is told of only if it was in force.
fn then_is(then: &Then, change: &Change) -> bool {
    then.paused.as_ref().is_none_or(|paused| paused == change)
}

fn waiting(facts: &Facts, run: &RunFacts) -> Cause {
    match run.waits_for {
        Some(WaitsFor::Overlap) => is(
            Fate::UnderWay,
            "waits-for-earlier-run",
            "it waits for an earlier run of the job to end, as `overlap` and `maxActive` say",
        ),
        Some(WaitsFor::Queue) => {
            let queue = facts.queue.as_ref();
            let name = queue.map(|queue| queue.name.clone()).unwrap_or_default();
            let why = match queue {
                Some(queue) if queue.paused => "which is paused".to_owned(),
                Some(queue) => queue.gate.clone().unwrap_or_else(|| "whose limits are reached".into()),
                None => "whose limits are reached".to_owned(),
            };
            is(Fate::UnderWay, "waits-at-gate", format!("it waits at the gate of the queue {name}, {why}"))
        }
        Some(WaitsFor::Dispatch) | None => match dispatcher_missing(facts) {
            Some(missing) => missing,
            None => is(Fate::UnderWay, "waits-for-dispatch", "it is admitted and about to be published"),
        },
    }
}

fn dispatched(facts: &Facts, run: &RunFacts) -> Cause {
    let here = |last: &&super::AttemptFacts| last.generation == run.generation;
    if let Some(cancel) = &run.cancel {
        return is(
            Fate::UnderWay,
            "being-cancelled",
            format!("it is being cancelled, as was asked for at {} {}", cancel.at, cancel.whose()),
        );
    }
    if let Some(last) = run.attempts.last().filter(here)
        && last.end.outcome != Outcome::Succeeded
    {
        return retrying(facts, run, last);
    }
    let Some(queue) = &facts.queue else {
        return is(Fate::UnderWay, "published", "it is published, and its queue can't be looked at now");
    };
    let sequence = run.sequence.unwrap_or(0);
    let name = &queue.name;
    if !run.in_stream {
        let text = "its message has been taken off the queue, and its outcome is about to be settled";
        return is(Fate::UnderWay, "settling", text);
    }
    if queue.has_consumer && queue.delivered_until >= sequence {
        let since = run.published_at.map(|at| format!(" since {at} at the earliest")).unwrap_or_default();
        return is(
            Fate::UnderWay,
            "running",
            format!("an executor of the queue {name} has it in hand{since}"),
        );
    }
    if queue.waiting_pulls == 0 && queue.in_hand == 0 {
        let text =
            format!("it is published, but nobody pulls from the queue {name}: no executor serves it now");
        return is(Fate::UnderWay, "nobody-pulls", text);
    }
    let before = queue.undelivered.saturating_sub(1);
    let text = format!(
        "it is published and waits in the queue {name}: its executors have {} message(s) in hand, and up to {before} wait with it",
        queue.in_hand
    );
    is(Fate::UnderWay, "in-queue", text)
}

fn retrying(facts: &Facts, run: &RunFacts, last: &super::AttemptFacts) -> Cause {
    let id = crate::id::Occurrence { job: facts.job.clone(), due_at: facts.at }.to_string();
    let policy = facts.declared.as_ref().map(|declared| declared.spec.retry);
    let error = last.end.error.clone().unwrap_or_else(|| last.end.outcome.as_str().into());
    let failed = format!("attempt {} failed at {} ({error})", last.end.attempt, last.end.ended_at);
    let after = policy.map(|policy| policy.after_failure(&id, last.end.attempt));
    let Some(AfterFailure::Retry { delay }) = after else {
        return is(Fate::UnderWay, "settling", format!("{failed}; its end is about to be settled"));
    };
    let retry_at = last.end.ended_at.plus(delay);
    if facts.now < retry_at {
        let text = format!("it waits for its retry at {retry_at}: {failed}");
        return is(Fate::UnderWay, "waits-for-retry", text);
    }
    let nobody = facts.queue.as_ref().is_some_and(|queue| queue.waiting_pulls == 0 && run.in_stream);
    let more = if nobody {
        ", and no executor asks for more work now"
    } else {
        ", and an executor may have it in hand"
    };
    is(Fate::UnderWay, "retry-due", format!("its retry has been due since {retry_at}{more}: {failed}"))
}

/// Reasons that lie in the job itself.
fn of_job(facts: &Facts, then: &Then, naming: Option<&Naming>) -> Option<Cause> {
    let ahead = facts.at > facts.now;
    let not = if ahead { Fate::WillNotRun } else { Fate::DidNotRun };
    if let Some(created) = then.created_later.filter(|_| then.existed == Some(false)) {
        let first = format!("the job didn't exist yet: it was created at {created}");
        return Some(is(not, "before-creation", first));
    }
    if let Some(deleted) = &then.deleted {
        let text = format!("the job was deleted at {}{}, before this instant", deleted.at, by(deleted));
        return Some(is(not, "deleted", text));
    }
    if facts.declared.is_none() && facts.invalid.is_none() {
        let gone = facts.changes.iter().find(|change| change.kind == ChangeKind::Deleted);
        let when = gone.map(|gone| format!(" at {}{}", gone.at, by(gone))).unwrap_or_default();
        let text = format!("the job was deleted{when}, and its history went with it");
        return Some(is(if ahead { not } else { Fate::Unknown }, "deleted-since", text));
    }
    if let (Some(problems), None) = (&facts.invalid, &facts.declared) {
        return Some(is(
            not,
            "invalid",
            format!("the job's spec is invalid, so nothing is planned: {problems}"),
        ));
    }
    // What the schedule doesn't name wouldn't have run anyway.
    let named = matches!(naming, None | Some(Naming::Named { .. } | Naming::FollowsEnds { .. }));
    if let Some(paused) = then.paused.as_ref().filter(|_| named) {
        // Once it is resumed its catch-up has decided: what ran in the end has no record any more.
        let pause = then.resumed.as_ref().filter(|_| !ahead);
        let pause = pause.map(|resumed| Interruption { since: paused.at, until: resumed.at });
        if facts.declared.is_some() && pause.is_some_and(|pause| missed(facts, pause).is_none()) {
            return Some(forgotten(facts));
        }
        let until = then.resumed.as_ref();
        let until = until.map(|r| format!(" until {}{}", r.at, by(r))).unwrap_or_default();
        let text = format!("the job was suspended then: paused at {}{}{until}", paused.at, by(paused));
        let whole = facts.declared.as_ref().is_some_and(|declared| declared.acceptance.namespace_paused);
        let whole = if whole && ahead { ", with its whole namespace" } else { "" };
        let text = if ahead { text.replace("was suspended then", "is suspended") } else { text };
        return Some(is(not, "suspended", format!("{text}{whole}")));
    }
    None
}

/// Reasons that lie in the schedule.
fn of_schedule(facts: &Facts, then: &Then, naming: Option<&Naming>) -> Option<Cause> {
    let ahead = facts.at > facts.now;
    let not = if ahead { Fate::WillNotRun } else { Fate::DidNotRun };
    let never = |code, sentence: String| Some(is(not, code, sentence));
    let edited = then.edited.as_ref();
    match naming? {
        Naming::Named { .. } => {
            let since = facts.declared.as_ref().map(|declared| declared.acceptance.schedule_since);
            let counted = since.filter(|since| facts.at <= *since && then.older.is_none() && !ahead);
            counted.and_then(|since| {
                never(
                    "before-schedule",
                    format!("the present schedule counts only since {since}, when it was declared"),
                )
            })
        }
        Naming::Moved { to, reasons } => never(
            "moved",
            format!("the occurrence of this instant takes place at {to} ({})", reasons.join("; ")),
        ),
        Naming::BeforeStart { start } => {
            never("before-start", format!("the schedule starts at {start}, after this instant"))
        }
        Naming::AfterEnd { end } => {
            never("after-end", format!("the schedule ended at {end}, before this instant"))
        }
        Naming::CountUsedUp { count, last } => {
            let last = last.map(|at| format!(", the last at {at}")).unwrap_or_default();
            never(
                "count-used-up",
                format!("the schedule occurs {count} time(s) only{last}: its count is used up"),
            )
        }
        Naming::Excluded { by } => {
            never("excluded", format!("the schedule names this instant, but it is excluded by {by}"))
        }
        Naming::Gap { missing, policy, instead } => {
            let instead = instead.map_or_else(
                || "so nothing occurs that day for it".to_owned(),
                |at| format!("so it occurs at {at} instead"),
            );
            never(
                "dst-gap",
                format!(
                    "{missing} doesn't exist on that day: clocks skip it; the gap policy is {policy}, {instead}"
                ),
            )
        }
        Naming::Fold { civil, policy } => never(
            "dst-fold",
            format!(
                "{civil} occurs twice on that day, and this one of the two doesn't count: the fold policy is {policy}"
            ),
        ),
        Naming::FollowsEnds { delay } => never(
            "follows-ends",
            format!(
                "the schedule names no instants of its own: a run is due {} after the last one ended, and none was due here",
                humantime::format_duration(*delay)
            ),
        ),
        Naming::NotNamed { .. } if then.named_before_edit(facts) => {
            let edit = edited
                .map(|c| format!(" at {}{} (revision {})", c.at, by(c), c.revision))
                .unwrap_or_default();
            never(
                "superseded",
                format!(
                    "the job was edited{edit}, and the schedule that it has since then doesn't name this instant"
                ),
            )
        }
        Naming::NotNamed { before, after } => {
            let near = |at: &Option<Timestamp>| at.map_or_else(|| "none".into(), |at| at.to_string());
            never(
                "not-named",
                format!(
                    "the schedule doesn't name this instant; the one before is {}, the one after is {}",
                    near(before),
                    near(after)
                ),
            )
        }
    }
}

fn planner_missing(facts: &Facts) -> Option<Cause> {
    if facts.planner.is_some() {
        return None;
    }
    let until = facts.plan.map(|plan| format!(" beyond {}", plan.planned_until)).unwrap_or_default();
    let text = format!("no planner is running now, so nothing is planned{until}; it goes on once one runs");
    Some(is(if facts.at > facts.now { Fate::WillRun } else { Fate::UnderWay }, "no-planner", text))
}

fn dispatcher_missing(facts: &Facts) -> Option<Cause> {
    if facts.dispatcher.is_some() {
        return None;
    }
    let until = facts.plan.map(|plan| format!(" after {}", plan.taken_until)).unwrap_or_default();
    let text =
        format!("no dispatcher is running now, so nothing due{until} is published; it goes on once one runs");
    Some(is(if facts.at > facts.now { Fate::WillRun } else { Fate::UnderWay }, "no-dispatcher", text))
}

/// Not installed yet: what is accepted takes effect with the planner's next look.
fn not_installed(facts: &Facts) -> Option<Cause> {
    let revision =
        facts.revision.filter(|revision| facts.observed.is_none_or(|observed| observed < *revision))?;
    if let Some(problems) = &facts.invalid {
        let stays = facts.observed.map(|o| format!("; revision {o} stays in force")).unwrap_or_default();
        let text = format!("the newest spec (revision {revision}) is invalid{stays}: {problems}");
        return Some(is(Fate::UnderWay, "invalid", text));
    }
    Some(planner_missing(facts).unwrap_or_else(|| {
        is(
            Fate::UnderWay,
            "not-installed",
            format!("revision {revision} is accepted, and the planner is about to install it"),
        )
    }))
}

/// Ahead of now, and named by the schedule.
fn ahead(facts: &Facts) -> Cause {
    if facts.entry.is_none()
        && let Some(missing) = not_installed(facts).or_else(|| planner_missing(facts))
    {
        return Cause { fate: Fate::WillRun, ..missing };
    }
    if let Some(missing) = dispatcher_missing(facts) {
        return missing;
    }
    let wait = duration_text(facts.at.ms_since(facts.now));
    let place =
        if facts.entry.is_some() { "it is in the minute tier" } else { "it is planned shortly before" };
    is(Fate::WillRun, "due-later", format!("it will run when it is due, in {wait}; {place}"))
}

/// Due by now, named by the schedule (or triggered), and without a record.
fn passed(facts: &Facts) -> Cause {
    if facts.entry.is_some() {
        if let Some(missing) = dispatcher_missing(facts) {
            return missing;
        }
        if facts.now.ms_since(facts.at) > BEHIND_MS {
            let text = "it is due and in the minute tier, but the dispatcher hasn't published it: it can't reach NATS, or \
                        is busy with what was due before";
            return is(Fate::UnderWay, "dispatcher-behind", text);
        }
        return is(Fate::UnderWay, "being-dispatched", "it is due now and about to be published");
    }
    let gap = facts.interruptions.iter().find(|gap| gap.missed(facts.at));
    if let Some(cause) = gap.and_then(|gap| missed(facts, *gap)) {
        return cause;
    }
    let Some(plan) = facts.plan else {
        return planner_missing(facts)
            .unwrap_or_else(|| is(Fate::UnderWay, "not-installed", "the shard isn't planned yet"));
    };
    if plan.planned_until <= facts.at {
        return planner_missing(facts).unwrap_or_else(|| {
            let text =
                format!("the planner has planned only until {}, and is catching up", plan.planned_until);
            is(Fate::UnderWay, "planner-behind", text)
        });
    }
    if facts.placed.is_some_and(|placed| placed.due_at <= facts.at) {
        return planner_missing(facts).unwrap_or_else(|| {
            is(Fate::UnderWay, "planner-behind", "the planner is about to put it into the minute tier")
        });
    }
    if let Some(missing) = not_installed(facts) {
        return missing;
    }
    forgotten(facts)
}

fn forgotten(facts: &Facts) -> Cause {
    let kept = facts.declared.as_ref().map(|declared| declared.spec.history);
    let kept = kept.map(|h| {
        format!(" (history keeps {} succeeded, {} failed, {} skipped)", h.succeeded, h.failed, h.skipped)
    });
    let text = format!(
        "it was due and dealt with, and its record is forgotten since{}: nothing more is known of it",
        kept.unwrap_or_default()
    );
    is(Fate::Unknown, "forgotten", text)
}

/// What the job's catch-up made of an occurrence that an interruption missed, if it isn't recorded. `None`: it ran.
fn missed(facts: &Facts, gap: Interruption) -> Option<Cause> {
    let declared = facts.declared.as_ref()?;
    let JobSpec { catch_up, .. } = &declared.spec;
    let down = format!("nobody dispatched this job's shard from {} to {}", gap.since, gap.until);
    let dues = |from: Timestamp| {
        std::iter::successors(declared.schedule.next_after(from), |due| declared.schedule.next_after(*due))
            .take_while(|due| *due <= gap.until)
    };
    let later = dues(facts.at).take(MISSED_COUNTED_MAX).count();
    let outside = facts.at < gap.until.plus_ms(-crate::time::duration_ms(catch_up.window));
    let reason = match catch_up.policy {
        CatchUpPolicy::None => ("catch-up-none", "catchUp is none".to_owned()),
        _ if outside => ("catch-up-window", "that was longer ago than the catchUp window".to_owned()),
        CatchUpPolicy::Latest if later > 0 => {
            let latest = declared.schedule.latest_in(facts.at, gap.until);
            let latest = latest.map(|at| format!(", {at}")).unwrap_or_default();
            ("catch-up-latest", format!("catchUp runs only the latest{latest}"))
        }
        CatchUpPolicy::All if later >= catch_up.max as usize => {
            ("catch-up-max", format!("catchUp.max is {}, and {later} or more came after it", catch_up.max))
        }
        CatchUpPolicy::Latest | CatchUpPolicy::All => return None,
    };
    Some(is(Fate::DidNotRun, reason.0, format!("it was missed: {down}, and {}", reason.1)))
}
