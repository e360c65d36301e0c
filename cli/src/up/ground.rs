//! The ground `ecron up` stands on: a data folder that is ours alone, and free ports.

use std::fs::{File, TryLockError};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ambient::Clock;

use crate::args::UpArgs;
use crate::config::UpFile;
use crate::failure::Failure;

/// How long servers of an `ecron up` that was killed may take to end.
const ORPHAN_TIMEOUT: Duration = Duration::from_secs(10);
const ORPHAN_POLL: Duration = Duration::from_millis(50);

/// A prepared data folder and its ports. The lock lasts as long as this value.
#[derive(Debug)]
pub(super) struct Ground {
    data: PathBuf,
    port_base: u16,
    _lock: File,
}

impl Ground {
    /// Creates the folder, locks it, and waits for the servers of a killed predecessor to end.
    pub(super) async fn prepare(args: &UpArgs, clock: &Clock) -> Result<Self, Failure> {
        let refused = |problem: std::io::Error| {
            let data = args.data.display();
            Failure::failed(format!(
                "failed to use {data} as data folder: {problem}; choose another one with --data"
            ))
        };
        for folder in ["redis", "nats", "logs"] {
            std::fs::create_dir_all(args.data.join(folder)).map_err(refused)?;
        }
        let data = args.data.canonicalize().map_err(refused)?;
        let lock = File::create(data.join("lock")).map_err(refused)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let data = data.display();
                return Err(Failure::failed(format!(
                    "another `ecron up` is running with {data}; stop it, or choose another --data"
                )));
            }
            Err(TryLockError::Error(problem)) => return Err(refused(problem)),
        }
        let ground = Self { data, port_base: args.port_base, _lock: lock };
        ground.outlast_orphans(clock).await?;
        for (port, what) in [(ground.redis_port(), "Redis"), (ground.nats_port(), "NATS")] {
            if let Err(problem) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
                return Err(Failure::failed(format!(
                    "failed to get port {port} for {what}: {problem}; choose other ports with --port-base"
                )));
            }
        }
        Ok(ground)
    }

    pub(super) fn data(&self) -> &Path {
        &self.data
    }

    pub(super) fn redis_port(&self) -> u16 {
        self.port_base
    }

    pub(super) fn nats_port(&self) -> u16 {
        self.port_base + 1
    }

    pub(super) fn console_port(&self) -> u16 {
        self.port_base + 2
    }

    pub(super) fn redis_url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.redis_port())
    }

    pub(super) fn nats_url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.nats_port())
    }

    pub(super) fn pid_file(&self, server: &str) -> PathBuf {
        self.data.join(format!("{server}.pid"))
    }

    /// Says for other commands how to reach us.
    pub(super) fn remember(&self, up: &UpFile) -> Result<(), Failure> {
        let text =
            serde_json::to_string_pretty(up).map_err(|problem| Failure::failed(problem.to_string()))?;
        for path in super::up_files(&self.data) {
            let written = path
                .parent()
                .map_or(Ok(()), std::fs::create_dir_all)
                .and_then(|()| std::fs::write(&path, &text));
            if let Err(problem) = written {
                // Other commands then need --nats-url; nothing else depends on it.
                tracing::warn!(path = %path.display(), %problem, "other commands won't find this `ecron up` by themselves");
            }
        }
        Ok(())
    }

    pub(super) fn forget(&self) {
        for path in super::up_files(&self.data) {
            let ours = std::fs::read_to_string(&path).is_ok_and(|text| {
                serde_json::from_str::<UpFile>(&text).is_ok_and(|up| up.pid == std::process::id())
            });
            if ours && let Err(problem) = std::fs::remove_file(&path) {
                tracing::debug!(path = %path.display(), %problem, "a stale file stays; its process is gone, so nobody believes it");
            }
        }
    }

    /// A killed `ecron up` takes its servers along (they get SIGTERM), but they need a moment to write their files.
    async fn outlast_orphans(&self, clock: &Clock) -> Result<(), Failure> {
        for server in ["redis", "nats"] {
            let Some(pid) = self.orphan(server) else { continue };
            tracing::info!(server, pid, "waiting for the server of an earlier `ecron up` to end");
            terminate(pid);
            let give_up_at = clock.monotonic() + ORPHAN_TIMEOUT;
            while self.orphan(server).is_some() {
                if clock.monotonic() >= give_up_at {
                    return Err(Failure::failed(format!(
                        "the {server} server of an earlier `ecron up` (process {pid}) doesn't end; end it by hand"
                    )));
                }
                clock.sleep(ORPHAN_POLL).await;
            }
        }
        Ok(())
    }

    /// The process of the pid file, if it is alive and really a server of this data folder.
    fn orphan(&self, server: &str) -> Option<i32> {
        let pid: i32 = std::fs::read_to_string(self.pid_file(server)).ok()?.trim().parse().ok()?;
        let folder = std::fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let zombie = state.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'));
        (folder == self.data.join(server) && !zombie).then_some(pid)
    }
}

/// Asks a process to end. One that is gone already has done so.
pub(super) fn terminate(pid: i32) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        let _gone = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
}
