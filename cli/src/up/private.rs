//! Private servers for a command that needs a pair of its own for a while (`bench`): those of `up`, on free ports and
//! in a folder that goes with them.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use ambient::{Clock, Shutdown};
use model::shard::SHARDS_DEFAULT;

use super::children::Servers;
use super::ground::Ground;
use crate::args::{UpArgs, UpConsoleArgs};
use crate::commands::audit::AuditPeriodArgs;
use crate::failure::Failure;

/// Attempts to find two free ports side by side.
const PORT_ATTEMPTS_MAX: usize = 100;

/// A running Redis and NATS that nobody else uses.
#[derive(Debug)]
pub(crate) struct PrivateServers {
    ground: Ground,
    servers: Servers,
}

impl PrivateServers {
    /// Starts both, with their files below `data`, and waits until they answer.
    pub(crate) async fn start(data: &Path, clock: &Clock, shutdown: &Shutdown) -> Result<Self, Failure> {
        let args = UpArgs {
            data: data.to_path_buf(),
            port_base: free_port_base()?,
            allow_exec: false,
            apply: vec![],
            concurrency: 1,
            shards: SHARDS_DEFAULT,
            quiet: true,
            console: UpConsoleArgs::default(),
            audit: AuditPeriodArgs::default(),
        };
        let ground = Ground::prepare(&args, clock).await?;
        let servers = Servers::start(&ground, clock, shutdown).await?;
        Ok(Self { ground, servers })
    }

    pub(crate) fn redis_url(&self) -> String {
        self.ground.redis_url()
    }

    pub(crate) fn nats_url(&self) -> String {
        self.ground.nats_url()
    }

    /// The process of `redis` or `nats`.
    pub(crate) fn pid(&self, server: &str) -> Option<u32> {
        std::fs::read_to_string(self.ground.pid_file(server)).ok()?.trim().parse().ok()
    }

    /// Stops both and removes their files.
    pub(crate) async fn stop(mut self, clock: &Clock) {
        self.servers.stop(clock).await;
        let data: PathBuf = self.ground.data().to_path_buf();
        if let Err(problem) = std::fs::remove_dir_all(&data) {
            tracing::warn!(data = %data.display(), %problem, "the servers' files stay");
        }
    }
}

/// A port that is free together with the next one.
fn free_port_base() -> Result<u16, Failure> {
    for _ in 0..PORT_ATTEMPTS_MAX {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        if port < u16::MAX - 2 && TcpListener::bind((Ipv4Addr::LOCALHOST, port + 1)).is_ok() {
            return Ok(port);
        }
    }
    Err(Failure::failed("failed to find two free ports side by side"))
}
