//! Carrying out planned faults, and writing down when each of them hurt.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use harness::servers::Server;
use harness::wait::{Look, wait_until};
use harness::witness::now_ms;
use rustix::process::Signal;
use tokio::time::Instant;

use crate::cluster::{Cluster, Node, Role};
use crate::evidence::{Injected, Journal};
use crate::faults::{Kind, Planned};
use crate::jobs::QUEUES;
use crate::proxy::Line;

/// How long it may take to reach Redis on a busy machine.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(30);
/// How late everything is on a slow line.
const SLOW_MS: [u64; 3] = [50, 200, 500];
/// How far a wrong clock is off, in seconds.
const CLOCKS_OFF_S: [&str; 6] = ["-5", "+5", "-3600", "+3600", "-86400", "+86400"];

/// Where the whole-process clock shim is (Debian's package libfaketime), if this machine has one.
#[must_use]
pub(crate) fn clock_shim() -> Option<PathBuf> {
    if let Some(given) = std::env::var_os("ECRON_CLOCK_SHIM") {
        return Some(given.into());
    }
    let places =
        ["/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/aarch64-linux-gnu/faketime", "/usr/lib/faketime"];
    places.iter().map(|place| Path::new(place).join("libfaketime.so.1")).find(|file| file.is_file())
}

/// Carries out one lane, in order.
pub(crate) async fn run(
    cluster: &Cluster,
    planned: &[Planned],
    began: Instant,
    journal: &Journal,
) -> anyhow::Result<()> {
    for fault in planned {
        tokio::time::sleep_until(began + fault.begins_after).await;
        let from_ms = now_ms();
        let target = one(cluster, fault).await.with_context(|| format!("inject {}", fault.kind.name()))?;
        let (kind, forgets) = (fault.kind.name().to_owned(), fault.kind.forgets());
        journal.note(&Injected { kind, target, from_ms, until_ms: now_ms(), forgets });
    }
    Ok(())
}

/// Carries out one fault to its end; answers with whom it hit.
async fn one(cluster: &Cluster, fault: &Planned) -> anyhow::Result<String> {
    let lasts = fault.lasts;
    match fault.kind {
        Kind::RedisKill => {
            let mut redis = cluster.redis.lock().await;
            redis.kill9()?;
            tokio::time::sleep(lasts).await;
            redis.restart().await?;
        }
        Kind::RedisFlush => flush(cluster).await?,
        Kind::RedisTailLost => {
            return rolled_back(cluster, fault, Duration::from_millis(fault.whim % 2_000)).await;
        }
        Kind::RedisRolledBack => {
            return rolled_back(cluster, fault, Duration::from_millis(2_000 + fault.whim % 28_000)).await;
        }
        Kind::NatsKill => {
            let mut nats = cluster.nats.lock().await;
            nats.kill9()?;
            tokio::time::sleep(lasts).await;
            nats.restart().await?;
        }
        Kind::RedisPause => paused(&cluster.redis, lasts).await?,
        Kind::NatsPause => paused(&cluster.nats, lasts).await?,
        Kind::RedisSlow | Kind::NatsSlow => {
            let delay = slowness(fault.whim);
            let all =
                |line| cluster.nodes.iter().for_each(|node| set(node, fault.kind == Kind::RedisSlow, line));
            all(Line::Slow(delay));
            tokio::time::sleep(lasts).await;
            all(Line::Open);
            return Ok(format!("{} ms", delay.as_millis()));
        }
        Kind::ConsumerDeleted => {
            let queue = chosen(&QUEUES, fault.whim).copied().unwrap_or_default();
            let consumer = queue.replace('/', "_");
            let jetstream = harness::bare::jetstream(&cluster.nats_url).await?;
            // Nobody may have needed it yet.
            let _absent = jetstream.delete_consumer_from_stream(&consumer, "ECRON_RUNS").await;
            return Ok(consumer);
        }
        Kind::CrashAndFlush => {
            for node in cluster.of(Role::Dispatcher).chain(cluster.of(Role::Planner)) {
                node.kill().await?;
            }
            flush(cluster).await?;
            tokio::time::sleep(lasts).await;
            for node in cluster.of(Role::Planner).chain(cluster.of(Role::Dispatcher)) {
                cluster.spawn(node).await?;
            }
        }
        Kind::PlannersGone | Kind::DispatchersGone => {
            let role = if fault.kind == Kind::PlannersGone { Role::Planner } else { Role::Dispatcher };
            for node in cluster.of(role) {
                node.kill().await?;
            }
            tokio::time::sleep(lasts).await;
            for node in cluster.of(role) {
                cluster.spawn(node).await?;
            }
        }
        Kind::Join => {
            for node in &cluster.guests {
                cluster.spawn(node).await?;
            }
            tokio::time::sleep(lasts).await;
            for node in &cluster.guests {
                node.leave().await?;
            }
        }
        _ => return at_node(cluster, fault).await,
    }
    Ok(String::new())
}

