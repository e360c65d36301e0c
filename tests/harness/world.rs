//! A whole ecron on a clock that a test moves: planner, dispatcher, settler and, over the memory twins, a bare-bones
//! executor. It takes steps of one second; what it does in one is what the real loops do, in the same order every time.

mod bare_executor;
mod ground;
mod twins;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ambient::Clock;
use anyhow::{Context, Result, bail, ensure};
use bus::api::ApiHandler;
use bus::memory::MemoryBus;
use dispatcher::barrier::Barrier;
use dispatcher::cancel::Canceller;
use dispatcher::gate::Gates;
use dispatcher::gate_keeper::GateKeeper;
use dispatcher::jobs::Jobs;
use dispatcher::queue_rules::QueueRules;
use dispatcher::reconcile::Reconciler;
use dispatcher::settle::{SettleError, Settler};
use dispatcher::shard::{PassError, ShardDispatch};
use futures_util::FutureExt;
use model::declared::Declared;
use model::id::{Occurrence, RunId};
use model::manifest::{self, Node};
use model::name::{JobId, QueueId};
use model::shard::{ShardCount, ShardId};
use model::spec::JobSpec;
use model::time::Timestamp;
use planner::api::Api;
use planner::audits::Audits;
use planner::backfill::BackfillError;
use planner::completeness::AuditError;
use planner::feed::Feed;
use planner::pass::{DeclaredCache, plan_shard};
use store::gate::GateView;
use store::lease::Role;
use store::ledger::{CancelMark, CancelOutcome, RunRecord};
use store::memory::MemoryStore;
use store::node::Node as Member;
use store::ownership::{Lease, Ownership};
use store::{Store, StoreError};
use tokio_util::task::AbortOnDropHandle;

use bare_executor::{InHand, Signals};
pub use ground::{Ground, WorldBus};

/// Few shards, so that each one has several jobs.
const SHARDS: u16 = 4;
const KEY: [u8; 16] = *b"a key for tests.";
/// How long a reconciler may wait for outcomes that are stored but not settled.
const BARRIER_PATIENCE: Duration = Duration::from_secs(2);

/// Tries to settle what is stored on servers.
const SETTLE_TRIES_MAX: usize = 100;
/// How often the planner audits each shard.
pub const AUDIT_PERIOD: Duration = Duration::from_secs(10);

/// What a test lets the store say when it goes wrong: the real loops would try again.
pub const INJECTED: &str = "injected";

/// A planner, until it crashes.
#[derive(Debug)]
struct PlannerProcess {
    member: Member,
    ownership: Ownership,
    cache: DeclaredCache,
    audits: Audits,
    /// Answers requests for as long as it lives.
    _serving: AbortOnDropHandle<()>,
}

/// A dispatcher, until it crashes.
#[derive(Debug)]
struct DispatcherProcess<S, B> {
    member: Member,
    ownership: Ownership,
    shards: BTreeMap<ShardId, ShardDispatch<S, B>>,
    keepers: BTreeMap<ShardId, GateKeeper<S, B>>,
    jobs: Jobs,
}

#[derive(Debug)]
pub struct World<S = MemoryStore, B = MemoryBus> {
    pub clock: Clock,
    pub store: Arc<S>,
    pub bus: Arc<B>,
    ground: Ground,
    planner: Option<PlannerProcess>,
    dispatcher: Option<DispatcherProcess<S, B>>,
    processes_begun: u32,
    /// Of processes that crashed.
    dead: Vec<(Role, Member)>,
    gates: Gates<S, B>,
    settler: Settler<S, B>,
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
    /// The planner doesn't audit: over a long day of many jobs that takes more time than all the rest.
    pub unaudited: bool,
    /// Somebody takes things out of the store by hand; while nobody does, the audit must find nothing.
    pub losing: bool,
    /// What the audit found, and put right.
    pub found: AtomicUsize,
    pub repaired: AtomicUsize,
    /// Runs that take no notice of a cancellation.
    pub stubborn: BTreeSet<JobId>,
    signals: Arc<Mutex<Signals>>,
    /// Whether the world has an executor of its own.
    executes: bool,
}

fn shards() -> ShardCount {
    ShardCount::new(SHARDS).unwrap_or_default()
}

