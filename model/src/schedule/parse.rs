//! One parser for all dialects: text to sets of values, by the dialect's `Grammar`.

use super::days::Days;
use super::dialect::{Dialect, Grammar, QuestionMark, SundayIs};
use super::expression::{Civil, Expression, FieldName, YEARS, Years};
use super::hash::Stable;
use super::policy::clip;
use std::fmt;

/// Why an expression was refused: which field, which token, and what was expected instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CronError {
    /// `None` if the expression as a whole is wrong.
    pub field: Option<FieldName>,
    /// The piece of text that is wrong, cut to a sensible length.
    pub token: String,
    /// What would have been right.
    pub expected: String,
}

impl fmt::Display for CronError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field {
            Some(field) => write!(f, "{field} field {:?}: expected {}", self.token, self.expected),
            None => write!(f, "expression {:?}: expected {}", self.token, self.expected),
        }
    }
}

impl std::error::Error for CronError {}

impl CronError {
    pub(super) fn whole(text: &str, expected: impl Into<String>) -> Self {
        Self { field: None, token: clip(text), expected: expected.into() }
    }
}

/// The longest number that is read, leading zeros aside: what fits a 64-bit integer.
const DIGITS_MAX: usize = 18;
/// The largest step where numbers have 32 bits.
const SMALL_STEP_MAX: u32 = i32::MAX.unsigned_abs();

const MONTH_NAMES: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
const WEEKDAY_NAMES: [&str; 7] =
    ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];

/// What follows `@every `, if the text begins with it and the dialect knows it.
pub(super) fn every(text: &str, dialect: Dialect) -> Option<&str> {
    const EVERY: &str = "@every ";
    let known = matches!(dialect, Dialect::Kubernetes | Dialect::Ecron);
    let (name, interval) = text.split_at_checked(EVERY.len()).filter(|_| known)?;
    let same =
        if dialect.grammar().descriptor_case { name == EVERY } else { name.eq_ignore_ascii_case(EVERY) };
    same.then_some(interval)
}

/// The five-field text that a descriptor stands for, and the dialect to read it by.
pub(super) fn descriptor(text: &str, dialect: Dialect) -> Result<(&'static str, Dialect), CronError> {
    let lower = text.to_ascii_lowercase();
    let name = if dialect.grammar().descriptor_case { text } else { &lower };
    if dialect == Dialect::Quartz {
        return Err(CronError::whole(text, "six or seven fields: Quartz has no descriptors"));
    }
    let stands_for = match name {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@quarterly" if dialect == Dialect::Ecron => "0 0 1 1,4,7,10 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        "@reboot" => {
            return Err(CronError::whole(text, "instants: @reboot names none, so no calendar can hold it"));
        }
        _ => {
            let every = if dialect == Dialect::Unix { "" } else { ", @every <duration>" };
            return Err(CronError::whole(
                text,
                format!(
                    "@yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly{every} or {}",
                    shape(dialect)
                ),
            ));
        }
    };
    Ok((stands_for, dialect))
}

fn shape(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Unix | Dialect::Kubernetes => "5 fields: minute hour day-of-month month day-of-week",
        Dialect::Quartz => "6 or 7 fields: second minute hour day-of-month month day-of-week [year]",
        Dialect::Ecron => "5, 6 or 7 fields: [second] minute hour day-of-month month day-of-week [year]",
    }
}

