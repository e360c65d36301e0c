//! A whole ecron over the memory twins, on a clock that a test moves: planner, dispatcher, settler and a bare-bones
//! executor. It takes steps of one second; what it does in one is what the real loops do, in the same order every time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ambient::Clock;
use anyhow::{Context, Result, ensure};
use bus::cancel::{CancelListener, CancelNotice};
use bus::events::AttemptReport;
use bus::memory::MemoryBus;
use bus::order::Order;
use bus::queue::Delivery;
use bus::{EventWriter, ObjectStore, QueueReader, SpecStore};
use dispatcher::barrier::Barrier;
use dispatcher::cancel::Canceller;
use dispatcher::gate::Gates;
use dispatcher::gate_keeper::GateKeeper;
use dispatcher::jobs::Jobs;
use dispatcher::queue_rules::QueueRules;
use dispatcher::reconcile::Reconciler;
use dispatcher::settle::{SettleError, Settler};
use dispatcher::shard::{PassError, ShardDispatch};
use futures_util::StreamExt;
use model::declared::Declared;
use model::id::{Occurrence, RunId};
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
use store::gate::GateView;
use store::lease::Role;
use store::ledger::{CancelMark, CancelOutcome, RunRecord};
use store::memory::MemoryStore;
use store::node::Node as Member;
use store::ownership::{Lease, Ownership};
use store::{GateStore, LedgerStore, StoreError};

/// Few shards, so that each one has several jobs.
const SHARDS: u16 = 4;
const KEY: [u8; 16] = *b"a key for tests.";
/// Events or deliveries in one fetch.
const BATCH: usize = 10_000;

/// What a test lets the store say when it goes wrong: the real loops would try again.
pub const INJECTED: &str = "injected";

/// Begins half a second past a full one, so that no step falls on an occurrence.
const BEGIN: &str = "2026-11-22T06:45:00.500Z";

/// One process with every role, until it crashes.
#[derive(Debug)]
struct Process {
    planner: Ownership,
    dispatcher: Ownership,
    leases: BTreeMap<ShardId, Lease>,
    shards: BTreeMap<ShardId, ShardDispatch<MemoryStore, MemoryBus>>,
    keepers: BTreeMap<ShardId, GateKeeper<MemoryStore, MemoryBus>>,
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
    gates: Gates<MemoryStore, MemoryBus>,
    settler: Settler<MemoryStore, MemoryBus>,
    /// When each run was started by an executor.
    pub started: BTreeMap<RunId, Vec<Timestamp>>,
    /// What each run was given, the last time.
    pub payloads: BTreeMap<RunId, Vec<u8>>,
    /// How long a job's runs take; nothing, unless it says so here.
    pub takes: BTreeMap<JobId, Duration>,
    /// The most runs of each job that were ever in hand at once.
    pub most_at_once: BTreeMap<JobId, usize>,
    /// The most runs of the queue that were ever in hand at once.
    pub most_in_hand: usize,
    in_hand: Vec<InHand>,
    /// Nobody settles anything.
    pub unsettled: bool,
    /// The dispatchers stand still: nothing is taken, though everything else goes on.
    pub stalled: bool,
    /// Runs that take no notice of a cancellation.
    pub stubborn: BTreeSet<JobId>,
    signals: Arc<Mutex<Signals>>,
}

/// What the executor and whoever listens for cancellations share.
#[derive(Debug, Default)]
struct Signals {
    in_hand: BTreeSet<RunId>,
    told: BTreeSet<RunId>,
}

/// Answers for the runs in hand, and remembers the others: they aren't started any more.
async fn listen(bus: Arc<MemoryBus>, signals: Arc<Mutex<Signals>>) -> Result<()> {
    let mut heard = bus.cancels(&"default/work".parse()?).await?;
    while let Some(signal) = heard.next().await {
        let in_hand = {
            let mut signals = signals.lock().unwrap_or_else(PoisonError::into_inner);
            signals.told.insert(signal.request().run_id.clone());
            signals.in_hand.contains(&signal.request().run_id)
        };
        if in_hand {
            signal.in_hand().await?;
        }
    }
    Ok(())
}

