//! A schedule as a sentence: "at 02:30 on weekdays, Europe/Berlin". For people; nothing reads it back.

use std::time::Duration;

use super::days::{ALL_WEEKDAYS, DaysOfMonth, DaysOfWeek, bits};
use super::expression::{Civil, MONTHS, SIXTY, TWENTY_FOUR};
use super::interval::duration_text;
use super::nominal::Source;
use super::occurrences::{Inner, LAST};
use crate::time::Timestamp;

/// How many clock times a sentence lists before it speaks of minutes and hours instead.
const TIMES_MAX: usize = 6;
/// How many values a sentence lists; beyond that it names the first ones and counts the rest.
const LISTED_MAX: usize = 12;

const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTH_NAMES: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// The whole schedule, with its zone, limits and moves.
pub(super) fn schedule(inner: &Inner) -> String {
    let mut in_civil_time = false;
    let mut rules: Vec<String> = Vec::new();
    for source in inner.nominal.sources.iter().take(LISTED_MAX) {
        rules.push(match source {
            Source::Cron(rule) => {
                in_civil_time = true;
                civil(rule.civil())
            }
            Source::Every { interval, .. } => format!("every {}", duration_text(ms(*interval))),
            Source::At(instants) => at(instants),
        });
    }
    rules.extend(inner.after.map(|delay| format!("{} after the previous run ended", duration_text(delay))));
    let mut parts = vec![rules.join(", and ")];
    parts.extend(in_civil_time.then(|| inner.zone.name().to_owned()));
    parts.extend(inner.start.map(|start| format!("from {start}")));
    parts.extend((inner.last < LAST).then(|| format!("until {}", Timestamp::from_ms(inner.last))));
    parts.extend(
        inner.count.map(|count| if count == 1 { "once".to_owned() } else { format!("{count} times") }),
    );
    parts.extend((!inner.nominal.exclusions.is_empty()).then(|| "except at excluded times".to_owned()));
    parts.extend((inner.spread != 0).then(|| format!("moved by {}", duration_text(ms(inner.spread)))));
    parts.extend(
        (inner.jitter != 0).then(|| format!("with up to {} of jitter", duration_text(ms(inner.jitter)))),
    );
    parts.join(", ")
}

fn ms(ms: i64) -> Duration {
    Duration::from_millis(ms.unsigned_abs())
}

fn at(instants: &[i64]) -> String {
    match instants {
        [] => "never".to_owned(),
        [one] => format!("once at {}", Timestamp::from_ms(*one)),
        [first, ..] => format!("at {} instants from {}", instants.len(), Timestamp::from_ms(*first)),
    }
}

/// One calendar rule, without its zone: "at 02:30 on weekdays".
fn civil(rule: &Civil) -> String {
    let clock_times = clock_times(rule);
    let days = match days(rule) {
        days if days.is_empty() && clock_times.is_some() => "every day".to_owned(),
        days => days,
    };
    let mut sentence = clock_times.unwrap_or_else(|| times(rule));
    if !days.is_empty() {
        sentence.push(' ');
        sentence.push_str(&days);
    }
    if rule.months != MONTHS {
        sentence.push_str(&format!(" in {}", months(rule.months)));
    }
    if let Some(years) = &rule.years {
        let years: Vec<u32> = years.iter().map(u32::from).collect();
        sentence.push_str(&match stepped(&years) {
            Some(step) => format!(" in {}", stepping(&years, step, "year")),
            None => format!(" in {}", ranges(&years, u32::to_string)),
        });
    }
    sentence
}

/// "at 09:00 and 17:00", unless that are too many.
fn clock_times(rule: &Civil) -> Option<String> {
    let (seconds, minutes, hours) = (values(rule.seconds), values(rule.minutes), values(rule.hours));
    if seconds.len() * minutes.len() * hours.len() > TIMES_MAX {
        return None;
    }
    let clock = |hour: &u32, minute: &u32, second: &u32| {
        if rule.seconds == 1 {
            format!("{hour:02}:{minute:02}")
        } else {
            format!("{hour:02}:{minute:02}:{second:02}")
        }
    };
    let all: Vec<String> = hours
        .iter()
        .flat_map(|hour| minutes.iter().map(move |minute| (hour, minute)))
        .flat_map(|(hour, minute)| seconds.iter().map(move |second| clock(hour, minute, second)))
        .collect();
    Some(format!("at {}", listed(&all)))
}

