//! The stored form, and what a new version of a job keeps from the old one.

use super::*;
use crate::manifest::{Calendars, accept, admit, from_bytes, to_bytes};
use crate::pause::Pause;
use crate::spec::{Acceptance, Work};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn accepted(created: &str, since: &str) -> Acceptance {
    Acceptance { schedule_since: at(since), ..Acceptance::new(at(created)) }
}

#[test]
fn the_envelope_reads_as_documented() {
    let mut job = job(json!({"exec": {"shell": "true"}}));
    let acceptance = accepted("2026-11-22T06:45:00Z", "2026-11-23T00:00:00Z");
    let stored: Value = serde_json::from_slice(&to_bytes(&job, &acceptance)).unwrap();
    assert_eq!(stored["v"], 1);
    assert_eq!(stored["createdAt"], "2026-11-22T06:45:00Z");
    assert_eq!(stored["scheduleSince"], "2026-11-23T00:00:00Z");
    assert_eq!(stored["manifest"]["spec"]["exec"]["shell"], "true");
    assert!(stored.get("deleteWhenDone").is_none() && stored.get("payloadBase64").is_none());
    job.delete_when_done = true;
    job.work = Work::Bytes(vec![0, 255]);
    let stored: Value = serde_json::from_slice(&to_bytes(&job, &acceptance)).unwrap();
    assert_eq!((&stored["deleteWhenDone"], &stored["payloadBase64"]), (&json!(true), &json!("AP8=")));
}

#[test]
fn a_bare_manifest_counts_from_when_it_was_written() {
    let written = at("2026-12-01T00:00:00Z");
    let text = document(json!({})).to_string();
    let (job, acceptance) = from_bytes(text.as_bytes(), written).unwrap();
    assert_eq!(job.id.to_string(), "default/a");
    assert_eq!(acceptance, Acceptance::new(written));
}

#[test]
fn a_stored_job_whose_only_instant_has_passed_is_still_read() {
    let once = job(json!({"schedule": {"at": "2026-11-22T07:00:00Z"}}));
    let acceptance = Acceptance::new(now());
    assert!(from_bytes(&to_bytes(&once, &acceptance), at("2027-01-01T00:00:00Z")).is_ok());
}

#[test]
fn what_is_no_stored_job_is_problems() {
    let manifest = document(json!({}));
    let calendar = json!({"apiVersion": "ecron/v1", "kind": "Calendar", "metadata": {"name": "a"}, "spec": {"exclude": []}});
    let instant = "2026-11-22T06:45:00Z";
    let whole = |change: Value| {
        let mut envelope =
            json!({"v": 1, "createdAt": instant, "scheduleSince": instant, "manifest": manifest});
        envelope.as_object_mut().unwrap().append(change.clone().as_object_mut().unwrap());
        envelope.to_string()
    };
    for (text, words) in [
        (String::new(), "is not JSON"),
        ("null".into(), "expected a map"),
        ("{}".into(), "apiVersion: must be given"),
        (whole(json!({"v": 2})), "v: is 2; this version knows only 1"),
        (whole(json!({"v": "1"})), "v: expected an integer"),
        (whole(json!({"extra": 1})), "extra: unknown field"),
        (whole(json!({"createdAt": "then"})), "createdAt: "),
        (whole(json!({"scheduleSince": null})), "scheduleSince: must be given"),
        (whole(json!({"payloadBase64": "*"})), "payloadBase64: is not Base64"),
        (whole(json!({"deleteWhenDone": 1})), "deleteWhenDone: expected true or false"),
        (whole(json!({"calendars": []})), "calendars: expected a map"),
        (whole(json!({"calendars": {"A": {"exclude": []}}})), "calendars.A: its name"),
        (whole(json!({"calendars": {"a": {"exclude": ["x"]}}})), "calendars.a.exclude[0]: "),
        (whole(json!({"manifest": calendar})), "kind: must be Job here"),
        (whole(json!({"manifest": null})), "manifest: must be given"),
        (whole(json!({"manifest": {"kind": "Job"}})), "apiVersion: must be given"),
        (" ".repeat(2_000_000), "MANIFEST_BYTES_MAX"),
    ] {
        let problems = from_bytes(text.as_bytes(), now()).unwrap_err();
        let found = problems[0].to_string();
        assert!(found.contains(words), "{words}: {problems:?}");
    }
}

