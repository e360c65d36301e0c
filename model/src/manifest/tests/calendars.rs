//! Calendars and namespaces: what they say, what is refused, and what a job takes over from a calendar.

use std::time::Duration;

use super::*;
use crate::declared::Declared;
use crate::manifest::{Calendars, accept, calendars_named, decode_with, from_bytes, object_key, to_bytes};
use crate::spec::{Acceptance, JobSpec};

fn calendar(spec: Value) -> Value {
    json!({
        "apiVersion": "ecron/v1", "kind": "Calendar",
        "metadata": {"name": "holidays", "namespace": "billing"}, "spec": spec,
    })
}

fn namespace(spec: Value) -> Value {
    json!({"apiVersion": "ecron/v1", "kind": "Namespace", "metadata": {"name": "billing"}, "spec": spec})
}

fn noon_except(exclude: Value) -> Value {
    json!({
        "apiVersion": "ecron/v1", "kind": "Job", "metadata": {"name": "a", "namespace": "billing"},
        "spec": {"schedule": {"cron": "0 12 * * *", "exclude": exclude}},
    })
}

/// A job of `billing` beside the calendar `holidays`.
fn beside(exclude: Value, holidays: Value) -> Result<JobSpec, Vec<Problem>> {
    let calendars = Calendars::declared_in(&[Node::from_json(calendar(json!({"exclude": holidays})))]);
    match decode_with(&Node::from_json(noon_except(exclude)), now(), &calendars)? {
        Object::Job(job) => Ok(job),
        other => panic!("{other:?}"),
    }
}

#[test]
fn other_objects_are_read_or_refused_with_their_fields() {
    let date = json!(["2026-12-25"]);
    let changed = |mut document: Value, at: &str, value: Value| {
        *document.pointer_mut(at).unwrap() = value;
        document
    };
    for (document, field, words) in [
        (calendar(json!({})), "spec.exclude", "must be given"),
        (calendar(json!([])), "spec", "expected a map with exclude or dialect"),
        (calendar(json!({"exclude": ["xmas"]})), "spec.exclude[0]", "2026-12-25"),
        (calendar(json!({"exclude": ["2026-12-25", {"cron": "x"}]})), "spec.exclude[1]", "expected"),
        (calendar(json!({"exclude": [{"cron": "0 0 31 2 *"}]})), "spec.exclude[0]", "excludes nothing"),
        (calendar(json!({"exclude": [{"calendar": "b"}]})), "spec.exclude[0].calendar", "can't stand in"),
        (calendar(json!({"exclude": date, "dialect": "vixie"})), "spec.dialect", "dialect"),
        (calendar(json!({"exclude": date, "timeZone": "UTC"})), "spec.timeZone", "unknown field"),
        (calendar(json!({"exclude": vec![json!({"cron": "* ".repeat(400)}); 400]})), "spec.exclude[0]", ""),
        (
            changed(calendar(json!({"exclude": date})), "/metadata/name", json!("A")),
            "metadata.name",
            "only a-z",
        ),
        (namespace(json!({"minInterval": "10"})), "spec.minInterval", "unit"),
        (namespace(json!({"minInterval": "1ms"})), "spec.minInterval", "100ms"),
        (namespace(json!({"minInterval": "400d"})), "spec.minInterval", "MIN_INTERVAL_MAX"),
        (namespace(json!({"quota": 1})), "spec.quota", "unknown field"),
        (
            changed(namespace(json!({})), "/metadata", json!({"name": "a", "namespace": "b"})),
            "metadata.namespace",
            "",
        ),
    ] {
        let found = decode(&Node::from_json(document.clone()), now()).expect_err(&document.to_string());
        assert_eq!(found[0].field, field, "{found:#?}");
        assert!(found[0].message.contains(words), "{found:#?}");
    }
    let large: Vec<String> = vec!["2026-12-24T00:00:00Z/2026-12-24T00:00:01Z".into(); 9_000];
    let found = decode(&Node::from_json(calendar(json!({"exclude": large}))), now()).unwrap_err();
    assert!(found[0].message.contains("CALENDARS_BYTES_MAX"), "{found:?}");

    let read = |document| decode(&Node::from_json(document), now()).unwrap();
    let Object::Calendar(spec) = read(calendar(json!({"exclude": date, "dialect": "unix"}))) else {
        panic!()
    };
    assert_eq!((spec.id.to_string().as_str(), spec.calendar.exclude.len()), ("billing/holidays", 1));
    let Object::Namespace(spec) = read(namespace(json!({"minInterval": "10s"}))) else { panic!() };
    assert_eq!((spec.name.as_str(), spec.min_interval), ("billing", Some(Duration::from_secs(10))));
    let key = object_key(&Node::from_json(namespace(json!({})))).unwrap();
    assert_eq!(key.to_string(), "namespace billing");
    assert_eq!(object_key(&Node::from_json(noon_except(date))), None);
}

