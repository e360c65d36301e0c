//! Roles as processes of their own, against servers of the harness.

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use crate::cli::Cli;
use crate::process::Process;
use crate::servers::{self, Server};
use crate::witness::Witness;

const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A Redis, a NATS, and a folder for whatever works with them.
#[derive(Debug)]
pub struct Ground {
    pub redis: Server,
    pub nats: Server,
    folder: TempDir,
}

impl Ground {
    /// Both servers, running.
    pub async fn start() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("ecron-test-").tempdir()?;
        Ok(Self { redis: servers::redis(&[]).await?, nats: servers::nats(&[]).await?, folder })
    }

    /// Starts a role, such as `["planner", "--shards", "8"]`, and waits until it says that it runs.
    pub async fn role(&self, name: &str, args: &[&str]) -> anyhow::Result<Process> {
        let mut process = Process::spawn(self.cli().command(args)?, name, self.folder())?;
        process.says("is running", 1, START_TIMEOUT).await?;
        Ok(process)
    }

    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    #[must_use]
    pub fn cli(&self) -> Cli {
        Cli::online(self.folder(), &self.redis.url(), &self.nats.url())
    }

    /// A witness whose file is in this folder.
    #[must_use]
    pub fn witness(&self, name: &str) -> Witness {
        Witness::at(self.folder().join(format!("{name}.witness")))
    }
}