/// Reads the fields of an expression.
pub(super) fn fields(text: &str, dialect: Dialect, job: &str) -> Result<Expression, CronError> {
    let grammar = dialect.grammar();
    let parts = |c: char| if grammar.go_space { c.is_whitespace() } else { matches!(c, ' ' | '\t') };
    let words: Vec<&str> = text.split(parts).filter(|word| !word.is_empty()).collect();
    if text.starts_with("TZ=") || text.starts_with("CRON_TZ=") {
        return Err(CronError::whole(text, "no time zone here: it belongs into timeZone"));
    }
    if !(grammar.fields.0..=grammar.fields.1).contains(&words.len()) {
        return Err(CronError::whole(text, format!("{}, not {}", shape(dialect), words.len())));
    }
    let to_the_second = words.len() > 5;
    let (second, rest) = match words.split_first() {
        Some((second, rest)) if to_the_second => (*second, rest),
        _ => ("0", words.as_slice()),
    };
    let &[minute, hour, day_of_month, month, day_of_week, ref year @ ..] = rest else {
        return Err(CronError::whole(text, shape(dialect)));
    };
    let mut reader = Reader { grammar, hash: Stable::of(job, "H") };
    let seconds = reader.values(FieldName::Second, second)?;
    let minutes = reader.values(FieldName::Minute, minute)?;
    let hours = reader.values(FieldName::Hour, hour)?;
    let of_month = reader.days_of_month(day_of_month)?;
    let months = reader.values(FieldName::Month, month)?;
    let of_week = reader.days_of_week(day_of_week)?;
    let years = year.first().map(|year| reader.years(year)).transpose()?.flatten();
    let either = reader.either_day(day_of_month, day_of_week)?;
    let starts_with_star = |field: &str| field.starts_with(['*', '?', '/']);
    Ok(Expression::Civil(Box::new(Civil {
        seconds,
        minutes,
        hours,
        months,
        days: Days { of_month, of_week, either },
        years,
        elapsed: starts_with_star(minute)
            || starts_with_star(hour)
            || (to_the_second && starts_with_star(second)),
        to_the_second,
    })))
}

/// Reads fields; carries what they share.
pub(super) struct Reader {
    pub(super) grammar: Grammar,
    hash: Stable,
}

/// A field's numbers as the dialect writes them: the lowest, the highest, and how many until they repeat.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub(super) low: u32,
    pub(super) high: u32,
    cycle: u32,
}

impl Reader {
    pub(super) fn bounds(&self, field: FieldName) -> Bounds {
        let (low, high, cycle) = match field {
            FieldName::Second | FieldName::Minute => (0, 59, 60),
            FieldName::Hour => (0, 23, 24),
            FieldName::DayOfMonth => (1, 31, 31),
            FieldName::Month => (1, 12, 12),
            FieldName::DayOfWeek => match self.grammar.weekdays {
                SundayIs::ZeroOrSeven => (0, 7, 7),
                SundayIs::Zero => (0, 6, 7),
                SundayIs::One => (1, 7, 7),
            },
            FieldName::Year => (u32::from(YEARS.0), u32::from(YEARS.1), u32::MAX),
        };
        Bounds { low, high, cycle }
    }

    /// A field of plain values, as a set of bits.
    fn values(&mut self, field: FieldName, text: &str) -> Result<u64, CronError> {
        if text == "*" {
            let Bounds { low, high, .. } = self.bounds(field);
            return Ok((u64::MAX << low) & (u64::MAX >> (u64::BITS - 1 - high)));
        }
        let mut set = 0;
        for item in self.items(field, text)? {
            self.item(field, item, &mut |value| set |= 1_u64 << value)?;
        }
        Ok(set)
    }

    fn years(&mut self, text: &str) -> Result<Option<Years>, CronError> {
        let mut years = Years::default();
        for item in self.items(FieldName::Year, text)? {
            self.item(FieldName::Year, item, &mut |year| years.insert(u16::try_from(year).unwrap_or(0)))?;
        }
        Ok((text != "*").then_some(years))
    }

