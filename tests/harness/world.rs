//! A whole ecron over the memory twins, on a clock that a test moves: planner, dispatcher, settler and a bare-bones
//! executor. It takes steps of one second; what it does in one is what the real loops do, in the same order every time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ambient::Clock;
use anyhow::{Context, Result, ensure};
use bus::events::AttemptReport;
use bus::memory::MemoryBus;
use bus::queue::Delivery;
use bus::{EventWriter, QueueReader, SpecStore};
use dispatcher::barrier::Barrier;
use dispatcher::jobs::Jobs;
use dispatcher::reconcile::Reconciler;
use dispatcher::settle::Settler;
use dispatcher::shard::{PassError, ShardDispatch};
use model::declared::Declared;
use model::id::RunId;
use model::manifest::{self, Node};
use model::name::{JobId, QueueId};
use model::run::{AttemptEnd, Outcome, RunState};
use model::shard::{ShardCount, ShardId};
use model::spec::JobSpec;
use model::time::Timestamp;
use planner::api::Api;
use planner::backfill::BackfillError;
use planner::feed::Feed;
use planner::pass::{DeclaredCache, plan_shard};
use store::StoreError;
use store::lease::Role;
use store::memory::MemoryStore;
use store::node::Node as Member;
use store::ownership::{Lease, Ownership};

/// Few shards, so that each one has several jobs.
const SHARDS: u16 = 4;
const KEY: [u8; 16] = *b"a key for tests.";
/// Events or deliveries in one fetch.
const BATCH: usize = 10_000;

/// Begins half a second past a full one, so that no step falls on an occurrence.
const BEGIN: &str = "2026-11-22T06:45:00.500Z";

/// One process with every role, until it crashes.
#[derive(Debug)]
struct Process {
    planner: Ownership,
    dispatcher: Ownership,
    leases: BTreeMap<ShardId, Lease>,
    shards: BTreeMap<ShardId, ShardDispatch<MemoryStore, MemoryBus>>,
    cache: DeclaredCache,
    jobs: Jobs,
}

#[derive(Debug)]
pub struct World {
    pub clock: Clock,
    pub store: Arc<MemoryStore>,
    pub bus: Arc<MemoryBus>,
    process: Option<Process>,
    processes_begun: u32,
    settler: Settler<MemoryStore, MemoryBus>,
    /// When each run was started by an executor.
    pub started: BTreeMap<RunId, Vec<Timestamp>>,
    /// What each run was given, the last time.
    pub payloads: BTreeMap<RunId, Vec<u8>>,
}

fn shards() -> ShardCount {
    ShardCount::new(SHARDS).unwrap_or_default()
}

impl World {
    pub fn begin() -> Result<Self> {
        let clock = Clock::manual(BEGIN.parse()?);
        let reading = || {
            let clock = clock.clone();
            Arc::new(move || clock.now())
        };
        let store = Arc::new(MemoryStore::new(reading()));
        let bus = Arc::new(MemoryBus::new(reading(), Duration::from_secs(30)));
        let settler = Settler::new(Arc::clone(&store), Arc::clone(&bus), clock.clone(), shards());
        Ok(Self {
            clock,
            store,
            bus,
            process: None,
            processes_begun: 0,
            settler,
            started: BTreeMap::new(),
            payloads: BTreeMap::new(),
        })
    }

    /// Declares a job as the API does; answers with when its schedule begins to count.
    pub async fn apply(&self, manifest: serde_json::Value) -> Result<(JobSpec, Timestamp)> {
        let now = self.clock.now();
        let spec = manifest::decode_job(&Node::from_json(manifest), now)
            .map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
        let shard = shards().shard_of(&spec.id);
        let present = self.bus.get(shard, &spec.id).await?;
        let old =
            present.as_ref().and_then(|stored| manifest::from_bytes(&stored.value, stored.written_at).ok());
        let acceptance = manifest::accept(&spec, old.as_ref().map(|(spec, a)| (spec, a)), now);
        let value = manifest::to_bytes(&spec, &acceptance);
        self.bus.put(shard, &spec.id, present.map(|stored| stored.revision), value.into()).await?;
        Ok((spec, acceptance.schedule_since))
    }

    /// Asks the API of a planner, as a client does; a refusal is an error.
    pub async fn ask(&self, verb: &str, request: serde_json::Value) -> Result<serde_json::Value> {
        let api = Api::new(Arc::clone(&self.store), Arc::clone(&self.bus), self.clock.clone(), shards());
        let answer = api.answer(verb, request.to_string().as_bytes()).await;
        let mut answer: serde_json::Value = serde_json::from_slice(&answer)?;
        ensure!(answer.get("error").is_none(), "{verb} was answered with {}", answer["error"]);
        Ok(answer["ok"].take())
    }

    pub async fn declared(&self, job: &JobId) -> Result<Declared> {
        let stored = self.bus.get(shards().shard_of(job), job).await?.context("the job is declared")?;
        Declared::read(&stored.value, stored.written_at).map_err(|problems| anyhow::anyhow!(problems))
    }

    pub async fn delete(&self, job: &JobId) -> Result<()> {
        let shard = shards().shard_of(job);
        let present = self.bus.get(shard, job).await?.context("the job is declared")?;
        self.bus.delete(shard, job, present.revision).await?;
        Ok(())
    }

    /// The process dies as it stands; its leases run out by themselves.
    pub fn crash(&mut self) {
        self.process = None;
    }

