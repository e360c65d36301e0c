//! The edit barrier, on real servers: once an edit was observed, no run of an older revision is published, whatever the load.
//! A hundred thousand edits: `ECRON_TEST_EDITS=100000 cargo test -p ecron-tests --test edits -- --nocapture`.

#![expect(clippy::expect_used, reason = "a name that a test makes up is a name")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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

/// A start of a revision that was superseded by one that somebody had observed already.
#[expect(dead_code, reason = "read by whoever reads the message of a failed test")]
#[derive(Clone, Debug)]
struct Suspect {
    run: Occurrence,
    revision: u64,
    at: Timestamp,
    observed: u64,
    observed_at: Timestamp,
}

/// Starts, and the newest observation of each job.
#[derive(Debug, Default)]
struct Evidence {
    starts: usize,
    edits: usize,
    observed: BTreeMap<String, (u64, Timestamp)>,
    suspects: Vec<Suspect>,
}

impl Evidence {
    fn start(&mut self, run: &Occurrence, revision: u64, at: Timestamp) {
        self.starts += 1;
        let newest = self.observed.get(&run.job.to_string()).copied();
        if let Some((observed, observed_at)) = newest.filter(|(observed, _)| *observed > revision) {
            self.suspects.push(Suspect { run: run.clone(), revision, at, observed, observed_at });
        }
    }
}

/// What became of the suspects.
#[derive(Debug, Default)]
struct Verdict {
    /// Published before the edit was observed: they waited in their queue.
    in_queue: usize,
    /// How long after the observation the last of them started.
    longest_ms: i64,
    /// Published afterwards.
    violations: Vec<String>,
}

/// Looks at the records of suspects, once they must be written and before they are forgotten.
async fn judge(store: &RedisStore, evidence: &Shared, verdict: &mut Verdict) -> Result<()> {
    let suspects = std::mem::take(&mut lock(evidence).suspects);
    Clock::system().sleep(Duration::from_millis(500)).await;
    for suspect in suspects {
        let shard = shards().shard_of(&suspect.run.job);
        let record = store.run(shard, &suspect.run).await?.context("its record")?;
        if record.published_at.is_some_and(|at| at <= suspect.observed_at) {
            verdict.in_queue += 1;
            verdict.longest_ms = suspect.at.ms_since(suspect.observed_at).max(verdict.longest_ms);
        } else {
            verdict.violations.push(format!("{suspect:?}: {record:?}"));
        }
    }
    Ok(())
}

fn shards() -> ShardCount {
    ShardCount::new(4).expect("four shards")
}

fn lock(evidence: &Shared) -> MutexGuard<'_, Evidence> {
    evidence.lock().unwrap_or_else(PoisonError::into_inner)
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
            "history": {"succeeded": 1000}, "overlap": if job.is_multiple_of(3) { "queue-all" } else { "allow" },
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
        let mut evidence = lock(&evidence);
        evidence.edits += 1;
        evidence.observed.insert(name, (revision, clock.now()));
    }
    Ok(())
}

/// Carries out everything at once, and notes what it started when.
async fn execute(bus: NatsBus, evidence: Shared, clock: Clock) -> Result<()> {
    let queue = "default/work".parse()?;
    loop {
        for delivery in bus.fetch(&queue, 100, Duration::from_secs(1)).await? {
            let order = delivery.order().clone()?;
            let RunId::Occurrence(run) = &order.run_id else { continue };
            let at = {
                let mut evidence = lock(&evidence);
                let at = clock.now();
                evidence.start(run, order.revision.0, at);
                at
            };
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
    let shards = shards();
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
    let mut verdict = Verdict::default();
    let judging = async {
        while !shutdown.stopping() {
            judge(&store, &evidence, &mut verdict).await?;
        }
        judge(&store, &evidence, &mut verdict).await
    };
    let ((), (), judged, edited) = tokio::join!(planner, dispatcher, judging, async {
        let edited = editing.await;
        shutdown.stop();
        edited
    });
    edited.and(judged)?;

    let (edits_observed, starts) = {
        let evidence = lock(&evidence);
        (evidence.edits, evidence.starts)
    };
    let Verdict { in_queue, longest_ms, violations } = verdict;
    println!(
        "{edits_observed} edits observed, {starts} runs started; {} of a superseded revision published afterwards; {in_queue} \
         were in the queue by then, and started up to {longest_ms} ms later",
        violations.len()
    );
    ensure!(starts > edits / 4, "only {starts} runs were started");
    ensure!(violations.is_empty(), "{violations:#?}");
    Ok(())
}
