//! `submit` through the API, over the memory twins.
#![allow(clippy::unwrap_used, reason = "a test that can't be set up fails")]

use std::sync::Arc;
use std::time::Duration;

use ambient::Clock;
use bus::checkpoints::Cluster;
use bus::memory::MemoryBus;
use bus::queue::Delivery;
use bus::{Checkpoints, QueueReader, SpecStore};
use ecron_planner::api::Api;
use futures_util::StreamExt as _;
use model::id::RunId;
use model::shard::ShardCount;
use model::unique::{Freed, UniqueKey};
use serde_json::{Value, json};
use store::AdHocStore;
use store::memory::MemoryStore;

struct World {
    clock: Clock,
    bus: Arc<MemoryBus>,
    store: Arc<MemoryStore>,
    shards: ShardCount,
    api: Api<MemoryStore, MemoryBus>,
}

async fn world() -> World {
    let clock = Clock::manual("2026-11-22T06:45:00Z".parse().unwrap());
    let reading = || {
        let clock = clock.clone();
        Arc::new(move || clock.now())
    };
    let bus = Arc::new(MemoryBus::new(reading(), Duration::from_secs(30)));
    let store = Arc::new(MemoryStore::new(reading()));
    let shards = ShardCount::new(4).unwrap();
    let cluster = Cluster { id: "c".into(), shards, message_id_key: [7; 16], created_at: clock.now() };
    bus.init_cluster(&cluster).await.unwrap();
    let api = Api::new(Arc::clone(&store), Arc::clone(&bus), clock.clone(), shards);
    World { clock, bus, store, shards, api }
}

impl World {
    async fn submit(&self, request: Value) -> Result<(String, bool), String> {
        let answer = self.api.answer("submit", request.to_string().as_bytes()).await;
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        match answer.get("error") {
            Some(error) => {
                Err(format!("{}: {}", error["kind"].as_str().unwrap(), error["message"].as_str().unwrap()))
            }
            None => {
                let reply = &answer["ok"];
                Ok((reply["run"].as_str().unwrap().to_owned(), reply["duplicate"].as_bool().unwrap()))
            }
        }
    }

    /// The run ids and payloads that wait in a queue.
    async fn queued(&self, queue: &str) -> Vec<(String, String)> {
        let batch = self.bus.fetch(&queue.parse().unwrap(), 10, Duration::ZERO).await.unwrap();
        let said = |delivery: &_| {
            let order = Delivery::order(delivery).as_ref().unwrap();
            (order.run_id.to_string(), String::from_utf8(Delivery::payload(delivery).to_vec()).unwrap())
        };
        batch.iter().map(said).collect()
    }

    async fn free(&self, run: &str, freed: Freed) {
        let run_id: RunId = run.parse().unwrap();
        let key = UniqueKey::of(&run_id).unwrap();
        self.store.free_key(self.shards.shard_of_key(&key), &key, &run_id, freed).await.unwrap();
    }
}

fn unique(until: &str) -> Value {
    json!({"queue": "billing/reports", "key": "order-17", "payload": {"n": 1}, "unique": {"until": until}})
}

