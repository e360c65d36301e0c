//! The edit barrier, on real servers: once an edit was observed, no run of an older revision is published, whatever the load.
//! A hundred thousand edits: `ECRON_TEST_EDITS=100000 cargo test -p ecron-tests --test edits -- --nocapture`.

#![expect(clippy::expect_used, reason = "a name that a test makes up is a name")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ambient::{Clock, Entropy, Shutdown};
use anyhow::{Context, Result, ensure};
use bus::events::AttemptReport;
use bus::nats::{NatsBus, NatsOptions};
use bus::queue::Delivery;
use bus::{ApiClient, EventWriter, QueueReader};
use dispatcher::{Dispatcher, DispatcherConfig};
use harness::servers;
use model::id::{Occurrence, RunId};
use model::run::{AttemptEnd, Outcome, RunState};
use model::shard::ShardCount;
use model::time::Timestamp;
use planner::{Planner, PlannerConfig};
use serde_json::{Value, json};
use store::LedgerStore;
use store::lease::Role;
use store::node::Node;
use store::redis::{RedisOptions, RedisStore};

const JOBS: usize = 24;
const EDITORS: usize = 8;
const EDITS_DEFAULT: usize = 200;
const PATIENCE: Duration = Duration::from_secs(30);

/// One start, as the executor saw it.
#[derive(Clone, Debug)]
struct Start {
    run: Occurrence,
    revision: u64,
    at: Timestamp,
}

/// Starts and observations of each job.
#[derive(Debug, Default)]
struct Evidence {
    starts: BTreeMap<String, Vec<Start>>,
    observed: BTreeMap<String, Vec<(u64, Timestamp)>>,
}

type Shared = Arc<Mutex<Evidence>>;

async fn ask(bus: &NatsBus, verb: &str, body: Value) -> Result<Value> {
    let answer = bus.request(verb, body.to_string().into(), PATIENCE).await?;
    let answer: Value = serde_json::from_slice(&answer)?;
    ensure!(answer["error"].is_null(), "{verb}: {answer}");
    Ok(answer["ok"].clone())
}

fn manifest(job: usize, version: u64) -> Value {
    json!({
        "apiVersion": "ecron/v1", "kind": "Job", "metadata": {"name": format!("job-{job}")},
        "spec": {
            "schedule": {"every": format!("{}ms", 100 + 20 * (job % 10))}, "queue": "work",
            "payload": {"version": version}, "catchUp": {"policy": "all", "max": 10000},
            "history": {"succeeded": 1000}, "overlap": if job % 3 == 0 { "queue-all" } else { "allow" },
        },
    })
}

/// Edits jobs of its own and notes when each edit was observed.
async fn edit(bus: NatsBus, editor: usize, edits: usize, evidence: Shared, clock: Clock) -> Result<()> {
    let entropy = Entropy::seeded(editor as u64);
    for version in 0..edits as u64 {
        let job = (entropy.next_u64() as usize % (JOBS / EDITORS)) * EDITORS + editor;
        let name = format!("default/job-{job}");
        let applied = ask(&bus, "apply", json!({"manifests": [manifest(job, version + 1)]})).await?;
        let revision = applied["jobs"][0]["revision"].as_u64().context("a revision")?;
        loop {
            let view = ask(&bus, "get", json!({"job": name})).await?;
            if view["status"]["observedRevision"].as_u64() >= Some(revision) {
                break;
            }
            clock.sleep(Duration::from_millis(1)).await;
        }
        let mut evidence = evidence.lock().unwrap_or_else(PoisonError::into_inner);
        evidence.observed.entry(name).or_default().push((revision, clock.now()));
    }
    Ok(())
}

