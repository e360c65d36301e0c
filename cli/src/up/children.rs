//! The private servers of `ecron up`: started, minded (a crashed one is started again), and stopped.
//!
//! Each is started through `ecron __child`, so that it ends if we are killed, and leads a process group of its own, so
//! that Ctrl-C reaches us alone and we stop it last.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ambient::{Clock, Shutdown};
use bus::nats::{NatsBus, NatsOptions};
use store::redis::{RedisOptions, RedisStore};

use super::ground::{Ground, terminate};
use crate::failure::Failure;

/// How long a server may take until it answers. Redis reads its whole AOF first.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const START_POLL: Duration = Duration::from_millis(20);
/// How long a server may take to end before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the children are looked after.
const MIND_INTERVAL: Duration = Duration::from_millis(250);
/// Restarts of a server within `RESTART_WINDOW` before we give up.
const RESTARTS_MAX: usize = 10;
const RESTART_WINDOW: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Redis,
    Nats,
}

impl Which {
    fn word(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Nats => "nats",
        }
    }
}

#[derive(Debug)]
struct Server {
    which: Which,
    child: Child,
    restarted_at: Vec<Duration>,
}

#[derive(Debug)]
pub(super) struct Servers {
    servers: Vec<Server>,
}

impl Servers {
    /// Starts both and waits until they answer.
    pub(super) async fn start(ground: &Ground, clock: &Clock, shutdown: &Shutdown) -> Result<Self, Failure> {
        let mut servers = Self { servers: vec![] };
        for which in [Which::Redis, Which::Nats] {
            let child = spawn(which, ground)?;
            servers.servers.push(Server { which, child, restarted_at: vec![] });
        }
        let ready = tokio::select! {
            biased;
            () = shutdown.stopped() => Err(Failure::failed("interrupted while the servers were starting")),
            ready = servers.ready(ground, clock) => ready,
        };
        if let Err(problem) = ready {
            servers.stop(clock).await;
            return Err(problem);
        }
        Ok(servers)
    }

    async fn ready(&mut self, ground: &Ground, clock: &Clock) -> Result<(), Failure> {
        let give_up_at = clock.monotonic() + START_TIMEOUT;
        for index in 0..self.servers.len() {
            loop {
                let server = &mut self.servers[index];
                let word = server.which.word();
                let answer = match server.which {
                    Which::Redis => {
                        let store = RedisStore::connect(&ground.redis_url(), RedisOptions::default()).await;
                        store.map(|_| ()).map_err(|problem| problem.to_string())
                    }
                    Which::Nats => {
                        let bus = NatsBus::connect(&ground.nats_url(), NatsOptions::default()).await;
                        bus.map(|_| ()).map_err(|problem| problem.to_string())
                    }
                };
                let Err(problem) = answer else { break };
                if let Some(status) = server.child.try_wait()? {
                    return Err(Failure::failed(format!(
                        "the {word} server ended at once ({status}); its log: {}\n{}",
                        log_file(server.which, ground).display(),
                        last_lines(&log_file(server.which, ground))
                    )));
                }
                if clock.monotonic() >= give_up_at {
                    return Err(Failure::failed(format!(
                        "the {word} server doesn't answer: failed to {problem}"
                    )));
                }
                clock.sleep(START_POLL).await;
            }
        }
        Ok(())
    }

    /// Minds the servers: one that ended is started again. Returns only when that is hopeless.
    pub(super) async fn mind(&mut self, ground: &Ground, clock: &Clock) -> Failure {
        loop {
            clock.sleep(MIND_INTERVAL).await;
            for server in &mut self.servers {
                let word = server.which.word();
                let status = match server.child.try_wait() {
                    Ok(None) => continue,
                    Ok(Some(status)) => status.to_string(),
                    Err(problem) => problem.to_string(),
                };
                let now = clock.monotonic();
                server.restarted_at.retain(|at| now - *at < RESTART_WINDOW);
                if server.restarted_at.len() >= RESTARTS_MAX {
                    let log = log_file(server.which, ground);
                    return Failure::failed(format!(
                        "the {word} server keeps ending ({status}); its log: {}",
                        log.display()
                    ));
                }
                eprintln!("the {word} server ended ({status}); starting it again");
                server.restarted_at.push(now);
                match spawn(server.which, ground) {
                    Ok(child) => server.child = child,
                    Err(problem) => return problem,
                }
            }
        }
    }

