//! Differential test: our calendar and zone rules against the crate `croner`, wherever the two define the same rule.
//!
//! Left out, because the rules differ (each is a golden row or an ADR): a step on the star of a day field (vixie:
//! AND; croner: OR), gap and fold of fixed times with several minutes or hours (croner takes them for intervals),
//! and clock jumps of more than two hours (croner gives up).

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests may fail loudly, as tests may")]

mod support;

use chrono::{DateTime, TimeZone, Utc};
use croner::parser::{CronParser, Seconds};
use ecron_model::schedule::Dialect;
use ecron_model::time::{TIMESTAMP_MAX, Timestamp};
use support::{Seeded, compile, cron, field};

/// At least this many pairs of expression and instant are compared, over all tests of this file.
const UTC_EXPRESSIONS: u64 = 13_000;
const INSTANTS_EACH: u64 = 8;
const ZONE_EXPRESSIONS: u64 = 2_500;

/// 1975 to 2180: also across 2100, where the crate `cron` ends.
const INSTANTS: (i64, i64) = (157_766_400, 6_627_139_200);

fn star_or(seed: &mut Seeded, percent: u64, low: i64, high: i64) -> String {
    match seed.below(100) {
        chance if chance < percent => "*".to_owned(),
        chance if chance < percent + 10 => format!("*/{}", seed.between(2, 15)),
        _ => field(seed, low, high),
    }
}

fn day_of_month(seed: &mut Seeded) -> String {
    match seed.below(12) {
        0..=4 => "*".to_owned(),
        5 => "L".to_owned(),
        6 => "LW".to_owned(),
        7 => format!("{}W", seed.between(1, 28)),
        _ => field(seed, 1, 28),
    }
}

fn day_of_week(seed: &mut Seeded) -> String {
    match seed.below(10) {
        0..=4 => "*".to_owned(),
        5 => format!("{}#{}", seed.between(0, 6), seed.between(1, 5)),
        6 => format!("{}L", seed.between(0, 6)),
        7 => seed.pick(&["MON-FRI", "sat,sun", "TUE", "fri-sat"]).to_owned(),
        _ => field(seed, 0, 7),
    }
}

fn expression(seed: &mut Seeded) -> String {
    let minute = star_or(seed, 20, 0, 59);
    let hour = star_or(seed, 30, 0, 23);
    let month = if seed.chance(60) { "*".to_owned() } else { field(seed, 1, 12) };
    format!("{minute} {hour} {} {month} {}", day_of_month(seed), day_of_week(seed))
}

fn parser() -> CronParser {
    CronParser::builder().seconds(Seconds::Disallowed).build()
}

/// croner's next or previous instant after one in a zone, in milliseconds.
fn croner_step<Z: TimeZone>(cron: &croner::Cron, from: DateTime<Z>, forward: bool) -> Option<i64>
where
    DateTime<Z>: croner::CronDateTime,
{
    let found = if forward {
        cron.find_next_occurrence(&from, false)
    } else {
        cron.find_previous_occurrence(&from, false)
    };
    found.ok().map(|found| found.timestamp_millis())
}

#[test]
fn the_calendar_agrees_with_croner() {
    let mut seed = Seeded(20_261_122);
    let mut compared = 0_u64;
    for _ in 0..UTC_EXPRESSIONS {
        let text = expression(&mut seed);
        let theirs = parser().parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let ours = compile(&cron(&text, Dialect::Ecron, "UTC"));
        for nth in 0..INSTANTS_EACH {
            let from = seed.between(INSTANTS.0, INSTANTS.1);
            let forward = nth != 0;
            let expected = croner_step(&theirs, Utc.timestamp_opt(from, 0).unwrap(), forward)
                .filter(|at| (0..=TIMESTAMP_MAX.as_ms()).contains(at));
            let from = Timestamp::from_ms(from * 1_000);
            let found = if forward { ours.next_after(from) } else { ours.previous_before(from) };
            assert_eq!(
                found.map(Timestamp::as_ms),
                expected,
                "{text:?} from {from}, forward {forward}: we say {found:?}"
            );
            compared += 1;
        }
    }
    assert!(compared >= 100_000);
}

/// Zones with the changes that croner handles: up to two hours, both hemispheres, half an hour, midnight.
const ZONES: [chrono_tz::Tz; 8] = [
    chrono_tz::Europe::Berlin,
    chrono_tz::America::New_York,
    chrono_tz::America::Sao_Paulo,
    chrono_tz::Australia::Lord_Howe,
    chrono_tz::Pacific::Chatham,
    chrono_tz::Asia::Gaza,
    chrono_tz::Africa::Casablanca,
    chrono_tz::America::Santiago,
];

/// A fixed time as croner sees it (one minute, one hour), or a star in the minute or hour field.
fn zone_expression(seed: &mut Seeded) -> String {
    let days = if seed.chance(50) { "* * *".to_owned() } else { format!("{} * *", field(seed, 1, 28)) };
    match seed.below(4) {
        0 => format!("*/{} * {days}", seed.between(2, 30)),
        1 => format!("{} * {days}", field(seed, 0, 59)),
        _ => format!("{} {} {days}", seed.between(0, 59), seed.between(0, 5)),
    }
}

#[test]
fn zones_agree_with_croner() {
    let mut seed = Seeded(77);
    let mut compared = 0_u64;
    for nth in 0..ZONE_EXPRESSIONS {
        let zone = ZONES[usize::try_from(nth).unwrap() % ZONES.len()];
        let text = zone_expression(&mut seed);
        let theirs = parser().parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let ours = compile(&cron(&text, Dialect::Ecron, zone.name()));
        for _ in 0..INSTANTS_EACH {
            let from = near_a_change(&mut seed, zone);
            let expected = croner_step(&theirs, zone.timestamp_opt(from, 0).unwrap(), true);
            let from = Timestamp::from_ms(from * 1_000);
            let found = ours.next_after(from);
            assert_eq!(
                found.map(Timestamp::as_ms),
                expected,
                "{text:?} in {zone} from {from}: we say {found:?}"
            );
            compared += 1;
        }
    }
    assert!(compared >= 20_000);
}

/// An instant within a day and a half of one of the zone's clock changes, if the year drawn has one.
fn near_a_change(seed: &mut Seeded, zone: chrono_tz::Tz) -> i64 {
    use chrono::Offset as _;
    let offset =
        |at: i64| zone.offset_from_utc_datetime(&Utc.timestamp_opt(at, 0).unwrap().naive_utc()).fix();
    let start = seed.between(946_684_800, 2_208_988_800);
    let change = (0..60).map(|week| start + week * 604_800).find(|&at| offset(at) != offset(at + 604_800));
    let Some(mut low) = change else { return start };
    let mut high = low + 604_800;
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if offset(middle) == offset(low) { low = middle } else { high = middle }
    }
    high + seed.between(-130_000, 10_000)
}
