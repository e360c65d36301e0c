//! Plays a history on the real planner, dispatcher and executor over any stage, and writes down what was seen.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ambient::{Clock, Shutdown};
use anyhow::{Context as _, Result, ensure};
use bus::memory::MemoryBus;
use bytes::Bytes;
use executor_sdk::{Context, Executor, HandlerError};
use harness::mortal::{Life, MortalBus};
use harness::pace::Pace;
use harness::world::{World, WorldBus};
use model::declared::Declared;
use model::id::RunId;
use model::name::{JobId, QueueId};
use model::run::RunState;
use model::shard::ShardId;
use model::time::Timestamp;
use serde_json::{Value, json};
use store::Store;
use store::lease::Role;

use crate::history::{
    Deed, End, History, JOBS, Limits, NAMESPACES, QUEUES, Scene, Work, job, occurrence, queue_of,
};

/// Attempts of one queue at once: more than any history has.
const SLOTS: usize = 10_000;
/// Ticks in which a newly started node may not have taken over yet: the dead one's lease (3 s) and name (5 s) run out first.
const TAKEOVER_S: u32 = 6;

/// Of the runtime's clock, on which a scene takes a few milliseconds for each of its seconds: who needs so long waits for ever.
const STUCK_AFTER: Duration = Duration::from_secs(3_600);

/// Of the world.
const SHARDS: usize = 4;

/// What the model is told of a history: it doesn't know names of runs that a deed meant, nor how leases change hands.
#[derive(Clone, Debug)]
pub(crate) enum Fact {
    Did { at: Timestamp, deed: Deed, answer: Answer },
    Ticked { at: Timestamp, planned: BTreeSet<ShardId>, dispatched: BTreeSet<ShardId>, settled: bool },
}

/// What a deed was answered with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Answer {
    Accepted,
    Refused,
    /// The run that was triggered.
    Triggered(Timestamp),
    /// What became of a run that was to be cancelled; `None`: there was nothing to cancel.
    Cancelled(Option<(Timestamp, String)>),
}

/// An attempt that began, as its handler saw it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Begun {
    pub at: Timestamp,
    pub job: JobId,
    pub due_at: Timestamp,
    pub attempt: u32,
    /// Of the job's manifest.
    pub version: u64,
}

/// How a job stands in the end.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Standing {
    /// State and reason of the newest runs.
    pub runs: BTreeMap<Timestamp, (String, Option<String>)>,
    /// Those that may be forgotten.
    pub forgettable: BTreeSet<Timestamp>,
    /// Succeeded, failed, cancelled, skipped.
    pub counts: [u64; 4],
    pub next_due: Option<Timestamp>,
}

/// All that was seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub begin: Timestamp,
    pub facts: Vec<Fact>,
    pub begun: Vec<Begun>,
    /// The most runs of each queue that were ever published and hadn't ended, while it had limits.
    pub most_at_once: BTreeMap<QueueId, usize>,
    pub standings: BTreeMap<JobId, Standing>,
}

type Witness = Arc<Mutex<Vec<Begun>>>;

fn lock(witness: &Witness) -> MutexGuard<'_, Vec<Begun>> {
    witness.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a history is played on: a bus for all roles, and what else happens to it.
pub(crate) trait Stage: WorldBus + executor_sdk::Bus {
    /// The clock was moved.
    fn wake(&self) {}
    /// Message ids of what isn't stored any more are forgotten.
    fn forget_ids(&self) {}
    /// Waits until requests are answered, or aren't any more.
    fn await_service(&self, _served: bool) -> impl Future<Output = Result<()>> {
        std::future::ready(Ok(()))
    }
}

impl Stage for MemoryBus {
    fn wake(&self) {
        Self::wake(self);
    }

    fn forget_ids(&self) {
        Self::forget_ids(self);
    }
}

struct Play<S, B> {
    world: World<S, B>,
    pace: Option<Pace>,
    seed: u64,
    witness: Witness,
    executor: Option<Life>,
    executors_begun: u32,
    facts: Vec<Fact>,
    begin: Timestamp,
    up_s: [u32; 2],
    limits: Limits,
    most_at_once: BTreeMap<QueueId, usize>,
}