#[test]
fn only_a_new_schedule_counts_anew() {
    let later = at("2026-12-24T00:00:00Z");
    let before = accepted("2026-11-22T06:45:00Z", "2026-11-23T00:00:00Z");
    let running = job(json!({}));
    let suspended = job(json!({"suspend": true}));
    let edited = job(json!({"timeout": "1h", "retry": {"attempts": 9}}));
    let moved = job(json!({"schedule": {"every": "16s"}}));
    for (new, old, anew) in [
        (&running, &running, false),
        (&edited, &running, false),
        (&suspended, &running, false),
        (&suspended, &suspended, false),
        (&running, &suspended, false),
        (&moved, &running, true),
    ] {
        let after = accept(new, Some((old, &before)), later);
        assert_eq!(after.created_at, before.created_at);
        assert_eq!(after.schedule_since, if anew { later } else { before.schedule_since });
    }
    assert_eq!(accept(&running, None, later), Acceptance::new(later));
}

#[test]
fn acceptance_remembers_when_a_job_was_paused_and_resumed() {
    let [t1, t2, t3] = [1, 2, 3].map(|hours| now().plus_ms(hours * 3_600_000));
    let (running, suspended) = (job(json!({})), job(json!({"suspend": true})));
    let born = accept(&suspended, None, now());
    assert_eq!(born.paused_since(), Some(now()), "a job may be born paused");
    let fresh = accept(&running, None, now());
    let paused = accept(&suspended, Some((&running, &fresh)), t1);
    assert_eq!(paused.paused_since(), Some(t1));
    assert_eq!(accept(&suspended, Some((&suspended, &paused)), t2), paused, "an edit leaves the pause");
    let resumed = accept(&running, Some((&suspended, &paused)), t3);
    assert_eq!(resumed.pause, Some(Pause { since: t1, until: Some(t3) }));
    let own = paused.in_namespace(true, true, t2);
    let held = accept(&running, Some((&suspended, &own)), t3);
    assert_eq!(held.paused_since(), Some(t1), "its namespace still holds it");
}

#[test]
fn a_spec_that_another_tool_paused_is_paused_since_it_counts() {
    let mut envelope: Value =
        serde_json::from_slice(&to_bytes(&job(json!({})), &Acceptance::new(now()))).unwrap();
    envelope["manifest"]["spec"]["suspend"] = json!(true);
    let (_, acceptance) = from_bytes(envelope.to_string().as_bytes(), Timestamp::from_ms(0)).unwrap();
    assert_eq!(acceptance.paused_since(), Some(now()));
}

#[test]
fn a_one_shot_that_has_run_may_be_applied_again_but_not_moved_into_the_past() {
    let once = |instant: &str| Node::from_json(document(json!({"schedule": {"at": instant}})));
    let document = once("2026-11-22T07:00:00Z");
    let (job, acceptance) = admit(&document, None, now(), &Calendars::default()).unwrap();
    let later = at("2027-01-01T00:00:00Z");
    assert_eq!(
        admit(&document, None, later, &Calendars::default()).unwrap_err()[0].field,
        "spec.schedule.at"
    );
    assert_eq!(
        admit(&document, Some((&job, &acceptance)), later, &Calendars::default()).unwrap().1,
        acceptance
    );
    let moved = once("2026-11-22T08:00:00Z");
    assert_eq!(
        admit(&moved, Some((&job, &acceptance)), later, &Calendars::default()).unwrap_err()[0].field,
        "spec.schedule.at"
    );
    let ahead = once("2027-02-01T00:00:00Z");
    assert_eq!(
        admit(&ahead, Some((&job, &acceptance)), later, &Calendars::default()).unwrap().1.schedule_since,
        later
    );
}

#[test]
fn a_manifest_at_the_limit_is_readable_once_stored() {
    use crate::limits::{MANIFEST_BYTES_MAX, PAYLOAD_BYTES_MAX};
    let instants: Vec<String> =
        (0..7_000).map(|n| Timestamp::from_ms(1_900_000_000_000 + n * 60_000).to_string()).collect();
    let payload = "x".repeat(PAYLOAD_BYTES_MAX - 2);
    let with = |dates: usize| {
        let exclude = vec!["2026-12-25"; dates];
        document(json!({"schedule": {"at": instants, "exclude": exclude}, "payload": payload}))
    };
    let room = MANIFEST_BYTES_MAX - Node::from_json(with(0)).text_bytes();
    let dates = room / "\"2026-12-25\",".len();
    assert!(decoded(with(dates + 1)).is_err());
    let job = decoded(with(dates)).unwrap();
    let stored = to_bytes(&job, &Acceptance::new(now()));
    assert!(stored.len() > MANIFEST_BYTES_MAX, "the defaults come on top");
    assert_eq!(from_bytes(&stored, now()).unwrap().0, job);
}
