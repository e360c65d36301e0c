//! What a job's ends add up to: counts, and how late and how long its runs were.
//!
//! Lateness and duration are counted in buckets that grow with the value: exact below 16 ms, then eight to each
//! doubling, so that a percentile is off by 6 % at most and a job needs a few dozen numbers, however many runs it had.

use std::collections::BTreeMap;

use crate::run::{AttemptEnd, Generation, RunState};
use crate::time::Timestamp;

/// Buckets of one doubling.
const STEPS: u64 = 8;

/// The bucket of a time in milliseconds; what is negative counts as none.
#[must_use]
pub fn bucket_of(ms: i64) -> u16 {
    let ms = u64::try_from(ms).unwrap_or(0);
    if ms < 2 * STEPS {
        return u16::try_from(ms).unwrap_or(0);
    }
    let doublings = u64::from(ms.ilog2()) - 3;
    u16::try_from(doublings * STEPS + (ms >> doublings)).unwrap_or(u16::MAX)
}

/// The time in the middle of a bucket, in milliseconds.
#[must_use]
pub fn middle_of(bucket: u16) -> u64 {
    let bucket = u64::from(bucket);
    if bucket < 2 * STEPS {
        return bucket;
    }
    let doublings = (bucket / STEPS - 1).min(59);
    let low = (bucket - doublings * STEPS) << doublings;
    low + (1 << doublings) / 2
}

/// Times by bucket.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Histogram(pub BTreeMap<u16, u64>);

impl Histogram {
    pub fn add(&mut self, bucket: u16) {
        *self.0.entry(bucket).or_default() += 1;
    }

    /// How many times were counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// The time (ms) that `percent` of all times don't exceed; `None` without any.
    #[must_use]
    pub fn percentile(&self, percent: u64) -> Option<u64> {
        let rank = (self.total() * percent).div_ceil(100).max(1);
        let mut seen = 0;
        self.0.iter().find_map(|(bucket, count)| {
            seen += count;
            (seen >= rank).then(|| middle_of(*bucket))
        })
    }
}

/// A job's statistics since it was created. Edits don't reset them; a deletion forgets them.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct JobStats {
    pub succeeded: u64,
    /// Dead-lettered.
    pub failed: u64,
    pub cancelled: u64,
    pub skipped: u64,
    pub last_success_at: Option<Timestamp>,
    /// From due to the first attempt's start; not of runs that a backfill asked for.
    pub lateness: Histogram,
    /// From the first attempt's start to the last one's end.
    pub duration: Histogram,
}

/// When a run was started first, as far as its reports tell: an attempt that was lost has reported nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstStart {
    /// At all: what its lateness is counted to.
    pub at: Timestamp,
    /// The newest generation that was started.
    pub generation: Generation,
    /// In that generation: what its duration is counted from. A dead letter's wait for its redrive is no work.
    pub again_at: Timestamp,
}

impl FirstStart {
    /// After one more report.
    #[must_use]
    pub fn after(known: Option<Self>, generation: Generation, started_at: Timestamp) -> Self {
        match known {
            None => Self { at: started_at, generation, again_at: started_at },
            Some(known) if known.generation < generation => {
                Self { generation, again_at: started_at, ..known }
            }
            Some(known) => known,
        }
    }
}

/// What was known of a run before a report of it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Earlier {
    pub first: Option<FirstStart>,
    /// It was asked for by a backfill: how long ago it would have been due says nothing about lateness.
    pub backfilled: bool,
}

/// What one end of a run adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    pub state: RunState,
    /// Not of a run that was started before (that start was counted), nor of a backfill's.
    pub lateness: Option<u16>,
    pub duration: Option<u16>,
    pub ended_at: Timestamp,
}

impl Counted {
    /// What a run's end adds. `last` is its last attempt; number 0 says that there was none.
    #[must_use]
    pub fn of(
        state: RunState,
        generation: Generation,
        due_at: Timestamp,
        last: &AttemptEnd,
        earlier: Earlier,
    ) -> Self {
        let ran = matches!(state, RunState::Succeeded | RunState::DeadLettered | RunState::Cancelled);
        let ran = ran && last.attempt > 0;
        let first = FirstStart::after(earlier.first, generation, last.started_at);
        Self {
            state,
            lateness: counted_lateness(generation, due_at, last.started_at, earlier).filter(|_| ran),
            duration: ran.then(|| bucket_of(last.ended_at.ms_since(first.again_at))),
            ended_at: last.ended_at,
        }
    }
}

/// The lateness that a report of an attempt adds: that of the first one.
#[must_use]
pub fn counted_lateness(
    generation: Generation,
    due_at: Timestamp,
    started_at: Timestamp,
    earlier: Earlier,
) -> Option<u16> {
    let counts = generation == Generation(0) && earlier.first.is_none() && !earlier.backfilled;
    counts.then(|| lateness(due_at, started_at))
}

