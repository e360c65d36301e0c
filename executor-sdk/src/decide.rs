//! Decisions: whether an attempt may start, and what follows its end. Functions over data; nothing here waits or sends.

use std::time::Duration;

use bus::dead::DeadReason;
use bus::order::{Order, OrderProblem};
use model::limits::RETRY_DELAY_MAX;
use model::retry::{AfterFailure, RetryPolicy, Tally};
use model::run::{Outcome, RunState};
use model::time::Timestamp;

use crate::handler::{FailureKind, HandlerError, Output};
use crate::running::HandlerEnd;

/// What to do with a message that has just been delivered.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict<'a> {
    /// Its headers are no order, and never will be.
    Quarantine {
        problem: &'a OrderProblem,
    },
    /// Executors died so often with it that it is taken out of the queue.
    Poison {
        order: &'a Order,
        attempt: u32,
    },
    /// It was to start by an instant that has passed.
    TooLate {
        order: &'a Order,
        attempt: u32,
    },
    /// It was to have ended by an instant that has passed.
    Overdue {
        order: &'a Order,
        attempt: u32,
        deadline: Timestamp,
    },
    Start {
        order: &'a Order,
        attempt: u32,
    },
}

pub(crate) fn examine<'a>(
    order: Result<&'a Order, &'a OrderProblem>,
    delivered: u32,
    tally: Tally,
    now: Timestamp,
) -> Verdict<'a> {
    let order = match order {
        Ok(order) => order,
        Err(problem) => return Verdict::Quarantine { problem },
    };
    let attempt = order.attempt_base.saturating_add(delivered.max(1));
    // The deadline is for the start of the run: a retry may be later.
    let unstarted = attempt == 1;
    if !RetryPolicy::may_start(tally.lost(delivered)) {
        Verdict::Poison { order, attempt }
    } else if unstarted && order.start_by.is_some_and(|start_by| now > start_by) {
        Verdict::TooLate { order, attempt }
    } else if let Some(deadline) = order.deadline.filter(|deadline| now >= *deadline) {
        Verdict::Overdue { order, attempt, deadline }
    } else {
        Verdict::Start { order, attempt }
    }
}

/// How long an attempt that starts now may take: its timeout, and never beyond the run's deadline.
pub(crate) fn time_allowed(order: &Order, started_at: Timestamp) -> Duration {
    let left = |deadline: Timestamp| u64::try_from(deadline.ms_since(started_at)).unwrap_or(0);
    let until_deadline = order.deadline.map(|deadline| Duration::from_millis(left(deadline)));
    until_deadline.map_or(order.timeout, |left| left.min(order.timeout))
}

/// What follows an attempt's end: the report's words, and the answer to the message.
#[derive(Debug, PartialEq)]
pub(crate) struct Sequel {
    pub(crate) outcome: Outcome,
    pub(crate) error: Option<String>,
    pub(crate) output: Option<String>,
    pub(crate) step: Step,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    /// Report, acknowledge.
    Succeed,
    /// Report, note, put back with a delay.
    Retry { delay: Duration, tally: Tally },
    /// Park, report, terminate.
    GiveUp { reason: DeadReason },
    /// Report, acknowledge: somebody wants the run to end.
    Cancel,
    /// Put back at once, for another executor: this one is stopping.
    HandBack { tally: Tally },
}

impl Step {
    /// The state in which the run ends with this, if it does.
    pub(crate) fn ends_run(&self) -> Option<RunState> {
        match self {
            Self::Succeed => Some(RunState::Succeeded),
            Self::GiveUp { .. } => Some(RunState::DeadLettered),
            Self::Cancel => Some(RunState::Cancelled),
            Self::Retry { .. } | Self::HandBack { .. } => None,
        }
    }
}

