//! The cluster under fire: servers, and nodes as processes of their own, each with its own lines to both servers.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use harness::servers::{self, Server};
use harness::witness::now_ms;
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::evidence::{FALLEN, Fallen, Journal, SEEN_SUFFIX};
use crate::proxy::{Line, Link};

/// Few shards, so that a small machine has little to poll.
const SHARDS: usize = 16;
/// What nodes log: how old a checkpoint is decides what a wipe of Redis may double.
const LOG: &str = "info,ecron_dispatcher::checkpoint=debug,async_nats=warn";
/// Between two looks at who has fallen.
const WATCH_INTERVAL: Duration = Duration::from_millis(250);
/// A fallen node is started again after this, as any supervisor does.
const RESPAWN_DELAY: Duration = Duration::from_millis(500);
/// How long a node may take to say farewell.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(45);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Planner,
    Dispatcher,
    Executor,
}

/// A place in the cluster and the process that fills it, if any.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) redis: Link,
    pub(crate) nats: Link,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    child: Option<Child>,
    born: Instant,
    /// Whether there should be a process.
    wanted: bool,
    respawn_at: Option<Instant>,
    /// Further variables of its next process.
    env: Vec<(String, String)>,
}

/// Everything that runs.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) redis: Mutex<Server>,
    pub(crate) nats: Mutex<Server>,
    pub(crate) nodes: Vec<Arc<Node>>,
    /// Places that are empty until somebody joins.
    pub(crate) guests: Vec<Arc<Node>>,
    pub(crate) redis_url: String,
    pub(crate) nats_url: String,
    pub(crate) folder: PathBuf,
    ecron: PathBuf,
    fallen: Journal,
}

impl Cluster {
    /// Starts servers and nodes.
    pub(crate) async fn start(folder: &Path) -> anyhow::Result<Self> {
        let (redis, nats) = (servers::redis(&[]).await?, servers::nats(&[]).await?);
        let ports = (redis.port(), nats.port());
        let place = |name: String, role| async move {
            let (redis, nats) = (Link::to(ports.0).await?, Link::to(ports.1).await?);
            let state =
                State { child: None, born: Instant::now(), wanted: false, respawn_at: None, env: Vec::new() };
            anyhow::Ok(Arc::new(Node { name, role, redis, nats, state: Mutex::new(state) }))
        };
        let mut nodes = Vec::new();
        for (role, word, count) in [
            (Role::Planner, "planner", 3),
            (Role::Dispatcher, "dispatcher", 3),
            (Role::Executor, "executor", 4),
        ] {
            for number in 1..=count {
                nodes.push(place(format!("{word}-{number}"), role).await?);
            }
        }
        let guests = vec![
            place("planner-guest".into(), Role::Planner).await?,
            place("dispatcher-guest".into(), Role::Dispatcher).await?,
        ];
        let cluster = Self {
            redis_url: redis.url(),
            nats_url: nats.url(),
            redis: Mutex::new(redis),
            nats: Mutex::new(nats),
            nodes,
            guests,
            folder: folder.into(),
            ecron: harness::binary::ecron()?,
            fallen: Journal::open(&folder.join(FALLEN))?,
        };
        for node in &cluster.nodes {
            cluster.spawn(node).await?;
        }
        Ok(cluster)
    }

