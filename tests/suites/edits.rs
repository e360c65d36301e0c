//! The edit barrier, on real servers: once an edit was observed, no run of an older revision starts, whatever the load and
//! wherever it waits; and for clients that don't ask for edits, none is published.
//! A hundred thousand edits: `ECRON_TEST_EDITS=100000 cargo test -p ecron-tests --test edits -- --nocapture`.

#![expect(clippy::expect_used, reason = "a name that a test makes up is a name")]

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ambient::{Clock, Entropy, Shutdown};
use anyhow::{Context as _, Result, ensure};
use bus::events::AttemptReport;
use bus::nats::{NatsBus, NatsOptions};
use bus::queue::Delivery;
use bus::{ApiClient, EventWriter, QueueReader};
use dispatcher::{Dispatcher, DispatcherConfig};
use executor_sdk::{Context, Executor, HandlerError};
use futures_util::StreamExt;
use harness::servers::{self, Server};
use model::id::{Occurrence, RunId};
use model::limits::EDIT_IN_FORCE_AFTER;
use model::run::{AttemptEnd, Outcome, RunState};
use model::shard::ShardCount;
use model::time::Timestamp;
use planner::audits::AUDIT_PERIOD;
use planner::{Planner, PlannerConfig};
use serde_json::{Value, json};
use store::LedgerStore;
use store::lease::Role;
use store::node::Node;
use store::redis::{RedisOptions, RedisStore};

/// Each is edited by an editor of its own.
const JOBS: usize = 240;
const EDITS_DEFAULT: usize = 720;
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks whether an edit is in force. More of them would keep the planner too busy to bring it about.
const POLL_INTERVAL: Duration = Duration::from_millis(300);
/// Executors of the queue `fast`. The queue `slow` has one, which now and then lets its runs wait for a while.
const FAST_EXECUTORS: usize = 3;
const SLOW_PERIOD_MS: i64 = 6_000;
const SLOW_PAUSE_MS: i64 = 4_000;

/// A start of a version that was superseded by one that somebody had observed already.
#[expect(dead_code, reason = "read by whoever reads the message of a failed test")]
#[derive(Clone, Debug)]
struct Suspect {
    run: Occurrence,
    version: u64,
    at: Timestamp,
    observed: u64,
    observed_at: Timestamp,
}

/// Starts, and the newest observation of each job. A job's payload says its version, which every edit counts up.
#[derive(Debug, Default)]
struct Evidence {
    starts: usize,
    edits: usize,
    observed: BTreeMap<String, (u64, Timestamp)>,
    suspects: Vec<Suspect>,
    started: BTreeMap<String, BTreeSet<Timestamp>>,
    doubled: Vec<Occurrence>,
}

impl Evidence {
    fn start(&mut self, run: &Occurrence, version: u64, at: Timestamp) {
        self.starts += 1;
        let job = run.job.to_string();
        if !self.started.entry(job.clone()).or_default().insert(run.due_at) {
            self.doubled.push(run.clone());
        }
        let newest = self.observed.get(&job).copied();
        if let Some((observed, observed_at)) = newest.filter(|(observed, _)| *observed > version) {
            self.suspects.push(Suspect { run: run.clone(), version, at, observed, observed_at });
        }
    }
}

type Shared = Arc<Mutex<Evidence>>;

