//! What a measurement stands on: servers, ours and the bare broker on them, clocks, and the lanes one after another.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ambient::{Clock, Shutdown};
use serde_json::{Value, json};

use super::bare::Bare;
use super::lane::{Lane, Present};
use super::ours::Ours;
use super::usage::{self, Processes};
use super::wall::Wall;
use crate::args::Servers;
use crate::commands::bench::BenchArgs;
use crate::failure::Failure;
use crate::up::PrivateServers;

/// How long idling is watched, so that it isn't counted against the floor.
const IDLE_WINDOW: Duration = Duration::from_secs(4);

/// Servers, either given or private.
pub(super) struct Ground {
    pub(super) redis_url: String,
    pub(super) nats_url: String,
    private: Option<PrivateServers>,
}

impl Ground {
    pub(super) async fn find(
        servers: &Servers,
        args: &BenchArgs,
        clock: &Clock,
        shutdown: &Shutdown,
    ) -> Result<Self, Failure> {
        match (&servers.redis_url, &servers.nats_url) {
            (Some(redis_url), Some(nats_url)) => {
                Ok(Self { redis_url: redis_url.clone(), nats_url: nats_url.clone(), private: None })
            }
            (None, None) => {
                let temporary = || std::env::temp_dir().join(format!("ecron-bench-{}", std::process::id()));
                let data: PathBuf = args.data.clone().unwrap_or_else(temporary);
                let private = PrivateServers::start(&data, clock, shutdown).await?;
                let (redis_url, nats_url) = (private.redis_url(), private.nats_url());
                Ok(Self { redis_url, nats_url, private: Some(private) })
            }
            _ => Err(Failure::input("give both --redis-url and --nats-url, or neither")),
        }
    }

    fn pid(&self, server: &str) -> Option<u32> {
        self.private.as_ref()?.pid(server)
    }

    pub(super) async fn leave(self, clock: &Clock) {
        if let Some(private) = self.private {
            private.stop(clock).await;
        }
    }
}

async fn watch_idle(processes: &Processes, clock: &Clock) -> BTreeMap<&'static str, f64> {
    let (before, began) = (processes.cpu(), clock.monotonic());
    clock.sleep(IDLE_WINDOW).await;
    let span_s = (clock.monotonic() - began).as_secs_f64();
    let used = processes.cpu().each_since(&before);
    used.into_iter().map(|(process, seconds)| (process, seconds / span_s)).collect()
}

/// Everything in place.
pub(super) struct Stage {
    pub(super) clock: Clock,
    pub(super) wall: Wall,
    pub(super) processes: Processes,
    pub(super) ours: Ours,
    pub(super) bare: Arc<Bare>,
    pub(super) present: Present,
    pub(super) redis_url: String,
    /// What our roles and the servers use with nothing to do, in CPU seconds a second.
    pub(super) idle: BTreeMap<&'static str, f64>,
    lanes: u32,
}

impl Stage {
    pub(super) async fn set(ground: &Ground, args: &BenchArgs, clock: &Clock) -> Result<Self, Failure> {
        let (wall, present) = (Wall::catch(clock), Present::default());
        let concurrency = usize::from(args.concurrency);
        let (redis_url, nats_url) = (&ground.redis_url, &ground.nats_url);
        let ours = Ours::start(redis_url, nats_url, concurrency, present.clone(), wall).await?;
        let bare = Arc::new(Bare::connect(nats_url).await?);
        let processes = Processes::new(ground.pid("redis"), ground.pid("nats"));
        Ok(Self {
            clock: clock.clone(),
            wall,
            ours,
            bare,
            present,
            redis_url: redis_url.clone(),
            idle: watch_idle(&processes, clock).await,
            processes,
            lanes: 0,
        })
    }

    /// The next lane; from now on, what arrives belongs to it.
    pub(super) fn lane(&mut self, due_us: &[i64], measured_from: usize) -> Arc<Lane> {
        self.lanes += 1;
        let lane = Lane::new(self.lanes, due_us, measured_from);
        self.present.set(&lane);
        lane
    }

    /// The setting of every figure: machine, versions, what is durable, and how busy the machine is.
    pub(super) async fn setting(&self, args: &BenchArgs) -> Value {
        let redis = usage::redis_info(&self.redis_url).await;
        let version = redis.get("redis_version").cloned().unwrap_or_else(|| "unknown".into());
        json!({
            "machine": usage::machine(),
            "ecron": env!("CARGO_PKG_VERSION"),
            "build": if cfg!(debug_assertions) { "debug" } else { "release" },
            "redis": version,
            "nats": self.bare.server_version(),
            "durability": if redis.get("aof_enabled").is_some_and(|on| on == "1") {
                "Redis AOF (everysec where private), JetStream on file (sync_interval 1s where private)"
            } else {
                "Redis without AOF, JetStream on file"
            },
            "repeats": args.repeats,
            "concurrency": args.concurrency,
            "load_before": usage::load(),
        })
    }
}
