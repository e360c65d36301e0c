//! Commands: what a job's `exec` means on this host, and how its end reads.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};

use executor_sdk::{Context, HandlerError, Output};
use model::id::RunId;
use model::spec::ExecSpec;
use tokio::process::Command;

use super::child;
use super::process::{self, Ended};
use super::spawner::Spawner;
use super::user::{self, User};

/// Where commands are looked for if neither the executor nor the job says.
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const SHELL_DEFAULT: &str = "/bin/sh";

/// A command, ready to be started: nothing in it depends on the executor's surroundings any more.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Invocation {
    argv: Vec<String>,
    env: BTreeMap<String, String>,
    working_dir: PathBuf,
}

/// Runs a job's command to its end, or to the attempt's.
pub(super) async fn run(ctx: &Context, spec: &ExecSpec, spawner: &Spawner) -> Result<Output, HandlerError> {
    let user = match &spec.user {
        Some(name) => Some(user::look_up(name).await?),
        None => None,
    };
    let invocation = invocation(ctx, spec, user.as_ref(), |name| env::var(name).ok())?;
    let command = command(&invocation, user.as_ref(), spawner)?;
    let ended = process::run(spawner, command, spec.stdin.as_deref(), ctx).await;
    verdict(spec, ended.map_err(|error| format!("failed to start {}: {error}", invocation.argv[0]))?)
}

/// The command, its environment and its folder. `inherited` reads the executor's own environment, of which a command
/// sees no more than the search path, the home and the language: it may hold the keys to our servers.
fn invocation(
    ctx: &Context,
    spec: &ExecSpec,
    user: Option<&User>,
    inherited: impl Fn(&str) -> Option<String>,
) -> Result<Invocation, HandlerError> {
    let mut env =
        BTreeMap::from([("PATH".to_owned(), inherited("PATH").unwrap_or_else(|| PATH_DEFAULT.into()))]);
    env.extend(["HOME", "LANG"].into_iter().filter_map(|name| Some((name.to_owned(), inherited(name)?))));
    if let Some(User { name, home, .. }) = user {
        let own = [("HOME", home), ("USER", name), ("LOGNAME", name)];
        env.extend(own.map(|(key, value)| (key.to_owned(), value.clone())));
    }
    env.extend(spec.env.clone());
    env.extend(run_env(ctx));

    let argv = match (&spec.shell, spec.command.as_slice()) {
        (Some(line), []) => {
            let shell =
                spec.env.get("SHELL").filter(|shell| !shell.is_empty()).map_or(SHELL_DEFAULT, String::as_str);
            vec![shell.to_owned(), "-c".into(), line.clone()]
        }
        (None, [_, ..]) => spec.command.clone(),
        _ => return Err(HandlerError::permanent("exec needs either a command or a shell line")),
    };
    let working_dir = match (&spec.working_dir, user) {
        (Some(dir), _) => PathBuf::from(dir),
        (None, Some(user)) => PathBuf::from(&user.home),
        (None, None) => PathBuf::from("."),
    };
    Ok(Invocation { argv, env, working_dir })
}

/// What a command is told of its run. A job can't override it.
fn run_env(ctx: &Context) -> impl Iterator<Item = (String, String)> {
    let job = match ctx.run_id() {
        RunId::Occurrence(occurrence) => Some(("ECRON_JOB", occurrence.job.to_string())),
        RunId::AdHoc { .. } => None,
    };
    let run = [
        ("ECRON_RUN_ID", ctx.run_id().to_string()),
        ("ECRON_DUE_AT", ctx.due_at().to_string()),
        ("ECRON_ATTEMPT", ctx.attempt().to_string()),
        ("ECRON_QUEUE", ctx.queue().to_string()),
    ];
    run.into_iter().chain(job).map(|(name, value)| (name.to_owned(), value))
}

/// The process to start for an invocation: through `ecron __child`, or through `setpriv` for another user.
fn command(invocation: &Invocation, user: Option<&User>, spawner: &Spawner) -> Result<Command, HandlerError> {
    let Invocation { argv, env, working_dir } = invocation;
    if !working_dir.is_dir() {
        return Err(HandlerError::permanent(format!("there is no folder {}", working_dir.display())));
    }
    let path = env.get("PATH").map_or(PATH_DEFAULT, String::as_str);
    let program = find_program(&argv[0], path, working_dir)?;
    let mut command = match user {
        Some(user) if !user.ourselves => {
            let setpriv = find_program("setpriv", PATH_DEFAULT, Path::new("/"))?;
            let words = user::become_user(user, &setpriv);
            let mut command = Command::new(&words[0]);
            command.args(&words[1..]).arg(program).args(&argv[1..]);
            command
        }
        _ => {
            let mut argv: Vec<OsString> = argv.iter().map(OsString::from).collect();
            argv[0] = program.into();
            let mut command = Command::new(spawner.own_binary());
            command.args(child::command_args(std::process::id(), &argv));
            command
        }
    };
    command.env_clear().envs(env).current_dir(working_dir);
    Ok(command)
}

/// Where a program is, by the rules of a shell. Looked up here and not by whatever starts it, so that a missing one
/// can be told from a command that fails.
fn find_program(name: &str, path: &str, working_dir: &Path) -> Result<PathBuf, HandlerError> {
    if name.contains('/') {
        let file = working_dir.join(name);
        return match file.metadata() {
            Ok(_) if is_executable(&file) => Ok(PathBuf::from(name)),
            Ok(_) => Err(HandlerError::permanent(format!("{name} isn't an executable file"))),
            Err(error) => Err(HandlerError::permanent(format!("failed to find {name}: {error}"))),
        };
    }
    env::split_paths(path)
        .map(|dir| working_dir.join(dir).join(name))
        .find(|file| is_executable(file))
        .ok_or_else(|| HandlerError::permanent(format!("there is no command {name:?} in PATH={path}")))
}

fn is_executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

fn verdict(spec: &ExecSpec, ended: Ended) -> Result<Output, HandlerError> {
    let Ended { status, cancelled, output, last_stderr_line } = ended;
    let error = match (status.code(), status.signal()) {
        _ if cancelled => "told to stop before it was done".to_owned(),
        (Some(0), _) => return Ok(if output.is_empty() { ().into() } else { Output::text(output) }),
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by {}", signal_name(signal)),
        (None, None) => format!("ended with {status}"),
    };
    let error = match last_stderr_line {
        Some(line) => format!("{error}: {line}"),
        None => error,
    };
    let permanent = |code| u16::try_from(code).is_ok_and(|code| spec.is_permanent(code));
    let error = match status.code() {
        Some(code) if !cancelled && permanent(code) => HandlerError::permanent(error),
        _ => HandlerError::from(error),
    };
    Err(if output.is_empty() { error } else { error.with_output(output) })
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        other => return format!("signal {other}"),
    };
    format!("{name} (signal {signal})")
}
