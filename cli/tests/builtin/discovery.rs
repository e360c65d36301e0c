//! Queues that nobody named.

use std::collections::BTreeSet;

use bus::specs::{SpecChange, StoredSpec};
use model::id::Revision;
use model::manifest::{self, Node};
use model::shard::ShardId;
use model::spec::Acceptance;
use model::time::Timestamp;
use serde_json::{Value, json};

use crate::bench::Bench;

fn put(name: &str, work: &Value, queue: Option<&str>) -> SpecChange {
    let mut spec = work.as_object().unwrap().clone();
    spec.insert("schedule".into(), json!({"every": "1h"}));
    spec.extend(queue.map(|queue| ("queue".to_owned(), json!(queue))));
    let metadata = json!({"name": name, "namespace": "billing"});
    let document = json!({"apiVersion": "ecron/v1", "kind": "Job", "metadata": metadata, "spec": spec});
    let at = Timestamp::from_ms(1_000);
    let job = manifest::decode_job(&Node::from_json(document), at).unwrap();
    let acceptance = Acceptance::new(at);
    let value = manifest::to_bytes(&job, &acceptance).into();
    SpecChange::Put {
        job: job.id,
        shard: ShardId(1),
        spec: StoredSpec { revision: Revision(1), value, written_at: at, by: None },
    }
}

#[tokio::test]
async fn queues_with_commands_or_requests_are_served_and_others_left_alone() {
    let bench = Bench::with_queues(true, vec![]);
    let (exec, http) = (json!({"exec": {"command": ["true"]}}), json!({"http": {"url": "http://x/"}}));
    let batches = vec![
        vec![
            put("a", &exec, Some("tools")),
            put("b", &json!({"payload": {"http": 1}}), Some("reports")),
            put("c", &exec, Some("tools")),
            SpecChange::CaughtUp { revision: Revision(3) },
        ],
        // After an interruption.
        vec![put("d", &http, Some("hooks"))],
    ];
    *bench.bus.specs.lock().unwrap() = batches;
    let expected = BTreeSet::from(["billing/hooks".parse().unwrap(), "billing/tools".parse().unwrap()]);
    loop {
        bench.bus.fetching.notified().await;
        let fetched: BTreeSet<_> = bench.bus.fetched.lock().unwrap().iter().cloned().collect();
        assert!(fetched.is_subset(&expected), "{fetched:?}");
        if fetched == expected {
            return;
        }
    }
}