impl<S: Store, B: WorldBus> World<S, B> {
    /// A world without executor over any store and bus.
    pub fn over(store: Arc<S>, bus: Arc<B>, clock: Clock, ground: Ground) -> Self {
        let rules = QueueRules::default();
        let gates = Gates::new(Arc::clone(&store), Arc::clone(&bus), clock.clone(), shards(), rules);
        let settler = Settler::new(gates.clone());
        Self {
            clock,
            store,
            bus,
            ground,
            planner: None,
            dispatcher: None,
            processes_begun: 0,
            dead: Vec::new(),
            executes: false,
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
            unaudited: false,
            losing: false,
            found: AtomicUsize::new(0),
            repaired: AtomicUsize::new(0),
            signals: Arc::default(),
        }
    }

    /// Waits until nobody has anything left to do at the present instant.
    pub async fn quiet(&self) -> Result<()> {
        (self.ground.quiet)().await
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
        let answer = self.api().answer(verb, request.to_string().as_bytes()).await;
        let mut answer: serde_json::Value = serde_json::from_slice(&answer)?;
        ensure!(answer.get("error").is_none(), "{verb} was answered with {}", answer["error"]);
        Ok(answer["ok"].take())
    }

    fn api(&self) -> Api<S, B> {
        Api::new(Arc::clone(&self.store), Arc::clone(&self.bus), self.clock.clone(), shards())
    }