fn shards() -> ShardCount {
    ShardCount::new(4).expect("four shards")
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn connect(nats: &Server) -> Result<NatsBus> {
    Ok(NatsBus::connect(&nats.url(), NatsOptions::default()).await?)
}

async fn ask(bus: &NatsBus, verb: &str, body: Value) -> Result<Value> {
    let answer = bus.request(verb, body.to_string().into(), PATIENCE).await?;
    let answer: Value = serde_json::from_slice(&answer)?;
    ensure!(answer["error"].is_null(), "{verb}: {answer}");
    Ok(answer["ok"].clone())
}

/// Every fourth job moves between the queues.
fn manifest(job: usize, version: u64, queues: [&str; 2]) -> Value {
    let moved = job.is_multiple_of(4) && version % 3 == 2;
    let queue = queues[usize::from(job.is_multiple_of(3) != moved)];
    json!({
        "apiVersion": "ecron/v1", "kind": "Job", "metadata": {"name": format!("job-{job}")},
        "spec": {
            "schedule": {"every": format!("{}ms", 1_500 + 100 * (job % 10))}, "queue": queue,
            "payload": {"version": version}, "catchUp": {"policy": "all", "max": 10000},
            "history": {"succeeded": 100}, "overlap": if job.is_multiple_of(5) { "queue-all" } else { "allow" },
        },
    })
}

/// Edits a job of its own and notes when each edit was observed.
async fn edit(
    bus: Arc<NatsBus>,
    job: usize,
    edits: usize,
    queues: [&str; 2],
    evidence: Shared,
) -> Result<()> {
    let (clock, entropy) = (Clock::system(), Entropy::seeded(job as u64));
    let name = format!("default/job-{job}");
    for version in 1..=edits as u64 {
        // Not all at the same time.
        clock.sleep(Duration::from_millis(entropy.next_u64() % 200)).await;
        let applied = ask(&bus, "apply", json!({"manifests": [manifest(job, version, queues)]})).await?;
        let revision = applied["jobs"][0]["revision"].as_u64().context("a revision")?;
        clock.sleep(EDIT_IN_FORCE_AFTER).await;
        loop {
            let view = ask(&bus, "get", json!({"job": name})).await?;
            if view["status"]["observedRevision"].as_u64() >= Some(revision) {
                break;
            }
            clock.sleep(POLL_INTERVAL).await;
        }
        let mut evidence = lock(&evidence);
        evidence.edits += 1;
        evidence.observed.insert(name.clone(), (version, clock.now()));
        if evidence.edits.is_multiple_of(5_000) {
            println!("{} edits, {} starts", evidence.edits, evidence.starts);
        }
    }
    Ok(())
}

/// A planner, a dispatcher and jobs that are edited while `executors` carry out their runs; and a look at the suspects
/// every now and then, as long as they are remembered.
async fn edited<X, J>(
    jobs: usize,
    edits: usize,
    queues: [&'static str; 2],
    executors: impl FnOnce(Arc<Server>, Shared, Shutdown) -> X,
    mut judge: impl FnMut(Arc<RedisStore>, Vec<Suspect>) -> J,
) -> Result<Shared>
where
    X: Future<Output = Result<()>> + Send + 'static,
    J: Future<Output = Result<()>>,
{
    let (redis, nats) = (servers::redis(&[]).await?, Arc::new(servers::nats(&[]).await?));
    let store = Arc::new(RedisStore::connect(&redis.url(), RedisOptions::default()).await?);
    let bus = Arc::new(connect(&nats).await?);
    bus.ensure_streams().await?;
    let (clock, shutdown) = (Clock::system(), Shutdown::new());
    let shards = shards();
    let settings = bus::checkpoints::Cluster {
        id: "edits".into(),
        shards,
        message_id_key: [7; 16],
        created_at: clock.now(),
    };
    bus::Checkpoints::init_cluster(&*bus, &settings).await?;
    let node =
        |role| Node { id: format!("{role:?}"), roles: vec![role], weight: 100, version: "test".into() };
    let plan = PlannerConfig { node: node(Role::Planner), shards, audit_period: AUDIT_PERIOD };
    let planner =
        Planner::new(Arc::clone(&store), Arc::clone(&bus), clock.clone(), plan).run(shutdown.clone());
    let dispatch = DispatcherConfig { node: node(Role::Dispatcher), shards, message_id_key: [7; 16] };
    let dispatcher =
        Dispatcher::new(Arc::clone(&store), Arc::clone(&bus), clock.clone(), dispatch).run(shutdown.clone());
    let evidence = Shared::default();
    let work = tokio::spawn(executors(Arc::clone(&nats), Arc::clone(&evidence), shutdown.clone()));
    let editing = async {
        let client = Arc::new(connect(&nats).await?);
        let manifests: Vec<Value> = (0..jobs).map(|job| manifest(job, 0, queues)).collect();
        while ask(&client, "apply", json!({"manifests": manifests})).await.is_err() {
            clock.sleep(Duration::from_millis(100)).await;
        }
        let editor = |job| {
            tokio::spawn(edit(Arc::clone(&client), job, edits.div_ceil(jobs), queues, Arc::clone(&evidence)))
        };
        for editor in (0..jobs).map(editor).collect::<Vec<_>>() {
            editor.await??;
        }
        clock.sleep(Duration::from_secs(2)).await;
        ensure!(!work.is_finished(), "the executors broke");
        anyhow::Ok(())
    };
    let judging = async {
        loop {
            let stopping = shutdown.stopping();
            let suspects = std::mem::take(&mut lock(&evidence).suspects);
            clock.sleep(Duration::from_millis(500)).await;
            judge(Arc::clone(&store), suspects).await?;
            if stopping {
                return anyhow::Ok(());
            }
        }
    };
    let ((), (), judged, edited) = tokio::join!(planner, dispatcher, judging, async {
        let edited = editing.await;
        shutdown.stop();
        edited
    });
    edited.and(judged)?;
    work.await??;
    Ok(evidence)
}

fn edits_wanted(default: usize) -> usize {
    std::env::var("ECRON_TEST_EDITS").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// An executor as users have it, whose handler notes what it starts.
async fn sdk_executor(bus: NatsBus, queue: &str, evidence: Shared, stop: Shutdown) -> Result<()> {
    let is_slow = queue.ends_with("slow");
    let concurrency = if is_slow { 4 } else { 16 };
    let executor = Executor::new(Arc::new(bus)).shutdown(stop).queue(queue)?.concurrency(concurrency);
    let executor = executor.handle(move |ctx: Context, payload: Value| {
        let RunId::Occurrence(run) = ctx.run_id() else { unreachable!("only jobs publish here") };
        let clock = Clock::system();
        let version = payload["version"].as_u64().unwrap_or(u64::MAX);
        let pause = {
            let mut evidence = lock(&evidence);
            let now = clock.now();
            evidence.start(run, version, now);
            SLOW_PAUSE_MS - now.as_ms().rem_euclid(SLOW_PERIOD_MS)
        };
        async move {
            if let Ok(pause) = u64::try_from(pause)
                && is_slow
            {
                clock.sleep(Duration::from_millis(pause)).await;
            }
            Ok::<_, HandlerError>(())
        }
    });
    Ok(executor.run().await?)
}

/// Counts the runs whose order executors asked for.
async fn count_orders(nats: &Server, asked: Arc<Mutex<BTreeSet<String>>>) -> Result<()> {
    let client = async_nats::connect(nats.url()).await?;
    let mut requests = client.subscribe("ecron.api.v1.order.>").await?;
    while let Some(request) = requests.next().await {
        let request: Value = serde_json::from_slice(&request.payload)?;
        lock(&asked).insert(request["run"].as_str().unwrap_or_default().to_owned());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_superseded_revision_starts_once_its_edit_was_observed() -> Result<()> {
    let asked: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let violations: Shared = Arc::default();
    let (orders, seen) = (Arc::clone(&asked), Arc::clone(&violations));
    let executors = async move |nats: Arc<Server>, evidence: Shared, stop: Shutdown| {
        let mut executors = Vec::new();
        for queue in ["default/fast"; FAST_EXECUTORS].into_iter().chain(["default/slow"]) {
            let bus = connect(&nats).await?;
            executors.push(sdk_executor(bus, queue, Arc::clone(&evidence), stop.clone()));
        }
        let counting = tokio::spawn(async move { count_orders(&nats, orders).await });
        futures_util::future::try_join_all(executors).await?;
        counting.abort();
        anyhow::Ok(())
    };
    let judge = |_: Arc<RedisStore>, suspects: Vec<Suspect>| {
        lock(&seen).suspects.extend(suspects);
        std::future::ready(Ok(()))
    };
    let evidence =
        Box::pin(edited(JOBS, edits_wanted(EDITS_DEFAULT), ["fast", "slow"], executors, judge)).await?;
    let (evidence, violations) = (lock(&evidence), &lock(&violations).suspects);
    println!(
        "{} edits observed, {} runs started, {} of them asked for their order; {} of a superseded revision, {} twice",
        evidence.edits,
        evidence.starts,
        lock(&asked).len(),
        violations.len(),
        evidence.doubled.len(),
    );
    ensure!(evidence.starts > evidence.edits / 4, "only {} runs were started", evidence.starts);
    ensure!(!lock(&asked).is_empty(), "no run waited in its queue while its job was edited");
    ensure!(violations.is_empty(), "{violations:#?}");
    ensure!(evidence.doubled.is_empty(), "started twice: {:#?}", evidence.doubled);
    Ok(())
}

/// Carries out everything at once without asking for edits, and notes what it started when.
async fn bare_executor(bus: NatsBus, evidence: Shared, stop: Shutdown) -> Result<()> {
    let (queue, clock) = ("default/work".parse()?, Clock::system());
    while !stop.stopping() {
        for delivery in bus.fetch(&queue, 100, Duration::from_secs(1)).await? {
            let order = delivery.order().clone()?;
            let RunId::Occurrence(run) = &order.run_id else { continue };
            let payload: Value = serde_json::from_slice(delivery.payload())?;
            let at = {
                let mut evidence = lock(&evidence);
                let at = clock.now();
                evidence.start(run, payload["version"].as_u64().context("a version")?, at);
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
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_superseded_revision_is_published_once_its_edit_was_observed() -> Result<()> {
    let executors = async |nats: Arc<Server>, evidence: Shared, stop: Shutdown| {
        bare_executor(connect(&nats).await?, evidence, stop).await
    };
    let verdict: Mutex<(usize, Vec<String>)> = Mutex::default();
    let judge = async |store: Arc<RedisStore>, suspects: Vec<Suspect>| {
        for suspect in suspects {
            let shard = shards().shard_of(&suspect.run.job);
            let record = store.run(shard, &suspect.run).await?.context("its record")?;
            let mut verdict = lock(&verdict);
            if record.published_at.is_some_and(|at| at <= suspect.observed_at) {
                verdict.0 += 1;
            } else {
                verdict.1.push(format!("{suspect:?}: {record:?}"));
            }
        }
        Ok(())
    };
    let evidence = Box::pin(edited(24, 120, ["work", "work"], executors, judge)).await?;
    let (evidence, (in_queue, violations)) = (lock(&evidence), &*lock(&verdict));
    let (edits, starts) = (evidence.edits, evidence.starts);
    println!(
        "{edits} edits observed, {starts} runs started; {in_queue} were in the queue by then; violations: {}",
        violations.len()
    );
    ensure!(starts > edits / 4, "only {starts} runs were started");
    ensure!(violations.is_empty(), "{violations:#?}");
    Ok(())
}
