//! Civil calendar: the next and the previous civil time that an expression names, without any time zone.
//!
//! The search is the crate `cron`'s, over civil time as if it were UTC. What `cron` can't say is ours: the days rule
//! (OR, `L`, `W`, `#`), which becomes up to two *layers* of `cron` schedules and a filter, and the years after 2100,
//! which are searched in an equal stretch of the calendar 124 years earlier.
//!
//! Civil times are seconds since 1970-01-01T00:00:00 of the wall clock.

use std::str::FromStr;

use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, Timelike, Utc};
use cron::Schedule as CronSchedule;

use super::days::{ALL_DAYS, ALL_WEEKDAYS, Days, DaysOfMonth, DaysOfWeek, Shapes, bits};
use super::expression::{Civil, MONTHS, SIXTY, TWENTY_FOUR, YEARS};
use std::fmt::Write as _;

/// Seconds in a day of civil time.
pub(super) const DAY: i64 = 86_400;
/// 2101-01-01T00:00:00: `cron` knows no later year than 2100.
const CRON_END: i64 = 4_133_980_800;
/// From 1977 to 2101. Both begin on a Saturday, four years before a leap year's end, and no century comes between
/// 1977 and 2075, nor between 2101 and 2199.
const SHIFT: i64 = 3_913_056_000;
/// 2200-01-01T00:00:00, where our own calendar ends.
pub(super) const CALENDAR_END: i64 = 7_258_118_400;

/// A rule over civil time, ready to be searched.
#[derive(Clone, Debug)]
pub(super) struct Calendar {
    rule: Civil,
    layers: Vec<Layer>,
}

/// A part of the days rule, both of whose fields must match, and a `cron` schedule that names at least its times.
#[derive(Clone, Debug)]
struct Layer {
    schedule: CronSchedule,
    days: Days,
}

impl Calendar {
    /// `None` if no day of the calendar matches.
    pub(super) fn new(rule: Civil) -> Option<Self> {
        let begin = NaiveDate::from_ymd_opt(i32::from(YEARS.0), 1, 1)?;
        let layers: Vec<Layer> = parts(&rule.days)
            .into_iter()
            // A part that never matches would be searched to the end of the calendar at every step.
            .filter(|days| first_date(&rule, days, begin).is_some())
            .map(|days| {
                Some(Layer { schedule: CronSchedule::from_str(&cron_text(&rule, &days)).ok()?, days })
            })
            .collect::<Option<_>>()?;
        (!layers.is_empty()).then_some(Self { rule, layers })
    }

    /// The rule that it was made of.
    pub(super) fn rule(&self) -> &Civil {
        &self.rule
    }

    /// The first civil time after `after`.
    #[inline]
    pub(super) fn next(&self, after: i64) -> Option<i64> {
        let after = after.max(-1);
        self.layers.iter().filter_map(|layer| self.next_in(layer, after)).min()
    }

    /// The last civil time before `before`.
    pub(super) fn previous(&self, before: i64) -> Option<i64> {
        let before = before.min(CALENDAR_END);
        self.layers.iter().filter_map(|layer| self.previous_in(layer, before)).max()
    }

    /// Whether the rule names a civil time; `any_second` overlooks the seconds.
    pub(super) fn names(&self, civil: i64, any_second: bool) -> bool {
        let rule = &self.rule;
        let Some(time) = DateTime::from_timestamp(civil, 0) else { return false };
        let has = |set: u64, value: u32| set >> value & 1 == 1;
        has(rule.minutes, time.minute())
            && has(rule.hours, time.hour())
            && (any_second || has(rule.seconds, time.second()))
            && has(rule.months, time.month())
            && rule.has_year(time.year())
            && rule.days.matches(time.date_naive())
    }

    fn next_in(&self, layer: &Layer, after: i64) -> Option<i64> {
        let found = cron_next(&layer.schedule, after)?;
        let Some(date) = self.other_day(layer, found) else { return Some(found) };
        // From the first day that matches on, so that `cron` isn't asked day by day.
        cron_next(&layer.schedule, midnight(first_date(&self.rule, &layer.days, date.succ_opt()?)?) - 1)
    }

    fn previous_in(&self, layer: &Layer, before: i64) -> Option<i64> {
        let found = cron_previous(&layer.schedule, before)?;
        let Some(date) = self.other_day(layer, found) else { return Some(found) };
        cron_previous(&layer.schedule, midnight(last_date(&self.rule, &layer.days, date.pred_opt()?)?) + DAY)
    }

    /// The date of a time that `cron` found, if the rule doesn't name that date.
    fn other_day(&self, layer: &Layer, found: i64) -> Option<NaiveDate> {
        if layer.days.is_plain() && self.rule.years.is_none() {
            return None;
        }
        let date = DateTime::from_timestamp(found, 0)?.date_naive();
        let named = self.rule.has_year(date.year()) && layer.days.matches(date);
        (!named).then_some(date)
    }
}

fn midnight(date: NaiveDate) -> i64 {
    date.and_time(NaiveTime::MIN).and_utc().timestamp()
}

/// The first date from `from` on that matches: a month at a time, in whole numbers, so that a rule that never matches
/// costs microseconds.
fn first_date(rule: &Civil, days: &Days, from: NaiveDate) -> Option<NaiveDate> {
    let mut shapes = Shapes::default();
    let mut day = from.day();
    let mut month = from.month();
    for year in from.year()..=i32::from(YEARS.1) {
        if rule.has_year(year) {
            for month in (month..=12).filter(|&month| rule.months >> month & 1 == 1) {
                let matching = shapes.in_month(days, year, month);
                let matching = if (year, month) == (from.year(), from.month()) {
                    matching & (u32::MAX << day)
                } else {
                    matching
                };
                if matching != 0 {
                    return NaiveDate::from_ymd_opt(year, month, matching.trailing_zeros());
                }
            }
        }
        (month, day) = (1, 1);
    }
    None
}