    pub fn start(&mut self) {
        self.processes_begun += 1;
        let node = format!("node-{}", self.processes_begun);
        self.process = Some(Process {
            planner: Ownership::new(Role::Planner, &node, shards()),
            dispatcher: Ownership::new(Role::Dispatcher, &node, shards()),
            leases: BTreeMap::new(),
            shards: BTreeMap::new(),
            cache: DeclaredCache::default(),
            jobs: Jobs::default(),
        });
    }

    /// Lets seconds pass, one step each.
    pub async fn run(&mut self, seconds: u32) -> Result<()> {
        for _ in 0..seconds {
            self.clock.advance(Duration::from_secs(1));
            self.bus.wake();
            self.step().await?;
        }
        Ok(())
    }

    async fn step(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            let outcome = self.work(&mut process).await;
            self.process = Some(process);
            match outcome {
                // The next step's beat finds the new owner, or a wiped store.
                Ok(()) => {}
                Err(problem) if is_passing(&problem) => {}
                Err(problem) => return Err(problem),
            }
        }
        self.execute().await
    }

    async fn work(&mut self, process: &mut Process) -> Result<()> {
        self.beat(process).await?;
        let now = self.clock.now();
        let mut feed = Feed::open(&*self.store, &*self.bus, &process.leases, &self.clock).await?;
        while !process.leases.is_empty() && !feed.next_chunk().await? {}
        for lease in process.leases.values() {
            plan_shard(&*self.store, lease.shard, lease.epoch, &process.cache, now).await?;
        }
        let leases: Vec<Lease> = process.leases.values().cloned().collect();
        planner::backfill::pass(&*self.store, &*self.bus, &leases, shards(), now).await?;
        self.settler.run_once(Duration::ZERO).await?;
        for shard in process.shards.values_mut() {
            while shard.run_once(now).await?.more {}
        }
        let reconciler = Reconciler {
            store: Arc::clone(&self.store),
            bus: Arc::clone(&self.bus),
            clock: self.clock.clone(),
            jobs: process.jobs.clone(),
            message_id_key: KEY,
            barrier: Barrier::new(self.clock.clone()),
        };
        for lease in process.dispatcher.held().values() {
            reconciler.run_once(lease, now).await?;
        }
        Ok(())
    }

    async fn beat(&self, process: &mut Process) -> Result<()> {
        let member = Member {
            id: format!("node-{}", self.processes_begun),
            roles: vec![Role::Planner, Role::Dispatcher],
            weight: 100,
            version: "test".into(),
        };
        process.planner.beat(&*self.store, &member, || self.clock.now()).await?;
        process.leases = process.planner.held().clone();
        let (change, _) = process.dispatcher.beat(&*self.store, &member, || self.clock.now()).await?;
        for lost in change.lost {
            process.shards.remove(&lost);
        }
        for lease in change.gained {
            let shard = ShardDispatch::new(
                Arc::clone(&self.store),
                Arc::clone(&self.bus),
                self.clock.clone(),
                process.jobs.clone(),
                KEY,
                lease.clone(),
                Barrier::new(self.clock.clone()),
            );
            process.shards.insert(lease.shard, shard);
        }
        Ok(())
    }

    /// Carries out everything that waits in the queue `work`, at once and with success.
    async fn execute(&mut self) -> Result<()> {
        let queue: QueueId = "default/work".parse()?;
        let now = self.clock.now();
        for delivery in self.bus.fetch(&queue, BATCH, Duration::ZERO).await? {
            let order = delivery.order().clone()?;
            ensure!(order.due_at <= now, "{} was started at {now}, before it was due", order.run_id);
            ensure!(order.start_by.is_none_or(|start_by| now <= start_by), "{} came too late", order.run_id);
            self.started.entry(order.run_id.clone()).or_default().push(now);
            self.payloads.insert(order.run_id.clone(), delivery.payload().to_vec());
            let end = AttemptEnd {
                attempt: 1,
                outcome: Outcome::Succeeded,
                error: None,
                started_at: now,
                ended_at: now,
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
                executor: "world".into(),
                output: None,
            };
            self.bus.report(&report).await?;
            delivery.ack().await?;
        }
        Ok(())
    }

    /// The due instants of a job's runs that were started, in order.
    #[must_use]
    pub fn started_dues(&self, job: &JobId) -> Vec<Timestamp> {
        let dues = self.started.keys().filter_map(|run| match run {
            RunId::Occurrence(occurrence) if occurrence.job == *job => Some(occurrence.due_at),
            RunId::Occurrence(_) | RunId::AdHoc { .. } => None,
        });
        dues.collect()
    }

    /// Runs that were started more than once.
    #[must_use]
    pub fn doubled(&self) -> Vec<&RunId> {
        self.started.iter().filter(|(_, starts)| starts.len() > 1).map(|(run, _)| run).collect()
    }
}

/// A failure that the real loops meet by trying again.
fn is_passing(problem: &anyhow::Error) -> bool {
    matches!(problem.downcast_ref::<StoreError>(), Some(StoreError::Fenced | StoreError::Failed(_)))
        || matches!(
            problem.downcast_ref::<PassError>(),
            Some(PassError::Store(StoreError::Fenced | StoreError::Failed(_)) | PassError::OutcomesBehind)
        )
        || matches!(problem.downcast_ref(), Some(BackfillError::Store(StoreError::Fenced)))
}
