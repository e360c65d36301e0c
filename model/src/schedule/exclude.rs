//! When nothing occurs: civil dates, ranges, expressions, and calendars that hold many of them.
//!
//! An exclusion looks at an occurrence as the rule names it, before `spread` and `jitter` move it, and at its civil
//! time in the schedule's zone.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use chrono::{DateTime, NaiveDate, NaiveTime};
use serde::de::{self, Deserializer};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Serialize, Serializer};

use super::calendar::{Calendar, DAY};
use super::dialect::Dialect;
use super::expression::{SIXTY, TWENTY_FOUR};
use super::policy::clip;
use super::zone::Zone;
use crate::time::{SECOND_MS, Timestamp};

/// One entry of `exclude`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exclusion {
    /// From `from` up to and including `to`; a single date is a range from itself to itself.
    Range { from: Bound, to: Bound },
    /// Every civil time that an expression names; one without a second field names whole minutes.
    Cron(String),
    /// All entries of a `kind: Calendar`.
    Calendar(String),
}

/// One end of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// A whole civil day in the schedule's zone.
    Date(NaiveDate),
    /// An instant.
    Instant(Timestamp),
}

/// What a `kind: Calendar` says: dates to leave out, such as a country's holidays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NamedCalendar {
    /// Dates, ranges and expressions; not calendars.
    pub exclude: Vec<Exclusion>,
    /// Whose rules the expressions are read by; `ecron` unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dialect: Option<Dialect>,
}

/// Text that is no date, instant or range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} excludes nothing: expected {expected}")]
pub struct ParseExclusionError {
    text: String,
    expected: &'static str,
}

impl Bound {
    fn parse(text: &str) -> Option<Self> {
        match text.len() {
            10 => NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().map(Self::Date),
            _ => text.parse().ok().map(Self::Instant),
        }
    }
}

impl FromStr for Exclusion {
    type Err = ParseExclusionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "a date such as 2026-12-25, or a range such as 2026-12-24/2027-01-01";
        let refused = |expected| ParseExclusionError { text: clip(text), expected };
        let (from, to) = text.split_once('/').unwrap_or((text, text));
        let (Some(from), Some(to)) = (Bound::parse(from), Bound::parse(to)) else {
            return Err(refused(FORM));
        };
        let upwards = match (from, to) {
            (Bound::Date(from), Bound::Date(to)) => from <= to,
            (Bound::Instant(from), Bound::Instant(to)) => from <= to,
            _ => return Err(refused("two dates or two instants")),
        };
        if upwards { Ok(Self::Range { from, to }) } else { Err(refused("a range that ends after it starts")) }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Date(date) => write!(f, "{date}"),
            Self::Instant(at) => write!(f, "{at}"),
        }
    }
}

impl Serialize for Exclusion {
    fn serialize<S: Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
        let entry = |output: S, key: &str, value: &str| {
            let mut map = output.serialize_map(Some(1))?;
            map.serialize_entry(key, value)?;
            map.end()
        };
        match self {
            Self::Range { from, to } if from == to => output.collect_str(from),
            Self::Range { from, to } => output.collect_str(&format_args!("{from}/{to}")),
            Self::Cron(expression) => entry(output, "cron", expression),
            Self::Calendar(name) => entry(output, "calendar", name),
        }
    }
}

/// What `exclude` may contain: text, or a map with one meaning.
#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Text(String),
    Map(EntryMap),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
enum EntryMap {
    Date(String),
    Cron(String),
    Calendar(String),
}

impl<'de> Deserialize<'de> for Exclusion {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        match Entry::deserialize(input)? {
            Entry::Text(text) | Entry::Map(EntryMap::Date(text)) => text.parse().map_err(de::Error::custom),
            Entry::Map(EntryMap::Cron(expression)) => Ok(Self::Cron(expression)),
            Entry::Map(EntryMap::Calendar(name)) => Ok(Self::Calendar(name)),
        }
    }
}

/// Everything that a schedule leaves out, ready to be asked.
#[derive(Clone, Debug)]
pub(super) struct Exclusions {
    zone: Zone,
    /// Civil seconds; once sealed, in order and apart from each other.
    dates: Vec<Range<i64>>,
    /// Milliseconds since the epoch; once sealed, likewise.
    instants: Vec<Range<i64>>,
    rules: Vec<Calendar>,
}

