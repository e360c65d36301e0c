//! `decode(encode(job)) == job`, for jobs of every shape.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::codes::{CodeRange, CodeRanges};
use crate::declared::Declared;
use crate::gate::GateRules;
use crate::manifest::{Calendars, decode_with, encode, encode_object, from_bytes, to_bytes};
use crate::misfire::{CatchUp, CatchUpPolicy};
use crate::name::{CalendarId, JobId, Name, QueueId};
use crate::overlap::Overlap;
use crate::priority::Priority;
use crate::rate::Rate;
use crate::retry::RetryPolicy;
use crate::schedule::{Dialect, Exclusion, Fold, Gap, NamedCalendar, ScheduleSpec};
use crate::spec::{
    Acceptance, CalendarSpec, ExecSpec, HistoryLimits, HttpSpec, NamespaceSpec, QueueSpec, Senders, Work,
};

fn name() -> impl Strategy<Value = Name> {
    "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?".prop_map(|text| Name::new(&text).unwrap())
}

fn millis(range: std::ops::RangeInclusive<u64>) -> impl Strategy<Value = Duration> {
    range.prop_map(Duration::from_millis)
}

fn payload() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1e300f64..1e300).prop_map(Value::from),
        any::<f64>().prop_map(|float| serde_json::Number::from_f64(float).map_or(Value::Null, Value::Number)),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(any::<String>(), inner, 0..4).prop_map(|map| json!(map)),
        ]
    })
}

fn calendar() -> impl Strategy<Value = NamedCalendar> {
    let entry = prop_oneof![
        Just("2026-12-25".parse().unwrap()),
        Just("2026-12-24/2027-01-01".parse().unwrap()),
        Just("2026-12-29T22:30:00Z/2026-12-29T23:00:00.5Z".parse().unwrap()),
        Just(Exclusion::Cron("* * 1 1 *".into())),
    ];
    let dialect = option::of(prop_oneof![Just(Dialect::Unix), Just(Dialect::Ecron)]);
    (vec(entry, 0..4), dialect).prop_map(|(exclude, dialect)| NamedCalendar { exclude, dialect })
}

fn schedule() -> impl Strategy<Value = ScheduleSpec> {
    vec(one_schedule(), 1..4).prop_map(|all| ScheduleSpec::union(all).unwrap())
}

fn one_schedule() -> impl Strategy<Value = ScheduleSpec> {
    let cron = vec(prop_oneof![Just("30 2 * * 1-5"), Just("*/5 * * * *"), Just("@daily")], 0..3);
    let policies = (
        option::of(prop_oneof![Just(Dialect::Unix), Just(Dialect::Ecron)]),
        option::of(prop_oneof![Just(Gap::Skip), Just(Gap::Next), Just(Gap::Shift)]),
        option::of(prop_oneof![Just(Fold::First), Just(Fold::Second), Just(Fold::Both)]),
        option::of(Just("Europe/Berlin".to_owned())),
    );
    let instants = vec(1_900_000_000_000i64..4_000_000_000_000, 0..3);
    let bounds = (option::of(0i64..1_000_000_000_000), option::of(5_000_000_000_000i64..7_000_000_000_000));
    let moves =
        (option::of(millis(0..=86_400_000)), option::of(millis(0..=86_400_000)), option::of(20u64..500));
    let every = || millis(100..=300_000_000);
    (cron, option::of(every()), every(), policies, instants, bounds, moves, any::<bool>()).prop_map(
        |(cron, every, otherwise, (dialect, gap, fold, time_zone), at, (start, end), moves, excludes)| {
            let has_rule = !cron.is_empty() || every.is_some() || !at.is_empty();
            ScheduleSpec {
                cron: cron.into_iter().map(str::to_owned).collect(),
                every: every.or((!has_rule).then_some(otherwise)),
                at: at.into_iter().map(Timestamp::from_ms).collect(),
                after: None,
                dialect,
                time_zone,
                gap,
                fold,
                start: start.map(Timestamp::from_ms),
                end: end.map(Timestamp::from_ms),
                count: moves.2.filter(|_| start.is_none()),
                exclude: if excludes {
                    vec!["2026-12-25".parse().unwrap(), "2026-12-24/2027-01-01".parse().unwrap()]
                } else {
                    Vec::new()
                },
                jitter: moves.0,
                spread: moves.1,
                also: Vec::new(),
            }
        },
    )
}

fn texts(key: &'static str, value: &'static str) -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map(key, value, 0..4)
}

