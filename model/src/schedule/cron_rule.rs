//! From civil times to instants: a calendar in a zone, with what happens where the zone's clock jumps.
//!
//! The zone is a row of spans of constant offset. Inside a span, civil time and instants run in step, so an occurrence
//! is a civil time minus the offset. Where a span begins, the clock has jumped:
//!
//! - forward (a *gap*): the civil times between are in no span. `Gap::Next` makes one occurrence at the span's start
//!   out of them, `Gap::Shift` puts each as much later as the clock jumped.
//! - backward (a *fold*): the civil times between are in both spans. `Fold::First` leaves them out of the later span,
//!   `Fold::Second` out of the earlier one.
//!
//! All numbers are whole seconds.

use std::sync::OnceLock;

use super::calendar::{CALENDAR_END, Calendar};
use super::expression::{Civil, TWENTY_FOUR};
use super::policy::{Fold, Gap};
use super::zone::{FAR, Span, Zone};

/// No zone is further from UTC than this (the widest in the database is 14 hours), in seconds.
const OFFSET_MAX: i64 = 16 * 3_600;

/// How many spans a search goes through before what it found is worth remembering. A rule all of whose times fall into
/// gaps that skip them (the last Sunday in March at 02:30) would be searched through centuries at every step.
const LONG_SEARCH: usize = 32;

/// One cron expression of a schedule.
#[derive(Clone, Debug)]
pub(super) struct CronRule {
    calendar: Calendar,
    zone: Zone,
    gap: Gap,
    fold: Fold,
    /// A stretch that took a long search; only a shortcut, the answers are the same without.
    barren: OnceLock<Barren>,
}

/// Neighbouring occurrences that are far apart; `None` where the calendar ends without one.
#[derive(Clone, Copy, Debug)]
struct Barren {
    from: Option<i64>,
    to: Option<i64>,
}

/// Why an instant of a rule isn't simply its civil time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Jump {
    /// A civil time (the first one, in seconds) that doesn't exist became this occurrence.
    Gap { missing: i64, policy: Gap },
    /// Its civil time occurs twice; no policy chose among them if the rule follows elapsed time.
    Fold { civil: i64, second: bool, policy: Option<Fold> },
}

impl CronRule {
    /// A schedule that follows elapsed time does nothing in a gap and runs through both passes of a fold, whatever
    /// the policies say.
    pub(super) fn new(calendar: Calendar, zone: Zone, gap: Gap, fold: Fold) -> Self {
        let elapsed = calendar.rule().elapsed;
        let (gap, fold) = if elapsed { (Gap::Skip, Fold::Both) } else { (gap, fold) };
        Self { calendar, zone, gap, fold, barren: OnceLock::new() }
    }

    /// What the rule says, without its zone.
    pub(super) fn civil(&self) -> &Civil {
        self.calendar.rule()
    }

    /// What the rule does where its zone's clock jumps; `None` if it follows elapsed time.
    pub(super) fn policy(&self) -> Option<(Gap, Fold)> {
        (!self.civil().elapsed).then_some((self.gap, self.fold))
    }

    /// Whether no gap can take away all of its occurrences: they don't all lie in one hour that a clock may leap
    /// over, and they go on far from the calendar's ends.
    pub(super) fn surely_occurs(&self) -> bool {
        let rule = self.calendar.rule();
        rule.years.is_none() && (self.gap != Gap::Skip || rule.hours == TWENTY_FOUR || self.zone.is_utc())
    }

    /// The first occurrence after an instant.
    #[inline]
    pub(super) fn next(&self, after: i64) -> Option<i64> {
        if let Some(barren) = self.barren.get()
            && barren.from.is_none_or(|from| from <= after)
            && barren.to.is_none_or(|to| after < to)
        {
            return barren.to;
        }
        let mut spans = 0;
        let to = self.search_next(after, &mut spans);
        if spans > LONG_SEARCH && self.barren.get().is_none() {
            let from = self.search_previous(after.saturating_add(1), &mut spans);
            _ = self.barren.set(Barren { from, to });
        }
        to
    }

    /// The last occurrence before an instant.
    pub(super) fn previous(&self, before: i64) -> Option<i64> {
        if let Some(barren) = self.barren.get()
            && barren.from.is_none_or(|from| from < before)
            && barren.to.is_none_or(|to| before <= to)
        {
            return barren.from;
        }
        let mut spans = 0;
        let from = self.search_previous(before, &mut spans);
        if spans > LONG_SEARCH && self.barren.get().is_none() {
            let to = self.search_next(before.saturating_sub(1), &mut spans);
            _ = self.barren.set(Barren { from, to });
        }
        from
    }

