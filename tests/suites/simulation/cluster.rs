//! The nodes: planners, dispatchers and executors as they are, each a process of its own with its own clock and its own line to the
//! memory twins of Redis and NATS. All of them run on one thread, by tokio's time, which stands still while anybody has something to do.

use std::sync::Arc;
use std::time::Duration;

use ambient::{Clock, Entropy, Shutdown};
use anyhow::Result;
use bus::memory::MemoryBus;
use bytes::Bytes;
use dispatcher::{Dispatcher, DispatcherConfig};
use executor_sdk::{Context, Executor, HandlerError};
use model::shard::ShardCount;
use model::time::Timestamp;
use planner::audits::AUDIT_PERIOD;
use planner::service::{Planner, PlannerConfig};
use store::lease::Role;
use store::memory::MemoryStore;
use store::node::Node as Member;
use tokio::task::AbortHandle;

use crate::jobs::{Conduct, Payload, QUEUES};
use crate::line::Line;
use crate::linked_bus::LinkedBus;
use crate::watch::Watch;

const BEGIN: &str = "2026-11-22T06:45:00.500Z";
const KEY: [u8; 16] = *b"a key for tests.";
const ACK_WAIT: Duration = Duration::from_secs(30);
/// Attempts of one queue in one executor.
const SLOTS: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Planner,
    Dispatcher,
    Executor,
}

/// A process.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) line: Line,
    pub(crate) clock: Clock,
    shutdown: Shutdown,
    task: AbortHandle,
}

/// A host: what runs there comes and goes, its clock stays as it is.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) kind: Kind,
    /// How far its clock is off.
    skew_ms: i64,
    pub(crate) process: Option<Process>,
}

#[derive(Debug)]
pub(crate) struct Cluster {
    /// The servers'.
    pub(crate) clock: Clock,
    pub(crate) store: MemoryStore,
    pub(crate) bus: MemoryBus,
    pub(crate) watch: Watch,
    pub(crate) shards: ShardCount,
    entropy: Entropy,
    pub(crate) hosts: Vec<Host>,
    processes_begun: u32,
}

/// How many there are of each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) shards: u16,
    pub(crate) planners: usize,
    pub(crate) dispatchers: usize,
    pub(crate) executors: usize,
}

async fn handle(ctx: Context, payload: Bytes, line: Line) -> Result<(), HandlerError> {
    line.lives().await;
    line.watch().began(line.name(), ctx.run_id(), ctx.due_at(), ctx.attempt(), ctx.attempts_max());
    let payload: Payload = serde_json::from_slice(&payload)?;
    let takes = tokio::time::sleep(Duration::from_millis(payload.takes_ms));
    if ctx.cancellation().run_until_cancelled(takes).await.is_none() {
        return Err("stopped".into());
    }
    match payload.conduct {
        Conduct::Succeed => Ok(()),
        Conduct::Stumble if ctx.attempt() > 1 => Ok(()),
        Conduct::Stumble | Conduct::Fail => Err("no stock".into()),
    }
}

impl Cluster {
    pub(crate) fn new(seed: u64, size: Size, traced: bool) -> Result<Self> {
        let begin: Timestamp = BEGIN.parse()?;
        let clock = Clock::simulated(begin);
        let reading = || {
            let clock = clock.clone();
            Arc::new(move || clock.now())
        };
        let watch = Watch::new(clock.clone(), traced);
        let host = |kind| Host { kind, skew_ms: 0, process: None };
        let hosts = std::iter::repeat_with(|| host(Kind::Planner))
            .take(size.planners)
            .chain(std::iter::repeat_with(|| host(Kind::Dispatcher)).take(size.dispatchers))
            .chain(std::iter::repeat_with(|| host(Kind::Executor)).take(size.executors))
            .collect();
        Ok(Self {
            store: MemoryStore::new(reading()),
            bus: MemoryBus::new(reading(), ACK_WAIT),
            clock,
            watch,
            shards: ShardCount::new(size.shards).unwrap_or_default(),
            entropy: Entropy::seeded(seed ^ 0x5eed),
            hosts,
            processes_begun: 0,
        })
    }

    /// A line for somebody new.
    pub(crate) fn line(&mut self, name: &str) -> Line {
        Line::new(name.into(), Entropy::seeded(self.entropy.next_u64()), self.watch.clone())
    }

    pub(crate) fn linked_bus(&self, line: &Line) -> LinkedBus {
        LinkedBus { bus: self.bus.clone(), line: line.clone() }
    }

    /// Starts a process on a host; the one that is there has been told to leave.
    pub(crate) fn start(&mut self, which: usize) -> Result<()> {
        self.processes_begun += 1;
        let (kind, skew_ms) = (self.hosts[which].kind, self.hosts[which].skew_ms);
        let id = format!("{kind:?}-{}", self.processes_begun).to_lowercase();
        let line = self.line(&id);
        let store = Arc::new(self.store.linked(Arc::new(line.clone())));
        let bus = Arc::new(self.linked_bus(&line));
        let clock = Clock::simulated(self.clock.now().plus_ms(skew_ms));
        let shutdown = Shutdown::new();
        let member = |role| Member { id: id.clone(), roles: vec![role], weight: 100, version: "test".into() };
        let task = match kind {
            Kind::Planner => {
                let config = PlannerConfig {
                    node: member(Role::Planner),
                    shards: self.shards,
                    audit_period: AUDIT_PERIOD,
                };
                let planner = Planner::new(store, bus, clock.clone(), config);
                tokio::spawn(planner.run(shutdown.clone())).abort_handle()
            }
            Kind::Dispatcher => {
                let (node, shards) = (member(Role::Dispatcher), self.shards);
                let config = DispatcherConfig { node, shards, message_id_key: KEY };
                let dispatcher = Dispatcher::new(store, bus, clock.clone(), config);
                tokio::spawn(dispatcher.run(shutdown.clone())).abort_handle()
            }
            Kind::Executor => {
                let mut executor =
                    Executor::new(bus).clock(clock.clone()).shutdown(shutdown.clone()).name(id.clone());
                for queue in QUEUES {
                    let line = line.clone();
                    executor = executor
                        .queue(queue)?
                        .concurrency(SLOTS)
                        .handle_bytes(move |ctx, payload| handle(ctx, payload, line.clone()));
                }
                tokio::spawn(executor.run()).abort_handle()
            }
        };
        self.watch.trace(|| format!("{id} starts"));
        self.hosts[which].process = Some(Process { line, clock, shutdown, task });
        Ok(())
    }

    /// What runs on a host dies as it stands.
    pub(crate) fn kill(&mut self, which: usize) {
        if let Some(process) = self.hosts[which].process.take() {
            self.watch.trace(|| format!("{} dies", process.line.name()));
            process.line.die();
            process.task.abort();
        }
    }

    /// What runs on a host is told to leave, and does so in its own time.
    pub(crate) fn leave(&mut self, which: usize) {
        if let Some(process) = self.hosts[which].process.take() {
            self.watch.trace(|| format!("{} leaves", process.line.name()));
            process.shutdown.stop();
        }
    }

    /// Steps a host's clock.
    pub(crate) fn step_clock(&mut self, which: usize, by_ms: i64) {
        let host = &mut self.hosts[which];
        host.skew_ms += by_ms;
        if let Some(process) = &host.process {
            process.clock.step_ms(by_ms);
        }
    }

    /// Every line is mended.
    pub(crate) fn heal(&self) {
        self.hosts.iter().filter_map(|host| host.process.as_ref()).for_each(|process| process.line.heal());
    }
}
