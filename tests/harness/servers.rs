//! Real servers for tests: a private `redis-server` or `nats-server` on a free loopback port, with its own data.
//!
//! A server can be killed, stopped, started again on the same port and data, and paused, and is killed when dropped.
//! Ready means that it has answered, never that time has passed.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::time::Instant;

/// How long a server may take to answer, or to go, on a busy machine.
const READY_TIMEOUT: Duration = Duration::from_secs(20);
/// Between two looks at a server that isn't ready yet.
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// Ports to try, since another process may take one between our finding and the server's binding it.
const PORT_ATTEMPTS: usize = 10;

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Redis,
    Nats,
}

/// A running (or stopped) server and its data folder.
#[derive(Debug)]
pub struct Server {
    kind: Kind,
    program: PathBuf,
    data: TempDir,
    port: u16,
    /// Further arguments or lines of configuration, as they were given.
    settings: Vec<String>,
    child: Option<Child>,
    paused: bool,
}

/// Starts a Redis: append-only file synced every second, no eviction. `settings` are further arguments, such as
/// `["--maxmemory", "64mb"]`.
pub async fn redis(settings: &[&str]) -> anyhow::Result<Server> {
    Server::launch(Kind::Redis, settings).await
}

/// Starts a NATS server with JetStream on disk. `settings` are further lines of its configuration file.
pub async fn nats(settings: &[&str]) -> anyhow::Result<Server> {
    Server::launch(Kind::Nats, settings).await
}

/// Redis' own client, which is beside its server or on PATH.
pub fn redis_cli() -> anyhow::Result<PathBuf> {
    let server = Kind::Redis.program()?;
    let beside = server.parent().into_iter().map(Path::to_path_buf);
    find("redis-cli", beside.chain(folders())).context("find redis-cli: install Debian's redis-tools")
}

impl Kind {
    fn program(self) -> anyhow::Result<PathBuf> {
        let (name, variable) = match self {
            Self::Redis => ("redis-server", "ECRON_REDIS_SERVER"),
            Self::Nats => ("nats-server", "ECRON_NATS_SERVER"),
        };
        if let Some(path) = std::env::var_os(variable) {
            return Ok(path.into());
        }
        find(name, folders())
            .with_context(|| format!("find {name}: set {variable}, or put it into .ecron/bin or PATH"))
    }
}

/// Where programs are: what deploy/servers.sh installed, then PATH.
fn folders() -> impl Iterator<Item = PathBuf> {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.ecron/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::iter::once(installed).chain(std::env::split_paths(&path).collect::<Vec<_>>())
}

fn find(name: &str, mut folders: impl Iterator<Item = PathBuf>) -> Option<PathBuf> {
    folders.find_map(|folder| Some(folder.join(name)).filter(|candidate| candidate.is_file()))
}

impl Server {
    async fn launch(kind: Kind, settings: &[&str]) -> anyhow::Result<Self> {
        let mut server = Self {
            kind,
            program: kind.program()?,
            data: tempfile::Builder::new().prefix("ecron-test-").tempdir()?,
            port: 0,
            settings: settings.iter().map(ToString::to_string).collect(),
            child: None,
            paused: false,
        };
        let mut last = None;
        for _ in 0..PORT_ATTEMPTS {
            server.port = free_port()?;
            match server.start().await {
                Ok(()) => return Ok(server),
                // Another process may have got the port first; its own log tells.
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| anyhow::anyhow!("no port was tried")))
    }

