//! Which days of a month match: day of month and day of week, `L`, `W`, `#`, and how the two fields combine.
//!
//! A month is a `u32` of which bit `d` stands for day `d`, so that a whole month is decided by a few operations, and
//! a rule that matches no day at all is found out in microseconds.

use chrono::{Datelike, NaiveDate};

/// Bits of the days 1 to 31.
pub(super) const ALL_DAYS: u32 = u32::MAX << 1;
/// Bits of the days of the week; Sunday is bit 0.
pub(super) const ALL_WEEKDAYS: u8 = 0b111_1111;

/// The day-of-month field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DaysOfMonth {
    /// Bit `d`: the day `d`.
    pub(super) days: u32,
    /// Bit `n`: the day `n` days before the last one (`L`, `L-3`).
    pub(super) before_last: u32,
    /// Bit `d`: the weekday nearest to day `d` (`15W`).
    pub(super) nearest: u32,
    /// Bit `n`: the weekday nearest to `L-n` (`LW`, `L-3W`).
    pub(super) nearest_before_last: u32,
}

/// The day-of-week field. Bit 0 is Sunday.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DaysOfWeek {
    /// Every week.
    pub(super) weekly: u8,
    /// `nth[0]`: the first one of the month, and so on (`5#3`).
    pub(super) nth: [u8; 5],
    /// The last one of the month (`5L`).
    pub(super) last: u8,
}

/// Both day fields, and how they combine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Days {
    pub(super) of_month: DaysOfMonth,
    pub(super) of_week: DaysOfWeek,
    /// A day matches if either field does; otherwise both must.
    pub(super) either: bool,
}

impl DaysOfMonth {
    pub(super) fn is_plain(&self) -> bool {
        self.before_last == 0 && self.nearest == 0 && self.nearest_before_last == 0
    }

    pub(super) fn is_all(&self) -> bool {
        self.days == ALL_DAYS
    }

    fn in_month(&self, month: &Month) -> u32 {
        let mut days = self.days;
        for before in bits(self.before_last) {
            days |= month.length.checked_sub(before).map_or(0, |day| 1 << day);
        }
        for day in bits(self.nearest) {
            days |= month.nearest_weekday(day);
        }
        for before in bits(self.nearest_before_last) {
            days |= month.length.checked_sub(before).map_or(0, |day| month.nearest_weekday(day));
        }
        days & month.days()
    }
}

impl DaysOfWeek {
    pub(super) fn is_plain(&self) -> bool {
        self.nth == [0; 5] && self.last == 0
    }

    pub(super) fn is_all(&self) -> bool {
        self.weekly == ALL_WEEKDAYS
    }

    fn in_month(&self, month: &Month) -> u32 {
        if self.is_all() {
            return month.days();
        }
        let mut days = month.with_weekdays(self.weekly);
        for (nth, &weekdays) in (0_u32..).zip(&self.nth) {
            days |= month.with_weekdays(weekdays) & (0b1111_1110 << (7 * nth));
        }
        days |= month.with_weekdays(self.last) & (ALL_DAYS << (month.length - 7));
        days & month.days()
    }
}

impl Days {
    pub(super) fn is_plain(&self) -> bool {
        self.of_month.is_plain() && self.of_week.is_plain()
    }

    /// The days of a month that match.
    pub(super) fn in_month(&self, year: i32, month: u32) -> u32 {
        self.in_shape(&Month::new(year, month))
    }

    fn in_shape(&self, month: &Month) -> u32 {
        let (of_month, of_week) = (self.of_month.in_month(month), self.of_week.in_month(month));
        if self.either { of_month | of_week } else { of_month & of_week }
    }

    pub(super) fn matches(&self, date: NaiveDate) -> bool {
        self.in_month(date.year(), date.month()) >> date.day() & 1 == 1
    }
}

/// The matching days of the months that were looked at, by their shape: there are only 28, however long a search is.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    days: [Option<u32>; 28],
}

impl Shapes {
    /// As `Days::in_month`, but each shape is worked out once.
    pub(super) fn in_month(&mut self, days: &Days, year: i32, month: u32) -> u32 {
        let shape = Month::new(year, month);
        let index = usize::try_from((shape.length - 28) * 7 + shape.first).unwrap_or(usize::MAX);
        match self.days.get_mut(index) {
            Some(known) => *known.get_or_insert_with(|| days.in_shape(&shape)),
            None => days.in_shape(&shape),
        }
    }
}

