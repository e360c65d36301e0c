//! Misfires: occurrences whose time passed while nobody could dispatch them, and which of them still run.
//!
//! Lateness alone is no misfire: an occurrence that is dispatched late because the dispatcher was busy, or because a
//! lease changed hands, simply runs late. Only an *interruption*, longer than `INTERRUPTION_MIN`, makes one.

use std::time::Duration;

use crate::rate::Rate;
use crate::time::{Timestamp, duration_ms};

/// An absence shorter than this is lateness: it covers a lease that expires (3 s) and is taken over.
pub const INTERRUPTION_MIN: Duration = Duration::from_secs(10);

/// Which missed occurrences run once dispatching resumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CatchUp {
    pub policy: CatchUpPolicy,
    /// Missed longer ago than this: skipped, whatever the policy.
    pub window: Duration,
    /// With `all`, only the newest this many run.
    pub max: u32,
    /// Those that run start no faster than this, whoever else catches up at the same time.
    pub rate: Option<Rate>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CatchUpPolicy {
    /// None of them.
    None,
    /// The newest one.
    Latest,
    /// All of them, in order.
    All,
}

impl Default for CatchUp {
    /// The newest missed occurrence of the last 24 hours.
    fn default() -> Self {
        Self { policy: CatchUpPolicy::Latest, window: Duration::from_secs(24 * 3600), max: 100, rate: None }
    }
}

/// A time in which nothing was dispatched: after `since`, up to and including `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interruption {
    pub since: Timestamp,
    pub until: Timestamp,
}

impl Interruption {
    /// The interruption between the instant up to which everything was taken and now, if it is long enough to be one.
    #[must_use]
    pub fn between(taken_until: Timestamp, now: Timestamp) -> Option<Self> {
        (now.ms_since(taken_until) >= duration_ms(INTERRUPTION_MIN))
            .then_some(Self { since: taken_until, until: now })
    }

    /// Whether an occurrence due at this instant was missed in it.
    #[must_use]
    pub fn missed(&self, due_at: Timestamp) -> bool {
        self.since < due_at && due_at <= self.until
    }
}

/// Why a missed occurrence doesn't run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MissedReason {
    PolicyNone,
    SupersededByLatest,
    OutsideWindow,
    BeyondMax,
}

/// The verdict on a job's missed occurrences: a split of what was given.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct CaughtUp {
    pub run: Vec<Timestamp>,
    pub skip: Vec<(Timestamp, MissedReason)>,
}

impl CatchUp {
    /// How many missed occurrences may run at most.
    #[must_use]
    pub fn runs_max(&self) -> u32 {
        match self.policy {
            CatchUpPolicy::None => 0,
            CatchUpPolicy::Latest => 1,
            CatchUpPolicy::All => self.max,
        }
    }

    /// When the missed occurrences that run may start, by their order (0 first), if catching up begins at `from`: `burst` of
    /// them at once, then one after each interval of the rate. At `from` all of them, without a rate.
    #[must_use]
    pub fn start_at(&self, index: usize, from: Timestamp) -> Timestamp {
        let Some(rate) = self.rate else { return from };
        let later = i64::try_from(index).unwrap_or(i64::MAX) - i64::from(rate.burst) + 1;
        let wait_us = rate.interval_us().saturating_mul(later.max(0));
        from.plus_ms(wait_us / 1_000 + i64::from(wait_us % 1_000 > 0))
    }

