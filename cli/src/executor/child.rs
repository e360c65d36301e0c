//! The hidden command `ecron __child`: what stands between the executor and the processes that it starts, so that none
//! of them goes on when the executor is killed.
//!
//! Three modes. `--parent PID -- CMD ARG…` becomes a job's command, after asking the kernel to kill it together with
//! its parent. The kernel does that for the process itself, not for those that it starts in turn; so there is also
//! `--guard`: one process beside the executor that is told of every process group, and kills those that are left when
//! the executor is gone. The first covers the moment before the second has heard of a group. `-- CMD ARG…` becomes a
//! server, which is asked to end (SIGTERM) rather than killed: it may have something to save.
//!
//! The kernel takes the death of the *thread* that started a process for the death of its parent: start these from a
//! thread that stays.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use rustix::process::{Pid, Signal, getppid, kill_process_group, set_parent_process_death_signal};

/// The word after `ecron` that leads here.
const CHILD_COMMAND: &str = "__child";

const PARENT: &str = "--parent";
const GUARD: &str = "--guard";

/// As shells have it: the command was found but couldn't be run.
const CANNOT_RUN: u8 = 126;
/// Our own refusals; no command has run.
const REFUSED: u8 = 125;

/// This very program, even if its file has been replaced or isn't readable for the user that a command runs as.
pub(super) fn own_binary() -> PathBuf {
    PathBuf::from("/proc/self/exe")
}

/// The arguments, after the program's name, that start `argv` as a child of the process `parent`.
pub(super) fn command_args(parent: u32, argv: &[OsString]) -> Vec<OsString> {
    let head = [CHILD_COMMAND.into(), PARENT.into(), parent.to_string().into(), "--".into()];
    head.into_iter().chain(argv.iter().cloned()).collect()
}

/// The arguments that start a guard.
pub(super) fn guard_args() -> [&'static str; 2] {
    [CHILD_COMMAND, GUARD]
}

/// The main function of `ecron __child`, if that is how this process was started. Must come before anything else in
/// `main`: a command is to become this process, not a child of some runtime in it.
pub(crate) fn run_if_asked() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    (args.next()? == CHILD_COMMAND).then(|| child_main(&args.collect::<Vec<_>>()))
}

/// Returns only if there is nothing to become.
fn child_main(args: &[OsString]) -> ExitCode {
    let words: Vec<&OsStr> = args.iter().map(OsString::as_os_str).collect();
    match words.as_slice() {
        [mode] if *mode == GUARD => guard(io::stdin().lock()),
        [mode, parent, dashes, program, rest @ ..] if *mode == PARENT && *dashes == "--" => {
            become_command(Some(parent), Signal::KILL, program, rest)
        }
        [dashes, program, rest @ ..] if *dashes == "--" => become_command(None, Signal::TERM, program, rest),
        _ => {
            eprintln!("ecron {CHILD_COMMAND} is for ecron itself");
            ExitCode::from(REFUSED)
        }
    }
}

fn become_command(parent: Option<&OsStr>, signal: Signal, program: &OsStr, args: &[&OsStr]) -> ExitCode {
    if let Err(error) = set_parent_process_death_signal(Some(signal)) {
        eprintln!("ecron: failed to bind {} to its parent: {error}", program.display());
        return ExitCode::from(REFUSED);
    }
    // The parent may have died before the line above: then nobody would ever send that signal.
    let parent_now = getppid().map(|pid| pid.as_raw_nonzero().get().to_string());
    if parent.is_some() && parent_now.as_deref().map(OsStr::new) != parent {
        return ExitCode::from(REFUSED);
    }
    let error = Command::new(program).args(args).exec();
    eprintln!("failed to run {}: {error}", program.display());
    ExitCode::from(CANNOT_RUN)
}

/// Reads `+GROUP` and `-GROUP`, a line each, until the executor is gone; then kills the groups that are left.
fn guard(lines: impl BufRead) -> ExitCode {
    let mut groups = BTreeSet::new();
    for line in lines.lines() {
        let Ok(line) = line else { break };
        match (line.get(..1), line.get(1..).and_then(|number| number.parse::<i32>().ok())) {
            (Some("+"), Some(group)) => {
                groups.insert(group);
            }
            (Some("-"), Some(group)) => {
                groups.remove(&group);
            }
            _ => {}
        }
    }
    for group in groups.into_iter().filter_map(Pid::from_raw) {
        // Gone already is as good.
        let _ = kill_process_group(group, Signal::KILL);
    }
    ExitCode::SUCCESS
}
