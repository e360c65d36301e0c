//! Decisions: whether an attempt may start, and what follows its end. Functions over data; nothing here waits or sends.

use std::time::Duration;

use bus::dead::DeadReason;
use bus::order::{Order, OrderProblem};
use model::limits::RETRY_DELAY_MAX;
use model::retry::AfterFailure;
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
    Start {
        order: &'a Order,
        attempt: u32,
    },
}

pub(crate) fn examine(order: &Result<Order, OrderProblem>, delivered: u32, now: Timestamp) -> Verdict<'_> {
    let order = match order {
        Ok(order) => order,
        Err(problem) => return Verdict::Quarantine { problem },
    };
    let attempt = order.attempt_base.saturating_add(delivered.max(1));
    // The deadline is for the start of the run: a retry may be later.
    let unstarted = attempt == 1;
    if !order.retry.may_start(attempt) {
        Verdict::Poison { order, attempt }
    } else if unstarted && order.start_by.is_some_and(|start_by| now > start_by) {
        Verdict::TooLate { order, attempt }
    } else {
        Verdict::Start { order, attempt }
    }
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
    /// Report, put back with a delay.
    Retry { delay: Duration },
    /// Park, report, terminate.
    GiveUp { reason: DeadReason },
    /// Put back at once, for another executor: this one is stopping.
    HandBack,
}

impl Step {
    /// The state in which the run ends with this, if it does.
    pub(crate) fn ends_run(&self) -> Option<RunState> {
        match self {
            Self::Succeed => Some(RunState::Succeeded),
            Self::GiveUp { .. } => Some(RunState::DeadLettered),
            Self::Retry { .. } | Self::HandBack => None,
        }
    }
}

pub(crate) fn follow(order: &Order, attempt: u32, end: HandlerEnd) -> Sequel {
    match end {
        HandlerEnd::Returned(Ok(Output(output))) => {
            Sequel { outcome: Outcome::Succeeded, error: None, output, step: Step::Succeed }
        }
        HandlerEnd::Returned(Err(HandlerError { verdict, message, output })) => {
            let step = match verdict {
                FailureKind::Retryable => after_failure(order, attempt, None),
                FailureKind::RetryAfter(delay) => after_failure(order, attempt, Some(delay)),
                FailureKind::Permanent => Step::GiveUp { reason: DeadReason::AttemptsExhausted },
                FailureKind::Undecodable => Step::GiveUp { reason: DeadReason::Undecodable },
            };
            Sequel { outcome: Outcome::Failed, error: Some(message), output, step }
        }
        HandlerEnd::Panicked(message) => Sequel {
            outcome: Outcome::Failed,
            error: Some(format!("the handler panicked: {message}")),
            output: None,
            step: after_failure(order, attempt, None),
        },
        HandlerEnd::TimedOut { output } => Sequel {
            outcome: Outcome::TimedOut,
            error: Some(format!("not done within its timeout of {:?}", order.timeout)),
            output,
            step: after_failure(order, attempt, None),
        },
        HandlerEnd::Interrupted { output } => Sequel {
            outcome: Outcome::Cancelled,
            error: Some("its executor was stopped; another one takes over".into()),
            output,
            step: Step::HandBack,
        },
    }
}

fn after_failure(order: &Order, attempt: u32, asked: Option<Duration>) -> Step {
    match order.retry.after_failure(&order.run_id.to_string(), attempt) {
        AfterFailure::GiveUp => Step::GiveUp { reason: DeadReason::AttemptsExhausted },
        AfterFailure::Retry { delay } => Step::Retry { delay: asked.unwrap_or(delay).min(RETRY_DELAY_MAX) },
    }
}