impl Exclusions {
    pub(super) fn new(zone: Zone) -> Self {
        Self { zone, dates: Vec::new(), instants: Vec::new(), rules: Vec::new() }
    }

    pub(super) fn add_range(&mut self, from: Bound, to: Bound) {
        let midnight = |date: NaiveDate| date.and_time(NaiveTime::MIN).and_utc().timestamp();
        match (from, to) {
            (Bound::Date(from), Bound::Date(to)) => self.dates.push(midnight(from)..midnight(to) + DAY),
            (Bound::Instant(from), Bound::Instant(to)) => self.instants.push(from.as_ms()..to.as_ms() + 1),
            // `Exclusion::from_str` refuses mixed ranges; one that was made by hand excludes what both ends agree on.
            (Bound::Date(_), Bound::Instant(_)) | (Bound::Instant(_), Bound::Date(_)) => {}
        }
    }

    pub(super) fn add_rule(&mut self, rule: Calendar) {
        self.rules.push(rule);
    }

    /// After the last addition, and before the first question: ranges in order, those that touch as one, so that ten
    /// thousand holidays cost a short search and a long row of them one step.
    pub(super) fn seal(mut self) -> Self {
        self.dates = merged(self.dates);
        self.instants = merged(self.instants);
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        self.dates.is_empty() && self.instants.is_empty() && self.rules.is_empty()
    }

    /// If an instant is excluded: a stretch around it, in milliseconds, all of which is excluded for the same reason.
    pub(super) fn around(&self, at: i64) -> Option<Range<i64>> {
        if let Some(range) = range_around(&self.instants, at) {
            return Some(range);
        }
        let span = self.zone.span_at(at.div_euclid(SECOND_MS));
        let civil = at.div_euclid(SECOND_MS) + span.offset;
        let stretch = range_around(&self.dates, civil)
            .or_else(|| self.rules.iter().find_map(|rule| excluded_by(rule, civil)))?;
        // Civil time and instants run in step only inside the span.
        let start = (stretch.start - span.offset).max(span.start).saturating_mul(SECOND_MS);
        let end = (stretch.end - span.offset).min(span.end).saturating_mul(SECOND_MS);
        Some(start..end)
    }
}

fn merged(mut ranges: Vec<Range<i64>>) -> Vec<Range<i64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    ranges.dedup_by(|next, kept| {
        let touches = next.start <= kept.end;
        if touches {
            kept.end = kept.end.max(next.end);
        }
        touches
    });
    ranges
}

/// The one of sealed ranges that contains `at`.
fn range_around(ranges: &[Range<i64>], at: i64) -> Option<Range<i64>> {
    let begun = ranges.partition_point(|range| range.start <= at);
    begun.checked_sub(1).and_then(|last| ranges.get(last)).filter(|range| at < range.end).cloned()
}

/// The largest stretch around a civil time that a rule surely excludes as a whole.
fn excluded_by(calendar: &Calendar, civil: i64) -> Option<Range<i64>> {
    let rule = calendar.rule();
    if !calendar.names(civil, !rule.to_the_second) {
        return None;
    }
    let every_second = !rule.to_the_second || rule.seconds == SIXTY;
    let every_minute = every_second && rule.minutes == SIXTY;
    if every_minute && rule.hours == TWENTY_FOUR {
        return Some(excluded_days(calendar, civil));
    }
    let unit = if every_minute {
        3_600
    } else if every_second {
        60
    } else {
        1
    };
    let start = civil.div_euclid(unit) * unit;
    Some(start..start + unit)
}

/// The run of whole days around a civil time that a rule excludes; looks at one month in each direction.
fn excluded_days(calendar: &Calendar, civil: i64) -> Range<i64> {
    const DAYS_MAX: i64 = 31;
    let excluded = |day: i64| {
        DateTime::from_timestamp(day * DAY, 0).is_some_and(|time| calendar.names(time.timestamp(), true))
    };
    let day = civil.div_euclid(DAY);
    let after = (1..DAYS_MAX).find(|&n| !excluded(day + n)).unwrap_or(DAYS_MAX);
    let before = (1..DAYS_MAX).find(|&n| !excluded(day - n)).unwrap_or(DAYS_MAX);
    (day - before + 1) * DAY..(day + after) * DAY
}
