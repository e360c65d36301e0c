//! `ecron planner`, `ecron dispatcher`, `ecron executor`: one role each, against given servers.

use std::sync::Arc;

use ambient::{Clock, Entropy, Shutdown};
use bus::Checkpoints;
use bus::checkpoints::Cluster;
use bus::nats::NatsBus;
use dispatcher::{Dispatcher, DispatcherConfig};
use model::durability::{Profile, Severity, judge_nats, judge_redis};
use model::name::QueueId;
use model::shard::ShardCount;
use planner::{Planner, PlannerConfig};
use store::lease::Role;
use store::node::Node;
use store::redis::RedisStore;

use crate::args::{ExecutorArgs, RoleArgs, Servers};
use crate::config;
use crate::connect;
use crate::executor::{BuiltinOptions, run as run_builtin};
use crate::failure::Failure;
use crate::output;

/// What every node needs before it begins.
pub(crate) struct Foundation {
    pub(crate) store: Arc<RedisStore>,
    pub(crate) bus: Arc<NatsBus>,
    pub(crate) cluster: Cluster,
    pub(crate) clock: Clock,
    pub(crate) entropy: Entropy,
}

/// What an operator wants of the servers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Demands {
    pub(crate) profile: Profile,
    /// Why it doesn't matter that they don't hold the profile's promise.
    pub(crate) accept_data_loss: Option<String>,
}

/// Refuses servers that don't hold the profile's promise; says what else an operator should know.
async fn preflight(store: &RedisStore, bus: &NatsBus, demands: &Demands) -> Result<(), Failure> {
    let profile = demands.profile;
    let mut findings = judge_redis(profile, &store.facts().await?);
    findings.extend(judge_nats(profile, &bus.facts().await?));
    findings.retain(|finding| finding.severity > Severity::Good);
    for finding in findings.iter().filter(|finding| finding.severity == Severity::Warning) {
        tracing::warn!(%profile, "{finding}");
    }
    let bad: Vec<String> =
        findings.iter().filter(|one| one.severity == Severity::Bad).map(|one| format!("  {one}")).collect();
    match &demands.accept_data_loss {
        _ if bad.is_empty() => Ok(()),
        Some(reason) => {
            let missing = bad.join(";");
            tracing::warn!(%profile, reason, missing, "started on servers that don't hold the profile's promise");
            Ok(())
        }
        None => Err(Failure::failed(format!(
            "the servers don't hold what the profile {profile} promises:\n{}\nMend that (see `ecron doctor`), choose another \
             --profile, or start with --accept-data-loss REASON.",
            bad.join("\n")
        ))),
    }
}

/// Prepares both servers: streams, settings, and what an operator should know about them.
pub(crate) async fn lay(
    store: RedisStore,
    bus: NatsBus,
    shards: u16,
    demands: &Demands,
) -> Result<Foundation, Failure> {
    bus.ensure_streams().await?;
    preflight(&store, &bus, demands).await?;
    let (clock, entropy) = (Clock::system(), Entropy::system());
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
    Ok(Foundation { store: Arc::new(store), bus: Arc::new(bus), cluster, clock, entropy })
}

/// A role's foundation, by its arguments.
async fn lay_for(servers: &Servers, args: &RoleArgs) -> Result<Foundation, Failure> {
    let (store, bus) = (connect::redis(servers).await?, connect::nats(servers).await?);
    let demands =
        Demands { profile: config::profile(servers)?, accept_data_loss: args.accept_data_loss.clone() };
    lay(store, bus, args.shards, &demands).await
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

    pub(crate) fn planner(&self, weight: u32) -> Planner<RedisStore, NatsBus> {
        let config = PlannerConfig { node: self.node(Role::Planner, weight), shards: self.cluster.shards };
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

pub(crate) async fn planner(servers: &Servers, args: &RoleArgs) -> Result<(), Failure> {
    let shutdown = Shutdown::on_signals()?;
    let foundation = lay_for(servers, args).await?;
    output::line("planner is running; Ctrl-C stops it")?;
    Box::pin(foundation.planner(args.weight).run(shutdown)).await;
    Ok(())
}

pub(crate) async fn dispatcher(servers: &Servers, args: &RoleArgs) -> Result<(), Failure> {
    let shutdown = Shutdown::on_signals()?;
    let foundation = lay_for(servers, args).await?;
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
    let bus = connect::nats(servers).await?;
    for finding in bus.ensure_streams().await? {
        tracing::warn!(finding, "nats");
    }
    let options =
        BuiltinOptions { queues, allow_exec: args.allow_exec, concurrency: usize::from(args.concurrency) };
    output::line("executor is running; Ctrl-C stops it")?;
    run_builtin(Arc::new(bus), options, Clock::system(), shutdown).await?;
    Ok(())
}
