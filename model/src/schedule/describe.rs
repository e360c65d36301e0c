//! A schedule as a sentence: "at 02:30 on weekdays, Europe/Berlin". For people; nothing reads it back.

use super::days::{ALL_WEEKDAYS, DaysOfMonth, DaysOfWeek, bits};
use super::expression::{Civil, Expression, MONTHS, SIXTY, TWENTY_FOUR, parse_expression};
use super::interval::duration_text;
use super::spec::ScheduleSpec;
use super::zone::Zone;

/// How many clock times a sentence lists before it speaks of minutes and hours instead.
const TIMES_MAX: usize = 6;
/// How many values a sentence lists; beyond that it counts them.
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

/// The whole schedule, with its zone, limits and moves. What can't be read is left as it was written.
pub(super) fn schedule(spec: &ScheduleSpec, zone: Zone, job: &str) -> String {
    let dialect = spec.dialect.unwrap_or_default();
    let mut rules: Vec<String> = Vec::new();
    for text in spec.cron.iter().take(LISTED_MAX) {
        rules.push(match parse_expression(text, dialect, job) {
            Ok(Expression::Civil(rule)) => civil(&rule),
            Ok(Expression::Every(interval)) => format!("every {}", duration_text(interval)),
            Err(_) => text.clone(),
        });
    }
    rules.extend(spec.every.map(|interval| format!("every {}", duration_text(interval))));
    match spec.at.as_slice() {
        [] => {}
        [one] => rules.push(format!("once at {one}")),
        many => {
            rules.push(format!("at {} instants from {}", many.len(), many.iter().min().unwrap_or(&many[0])))
        }
    }
    rules.extend(spec.after.map(|delay| format!("{} after the previous run ended", duration_text(delay))));
    let mut sentence = rules.join(", and ");
    if !spec.cron.is_empty() {
        sentence.push_str(&format!(", {}", zone.name()));
    }
    let parts = [
        spec.start.map(|start| format!("from {start}")),
        spec.end.map(|end| format!("until {end}")),
        spec.count.map(|count| if count == 1 { "once".to_owned() } else { format!("{count} times") }),
        (!spec.exclude.is_empty()).then(|| "except on excluded times".to_owned()),
        spec.spread.map(|spread| format!("spread over {}", duration_text(spread))),
        spec.jitter.map(|jitter| format!("with up to {} of jitter", duration_text(jitter))),
    ];
    for part in parts.into_iter().flatten() {
        sentence.push_str(", ");
        sentence.push_str(&part);
    }
    sentence
}

/// One calendar rule, without its zone: "at 02:30 on weekdays".
fn civil(rule: &Civil) -> String {
    let mut sentence = times(rule);
    let days = days(rule);
    if !days.is_empty() {
        sentence.push(' ');
        sentence.push_str(&days);
    }
    if rule.months != MONTHS {
        sentence.push_str(&format!(" in {}", months(rule.months)));
    }
    if let Some(years) = &rule.years {
        let years: Vec<u32> = years.iter().map(u32::from).collect();
        sentence.push_str(&format!(" in {}", ranges(&years, u32::to_string)));
    }
    sentence
}

fn times(rule: &Civil) -> String {
    let (seconds, minutes, hours) = (values(rule.seconds), values(rule.minutes), values(rule.hours));
    if seconds.len() * minutes.len() * hours.len() <= TIMES_MAX {
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
        return format!("at {}", listed(&all));
    }
    let mut parts = Vec::new();
    if rule.seconds != 1 {
        parts.push(unit(&seconds, rule.seconds == SIXTY, "second", 60));
    }
    if !(rule.seconds == SIXTY && rule.minutes == SIXTY) {
        parts.push(unit(&minutes, rule.minutes == SIXTY, "minute", 60));
    }
    if rule.hours != TWENTY_FOUR {
        let hours: Vec<u32> = hours;
        parts.push(match every_step(&hours, 24) {
            Some(step) => format!("in every {} hour", ordinal(step)),
            None => format!("in the hours {}", ranges(&hours, |hour| format!("{hour:02}"))),
        });
    } else if rule.minutes.count_ones() == 1 && rule.seconds == 1 {
        return format!("every hour at minute {}", minutes.first().unwrap_or(&0));
    }
    parts.join(" ")
}

/// "every minute", "every 15 minutes", "at minutes 5 and 35".
fn unit(values: &[u32], all: bool, name: &str, cycle: u32) -> String {
    if all {
        return format!("every {name}");
    }
    match (every_step(values, cycle), values) {
        (Some(step), _) => format!("every {step} {name}s"),
        (None, [one]) => format!("at {name} {one}"),
        (None, many) => format!("at {name}s {}", ranges(many, u32::to_string)),
    }
}

/// The step of values that run from 0 through the whole cycle evenly.
fn every_step(values: &[u32], cycle: u32) -> Option<u32> {
    let (&first, &second) = (values.first()?, values.get(1)?);
    let step = second - first;
    let even = first == 0 && values.windows(2).all(|pair| pair[1] - pair[0] == step);
    (even && cycle.is_multiple_of(step) && values.len() == usize::try_from(cycle / step).ok()?)
        .then_some(step)
}

fn days(rule: &Civil) -> String {
    let (of_month, of_week) = (&rule.days.of_month, &rule.days.of_week);
    match (of_month.is_all(), of_week.is_all()) {
        (true, true) => String::new(),
        (true, false) => format!("on {}", days_of_week(of_week)),
        (false, true) => format!("on {}", days_of_month(of_month)),
        (false, false) => {
            let joint = if rule.days.either { "or on" } else { "that is a" };
            let (month, week) = (days_of_month(of_month), days_of_week(of_week));
            if rule.days.either {
                format!("on {month} {joint} {week}")
            } else {
                format!("on {month}, if it is {week}")
            }
        }
    }
}

fn days_of_month(days: &DaysOfMonth) -> String {
    let mut parts = Vec::new();
    let plain: Vec<u32> = bits(days.days).collect();
    if !plain.is_empty() {
        parts.push(format!("the {}", ranges(&plain, |&day| ordinal(day))));
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
        format!("{} values from {}", values.len(), parts[0])
    } else {
        listed(&parts)
    }
}

/// "a", "a and b", "a, b and c".
fn listed(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [head @ .., last] => format!("{} and {last}", head.join(", ")),
    }
}
