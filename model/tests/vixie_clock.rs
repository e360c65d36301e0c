//! A second oracle, independent of everything in `src`: vixie cron's clock, minute by minute.
//!
//! It shares no code with the schedule module. Matching is by sets of numbers written down beside the expression's
//! text; time passes as cron's main loop has it: a wildcard job runs when the wall clock matches, a fixed job runs once
//! for every wall-clock minute that passes, also those that the clock leaps over (at once, right after the leap), and
//! not again for those that it repeats. Where several minutes of one leap match, cron runs the job for each, ten seconds
//! apart; an occurrence is an instant, so that here they are one (ADR 0010).

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests may fail loudly, as tests may")]

mod support;

use std::collections::BTreeSet;

use chrono::{Datelike, NaiveDateTime, TimeDelta, TimeZone, Timelike, Utc};
use chrono_tz::Tz;
use ecron_model::schedule::Dialect;
use ecron_model::time::Timestamp;
use support::{Seeded, cron};

/// An expression and what it means.
struct Job {
    text: String,
    minutes: BTreeSet<u32>,
    hours: BTreeSet<u32>,
    days: BTreeSet<u32>,
    months: BTreeSet<u32>,
    weekdays: BTreeSet<u32>,
    wildcard: bool,
    day_star: bool,
}

/// One field: its text, and the values that it means.
fn field(seed: &mut Seeded, low: u32, high: u32, star: u64) -> (String, BTreeSet<u32>) {
    if seed.chance(star) {
        return ("*".to_owned(), (low..=high).collect());
    }
    if seed.chance(25) {
        let step = u32::try_from(seed.between(1, 12)).unwrap();
        return (
            format!("*/{step}"),
            (low..=high).filter(|value| (value - low).is_multiple_of(step)).collect(),
        );
    }
    let mut texts = Vec::new();
    let mut values = BTreeSet::new();
    for _ in 0..=seed.below(2) {
        let from = u32::try_from(seed.between(low.into(), high.into())).unwrap();
        let to = u32::try_from(seed.between(from.into(), high.into())).unwrap();
        if seed.chance(50) {
            texts.push(from.to_string());
            values.insert(from);
        } else {
            let step = u32::try_from(seed.between(1, 4)).unwrap();
            texts.push(format!("{from}-{to}/{step}"));
            values.extend((from..=to).filter(|value| (value - from).is_multiple_of(step)));
        }
    }
    (texts.join(","), values)
}

fn job(seed: &mut Seeded) -> Job {
    let (minute, minutes) = field(seed, 0, 59, 15);
    let (hour, hours) = if seed.chance(50) { field(seed, 0, 4, 0) } else { field(seed, 0, 23, 30) };
    let (hour, hours) = if hour.starts_with('*') {
        let step: u32 = hour.strip_prefix("*/").map_or(1, |step| step.parse().unwrap());
        (hour, (0..24).filter(|value: &u32| value.is_multiple_of(step)).collect())
    } else {
        (hour, hours)
    };
    let (day, days) = field(seed, 1, 31, 60);
    let (month, months) = field(seed, 1, 12, 80);
    let (weekday, weekdays) = field(seed, 0, 7, 60);
    Job {
        wildcard: minute.starts_with('*') || hour.starts_with('*'),
        day_star: day.starts_with('*') || weekday.starts_with('*'),
        text: format!("{minute} {hour} {day} {month} {weekday}"),
        minutes,
        hours,
        days,
        months,
        weekdays: weekdays.into_iter().map(|day| day % 7).collect(),
    }
}

impl Job {
    fn matches(&self, wall: NaiveDateTime) -> bool {
        let day = self.days.contains(&wall.day());
        let weekday = self.weekdays.contains(&wall.weekday().num_days_from_sunday());
        self.minutes.contains(&wall.minute())
            && self.hours.contains(&wall.hour())
            && self.months.contains(&wall.month())
            && if self.day_star { day && weekday } else { day || weekday }
    }
}

