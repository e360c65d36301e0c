//! The instants that a schedule's rules name, before anything moves them: the union of `cron`, `every` and `at`, less
//! the exclusions. Milliseconds since the epoch.

use super::cron_rule::CronRule;
use super::exclude::Exclusions;
use crate::time::SECOND_MS;

/// How many excluded occurrences in a row are looked at before the schedule counts as never occurring again. Dates
/// and whole days are leapt over as one, so that this is far more than a calendar of holidays needs.
const EXCLUDED_MAX: usize = 10_000;

/// One rule of a schedule.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Cron(CronRule),
    /// `anchor` and every multiple of `interval` from there, in both directions.
    Every {
        anchor: i64,
        interval: i64,
    },
    /// Sorted, without repetitions.
    At(Vec<i64>),
}

impl Source {
    #[inline]
    pub(super) fn next(&self, after: i64) -> Option<i64> {
        match self {
            Self::Cron(rule) => rule.next(after.div_euclid(SECOND_MS)).map(|at| at * SECOND_MS),
            Self::Every { anchor, interval } => {
                let steps = (after - anchor).div_euclid(*interval) + 1;
                Some(anchor + steps * interval)
            }
            Self::At(instants) => instants.get(instants.partition_point(|&at| at <= after)).copied(),
        }
    }

    fn previous(&self, before: i64) -> Option<i64> {
        match self {
            // The first whole second that isn't before `before`: a rule names whole seconds only.
            Self::Cron(rule) => rule.previous(-(-before).div_euclid(SECOND_MS)).map(|at| at * SECOND_MS),
            Self::Every { anchor, interval } => {
                let steps = (before - 1 - anchor).div_euclid(*interval);
                Some(anchor + steps * interval)
            }
            Self::At(instants) => {
                let earlier = instants.partition_point(|&at| at < before);
                earlier.checked_sub(1).and_then(|last| instants.get(last)).copied()
            }
        }
    }
}

/// The union of the rules, less the exclusions.
#[derive(Clone, Debug)]
pub(super) struct Nominal {
    pub(super) sources: Vec<Source>,
    pub(super) exclusions: Exclusions,
}

impl Nominal {
    #[inline]
    pub(super) fn next(&self, after: i64) -> Option<i64> {
        let mut at = self.next_named(after)?;
        if self.exclusions.is_empty() {
            return Some(at);
        }
        for _ in 0..EXCLUDED_MAX {
            let Some(excluded) = self.exclusions.around(at) else { return Some(at) };
            at = self.next_named(excluded.end - 1)?;
        }
        None
    }

    pub(super) fn previous(&self, before: i64) -> Option<i64> {
        let mut at = self.previous_named(before)?;
        if self.exclusions.is_empty() {
            return Some(at);
        }
        for _ in 0..EXCLUDED_MAX {
            let Some(excluded) = self.exclusions.around(at) else { return Some(at) };
            at = self.previous_named(excluded.start)?;
        }
        None
    }

    fn next_named(&self, after: i64) -> Option<i64> {
        self.sources.iter().filter_map(|source| source.next(after)).min()
    }

    fn previous_named(&self, before: i64) -> Option<i64> {
        self.sources.iter().filter_map(|source| source.previous(before)).max()
    }
}
