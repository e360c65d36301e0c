//! Calendars and namespaces through the API, over the memory twins.
#![allow(clippy::unwrap_used, reason = "a test that can't be set up fails")]

use std::sync::Arc;
use std::time::Duration;

use ambient::Clock;
use bus::memory::MemoryBus;
use ecron_planner::api::Api;
use model::shard::ShardCount;
use serde_json::{Value, json};
use store::memory::MemoryStore;

struct World {
    clock: Clock,
    bus: Arc<MemoryBus>,
    api: Api<MemoryStore, MemoryBus>,
}

fn world() -> World {
    let clock = Clock::manual("2026-11-22T06:45:00Z".parse().unwrap());
    let reading = || {
        let clock = clock.clone();
        Arc::new(move || clock.now())
    };
    let bus = Arc::new(MemoryBus::new(reading(), Duration::from_secs(30)));
    let store = Arc::new(MemoryStore::new(reading()));
    let api = Api::new(store, Arc::clone(&bus), clock.clone(), ShardCount::new(4).unwrap());
    World { clock, bus, api }
}

impl World {
    async fn ask(&self, verb: &str, request: Value) -> Result<Value, Value> {
        let answer = self.api.answer(verb, request.to_string().as_bytes()).await;
        let mut answer: Value = serde_json::from_slice(&answer).unwrap();
        match answer.get("error") {
            Some(error) => Err(error.clone()),
            None => Ok(answer["ok"].take()),
        }
    }

    async fn apply(&self, manifests: &[Value]) -> Result<Value, Value> {
        self.ask("apply", json!({"manifests": manifests})).await
    }

    async fn status(&self, job: &str) -> Value {
        self.ask("get", json!({"job": job})).await.unwrap()["status"].clone()
    }

    async fn next_due(&self, job: &str) -> String {
        self.status(job).await["nextDueAt"].as_str().unwrap_or_default().to_owned()
    }
}

fn calendar(name: &str, exclude: Value) -> Value {
    json!({
        "apiVersion": "ecron/v1", "kind": "Calendar",
        "metadata": {"name": name, "namespace": "billing"}, "spec": {"exclude": exclude},
    })
}

fn job(name: &str, schedule: Value) -> Value {
    json!({
        "apiVersion": "ecron/v1", "kind": "Job", "metadata": {"name": name, "namespace": "billing"},
        "spec": {"schedule": schedule},
    })
}

/// At noon, except on holidays.
fn noon(name: &str) -> Value {
    job(name, json!({"cron": "0 12 * * *", "exclude": [{"calendar": "holidays"}]}))
}

fn namespace(least: &str) -> Value {
    json!({
        "apiVersion": "ecron/v1", "kind": "Namespace", "metadata": {"name": "billing"},
        "spec": {"minInterval": least},
    })
}

#[tokio::test]
async fn a_changed_calendar_moves_every_job_that_names_it() {
    let world = world();
    // Any order; the other job has nothing to do with it.
    let other = job("other", json!({"cron": "0 12 * * *"}));
    let first = [noon("a"), calendar("holidays", json!(["2026-11-22"])), noon("b"), other];
    let reply = world.apply(&first).await.unwrap();
    assert_eq!(reply["objects"][0]["action"], "created");
    assert_eq!(reply["objects"][0].get("updated"), None, "the jobs of the input were written with it");
    assert_eq!(world.next_due("billing/a").await, "2026-11-23T12:00:00Z");
    let before = world.status("billing/other").await["revision"].clone();

    world.clock.advance(Duration::from_secs(60));
    let reply = world.apply(&[calendar("holidays", json!(["2026-11-22/2026-11-24"]))]).await.unwrap();
    assert_eq!(reply["objects"][0]["action"], "configured");
    let updated: Vec<&str> = reply["objects"][0]["updated"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| job["job"].as_str().unwrap())
        .collect();
    assert_eq!(updated, ["billing/a", "billing/b"]);
    for name in ["billing/a", "billing/b"] {
        let status = world.status(name).await;
        assert_eq!(status["nextDueAt"], "2026-11-25T12:00:00Z");
        assert_eq!(status["createdAt"], "2026-11-22T06:45:00Z");
    }
    assert_eq!(world.status("billing/other").await["revision"], before);
    // Again: nothing to do. A job that is applied again is unchanged too.
    let reply =
        world.apply(&[calendar("holidays", json!(["2026-11-22/2026-11-24"])), noon("a")]).await.unwrap();
    assert_eq!(reply["objects"][0]["action"], "unchanged");
    assert_eq!(reply["objects"][0].get("updated"), None);
    assert_eq!(reply["jobs"][0]["action"], "unchanged");
}

#[tokio::test]
async fn applying_a_calendar_again_finishes_what_a_crash_left() {
    use bus::ObjectStore;
    let world = world();
    world.apply(&[calendar("holidays", json!(["2026-11-22"])), noon("a")]).await.unwrap();
    // Whoever changed the calendar died before its jobs were written.
    let changed = calendar("holidays", json!(["2026-11-23"]));
    let key = model::object::ObjectKey::Calendar("billing/holidays".parse().unwrap());
    let stored = world.bus.object(&key).await.unwrap().unwrap();
    world.bus.put_object(&key, Some(stored.revision), changed.to_string().into()).await.unwrap();
    assert_eq!(world.next_due("billing/a").await, "2026-11-23T12:00:00Z", "a revision means what it meant");
    let reply = world.apply(&[changed]).await.unwrap();
    assert_eq!(reply["objects"][0]["action"], "unchanged");
    assert_eq!(reply["objects"][0]["updated"][0]["job"], "billing/a");
    assert_eq!(world.next_due("billing/a").await, "2026-11-22T12:00:00Z");
}