async fn handle(ctx: Context, payload: Bytes, of: Handling) -> Result<(), HandlerError> {
    let Some((job, due_at)) = occurrence(ctx.run_id()) else { return Err(HandlerError::permanent("no run")) };
    let payload: Value = serde_json::from_slice(&payload)?;
    let (at, attempt) = (of.clock.now(), ctx.attempt());
    let version = payload["version"].as_u64().unwrap_or_default();
    lock(&of.witness).push(Begun { at, job: job.clone(), due_at, attempt, version });
    let work = Work::of(of.seed, job, due_at);
    let takes = Duration::from_secs(work.takes_s.into());
    let takes = async {
        match &of.pace {
            Some(pace) => pace.rest(ctx.run_id(), takes).await,
            None => of.clock.sleep(takes).await,
        }
    };
    if work.takes_s > 0 && ctx.cancellation().run_until_cancelled(takes).await.is_none() {
        return Err("stopped".into());
    }
    match work.end(attempt) {
        End::Success => Ok(()),
        End::Failure => Err("no stock".into()),
        End::Permanent => Err(HandlerError::permanent("never")),
        End::Busy(seconds) => Err(HandlerError::retry_after(Duration::from_secs(seconds.into()), "busy")),
    }
}

#[derive(Clone)]
struct Handling {
    seed: u64,
    clock: Clock,
    pace: Option<Pace>,
    witness: Witness,
}

impl<S: Store, B: Stage> Play<S, B> {
    fn start_executor(&mut self) -> Result<()> {
        let life = Life::default();
        let bus = Arc::new(MortalBus {
            bus: Arc::clone(&self.world.bus),
            life: life.clone(),
            pace: self.pace.clone(),
        });
        self.executors_begun += 1;
        let mut executor = Executor::new(bus)
            .clock(self.world.clock.clone())
            .shutdown(Shutdown::new())
            .name(format!("executor-{}", self.executors_begun));
        for queue in QUEUES {
            let of = Handling {
                seed: self.seed,
                clock: self.world.clock.clone(),
                pace: self.pace.clone(),
                witness: Arc::clone(&self.witness),
            };
            let handler = move |ctx, payload| handle(ctx, payload, of.clone());
            executor = executor.queue(queue)?.concurrency(SLOTS).handle_bytes(handler);
        }
        tokio::spawn(executor.run());
        self.executor = Some(life);
        Ok(())
    }

    fn kill_executor(&mut self) {
        if let Some(life) = self.executor.take() {
            life.end();
        }
    }

    async fn tick(&mut self) -> Result<()> {
        self.world.clock.advance(Duration::from_secs(1));
        self.world.bus.wake();
        self.world.quiet().await?;
        self.world.work().await?;
        self.world.quiet().await?;
        if self.limits != Limits::default() {
            self.count_under_way().await?;
        }
        let (planned, dispatched) = (self.world.held(Role::Planner), self.world.held(Role::Dispatcher));
        for ((role, held), up_s) in
            [(Role::Planner, &planned), (Role::Dispatcher, &dispatched)].into_iter().zip(&mut self.up_s)
        {
            *up_s = if self.world.is_up(role) { *up_s + 1 } else { 0 };
            ensure!(
                *up_s <= TAKEOVER_S || held.len() == SHARDS,
                "{role:?}: nobody took over all of {held:?}"
            );
        }
        let settled = self.world.is_up(Role::Dispatcher);
        self.facts.push(Fact::Ticked { at: self.world.clock.now(), planned, dispatched, settled });
        Ok(())
    }

    /// Counts what is under way in queues with limits.
    async fn count_under_way(&mut self) -> Result<()> {
        let mut under_way: BTreeMap<QueueId, usize> = BTreeMap::new();
        for which in 0..JOBS.len() {
            let job = job(which)?;
            let runs = self.world.runs(&job).await?;
            let count = runs.values().filter(|run| run.state == RunState::Dispatched).count();
            *under_way.entry(queue_of(&job)?).or_default() += count;
        }
        for (queue, count) in under_way {
            let most = self.most_at_once.entry(queue).or_default();
            *most = count.max(*most);
        }
        Ok(())
    }