/// What follows the end of an attempt, `now`; `tally` is what became of the message's deliveries before it.
pub(crate) fn follow(order: &Order, tally: Tally, end: HandlerEnd, now: Timestamp) -> Sequel {
    let overdue = order.deadline.filter(|deadline| now >= *deadline);
    match end {
        HandlerEnd::Returned(Ok(Output(output))) => {
            Sequel { outcome: Outcome::Succeeded, error: None, output, step: Step::Succeed }
        }
        HandlerEnd::Returned(Err(HandlerError { verdict, message, output })) => {
            let failed = |step| Sequel { outcome: Outcome::Failed, error: Some(message), output, step };
            let given_up = |reason| Step::GiveUp { reason };
            match verdict {
                FailureKind::Retryable => {
                    within_deadline(order, failed(after_failure(order, tally, None)), now)
                }
                FailureKind::RetryAfter(delay) => {
                    within_deadline(order, failed(after_limit(order, tally, delay)), now)
                }
                FailureKind::Permanent => failed(given_up(DeadReason::Permanent)),
                FailureKind::Undecodable => failed(given_up(DeadReason::Undecodable)),
            }
        }
        HandlerEnd::Panicked(message) => {
            let sequel = Sequel {
                outcome: Outcome::Failed,
                error: Some(format!("the handler panicked: {message}")),
                output: None,
                step: after_failure(order, tally, None),
            };
            within_deadline(order, sequel, now)
        }
        HandlerEnd::TimedOut { output } => {
            let (error, step) = match overdue {
                Some(deadline) => (
                    format!("not done by the run's deadline, {deadline}"),
                    Step::GiveUp { reason: DeadReason::DeadlineExceeded },
                ),
                None => (
                    format!("not done within its timeout of {:?}", order.timeout),
                    after_failure(order, tally, None),
                ),
            };
            let sequel = Sequel { outcome: Outcome::TimedOut, error: Some(error), output, step };
            within_deadline(order, sequel, now)
        }
        HandlerEnd::Cancelled { output } => Sequel {
            outcome: Outcome::Cancelled,
            error: Some("cancelled".into()),
            output,
            step: Step::Cancel,
        },
        HandlerEnd::Interrupted { output } => Sequel {
            outcome: Outcome::Cancelled,
            error: Some("its executor was stopped; another one takes over".into()),
            output,
            step: Step::HandBack { tally: tally.after_hand_back() },
        },
    }
}

fn after_failure(order: &Order, tally: Tally, asked: Option<Duration>) -> Step {
    let tally = tally.after_failure();
    // What was tried before this message was published counts, too.
    let failures = order.attempt_base.saturating_add(tally.failed);
    match order.retry.after_failure(&order.run_id.to_string(), failures) {
        AfterFailure::GiveUp => Step::GiveUp { reason: DeadReason::AttemptsExhausted },
        AfterFailure::Retry { delay } => {
            Step::Retry { delay: asked.unwrap_or(delay).min(RETRY_DELAY_MAX), tally }
        }
    }
}

/// Turned away by a rate limit: again after its own delay, without counting, unless that went on for too long.
fn after_limit(order: &Order, tally: Tally, asked: Duration) -> Step {
    match tally.after_limit() {
        Some(tally) => Step::Retry { delay: asked.min(RETRY_DELAY_MAX), tally },
        None => after_failure(order, tally, Some(asked)),
    }
}

/// No attempt starts at the run's deadline or later, so nobody waits for one either.
fn within_deadline(order: &Order, sequel: Sequel, now: Timestamp) -> Sequel {
    match (&sequel.step, order.deadline) {
        (Step::Retry { delay, .. }, Some(deadline)) if now.plus(*delay) >= deadline => {
            let error = sequel.error.unwrap_or_default();
            Sequel {
                error: Some(format!(
                    "{error}; no other attempt can start before the run's deadline, {deadline}"
                )),
                step: Step::GiveUp { reason: DeadReason::DeadlineExceeded },
                ..sequel
            }
        }
        _ => sequel,
    }
}