/// The bucket of a first attempt's lateness.
#[must_use]
pub fn lateness(due_at: Timestamp, started_at: Timestamp) -> u16 {
    bucket_of(started_at.ms_since(due_at))
}

impl JobStats {
    /// Adds an end.
    pub fn count(&mut self, end: &Counted) {
        match end.state {
            RunState::Succeeded => {
                self.succeeded += 1;
                self.last_success_at = self.last_success_at.max(Some(end.ended_at));
            }
            RunState::DeadLettered => self.failed += 1,
            RunState::Cancelled => self.cancelled += 1,
            RunState::Skipped => self.skipped += 1,
            RunState::Waiting | RunState::Dispatched => {}
        }
        end.lateness.into_iter().for_each(|bucket| self.lateness.add(bucket));
        end.duration.into_iter().for_each(|bucket| self.duration.add(bucket));
    }

    /// The share of successes among the runs that were carried out to an end, 0 to 1; `None` before the first.
    #[must_use]
    pub fn success_rate(&self) -> Option<f64> {
        let ended = self.succeeded + self.failed;
        (ended > 0).then(|| self.succeeded as f64 / ended as f64)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn small_times_are_exact_and_percentiles_follow_the_ranks() {
        let mut times = Histogram::default();
        assert_eq!(times.percentile(50), None);
        (1..=10).for_each(|ms| times.add(bucket_of(ms)));
        assert_eq!([50, 95, 99].map(|percent| times.percentile(percent)), [Some(5), Some(10), Some(10)]);
        assert_eq!(bucket_of(-5), 0);
    }

    #[test]
    fn an_end_counts_once_and_only_what_it_knows() {
        let at = Timestamp::from_ms;
        let end = |attempt| AttemptEnd {
            attempt,
            outcome: crate::run::Outcome::Succeeded,
            error: None,
            started_at: at(1_005),
            ended_at: at(1_012),
        };
        let first = |generation| FirstStart::after(None, Generation(generation), at(1_003));
        let before = Earlier { first: Some(first(0)), backfilled: false };
        let backfilled = Earlier { first: None, backfilled: true };
        let mut stats = JobStats::default();
        assert_eq!(stats.success_rate(), None);
        for (state, generation, attempt, earlier) in [
            (RunState::Succeeded, 0, 1, Earlier::default()),
            (RunState::Succeeded, 0, 2, before),
            (RunState::DeadLettered, 1, 1, Earlier::default()),
            (RunState::Cancelled, 0, 0, Earlier::default()),
            (RunState::Cancelled, 0, 1, backfilled),
        ] {
            stats.count(&Counted::of(state, Generation(generation), at(1_000), &end(attempt), earlier));
        }
        assert_eq!((stats.succeeded, stats.failed, stats.cancelled), (2, 1, 2));
        assert_eq!((stats.lateness.total(), stats.duration.total()), (1, 4));
        assert_eq!((stats.lateness.percentile(99), stats.duration.percentile(50)), (Some(5), Some(7)));
        assert_eq!(stats.success_rate().map(|rate| (rate * 3.0).round() as i64), Some(2));
        assert_eq!(stats.last_success_at, Some(at(1_012)));
    }

    #[test]
    fn a_run_takes_as_long_as_all_its_attempts_together_but_not_its_time_as_a_dead_letter() {
        let at = Timestamp::from_ms;
        let mut first = None;
        for (generation, started_ms, expected) in [
            (0, 1_100, (1_100, 1_100)),
            (0, 1_500, (1_100, 1_100)),
            (1, 9_000, (1_100, 9_000)),
            (1, 9_500, (1_100, 9_000)),
        ] {
            let now = FirstStart::after(first, Generation(generation), at(started_ms));
            assert_eq!((now.at, now.again_at), (at(expected.0), at(expected.1)), "{generation} {started_ms}");
            let last = AttemptEnd {
                attempt: 2,
                outcome: crate::run::Outcome::Succeeded,
                error: None,
                started_at: at(started_ms),
                ended_at: at(started_ms + 10),
            };
            let earlier = Earlier { first, backfilled: false };
            let counted = Counted::of(RunState::Succeeded, Generation(generation), at(1_000), &last, earlier);
            let took_ms = started_ms + 10 - expected.1;
            assert_eq!(counted.duration, Some(bucket_of(took_ms)), "{generation} {started_ms}");
            assert_eq!(counted.lateness, first.is_none().then(|| bucket_of(100)));
            first = Some(now);
        }
    }

    proptest! {
        #[test]
        fn buckets_are_ordered_and_close(ms in 0i64..1_000_000_000_000) {
            let middle = middle_of(bucket_of(ms)) as i64;
            prop_assert!((middle - ms).abs() * 16 <= ms.max(1), "{ms} is told as {middle}");
            prop_assert!(bucket_of(ms) <= bucket_of(ms + 1));
        }
    }
}