/// A run that an executor is carrying out.
struct InHand {
    delivery: <MemoryBus as QueueReader>::Delivery,
    order: Order,
    started_at: Timestamp,
    ends_at: Timestamp,
}

impl std::fmt::Debug for InHand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InHand").field("order", &self.order).finish_non_exhaustive()
    }
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
        let rules = QueueRules::default();
        let gates = Gates::new(Arc::clone(&store), Arc::clone(&bus), clock.clone(), shards(), rules);
        let settler = Settler::new(gates.clone());
        let signals = Arc::new(Mutex::new(Signals::default()));
        tokio::spawn(listen(Arc::clone(&bus), Arc::clone(&signals)));
        Ok(Self {
            clock,
            store,
            bus,
            process: None,
            processes_begun: 0,
            gates,
            settler,
            started: BTreeMap::new(),
            payloads: BTreeMap::new(),
            takes: BTreeMap::new(),
            most_at_once: BTreeMap::new(),
            most_in_hand: 0,
            in_hand: Vec::new(),
            unsettled: false,
            stalled: false,
            stubborn: BTreeSet::new(),
            signals,
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

    /// Declares the queue that the executor serves, with this `spec`.
    pub async fn limit(&self, spec: serde_json::Value) -> Result<()> {
        let manifest = serde_json::json!({
            "apiVersion": "ecron/v1", "kind": "Queue", "metadata": {"name": "work"}, "spec": spec,
        });
        let object = manifest::decode(&Node::from_json(manifest), self.clock.now())
            .map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
        let key = object.key().context("a queue has a key")?;
        let present = self.bus.object(&key).await?.map(|stored| stored.revision);
        self.bus.put_object(&key, present, manifest::encode_object(&object).to_string().into()).await?;
        Ok(())
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
            keepers: BTreeMap::new(),
            cache: DeclaredCache::default(),
            jobs: Jobs::default(),
        });
    }

    /// Lets seconds pass, one step each.
    pub async fn run(&mut self, seconds: u32) -> Result<()> {
        for _ in 0..seconds {
            self.clock.advance(Duration::from_secs(1));
            self.bus.wake();
            // Nothing here ever waits, so whoever listens for cancellations must be let in.
            tokio::task::yield_now().await;
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
        self.gates.rules().refresh(&*self.bus).await?;
        if !self.unsettled {
            self.settler.run_once(Duration::ZERO).await?;
        }
        for keeper in process.keepers.values_mut() {
            keeper.run_once(now).await?;
        }
        for shard in process.shards.values_mut().filter(|_| !self.stalled) {
            loop {
                let report = shard.run_once(now).await?;
                if !report.more && report.undecided == 0 {
                    break;
                }
            }
        }
        let canceller = Canceller { gates: self.gates.clone(), message_id_key: KEY };
        for lease in process.dispatcher.held().values() {
            canceller.run_once(lease, now).await?;
        }
        let reconciler = Reconciler {
            gates: self.gates.clone(),
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
            process.keepers.remove(&lost);
        }
        for lease in change.gained {
            let shard = ShardDispatch::new(
                self.gates.clone(),
                process.jobs.clone(),
                KEY,
                lease.clone(),
                Barrier::new(self.clock.clone()),
            );
            let keeper = GateKeeper::new(self.gates.clone(), process.jobs.clone(), lease.shard);
            process.keepers.insert(lease.shard, keeper);
            process.shards.insert(lease.shard, shard);
        }
        Ok(())
    }

    /// Begins everything that waits in the queue `work`, and ends with success what has taken its time.
    async fn execute(&mut self) -> Result<()> {
        let queue: QueueId = "default/work".parse()?;
        let now = self.clock.now();
        self.end_what_is_done(now).await?;
        for delivery in self.bus.fetch(&queue, BATCH, Duration::ZERO).await? {
            let order = delivery.order().clone()?;
            let told = self.signals().told.contains(&order.run_id);
            if told {
                let run = InHand { delivery, order, started_at: now, ends_at: now };
                self.end(run, Outcome::Cancelled, now).await?;
                continue;
            }
            self.signals().in_hand.insert(order.run_id.clone());
            ensure!(order.due_at <= now, "{} was started at {now}, before it was due", order.run_id);
            ensure!(order.start_by.is_none_or(|start_by| now <= start_by), "{} came too late", order.run_id);
            self.started.entry(order.run_id.clone()).or_default().push(now);
            self.payloads.insert(order.run_id.clone(), delivery.payload().to_vec());
            let takes = job_of(&order.run_id).and_then(|job| self.takes.get(job)).copied();
            let ends_at = now.plus(takes.unwrap_or_default());
            self.in_hand.push(InHand { delivery, order, started_at: now, ends_at });
        }
        let mut at_once: BTreeMap<JobId, usize> = BTreeMap::new();
        for job in self.in_hand.iter().filter_map(|run| job_of(&run.order.run_id)) {
            *at_once.entry(job.clone()).or_default() += 1;
        }
        self.most_in_hand = self.most_in_hand.max(self.in_hand.len());
        for (job, count) in at_once {
            let most = self.most_at_once.entry(job).or_default();
            *most = count.max(*most);
        }
        self.end_what_is_done(now).await
    }

    async fn end_what_is_done(&mut self, now: Timestamp) -> Result<()> {
        for run in std::mem::take(&mut self.in_hand) {
            let job = job_of(&run.order.run_id);
            let told = self.signals().told.contains(&run.order.run_id);
            if told && job.is_none_or(|job| !self.stubborn.contains(job)) {
                self.end(run, Outcome::Cancelled, now).await?;
                continue;
            }
            if run.ends_at > now {
                run.delivery.in_progress().await?;
                self.in_hand.push(run);
                continue;
            }
            self.end(run, Outcome::Succeeded, now).await?;
        }
        Ok(())
    }

    /// How a queue's gate stands.
    pub async fn gate(&self, queue: &QueueId) -> Result<GateView> {
        Ok(self.store.gate(self.gates.home(queue), queue).await?)
    }

    async fn end(&self, run: InHand, outcome: Outcome, now: Timestamp) -> Result<()> {
        let InHand { delivery, order, started_at, .. } = run;
        self.signals().in_hand.remove(&order.run_id);
        let (state, error) = match outcome {
            Outcome::Cancelled => (RunState::Cancelled, Some("cancelled".into())),
            _ => (RunState::Succeeded, None),
        };
        let end = AttemptEnd { attempt: 1, outcome, error, started_at, ended_at: now };
        let report = AttemptReport {
            run_id: order.run_id,
            queue: order.queue,
            revision: order.revision,
            generation: order.generation,
            end,
            ends_run: Some(state),
            reason: None,
            due_at: order.due_at,
            executor: "world".into(),
            output: None,
        };
        self.bus.report(&report).await?;
        delivery.ack().await?;
        Ok(())
    }

    fn signals(&self) -> MutexGuard<'_, Signals> {
        self.signals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cancels a run as the API does.
    pub async fn cancel(&self, job: &JobId, due_at: Timestamp) -> Result<CancelOutcome> {
        let named = self.declared(job).await?.schedule.names(due_at);
        let mark = CancelMark { at: self.clock.now(), by: "ada@host-1".into(), reason: None };
        let occurrence = Occurrence { job: job.clone(), due_at };
        Ok(self.store.cancel(shards().shard_of(job), &occurrence, named, &mark, false).await?)
    }

    /// What is remembered of one run.
    pub async fn record(&self, job: &JobId, due_at: Timestamp) -> Result<Option<RunRecord>> {
        let occurrence = Occurrence { job: job.clone(), due_at };
        Ok(self.store.run(shards().shard_of(job), &occurrence).await?)
    }

    /// A job's remembered runs by due instant, at most the newest 500.
    pub async fn runs(&self, job: &JobId) -> Result<BTreeMap<Timestamp, RunRecord>> {
        let runs = self.store.runs(shards().shard_of(job), job, 10_000).await?;
        Ok(runs.into_iter().map(|run| (run.occurrence.due_at, run)).collect())
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

fn job_of(run: &RunId) -> Option<&JobId> {
    match run {
        RunId::Occurrence(occurrence) => Some(&occurrence.job),
        RunId::AdHoc { .. } => None,
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
        || matches!(problem.downcast_ref::<SettleError>(), Some(SettleError::Store(StoreError::Failed(_))))
        || problem.to_string() == StoreError::Failed(INJECTED.into()).to_string()
}
