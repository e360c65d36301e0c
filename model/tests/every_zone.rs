//! Properties of every IANA zone, at its clock changes between 2000 and 2040, under every policy.
//!
//! The oracle asks chrono-tz for each civil time by itself (`LocalResult`, `GapInfo`), a different way than the spans
//! in `src`, and applies the policy to that one time.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests may fail loudly, as tests may")]

mod support;

use std::collections::BTreeSet;

use chrono::{DateTime, LocalResult, NaiveDateTime, NaiveTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::{GapInfo, TZ_VARIANTS, Tz};
use ecron_model::schedule::{Dialect, Fold, Gap, Schedule};
use ecron_model::time::Timestamp;
use support::{Seeded, compile, cron, with_policy};

const DAY: i64 = 86_400;
/// How many of a zone's clock changes are looked at.
const CHANGES_EACH: usize = 3;
/// How far on both sides of a change.
const WINDOW: i64 = 2 * DAY;

/// A rule over minutes and hours, every day.
struct Rule {
    text: String,
    minutes: Vec<u32>,
    hours: Vec<u32>,
    elapsed: bool,
}

fn rule(seed: &mut Seeded, wall_hour: u32) -> Rule {
    let list = |values: &[u32]| values.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let minutes: BTreeSet<u32> =
        (0..=seed.below(3)).map(|_| u32::try_from(seed.below(60)).unwrap()).collect();
    let minutes: Vec<u32> = minutes.into_iter().collect();
    if seed.chance(30) {
        let text = format!("{} * * * *", list(&minutes));
        return Rule { text, minutes, hours: (0..24).collect(), elapsed: true };
    }
    // Fixed hours around the change.
    let hours: BTreeSet<u32> =
        (0..=seed.below(3)).map(|_| (wall_hour + 22 + u32::try_from(seed.below(5)).unwrap()) % 24).collect();
    let hours: Vec<u32> = hours.into_iter().collect();
    Rule { text: format!("{} {} * * *", list(&minutes), list(&hours)), minutes, hours, elapsed: false }
}

/// The instants that one civil time becomes, by the policies alone.
fn instants(zone: Tz, civil: NaiveDateTime, gap: Gap, fold: Fold) -> Vec<i64> {
    match zone.from_local_datetime(&civil) {
        LocalResult::Single(at) => vec![at.timestamp()],
        LocalResult::Ambiguous(first, second) => match fold {
            Fold::First => vec![first.timestamp()],
            Fold::Second => vec![second.timestamp()],
            Fold::Both => vec![first.timestamp(), second.timestamp()],
        },
        LocalResult::None => {
            let around = GapInfo::new(&civil, &zone).expect("a civil time that doesn't exist is in a gap");
            let offset = i64::from(around.begin.expect("gaps begin").1.fix().local_minus_utc());
            match gap {
                Gap::Skip => vec![],
                Gap::Next => vec![around.end.expect("gaps end").timestamp()],
                Gap::Shift => vec![civil.and_utc().timestamp() - offset],
            }
        }
    }
}

fn expected(zone: Tz, rule: &Rule, gap: Gap, fold: Fold, from: i64, until: i64) -> Vec<i64> {
    let (gap, fold) = if rule.elapsed { (Gap::Skip, Fold::Both) } else { (gap, fold) };
    let first_day = DateTime::from_timestamp(from - 2 * DAY, 0).unwrap().date_naive();
    let mut all = BTreeSet::new();
    for date in first_day.iter_days().take(usize::try_from((until - from) / DAY).unwrap() + 5) {
        for &hour in &rule.hours {
            for &minute in &rule.minutes {
                let civil = date.and_time(NaiveTime::from_hms_opt(hour, minute, 0).unwrap());
                all.extend(instants(zone, civil, gap, fold));
            }
        }
    }
    all.into_iter().filter(|&at| from < at && at <= until).collect()
}

fn forward(schedule: &Schedule, from: i64, until: i64) -> Vec<i64> {
    let mut at = Timestamp::from_ms(from * 1_000);
    let mut found = Vec::new();
    while let Some(due) = schedule.next_after(at).filter(|due| due.as_ms() <= until * 1_000) {
        assert!(due > at, "not increasing: {due} after {at}");
        found.push(due.as_ms() / 1_000);
        at = due;
    }
    found
}

fn backward(schedule: &Schedule, from: i64, until: i64) -> Vec<i64> {
    let mut at = Timestamp::from_ms(until * 1_000 + 1);
    let mut found = Vec::new();
    while let Some(due) = schedule.previous_before(at).filter(|due| due.as_ms() > from * 1_000) {
        assert!(due < at, "not decreasing: {due} before {at}");
        found.push(due.as_ms() / 1_000);
        at = due;
    }
    found.reverse();
    found
}

fn offset(zone: Tz, at: i64) -> i64 {
    let utc = DateTime::from_timestamp(at, 0).unwrap().naive_utc();
    i64::from(zone.offset_from_utc_datetime(&utc).fix().local_minus_utc())
}

/// All clock changes of a zone from 2000 to 2040.
fn changes(zone: Tz) -> Vec<i64> {
    let week = 7 * DAY - 3_600;
    let mut changes = Vec::new();
    let mut at = Utc.with_ymd_and_hms(2000, 1, 1, 0, 0, 0).unwrap().timestamp();
    let end = Utc.with_ymd_and_hms(2041, 1, 1, 0, 0, 0).unwrap().timestamp();
    while at < end {
        if offset(zone, at) != offset(zone, at + week) {
            let (mut low, mut high) = (at, at + week);
            while high - low > 1 {
                let middle = low + (high - low) / 2;
                if offset(zone, middle) == offset(zone, at) { low = middle } else { high = middle }
            }
            changes.push(high);
        }
        at += week;
    }
    changes
}

#[test]
fn every_zone_keeps_its_policies_at_its_clock_changes() {
    let gaps = [Gap::Skip, Gap::Next, Gap::Shift];
    let folds = [Fold::First, Fold::Second, Fold::Both];
    let mut seed = Seeded(2_040);
    let mut looked_at = 0;
    for &zone in TZ_VARIANTS.iter() {
        let all = changes(zone);
        for nth in 0..CHANGES_EACH.min(all.len().max(1)) {
            let change = match all.len() {
                0 => seed.between(946_684_800, 2_208_988_800),
                // The last one, the first one, and one in between: tables end in their odd years.
                len if nth < 2 => all[nth * (len - 1)],
                len => all[usize::try_from(seed.below(len as u64)).unwrap()],
            };
            let wall_hour = u32::try_from((change + offset(zone, change)).rem_euclid(DAY) / 3_600).unwrap();
            for _ in 0..2 {
                let rule = rule(&mut seed, wall_hour);
                let gap = gaps[usize::try_from(seed.below(3)).unwrap()];
                let fold = folds[usize::try_from(seed.below(3)).unwrap()];
                let schedule =
                    compile(&with_policy(cron(&rule.text, Dialect::Ecron, zone.name()), gap, fold));
                let (from, until) = (change - WINDOW, change + WINDOW);
                let what = format!("{:?} in {zone} at {change}, gap {gap}, fold {fold}", rule.text);
                let found = forward(&schedule, from, until);
                assert_eq!(found, expected(zone, &rule, gap, fold, from, until), "{what}");
                assert_eq!(backward(&schedule, from, until), found, "{what}, backwards");
                // No state, no drift: any start gives the rest of the same sequence.
                let start = seed.between(from, until);
                let rest: Vec<i64> = found.iter().copied().filter(|&at| at > start).collect();
                assert_eq!(forward(&schedule, start, until), rest, "{what}, from {start}");
                for &at in &found {
                    let due = Timestamp::from_ms(at * 1_000);
                    assert_eq!(
                        schedule.previous_before(due).and_then(|before| schedule.next_after(before)),
                        Some(due)
                    );
                    assert!(schedule.names(due) && !schedule.names(due.plus_ms(1)), "{what}");
                }
                looked_at += found.len();
            }
        }
    }
    assert!(looked_at > 20_000, "only {looked_at} occurrences");
}

/// The zones with the oddest rules, over all their changes and all nine pairs of policies.
#[test]
fn odd_zones_keep_every_policy_at_every_change() {
    let odd = [
        chrono_tz::Australia::Lord_Howe,
        chrono_tz::Pacific::Apia,
        chrono_tz::America::Sao_Paulo,
        chrono_tz::Africa::Casablanca,
        chrono_tz::Asia::Gaza,
        chrono_tz::Antarctica::Troll,
    ];
    let mut seed = Seeded(11);
    for zone in odd {
        for change in changes(zone) {
            let wall_hour = u32::try_from((change + offset(zone, change)).rem_euclid(DAY) / 3_600).unwrap();
            let mut rule = rule(&mut seed, wall_hour);
            while rule.elapsed {
                rule = self::rule(&mut seed, wall_hour);
            }
            for gap in [Gap::Skip, Gap::Next, Gap::Shift] {
                for fold in [Fold::First, Fold::Second, Fold::Both] {
                    let schedule =
                        compile(&with_policy(cron(&rule.text, Dialect::Ecron, zone.name()), gap, fold));
                    let (from, until) = (change - DAY, change + DAY + TimeDelta::hours(6).num_seconds());
                    let found = forward(&schedule, from, until);
                    let what = format!("{:?} in {zone} at {change}, gap {gap}, fold {fold}", rule.text);
                    assert_eq!(found, expected(zone, &rule, gap, fold, from, until), "{what}");
                    assert_eq!(backward(&schedule, from, until), found, "{what}, backwards");
                }
            }
        }
    }
}
