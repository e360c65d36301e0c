//! The process group of a command: told to end, and asked whether anything in it goes on.

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::process::Child;

use super::spawner::Spawner;

/// A process group in our care. Dropped before it was let go (the attempt was aborted), it is killed.
pub(super) struct Group<'a> {
    pid: Option<Pid>,
    spawner: &'a Spawner,
}

impl<'a> Group<'a> {
    /// The group that a child leads.
    pub(super) fn of(child: &Child, spawner: &'a Spawner) -> Self {
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Self { pid, spawner }
    }

    pub(super) fn send(&self, signal: Signal) {
        if let Some(pid) = self.pid {
            // Fails if everybody in it has ended, which is what we want.
            let _ = kill_process_group(pid, signal);
        }
    }

    /// Whether anything in it goes on.
    pub(super) fn goes_on(&self) -> bool {
        self.pid.is_some_and(goes_on)
    }

    /// The command has ended. What it started in the background may go on, as it may under cron.
    pub(super) fn let_go(mut self) {
        self.tell();
        self.pid = None;
    }

    fn tell(&self) {
        if let Some(group) = self.pid.and_then(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok()) {
            self.spawner.ended(group);
        }
    }
}

impl Drop for Group<'_> {
    fn drop(&mut self) {
        self.send(Signal::KILL);
        self.tell();
    }
}

/// The kernel counts processes that have ended and that nobody has collected yet. Collecting those whose parent is gone
/// is up to the first process, which may take its time, in a container above all.
fn goes_on(group: Pid) -> bool {
    test_kill_process_group(group).is_ok() && has_live_member(group).unwrap_or(true)
}

/// `None`: this system doesn't say.
fn has_live_member(group: Pid) -> Option<bool> {
    let processes = std::fs::read_dir("/proc").ok()?;
    let mut stats = processes.flatten().filter(|entry| {
        entry.file_name().to_str().is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
    });
    // One that can't be read has just ended.
    Some(stats.any(|entry| {
        std::fs::read_to_string(entry.path().join("stat")).is_ok_and(|stat| is_live_member(&stat, group))
    }))
}

/// Whether the process that a `/proc/PID/stat` tells of is in a group and hasn't ended.
fn is_live_member(stat: &str, group: Pid) -> bool {
    // The name before it may have any character: state, parent and group come after the last parenthesis.
    let mut fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let state = fields.next().unwrap_or_default();
    let in_group = fields.nth(1).is_some_and(|field| field == group.as_raw_nonzero().to_string());
    in_group && !matches!(state, "Z" | "X")
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::process::CommandExt as _;
    use std::process::{Command, Stdio};

    use rustix::process::{WaitId, WaitIdOptions, waitid};

    use super::*;

    #[test]
    fn a_process_is_told_by_what_comes_after_its_name() {
        let group = Pid::from_raw(42).unwrap();
        for (stat, live) in [
            ("43 (sleep) S 1 42 42 0 -1", true),
            ("43 (a) Z (b) R 1 42 42 0 -1", true),
            ("43 (sleep) Z 1 42 42 0 -1", false),
            ("43 (sleep) X 1 42 42 0 -1", false),
            ("42 (sleep) S 42 41 42 0 -1", false),
            ("", false),
        ] {
            assert_eq!(is_live_member(stat, group), live, "{stat}");
        }
    }

    #[test]
    fn a_group_of_zombies_has_ended() {
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo begun; read line"]).process_group(0);
        let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let group = Pid::from_raw(i32::try_from(shell.id()).unwrap()).unwrap();
        shell.stdout.take().unwrap().read_exact(&mut [0; 5]).unwrap();
        assert!(goes_on(group));
        kill_process_group(group, Signal::KILL).unwrap();
        // It has ended, but nobody collects it yet.
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(group), ended).unwrap();
        assert!(test_kill_process_group(group).is_ok());
        assert!(!goes_on(group));
        shell.wait().unwrap();
        assert!(!goes_on(group));
    }
}