    pub(crate) fn of(&self, role: Role) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.iter().filter(move |node| node.role == role)
    }

    fn everybody(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.iter().chain(&self.guests)
    }

    /// Fills a place, unless it is filled.
    pub(crate) async fn spawn(&self, node: &Node) -> anyhow::Result<()> {
        let mut state = node.state.lock().await;
        state.wanted = true;
        state.respawn_at = None;
        if state.child.is_none() {
            state.child = Some(self.command(node, &state.env)?);
            state.born = Instant::now();
        }
        Ok(())
    }

    fn command(&self, node: &Node, env: &[(String, String)]) -> anyhow::Result<Child> {
        let mut command = match node.role {
            Role::Planner | Role::Dispatcher => {
                let mut command = Command::new(&self.ecron);
                let role = if node.role == Role::Planner { "planner" } else { "dispatcher" };
                command.args([role, "--shards", &SHARDS.to_string()]);
                command.env("ECRON_REDIS_URL", format!("redis://127.0.0.1:{}", node.redis.port()));
                command
            }
            Role::Executor => {
                let mut command = Command::new(std::env::current_exe()?);
                let seen = self.folder.join(format!("{}{SEEN_SUFFIX}", node.name));
                command.args(["executor", "--name", &node.name, "--seen"]).arg(seen);
                command
            }
        };
        let log = self.folder.join(format!("{}.log", node.name));
        let log = File::options().create(true).append(true).open(log)?;
        command.env("ECRON_NATS_URL", format!("nats://127.0.0.1:{}", node.nats.port()));
        command.env("XDG_STATE_HOME", &self.folder).env("HOME", &self.folder).env("ECRON_LOG", LOG);
        command.envs(env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.spawn().with_context(|| format!("start {}", node.name))
    }

    /// Looks after the nodes for ever: whoever falls is noted and gets up again.
    pub(crate) async fn watch(&self) -> anyhow::Result<()> {
        loop {
            tokio::time::sleep(WATCH_INTERVAL).await;
            for node in self.everybody() {
                let mut state = node.state.lock().await;
                let status = match &mut state.child {
                    Some(child) => child.try_wait()?,
                    None => None,
                };
                if let Some(status) = status {
                    state.child = None;
                    state.respawn_at = Some(Instant::now() + RESPAWN_DELAY);
                    let lived_ms = i64::try_from(state.born.elapsed().as_millis()).unwrap_or(i64::MAX);
                    let (name, status) = (node.name.clone(), status.to_string());
                    self.fallen.note(&Fallen { node: name, at_ms: now_ms(), lived_ms, status });
                }
                if state.wanted && state.respawn_at.is_some_and(|at| Instant::now() >= at) {
                    state.respawn_at = None;
                    state.child = Some(self.command(node, &state.env)?);
                    state.born = Instant::now();
                }
            }
        }
    }

    /// Whether every node has a process that has lived for a while.
    pub(crate) async fn all_alive(&self) -> bool {
        for node in &self.nodes {
            let state = node.state.lock().await;
            if state.child.is_none() || state.born.elapsed() < Duration::from_secs(2) {
                return false;
            }
        }
        true
    }

    /// Whether every shard has a plan.
    pub(crate) async fn all_begun(&self) -> anyhow::Result<bool> {
        let client = redis::Client::open(self.redis_url.as_str())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let cursors: Vec<String> =
            redis::cmd("KEYS").arg("ecron:*:cursor").query_async(&mut connection).await?;
        Ok(cursors.len() == SHARDS)
    }

    /// Mends everything that a fault may have left behind.
    pub(crate) async fn heal(&self) -> anyhow::Result<()> {
        self.redis.lock().await.resume()?;
        self.nats.lock().await.resume()?;
        for node in self.everybody() {
            node.redis.set(Line::Open);
            node.nats.set(Line::Open);
            node.signal(Signal::CONT).await?;
        }
        for node in &self.guests {
            node.kill().await?;
        }
        for node in &self.nodes {
            self.spawn(node).await?;
        }
        Ok(())
    }

    /// Kills every process.
    pub(crate) async fn end(&self) -> anyhow::Result<()> {
        for node in self.everybody() {
            node.kill().await?;
        }
        Ok(())
    }
}

impl Node {
    /// SIGKILL; the place stays empty.
    pub(crate) async fn kill(&self) -> anyhow::Result<()> {
        let mut state = self.state.lock().await;
        state.wanted = false;
        if let Some(mut child) = state.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// SIGTERM, and waits for the farewell.
    pub(crate) async fn leave(&self) -> anyhow::Result<()> {
        let mut state = self.state.lock().await;
        state.wanted = false;
        let Some(mut child) = state.child.take() else { return Ok(()) };
        drop(state);
        send(&child, Signal::TERM)?;
        let asked = Instant::now();
        while child.try_wait()?.is_none() {
            if asked.elapsed() > FAREWELL_TIMEOUT {
                child.kill()?;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    pub(crate) async fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        match &self.state.lock().await.child {
            Some(child) => send(child, signal),
            None => Ok(()),
        }
    }

    /// Variables for its next process.
    pub(crate) async fn next_env(&self, env: Vec<(String, String)>) {
        self.state.lock().await.env = env;
    }
}

/// A child isn't reaped before we have looked at it, so its id is its own.
fn send(child: &Child, signal: Signal) -> anyhow::Result<()> {
    let pid = Pid::from_raw(i32::try_from(child.id())?).context("a process has an id")?;
    Ok(kill_process(pid, signal)?)
}

impl Drop for State {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // A destructor can't report.
            let _gone = child.kill();
            let _reaped = child.wait();
        }
    }
}