fn work() -> impl Strategy<Value = Work> {
    let filled = "[^\\x00]{1,20}";
    let command = prop_oneof![
        (filled, vec("[^\\x00]{0,9}", 0..3))
            .prop_map(|(program, words)| { (std::iter::once(program).chain(words).collect(), None) }),
        filled.prop_map(|line| (Vec::new(), Some(line))),
    ];
    let exec =
        (command, texts("[A-Z_]{1,9}", "[^\\x00]{0,9}"), option::of(any::<String>()), option::of(filled))
            .prop_map(|((command, shell), env, stdin, other)| ExecSpec {
                command,
                shell,
                env,
                stdin,
                working_dir: other.clone(),
                permanent_exit_codes: if other.is_some() { codes(&["2", "64-78"]) } else { codes(&[]) },
                user: other,
            });
    let http = (
        prop_oneof![Just("GET"), Just("POST")],
        texts("[A-Za-z-]{1,9}", "[!-~]{0,9}"),
        option::of(any::<String>()),
    )
        .prop_map(|(method, headers, body)| HttpSpec {
            method: method.into(),
            url: "https://example.org/x?y".into(),
            headers,
            permanent_statuses: body.is_some().then(|| codes(&["404", "500-503"])),
            body,
        });
    prop_oneof![payload().prop_map(Work::Payload), exec.prop_map(Work::Exec), http.prop_map(Work::Http)]
}

fn codes(texts: &[&str]) -> CodeRanges {
    CodeRanges(texts.iter().map(|text| CodeRange::parse(text, 0..=999).unwrap()).collect())
}

pub(super) fn jobs() -> impl Strategy<Value = JobSpec> {
    let rules = (
        (1u32..=100, 0u64..=1000, 1.0f64..=100.0, 1000u64..=86_400_000, 0.0f64..=1.0),
        (0usize..3, millis(0..=31_622_400_000), 1u32..=10_000),
        (option::of(millis(1..=31_622_400_000)), millis(1..=604_800_000), any::<bool>()),
        (0u32..=1000, 0u32..=1000, 0u32..=1000),
    );
    let names = (name(), name(), name());
    let labels = texts("[!-~]{1,20}", "[^\\p{Cc}]{0,20}");
    let headers = texts("x-[a-z]{1,9}", "[!-~]{0,20}");
    let named = btree_map(name(), calendar(), 0..3);
    let schedule = (schedule(), named).prop_map(|(mut schedule, calendars)| {
        schedule.exclude.extend(calendars.keys().map(|name| Exclusion::Calendar(name.to_string())));
        (schedule, calendars)
    });
    (names, labels, schedule, work(), headers, rules).prop_map(
        |(
            (namespace, name, queue),
            labels,
            (schedule, calendars),
            work,
            headers,
            (retry, catch_up, times, history),
        )| {
            JobSpec {
                id: JobId { namespace: namespace.clone(), name },
                labels,
                schedule,
                calendars,
                queue: QueueId { namespace, name: queue },
                work,
                headers,
                catch_up: CatchUp {
                    policy: [CatchUpPolicy::None, CatchUpPolicy::Latest, CatchUpPolicy::All][catch_up.0],
                    window: catch_up.1,
                    max: catch_up.2,
                    rate: None,
                },
                overlap: [
                    Overlap::Allow,
                    Overlap::Skip,
                    Overlap::QueueOne,
                    Overlap::QueueAll,
                    Overlap::Replace,
                ][history.0 as usize % 5],
                max_active: [None, Some(1), Some(1_000)][history.1 as usize % 3],
                deadline: Some(times.1),
                priority: Priority::ALL[history.2 as usize % 3],
                rate_key: [None, Some("customer-7".into())][history.0 as usize % 2].clone(),
                starting_deadline: times.0,
                timeout: times.1,
                retry: RetryPolicy {
                    attempts: retry.0,
                    initial: Duration::from_millis(retry.1),
                    factor: retry.2,
                    max: Duration::from_millis(retry.3),
                    jitter: retry.4,
                },
                suspend: times.2,
                history: HistoryLimits { succeeded: history.0, failed: history.1, skipped: history.2 },
                delete_when_done: false,
            }
        },
    )
}

