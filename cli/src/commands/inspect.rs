//! `ecron inspect`: the plan as Redis holds it.

use ambient::Clock;
use model::shard::{ShardCount, ShardId};
use serde_json::json;
use store::inspect::{BucketKind, Inspect};
use store::lease::{LeaseStore, Role};
use store::node::NodeStore;
use store::redis::RedisStore;

use super::gates;
use crate::args::{InspectArgs, Inspected, Servers};
use crate::connect;
use crate::failure::Failure;
use crate::output::{self, Table};

pub(crate) async fn run(servers: &Servers, args: &InspectArgs) -> Result<(), Failure> {
    let store = connect::redis(servers).await?;
    match args.what {
        Inspected::Buckets => buckets(&store, args).await,
        Inspected::Leases => leases(&store, args).await,
        Inspected::Nodes => nodes(&store, args).await,
        Inspected::Sent => sent(&store, args).await,
        Inspected::Gates => gates::inspect(servers, &store, &live_shards(&store).await?, args).await,
    }
}

/// Redis doesn't say how many shards there are; every shard that any cluster may have is asked for.
fn all_shards() -> Vec<ShardId> {
    ShardCount::new(model::limits::SHARDS_MAX).map(|count| count.all().collect()).unwrap_or_default()
}

/// The shards that hold anything.
async fn live_shards(store: &RedisStore) -> Result<Vec<ShardId>, Failure> {
    let cursors = store.cursors(&all_shards()).await?;
    Ok(cursors.into_iter().filter_map(|(shard, cursor)| cursor.map(|_| shard)).collect())
}

async fn buckets(store: &RedisStore, args: &InspectArgs) -> Result<(), Failure> {
    let mut views = Vec::new();
    for shard in live_shards(store).await? {
        views.extend(store.buckets(shard, usize::from(args.first)).await?);
    }
    views.sort_by(|a, b| (a.kind, a.key.as_str()).cmp(&(b.kind, b.key.as_str())));
    let kind = |kind: BucketKind| match kind {
        BucketKind::Minute => "minute",
        BucketKind::HalfHour => "half-hour",
        BucketKind::Horizon => "horizon",
        BucketKind::Spaced => "spaced",
    };
    let as_json = views.iter().map(|view| {
        let first =
            view.first.iter().map(|(member, due)| json!({"member": member, "dueAt": due.to_string()}));
        json!({
            "shard": view.shard.0, "tier": kind(view.kind), "key": view.key, "entries": view.entries,
            "first": first.collect::<Vec<_>>(),
        })
    });
    if output::structured(&as_json.collect::<Vec<_>>(), args.output)? {
        return Ok(());
    }
    let mut table = Table::new(&["KEY", "ENTRIES", "FIRST DUE", "FIRST MEMBERS"]);
    for view in views {
        let due = view.first.first().map(|(_, due)| due.to_string()).unwrap_or_default();
        // What is spaced out is kept back until then, and its members begin with when they were due.
        let is_spaced = view.kind == BucketKind::Spaced;
        let due = if is_spaced { format!("not before {due}") } else { due };
        let entry = |member: &'_ str| match member.split_once(' ') {
            Some((_, entry)) if is_spaced => entry.to_owned(),
            _ => member.to_owned(),
        };
        let members: Vec<String> = view.first.iter().map(|(member, _)| entry(member)).collect();
        table.row([view.key, view.entries.to_string(), due, members.join(" ")]);
    }
    table.print("the plan is empty")
}

async fn leases(store: &RedisStore, args: &InspectArgs) -> Result<(), Failure> {
    let mut leases = store.leases(&all_shards()).await?;
    leases.sort_by_key(|lease| (lease.shard, lease.role));
    let role = |role: Role| match role {
        Role::Planner => "planner",
        Role::Dispatcher => "dispatcher",
    };
    let as_json = leases.iter().map(|lease| {
        json!({
            "shard": lease.shard.0, "role": role(lease.role), "node": lease.node, "epoch": lease.epoch.0,
            "expiresInMs": lease.expires_in.as_millis() as u64,
        })
    });
    if output::structured(&as_json.collect::<Vec<_>>(), args.output)? {
        return Ok(());
    }
    let mut table = Table::new(&["SHARD", "ROLE", "NODE", "EPOCH", "EXPIRES IN"]);
    for lease in leases {
        let expires = format!("{} ms", lease.expires_in.as_millis());
        table.row([
            lease.shard.to_string(),
            role(lease.role).into(),
            lease.node,
            lease.epoch.0.to_string(),
            expires,
        ]);
    }
    table.print("nobody holds a lease: no planner or dispatcher is running")
}

async fn nodes(store: &RedisStore, args: &InspectArgs) -> Result<(), Failure> {
    let nodes = store.nodes().await?;
    let now = store.now().await?;
    let roles = |roles: &[Role]| {
        let words = roles.iter().map(|role| match role {
            Role::Planner => "planner",
            Role::Dispatcher => "dispatcher",
        });
        words.collect::<Vec<_>>().join(",")
    };
    let as_json = nodes.iter().map(|view| {
        json!({
            "node": view.node.id, "roles": roles(&view.node.roles), "weight": view.node.weight,
            "version": view.node.version, "heartbeatAt": view.heartbeat_at.to_string(),
        })
    });
    if output::structured(&as_json.collect::<Vec<_>>(), args.output)? {
        return Ok(());
    }
    let mut table = Table::new(&["NODE", "ROLES", "WEIGHT", "VERSION", "LAST HEARTBEAT"]);
    for view in nodes {
        let ago = format!("{} ms ago", now.ms_since(view.heartbeat_at));
        table.row([
            view.node.id,
            roles(&view.node.roles),
            view.node.weight.to_string(),
            view.node.version,
            ago,
        ]);
    }
    table.print("no planner or dispatcher has announced itself")
}

async fn sent(store: &RedisStore, args: &InspectArgs) -> Result<(), Failure> {
    let mut runs = Vec::new();
    for shard in live_shards(store).await? {
        runs.extend(store.sent(shard, usize::from(args.first)).await?);
    }
    runs.sort_by_key(|run| run.published_at);
    let as_json = runs.iter().map(|run| {
        json!({
            "run": run.occurrence.to_string(), "revision": run.revision.0, "sequence": run.sequence,
            "publishedAt": run.published_at.to_string(), "worryAt": run.worry_at.to_string(),
        })
    });
    if output::structured(&as_json.collect::<Vec<_>>(), args.output)? {
        return Ok(());
    }
    let now = Clock::system().now();
    let mut table = Table::new(&["RUN", "PUBLISHED", "OPEN FOR", "SEQUENCE"]);
    for run in runs {
        let open = super::describe::milliseconds(now.ms_since(run.published_at).max(0));
        table.row([run.occurrence.to_string(), run.published_at.to_string(), open, run.sequence.to_string()]);
    }
    table.print("every published run has an outcome")
}