/// The last date up to `until` that matches.
fn last_date(rule: &Civil, days: &Days, until: NaiveDate) -> Option<NaiveDate> {
    let mut shapes = Shapes::default();
    let mut month = until.month();
    for year in (i32::from(YEARS.0)..=until.year()).rev() {
        if rule.has_year(year) {
            for month in (1..=month).rev().filter(|&month| rule.months >> month & 1 == 1) {
                let mut matching = shapes.in_month(days, year, month);
                if (year, month) == (until.year(), until.month()) {
                    matching &= !(u32::MAX << until.day() << 1);
                }
                if matching != 0 {
                    return NaiveDate::from_ymd_opt(year, month, matching.ilog2());
                }
            }
        }
        month = 12;
    }
    None
}

#[inline]
fn cron_next(schedule: &CronSchedule, after: i64) -> Option<i64> {
    let search = |after: i64| schedule.after(&utc(after)?).next().map(|found| found.timestamp());
    if after < CRON_END
        && let Some(found) = search(after)
    {
        return Some(found);
    }
    let after = after.max(CRON_END - 1);
    search(after - SHIFT).map(|found| found + SHIFT).filter(|&found| found < CALENDAR_END)
}

fn cron_previous(schedule: &CronSchedule, before: i64) -> Option<i64> {
    let search = |before: i64| schedule.after(&utc(before)?).next_back().map(|found| found.timestamp());
    if before > CRON_END
        && let Some(found) =
            search(before - SHIFT).map(|found| found + SHIFT).filter(|&found| found >= CRON_END)
    {
        return Some(found);
    }
    search(before.min(CRON_END))
}

fn utc(civil: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(civil, 0)
}

/// A days rule as one or two parts, in each of which both fields must match.
fn parts(days: &Days) -> Vec<Days> {
    if !days.either {
        return vec![days.clone()];
    }
    let any_weekday = DaysOfWeek { weekly: ALL_WEEKDAYS, ..DaysOfWeek::default() };
    let any_day = DaysOfMonth { days: ALL_DAYS, ..DaysOfMonth::default() };
    vec![
        Days { of_month: days.of_month.clone(), of_week: any_weekday, either: false },
        Days { of_month: any_day, of_week: days.of_week.clone(), either: false },
    ]
}

/// Every day of the month on which the day-of-month field can possibly match.
fn wide_days_of_month(days: &Days) -> u32 {
    let field = &days.of_month;
    let mut set = field.days;
    for before in bits(field.before_last) {
        set |=
            (28..=31_u32).filter_map(|length| length.checked_sub(before)).fold(0, |set, day| set | 1 << day);
    }
    for day in bits(field.nearest) {
        set |= around(day);
    }
    for before in bits(field.nearest_before_last) {
        set |= (28..=31_u32)
            .filter_map(|length| length.checked_sub(before))
            .fold(0, |set, day| set | around(day));
    }
    set & ALL_DAYS
}

/// A day and the two days on either side that the nearest weekday can be.
fn around(day: u32) -> u32 {
    (day.saturating_sub(2)..=(day + 2).min(31)).fold(0, |set, day| set | 1 << day)
}

/// The weekdays, and the days of the month, on which the day-of-week field can possibly match.
fn wide_days_of_week(days: &Days) -> (u8, u32) {
    let field = &days.of_week;
    let mut weekdays = field.weekly | field.last;
    let mut of_month = if field.last == 0 { 0 } else { ALL_DAYS << 21 };
    for (nth, &set) in (0_u32..).zip(&field.nth) {
        weekdays |= set;
        if set != 0 {
            of_month |= 0b1111_1110 << (7 * nth);
        }
    }
    (weekdays, if field.weekly == 0 { of_month } else { ALL_DAYS })
}

/// The expression in the notation of the crate `cron`: seven fields, Sunday 1.
fn cron_text(rule: &Civil, days: &Days) -> String {
    let (of_week, of_month) = wide_days_of_week(days);
    let of_month = of_month & wide_days_of_month(days);
    let mut text = String::with_capacity(64);
    list(&mut text, rule.seconds, SIXTY);
    list(&mut text, rule.minutes, SIXTY);
    list(&mut text, rule.hours, TWENTY_FOUR);
    list(&mut text, u64::from(of_month), u64::from(ALL_DAYS));
    list(&mut text, rule.months, MONTHS);
    list(&mut text, u64::from(of_week) << 1, u64::from(ALL_WEEKDAYS) << 1);
    text.push('*');
    text
}

/// A set as a list of ranges, or as a range with a step, whichever is there: short text parses fast.
fn list(text: &mut String, set: u64, all: u64) {
    if set == all {
        text.push_str("* ");
        return;
    }
    let mut rest = set;
    while rest != 0 {
        let first = rest.trailing_zeros();
        rest &= rest - 1;
        let step = if rest == 0 { 1 } else { rest.trailing_zeros() - first };
        let mut last = first;
        while last + step < u64::BITS && rest >> (last + step) & 1 == 1 {
            last += step;
            rest &= !(1 << last);
        }
        // Only the values that the range names are taken out; the lowest one left begins the next item.
        // Writing to a string can't fail.
        let _ = match (last - first) / step {
            0 => write!(text, "{first},"),
            _ if step == 1 => write!(text, "{first}-{last},"),
            _ => write!(text, "{first}-{last}/{step},"),
        };
    }
    text.pop();
    text.push(' ');
}