    /// Asks both to end, and sees to it.
    pub(super) async fn stop(&mut self, clock: &Clock) {
        for server in &mut self.servers {
            if matches!(server.child.try_wait(), Ok(None)) {
                terminate(i32::try_from(server.child.id()).unwrap_or(0));
            }
        }
        let give_up_at = clock.monotonic() + STOP_TIMEOUT;
        for server in &mut self.servers {
            while matches!(server.child.try_wait(), Ok(None)) {
                if clock.monotonic() >= give_up_at {
                    tracing::warn!(server = server.which.word(), "it doesn't end by itself; killing it");
                    // It may have ended this very moment; either way it is waited for.
                    let _ended = server.child.kill().and_then(|()| server.child.wait());
                }
                clock.sleep(START_POLL).await;
            }
        }
    }
}

fn spawn(which: Which, ground: &Ground) -> Result<Child, Failure> {
    use std::os::unix::process::CommandExt;
    let word = which.word();
    let log = std::fs::File::options().create(true).append(true).open(log_file(which, ground))?;
    let program = binary(which)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["__child", "--"]).arg(&program).args(arguments(which, ground)?);
    command.current_dir(ground.data().join(word)).stdin(Stdio::null());
    command.stdout(log.try_clone()?).stderr(log).process_group(0);
    let child = command
        .spawn()
        .map_err(|problem| Failure::failed(format!("failed to start {}: {problem}", program.display())))?;
    std::fs::write(ground.pid_file(word), child.id().to_string())?;
    Ok(child)
}

/// The server's binary: named by the environment, else on PATH. A link is kept as it is: Redis' binary looks at the
/// name it was called by.
fn binary(which: Which) -> Result<PathBuf, Failure> {
    let (variable, name) = match which {
        Which::Redis => ("ECRON_REDIS_SERVER", "redis-server"),
        Which::Nats => ("ECRON_NATS_SERVER", "nats-server"),
    };
    if let Some(path) = std::env::var_os(variable) {
        return Ok(PathBuf::from(path));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    if let Ok(here) = std::env::current_dir() {
        folders.push(here.join(".ecron/bin"));
    }
    folders.into_iter().map(|folder| folder.join(name)).find(|candidate| candidate.is_file()).ok_or_else(|| {
        Failure::failed(format!(
            "there is no {name} on PATH; deploy/servers.sh installs one below .ecron/bin, or name yours in {variable}"
        ))
    })
}

fn arguments(which: Which, ground: &Ground) -> Result<Vec<String>, Failure> {
    Ok(match which {
        Which::Redis => {
            let port = ground.redis_port().to_string();
            let pairs = [
                ("port", port.as_str()),
                ("bind", "127.0.0.1"),
                ("dir", "."),
                ("appendonly", "yes"),
                ("appendfsync", "everysec"),
                ("maxmemory-policy", "noeviction"),
                ("save", ""),
                ("daemonize", "no"),
            ];
            pairs.into_iter().flat_map(|(key, value)| [format!("--{key}"), value.to_owned()]).collect()
        }
        Which::Nats => {
            let settings = ground.data().join("nats/nats.conf");
            let text = format!(
                "# Written by `ecron up` at each start.\n\
                 listen: \"127.0.0.1:{}\"\nserver_name: \"ecron-up\"\n\
                 jetstream {{ store_dir: \"{}\", sync_interval: \"1s\" }}\n",
                ground.nats_port(),
                ground.data().join("nats").display()
            );
            std::fs::write(&settings, text)?;
            vec!["--config".into(), settings.display().to_string()]
        }
    })
}

fn log_file(which: Which, ground: &Ground) -> PathBuf {
    ground.data().join("logs").join(format!("{}.log", which.word()))
}

/// The end of a log, for an error message.
fn last_lines(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