    /// Splits a list; refuses empty items unless the dialect overlooks them.
    pub(super) fn items<'t>(
        &self,
        field: FieldName,
        text: &'t str,
    ) -> Result<impl Iterator<Item = &'t str> + use<'t>, CronError> {
        let sound = if self.grammar.empty_items {
            text.bytes().any(|byte| byte != b',')
        } else {
            text.split(',').all(|item| !item.is_empty())
        };
        if sound {
            Ok(text.split(',').filter(|item| !item.is_empty()))
        } else {
            Err(refused(field, text, "a value on both sides of every comma"))
        }
    }

    /// One item of a list: `*`, `?`, `H`, `~`, a value or a range, and a step.
    pub(super) fn item(
        &mut self,
        field: FieldName,
        item: &str,
        add: &mut dyn FnMut(u32),
    ) -> Result<(), CronError> {
        let bounds = self.bounds(field);
        let (base, step) = match item.split_once('/') {
            Some((base, step)) => (base, Some(self.step(field, item, base, step)?)),
            None => (item, None),
        };
        if self.grammar.hash && base.starts_with(['H', 'h']) && self.number(field, base).is_none() {
            return self.hashed(field, item, base, step, add);
        }
        if self.grammar.random && base.contains('~') {
            return self.random(field, item, base, step, add);
        }
        let everything = base == "*"
            || (base == "?" && self.grammar.question == QuestionMark::Anywhere)
            || (base.is_empty() && step.is_some() && self.grammar.bare_step);
        let (low, high) =
            if everything { (bounds.low, bounds.high) } else { self.range(field, item, base, step)? };
        if low > high {
            self.wrapped(field, item, low, high, step.unwrap_or(1), bounds, add)
        } else {
            (low..=high).step_by(usize::try_from(step.unwrap_or(1)).unwrap_or(1)).for_each(add);
            Ok(())
        }
    }

    fn step(&self, field: FieldName, item: &str, base: &str, step: &str) -> Result<u32, CronError> {
        let bounds = self.bounds(field);
        let step = digits(step)
            .filter(|&step| step > 0)
            .ok_or_else(|| refused(field, item, "a step of at least 1 after the slash"))?;
        // Quartz's own limits: one less than the cycle for times, the cycle itself for days and months.
        let most = match field {
            FieldName::Second | FieldName::Minute | FieldName::Hour => bounds.cycle - 1,
            _ => bounds.cycle,
        };
        let most = match self.grammar {
            Grammar { step_bounded: true, .. } if !base.contains('-') => most,
            Grammar { small_steps: true, .. } => SMALL_STEP_MAX,
            _ => return Ok(step),
        };
        if step > most { Err(refused(field, item, format!("a step of at most {most}"))) } else { Ok(step) }
    }

    /// A value or a range; a value with a step runs to the end of the field where the dialect says so.
    fn range(
        &self,
        field: FieldName,
        item: &str,
        base: &str,
        step: Option<u32>,
    ) -> Result<(u32, u32), CronError> {
        let bounds = self.bounds(field);
        let Some((low, high)) = base.split_once('-') else {
            let value = self.value(field, item, base)?;
            let named = base.starts_with(|first: char| first.is_ascii_alphabetic());
            return match step {
                None => Ok((value, value)),
                Some(_) if !self.grammar.open_step => {
                    Err(refused(field, item, "* or a range before the slash, for example */15 or 0-30/15"))
                }
                Some(_) if named && !self.grammar.free_names => {
                    Err(refused(field, item, "a number before the slash"))
                }
                Some(_) => Ok((value, bounds.high)),
            };
        };
        let (from, mut to) = (self.value(field, item, low)?, self.value(field, item, high)?);
        if !self.grammar.free_names {
            let named = |text: &str| text.starts_with(|first: char| first.is_ascii_alphabetic());
            if named(low) != named(high) || (named(low) && step.is_some()) {
                return Err(refused(field, item, "two numbers, or two names without a step"));
            }
        }
        // cronie reads FRI-SUN as 5-7, although SUN alone is 0.
        if field == FieldName::DayOfWeek
            && bounds.high == 7
            && bounds.low == 0
            && to == 0
            && from > 0
            && step.is_none()
        {
            to = 7;
        }
        Ok((from, to))
    }

    /// A range whose end lies before its start: onwards to the end of the cycle, and on from its beginning.
    #[expect(clippy::too_many_arguments, reason = "one call, and each is a different thing")]
    fn wrapped(
        &self,
        field: FieldName,
        item: &str,
        low: u32,
        high: u32,
        step: u32,
        bounds: Bounds,
        add: &mut dyn FnMut(u32),
    ) -> Result<(), CronError> {
        if !self.grammar.wrap || field == FieldName::Year {
            return Err(refused(field, item, "a range that runs upwards"));
        }
        for value in (low..=high + bounds.cycle).step_by(usize::try_from(step).unwrap_or(1)) {
            add(if value > bounds.high { value - bounds.cycle } else { value });
        }
        Ok(())
    }

    /// `H`, `H(1-5)`, each with or without a step: Jenkins' rules, our own hash.
    fn hashed(
        &mut self,
        field: FieldName,
        item: &str,
        base: &str,
        step: Option<u32>,
        add: &mut dyn FnMut(u32),
    ) -> Result<(), CronError> {
        let expected = || refused(field, item, "H, H(low-high), H/step or H(low-high)/step");
        let bounds = self.bounds(field);
        let (low, high) = match base.get(1..) {
            Some("") => match field {
                // Days that every month has, and every weekday once.
                FieldName::DayOfMonth => (1, 28),
                FieldName::DayOfWeek => (0, 6),
                FieldName::Year => return Err(refused(field, item, "years: a hash makes no sense here")),
                _ => (bounds.low, bounds.high),
            },
            Some(range) => {
                let inner =
                    range.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).ok_or_else(expected)?;
                let (low, high) = inner.split_once('-').ok_or_else(expected)?;
                (self.value(field, item, low)?, self.value(field, item, high)?)
            }
            None => return Err(expected()),
        };
        if low > high {
            return Err(refused(field, item, "a range that runs upwards"));
        }
        let width = high - low + 1;
        match step {
            Some(step) if step > width => {
                Err(refused(field, item, format!("a step from 1 to {width}, the width of the range")))
            }
            // Jenkins: a step of 1 is the same as none, and picks one value.
            Some(step) if step > 1 => {
                let first = low + self.draw(step);
                (first..=high).step_by(usize::try_from(step).unwrap_or(1)).for_each(add);
                Ok(())
            }
            _ => {
                add(low + self.draw(width));
                Ok(())
            }
        }
    }

    /// cronie's `low~high`: one value of the range. There it is drawn anew at each load; here it stays with the job.
    fn random(
        &mut self,
        field: FieldName,
        item: &str,
        base: &str,
        step: Option<u32>,
        add: &mut dyn FnMut(u32),
    ) -> Result<(), CronError> {
        let expected = || refused(field, item, "low~high, without a step");
        if step.is_some() {
            return Err(expected());
        }
        let bounds = self.bounds(field);
        let (low, high) = base.split_once('~').ok_or_else(expected)?;
        let low = if low.is_empty() { bounds.low } else { self.value(field, item, low)? };
        let high = if high.is_empty() { bounds.high } else { self.value(field, item, high)? };
        if low > high {
            return Err(refused(field, item, "a range that runs upwards"));
        }
        add(low + self.draw(high - low + 1));
        Ok(())
    }

    fn draw(&mut self, below: u32) -> u32 {
        u32::try_from(self.hash.draw(u64::from(below))).unwrap_or(0)
    }

    fn value(&self, field: FieldName, item: &str, text: &str) -> Result<u32, CronError> {
        let bounds = self.bounds(field);
        self.number(field, text)
            .filter(|value| (bounds.low..=bounds.high).contains(value))
            .ok_or_else(|| self.out_of_range(field, item))
    }

    /// A number or a name, in the dialect's own numbering.
    pub(super) fn number(&self, field: FieldName, text: &str) -> Option<u32> {
        let (names, first): (&[&str], u32) = match field {
            FieldName::Month => (&MONTH_NAMES, 1),
            FieldName::DayOfWeek => (&WEEKDAY_NAMES, u32::from(self.grammar.weekdays == SundayIs::One)),
            _ => return digits(text),
        };
        digits(text).or_else(|| {
            let is = |name: &str| {
                name.get(..3).is_some_and(|short| short.eq_ignore_ascii_case(text))
                    || (self.grammar.long_names && name.eq_ignore_ascii_case(text))
            };
            (first..).zip(names).find(|(_, name)| is(name)).map(|(number, _)| number)
        })
    }

    pub(super) fn out_of_range(&self, field: FieldName, item: &str) -> CronError {
        let Bounds { low, high, .. } = self.bounds(field);
        let names = match field {
            FieldName::Month => " or a name from JAN to DEC",
            FieldName::DayOfWeek => " or a name from SUN to SAT",
            _ => "",
        };
        refused(field, item, format!("a number from {low} to {high}{names}"))
    }
}

pub(super) fn refused(field: FieldName, token: &str, expected: impl Into<String>) -> CronError {
    CronError { field: Some(field), token: clip(token), expected: expected.into() }
}

/// A number that is nothing but ASCII digits, however many zeros lead it. One too large for every field is `u32::MAX`.
pub(super) fn digits(text: &str) -> Option<u32> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    match text.trim_start_matches('0') {
        "" => Some(0),
        number if number.len() <= DIGITS_MAX => Some(number.parse().unwrap_or(u32::MAX)),
        _ => None,
    }
}
