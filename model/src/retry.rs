//! Retry: how long to wait before the next attempt of a run, and when to give up.

use std::time::Duration;

use crate::limits::{LOST_ATTEMPTS_MAX, RATE_LIMITED_MAX};
use crate::shard::stable_hash;
use crate::time::duration_ms;

/// `attempts` in all, the delays growing from `initial` by `factor` up to `max`, each spread by ± `jitter` of itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryPolicy {
    pub attempts: u32,
    pub initial: Duration,
    pub factor: f64,
    pub max: Duration,
    pub jitter: f64,
}

impl Default for RetryPolicy {
    /// Three attempts, 10 s and 20 s apart, ± 20 %.
    fn default() -> Self {
        Self {
            attempts: 3,
            initial: Duration::from_secs(10),
            factor: 2.0,
            max: Duration::from_secs(600),
            jitter: 0.2,
        }
    }
}

/// What became of a message's earlier deliveries, as far as executors of ours noted it down; the others were lost with
/// their executors. JetStream itself only counts deliveries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Attempts that failed: the policy counts these.
    pub failed: u32,
    /// Attempts that a rate limit turned away.
    pub limited: u32,
    /// Attempts that an executor gave back because it was stopping.
    pub handed_back: u32,
}

impl Tally {
    /// How many of the deliveries before this one (the `delivered`th) were lost.
    #[must_use]
    pub fn lost(&self, delivered: u32) -> u32 {
        let known = self.failed.saturating_add(self.limited).saturating_add(self.handed_back);
        delivered.saturating_sub(1).saturating_sub(known)
    }

    /// With one more failure.
    #[must_use]
    pub fn after_failure(self) -> Self {
        Self { failed: self.failed.saturating_add(1), ..self }
    }

    /// With one more attempt that was turned away; `None` if there were so many that they count as failures now.
    #[must_use]
    pub fn after_limit(self) -> Option<Self> {
        (self.limited < RATE_LIMITED_MAX).then(|| Self { limited: self.limited + 1, ..self })
    }

    /// With one more attempt that was given back.
    #[must_use]
    pub fn after_hand_back(self) -> Self {
        Self { handed_back: self.handed_back.saturating_add(1), ..self }
    }
}

/// What happens after an attempt that did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterFailure {
    /// Another attempt, this much later.
    Retry { delay: Duration },
    /// No policy will retry it: a dead letter.
    GiveUp,
}

impl RetryPolicy {
    /// One attempt, as cron does it.
    #[must_use]
    pub fn once() -> Self {
        Self { attempts: 1, ..Self::default() }
    }

    /// What follows a run's failure number `failures` (from 1). Attempts that were lost, turned away or handed back
    /// aren't among them.
    #[must_use]
    pub fn after_failure(&self, run_id: &str, failures: u32) -> AfterFailure {
        if failures >= self.attempts {
            AfterFailure::GiveUp
        } else {
            AfterFailure::Retry { delay: self.delay(run_id, failures) }
        }
    }

    /// Whether another attempt may start after so many were lost. Beyond it, executors died so often with this run in
    /// hand that it counts as poison.
    #[must_use]
    pub fn may_start(lost: u32) -> bool {
        lost <= LOST_ATTEMPTS_MAX
    }

    /// The wait after failure number `attempt`. The jitter is a function of run and attempt: repeatable, and
    /// different between runs that failed together.
    #[must_use]
    pub fn delay(&self, run_id: &str, attempt: u32) -> Duration {
        let exponent = f64::from(attempt.saturating_sub(1).min(1_000));
        let max_ms = duration_ms(self.max) as f64;
        let grown_ms = (duration_ms(self.initial) as f64 * self.factor.powf(exponent)).min(max_ms);
        let hash = stable_hash(&[run_id, "#", &attempt.to_string()]);
        let spread = (hash >> 11) as f64 / (1u64 << 53) as f64 * 2.0 - 1.0;
        let ms = grown_ms * (1.0 + self.jitter * spread);
        Duration::from_millis(ms.clamp(0.0, max_ms) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(attempts: u32) -> RetryPolicy {
        RetryPolicy { attempts, jitter: 0.0, ..RetryPolicy::default() }
    }

    #[test]
    fn delays_grow_to_the_maximum() {
        let seconds: Vec<u64> = (1..=9).map(|n| plain(10).delay("a/b@x", n).as_secs()).collect();
        assert_eq!(seconds, [10, 20, 40, 80, 160, 320, 600, 600, 600]);
        assert_eq!(plain(10).delay("a/b@x", u32::MAX).as_secs(), 600);
    }

    #[test]
    fn the_last_failure_gives_up() {
        let policy = plain(3);
        assert_eq!(policy.after_failure("r", 2), AfterFailure::Retry { delay: Duration::from_secs(20) });
        assert_eq!(policy.after_failure("r", 3), AfterFailure::GiveUp);
        assert_eq!(policy.after_failure("r", 4), AfterFailure::GiveUp);
    }

    #[test]
    fn lost_attempts_have_a_limit_of_their_own() {
        assert!(RetryPolicy::may_start(LOST_ATTEMPTS_MAX));
        assert!(!RetryPolicy::may_start(1 + LOST_ATTEMPTS_MAX));
    }

    #[test]
    fn what_nobody_noted_was_lost() {
        // (failed, limited, handed back), delivered, lost
        let table =
            [((0, 0, 0), 1, 0), ((0, 0, 0), 4, 3), ((1, 2, 1), 5, 0), ((1, 2, 1), 7, 2), ((9, 0, 0), 3, 0)];
        for ((failed, limited, handed_back), delivered, lost) in table {
            let tally = Tally { failed, limited, handed_back };
            assert_eq!(tally.lost(delivered), lost, "{tally:?} at delivery {delivered}");
        }
    }

    #[test]
    fn a_rate_limit_turns_away_for_nothing_but_not_for_ever() {
        let mut tally = Tally::default();
        for limited in 1..=RATE_LIMITED_MAX {
            tally = tally.after_limit().unwrap();
            assert_eq!((tally.limited, tally.failed), (limited, 0));
        }
        assert_eq!(tally.after_limit(), None);
    }

    #[test]
    fn jitter_is_repeatable_bounded_and_differs_between_runs() {
        let policy = RetryPolicy { jitter: 0.2, ..plain(3) };
        let of = |run: &str| policy.delay(run, 1).as_millis();
        assert_eq!(of("a"), of("a"));
        assert_ne!(of("a"), of("b"));
        assert!((0..200).all(|n| (8_000..=12_000).contains(&of(&n.to_string()))));
    }
}