    /// Answers the requests that come over the bus, as executors' do.
    async fn serve(api: Api<S, B>, bus: Arc<B>) {
        let api = Arc::new(api);
        let handler: ApiHandler = Arc::new(move |verb, body| {
            let api = Arc::clone(&api);
            async move { api.answer(&verb, &body).await }.boxed()
        });
        // It ends only if the bus is down; then nobody is answered.
        let _ = bus.serve(handler).await;
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

    /// Planner and dispatcher die as they stand; their leases run out by themselves.
    pub fn crash(&mut self) {
        self.crash_planner();
        self.crash_dispatcher();
    }

    pub fn crash_planner(&mut self) {
        self.dead.extend(self.planner.take().map(|planner| (Role::Planner, planner.member)));
    }

    pub fn crash_dispatcher(&mut self) {
        self.dead.extend(self.dispatcher.take().map(|dispatcher| (Role::Dispatcher, dispatcher.member)));
    }

    /// Leases and names of the dead run out now: on servers they would by the server's clock, which nobody here can move.
    pub async fn bury(&mut self) -> Result<()> {
        let all: Vec<ShardId> = shards().all().collect();
        for (role, member) in std::mem::take(&mut self.dead) {
            self.store.release(role, &member.id, &all).await?;
            self.store.forget(&member.id).await?;
        }
        Ok(())
    }

    pub fn start(&mut self) {
        self.start_planner();
        self.start_dispatcher();
    }

    pub fn start_planner(&mut self) {
        let member = self.next_member(Role::Planner);
        let ownership = Ownership::new(Role::Planner, &member.id, shards());
        let serving = tokio::spawn(Self::serve(self.api(), Arc::clone(&self.bus)));
        self.planner = Some(PlannerProcess {
            member,
            ownership,
            cache: DeclaredCache::default(),
            audits: Audits::new(AUDIT_PERIOD),
            _serving: AbortOnDropHandle::new(serving),
        });
    }

    pub fn start_dispatcher(&mut self) {
        let member = self.next_member(Role::Dispatcher);
        self.dispatcher = Some(DispatcherProcess {
            ownership: Ownership::new(Role::Dispatcher, &member.id, shards()),
            member,
            shards: BTreeMap::new(),
            keepers: BTreeMap::new(),
            jobs: Jobs::default(),
        });
    }

    fn next_member(&mut self, role: Role) -> Member {
        self.processes_begun += 1;
        let id = format!("node-{}", self.processes_begun);
        Member { id, roles: vec![role], weight: 100, version: "test".into() }
    }

    /// The shards in the hands of whoever is there in a role.
    #[must_use]
    pub fn held(&self, role: Role) -> BTreeSet<ShardId> {
        let ownership = match role {
            Role::Planner => self.planner.as_ref().map(|planner| &planner.ownership),
            Role::Dispatcher => self.dispatcher.as_ref().map(|dispatcher| &dispatcher.ownership),
        };
        ownership.into_iter().flat_map(|ownership| ownership.held().keys().copied()).collect()
    }

    #[must_use]
    pub fn is_up(&self, role: Role) -> bool {
        match role {
            Role::Planner => self.planner.is_some(),
            Role::Dispatcher => self.dispatcher.is_some(),
        }
    }

    /// What every loop does in one second, in the order of the flow.
    pub async fn work(&mut self) -> Result<()> {
        if let Some(mut planner) = self.planner.take() {
            let outcome = self.plan(&mut planner).await;
            self.planner = Some(planner);
            unless_passing(outcome)?;
        }
        if let Some(mut dispatcher) = self.dispatcher.take() {
            let outcome = self.dispatch(&mut dispatcher).await;
            self.dispatcher = Some(dispatcher);
            unless_passing(outcome)?;
        }
        Ok(())
    }

    async fn plan(&self, process: &mut PlannerProcess) -> Result<()> {
        process.ownership.beat(&*self.store, &process.member, || self.clock.now()).await?;
        let (leases, now) = (process.ownership.held().clone(), self.clock.now());
        let mut feed = Feed::open(&*self.store, &*self.bus, &leases, &self.clock).await?;
        while !leases.is_empty() && !feed.next_chunk().await? {}
        for lease in leases.values() {
            plan_shard(&*self.store, lease.shard, lease.epoch, &process.cache, now).await?;
        }
        let leases: Vec<Lease> = leases.into_values().collect();
        planner::backfill::pass(&*self.store, &*self.bus, &leases, shards(), now).await?;
        if self.unaudited {
            return Ok(());
        }
        let (store, bus) = (&*self.store, &*self.bus);
        let found = process.audits.step(store, bus, &process.cache, &leases, now).await?;
        if self.losing {
            self.found.fetch_add(found.found, Ordering::Relaxed);
            self.repaired.fetch_add(found.repaired, Ordering::Relaxed);
        } else {
            ensure!(found.found == 0, "the audit found what nobody took out: {found:?}");
        }
        Ok(())
    }

    async fn dispatch(&self, process: &mut DispatcherProcess<S, B>) -> Result<()> {
        self.beat(process).await?;
        let now = self.clock.now();
        self.gates.rules().refresh(&*self.bus).await?;
        if !self.unsettled {
            // All of it: a barrier would wait for the rest by a clock that stands still here.
            self.settle().await?;
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
        if !self.executes {
            // Whoever carries out runs gets at them before somebody wants them back.
            self.quiet().await?;
        }
        let canceller = Canceller { gates: self.gates.clone(), message_id_key: KEY };
        for lease in process.ownership.held().values() {
            canceller.run_once(lease, now).await?;
        }
        let reconciler = Reconciler {
            gates: self.gates.clone(),
            jobs: process.jobs.clone(),
            message_id_key: KEY,
            barrier: Barrier::new(self.clock.clone()),
        };
        // Each shard for itself: outcomes that one waits for are no business of the others.
        let mut reconciled = Ok(());
        for lease in process.ownership.held().values() {
            // An executor may have reported since: its barrier waits by a clock that stands still here.
            let pass = tokio::time::timeout(BARRIER_PATIENCE, reconciler.run_once(lease, now));
            reconciled = reconciled.and(pass.await.unwrap_or(Err(PassError::OutcomesBehind)).map(drop));
        }
        Ok(reconciled?)
    }

    /// Settles what is stored.
    async fn settle(&self) -> Result<()> {
        let wait = self.ground.settle_wait;
        if wait.is_zero() {
            while self.settler.run_once(wait).await?.events > 0 {}
            return Ok(());
        }
        for _ in 0..SETTLE_TRIES_MAX {
            let progress = self.bus.event_progress().await?;
            if progress.settled_until >= progress.last_sequence {
                return Ok(());
            }
            self.settler.run_once(wait).await?;
        }
        bail!("events are stored that nobody can settle")
    }

    async fn beat(&self, process: &mut DispatcherProcess<S, B>) -> Result<()> {
        let beat = process.ownership.beat(&*self.store, &process.member, || self.clock.now());
        let (change, _) = beat.await?;
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

    /// How a queue's gate stands.
    pub async fn gate(&self, queue: &QueueId) -> Result<GateView> {
        Ok(self.store.gate(self.gates.home(queue), queue).await?)
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
}

/// The next step's beat finds the new owner, or a wiped store.
fn unless_passing(outcome: Result<()>) -> Result<()> {
    match outcome {
        Err(problem) if !is_passing(&problem) => Err(problem),
        Ok(()) | Err(_) => Ok(()),
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
        || matches!(
            problem.downcast_ref(),
            Some(AuditError::Store(StoreError::Fenced | StoreError::Failed(_)))
        )
        || matches!(problem.downcast_ref::<SettleError>(), Some(SettleError::Store(StoreError::Failed(_))))
        || problem.to_string() == StoreError::Failed(INJECTED.into()).to_string()
}