/// Carries out everything at once, and notes what it started when.
async fn execute(bus: NatsBus, evidence: Shared, clock: Clock) -> Result<()> {
    let queue = "default/work".parse()?;
    loop {
        for delivery in bus.fetch(&queue, 100, Duration::from_secs(1)).await? {
            let at = clock.now();
            let order = delivery.order().clone()?;
            let RunId::Occurrence(run) = &order.run_id else { continue };
            let job = run.job.to_string();
            let start = Start { run: run.clone(), revision: order.revision.0, at };
            evidence
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .starts
                .entry(job)
                .or_default()
                .push(start);
            let end = AttemptEnd {
                attempt: 1,
                outcome: Outcome::Succeeded,
                error: None,
                started_at: at,
                ended_at: at,
            };
            let report = AttemptReport {
                run_id: order.run_id,
                queue: order.queue,
                revision: order.revision,
                generation: order.generation,
                end,
                ends_run: Some(RunState::Succeeded),
                reason: None,
                due_at: order.due_at,
                executor: "edits".into(),
                output: None,
            };
            bus.report(&report).await?;
            delivery.ack_unconfirmed().await?;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_superseded_revision_starts_once_its_edit_was_observed() -> Result<()> {
    let edits =
        std::env::var("ECRON_TEST_EDITS").ok().and_then(|text| text.parse().ok()).unwrap_or(EDITS_DEFAULT);
    let (redis, nats) = (servers::redis(&[]).await?, servers::nats(&[]).await?);
    let store = Arc::new(RedisStore::connect(&redis.url(), RedisOptions::default()).await?);
    let connect = async || NatsBus::connect(&nats.url(), NatsOptions::default()).await;
    let bus = Arc::new(connect().await?);
    bus.ensure_streams().await?;
    let (clock, shutdown) = (Clock::system(), Shutdown::new());
    let shards = ShardCount::new(4).expect("four shards");
    let node =
        |role| Node { id: format!("{role:?}"), roles: vec![role], weight: 100, version: "test".into() };
    let plan = PlannerConfig { node: node(Role::Planner), shards };
    let planner =
        Planner::new(Arc::clone(&store), Arc::clone(&bus), clock.clone(), plan).run(shutdown.clone());
    let dispatch = DispatcherConfig { node: node(Role::Dispatcher), shards, message_id_key: [7; 16] };
    let dispatcher = Dispatcher::new(Arc::clone(&store), bus, clock.clone(), dispatch).run(shutdown.clone());
    let evidence = Shared::default();
    let editing = async {
        let executor = tokio::spawn(execute(connect().await?, Arc::clone(&evidence), clock.clone()));

        let client = connect().await?;
        let manifests: Vec<Value> = (0..JOBS).map(|job| manifest(job, 0)).collect();
        while ask(&client, "apply", json!({"manifests": manifests})).await.is_err() {
            clock.sleep(Duration::from_millis(100)).await;
        }
        let mut editors = Vec::new();
        for editor in 0..EDITORS {
            let share = edits / EDITORS;
            editors.push(tokio::spawn(edit(
                connect().await?,
                editor,
                share,
                Arc::clone(&evidence),
                clock.clone(),
            )));
        }
        for editor in editors {
            editor.await??;
        }
        clock.sleep(Duration::from_secs(1)).await;
        ensure!(!executor.is_finished(), "the executor broke: {:?}", executor.await);
        executor.abort();
        anyhow::Ok(())
    };
    let ((), (), edited) = tokio::join!(planner, dispatcher, async {
        let edited = editing.await;
        shutdown.stop();
        edited
    });
    edited?;

    let (starts, observed) = {
        let mut evidence = evidence.lock().unwrap_or_else(PoisonError::into_inner);
        (std::mem::take(&mut evidence.starts), std::mem::take(&mut evidence.observed))
    };
    let (mut in_queue, mut longest_ms, mut violations) = (0, 0, Vec::new());
    for (job, start) in starts.iter().flat_map(|(job, starts)| starts.iter().map(move |start| (job, start))) {
        let newer = |(revision, _): &&(u64, Timestamp)| *revision > start.revision;
        let first = observed.get(job).and_then(|all| all.iter().find(newer));
        let Some((revision, observed_at)) = first.filter(|(_, at)| *at < start.at) else { continue };
        // It waited in its queue when the edit was observed, or it was published afterwards.
        let record = store.run(shards.shard_of(&start.run.job), &start.run).await?.context("its record")?;
        if record.published_at.is_some_and(|at| at <= *observed_at) {
            in_queue += 1;
            longest_ms = start.at.ms_since(*observed_at).max(longest_ms);
        } else {
            violations.push(format!("{start:?}: {revision} observed at {observed_at}, {record:?}"));
        }
    }
    let edits_observed: usize = observed.values().map(Vec::len).sum();
    let runs: usize = starts.values().map(Vec::len).sum();
    println!(
        "{edits_observed} edits observed, {runs} runs started; {} of a superseded revision published afterwards; {in_queue} \
         were in the queue by then, and started up to {longest_ms} ms later",
        violations.len()
    );
    ensure!(runs > edits / 4, "only {runs} runs were started");
    ensure!(violations.is_empty(), "{violations:#?}");
    Ok(())
}
