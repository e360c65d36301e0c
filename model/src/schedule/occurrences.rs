//! `Schedule`: the occurrences of one job. The nominal instants, moved by `spread`, cut to `start`, `end` and `count`,
//! and moved by `jitter`, in this order; the union of several such schedules. Milliseconds since the epoch inside, `Timestamp` outside.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chrono::DateTime;

use super::cron_rule::Jump;
use super::describe;
use super::hash::Stable;
use super::interval::duration_text;
use super::nominal::{Nominal, Source};
use super::policy::{Fold, Gap};
use super::zone::Zone;
use crate::time::{SECOND_MS, TIMESTAMP_MAX, Timestamp};

/// A compiled schedule. Cheap to clone; the same spec and identity give the same instants everywhere and for ever.
#[derive(Clone, Debug)]
pub struct Schedule {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) nominal: Nominal,
    pub(super) zone: Zone,
    /// The job's share of `spread`.
    pub(super) spread: i64,
    /// As declared.
    pub(super) start: Option<Timestamp>,
    /// The first and the last instant that may occur.
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) count: Option<u64>,
    /// The last occurrence that `count` leaves, found when first asked for; `None` inside if there is none.
    pub(super) counted_last: OnceLock<Option<i64>>,
    pub(super) jitter: i64,
    pub(super) jitter_of: Stable,
    pub(super) after: Option<Duration>,
    /// The job's further schedules.
    pub(super) also: Vec<Inner>,
}

/// Why an occurrence is at its instant; see `Schedule::reasons`. `Display` says it in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The civil time `missing` doesn't exist that day, and the policy made this instant of it.
    Gap { missing: String, policy: Gap },
    /// The civil time occurs twice that day, and this is the first (or the second) of them. No policy: the schedule
    /// follows elapsed time, so that it has both.
    Fold { civil: String, second: bool, policy: Option<Fold> },
    /// Moved by the job's share of `spread`.
    Spread(Duration),
    /// Moved by the occurrence's own jitter.
    Jitter(Duration),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gap { missing, policy } => write!(f, "gap {policy}: {missing} doesn't exist"),
            Self::Fold { civil, second, policy } => {
                let which = if *second { "second" } else { "first" };
                match policy {
                    Some(policy) => write!(f, "fold {policy}")?,
                    None => f.write_str("fold, elapsed time")?,
                }
                write!(f, ": {civil} occurs twice, this is the {which}")
            }
            Self::Spread(by) => write!(f, "spread: {} later", duration_text(*by)),
            Self::Jitter(by) => write!(f, "jitter: {} later", duration_text(*by)),
        }
    }
}

impl Schedule {
    pub(super) fn new(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    /// The first occurrence after an instant; `None` if there is none before the year 2200.
    #[must_use]
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let first = self.inner.next(after.as_ms());
        let others = self.inner.also.iter().filter_map(|other| other.next(after.as_ms()));
        others.chain(first).min().map(Timestamp::from_ms)
    }

    /// The last occurrence before an instant.
    #[must_use]
    pub fn previous_before(&self, before: Timestamp) -> Option<Timestamp> {
        let first = self.inner.previous(before.as_ms());
        let others = self.inner.also.iter().filter_map(|other| other.previous(before.as_ms()));
        others.chain(first).max().map(Timestamp::from_ms)
    }

    /// Whether an instant is an occurrence.
    #[must_use]
    pub fn names(&self, due: Timestamp) -> bool {
        self.next_after(due.plus_ms(-1)) == Some(due)
    }

    /// The last occurrence after `after` and not after `until`. Costs as much as one step, however far they are apart.
    #[must_use]
    pub fn latest_in(&self, after: Timestamp, until: Timestamp) -> Option<Timestamp> {
        self.previous_before(until.plus_ms(1)).filter(|&latest| latest > after)
    }

    /// The delay of a schedule that follows the end of its previous run; such a schedule names no instants.
    #[must_use]
    pub fn after_delay(&self) -> Option<Duration> {
        self.inner.after
    }

    /// The job's schedules, one by one.
    fn each(&self) -> impl Iterator<Item = &Inner> {
        std::iter::once(&*self.inner).chain(&self.inner.also)
    }

    /// The zone whose civil time the schedule's rules speak of; of many schedules, the first one's.
    #[must_use]
    pub fn zone(&self) -> Zone {
        self.inner.zone
    }

    /// The schedule as a sentence: "at 02:30 on weekdays, Europe/Berlin".
    #[must_use]
    pub fn describe(&self) -> String {
        self.each().map(describe::schedule).collect::<Vec<_>>().join("; and ")
    }

    /// What happens to its fixed times where the clock jumps; `None` if all of its rules follow elapsed or real time.
    #[must_use]
    pub fn jump_policy(&self) -> Option<(Gap, Fold)> {
        self.each().flat_map(|one| &one.nominal.sources).find_map(|source| match source {
            Source::Cron(rule) => rule.policy(),
            Source::Every { .. } | Source::At(_) => None,
        })
    }

    /// What moved an occurrence away from a rule's plain civil time; empty for an ordinary one.
    #[must_use]
    pub fn reasons(&self, due: Timestamp) -> Vec<Reason> {
        let due = due.as_ms();
        let of = self.each().find(|one| one.next(due - 1) == Some(due));
        of.map_or_else(Vec::new, |one| one.reasons(due))
    }

