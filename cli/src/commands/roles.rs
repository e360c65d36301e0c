//! `ecron planner`, `ecron dispatcher`, `ecron executor`: one role each, against given servers.

use std::sync::Arc;

use ambient::{Clock, Entropy, Shutdown};
use bus::Checkpoints;
use bus::checkpoints::Cluster;
use bus::nats::NatsBus;
use dispatcher::{Dispatcher, DispatcherConfig};
use model::name::QueueId;
use model::shard::ShardCount;
use planner::{Planner, PlannerConfig};
use store::lease::Role;
use store::node::Node;
use store::redis::RedisStore;

use crate::args::{ExecutorArgs, RoleArgs, Servers};
use crate::commands::audit::{AuditPeriodArgs, PlannerArgs};
use crate::config;
use crate::connect;
use crate::executor::{BuiltinOptions, run as run_builtin};
use crate::failure::Failure;
use crate::output;
use crate::patience::{Patience, Setback};
use crate::preflight::{Demands, preflight};

/// What every node needs before it begins.
pub(crate) struct Foundation {
    pub(crate) store: Arc<RedisStore>,
    pub(crate) bus: Arc<NatsBus>,
    pub(crate) cluster: Cluster,
    pub(crate) clock: Clock,
    pub(crate) entropy: Entropy,
}

/// Prepares both servers: streams, settings, and what an operator should know about them.
pub(crate) async fn lay(
    store: RedisStore,
    bus: NatsBus,
    shards: u16,
    demands: &Demands,
) -> Result<Foundation, Failure> {
    let (clock, entropy) = (Clock::system(), Entropy::system());
    let cluster = prepare(&store, &bus, shards, demands, &clock, &entropy).await?;
    Ok(Foundation { store: Arc::new(store), bus: Arc::new(bus), cluster, clock, entropy })
}

async fn prepare(
    store: &RedisStore,
    bus: &NatsBus,
    shards: u16,
    demands: &Demands,
    clock: &Clock,
    entropy: &Entropy,
) -> Result<Cluster, Setback> {
    bus.ensure_streams().await?;
    preflight(store, bus, demands).await?;
    let proposal = Cluster {
        id: entropy.mint_id(),
        shards: ShardCount::new(shards).unwrap_or_default(),
        message_id_key: entropy.key128(),
        created_at: clock.now(),
    };
    let cluster = bus.init_cluster(&proposal).await?;
    if cluster.shards.get() != shards && cluster.id != proposal.id {
        tracing::debug!(
            shards = cluster.shards.get(),
            "the cluster's number of shards was fixed when it was initialised"
        );
    }
    Ok(cluster)
}

/// The same for a node that may start before its servers do. `None`: it was stopped while it waited.
async fn lay_patiently(
    servers: &Servers,
    args: &RoleArgs,
    shutdown: &Shutdown,
) -> Result<Option<Foundation>, Failure> {
    let (clock, entropy) = (Clock::system(), Entropy::system());
    let patience = Patience { wait: args.connect.connect_wait, clock: &clock, shutdown };
    let redis = patience.until_there("Redis", async || connect::redis(servers).await).await?;
    let Some(store) = redis else { return Ok(None) };
    let nats = patience.until_there("NATS", async || connect::nats(servers).await).await?;
    let Some(bus) = nats else { return Ok(None) };
    let demands =
        Demands { profile: config::profile(servers)?, accept_data_loss: args.accept_data_loss.clone() };
    let prepared = async || prepare(&store, &bus, args.shards, &demands, &clock, &entropy).await;
    let Some(cluster) = patience.until_there("Redis and JetStream", prepared).await? else { return Ok(None) };
    Ok(Some(Foundation { store: Arc::new(store), bus: Arc::new(bus), cluster, clock, entropy }))
}

impl Foundation {
    fn node(&self, role: Role, weight: u32) -> Node {
        let word = match role {
            Role::Planner => "planner",
            Role::Dispatcher => "dispatcher",
        };
        let unique: String = self.entropy.mint_id().chars().take(8).collect();
        Node {
            id: format!("{word}-{}-{unique}", host()),
            roles: vec![role],
            weight,
            version: env!("CARGO_PKG_VERSION").into(),
        }
    }

    pub(crate) fn planner(&self, weight: u32, audit: &AuditPeriodArgs) -> Planner<RedisStore, NatsBus> {
        let config = PlannerConfig {
            node: self.node(Role::Planner, weight),
            shards: self.cluster.shards,
            audit_period: audit.audit_period,
        };
        Planner::new(Arc::clone(&self.store), Arc::clone(&self.bus), self.clock.clone(), config)
    }

    pub(crate) fn dispatcher(&self, weight: u32) -> Dispatcher<RedisStore, NatsBus> {
        let config = DispatcherConfig {
            node: self.node(Role::Dispatcher, weight),
            shards: self.cluster.shards,
            message_id_key: self.cluster.message_id_key,
        };
        Dispatcher::new(Arc::clone(&self.store), Arc::clone(&self.bus), self.clock.clone(), config)
    }
}

/// The host's name, as far as it is known, for people who read `inspect nodes`.
fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "host".into(), |name| name.trim().to_owned())
}

pub(crate) async fn planner(servers: &Servers, args: &PlannerArgs) -> Result<(), Failure> {
    let shutdown = Shutdown::on_signals()?;
    let Some(foundation) = lay_patiently(servers, &args.role, &shutdown).await? else { return Ok(()) };
    output::line("planner is running; Ctrl-C stops it")?;
    Box::pin(foundation.planner(args.role.weight, &args.audit).run(shutdown)).await;
    Ok(())
}

pub(crate) async fn dispatcher(servers: &Servers, args: &RoleArgs) -> Result<(), Failure> {
    let shutdown = Shutdown::on_signals()?;
    let Some(foundation) = lay_patiently(servers, args, &shutdown).await? else { return Ok(()) };
    output::line("dispatcher is running; Ctrl-C stops it")?;
    foundation.dispatcher(args.weight).run(shutdown).await;
    Ok(())
}

pub(crate) async fn executor(servers: &Servers, args: &ExecutorArgs) -> Result<(), Failure> {
    let mut queues = Vec::new();
    for queue in &args.queues {
        let parsed = queue.parse::<QueueId>();
        queues.push(
            parsed.map_err(|problem| Failure::input(format!("failed to read queue {queue:?}: {problem}")))?,
        );
    }
    let shutdown = Shutdown::on_signals()?;
    let clock = Clock::system();
    let patience = Patience { wait: args.connect.connect_wait, clock: &clock, shutdown: &shutdown };
    let nats = patience.until_there("NATS", async || connect::nats(servers).await).await?;
    let Some(bus) = nats else { return Ok(()) };
    let streams = patience.until_there("JetStream", async || Ok(bus.ensure_streams().await?)).await?;
    let Some(findings) = streams else { return Ok(()) };
    for finding in findings {
        tracing::warn!(finding, "nats");
    }
    let options =
        BuiltinOptions { queues, allow_exec: args.allow_exec, concurrency: usize::from(args.concurrency) };
    output::line("executor is running; Ctrl-C stops it")?;
    run_builtin(Arc::new(bus), options, clock, shutdown).await?;
    Ok(())
}
