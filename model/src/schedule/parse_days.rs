//! The two day fields: `L`, `W`, `#`, `?`, and whether a day must match one of them or both.

use super::days::{ALL_DAYS, ALL_WEEKDAYS, DaysOfMonth, DaysOfWeek};
use super::dialect::{DayRule, QuestionMark, SundayIs};
use super::expression::FieldName;
use super::parse::{CronError, Reader, digits, refused};

/// The largest `n` of `L-n`, as in Quartz.
const LAST_OFFSET_MAX: u32 = 30;

impl Reader {
    pub(super) fn days_of_month(&mut self, text: &str) -> Result<DaysOfMonth, CronError> {
        let field = FieldName::DayOfMonth;
        let mut days = DaysOfMonth::default();
        if text == "*" || (text == "?" && self.grammar.question == QuestionMark::DayFields) {
            return Ok(DaysOfMonth { days: ALL_DAYS, ..days });
        }
        for item in self.items(field, text)? {
            if self.grammar.day_specials && self.special_day_of_month(item, &mut days)? {
                continue;
            }
            self.item(field, item, &mut |day| days.days |= 1 << day)?;
        }
        Ok(days)
    }

    /// `L`, `L-3`, `LW`, `L-3W`, `15W`; false if the item is none of them.
    fn special_day_of_month(&self, item: &str, days: &mut DaysOfMonth) -> Result<bool, CronError> {
        let field = FieldName::DayOfMonth;
        let upper = item.to_ascii_uppercase();
        if let Some(rest) = upper.strip_prefix('L') {
            let (offset, nearest) = match rest.strip_suffix('W') {
                Some(offset) => (offset, true),
                None => (rest, false),
            };
            let expected = || refused(field, item, "L, L-n with n from 0 to 30, LW or L-nW");
            let before = match offset.strip_prefix('-') {
                Some(number) => digits(number).filter(|&n| n <= LAST_OFFSET_MAX).ok_or_else(expected)?,
                None if offset.is_empty() => 0,
                None => return Err(expected()),
            };
            *(if nearest { &mut days.nearest_before_last } else { &mut days.before_last }) |= 1 << before;
            return Ok(true);
        }
        let Some(number) = upper.strip_suffix('W') else { return Ok(false) };
        let day = digits(number)
            .filter(|day| (1..=31).contains(day))
            .ok_or_else(|| refused(field, item, "one day from 1 to 31 before W, for example 15W"))?;
        days.nearest |= 1 << day;
        Ok(true)
    }

    pub(super) fn days_of_week(&mut self, text: &str) -> Result<DaysOfWeek, CronError> {
        let field = FieldName::DayOfWeek;
        let mut days = DaysOfWeek::default();
        if text == "*" || (text == "?" && self.grammar.question == QuestionMark::DayFields) {
            return Ok(DaysOfWeek { weekly: ALL_WEEKDAYS, ..days });
        }
        let alone = !text.contains(',');
        for item in self.items(field, text)? {
            if self.grammar.day_specials && self.special_day_of_week(item, &mut days)? {
                if !alone && !self.grammar.special_lists {
                    return Err(refused(field, text, "L or # alone, without other days of the week"));
                }
                continue;
            }
            let sunday_one = self.grammar.weekdays == SundayIs::One;
            self.item(field, item, &mut |day| {
                let from_sunday = if sunday_one { day - 1 } else { day % 7 };
                days.weekly |= 1 << from_sunday;
            })?;
        }
        Ok(days)
    }

    /// `L` (Saturday, as Quartz has it), `5L`, `FRIL`, `5#3`, `FRI#3`; false if the item is none of them.
    fn special_day_of_week(&self, item: &str, days: &mut DaysOfWeek) -> Result<bool, CronError> {
        let field = FieldName::DayOfWeek;
        if item.eq_ignore_ascii_case("L") {
            days.weekly |= 1 << 6;
            return Ok(true);
        }
        if let Some((weekday, nth)) = item.split_once('#') {
            let weekday = self.weekday(weekday, item)?;
            let nth = digits(nth)
                .filter(|nth| (1..=5).contains(nth))
                .ok_or_else(|| refused(field, item, "a number from 1 to 5 after #"))?;
            if let Some(slot) = usize::try_from(nth - 1).ok().and_then(|index| days.nth.get_mut(index)) {
                *slot |= weekday;
            }
            return Ok(true);
        }
        let Some(weekday) = item.strip_suffix(['L', 'l']) else { return Ok(false) };
        days.last |= self.weekday(weekday, item)?;
        Ok(true)
    }

    /// One day of the week as a bit; bit 0 is Sunday.
    fn weekday(&self, text: &str, item: &str) -> Result<u8, CronError> {
        let bounds = self.bounds(FieldName::DayOfWeek);
        let number =
            self.number(FieldName::DayOfWeek, text).filter(|n| (bounds.low..=bounds.high).contains(n));
        let number = number.ok_or_else(|| self.out_of_range(FieldName::DayOfWeek, item))?;
        let from_sunday = if self.grammar.weekdays == SundayIs::One { number - 1 } else { number % 7 };
        Ok(1 << from_sunday)
    }

    /// Whether a day matches if either day field does.
    pub(super) fn either_day(&self, day_of_month: &str, day_of_week: &str) -> Result<bool, CronError> {
        let any_star = |field: &str| {
            field.split(',').any(|item| {
                let (base, step) = item.split_once('/').unwrap_or((item, "1"));
                matches!(base, "*" | "?") && digits(step) == Some(1)
            })
        };
        match self.grammar.day_rule {
            DayRule::StarFirst => {
                Ok(![day_of_month, day_of_week].iter().any(|field| field.starts_with(['*', '?'])))
            }
            DayRule::StarAnywhere => Ok(!(any_star(day_of_month) || any_star(day_of_week))),
            DayRule::OneIsQuestion if (day_of_month == "?") != (day_of_week == "?") => Ok(false),
            DayRule::OneIsQuestion => {
                Err(refused(FieldName::DayOfWeek, day_of_week, "exactly one ? in the two day fields"))
            }
        }
    }
}
