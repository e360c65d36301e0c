//! One process from start to end: fed, listened to, and ended with its whole group when its time is over.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use executor_sdk::Context;
use futures_util::future::{Either, join3, select};
use rustix::process::Signal;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::capture::{Capture, Pipe};
use super::group::Group;
use super::spawner::Spawner;

/// How long a process group may take to end after SIGTERM; then it gets SIGKILL. Less than the SDK's `CANCEL_GRACE`,
/// so that the attempt still reports what the command printed.
pub(super) const KILL_GRACE: Duration = Duration::from_secs(5);

/// How long a process's pipes are read after its end. Something that it left in the background may hold them open for
/// ever; what that prints later isn't part of the run.
const OUTPUT_GRACE: Duration = Duration::from_millis(500);

/// How often we look whether a group that was told to end has ended: at first, and in the end. Each look reads what the
/// kernel says of every process.
const GROUP_POLL: Duration = Duration::from_millis(20);
const GROUP_POLL_MAX: Duration = Duration::from_millis(320);

/// How a process ended, and what it printed.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    /// It was told to end, so its status means nothing.
    pub(super) cancelled: bool,
    pub(super) output: String,
    pub(super) last_stderr_line: Option<String>,
}

/// Starts a command, writes its stdin, reads what it prints, and waits for its end or for the attempt's
/// cancellation. What it prints goes to the run's log, too.
pub(super) async fn run(
    spawner: &Spawner,
    mut command: Command,
    stdin: Option<&str>,
    ctx: &Context,
) -> io::Result<Ended> {
    command.stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = spawner.spawn(command).await?;
    let group = Group::of(&child, spawner);

    let capture = Capture::new();
    let (fed_by, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let mut pipes = Box::pin(async {
        join3(
            feed(fed_by, stdin.unwrap_or_default()),
            read(&capture, ctx, Pipe::Stdout, stdout),
            read(&capture, ctx, Pipe::Stderr, stderr),
        )
        .await
    });
    let (status, cancelled) = {
        let mut waited = Box::pin(wait(&mut child, &group, ctx.cancellation()));
        // The pipes usually end first; the process decides.
        match select(&mut waited, &mut pipes).await {
            Either::Left((waited, _)) => {
                let _ = timeout(OUTPUT_GRACE, &mut pipes).await;
                waited?
            }
            Either::Right((_, _)) => waited.await?,
        }
    };
    drop(pipes);
    group.let_go();
    let (output, last_stderr_line) = capture.take();
    Ok(Ended { status, cancelled, output, last_stderr_line })
}

/// Waits for a process; ends its group if that is asked for.
async fn wait(
    child: &mut Child,
    group: &Group<'_>,
    cancellation: &CancellationToken,
) -> io::Result<(ExitStatus, bool)> {
    if let Some(status) = cancellation.run_until_cancelled(child.wait()).await {
        return Ok((status?, false));
    }
    group.send(Signal::TERM);
    let ended = async {
        let status = child.wait().await;
        let mut poll = GROUP_POLL;
        while group.goes_on() {
            sleep(poll).await;
            poll = (poll * 2).min(GROUP_POLL_MAX);
        }
        // What began while we looked has had no time to do anything.
        group.send(Signal::KILL);
        status
    };
    match timeout(KILL_GRACE, ended).await {
        Ok(status) => Ok((status?, true)),
        Err(_) => {
            group.send(Signal::KILL);
            Ok((child.wait().await?, true))
        }
    }
}

/// A command that doesn't read its stdin to the end is no failure.
async fn feed(pipe: Option<ChildStdin>, text: &str) {
    if let Some(mut pipe) = pipe {
        let _ = pipe.write_all(text.as_bytes()).await;
    }
}

async fn read(capture: &Capture, ctx: &Context, pipe: Pipe, from: Option<impl tokio::io::AsyncRead + Unpin>) {
    if let Some(from) = from
        && let Err(error) = capture.read(ctx, pipe, from).await
    {
        tracing::debug!(%error, ?pipe, "failed to read what a command prints");
    }
}