#[test]
fn a_job_takes_over_what_its_calendars_say() {
    let job = beside(json!(["2026-11-22", {"calendar": "holidays"}]), json!(["2026-11-23"])).unwrap();
    assert_eq!(job.calendars["holidays"].exclude, ["2026-11-23".parse().unwrap()]);
    let acceptance = Acceptance::new(now());
    let stored = to_bytes(&job, &acceptance);
    let envelope: Value = serde_json::from_slice(&stored).unwrap();
    assert_eq!(envelope["calendars"]["holidays"], json!({"exclude": ["2026-11-23"]}));
    assert_eq!(from_bytes(&stored, Timestamp::from_ms(0)).unwrap(), (job.clone(), acceptance.clone()));
    let declared = Declared::read(&stored, Timestamp::from_ms(0)).unwrap();
    assert_eq!(declared.schedule.next_after(now()).unwrap().to_string(), "2026-11-24T12:00:00Z");

    let mut moved = job.clone();
    moved.calendars.values_mut().for_each(|calendar| calendar.exclude.clear());
    let later: Timestamp = "2026-12-01T00:00:00Z".parse().unwrap();
    let anew = accept(&moved, Some((&job, &acceptance)), later);
    assert_eq!((anew.created_at, anew.schedule_since), (now(), later), "as after an edit of the schedule");
    assert_eq!(accept(&job, Some((&job, &acceptance)), later), acceptance);
}

#[test]
fn a_calendar_that_is_not_there_is_named_with_its_place() {
    let unknown = json!(["2026-12-25", {"calendar": "holidays"}, {"calendar": "easter"}]);
    let found = beside(unknown.clone(), json!([])).unwrap_err();
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0].field, "spec.schedule.exclude[2]");
    assert!(found[0].message.contains("calendar \"easter\" is unknown"), "{found:?}");
    // The only entry has its number too, and a refused one before it doesn't shift it.
    for (exclude, field) in [
        (json!([{"calendar": "easter"}]), "spec.schedule.exclude[0]"),
        (json!(["xmas", {"calendar": "easter"}]), "spec.schedule.exclude[1]"),
    ] {
        let found = beside(exclude, json!([])).unwrap_err();
        assert_eq!(found.last().unwrap().field, field, "{found:#?}");
    }
    // Calendars of other namespaces are none of its business.
    let mut elsewhere = noon_except(json!([{"calendar": "holidays"}]));
    elsewhere["metadata"]["namespace"] = json!("shipping");
    let calendars = Calendars::declared_in(&[Node::from_json(calendar(json!({"exclude": []})))]);
    assert!(decode_with(&Node::from_json(elsewhere), now(), &calendars).is_err());
    let document = Node::from_json(noon_except(unknown));
    assert!(decode_with(&document, now(), &Calendars::default().assuming_others()).is_ok());
    let named: Vec<String> = calendars_named(&document).iter().map(ToString::to_string).collect();
    assert_eq!(named, ["billing/holidays", "billing/easter"]);
}

#[test]
fn a_broken_calendar_is_told_once_and_one_that_leaves_nothing_with_the_job() {
    assert!(beside(json!([{"calendar": "holidays"}]), json!(["xmas"])).is_ok(), "told with the calendar");
    let found = beside(json!([{"calendar": "holidays"}]), json!([{"cron": "* 12 * * *"}])).unwrap_err();
    assert!(found[0].message.contains("never occurs"), "{found:?}");
}

#[test]
fn all_calendars_of_a_job_have_a_limit_together() {
    let dates: Vec<String> = vec!["2026-12-24T00:00:00Z/2026-12-24T00:00:01Z".into(); 4_000];
    let with = |name: &str| {
        let mut document = calendar(json!({"exclude": dates}));
        document["metadata"]["name"] = json!(name);
        Node::from_json(document)
    };
    let calendars = Calendars::declared_in(&[with("a"), with("b")]);
    let read = |exclude| decode_with(&Node::from_json(noon_except(exclude)), now(), &calendars);
    assert!(read(json!([{"calendar": "a"}])).is_ok());
    let found = read(json!([{"calendar": "a"}, {"calendar": "b"}])).unwrap_err();
    assert_eq!(found[0].field, "spec.schedule.exclude");
    assert!(found[0].message.contains("CALENDARS_BYTES_MAX"), "{found:?}");
}
