//! A job's statistics as the API shows them.

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
pub fn attempt_view(attempt: &model::explain::AttemptFacts) -> AttemptView {
    let end = &attempt.end;
    AttemptView {
        generation: attempt.generation.0,
        attempt: end.attempt,
        outcome: end.outcome.as_str().into(),
        started_at: end.started_at.to_string(),
        ended_at: end.ended_at.to_string(),
        error: end.error.clone(),
        executor: attempt.executor.clone(),
    }
}
