//! Queues through the API, over the memory twins.
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
    World { api: Api::new(store, bus, clock, ShardCount::new(4).unwrap()) }
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

    async fn queue(&self, name: &str) -> Value {
        self.ask("object", json!({"kind": "Queue", "name": name})).await.unwrap()
    }
}

fn queue(spec: Value) -> Value {
    json!({
        "apiVersion": "ecron/v1", "kind": "Queue",
        "metadata": {"name": "reports", "namespace": "billing"}, "spec": spec,
    })
}

fn job(name: &str, queue: &str) -> Value {
    let (namespace, name) = name.split_once('/').unwrap();
    json!({
        "apiVersion": "ecron/v1", "kind": "Job", "metadata": {"name": name, "namespace": namespace},
        "spec": {"schedule": {"every": "1h"}, "queue": queue},
    })
}

#[tokio::test]
async fn another_namespaces_queue_takes_only_whom_it_names() {
    let world = world();
    let refused = world.apply(&[job("ops/a", "billing/reports")]).await.unwrap_err();
    assert_eq!(refused["problems"][0]["field"], "spec.queue", "{refused}");
    assert!(
        refused["problems"][0]["message"].as_str().unwrap().contains("no queue billing/reports"),
        "{refused}"
    );

    world.apply(&[queue(json!({"from": ["web"]}))]).await.unwrap();
    let refused = world.apply(&[job("ops/a", "billing/reports")]).await.unwrap_err();
    assert!(refused.to_string().contains("doesn't take jobs of namespace ops"), "{refused}");

    // In the same input, before or behind.
    world.apply(&[job("ops/a", "billing/reports"), queue(json!({"from": ["web", "ops"]}))]).await.unwrap();
    world.apply(&[job("billing/own", "reports"), job("billing/long", "billing/reports")]).await.unwrap();
    let view = world.queue("billing/reports").await;
    assert_eq!(view["jobs"], json!(["billing/long", "billing/own", "ops/a"]));
    let shown = world.ask("get", json!({"job": "billing/long"})).await.unwrap();
    assert_eq!(shown["manifest"]["spec"]["queue"], "reports");
    let shown = world.ask("get", json!({"job": "ops/a"})).await.unwrap();
    assert_eq!(shown["manifest"]["spec"]["queue"], "billing/reports");

    // Who is there can't be turned away, nor left without the queue.
    let refused = world.apply(&[queue(json!({"from": ["web"]}))]).await.unwrap_err();
    assert!(
        refused.to_string().contains("no longer takes jobs that are there: 1 job names it: ops/a"),
        "{refused}"
    );
    let which = json!({"kind": "Queue", "name": "billing/reports"});
    let refused = world.ask("delete-object", which.clone()).await.unwrap_err();
    assert!(refused.to_string().contains("ops/a"), "{refused}");
    world.ask("delete", json!({"job": "ops/a"})).await.unwrap();
    world.ask("delete-object", which).await.unwrap();
}

#[tokio::test]
async fn a_queue_is_paused_and_resumed_and_keeps_its_rules() {
    let world = world();
    let which = json!({"queue": "billing/reports", "by": "ann@desk"});
    assert_eq!(world.ask("resume-queue", which.clone()).await.unwrap_err()["kind"], "not-found");
    world.apply(&[queue(json!({"concurrency": 8, "rate": "100/1m burst 10"}))]).await.unwrap();
    let paused = world.ask("pause-queue", which.clone()).await.unwrap();
    assert_eq!((&paused["paused"], &paused["changed"]), (&json!(true), &json!(true)));
    let again = world.ask("pause-queue", which.clone()).await.unwrap();
    assert_eq!((&again["revision"], &again["changed"]), (&paused["revision"], &json!(false)));
    assert_eq!(
        world.queue("billing/reports").await["summary"],
        "concurrency 8, rate 100/1m burst 10, paused"
    );
    world.ask("resume-queue", which).await.unwrap();
    assert_eq!(world.queue("billing/reports").await["summary"], "concurrency 8, rate 100/1m burst 10");
    // One without rules gets some.
    world.ask("pause-queue", json!({"queue": "billing/other"})).await.unwrap();
    assert_eq!(world.queue("billing/other").await["summary"], "paused");
    assert!(world.ask("pause-queue", json!({"queue": "other"})).await.is_err());
}

#[tokio::test]
async fn queues_are_listed_like_other_objects() {
    let world = world();
    world.apply(&[queue(json!({"keyRate": "5/s"}))]).await.unwrap();
    let listed = world.ask("objects", json!({"kind": "Queue", "namespace": "billing"})).await.unwrap();
    assert_eq!(listed["objects"][0]["name"], "billing/reports");
    assert_eq!(listed["objects"][0]["summary"], "keyRate 5/1s");
    let unchanged = world.apply(&[queue(json!({"keyRate": "5/1s"}))]).await.unwrap();
    assert_eq!(unchanged["objects"][0]["action"], "unchanged");
}
