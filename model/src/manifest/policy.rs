//! The rules of a job beside its schedule: `retry`, `catchUp`, `history`, deadlines, and the words that this version
//! knows but can't keep yet.

use std::time::Duration;

use super::Terms;
use super::fields::{Field, Fields, unknown_word};
use super::problem::Problems;
use crate::limits::{
    ATTEMPTS_MAX, CATCH_UP_RUNS_MAX, CATCH_UP_WINDOW_MAX, HISTORY_RUNS_MAX, RETRY_DELAY_MAX, TIMEOUT_MAX,
};
use crate::misfire::{CatchUp, CatchUpPolicy};
use crate::retry::RetryPolicy;
use crate::spec::{HistoryLimits, TIMEOUT_DEFAULT};

/// The shortest duration that isn't zero.
const MS: Duration = Duration::from_millis(1);
/// The steepest growth of the waits between attempts.
const RETRY_FACTOR_MAX: f64 = 100.0;

pub(super) const CATCH_UP_POLICIES: &[(&str, CatchUpPolicy)] =
    &[("none", CatchUpPolicy::None), ("latest", CatchUpPolicy::Latest), ("all", CatchUpPolicy::All)];

pub(super) fn retry(field: &Field<'_>, terms: &Terms<'_>, problems: &mut Problems) -> Option<RetryPolicy> {
    let fields = field.fields(problems, &["attempts", "initial", "factor", "max", "jitter"])?;
    let default = RetryPolicy::default();
    let delays = Duration::ZERO..=RETRY_DELAY_MAX;
    let int =
        |problems: &mut Problems| fields.get("attempts")?.int(problems, 1..=ATTEMPTS_MAX, "ATTEMPTS_MAX");
    let attempts = int(problems).unwrap_or(default.attempts);
    let delay =
        |key, problems: &mut Problems| fields.get(key)?.duration(problems, delays.clone(), "RETRY_DELAY_MAX");
    let initial = delay("initial", problems).unwrap_or(default.initial);
    let number = |key, range, problems: &mut Problems| fields.get(key)?.number(problems, range);
    let factor = number("factor", 1.0..=RETRY_FACTOR_MAX, problems).unwrap_or(default.factor);
    let jitter = number("jitter", 0.0..=1.0, problems).unwrap_or(default.jitter);
    // Who only says a long `initial` doesn't mean to have it cut by a default.
    let max = delay("max", problems).unwrap_or(default.max.max(initial));
    if max < initial
        && !terms.is_stored
        && let Some(field) = fields.get("max")
    {
        field.refuse::<()>(problems, "must not be shorter than initial");
    }
    Some(RetryPolicy { attempts, initial, factor, max, jitter })
}

pub(super) fn catch_up(field: &Field<'_>, problems: &mut Problems) -> Option<CatchUp> {
    let fields = field.fields(problems, &["policy", "window", "max"])?;
    let default = CatchUp::default();
    let policy = fields.get("policy").and_then(|field| field.word(problems, CATCH_UP_POLICIES));
    let window = fields.get("window").and_then(|field| {
        field.duration(problems, Duration::ZERO..=CATCH_UP_WINDOW_MAX, "CATCH_UP_WINDOW_MAX")
    });
    let max =
        fields.get("max").and_then(|field| field.int(problems, 1..=CATCH_UP_RUNS_MAX, "CATCH_UP_RUNS_MAX"));
    Some(CatchUp {
        policy: policy.unwrap_or(default.policy),
        window: window.unwrap_or(default.window),
        max: max.unwrap_or(default.max),
    })
}

pub(super) fn history(field: &Field<'_>, problems: &mut Problems) -> Option<HistoryLimits> {
    let fields = field.fields(problems, &["succeeded", "failed", "skipped"])?;
    let default = HistoryLimits::default();
    let mut runs = |key, default| {
        let kept = fields
            .get(key)
            .and_then(|field: Field<'_>| field.int(problems, 0..=HISTORY_RUNS_MAX, "HISTORY_RUNS_MAX"));
        kept.unwrap_or(default)
    };
    Some(HistoryLimits {
        succeeded: runs("succeeded", default.succeeded),
        failed: runs("failed", default.failed),
        skipped: runs("skipped", default.skipped),
    })
}

pub(super) fn timeout(spec: &Fields<'_>, problems: &mut Problems) -> Duration {
    let timeout =
        spec.get("timeout").and_then(|field| field.duration(problems, MS..=TIMEOUT_MAX, "TIMEOUT_MAX"));
    timeout.unwrap_or(TIMEOUT_DEFAULT)
}

pub(super) fn starting_deadline(spec: &Fields<'_>, problems: &mut Problems) -> Option<Duration> {
    // The catch-up window's limit: a run that may start later than that couldn't be caught up on anyway.
    spec.get("startingDeadline")?.duration(problems, MS..=CATCH_UP_WINDOW_MAX, "CATCH_UP_WINDOW_MAX")
}

/// Checks a field of which this version can do only the default. The other words are the design's own, so they are
/// told apart from mistakes; accepting them silently would break a promise.
pub(super) fn only(
    field: &Field<'_>,
    problems: &mut Problems,
    supported: &str,
    planned: &[&str],
) -> Option<()> {
    let word = field.text(problems)?;
    if word == supported {
        return Some(());
    }
    if planned.contains(&word) {
        return field
            .refuse(problems, format!("{word} is not supported yet; this version knows only {supported}"));
    }
    field.refuse(problems, unknown_word(word, &[supported]))
}
