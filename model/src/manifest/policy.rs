//! The rules of a job beside its schedule: `overlap`, `retry`, `catchUp`, `history`, deadlines and limits.

use std::time::Duration;

use super::fields::{Field, Fields};
use super::problem::Problems;
use super::{Terms, queue};
use crate::limits::{
    ACTIVE_MAX, ATTEMPTS_MAX, CATCH_UP_RUNS_MAX, CATCH_UP_WINDOW_MAX, HISTORY_RUNS_MAX, KEY_CHARS_MAX,
    RETRY_DELAY_MAX, TIMEOUT_MAX,
};
use crate::misfire::{CatchUp, CatchUpPolicy};
use crate::overlap::Overlap;
use crate::priority::Priority;
use crate::retry::RetryPolicy;
use crate::spec::{HistoryLimits, TIMEOUT_DEFAULT};

/// The shortest duration that isn't zero.
const MS: Duration = Duration::from_millis(1);
/// The steepest growth of the waits between attempts.
const RETRY_FACTOR_MAX: f64 = 100.0;

pub(super) const CATCH_UP_POLICIES: &[(&str, CatchUpPolicy)] =
    &[("none", CatchUpPolicy::None), ("latest", CatchUpPolicy::Latest), ("all", CatchUpPolicy::All)];

pub(super) const OVERLAPS: &[(&str, Overlap)] = &[
    ("allow", Overlap::Allow),
    ("skip", Overlap::Skip),
    ("queue-one", Overlap::QueueOne),
    ("queue-all", Overlap::QueueAll),
    ("replace", Overlap::Replace),
];

pub(super) const PRIORITIES: &[(&str, Priority)] =
    &[("high", Priority::High), ("normal", Priority::Normal), ("low", Priority::Low)];

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
    let fields = field.fields(problems, &["policy", "window", "max", "rate"])?;
    let default = CatchUp::default();
    let policy = fields.get("policy").and_then(|field| field.word(problems, CATCH_UP_POLICIES));
    let window = fields.get("window").and_then(|field| {
        field.duration(problems, Duration::ZERO..=CATCH_UP_WINDOW_MAX, "CATCH_UP_WINDOW_MAX")
    });
    let max =
        fields.get("max").and_then(|field| field.int(problems, 1..=CATCH_UP_RUNS_MAX, "CATCH_UP_RUNS_MAX"));
    let rate = fields.get("rate").and_then(|field| queue::rate(&field, problems));
    Some(CatchUp {
        rate,
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

/// How long the whole run may take.
pub(super) fn deadline(spec: &Fields<'_>, problems: &mut Problems) -> Option<Duration> {
    spec.get("deadline")?.duration(problems, MS..=TIMEOUT_MAX, "TIMEOUT_MAX")
}

pub(super) fn max_active(spec: &Fields<'_>, problems: &mut Problems) -> Option<u32> {
    spec.get("maxActive")?.int(problems, 1..=ACTIVE_MAX, "ACTIVE_MAX")
}

pub(super) fn rate_key(field: &Field<'_>, problems: &mut Problems) -> Option<String> {
    let text = field.full_text(problems)?;
    let chars = text.chars().count();
    if chars > KEY_CHARS_MAX || !text.bytes().all(|b| b.is_ascii_graphic()) {
        let rule =
            format!("must be 1 to {KEY_CHARS_MAX} (KEY_CHARS_MAX) printable ASCII characters without spaces");
        return field.refuse(problems, rule);
    }
    Some(text.to_owned())
}