fn times(rule: &Civil) -> String {
    let (seconds, minutes, hours) = (values(rule.seconds), values(rule.minutes), values(rule.hours));
    let mut parts = Vec::new();
    if rule.seconds != 1 {
        parts.push(unit(&seconds, rule.seconds == SIXTY, "second", 60));
    }
    // "every 10 seconds" needs no "every minute"; "at second 7" does.
    let implied = rule.minutes == SIXTY && rule.seconds != 1 && every_step(&seconds, 60).is_some();
    if let ([minute], 1) = (minutes.as_slice(), rule.seconds) {
        match run(&hours) {
            Some((0, 23)) => return format!("every hour at minute {minute}"),
            Some((first, last)) => {
                return format!("every hour from {first:02}:{minute:02} to {last:02}:{minute:02}");
            }
            None => {}
        }
        if let Some(step) = every_step(&hours, 24) {
            return format!("every {step} hours at minute {minute}");
        }
        if let (Some(step), Some(first), Some(last)) = (stepped(&hours), hours.first(), hours.last()) {
            return format!("every {step} hours from {first:02}:{minute:02} to {last:02}:{minute:02}");
        }
    }
    if !implied {
        let of = if rule.seconds == 1 { "" } else { "of " };
        parts.push(format!(
            "{of}{}",
            unit(&minutes, rule.minutes == SIXTY, "minute", 60).trim_start_matches("at ")
        ));
        if rule.seconds == 1 && rule.minutes != SIXTY && every_step(&minutes, 60).is_none() {
            parts.insert(0, "at".to_owned());
        }
    }
    if rule.hours != TWENTY_FOUR {
        parts.push(match (every_step(&hours, 24), run(&hours)) {
            (Some(step), _) => format!("in every {} hour", ordinal(step)),
            (None, Some((first, last))) => format!("from {first:02}:00 to {last:02}:59"),
            (None, None) => format!("in the hours {}", ranges(&hours, |hour| format!("{hour:02}"))),
        });
    }
    parts.join(" ")
}

/// The first and last of values without a hole between them.
fn run(values: &[u32]) -> Option<(u32, u32)> {
    let (&first, &last) = (values.first()?, values.last()?);
    (values.len() == usize::try_from(last - first + 1).ok()?).then_some((first, last))
}

/// "every minute", "every 15 minutes", "at minutes 5 and 35".
fn unit(values: &[u32], all: bool, name: &str, cycle: u32) -> String {
    if all {
        return format!("every {name}");
    }
    match (every_step(values, cycle), values) {
        (Some(step), _) => format!("every {step} {name}s"),
        (None, [one]) => format!("at {name} {one}"),
        (None, many) => match stepped(many) {
            Some(step) => format!("at {}", stepping(many, step, name)),
            None => format!("at {name}s {}", ranges(many, u32::to_string)),
        },
    }
}

/// The step of values that are evenly apart, more than people write by hand and not simply a range.
fn stepped(values: &[u32]) -> Option<u32> {
    let (first, second) = (values.first()?, values.get(1)?);
    Some(second - first).filter(|&step| step > 1 && values.len() > TIMES_MAX && even(values))
}

/// "every 2nd minute from 1 to 59".
fn stepping(values: &[u32], step: u32, name: &str) -> String {
    let ends = values.first().zip(values.last());
    let ends = ends.map_or_else(String::new, |(first, last)| format!(" from {first} to {last}"));
    format!("every {} {name}{ends}", ordinal(step))
}

