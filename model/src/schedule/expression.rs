//! What an expression says, in one neutral form for all dialects: sets of values, and the days rule.

use super::days::Days;
use super::dialect::Dialect;
use super::interval::parse_go_duration;
use super::parse::{self, CronError};
use std::fmt;
use std::time::Duration;

/// The longest expression that is read.
pub(super) const EXPRESSION_MAX: usize = 1_000;
/// The first and the last year of ecron's calendar.
pub(super) const YEARS: (u16, u16) = (1970, 2199);

/// A field of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FieldName {
    Second,
    Minute,
    Hour,
    DayOfMonth,
    Month,
    DayOfWeek,
    Year,
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::DayOfMonth => "day of month",
            Self::Month => "month",
            Self::DayOfWeek => "day of week",
            Self::Year => "year",
        })
    }
}

/// An expression that was read: a calendar rule, or `@every`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// Civil times that match every field.
    Civil(Box<Civil>),
    /// A fixed interval from an anchor.
    Every(Duration),
}

/// The fields of a calendar rule. Bit `n` of a set stands for the value `n`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Civil {
    pub(super) seconds: u64,
    pub(super) minutes: u64,
    pub(super) hours: u64,
    pub(super) months: u64,
    pub(super) days: Days,
    /// `None`: every year.
    pub(super) years: Option<Years>,
    /// Whether the schedule follows elapsed time through a change of the clock: its minute or hour field (or its
    /// second field, if it has one) begins with a star. Everything else is a fixed time, to which gap and fold apply.
    pub(super) elapsed: bool,
    /// Whether the expression has a second field.
    pub(super) to_the_second: bool,
}

/// Bits of all seconds or minutes, hours, months.
pub(super) const SIXTY: u64 = (1 << 60) - 1;
pub(super) const TWENTY_FOUR: u64 = (1 << 24) - 1;
pub(super) const MONTHS: u64 = 0b1_1111_1111_1110;

/// A set of years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Years([u64; 4]);

impl Years {
    pub(super) fn insert(&mut self, year: u16) {
        let index = year.saturating_sub(YEARS.0);
        if let Some(word) = self.0.get_mut(usize::from(index / 64)) {
            *word |= 1 << (index % 64);
        }
    }

    pub(super) fn contains(&self, year: i32) -> bool {
        u16::try_from(year - i32::from(YEARS.0))
            .ok()
            .and_then(|index| self.0.get(usize::from(index / 64)).map(|word| word >> (index % 64) & 1 == 1))
            .unwrap_or(false)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        (YEARS.0..=YEARS.1).filter(|&year| self.contains(i32::from(year)))
    }
}

impl Civil {
    /// Whether this year is one of the expression's.
    pub(super) fn has_year(&self, year: i32) -> bool {
        self.years.as_ref().is_none_or(|years| years.contains(year))
    }
}

/// Reads an expression by the rules of a dialect. `job` is the seed of `H` and `~`.
///
/// ```
/// use ecron_model::schedule::{Dialect, parse_expression};
/// assert!(parse_expression("30 2 * * 1-5", Dialect::Unix, "billing/report").is_ok());
/// let refused = parse_expression("30 24 * * *", Dialect::Unix, "billing/report").unwrap_err();
/// assert_eq!(refused.to_string(), "hour field \"24\": expected a number from 0 to 23");
/// ```
///
/// # Errors
/// Names the field and the token, and shows what was expected.
pub fn parse_expression(text: &str, dialect: Dialect, job: &str) -> Result<Expression, CronError> {
    if text.len() > EXPRESSION_MAX {
        return Err(CronError::whole(text, format!("at most {EXPRESSION_MAX} characters")));
    }
    let go_space = dialect.grammar().go_space;
    let text = if go_space { text } else { text.trim() };
    if !text.starts_with('@') {
        return parse::fields(text, dialect, job);
    }
    if let Some(interval) = parse::every(text, dialect) {
        return parse_go_duration(if go_space { interval } else { interval.trim() })
            .map(Expression::Every)
            .map_err(|error| CronError::whole(text, error.expected()));
    }
    let (stands_for, dialect) = parse::descriptor(text, dialect)?;
    parse::fields(stands_for, dialect, job)
}