    /// `redis://127.0.0.1:PORT` or `nats://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = match self.kind {
            Kind::Redis => "redis",
            Kind::Nats => "nats",
        };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its data folder, which lives as long as this value.
    #[must_use]
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    /// What it wrote to its log.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.data.path().join("log")).unwrap_or_default()
    }

    /// Kills it without warning (SIGKILL), as a crash would.
    pub fn kill9(&mut self) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        self.paused = false;
        Ok(())
    }

    /// Asks it to stop (SIGTERM) and waits until it has.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.resume()?;
        self.signal(Signal::TERM)?;
        let deadline = Instant::now() + READY_TIMEOUT;
        while let Some(child) = &mut self.child {
            if child.try_wait()?.is_some() {
                self.child = None;
            } else if Instant::now() > deadline {
                bail!("stop {}: it is still running\n{}", self.program.display(), self.log());
            } else {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        }
        Ok(())
    }

    /// Starts it again on the same port and data; kills it first if it runs.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.kill9()?;
        self.start().await
    }

    /// Makes it hang (SIGSTOP): connections stay open and nothing answers.
    pub fn pause(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)?;
        self.paused = true;
        Ok(())
    }

    /// Lets it go on (SIGCONT).
    pub fn resume(&mut self) -> anyhow::Result<()> {
        if self.paused {
            self.signal(Signal::CONT)?;
        }
        self.paused = false;
        Ok(())
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        if let Some(child) = &self.child {
            let pid = Pid::from_raw(i32::try_from(child.id())?).context("a process has an id")?;
            kill_process(pid, signal)?;
        }
        Ok(())
    }

    /// Starts the process and waits until it answers.
    async fn start(&mut self) -> anyhow::Result<()> {
        let log = std::fs::File::create(self.data.path().join("log"))?;
        let mut command = Command::new(&self.program);
        match self.kind {
            Kind::Redis => self.redis_arguments(&mut command),
            Kind::Nats => {
                let file = self.data.path().join("nats.conf");
                std::fs::write(&file, self.nats_configuration())?;
                command.arg("-c").arg(file);
            }
        }
        let errors = log.try_clone()?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("start {}", self.program.display()))?;
        self.child = Some(child);
        self.until_ready().await
    }

    fn redis_arguments(&self, command: &mut Command) {
        let settings = [
            ("--bind", "127.0.0.1"),
            ("--appendonly", "yes"),
            ("--appendfsync", "everysec"),
            ("--maxmemory-policy", "noeviction"),
            ("--save", ""),
            ("--daemonize", "no"),
        ];
        command.arg("--port").arg(self.port.to_string()).arg("--dir").arg(self.data.path());
        for (name, value) in settings {
            command.arg(name).arg(value);
        }
        command.args(&self.settings);
    }

    fn nats_configuration(&self) -> String {
        format!(
            "listen: \"127.0.0.1:{}\"\nserver_name: \"test-{}\"\njetstream {{ store_dir: {:?} }}\n{}\n",
            self.port,
            self.port,
            self.data.path().join("jetstream"),
            self.settings.join("\n"),
        )
    }

    async fn until_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            let ended = match &mut self.child {
                Some(child) => child.try_wait()?,
                None => bail!("start {}: it was stopped", self.program.display()),
            };
            if let Some(status) = ended {
                self.child = None;
                bail!("start {}: it ended with {status}\n{}", self.program.display(), self.log());
            }
            if self.answers() {
                return Ok(());
            }
            if Instant::now() > deadline {
                self.kill9()?;
                bail!("start {}: no answer in time\n{}", self.program.display(), self.log());
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Whether it, and not another process on its port, answers as a server that is ready does.
    fn answers(&self) -> bool {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let ask = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(200))?;
            stream.set_read_timeout(Some(Duration::from_millis(500)))?;
            let question = match self.kind {
                Kind::Redis => "INFO server\r\nPING\r\n",
                Kind::Nats => "CONNECT {\"verbose\":false}\r\nPING\r\n",
            };
            stream.write_all(question.as_bytes())?;
            let mut answer = Vec::new();
            let mut part = [0; 4096];
            while !answer.ends_with(b"PONG\r\n") {
                match stream.read(&mut part)? {
                    0 => break,
                    n => answer.extend_from_slice(&part[..n]),
                }
            }
            Ok(String::from_utf8_lossy(&answer).into_owned())
        };
        let Ok(answer) = ask() else { return false };
        let ours = match self.kind {
            Kind::Redis => {
                let pid = self.child.as_ref().map(Child::id).unwrap_or_default();
                answer.contains(&format!("process_id:{pid}\r\n"))
            }
            Kind::Nats => answer.contains(&format!("\"server_name\":\"test-{}\"", self.port)),
        };
        ours && answer.ends_with("PONG\r\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A destructor can't report; the folder goes with the process either way.
        let _ = self.kill9();
    }
}

/// A port that nobody listens on at this moment.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
