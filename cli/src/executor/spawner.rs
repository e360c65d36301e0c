//! The spawner: one thread that starts every process of this executor, and tells the guard of its process group.
//!
//! It is a thread of its own because the kernel takes "the parent has died" to mean the *thread* that started the
//! child: from a thread of tokio's pool, which come and go, commands would be killed for no reason. This one lives as
//! long as the executor has handlers.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Stdio};
use std::sync::mpsc;
use std::thread;

use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::child;

/// A handle to the thread. It ends with the last clone.
#[derive(Clone, Debug)]
pub(super) struct Spawner {
    requests: mpsc::Sender<Request>,
    own_binary: PathBuf,
}

enum Request {
    Start { command: Box<Command>, started: oneshot::Sender<io::Result<Child>> },
    Ended { group: u32 },
}

impl Spawner {
    /// Starts the thread and the guard. Must be called inside a tokio runtime.
    pub(super) fn start(own_binary: PathBuf) -> io::Result<Self> {
        let (requests, inbox) = mpsc::channel();
        let guard = Guard::start(&own_binary)?;
        let runtime = Handle::current();
        thread::Builder::new().name("ecron-spawner".into()).spawn(move || {
            // Children are registered with this runtime.
            let _runtime = runtime.enter();
            serve(&inbox, guard);
        })?;
        Ok(Self { requests, own_binary })
    }

    /// The program that `child::command_args` are for.
    pub(super) fn own_binary(&self) -> &Path {
        &self.own_binary
    }

    /// Starts a command as the leader of a process group of its own.
    pub(super) async fn spawn(&self, mut command: Command) -> io::Result<Child> {
        command.process_group(0);
        let (started, answer) = oneshot::channel();
        let gone = || io::Error::other("the spawner thread has ended");
        self.requests.send(Request::Start { command: Box::new(command), started }).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// The guard may forget a group: it has ended, or was left to itself on purpose.
    pub(super) fn ended(&self, group: u32) {
        // Without the thread there is nobody left to be told.
        let _ = self.requests.send(Request::Ended { group });
    }
}

fn serve(inbox: &mpsc::Receiver<Request>, mut guard: Guard) {
    while let Ok(request) = inbox.recv() {
        match request {
            Request::Start { mut command, started } => {
                let child = command.spawn();
                let group = child.as_ref().ok().and_then(Child::id);
                if let Some(group) = group {
                    guard.watch(group);
                }
                if let (Err(Ok(mut abandoned)), Some(group)) = (started.send(child), group) {
                    // The handler was aborted meanwhile, so nobody else will ever end this one.
                    let _ = abandoned.start_kill();
                    guard.forget(group);
                }
            }
            Request::Ended { group } => guard.forget(group),
        }
    }
}

/// The guard process, and what it should know.
struct Guard {
    own_binary: PathBuf,
    groups: BTreeSet<u32>,
    line: Option<ChildStdin>,
}

impl Guard {
    fn start(own_binary: &Path) -> io::Result<Self> {
        let line = start_guard(own_binary)?;
        Ok(Self { own_binary: own_binary.into(), groups: BTreeSet::new(), line: Some(line) })
    }

    fn watch(&mut self, group: u32) {
        self.groups.insert(group);
        self.tell(&format!("+{group}\n"));
    }

    fn forget(&mut self, group: u32) {
        if self.groups.remove(&group) {
            self.tell(&format!("-{group}\n"));
        }
    }

    /// Writes a line; if the guard is gone, starts another one that knows of everything.
    fn tell(&mut self, line: &str) {
        if self.line.as_mut().is_some_and(|guard| guard.write_all(line.as_bytes()).is_ok()) {
            return;
        }
        let all: String = self.groups.iter().map(|group| format!("+{group}\n")).collect();
        let restarted = start_guard(&self.own_binary).and_then(|mut guard| {
            guard.write_all(all.as_bytes())?;
            Ok(guard)
        });
        match restarted {
            Ok(guard) => self.line = Some(guard),
            Err(error) => {
                self.line = None;
                tracing::error!(%error, "failed to start the guard; commands may outlive this executor if it is killed");
            }
        }
    }
}

fn start_guard(own_binary: &Path) -> io::Result<ChildStdin> {
    let mut guard = std::process::Command::new(own_binary);
    // A group of its own: what is sent to ours (Ctrl-C, a kill of the group) mustn't end the guard before us.
    guard.args(child::guard_args()).process_group(0).env_clear().current_dir("/");
    guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut guard = Command::from(guard).spawn()?;
    let line = guard.stdin.take().ok_or_else(|| io::Error::other("the guard has no stdin"))?;
    // Dropping the handle leaves it to tokio to collect the process when it ends: no zombie.
    drop(guard);
    line.into_owned_fd().map(ChildStdin::from)
}
