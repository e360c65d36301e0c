//! A job's statistics as the API shows them.

use model::explain::{AttemptFacts, Attempted, NO_REPORT};
use model::run::Outcome;
use model::stats::{Histogram, JobStats};

use super::types::{AttemptView, PercentilesView, StatsView};

/// Statistics as JSON says them.
#[must_use]
pub fn stats_view(stats: &JobStats) -> StatsView {
    StatsView {
        succeeded: stats.succeeded,
        failed: stats.failed,
        cancelled: stats.cancelled,
        skipped: stats.skipped,
        success_rate: stats.success_rate().map(|rate| (rate * 10_000.0).round() / 10_000.0),
        last_success_at: stats.last_success_at.map(|at| at.to_string()),
        lateness_ms: percentiles(&stats.lateness),
        duration_ms: percentiles(&stats.duration),
    }
}

fn percentiles(times: &Histogram) -> Option<PercentilesView> {
    Some(PercentilesView {
        p50: times.percentile(50)?,
        p95: times.percentile(95)?,
        p99: times.percentile(99)?,
    })
}

/// An attempt as JSON says it.
#[must_use]
pub fn attempt_view(made: &Attempted<'_>) -> AttemptView {
    match made {
        Attempted::Ended(AttemptFacts { generation, end, executor }) => AttemptView {
            generation: generation.0,
            attempt: end.attempt,
            outcome: end.outcome.as_str().into(),
            started_at: Some(end.started_at.to_string()),
            ended_at: Some(end.ended_at.to_string()),
            error: end.error.clone(),
            executor: Some(executor.clone()).filter(|executor| !executor.is_empty()),
        },
        Attempted::Unreported { generation, attempt } => AttemptView {
            generation: generation.0,
            attempt: *attempt,
            outcome: Outcome::Lost.as_str().into(),
            started_at: None,
            ended_at: None,
            error: Some(NO_REPORT.into()),
            executor: None,
        },
    }
}