    /// Splits one job's missed occurrences (ascending) into those that run and those that don't.
    ///
    /// Applying it to parts and then to what is left gives the same as applying it at once, so that the planner may
    /// thin out a long interruption before the dispatcher decides.
    #[must_use]
    pub fn resolve(&self, missed: &[Timestamp], now: Timestamp) -> CaughtUp {
        let oldest = now.plus_ms(-duration_ms(self.window));
        let keep = self.runs_max() as usize;
        let beyond = match self.policy {
            CatchUpPolicy::None => MissedReason::PolicyNone,
            CatchUpPolicy::Latest => MissedReason::SupersededByLatest,
            CatchUpPolicy::All => MissedReason::BeyondMax,
        };
        let too_old = missed.iter().take_while(|due| **due < oldest).count();
        let first_kept = too_old.max(missed.len().saturating_sub(keep));
        let skip_reason =
            |index: usize| if index < too_old && keep > 0 { MissedReason::OutsideWindow } else { beyond };
        CaughtUp {
            run: missed[first_kept..].to_vec(),
            skip: missed[..first_kept].iter().enumerate().map(|(i, due)| (*due, skip_reason(i))).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_ms(seconds * 1000)
    }

    fn policy(policy: CatchUpPolicy, window_s: u64, max: u32) -> CatchUp {
        CatchUp { policy, window: Duration::from_secs(window_s), max, rate: None }
    }

    #[test]
    fn each_policy_keeps_what_it_says() {
        use CatchUpPolicy::{All, Latest, None};
        use MissedReason::{BeyondMax, OutsideWindow, PolicyNone, SupersededByLatest};
        let missed = [at(10), at(20), at(30), at(40)];
        let table = [
            (policy(None, 100, 9), vec![], vec![PolicyNone; 4]),
            (policy(Latest, 100, 9), vec![at(40)], vec![SupersededByLatest; 3]),
            (policy(Latest, 5, 9), vec![], vec![OutsideWindow; 4]),
            (policy(All, 100, 9), missed.to_vec(), vec![]),
            (policy(All, 100, 2), vec![at(30), at(40)], vec![BeyondMax; 2]),
            (policy(All, 25, 9), vec![at(30), at(40)], vec![OutsideWindow; 2]),
            (policy(All, 25, 1), vec![at(40)], vec![OutsideWindow, OutsideWindow, BeyondMax]),
        ];
        for (policy, run, reasons) in table {
            let verdict = policy.resolve(&missed, at(50));
            assert_eq!(verdict.run, run, "{policy:?}");
            assert_eq!(
                verdict.skip.iter().map(|(_, reason)| *reason).collect::<Vec<_>>(),
                reasons,
                "{policy:?}"
            );
        }
    }

    #[test]
    fn a_rate_spreads_what_is_caught_up() {
        let starts = |rate: &str| {
            let rule = CatchUp { rate: rate.parse().ok(), ..CatchUp::default() };
            [0, 1, 2, 3, 7].map(|index| rule.start_at(index, at(100)).ms_since(at(100)))
        };
        assert_eq!(starts("none"), [0; 5]);
        assert_eq!(starts("1/s"), [0, 1_000, 2_000, 3_000, 7_000]);
        assert_eq!(starts("3/s"), [0, 334, 667, 1_001, 2_334]);
        assert_eq!(starts("10/1m burst 3"), [0, 0, 0, 6_000, 30_000]);
    }

    #[test]
    fn a_short_absence_is_lateness() {
        assert_eq!(Interruption::between(at(0), at(9)), None);
        let gap = Interruption::between(at(0), at(10)).unwrap();
        assert!(!gap.missed(at(0)) && gap.missed(at(1)) && gap.missed(at(10)) && !gap.missed(at(11)));
    }

    proptest! {
        #[test]
        fn thinning_out_first_changes_nothing(
            mut seconds in proptest::collection::vec(0i64..1_000, 0..40),
            cut in 0usize..40, kind in 0..3, window in 0u64..1_200, max in 0u32..20,
        ) {
            seconds.sort_unstable();
            seconds.dedup();
            let missed: Vec<_> = seconds.into_iter().map(at).collect();
            let kind = [CatchUpPolicy::None, CatchUpPolicy::Latest, CatchUpPolicy::All][kind as usize];
            let rule = policy(kind, window, max);
            let (early, late) = missed.split_at(cut.min(missed.len()));
            let mut thinned = rule.resolve(early, at(1_000)).run;
            thinned.extend_from_slice(late);
            let whole = rule.resolve(&missed, at(1_000));
            prop_assert_eq!(&rule.resolve(&thinned, at(1_000)).run, &whole.run);
            prop_assert_eq!(whole.run.len() + whole.skip.len(), missed.len());
        }
    }
}