proptest! {
    #[test]
    fn a_manifest_says_the_whole_job(job in jobs()) {
        let mut calendars = Calendars::default();
        for (name, calendar) in &job.calendars {
            calendars.insert(CalendarId { namespace: job.id.namespace.clone(), name: name.clone() }, calendar.clone());
        }
        let read = decode_with(&Node::from_json(encode(&job)), now(), &calendars)
            .map_err(|problems| TestCaseError::fail(format!("{problems:#?}")))?;
        prop_assert_eq!(read, Object::Job(job));
    }

    #[test]
    fn a_manifest_says_the_whole_calendar_and_namespace(
        calendar in calendar(), namespace in name(), name in name(), least in option::of(millis(100..=31_622_400_000)),
        paused: bool,
    ) {
        let id = CalendarId { namespace: namespace.clone(), name };
        for object in [
            Object::Calendar(CalendarSpec { id, calendar }),
            Object::Namespace(NamespaceSpec { name: namespace, min_interval: least, paused }),
        ] {
            let read = decode(&Node::from_json(encode_object(&object)), now())
                .map_err(|problems| TestCaseError::fail(format!("{problems:#?}")))?;
            prop_assert_eq!(read, object);
        }
    }

    #[test]
    fn a_manifest_says_the_whole_queue(
        namespace in name(), queue in name(), limits in (option::of(1u32..100_000), option::of(1u32..1_000), option::of(1u32..50)),
        per in millis(1..=31_622_400_000), paused: bool, shares in btree_map(name(), 1u32..1_000, 0..4),
        from in option::of(proptest::collection::btree_set(name(), 0..4)),
    ) {
        let (concurrency, rate, key_rate) = limits;
        let of = |limit: u32| Rate { limit, per, burst: limit.min(7) };
        let object = Object::Queue(QueueSpec {
            id: QueueId { namespace, name: queue },
            rules: GateRules {
                concurrency, rate: rate.map(of), key_rate: key_rate.map(of), paused, shares,
            },
            from: from.map_or(Senders::Any, Senders::Named),
        });
        let read = decode(&Node::from_json(encode_object(&object)), now())
            .map_err(|problems| TestCaseError::fail(format!("{problems:#?}")))?;
        prop_assert_eq!(read, object);
    }

    #[test]
    fn the_stored_form_says_the_whole_job(
        job in jobs(), bytes in option::of(vec(any::<u8>(), 0..50)), delete_when_done: bool, since in 0i64..1000,
        namespace_paused: bool, resumed: bool, edits in 0..3i64,
    ) {
        let job = JobSpec { work: bytes.map_or(job.work, Work::Bytes), delete_when_done, ..job };
        let acceptance = Acceptance { schedule_since: now().plus_ms(since), ..Acceptance::new(now()) };
        let edited = (0..edits).fold(acceptance, |acceptance, n| acceptance.counting_anew(&job, now().plus_ms(n * 900)));
        let paused = edited.in_namespace(namespace_paused, job.suspend, now());
        let acceptance = if resumed && !job.suspend { paused.in_namespace(false, false, now()) } else { paused };
        // A calendar may leave out all that a schedule names: nobody could have declared that.
        prop_assume!(Declared::of(job.clone(), acceptance.clone()).is_ok());
        let read = from_bytes(&to_bytes(&job, &acceptance), Timestamp::from_ms(0))
            .map_err(|problems| TestCaseError::fail(format!("{problems:#?}")))?;
        prop_assert_eq!(read, (job, acceptance));
    }

    /// Deferred work comes from any NATS client, whose headers and policy no manifest has judged.
    #[test]
    fn work_that_was_deferred_stays_readable(
        job in jobs(), headers in btree_map(any::<String>(), any::<String>(), 0..40),
        at in 0i64..7_000_000_000_000, delays in (0u64..86_400_000, 0u64..86_400_000), bytes in vec(any::<u8>(), 0..50),
    ) {
        let at = Timestamp::from_ms(at);
        let job = JobSpec {
            labels: BTreeMap::new(),
            calendars: BTreeMap::new(),
            schedule: ScheduleSpec { at: vec![at], ..ScheduleSpec::default() },
            work: Work::Bytes(bytes),
            headers,
            retry: RetryPolicy {
                initial: Duration::from_millis(delays.0),
                max: Duration::from_millis(delays.1),
                ..job.retry
            },
            delete_when_done: true,
            ..job
        };
        let acceptance = Acceptance::new(at).in_namespace(false, job.suspend, at);
        let read = from_bytes(&to_bytes(&job, &acceptance), Timestamp::from_ms(0))
            .map_err(|problems| TestCaseError::fail(format!("{problems:#?}")))?;
        prop_assert_eq!(read, (job, acceptance));
    }
}