/// Every instant in `(from, until]` at which cron's loop runs the job. Minutes since the epoch.
fn clock(job: &Job, zone: Tz, from: i64, until: i64) -> Vec<i64> {
    let wall = |minute: i64| {
        zone.from_utc_datetime(&Utc.timestamp_opt(minute * 60, 0).unwrap().naive_utc()).naive_local()
    };
    let minute = TimeDelta::minutes(1);
    let mut runs = Vec::new();
    // How far the virtual clock of fixed jobs has come.
    let mut passed = wall(from);
    for now in from + 1..=until {
        let here = wall(now);
        let due = if job.wildcard {
            job.matches(here)
        } else {
            let mut due = false;
            while passed < here {
                passed += minute;
                due |= job.matches(passed);
            }
            due
        };
        if due {
            runs.push(now);
        }
    }
    runs
}

fn ours(job: &Job, zone: Tz, from: i64, until: i64) -> Vec<i64> {
    let Ok(schedule) = support::try_compile(&cron(&job.text, Dialect::Unix, zone.name())) else {
        return Vec::new();
    };
    let mut at = Timestamp::from_ms(from * 60_000);
    let mut found = Vec::new();
    while let Some(due) = schedule.next_after(at).filter(|due| due.as_ms() <= until * 60_000) {
        assert_eq!(due.as_ms() % 60_000, 0);
        found.push(due.as_ms() / 60_000);
        at = due;
    }
    found
}

/// Clock changes of less than three hours: beyond that cron's loop takes a change for a correction of the clock.
const CHANGES: [(Tz, &str); 12] = [
    (chrono_tz::Europe::Berlin, "2026-03-29T01:00:00Z"),
    (chrono_tz::Europe::Berlin, "2026-10-25T01:00:00Z"),
    (chrono_tz::America::New_York, "2026-03-08T07:00:00Z"),
    (chrono_tz::America::New_York, "2026-11-01T06:00:00Z"),
    (chrono_tz::America::Sao_Paulo, "2018-11-04T03:00:00Z"),
    (chrono_tz::America::Sao_Paulo, "2018-02-18T02:00:00Z"),
    (chrono_tz::Australia::Lord_Howe, "2026-10-03T15:30:00Z"),
    (chrono_tz::Australia::Lord_Howe, "2026-04-04T15:00:00Z"),
    (chrono_tz::Antarctica::Troll, "2026-03-29T01:00:00Z"),
    (chrono_tz::Antarctica::Troll, "2026-10-25T01:00:00Z"),
    (chrono_tz::Africa::Casablanca, "2026-02-15T02:00:00Z"),
    (chrono_tz::Asia::Gaza, "2026-03-28T00:00:00Z"),
];

#[test]
fn clock_changes_pass_as_in_crons_loop() {
    let mut seed = Seeded(1_987);
    let mut compared = 0;
    for _ in 0..60 {
        for (zone, change) in CHANGES {
            let change = support::at(change).as_ms() / 60_000;
            let job = job(&mut seed);
            let (from, until) = (change - 36 * 60, change + 36 * 60);
            let expected = clock(&job, zone, from, until);
            assert_eq!(ours(&job, zone, from, until), expected, "{:?} in {zone}", job.text);
            compared += expected.len();
        }
    }
    assert!(compared > 10_000, "only {compared} runs");
}

#[test]
fn a_year_of_minutes_passes_as_in_crons_loop() {
    let mut seed = Seeded(42);
    for nth in 0..12_i64 {
        let job = job(&mut seed);
        let from = support::at("1999-06-01T00:00:00Z").as_ms() / 60_000 + nth * 1_200_000;
        let until = from + 366 * 1_440;
        let zone = CHANGES[usize::try_from(nth).unwrap()].0;
        assert_eq!(ours(&job, zone, from, until), clock(&job, zone, from, until), "{:?} in {zone}", job.text);
    }
}

#[test]
fn ecron_reads_every_unix_expression_as_unix_does() {
    let mut seed = Seeded(7);
    for _ in 0..2_000 {
        let job = job(&mut seed);
        let zone = CHANGES[usize::try_from(seed.below(12)).unwrap()].0;
        let from = support::at("2026-03-27T00:00:00Z").plus_ms(seed.between(0, 20_000_000_000));
        let unix = support::try_compile(&cron(&job.text, Dialect::Unix, zone.name()));
        let ecron = support::try_compile(&cron(&job.text, Dialect::Ecron, zone.name()));
        match (unix, ecron) {
            (Ok(unix), Ok(ecron)) => {
                assert_eq!(unix.next_after(from), ecron.next_after(from), "{:?}", job.text)
            }
            (unix, ecron) => assert_eq!(unix.is_ok(), ecron.is_ok(), "{:?}", job.text),
        }
    }
}