/// Faults of one node.
async fn at_node(cluster: &Cluster, fault: &Planned) -> anyhow::Result<String> {
    let role = match fault.kind {
        Kind::PlannerKill | Kind::PlannerPause => Some(Role::Planner),
        Kind::DispatcherKill | Kind::DispatcherPause => Some(Role::Dispatcher),
        Kind::ExecutorKill | Kind::ExecutorPause => Some(Role::Executor),
        _ => None,
    };
    let may = |node: &&Arc<Node>| match role {
        Some(role) => node.role == role,
        // An executor's own files must tell the time.
        None => fault.kind != Kind::ClockOff || node.role != Role::Executor,
    };
    let candidates: Vec<&Arc<Node>> = cluster.nodes.iter().filter(may).collect();
    let node = *chosen(&candidates, fault.whim).context("a node to hit")?;
    let at_redis = node.role != Role::Executor && fault.whim.rotate_right(17).is_multiple_of(2);
    let mut target = node.name.clone();
    match fault.kind {
        Kind::PlannerPause | Kind::DispatcherPause | Kind::ExecutorPause => {
            node.signal(Signal::STOP).await?;
            tokio::time::sleep(fault.lasts).await;
            node.signal(Signal::CONT).await?;
        }
        Kind::PlannerKill | Kind::DispatcherKill | Kind::ExecutorKill => {
            node.kill().await?;
            tokio::time::sleep(fault.lasts).await;
            cluster.spawn(node).await?;
        }
        Kind::Leave => {
            node.leave().await?;
            tokio::time::sleep(fault.lasts).await;
            cluster.spawn(node).await?;
        }
        Kind::ClockOff => {
            let off = chosen(&CLOCKS_OFF_S, fault.whim.rotate_right(23)).copied().unwrap_or("+5");
            let shim = clock_shim().context("a clock shim")?;
            let env = [("LD_PRELOAD", shim.display().to_string()), ("FAKETIME", format!("{off}s"))];
            let env = env.into_iter().chain([("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned())]);
            node.next_env(env.map(|(name, value)| (name.to_owned(), value)).collect()).await;
            node.kill().await?;
            cluster.spawn(node).await?;
            tokio::time::sleep(fault.lasts).await;
            node.next_env(vec![]).await;
            node.kill().await?;
            cluster.spawn(node).await?;
            target = format!("{target} by {off} s");
        }
        kind => {
            let line = match kind {
                Kind::LineCut => Line::Cut,
                Kind::LineSlow => Line::Slow(slowness(fault.whim.rotate_right(29))),
                Kind::LineDeaf if fault.whim.rotate_right(31).is_multiple_of(2) => Line::DeafToAnswers,
                Kind::LineDeaf => Line::DeafToRequests,
                _ => Line::Stalled,
            };
            let both = kind == Kind::Partition;
            for redis in [true, false] {
                if both || redis == at_redis {
                    set(node, redis, line);
                }
            }
            tokio::time::sleep(fault.lasts).await;
            node.redis.set(Line::Open);
            node.nats.set(Line::Open);
            let server = if both {
                "everything"
            } else if at_redis {
                "redis"
            } else {
                "nats"
            };
            target = format!("{target} to {server}: {line:?}");
        }
    }
    Ok(target)
}

fn set(node: &Node, at_redis: bool, line: Line) {
    if at_redis { node.redis.set(line) } else { node.nats.set(line) }
}

fn slowness(whim: u64) -> Duration {
    Duration::from_millis(chosen(&SLOW_MS, whim).copied().unwrap_or(200))
}

fn chosen<T>(items: &[T], whim: u64) -> Option<&T> {
    let index = whim.checked_rem(items.len() as u64)?;
    items.get(usize::try_from(index).ok()?)
}

async fn paused(server: &tokio::sync::Mutex<Server>, lasts: Duration) -> anyhow::Result<()> {
    let mut server = server.lock().await;
    server.pause()?;
    tokio::time::sleep(lasts).await;
    server.resume()
}

/// Insists: a fault that the machine was too busy for wouldn't be the one that the seed planned.
async fn flush(cluster: &Cluster) -> anyhow::Result<()> {
    let client = redis::Client::open(cluster.redis_url.as_str())?;
    let once = || async {
        let mut connection = client.get_multiplexed_async_connection().await?;
        redis::cmd("FLUSHALL").exec_async(&mut connection).await?;
        Ok(Look::Enough(()))
    };
    wait_until(FLUSH_TIMEOUT, "Redis is wiped", once).await
}

/// Kills Redis and takes the newest part of its append-only file away: all that was written since `lost` ago, and a few
/// bytes more, so that the file ends in the middle of a command.
async fn rolled_back(cluster: &Cluster, fault: &Planned, lost: Duration) -> anyhow::Result<String> {
    let mut redis = cluster.redis.lock().await;
    let kept = newest_file(redis.data())?;
    let kept_bytes = std::fs::metadata(&kept)?.len();
    tokio::time::sleep(lost).await;
    redis.kill9()?;
    // Rewritten meanwhile: then this is another file, and only its tail is torn.
    let file = newest_file(redis.data())?;
    let bytes = std::fs::metadata(&file)?.len();
    let whole = if file == kept { kept_bytes.min(bytes) } else { bytes };
    let torn = whole.saturating_sub(1 + fault.whim % 40);
    std::fs::File::options().write(true).open(&file)?.set_len(torn)?;
    tokio::time::sleep(fault.lasts).await;
    redis.restart().await?;
    Ok(format!("{} ms, {} bytes", lost.as_millis(), bytes - torn))
}

fn newest_file(data: &Path) -> anyhow::Result<PathBuf> {
    let mut newest = None;
    for entry in std::fs::read_dir(data.join("appendonlydir"))? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(".incr.aof") {
            newest = newest.max(Some((std::fs::metadata(&path)?.modified()?, path)));
        }
    }
    newest.map(|(_, path)| path).context("find Redis' append-only file")
}