    async fn have_all_ended(&self) -> Result<bool> {
        for which in 0..JOBS.len() {
            let runs = self.world.runs(&job(which)?).await?;
            if !runs.values().all(|run| run.state.is_end()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn ask(&self, verb: &str, request: Value) -> Answer {
        match self.world.ask(verb, request).await {
            Ok(_) => Answer::Accepted,
            Err(_) => Answer::Refused,
        }
    }

    async fn cancel(&self, target: Option<(JobId, Timestamp)>) -> Answer {
        let Some((job, due_at)) = target else { return Answer::Cancelled(None) };
        let reply = self.world.ask("cancel", json!({"run": format!("{job}@{due_at}")})).await;
        let said = match reply {
            Ok(reply) => reply["state"].as_str().unwrap_or_default().to_owned(),
            Err(problem) if problem.to_string().contains("ended already") => "ended".into(),
            Err(_) => "unknown".into(),
        };
        Answer::Cancelled(Some((due_at, said)))
    }

    async fn declared(&self, job: &JobId) -> Option<Declared> {
        self.world.declared(job).await.ok()
    }

    async fn act(&mut self, deed: &Deed) -> Result<Answer> {
        let turn = |kind: &str, name: &str| json!({kind: name});
        Ok(match deed {
            Deed::Apply(which, spec) => {
                self.ask("apply", json!({"manifests": [spec.manifest(JOBS[*which], self.begin)]})).await
            }
            Deed::Delete(which) => self.ask("delete", turn("job", JOBS[*which])).await,
            Deed::Pause(which) => self.ask("pause", turn("job", JOBS[*which])).await,
            Deed::Resume(which) => self.ask("resume", turn("job", JOBS[*which])).await,
            Deed::PauseNamespace(which) => self.ask("pause", turn("namespace", NAMESPACES[*which])).await,
            Deed::ResumeNamespace(which) => self.ask("resume", turn("namespace", NAMESPACES[*which])).await,
            Deed::PauseQueue(which) => self.limit(QUEUES[*which], true).await,
            Deed::ResumeQueue(which) => self.limit(QUEUES[*which], false).await,
            Deed::LiftLimits => {
                self.limits = Limits::default();
                self.limit_all().await
            }
            Deed::Trigger(which) => match self.world.ask("trigger", turn("job", JOBS[*which])).await {
                Ok(reply) => {
                    let run: RunId = reply["run"].as_str().context("a run")?.parse()?;
                    Answer::Triggered(occurrence(&run).context("an occurrence")?.1)
                }
                Err(_) => Answer::Refused,
            },
            Deed::CancelNext(which, ahead) => {
                let job = job(*which)?;
                let mut due_at = Some(self.world.clock.now());
                let declared = self.declared(&job).await;
                for _ in 0..=*ahead {
                    due_at = due_at.and_then(|after| declared.as_ref()?.timeline.next_after(after));
                }
                self.cancel(due_at.map(|due_at| (job, due_at))).await
            }
            Deed::CancelLast(which) => {
                let job = job(*which)?;
                let last = lock(&self.witness).iter().rev().find(|begun| begun.job == job).cloned();
                self.cancel(last.map(|begun| (begun.job, begun.due_at))).await
            }
            Deed::CrashPlanner => self.crash(&[Role::Planner]).await?,
            Deed::StartPlanner => self.start(&[Role::Planner]).await?,
            Deed::CrashDispatcher => self.crash(&[Role::Dispatcher]).await?,
            Deed::StartDispatcher => self.start(&[Role::Dispatcher]).await?,
            Deed::Crash => self.crash(&[Role::Planner, Role::Dispatcher]).await?,
            Deed::Start => self.start(&[Role::Planner, Role::Dispatcher]).await?,
            Deed::KillExecutor => {
                self.kill_executor();
                Answer::Accepted
            }
            Deed::StartExecutor => {
                if self.executor.is_none() {
                    self.start_executor()?;
                }
                Answer::Accepted
            }
            Deed::ForgetIds => {
                self.world.bus.forget_ids();
                Answer::Accepted
            }
            Deed::Nothing => Answer::Accepted,
        })
    }

    async fn limit(&self, id: &str, paused: bool) -> Answer {
        self.ask("apply", queue(id, self.limits, paused)).await
    }

    async fn limit_all(&self) -> Answer {
        let mut answers = BTreeSet::new();
        for queue in QUEUES {
            answers.insert(self.limit(queue, false).await);
        }
        answers.into_iter().next_back().unwrap_or(Answer::Accepted)
    }

    async fn crash(&mut self, roles: &[Role]) -> Result<Answer> {
        for role in roles {
            match role {
                Role::Planner => self.world.crash_planner(),
                Role::Dispatcher => self.world.crash_dispatcher(),
            }
            self.up_s[*role as usize] = 0;
        }
        if self.pace.is_some() {
            self.world.bury().await?;
        }
        self.world.bus.await_service(self.world.is_up(Role::Planner)).await?;
        Ok(Answer::Accepted)
    }

    async fn start(&mut self, roles: &[Role]) -> Result<Answer> {
        for role in roles {
            match role {
                role if self.world.is_up(*role) => {}
                Role::Planner => self.world.start_planner(),
                Role::Dispatcher => self.world.start_dispatcher(),
            }
        }
        self.world.bus.await_service(self.world.is_up(Role::Planner)).await?;
        Ok(Answer::Accepted)
    }

    async fn scene(&mut self, scene: &Scene) -> Result<()> {
        let answer = self.act(&scene.deed).await?;
        self.world.quiet().await?;
        self.facts.push(Fact::Did { at: self.world.clock.now(), deed: scene.deed.clone(), answer });
        for _ in 0..scene.then_s {
            self.tick().await?;
            if scene.deed == Deed::LiftLimits && self.have_all_ended().await? {
                break;
            }
        }
        Ok(())
    }

    async fn standing(&self, job: &JobId) -> Result<Option<Standing>> {
        let Ok(view) = self.world.ask("get", json!({"job": job.to_string()})).await else { return Ok(None) };
        let status = &view["status"];
        let count = |name: &str| status["stats"][name].as_u64().unwrap_or_default();
        let runs = self.world.runs(job).await?.into_iter();
        let told = |(due_at, run): (Timestamp, store::ledger::RunRecord)| {
            let reason = run.skip_reason.or_else(|| {
                // An executor that skips a run says why as its output.
                run.output.filter(|_| run.state == RunState::Skipped)
            });
            (due_at, (run.state.as_str().to_owned(), reason))
        };
        Ok(Some(Standing {
            runs: runs.map(told).collect(),
            forgettable: BTreeSet::new(),
            counts: ["succeeded", "failed", "cancelled", "skipped"].map(count),
            next_due: status["nextDueAt"].as_str().map(str::parse).transpose()?,
        }))
    }
}

fn queue(id: &str, limits: Limits, paused: bool) -> Value {
    let (namespace, name) = id.split_once('/').unwrap_or_default();
    let metadata = json!({"name": name, "namespace": namespace});
    let mut spec = json!({"paused": paused});
    if let Some(concurrency) = limits.concurrency {
        spec["concurrency"] = json!(concurrency);
    }
    if let Some((starts, period_s, burst)) = limits.rate {
        spec["rate"] = json!(format!("{starts}/{period_s}s burst {burst}"));
    }
    json!({"manifests": [{"apiVersion": "ecron/v1", "kind": "Queue", "metadata": metadata, "spec": spec}]})
}

/// Plays a history in a world where nothing has happened yet.
pub(crate) async fn play_in<S: Store, B: Stage>(
    history: &History,
    world: World<S, B>,
    pace: Option<Pace>,
) -> Result<Seen> {
    let begin = world.clock.now();
    let mut play = Play {
        world,
        pace,
        seed: history.seed,
        witness: Witness::default(),
        executor: None,
        executors_begun: 0,
        facts: Vec::new(),
        begin,
        up_s: [0; 2],
        limits: history.limits,
        most_at_once: BTreeMap::new(),
    };
    play.start_executor()?;
    play.start(&[Role::Planner, Role::Dispatcher]).await?;
    play.world.quiet().await?;
    if history.limits != Limits::default() {
        ensure!(play.limit_all().await == Answer::Accepted, "the limits aren't accepted");
    }
    for _ in 0..3 {
        play.tick().await?;
    }
    for scene in &history.scenes {
        let playing = tokio::time::timeout(STUCK_AFTER, play.scene(scene)).await;
        playing.with_context(|| format!("{:?} never ends", scene.deed))??;
    }
    let mut standings = BTreeMap::new();
    for which in 0..JOBS.len() {
        let job = job(which)?;
        if let Some(standing) = play.standing(&job).await? {
            standings.insert(job, standing);
        }
    }
    let begun = std::mem::take(&mut *lock(&play.witness));
    play.kill_executor();
    Ok(Seen { begin, facts: play.facts, begun, most_at_once: play.most_at_once, standings })
}

/// Plays a history over the memory twins; the same one looks the same every time.
pub(crate) fn play(history: &History) -> Result<Seen> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(async { play_in(history, World::without_executor()?, None).await })
}
