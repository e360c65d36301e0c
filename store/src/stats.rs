//! What adds up over a job's runs, the attempts behind a run, and a dead letter's way back.

use std::future::Future;

use model::id::{Occurrence, Revision};
use model::name::JobId;
use model::run::{AttemptEnd, Generation};
use model::shard::ShardId;
use model::stats::{Counted, JobStats};
use model::time::Timestamp;

use crate::error::StoreError;
use crate::lease::{Epoch, Role};

/// An attempt that another one followed, or that ended an earlier generation of its run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastAttempt {
    pub generation: Generation,
    pub end: AttemptEnd,
    pub executor: String,
}

/// A run that is published again after its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reopening {
    pub occurrence: Occurrence,
    /// Of the run, if there is no record of it any more.
    pub revision: Revision,
    /// One more than that of the dead letter.
    pub generation: Generation,
    /// The message's sequence in the run stream.
    pub sequence: u64,
    pub published_at: Timestamp,
    pub worry_at: Timestamp,
}

pub trait StatsStore: Send + Sync + 'static {
    /// A job's statistics: counted by `settle`, `skip`, `advance` and `cancel`, kept through edits, forgotten with the job.
    fn stats(&self, shard: ShardId, job: &JobId)
    -> impl Future<Output = Result<JobStats, StoreError>> + Send;

    /// The attempts of a run before its newest, in order; the newest `ATTEMPTS_KEPT_MAX`.
    fn past_attempts(
        &self,
        shard: ShardId,
        occurrence: &Occurrence,
    ) -> impl Future<Output = Result<Vec<PastAttempt>, StoreError>> + Send;

    /// Opens an ended run again: dispatched, in its next generation, in `sent` and among the open runs, no longer in
    /// its job's history. `false` if its record is of that generation or a newer one already. Needs no lease.
    fn reopen(
        &self,
        shard: ShardId,
        reopening: &Reopening,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Under which of these revisions an occurrence is in the minute tier.
    fn planned_as(
        &self,
        shard: ShardId,
        occurrence: &Occurrence,
        revisions: &[Revision],
    ) -> impl Future<Output = Result<Option<Revision>, StoreError>> + Send;

    /// The node that held a lease under an epoch, if that is remembered: of the newest `OWNERS_MAX`.
    fn owner(
        &self,
        shard: ShardId,
        role: Role,
        epoch: Epoch,
    ) -> impl Future<Output = Result<Option<String>, StoreError>> + Send;
}

/// What an end adds to its job's hash, as words: fields to count up, and `@instant` of a success.
#[must_use]
pub fn counted_text(counted: &Counted) -> String {
    let mut words = vec![count_field(counted).to_owned()];
    words.extend(counted.lateness.map(|bucket| format!("late:{bucket}")));
    words.extend(counted.duration.map(|bucket| format!("took:{bucket}")));
    if counted.state == model::run::RunState::Succeeded {
        words.push(format!("@{}", counted.ended_at));
    }
    words.join(" ")
}

fn count_field(counted: &Counted) -> &'static str {
    use model::run::RunState;
    match counted.state {
        RunState::DeadLettered => "failed",
        state => state.as_str(),
    }
}

/// Statistics from the fields of their hash. What this build doesn't know is left out.
#[must_use]
pub fn stats_from(fields: impl Iterator<Item = (String, String)>) -> JobStats {
    let mut stats = JobStats::default();
    for (field, value) in fields {
        let count = value.parse::<u64>();
        match (field.as_str(), count) {
            ("last_success", _) => stats.last_success_at = value.parse().ok(),
            ("succeeded", Ok(count)) => stats.succeeded = count,
            ("failed", Ok(count)) => stats.failed = count,
            ("cancelled", Ok(count)) => stats.cancelled = count,
            ("skipped", Ok(count)) => stats.skipped = count,
            (other, Ok(count)) => {
                let bucket = |prefix| other.strip_prefix(prefix).and_then(|bucket| bucket.parse().ok());
                bucket("late:").into_iter().for_each(|bucket| {
                    stats.lateness.0.insert(bucket, count);
                });
                bucket("took:").into_iter().for_each(|bucket| {
                    stats.duration.0.insert(bucket, count);
                });
            }
            (_, Err(_)) => {}
        }
    }
    stats
}

#[cfg(test)]
mod tests {
    use model::run::{Outcome, RunState};

    use super::*;

    #[test]
    fn what_is_counted_is_read_back() {
        let at = Timestamp::from_ms;
        let last = AttemptEnd {
            attempt: 1,
            outcome: Outcome::Succeeded,
            error: None,
            started_at: at(1_005),
            ended_at: at(3_000),
        };
        let earlier = model::stats::Earlier::default();
        let counted = Counted::of(RunState::Succeeded, Generation(0), at(1_000), &last, earlier);
        let text = counted_text(&counted);
        assert_eq!(text, "succeeded late:5 took:71 @1970-01-01T00:00:03Z");
        let fields = [
            ("succeeded", "1"),
            ("late:5", "1"),
            ("took:71", "1"),
            ("last_success", "1970-01-01T00:00:03Z"),
            ("x", "1"),
        ];
        let mut expected = JobStats::default();
        expected.count(&counted);
        assert_eq!(stats_from(fields.map(|(f, v)| (f.to_owned(), v.to_owned())).into_iter()), expected);
    }
}