#[tokio::test]
async fn work_is_in_its_queue_when_the_answer_comes() {
    let world = world().await;
    let request = json!({"queue": "billing/reports", "key": "order-17", "payload": {"region": "eu"},
        "headers": {"X-Trace": "1"}, "timeout": "5s", "retry": "attempts=7"});
    let run = "billing/reports~order-17".to_owned();
    assert_eq!(world.submit(request.clone()).await, Ok((run.clone(), false)));
    assert_eq!(world.submit(request).await, Ok((run.clone(), true)), "the same key again");
    let delivery = world.bus.fetch(&"billing/reports".parse().unwrap(), 10, Duration::ZERO).await.unwrap();
    let [delivery] = delivery.as_slice() else { panic!("{delivery:?}") };
    let order = delivery.order().as_ref().unwrap();
    assert_eq!(
        (order.timeout, order.retry.attempts, order.headers["X-Trace"].as_str()),
        (Duration::from_secs(5), 7, "1")
    );
    assert_eq!(delivery.payload().as_ref(), br#"{"region":"eu"}"#);

    let bytes = json!({"queue": "billing/reports", "payloadBase64": "AP8="});
    let (first, second) = (world.submit(bytes.clone()).await.unwrap(), world.submit(bytes).await.unwrap());
    assert!(!first.1 && !second.1 && first.0 != second.0, "without a key each is a run of its own");
}

#[tokio::test]
async fn the_second_submission_of_unique_work_is_told_the_firsts_run() {
    let world = world().await;
    let (run, duplicate) = world.submit(unique("done")).await.unwrap();
    assert_eq!((run.as_str(), duplicate), ("billing/reports~order-17+q1795329900000", false));
    world.clock.advance(Duration::from_secs(3_600));
    assert_eq!(world.submit(unique("done")).await, Ok((run.clone(), true)), "however long it takes");
    assert_eq!(world.queued("billing/reports").await, [(run.clone(), r#"{"n":1}"#.to_owned())]);
    world.free(&run, Freed::Started).await;
    assert_eq!(world.submit(unique("done")).await, Ok((run.clone(), true)), "it has only started");
    world.free(&run, Freed::Ended).await;
    let (next, duplicate) = world.submit(unique("done")).await.unwrap();
    assert!(!duplicate && next != run);
    world.free(&run, Freed::Ended).await;
    assert_eq!(world.submit(unique("done")).await, Ok((next, true)), "the first one's end comes twice");
}

#[tokio::test]
async fn a_key_may_be_free_at_the_start_or_after_a_period() {
    let world = world().await;
    let (run, _) = world.submit(unique("started")).await.unwrap();
    world.free(&run, Freed::Started).await;
    world.clock.advance(Duration::from_millis(1));
    let (run, duplicate) = world.submit(unique("10m")).await.unwrap();
    assert!(!duplicate);
    world.free(&run, Freed::Ended).await;
    world.clock.advance(Duration::from_secs(599));
    assert_eq!(world.submit(unique("10m")).await, Ok((run, true)));
    world.clock.advance(Duration::from_secs(1));
    assert!(!world.submit(unique("10m")).await.unwrap().1);
}

#[tokio::test]
async fn a_namespace_shares_its_keys_and_other_scopes_do_not() {
    let world = world().await;
    let of =
        |queue: &str, scope: &str| json!({"queue": queue, "key": "order-17", "unique": {"scope": scope}});
    let (run, _) = world.submit(of("billing/reports", "namespace")).await.unwrap();
    assert_eq!(run, "billing/reports~order-17+n1795329900000");
    assert_eq!(world.submit(of("billing/other", "namespace")).await, Ok((run.clone(), true)));
    assert!(!world.submit(of("billing/other", "queue")).await.unwrap().1);
    assert!(!world.submit(of("shipping/reports", "namespace")).await.unwrap().1);
}

#[tokio::test]
async fn a_key_whose_run_was_never_published_is_free() {
    let world = world().await;
    world.bus.set_connected(false);
    let problem = world.submit(unique("done")).await.unwrap_err();
    assert!(problem.starts_with("failed"), "{problem}");
    world.bus.set_connected(true);
    world.clock.advance(Duration::from_secs(1));
    let (run, duplicate) = world.submit(unique("done")).await.unwrap();
    assert_eq!((run.as_str(), duplicate), ("billing/reports~order-17+q1795329901000", false));

    // A planner that died between taking the key and publishing: the next submission is that run.
    let dead: RunId = "billing/reports~order-18+q1795329900000".parse().unwrap();
    let key = UniqueKey::of(&dead).unwrap();
    let shard = world.shards.shard_of_key(&key);
    world.store.claim_key(shard, &key, &dead, model::unique::Until::Done).await.unwrap();
    let again = json!({"queue": "billing/reports", "key": "order-18", "payload": 2, "unique": {}});
    assert_eq!(world.submit(again.clone()).await, Ok((dead.to_string(), true)));
    assert_eq!(world.submit(again).await, Ok((dead.to_string(), true)));
    assert_eq!(
        world.queued("billing/reports").await,
        [(run, r#"{"n":1}"#.into()), (dead.to_string(), "2".into())]
    );
}

#[tokio::test]
async fn work_for_later_is_a_job_that_occurs_once() {
    let world = world().await;
    let later = json!({"queue": "billing/reports", "key": "order-17", "payload": 1, "delay": "2h"});
    let (run, duplicate) = world.submit(later.clone()).await.unwrap();
    assert!(run.starts_with("billing/defer-") && run.ends_with("@2026-11-22T08:45:00Z"), "{run}");
    assert!(!duplicate);
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(world.submit(later).await, Ok((run, true)));
    assert_eq!(world.bus.list(None).await.unwrap().count().await, 1);
    let at = json!({"queue": "billing/reports", "at": "2026-11-23T00:00:00Z"});
    assert!(world.submit(at).await.unwrap().0.ends_with("@2026-11-23T00:00:00Z"));
}

#[tokio::test]
async fn what_cannot_be_submitted_says_why() {
    let world = world().await;
    let with = |extra: Value| {
        let mut request = json!({"queue": "billing/reports"});
        request.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        request
    };
    for (extra, said) in [
        (json!({"queue": "billing"}), "queue"),
        (json!({"unique": {}}), "unique work needs a key"),
        (json!({"key": "k".repeat(114), "unique": {}}), "at most 113 characters"),
        (json!({"key": "k", "unique": {"until": "soon"}}), "expected started, done or a duration"),
        (json!({"key": "k", "unique": {"scope": "world"}}), "expected queue or namespace"),
        (json!({"key": "k", "unique": {}, "delay": "1m"}), "either unique, or at or delay"),
        (json!({"key": "two words"}), "key"),
        (json!({"payload": 1, "payloadBase64": "AA=="}), "both given"),
        (json!({"payloadBase64": "?"}), "payloadBase64"),
        (json!({"headers": {"Ecron-Kind": "exec"}}), "Ecron-Kind"),
        (json!({"retry": "attempts=0"}), "Ecron-Retry"),
        (json!({"timeout": "8d"}), "Ecron-Timeout"),
        (json!({"at": "2026-11-23T00:00:00Z", "delay": "1m"}), "Ecron-At"),
        (json!({"payload": "x".repeat(300_000)}), "the limit is 262144"),
        (json!({"prio": 1}), "unknown field"),
    ] {
        let problem = world.submit(with(extra.clone())).await.unwrap_err();
        assert!(problem.starts_with("refused") && problem.contains(said), "{extra}: {problem}");
    }
    assert_eq!(world.queued("billing/reports").await, []);
}