#[tokio::test]
async fn an_unknown_calendar_is_refused_and_nothing_is_written() {
    let world = world();
    let error = world.apply(&[calendar("other", json!([])), noon("a")]).await.unwrap_err();
    assert_eq!(error["kind"], "refused");
    assert_eq!(error["problems"][0]["object"], 1);
    assert_eq!(error["problems"][0]["field"], "spec.schedule.exclude[0]");
    let words = error["problems"][0]["message"].as_str().unwrap();
    assert!(words.contains("calendar \"holidays\" is unknown"), "{words}");
    let listed = world.ask("objects", json!({"kind": "Calendar"})).await.unwrap();
    assert_eq!(listed["objects"], json!([]));
    assert!(world.ask("get", json!({"job": "billing/a"})).await.is_err());
    let dry = json!({"manifests": [calendar("holidays", json!([])), noon("a")], "dryRun": true});
    let reply = world.ask("apply", dry).await.unwrap();
    assert_eq!(
        (&reply["jobs"][0]["job"], &reply["objects"][0]["name"]),
        (&json!("billing/a"), &json!("billing/holidays"))
    );
    assert!(world.ask("object", json!({"kind": "Calendar", "name": "billing/holidays"})).await.is_err());
}

#[tokio::test]
async fn a_calendar_that_would_leave_a_job_nothing_is_refused() {
    let world = world();
    world.apply(&[calendar("holidays", json!([])), noon("a")]).await.unwrap();
    let error = world.apply(&[calendar("holidays", json!([{"cron": "* 12 * * *"}]))]).await.unwrap_err();
    assert_eq!(error["problems"][0]["field"], "spec.exclude");
    let words = error["problems"][0]["message"].as_str().unwrap();
    assert!(words.contains("job billing/a names it") && words.contains("never occurs"), "{words}");
    assert_eq!(world.next_due("billing/a").await, "2026-11-22T12:00:00Z");
}

#[tokio::test]
async fn a_calendar_is_deleted_only_when_no_job_names_it() {
    let world = world();
    world.apply(&[calendar("holidays", json!(["2026-11-22"])), noon("a"), noon("b")]).await.unwrap();
    let which = json!({"kind": "Calendar", "name": "billing/holidays"});
    let view = world.ask("object", which.clone()).await.unwrap();
    assert_eq!(view["jobs"], json!(["billing/a", "billing/b"]));
    assert_eq!(view["manifest"]["spec"], json!({"exclude": ["2026-11-22"]}));
    assert_eq!(view["summary"], "1 entry");
    let error = world.ask("delete-object", which.clone()).await.unwrap_err();
    assert_eq!(error["kind"], "refused");
    assert_eq!(error["message"], "delete calendar billing/holidays: 2 jobs name it: billing/a, billing/b");
    world.ask("delete", json!({"job": "billing/a"})).await.unwrap();
    world.apply(&[job("b", json!({"every": "1h"}))]).await.unwrap();
    world.ask("delete-object", which.clone()).await.unwrap();
    assert_eq!(world.ask("delete-object", which).await.unwrap_err()["kind"], "not-found");
}

#[tokio::test]
async fn a_schedule_beyond_the_quota_is_refused_and_jobs_that_are_there_are_left_alone() {
    let world = world();
    let fast = || job("fast", json!({"every": "5s"}));
    world.apply(&[fast()]).await.unwrap();
    let reply = world.apply(&[namespace("10s")]).await.unwrap();
    let note = reply["objects"][0]["note"].as_str().unwrap();
    assert!(note.contains("keep their schedules"), "{note}");
    let error = world.apply(&[job("new", json!({"every": "9s"}))]).await.unwrap_err();
    assert_eq!(error["problems"][0]["field"], "spec.schedule");
    let words = error["problems"][0]["message"].as_str().unwrap();
    assert!(words.contains("9s apart") && words.contains("no less than 10s"), "{words}");
    // What is there may be applied again, and edited otherwise, but not sped up.
    world.apply(&[fast()]).await.unwrap();
    let mut edited = fast();
    edited["spec"]["timeout"] = json!("1m");
    world.apply(&[edited]).await.unwrap();
    assert!(world.apply(&[job("fast", json!({"every": "4s"}))]).await.is_err());
    world.apply(&[job("fast", json!({"every": "10s"}))]).await.unwrap();
    // The namespace of the same input counts; without a quota anything goes.
    assert!(world.apply(&[job("new", json!({"every": "30s"})), namespace("1m")]).await.is_err());
    let listed = world.ask("objects", json!({"kind": "Namespace"})).await.unwrap();
    assert_eq!(
        (&listed["objects"][0]["name"], &listed["objects"][0]["summary"]),
        (&json!("billing"), &json!("minInterval 10s"))
    );
    world.ask("delete-object", json!({"kind": "Namespace", "name": "billing"})).await.unwrap();
    world.apply(&[job("new", json!({"every": "1s"}))]).await.unwrap();
}
