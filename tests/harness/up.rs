//! A whole `ecron up`: started, killed, stopped and started again on the same ports and data.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use anyhow::Context;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::cli::{Cli, program};
use crate::ports::Ports;
use crate::process::Process;
use crate::servers;
use crate::witness::Witness;

/// How long it may take to start or stop on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(60);
pub const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// What it says once it is ready.
const READY: &str = "ecron is up";
/// Few shards are enough for few jobs, and leave the machine to the tests.
const SHARDS: &str = "8";

/// A running (or stopped) `ecron up` and its folder.
#[derive(Debug)]
pub struct Up {
    // Ended before its folder goes.
    process: Option<Process>,
    folder: TempDir,
    ports: Ports,
    extra: Vec<String>,
}

impl Up {
    /// Starts one with commands allowed, on fresh data.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(&["--allow-exec", "--quiet"]).await
    }

    /// Starts one with these further arguments.
    pub async fn start_with(extra: &[&str]) -> anyhow::Result<Self> {
        let mut up = Self::prepare(extra)?;
        up.start_again().await?;
        Ok(up)
    }

    /// One that hasn't been started.
    pub fn prepare(extra: &[&str]) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("ecron-test-").tempdir()?;
        let extra = extra.iter().map(ToString::to_string).collect();
        Ok(Self { process: None, folder, ports: Ports::claim()?, extra })
    }

    /// One for several tests of a file, so that not each has to start its own. It ends with the last of them.
    pub async fn shared(slot: &'static Slot) -> anyhow::Result<Arc<Self>> {
        let _one_starts = slot.starting.lock().await;
        let known = slot.known.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
        if let Some(known) = known {
            return Ok(known);
        }
        let new = Arc::new(Self::start().await?);
        *slot.known.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&new);
        Ok(new)
    }

    /// Starts it (again) and waits until it is ready.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        self.launch()?;
        let times = self.process()?.log().matches(READY).count() + 1;
        // Counting before it can have said anything: a start takes far longer than this line.
        self.process_mut()?.says(READY, times, START_TIMEOUT).await
    }

    /// Starts it without waiting.
    pub fn launch(&mut self) -> anyhow::Result<()> {
        self.process = None;
        let (data, port) = (self.data().display().to_string(), self.ports.base().to_string());
        let mut args = vec!["up", "--data", &data, "--port-base", &port];
        if !self.extra.iter().any(|given| given == "--shards") {
            args.extend(["--shards", SHARDS]);
        }
        args.extend(self.extra.iter().map(String::as_str));
        let command = Cli::offline(self.folder()).command(&args)?;
        self.process = Some(Process::spawn(command, "up", self.folder())?);
        Ok(())
    }

    /// The process, if it was started.
    pub fn process(&self) -> anyhow::Result<&Process> {
        self.process.as_ref().context("this ecron up isn't started")
    }

    pub fn process_mut(&mut self) -> anyhow::Result<&mut Process> {
        self.process.as_mut().context("this ecron up isn't started")
    }

    /// Kills ecron, its servers and its commands, all at once and without warning.
    pub fn kill9_everything(&mut self) -> anyhow::Result<()> {
        self.process_mut()?.kill9_all()
    }

    /// Kills the one ecron process without warning; its servers see to themselves.
    pub fn kill9_ecron(&mut self) -> anyhow::Result<()> {
        self.process_mut()?.kill9()
    }

    /// Kills one of its servers (`redis` or `nats`) without warning.
    pub fn kill9_server(&self, name: &str) -> anyhow::Result<()> {
        let pid = self.server_pid(name)?;
        let pid = rustix::process::Pid::from_raw(pid).context("a process has an id")?;
        Ok(rustix::process::kill_process(pid, Signal::KILL)?)
    }

    /// The process id of one of its servers.
    pub fn server_pid(&self, name: &str) -> anyhow::Result<i32> {
        let file = self.data().join(format!("{name}.pid"));
        Ok(std::fs::read_to_string(&file)
            .with_context(|| format!("read {}", file.display()))?
            .trim()
            .parse()?)
    }

    /// Stops it as Ctrl-C does; answers with its exit code.
    pub async fn interrupt(&mut self) -> anyhow::Result<Option<i32>> {
        self.process()?.signal(Signal::INT)?;
        Ok(self.process_mut()?.ended(STOP_TIMEOUT).await?.code())
    }

    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder().join("data")
    }

    #[must_use]
    pub fn port_base(&self) -> u16 {
        self.ports.base()
    }

    #[must_use]
    pub fn redis_url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port_base())
    }

    #[must_use]
    pub fn nats_url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port_base() + 1)
    }

    #[must_use]
    pub fn cli(&self) -> Cli {
        Cli::online(self.folder(), &self.redis_url(), &self.nats_url())
    }

    /// A witness whose file is in this folder.
    #[must_use]
    pub fn witness(&self, name: &str) -> Witness {
        Witness::at(self.folder().join(format!("{name}.witness")))
    }

    /// Asks Redis with its own client, the real `redis-cli`.
    pub async fn redis_cli(&self, args: &[&str]) -> anyhow::Result<String> {
        let port = self.port_base().to_string();
        program(servers::redis_cli()?, &[&["-p", &port], args].concat()).await?.ok()
    }
}

/// Where the tests of a file find the `ecron up` that they share.
#[derive(Debug)]
pub struct Slot {
    starting: tokio::sync::Mutex<()>,
    known: Mutex<Weak<Up>>,
}

impl Slot {
    #[must_use]
    pub const fn new() -> Self {
        Self { starting: tokio::sync::Mutex::const_new(()), known: Mutex::new(Weak::new()) }
    }
}

impl Default for Slot {
    fn default() -> Self {
        Self::new()
    }
}