    /// Two neighbours that are closer together than `least`: the first among the next `sample` occurrences, or else among
    /// those around the next occurrences of each rule, so that a rare rule beside a frequent one is looked at, too.
    #[must_use]
    pub fn closer_than(
        &self,
        least: Duration,
        from: Timestamp,
        sample: usize,
    ) -> Option<(Timestamp, Timestamp)> {
        let least = i64::try_from(least.as_millis()).unwrap_or(i64::MAX);
        let close = |one: Timestamp, next: Timestamp| (next.ms_since(one) < least).then_some((one, next));
        let mut before = None;
        std::iter::successors(self.next_after(from), |&due| self.next_after(due))
            .take(sample)
            .find_map(|due| before.replace(due).and_then(|one| close(one, due)))
            .or_else(|| {
                self.around_each_rule(from, sample).find_map(|due| {
                    let earlier = self.previous_before(due).filter(|&one| one > from);
                    let later = self.next_after(due);
                    earlier
                        .and_then(|one| close(one, due))
                        .or_else(|| later.and_then(|next| close(due, next)))
                })
            })
    }

    /// The occurrences at or right after the next ones of each rule, `sample` in all; none for a single rule.
    fn around_each_rule(&self, from: Timestamp, sample: usize) -> impl Iterator<Item = Timestamp> {
        let rules = self.each().map(|one| one.nominal.sources.len()).sum::<usize>();
        let each = if rules > 1 { sample / rules } else { 0 };
        let of = move |one: &Inner, source: &Source| {
            let named = std::iter::successors(source.next(from.as_ms()), |&at| source.next(at)).take(each);
            named.map(|at| at + one.spread).collect::<Vec<_>>()
        };
        let all = self
            .each()
            .flat_map(move |one| one.nominal.sources.iter().flat_map(move |source| of(one, source)));
        all.filter_map(|at| self.next_after(Timestamp::from_ms(at - 1)))
    }
}

impl Inner {
    pub(super) fn next(&self, after: i64) -> Option<i64> {
        if self.jitter == 0 {
            return self.next_even(after);
        }
        // Jitter never reaches the next occurrence, so only the one before can still be ahead of `after`.
        let pending = self.previous_even(after.saturating_add(1)).map(|even| even + self.jitter_for(even));
        match pending {
            Some(at) if at > after => Some(at),
            _ => self.next_even(after).map(|even| even + self.jitter_for(even)),
        }
    }

    fn previous(&self, before: i64) -> Option<i64> {
        let even = self.previous_even(before)?;
        if self.jitter == 0 {
            return Some(even);
        }
        let moved = even + self.jitter_for(even);
        if moved < before {
            return Some(moved);
        }
        self.previous_even(even).map(|earlier| earlier + self.jitter_for(earlier))
    }

    /// An occurrence's jitter: below `jitter`, before the next occurrence, and not past the schedule's last instant.
    fn jitter_for(&self, even: i64) -> i64 {
        let room = self.next_even(even).unwrap_or(i64::MAX).min(self.last + 1) - even;
        let below = u64::try_from(self.jitter.min(room)).unwrap_or(0);
        i64::try_from(self.jitter_of.at(even.unsigned_abs(), below)).unwrap_or(0)
    }

    /// Occurrences without jitter.
    fn next_even(&self, after: i64) -> Option<i64> {
        self.next_uncounted(after).filter(|&at| at <= self.last_counted())
    }

    fn previous_even(&self, before: i64) -> Option<i64> {
        let before = before.min(self.last_counted().saturating_add(1));
        let at = self.nominal.previous(before.min(self.last + 1) - self.spread)? + self.spread;
        (at >= self.first).then_some(at)
    }

    fn next_uncounted(&self, after: i64) -> Option<i64> {
        let after = after.max(self.first - 1);
        if after >= self.last {
            return None;
        }
        let at = self.nominal.next(after - self.spread)? + self.spread;
        (at <= self.last).then_some(at)
    }

    /// The last instant that `count` allows; the schedule's own end if it doesn't count.
    fn last_counted(&self) -> i64 {
        let Some(count) = self.count else { return self.last };
        let last = self.counted_last.get_or_init(|| {
            let mut at = self.next_uncounted(self.first - 1)?;
            for _ in 1..count {
                match self.next_uncounted(at) {
                    Some(next) => at = next,
                    None => break,
                }
            }
            Some(at)
        });
        last.unwrap_or(i64::MIN + 1)
    }

    fn reasons(&self, due: i64) -> Vec<Reason> {
        let moved_by = |ms: i64| Duration::from_millis(ms.unsigned_abs());
        let mut reasons = Vec::new();
        let mut even = due;
        if self.jitter != 0
            && let Some(before) = self.previous_even(due.saturating_add(1))
            && before != due
        {
            reasons.push(Reason::Jitter(moved_by(due - before)));
            even = before;
        }
        if self.spread != 0 {
            reasons.insert(0, Reason::Spread(moved_by(self.spread)));
            even -= self.spread;
        }
        let at = even.div_euclid(SECOND_MS);
        let jump = self.nominal.sources.iter().find_map(|source| match source {
            Source::Cron(rule) if rule.next(at - 1) == Some(at) => rule.jump_at(at),
            _ => None,
        });
        match jump {
            Some(Jump::Gap { missing, policy }) => {
                reasons.insert(0, Reason::Gap { missing: civil_text(missing), policy });
            }
            Some(Jump::Fold { civil, second, policy }) => {
                reasons.insert(0, Reason::Fold { civil: civil_text(civil), second, policy });
            }
            None => {}
        }
        reasons
    }
}

/// Civil seconds as people write them.
fn civil_text(civil: i64) -> String {
    DateTime::from_timestamp(civil, 0)
        .map_or_else(String::new, |time| time.format("%Y-%m-%d %H:%M:%S").to_string())
}

/// The last instant of ecron's calendar, in milliseconds.
pub(super) const LAST: i64 = TIMESTAMP_MAX.as_ms();
