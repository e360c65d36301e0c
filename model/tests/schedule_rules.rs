//! What a whole schedule does beyond one expression: anchors, unions, limits, exclusions, moves, and its problems.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests may fail loudly, as tests may")]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use ecron_model::schedule::{
    Dialect, Exclusion, Gap, Identity, NamedCalendar, Reason, Schedule, ScheduleSpec, no_calendars,
    tzdata_version,
};
use ecron_model::time::Timestamp;
use support::{at, compile, cron, try_compile};

fn first(schedule: &Schedule, from: &str, count: usize) -> Vec<String> {
    std::iter::successors(schedule.next_after(at(from)), |&due| schedule.next_after(due))
        .take(count)
        .map(|due| due.to_string())
        .collect()
}

fn every(interval: &str) -> ScheduleSpec {
    serde_json::from_str(&format!(r#"{{"every": "{interval}"}}"#)).unwrap()
}

fn fields(spec: &ScheduleSpec) -> Vec<String> {
    try_compile(spec).unwrap_err().into_iter().map(|problem| problem.field).collect()
}

#[test]
fn every_counts_from_start_or_from_creation() {
    // The tests' job was created at 2026-01-01T00:00:00Z.
    assert_eq!(
        first(&compile(&every("90m")), "2026-01-01T00:00:00Z", 2),
        ["2026-01-01T01:30:00Z", "2026-01-01T03:00:00Z"]
    );
    let spec = ScheduleSpec { start: Some(at("2026-02-01T00:00:10Z")), ..every("1h") };
    assert_eq!(
        first(&compile(&spec), "2026-01-01T00:00:00Z", 2),
        ["2026-02-01T00:00:10Z", "2026-02-01T01:00:10Z"]
    );
    assert_eq!(compile(&spec).previous_before(at("2026-02-01T00:00:10Z")), None);
}

#[test]
fn every_goes_below_a_second() {
    let schedule = compile(&every("100ms"));
    assert_eq!(
        first(&schedule, "2026-01-01T00:00:00.950Z", 2),
        ["2026-01-01T00:00:01Z", "2026-01-01T00:00:01.100Z"]
    );
    assert_eq!(fields(&every("99ms")), ["every"]);
}

#[test]
fn whole_seconds_stay_whole() {
    let identity = Identity { job: "a/b", created_at: at("2026-01-01T00:00:00.005Z") };
    let schedule = Schedule::compile(&every("15m"), &identity, &no_calendars).unwrap();
    assert_eq!(schedule.next_after(identity.created_at), Some(at("2026-01-01T00:15:00Z")));
}

#[test]
fn several_rules_are_a_union_without_doubles() {
    let spec = ScheduleSpec {
        cron: vec!["@hourly".into(), "30 * * * *".into(), "*/30 * * * *".into()],
        at: vec![at("2026-01-01T00:10:00Z"), at("2026-01-01T00:30:00Z"), at("2026-01-01T00:10:00Z")],
        ..ScheduleSpec::default()
    };
    let expected =
        ["2026-01-01T00:10:00Z", "2026-01-01T00:30:00Z", "2026-01-01T01:00:00Z", "2026-01-01T01:30:00Z"];
    assert_eq!(first(&compile(&spec), "2026-01-01T00:00:00Z", 4), expected);
}

#[test]
fn start_and_end_are_inclusive() {
    let spec = ScheduleSpec {
        start: Some(at("2026-03-01T00:00:00Z")),
        end: Some(at("2026-03-03T00:00:00Z")),
        ..cron("@daily", Dialect::Unix, "UTC")
    };
    let schedule = compile(&spec);
    assert_eq!(
        first(&schedule, "2026-01-01T00:00:00Z", 9),
        ["2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z", "2026-03-03T00:00:00Z"]
    );
    assert_eq!(schedule.previous_before(at("2030-01-01T00:00:00Z")), Some(at("2026-03-03T00:00:00Z")));
    assert_eq!(schedule.previous_before(at("2026-03-01T00:00:00Z")), None);
}

#[test]
fn count_keeps_the_first_ones() {
    let spec = ScheduleSpec { count: Some(3), ..cron("@daily", Dialect::Unix, "UTC") };
    let schedule = compile(&spec);
    let all = ["2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z", "2026-01-04T00:00:00Z"];
    assert_eq!(first(&schedule, "2025-01-01T00:00:00Z", 9), all);
    assert_eq!(schedule.previous_before(at("2027-01-01T00:00:00Z")), Some(at(all[2])));
    assert!(!schedule.names(at("2026-01-05T00:00:00Z")));
    let spec = ScheduleSpec {
        start: Some(at("2026-01-10T00:00:00Z")),
        exclude: vec!["2026-01-11".parse().unwrap()],
        ..spec
    };
    assert_eq!(
        first(&compile(&spec), "2025-01-01T00:00:00Z", 9),
        ["2026-01-10T00:00:00Z", "2026-01-12T00:00:00Z", "2026-01-13T00:00:00Z"]
    );
}

#[test]
fn exclusions_are_civil_dates_ranges_expressions_and_calendars() {
    let holidays = NamedCalendar {
        exclude: vec!["2026-12-25/2026-12-26".parse().unwrap(), Exclusion::Cron("* * 1 1 *".into())],
        dialect: None,
    };
    let spec: ScheduleSpec = serde_json::from_str(
        r#"{"cron": "0 12 * * *", "timeZone": "Pacific/Auckland",
            "exclude": ["2026-12-28", "2026-12-29T22:30:00Z/2026-12-29T23:00:00Z", {"cron": "0 12 31 * *"}, {"calendar": "nz"}]}"#,
    )
    .unwrap();
    let identity = Identity { job: "a/b", created_at: at("2026-01-01T00:00:00Z") };
    let calendars = |name: &str| (name == "nz").then(|| holidays.clone());
    let schedule = Schedule::compile(&spec, &identity, &calendars).unwrap();
    // Noon in Auckland is 23:00 UTC of the day before.
    let days = ["2026-12-23", "2026-12-26", "2026-12-28", "2027-01-01", "2027-01-02"]
        .map(|day| format!("{day}T23:00:00Z"));
    assert_eq!(first(&schedule, "2026-12-23T00:00:00Z", 5), days);
    let mut back: Vec<String> =
        std::iter::successors(schedule.previous_before(at("2027-01-03T00:00:00Z")), |&due| {
            schedule.previous_before(due)
        })
        .take(5)
        .map(|due| due.to_string())
        .collect();
    back.reverse();
    assert_eq!(back, days);
    let problems = Schedule::compile(&spec, &identity, &no_calendars).unwrap_err();
    assert_eq!(problems[0].field, "exclude[3]");
}

#[test]
fn whole_excluded_years_cost_little_and_everything_excluded_is_refused() {
    let spec = ScheduleSpec { exclude: vec!["2026-01-01/2099-12-31".parse().unwrap()], ..every("100ms") };
    assert_eq!(compile(&spec).next_after(at("2026-01-01T00:00:00Z")), Some(at("2100-01-01T00:00:00Z")));
    let spec = ScheduleSpec {
        exclude: vec![Exclusion::Cron("* * * * *".into())],
        ..cron("@daily", Dialect::Unix, "UTC")
    };
    assert_eq!(fields(&spec), [""]);
}

#[test]
fn exclusions_in_any_order_and_overlapping_are_one_stretch() {
    let days = ["2026-01-04", "2026-01-02", "2026-01-02/2026-01-03", "2026-01-07", "2026-01-01/2026-01-05"];
    let spec = ScheduleSpec {
        exclude: days.iter().map(|day| day.parse().unwrap()).collect(),
        ..cron("@daily", Dialect::Unix, "Europe/Berlin")
    };
    let schedule = compile(&spec);
    let left = ["2026-01-05T23:00:00Z", "2026-01-07T23:00:00Z", "2026-01-08T23:00:00Z"];
    assert_eq!(first(&schedule, "2025-12-31T00:00:00Z", 3), left);
    assert_eq!(schedule.previous_before(at(left[1])), Some(at(left[0])));
    assert_eq!(schedule.previous_before(at(left[0])), Some(at("2025-12-30T23:00:00Z")));
}

#[test]
fn what_a_long_search_found_is_remembered_as_it_is() {
    // From 1981 on, Berlin's clock leaps over this time every year, and until 2199 nothing comes.
    let spec = ScheduleSpec { gap: Some(Gap::Skip), ..cron("30 2 * 3 7L", Dialect::Ecron, "Europe/Berlin") };
    let instants =
        ["1970-01-01", "1979-03-25", "1980-03-30", "1980-12-01", "1996-01-01", "2026-01-01", "2199-12-31"]
            .map(|day| at(&format!("{day}T01:30:00Z")));
    let ask =
        |schedule: &Schedule| instants.map(|at| (schedule.next_after(at), schedule.previous_before(at)));
    let fresh: Vec<_> = instants
        .iter()
        .map(|&at| (compile(&spec).next_after(at), compile(&spec).previous_before(at)))
        .collect();
    assert_eq!(fresh[2], (None, Some(at("1979-03-25T01:30:00Z"))));
    assert_eq!(fresh[6], (None, Some(at("1980-03-30T01:30:00Z"))));
    for warm in instants {
        for forward in [true, false] {
            let schedule = compile(&spec);
            _ = if forward { schedule.next_after(warm) } else { schedule.previous_before(warm) };
            assert_eq!(ask(&schedule)[..], fresh, "after {warm}, forward {forward}");
        }
    }
}

#[test]
fn jitter_is_stable_bounded_and_never_reorders() {
    let plain = cron("*/5 * * * *", Dialect::Unix, "Europe/Berlin");
    // Longer than the distance: it still stays before the next occurrence.
    for limit in [Duration::from_secs(60), Duration::from_secs(1_200)] {
        let spec = ScheduleSpec { jitter: Some(limit), ..plain.clone() };
        let (even, moved) = (compile(&plain), compile(&spec));
        let mut shifts = BTreeSet::new();
        let mut nominal = at("2026-01-01T00:00:00Z");
        let mut last = moved.previous_before(at("2026-01-01T00:05:00Z")).unwrap();
        for _ in 0..500 {
            nominal = even.next_after(nominal).unwrap();
            let due = moved.next_after(last).unwrap();
            assert!(
                due >= nominal && due < nominal.plus(limit.min(Duration::from_secs(300))),
                "{due} of {nominal}"
            );
            assert!(moved.names(due) && moved.previous_before(due.plus_ms(1)) == Some(due));
            assert_eq!(moved.next_after(due.plus_ms(-1)), Some(due));
            shifts.insert(due.ms_since(nominal));
            last = due;
        }
        assert!(shifts.len() > 400, "only {} shifts", shifts.len());
    }
}

#[test]
fn jitter_stays_within_the_end() {
    let end = at("2026-01-02T00:00:00Z");
    let spec = ScheduleSpec {
        jitter: Some(Duration::from_secs(3_600)),
        end: Some(end),
        ..cron("@daily", Dialect::Unix, "UTC")
    };
    assert_eq!(compile(&spec).next_after(at("2026-01-01T12:00:00Z")), Some(end));
}

#[test]
fn spread_is_stable_per_job_and_differs_between_jobs() {
    let spec =
        ScheduleSpec { spread: Some(Duration::from_secs(3_600)), ..cron("@daily", Dialect::Unix, "UTC") };
    let created_at = at("2026-01-01T00:00:00Z");
    let shift_of = |job: &str, spec: &ScheduleSpec| {
        let schedule = Schedule::compile(spec, &Identity { job, created_at }, &no_calendars).unwrap();
        let one = schedule.next_after(at("2026-01-01T02:00:00Z")).unwrap();
        let next = schedule.next_after(one).unwrap();
        assert_eq!(next.ms_since(one), 86_400_000);
        one.ms_since(at("2026-01-02T00:00:00Z"))
    };
    let shifts: BTreeSet<i64> = (0..200).map(|n| shift_of(&format!("team/job-{n}"), &spec)).collect();
    assert!(shifts.len() > 190 && shifts.iter().all(|shift| (0..3_600_000).contains(shift)));
    // Another rule of the same job doesn't change its share.
    let weekly = ScheduleSpec { cron: vec!["@daily".into(), "0 0 * * 1".into()], ..spec.clone() };
    assert_eq!(shift_of("team/job-1", &spec), shift_of("team/job-1", &weekly));
}

#[test]
fn hash_follows_jenkins_rules() {
    let minutes = |job: &str, expression: &str| -> Vec<i64> {
        let spec = cron(expression, Dialect::Ecron, "UTC");
        let identity = Identity { job, created_at: at("2026-01-01T00:00:00Z") };
        let schedule = Schedule::compile(&spec, &identity, &no_calendars).unwrap();
        let hour = at("2026-01-01T00:00:00Z").plus_ms(-1);
        std::iter::successors(schedule.next_after(hour), |&due| schedule.next_after(due))
            .take_while(|due| *due < at("2026-01-01T01:00:00Z"))
            .map(|due| due.as_ms() / 60_000 % 60)
            .collect()
    };
    let mut seen = BTreeSet::new();
    for n in 0..600 {
        let job = format!("team/job-{n}");
        let [one] = minutes(&job, "H * * * *")[..] else { panic!("one value") };
        seen.insert(one);
        assert_eq!(minutes(&job, "H * * * *"), minutes(&job, "H/1 * * * *"));
        let stepped = minutes(&job, "H/15 * * * *");
        assert_eq!(stepped.len(), 4);
        assert!(stepped[0] < 15 && stepped.windows(2).all(|pair| pair[1] - pair[0] == 15), "{stepped:?}");
        assert!(minutes(&job, "H(10-20) * * * *").iter().all(|minute| (10..=20).contains(minute)));
        assert!(minutes(&job, "H(0-15)/3 * * * *").len() >= 5);
        assert!(minutes(&job, "10~20 * * * *").iter().all(|minute| (10..=20).contains(minute)));
    }
    assert_eq!(seen.len(), 60);
}

#[test]
fn several_schedules_are_a_union_and_each_has_its_own_zone_and_limits() {
    let (from, until) = (at("2026-10-20T00:00:00Z"), at("2026-11-10T00:00:00Z"));
    let parts = [
        ScheduleSpec {
            exclude: vec!["2026-10-26".parse().unwrap()],
            ..cron("0 9 * * *", Dialect::Ecron, "Europe/Berlin")
        },
        ScheduleSpec { count: Some(400), ..cron("0 9 * * *", Dialect::Ecron, "America/New_York") },
        ScheduleSpec { start: Some(at("2026-11-01T00:00:00Z")), ..every("2h") },
        ScheduleSpec {
            jitter: Some(Duration::from_secs(600)),
            ..cron("*/30 8 * * 1-5", Dialect::Unix, "UTC")
        },
    ];
    let within = |schedule: &Schedule| -> Vec<Timestamp> {
        std::iter::successors(schedule.next_after(from), |&due| schedule.next_after(due))
            .take_while(|due| *due < until)
            .collect()
    };
    let union = compile(&ScheduleSpec::union(parts.clone()).unwrap());
    let expected: BTreeSet<Timestamp> = parts.iter().flat_map(|part| within(&compile(part))).collect();
    let named = within(&union);
    assert_eq!(named, expected.iter().copied().collect::<Vec<_>>());
    // Nine in Berlin is one of the even hours of UTC: one run, not two.
    assert!(named.len() < parts.iter().map(|part| within(&compile(part)).len()).sum());
    assert!(named.iter().all(|&due| union.names(due)));
    let back: Vec<Timestamp> =
        std::iter::successors(union.previous_before(until), |&due| union.previous_before(due))
            .take_while(|due| *due > from)
            .collect();
    assert!(back.iter().rev().eq(&named));
    let moved = named.iter().find(|due| due.as_ms() % 60_000 != 0).unwrap();
    assert!(matches!(union.reasons(*moved)[..], [Reason::Jitter(_)]));
    assert_eq!(
        union.describe(),
        "at 09:00 every day, Europe/Berlin, except at excluded times; and at 09:00 every day, America/New_York, 400 times; \
         and every 2h, from 2026-11-01T00:00:00Z; and at 08:00 and 08:30 on weekdays, UTC, with up to 10m of jitter"
    );
    assert_eq!(union.closer_than(Duration::from_secs(1), from, 500), None);
    assert!(union.closer_than(Duration::from_secs(3_600), from, 500).is_some());
}

#[test]
fn latest_in_is_the_last_of_a_stretch() {
    let schedule = compile(&cron("*/5 * * * *", Dialect::Unix, "UTC"));
    let (from, until) = (at("2026-01-01T00:00:00Z"), at("2026-06-01T00:05:00Z"));
    assert_eq!(schedule.latest_in(from, until), Some(until));
    assert_eq!(schedule.latest_in(from, until.plus_ms(-1)), Some(at("2026-06-01T00:00:00Z")));
    assert_eq!(schedule.latest_in(until, until.plus_ms(60_000)), None);
}

#[test]
fn after_has_no_calendar() {
    let spec: ScheduleSpec = serde_json::from_str(r#"{"after": "10m"}"#).unwrap();
    let schedule = compile(&spec);
    assert_eq!(schedule.after_delay(), Some(Duration::from_secs(600)));
    assert_eq!(schedule.next_after(at("2026-01-01T00:00:00Z")), None);
    assert_eq!(schedule.describe(), "10m after the previous run ended");
    assert_eq!(fields(&ScheduleSpec { count: Some(2), ..spec.clone() }), ["count"]);
    assert_eq!(fields(&ScheduleSpec { after: spec.after, ..cron("@daily", Dialect::Unix, "UTC") }), ["cron"]);
}

#[test]
fn all_problems_come_at_once() {
    let spec = ScheduleSpec {
        cron: vec!["61 * * * *".into(), "@daily".into(), "0 0 31 2 *".into()],
        time_zone: Some("Mars/Olympus".into()),
        every: Some(Duration::from_millis(1)),
        start: Some(at("2026-02-01T00:00:00Z")),
        end: Some(at("2026-01-01T00:00:00Z")),
        count: Some(0),
        exclude: vec![Exclusion::Calendar("none".into())],
        jitter: Some(Duration::from_secs(90_000)),
        ..ScheduleSpec::default()
    };
    assert_eq!(
        fields(&spec),
        ["timeZone", "cron[0]", "cron[2]", "every", "end", "count", "exclude[0]", "jitter"]
    );
    assert_eq!(fields(&ScheduleSpec::default()), [""]);
}

#[test]
fn a_gap_that_swallows_the_only_occurrence_is_refused() {
    let mut spec = cron("0 30 2 29 3 ? 2026", Dialect::Ecron, "Europe/Berlin");
    assert_eq!(first(&compile(&spec), "2026-01-01T00:00:00Z", 2), ["2026-03-29T01:00:00Z"]);
    spec.gap = Some("skip".parse().unwrap());
    assert_eq!(fields(&spec), [""]);
}

#[test]
fn specs_survive_their_text() {
    let text = r#"{"cron":["@daily","30 2 * * 1-5"],"every":"1h30m","at":"2026-01-01T00:00:00Z","dialect":"unix","timeZone":"Europe/Berlin","gap":"shift","fold":"both","start":"2026-01-01T00:00:00Z","end":"2027-01-01T00:00:00Z","count":5,"exclude":["2026-12-25","2026-12-28/2026-12-31",{"cron":"* * 1 1 *"},{"calendar":"de"}],"jitter":"500ms","spread":"10m"}"#;
    let spec: ScheduleSpec = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_string(&spec).unwrap(), text);
    for wrong in [
        r#"{"crom": "@daily"}"#,
        r#"{"every": "soon"}"#,
        r#"{"at": "tomorrow"}"#,
        r#"{"gap": "leap"}"#,
        r#"{"exclude": ["2026-02-30"]}"#,
    ] {
        assert!(serde_json::from_str::<ScheduleSpec>(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn reasons_name_what_moved_an_occurrence() {
    let spec = ScheduleSpec {
        jitter: Some(Duration::from_secs(60)),
        ..cron("30 2 * * *", Dialect::Unix, "Europe/Berlin")
    };
    let schedule = compile(&spec);
    let due = schedule.next_after(at("2026-03-28T12:00:00Z")).unwrap();
    let reasons = schedule.reasons(due);
    assert!(matches!(&reasons[..], [Reason::Gap { .. }, Reason::Jitter(_)]), "{reasons:?}");
    assert_eq!(compile(&cron("@daily", Dialect::Unix, "UTC")).reasons(at("2026-01-01T00:00:00Z")), []);
}

#[test]
fn occurrences_that_are_too_close_are_found() {
    let schedule = compile(&cron("0,1 3 * * *", Dialect::Unix, "UTC"));
    let from = at("2026-01-01T00:00:00Z");
    assert_eq!(
        schedule.closer_than(Duration::from_secs(300), from, 10),
        Some((at("2026-01-01T03:00:00Z"), at("2026-01-01T03:01:00Z")))
    );
    assert_eq!(schedule.closer_than(Duration::from_secs(60), from, 10), None);
    // The rare rule meets the frequent one long after the sample's end.
    let spec =
        ScheduleSpec { cron: vec!["@hourly".into(), "59 23 30 6 *".into()], ..ScheduleSpec::default() };
    let meeting = Some((at("2026-06-30T23:59:00Z"), at("2026-07-01T00:00:00Z")));
    assert_eq!(compile(&spec).closer_than(Duration::from_secs(300), from, 10), meeting);
    let moved = ScheduleSpec { spread: Some(Duration::from_secs(3_600)), ..spec };
    assert!(compile(&moved).closer_than(Duration::from_secs(300), from, 10).is_some());
}

#[test]
fn the_tz_database_has_a_version() {
    assert_eq!(tzdata_version().len(), 5);
}