    #[inline]
    fn search_next(&self, after: i64, spans: &mut usize) -> Option<i64> {
        let mut after = after.max(-1);
        let mut span = self.zone.span_at(after);
        loop {
            *spans += 1;
            let window = self.window(&span);
            let from = (after + span.offset).max(window.start - 1);
            let civil = self.calendar.next(from);
            let regular = civil.filter(|&civil| civil < window.end).map(|civil| civil - span.offset);
            let moved = self.moved_after(&span, after);
            if let Some(found) = earlier(regular, moved) {
                return Some(found).filter(|&at| at < CALENDAR_END);
            }
            if span.end >= CALENDAR_END {
                return None;
            }
            after = span.end - 1;
            // Nothing happens before the next civil time, unless this span's end sets the clock back behind `from`.
            if span.end + span.offset.min(span.offset_after) > from {
                after = after.max(civil? - OFFSET_MAX);
            }
            // The span that contains the first instant to be looked at; its own start may be a gap.
            span = self.zone.span_at(after + 1);
        }
    }

    fn search_previous(&self, before: i64, spans: &mut usize) -> Option<i64> {
        let mut before = before.min(CALENDAR_END);
        loop {
            *spans += 1;
            let span = self.zone.span_at(before - 1);
            let window = self.window(&span);
            let until = (before + span.offset).min(window.end);
            let civil = self.calendar.previous(until);
            let regular = civil.filter(|&civil| civil >= window.start).map(|civil| civil - span.offset);
            let moved = self.moved_before(&span, before);
            if let Some(found) = later(regular, moved) {
                return Some(found).filter(|&at| at >= 0);
            }
            if span.start <= 0 {
                return None;
            }
            before = span.start;
            // As in `next`: back to the previous civil time, unless the clock was set back behind `until` here.
            if span.start + span.offset.max(span.offset_before) <= until {
                before = before.min(civil? + OFFSET_MAX);
            }
        }
    }

    /// Why an occurrence is where it is; `None` for an ordinary one.
    pub(super) fn jump_at(&self, at: i64) -> Option<Jump> {
        let span = self.zone.span_at(at);
        let civil = at + span.offset;
        if !self.calendar.names(civil, false) {
            let gap = gap_of(&span)?;
            let missing = match self.gap {
                Gap::Shift => at + span.offset_before,
                Gap::Skip | Gap::Next => self.calendar.next(gap.start - 1)?,
            };
            return Some(Jump::Gap { missing, policy: self.gap });
        }
        let repeated = span.offset_before > span.offset && civil < span.start + span.offset_before;
        let repeats = span.offset_after < span.offset && civil >= span.end + span.offset_after;
        let policy = self.policy().map(|(_, fold)| fold);
        (repeated || repeats).then_some(Jump::Fold { civil, second: repeated, policy })
    }

    /// The civil times that count in this span.
    fn window(&self, span: &Span) -> std::ops::Range<i64> {
        let start = match self.fold {
            Fold::First => span.offset.max(span.offset_before),
            Fold::Second | Fold::Both => span.offset,
        };
        let end = match self.fold {
            Fold::Second => span.offset.min(span.offset_after),
            Fold::First | Fold::Both => span.offset,
        };
        span.start + start..span.end + end
    }

    /// The first occurrence after `after` that the gap at this span's start gives.
    fn moved_after(&self, span: &Span, after: i64) -> Option<i64> {
        let gap = gap_of(span)?;
        match self.gap {
            Gap::Skip => None,
            Gap::Next if after >= span.start => None,
            Gap::Next => {
                self.calendar.next(gap.start - 1).filter(|&civil| civil < gap.end).map(|_| span.start)
            }
            Gap::Shift => {
                let from = (after + span.offset_before).max(gap.start - 1);
                if from >= gap.end - 1 {
                    return None;
                }
                let civil = self.calendar.next(from).filter(|&civil| civil < gap.end)?;
                Some(civil - span.offset_before)
            }
        }
    }

    /// The last occurrence before `before` that the gap at this span's start gives.
    fn moved_before(&self, span: &Span, before: i64) -> Option<i64> {
        let gap = gap_of(span)?;
        match self.gap {
            Gap::Skip => None,
            Gap::Next if before <= span.start => None,
            Gap::Next => {
                self.calendar.next(gap.start - 1).filter(|&civil| civil < gap.end).map(|_| span.start)
            }
            Gap::Shift => {
                let until = (before + span.offset_before).min(gap.end);
                let civil = self.calendar.previous(until).filter(|&civil| civil >= gap.start)?;
                Some(civil - span.offset_before)
            }
        }
    }
}

/// The civil times that this span's start leaves out.
fn gap_of(span: &Span) -> Option<std::ops::Range<i64>> {
    let jumped = span.offset > span.offset_before && span.start != -FAR;
    jumped.then(|| span.start + span.offset_before..span.start + span.offset)
}

fn earlier(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

fn later(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    one.max(other)
}