/// The step of values that run from 0 through the whole cycle evenly.
fn every_step(values: &[u32], cycle: u32) -> Option<u32> {
    let (&first, &second) = (values.first()?, values.get(1)?);
    let step = second - first;
    (first == 0
        && even(values)
        && cycle.is_multiple_of(step)
        && values.len() == usize::try_from(cycle / step).ok()?)
    .then_some(step)
}

/// Whether all values are equally far apart.
fn even(values: &[u32]) -> bool {
    values.windows(3).all(|three| three[2] - three[1] == three[1] - three[0])
}

fn days(rule: &Civil) -> String {
    let (of_month, of_week) = (&rule.days.of_month, &rule.days.of_week);
    match (of_month.is_all(), of_week.is_all()) {
        (true, true) => String::new(),
        (true, false) => format!("on {}", days_of_week(of_week)),
        (false, true) => format!("on {}", days_of_month(of_month)),
        (false, false) => {
            let joint = if rule.days.either { "or on" } else { "that are also" };
            format!("on {} {joint} {}", days_of_week(of_week), days_of_month(of_month))
        }
    }
}

fn days_of_month(days: &DaysOfMonth) -> String {
    let mut parts = Vec::new();
    let plain: Vec<u32> = bits(days.days).collect();
    match plain.as_slice() {
        [] => {}
        // Longer than any list that people write by hand: a step.
        [first, second, .., last] if plain.len() > LISTED_MAX / 2 && even(&plain) && second - first > 1 => {
            let step = ordinal(second - first);
            parts.push(format!(
                "every {step} day of the month from the {} to the {}",
                ordinal(*first),
                ordinal(*last)
            ));
        }
        days => parts.push(format!("the {}", ranges(days, |&day| ordinal(day)))),
    }
    parts.extend(bits(days.before_last).map(before_last));
    parts.extend(bits(days.nearest).map(|day| format!("the weekday nearest to the {}", ordinal(day))));
    parts.extend(bits(days.nearest_before_last).map(|before| match before {
        0 => "the last weekday of the month".to_owned(),
        before => format!("the weekday nearest to {}", before_last(before)),
    }));
    listed(&parts)
}

fn before_last(before: u32) -> String {
    match before {
        0 => "the last day of the month".to_owned(),
        1 => "the day before the last of the month".to_owned(),
        before => format!("the day {before} days before the last of the month"),
    }
}

fn days_of_week(days: &DaysOfWeek) -> String {
    let mut parts = Vec::new();
    match days.weekly {
        0 => {}
        ALL_WEEKDAYS => parts.push("any day".to_owned()),
        0b011_1110 => parts.push("weekdays".to_owned()),
        0b100_0001 => parts.push("weekends".to_owned()),
        weekly => {
            // Monday first, as most readers count.
            let numbers: Vec<u32> = (1..=7).filter(|day| weekly >> (day % 7) & 1 == 1).collect();
            parts.push(ranges(&numbers, |&day| format!("{}s", weekday(day % 7))));
        }
    }
    for (nth, &set) in (1..).zip(&days.nth) {
        parts.extend(
            bits(u32::from(set)).map(|day| format!("the {} {} of the month", ordinal(nth), weekday(day))),
        );
    }
    parts.extend(bits(u32::from(days.last)).map(|day| format!("the last {} of the month", weekday(day))));
    listed(&parts)
}

fn weekday(day: u32) -> &'static str {
    usize::try_from(day).ok().and_then(|day| WEEKDAYS.get(day)).copied().unwrap_or("day")
}

fn months(set: u64) -> String {
    let name = |&month: &u32| {
        let index = usize::try_from(month - 1).unwrap_or(0);
        MONTH_NAMES.get(index).copied().unwrap_or("month").to_owned()
    };
    ranges(&values(set), name)
}

fn values(set: u64) -> Vec<u32> {
    (0..64).filter(|&bit| set >> bit & 1 == 1).collect()
}

fn ordinal(number: u32) -> String {
    let suffix = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{suffix}")
}