/// The shape of one month: how long it is, and the weekday of its first day (0 is Sunday).
#[derive(Clone, Copy, Debug)]
struct Month {
    length: u32,
    first: u32,
}

impl Month {
    fn new(year: i32, month: u32) -> Self {
        let first = NaiveDate::from_ymd_opt(year, month, 1);
        Self {
            length: days_in_month(year, month),
            first: first.map_or(0, |date| date.weekday().num_days_from_sunday()),
        }
    }

    fn days(&self) -> u32 {
        ALL_DAYS & !(u32::MAX << 1 << self.length)
    }

    fn weekday(&self, day: u32) -> u32 {
        (self.first + day - 1) % 7
    }

    /// Every day of the month that falls on one of these weekdays.
    fn with_weekdays(&self, weekdays: u8) -> u32 {
        // Rotate so that bit 0 is the first day's weekday, repeat for five weeks, and move day 1 to bit 1.
        let week = u64::from(weekdays) << 7 | u64::from(weekdays);
        let from_first = (week >> self.first) & u64::from(ALL_WEEKDAYS);
        let weeks = from_first * 0x1020_4081; // bits 0, 7, 14, 21, 28
        u32::try_from(weeks << 1 & u64::from(ALL_DAYS)).unwrap_or(0)
    }

    /// The weekday nearest to a day, never outside the month; nothing if the month has no such day.
    fn nearest_weekday(&self, day: u32) -> u32 {
        if day == 0 || day > self.length {
            return 0;
        }
        let nearest = match self.weekday(day) {
            6 if day == 1 => day + 2,
            6 => day - 1,
            0 if day == self.length => day - 2,
            0 => day + 1,
            _ => day,
        };
        1 << nearest
    }
}

/// How many days a month has.
pub(super) fn days_in_month(year: i32, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// The values whose bits are set, from low to high.
pub(super) fn bits(set: u32) -> impl Iterator<Item = u32> {
    (0..32).filter(move |&bit| set >> bit & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weekday_masks_agree_with_the_calendar() {
        for year in [1970, 1999, 2000, 2024, 2100, 2199] {
            for month in 1..=12 {
                for weekday in 0..7_u32 {
                    let expected: Vec<u32> = (1..=days_in_month(year, month))
                        .filter(|&day| {
                            let date = NaiveDate::from_ymd_opt(year, month, day).unwrap();
                            date.weekday().num_days_from_sunday() == weekday
                        })
                        .collect();
                    let of_week = DaysOfWeek { weekly: 1 << weekday, ..DaysOfWeek::default() };
                    assert_eq!(
                        bits(of_week.in_month(&Month::new(year, month))).collect::<Vec<_>>(),
                        expected
                    );
                    let last = DaysOfWeek { last: 1 << weekday, ..DaysOfWeek::default() };
                    let last_day: Vec<u32> = bits(last.in_month(&Month::new(year, month))).collect();
                    assert_eq!(last_day, expected[expected.len() - 1..]);
                    for nth in 0..5 {
                        let mut of_week = DaysOfWeek::default();
                        of_week.nth[nth] = 1 << weekday;
                        let found: Vec<u32> = bits(of_week.in_month(&Month::new(year, month))).collect();
                        assert_eq!(found, expected.get(nth).copied().into_iter().collect::<Vec<_>>());
                    }
                }
            }
        }
    }

    #[test]
    fn the_nearest_weekday_stays_inside_the_month() {
        // August 2026 begins on a Saturday, and its 30th is a Sunday; May 2026 ends on a Sunday.
        let august = Month::new(2026, 8);
        assert_eq!(bits(august.nearest_weekday(1)).collect::<Vec<_>>(), [3]);
        assert_eq!(bits(august.nearest_weekday(30)).collect::<Vec<_>>(), [31]);
        assert_eq!(bits(Month::new(2026, 5).nearest_weekday(31)).collect::<Vec<_>>(), [29]);
        assert_eq!(Month::new(2026, 2).nearest_weekday(30), 0);
    }
}
