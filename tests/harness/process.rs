//! A process with everything that it starts: watched, signalled, and killed to the last one.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use crate::wait::{Look, wait_until};

/// What marks the processes of one brood; it passes from parent to child.
const MARK: &str = "ECRON_TEST_BROOD";
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// How long killed processes may take to be gone, on a busy machine.
const KILL_TIMEOUT: Duration = Duration::from_secs(20);
/// Lines of its log that a failing test shows.
const LOG_LINES_SHOWN: usize = 60;

/// A process, its log, and its offspring, all of which end with this value.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    brood: Brood,
}

impl Process {
    /// Starts a command in a folder of the test's own. What it prints goes to `NAME.log` there, after what an earlier
    /// process of that name printed.
    pub fn spawn(mut command: Command, name: &str, folder: &Path) -> anyhow::Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log)?;
        let brood = Brood { mark: format!("{name}@{}", folder.display()), folder: folder.canonicalize()? };
        command.env(MARK, &brood.mark).current_dir(folder);
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("start {name}"))?;
        Ok(Self { name: name.into(), child, log, brood })
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it and its predecessors printed.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until its log holds a text at least `times` times; fails at once if the process ends before.
    pub async fn says(&mut self, text: &str, times: usize, deadline: Duration) -> anyhow::Result<()> {
        let what = format!("{} says {text:?}", self.name);
        let ended = wait_until(deadline, &what, || {
            let found = if self.log().matches(text).count() >= times {
                Ok(Look::Enough(None))
            } else {
                match self.child.try_wait() {
                    Ok(Some(status)) => Ok(Look::Enough(Some(status))),
                    Ok(None) => Ok(Look::NotYet(self.log())),
                    Err(problem) => Err(problem.into()),
                }
            };
            std::future::ready(found)
        });
        match ended.await? {
            None => Ok(()),
            Some(status) => bail!("wait until {what}: it ended with {status}\n{}", self.log()),
        }
    }

    /// Its status if it has ended.
    pub fn status(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for its end.
    pub async fn ended(&mut self, deadline: Duration) -> anyhow::Result<ExitStatus> {
        let what = format!("{} ends", self.name);
        wait_until(deadline, &what, || {
            let status = self.child.try_wait().map_err(anyhow::Error::from);
            std::future::ready(status.map(|status| match status {
                Some(status) => Look::Enough(status),
                None => Look::NotYet(self.log()),
            }))
        })
        .await
    }

    /// Sends a signal to it alone.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        send(self.pid(), signal)
    }

    /// Kills it alone, without warning.
    pub fn kill9(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Kills it and everything that it started, in the same moment and without warning.
    pub fn kill9_all(&mut self) -> anyhow::Result<()> {
        let mut members = self.brood.members();
        members.insert(self.pid());
        // Stopped first, so that none sees another die and reacts to it.
        for signal in [Signal::STOP, Signal::KILL] {
            for pid in &members {
                // One that is gone needs no signal.
                let _gone = send(*pid, signal);
            }
        }
        self.child.wait()?;
        self.brood.end()
    }

    /// The processes that it started and that still run.
    #[must_use]
    pub fn offspring(&self) -> BTreeSet<u32> {
        let mut members = self.brood.members();
        members.remove(&self.pid());
        members
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Shown by the test runner if the test fails.
        let log = self.log();
        let from = log.lines().count().saturating_sub(LOG_LINES_SHOWN);
        eprintln!("--- the end of {}'s log", self.name);
        log.lines().skip(from).for_each(|line| eprintln!("{line}"));
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
        if let Err(problem) = self.brood.end() {
            eprintln!("{problem:#}");
        }
    }
}

/// All processes that bear a mark in their environment, work below the test's folder (a Redis paints over its
/// environment), or were started by one of them.
#[derive(Debug)]
struct Brood {
    mark: String,
    folder: PathBuf,
}

impl Brood {
    fn members(&self) -> BTreeSet<u32> {
        let mark = format!("{MARK}={}", self.mark).into_bytes();
        let mut parents = Vec::new();
        let mut members = BTreeSet::new();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            let Some((state, parent)) = state_and_parent(pid) else { continue };
            if state == 'Z' {
                continue;
            }
            parents.push((pid, parent));
            let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            let is_marked = environment.split(|byte| *byte == 0).any(|variable| variable == mark);
            // Below, not in: the folder itself is where several of a test's processes work.
            let is_below = std::fs::read_link(entry.path().join("cwd"))
                .is_ok_and(|folder| folder != self.folder && folder.starts_with(&self.folder));
            if is_marked || is_below {
                members.insert(pid);
            }
        }
        loop {
            let known = members.len();
            let children = parents.iter().filter(|(_, parent)| members.contains(parent)).map(|(pid, _)| *pid);
            let children: Vec<u32> = children.collect();
            members.extend(children);
            if members.len() == known {
                return members;
            }
        }
    }

    fn send(&self, signal: Signal) {
        for pid in self.members() {
            // One that is gone needs no signal.
            let _gone = send(pid, signal);
        }
    }

    /// Kills until nobody is left.
    fn end(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let members = self.members();
            if members.is_empty() {
                return Ok(());
            }
            if began.elapsed() > KILL_TIMEOUT {
                bail!("kill {}: {members:?} are still there", self.mark);
            }
            self.send(Signal::KILL);
            std::thread::sleep(POLL_INTERVAL);
        }
    }
}

fn send(pid: u32, signal: Signal) -> anyhow::Result<()> {
    let pid = Pid::from_raw(i32::try_from(pid)?).context("a process has an id")?;
    Ok(kill_process(pid, signal)?)
}

fn state_and_parent(pid: u32) -> Option<(char, u32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut words = stat.rsplit_once(')')?.1.split_whitespace();
    Some((words.next()?.chars().next()?, words.next()?.parse().ok()?))
}