/// "1, 5 to 9 and 20": runs of three or more become ranges.
fn ranges(values: &[u32], show: impl Fn(&u32) -> String) -> String {
    let mut parts = Vec::new();
    let mut rest = values;
    while let Some(first) = rest.first() {
        let run = (*first..).zip(rest).take_while(|(expected, value)| expected == *value).count();
        let (taken, after) = rest.split_at(if run >= 3 { run } else { 1 });
        parts.push(match taken {
            [only] => show(only),
            [from, .., to] => format!("{} to {}", show(from), show(to)),
            [] => break,
        });
        rest = after;
    }
    if parts.len() > LISTED_MAX {
        let more = parts.split_off(3).len();
        parts.push(format!("{more} more"));
    }
    listed(&parts)
}

/// "a", "a and b", "a, b and c".
fn listed(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [head @ .., last] => format!("{} and {last}", head.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{Dialect, Expression, parse_expression};

    #[test]
    fn sentences_read_as_people_would_say_them() {
        for (dialect, text, sentence) in [
            (Dialect::Unix, "30 2 * * 1-5", "at 02:30 on weekdays"),
            (Dialect::Unix, "*/15 * * * *", "every 15 minutes"),
            (Dialect::Unix, "* * * * *", "every minute"),
            (Dialect::Unix, "0 * * * *", "every hour at minute 0"),
            (Dialect::Unix, "0 9-17 * * 1-5", "every hour from 09:00 to 17:00 on weekdays"),
            (Dialect::Unix, "*/5 9-17 * * 0,6", "every 5 minutes from 09:00 to 17:59 on weekends"),
            (Dialect::Unix, "5,35 */2 * * *", "at minutes 5 and 35 in every 2nd hour"),
            (Dialect::Unix, "0 0 * * *", "at 00:00 every day"),
            (Dialect::Unix, "0 0 * 1,7 *", "at 00:00 every day in January and July"),
            (Dialect::Unix, "0 */2 * * *", "every 2 hours at minute 0"),
            (Dialect::Unix, "30 1-23/2 * * *", "every 2 hours from 01:30 to 23:30"),
            (Dialect::Unix, "1-59/2 * * * *", "at every 2nd minute from 1 to 59"),
            (Dialect::Unix, "*/7 * * * *", "at every 7th minute from 0 to 56"),
            (
                Dialect::Unix,
                "0,1,3,7,8,10,14,16,19,20,24,29,33,40,50 * * * *",
                "at minutes 0, 1, 3 and 12 more",
            ),
            (
                Dialect::Quartz,
                "0 0 0 1 1 ? 2027/5",
                "at 00:00 on the 1st in January in every 5th year from 2027 to 2197",
            ),
            (Dialect::Unix, "0 0 13 * 5", "at 00:00 on Fridays or on the 13th"),
            (
                Dialect::Unix,
                "0 0 */2 * 1",
                "at 00:00 on Mondays that are also every 2nd day of the month from the 1st to the 31st",
            ),
            (
                Dialect::Unix,
                "15 */6 1 jan,jul *",
                "at 00:15, 06:15, 12:15 and 18:15 on the 1st in January and July",
            ),
            (Dialect::Ecron, "0 0 L * *", "at 00:00 on the last day of the month"),
            (Dialect::Ecron, "*/10 * * * * *", "every 10 seconds"),
            (Dialect::Ecron, "7 * * * * *", "at second 7 of every minute"),
            (Dialect::Quartz, "0 15 10 ? * 6#3", "at 10:15 on the 3rd Friday of the month"),
            (
                Dialect::Quartz,
                "0 0 0 LW * ? 2027-2029",
                "at 00:00 on the last weekday of the month in 2027 to 2029",
            ),
            (Dialect::Quartz, "0 0 12 ? * 2L", "at 12:00 on the last Monday of the month"),
        ] {
            let Ok(Expression::Civil(rule)) = parse_expression(text, dialect, "a/b") else {
                panic!("{text}")
            };
            assert_eq!(civil(&rule), sentence, "{text}");
        }
    }
}
