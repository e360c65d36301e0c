//! The command line, used as people and scripts use it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Deserialize;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::binary;
use crate::wait::{Look, wait_until};
use crate::witness::{instant, now_ms};

/// How long a command may take on a busy machine.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(90);

/// How long it may take until nothing is under way for once.
const QUIET_TIMEOUT: Duration = Duration::from_secs(60);
/// A moment is quiet if nothing falls due for this long.
const QUIET_MS: i64 = 500;

/// `ecron …` against certain servers.
#[derive(Clone, Debug)]
pub struct Cli {
    /// Where it runs and believes to be at home.
    pub folder: PathBuf,
    /// Variables such as `ECRON_NATS_URL`.
    pub env: Vec<(String, String)>,
}

/// How a command ended.
#[derive(Clone, Debug)]
pub struct Answer {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A run as `ecron get runs -o json` shows it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    pub run: String,
    pub state: String,
    pub due_at: String,
    pub generation: u32,
    pub attempts: u32,
    pub started_at: Option<String>,
    pub ended_at: Option<String>,
    pub lateness_ms: Option<i64>,
    pub last_outcome: Option<String>,
    pub error: Option<String>,
    pub reason: Option<String>,
    pub executor: Option<String>,
    pub output: Option<String>,
}

/// A dead letter as `ecron dead list -o json` shows it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Letter {
    pub number: u64,
    pub run: String,
    pub subject: String,
    pub reason: String,
    pub error: String,
    pub attempts: u32,
    pub payload: Value,
}

impl Cli {
    /// Commands that know no server.
    #[must_use]
    pub fn offline(folder: &Path) -> Self {
        Self { folder: folder.into(), env: vec![] }
    }

    /// Commands against these servers.
    #[must_use]
    pub fn online(folder: &Path, redis_url: &str, nats_url: &str) -> Self {
        let env = [("ECRON_REDIS_URL", redis_url), ("ECRON_NATS_URL", nats_url)];
        Self { folder: folder.into(), env: env.map(|(name, value)| (name.into(), value.into())).to_vec() }
    }

    /// The command, for whoever starts it otherwise.
    pub fn command(&self, args: &[&str]) -> anyhow::Result<std::process::Command> {
        let mut command = std::process::Command::new(binary::ecron()?);
        // Nothing of the person who runs the tests: no `ecron up` of theirs, no settings.
        for name in ["ECRON_REDIS_URL", "ECRON_NATS_URL", "ECRON_LOG", "ECRON_LOG_JSON"] {
            command.env_remove(name);
        }
        command.env("XDG_STATE_HOME", self.folder.join("state")).env("HOME", &self.folder);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.args(args).current_dir(&self.folder);
        Ok(command)
    }

    /// Runs a command to its end.
    pub async fn run(&self, args: &[&str]) -> anyhow::Result<Answer> {
        self.run_with(args, "").await
    }

    /// Runs a command with a text as its standard input.
    pub async fn run_with(&self, args: &[&str], stdin: &str) -> anyhow::Result<Answer> {
        finish(Command::from(self.command(args)?), stdin).await.with_context(|| format!("run ecron {args:?}"))
    }

    /// Runs a command that must succeed; answers with what it printed.
    pub async fn ok(&self, args: &[&str]) -> anyhow::Result<String> {
        self.run(args).await?.ok().with_context(|| format!("run ecron {args:?}"))
    }

    /// The same with `-o json`, read.
    pub async fn json(&self, args: &[&str]) -> anyhow::Result<Value> {
        let text = self.ok(&[args, &["-o", "json"]].concat()).await?;
        serde_json::from_str(&text).with_context(|| format!("read what ecron {args:?} printed:\n{text}"))
    }

    /// Declares jobs and waits until they are installed.
    pub async fn apply(&self, manifests: &str) -> anyhow::Result<String> {
        self.run_with(&["apply", "-f", "-", "--wait"], manifests).await?.ok().context("run ecron apply")
    }

    /// The remembered runs of a job, oldest first.
    pub async fn runs(&self, job: &str) -> anyhow::Result<Vec<Run>> {
        let mut reply = self.json(&["get", "runs", job, "--limit", "1000"]).await?;
        let mut runs: Vec<Run> = serde_json::from_value(reply["runs"].take())?;
        runs.reverse();
        Ok(runs)
    }

    /// Waits until a job's remembered runs are as wanted.
    pub async fn wait_for_runs(
        &self,
        job: &str,
        what: &str,
        deadline: Duration,
        enough: impl Fn(&[Run]) -> bool,
    ) -> anyhow::Result<Vec<Run>> {
        let what = format!("the runs of {job} {what}");
        wait_until(deadline, &what, || async {
            let runs = self.runs(job).await?;
            Ok(if enough(&runs) { Look::Enough(runs) } else { Look::NotYet(format!("{runs:#?}")) })
        })
        .await
    }

    /// Waits for a moment in which nothing of these jobs is under way and nothing falls due soon: a fault then hits
    /// nobody's hands, so that nothing may run twice. Their occurrences are multiples of `every_ms`; answers with the
    /// last one.
    pub async fn quiet_moment(&self, jobs: &[&str], every_ms: i64) -> anyhow::Result<i64> {
        wait_until(QUIET_TIMEOUT, "nothing is under way", || async {
            let last_ms = now_ms().div_euclid(every_ms) * every_ms;
            let mut open = Vec::new();
            for job in jobs {
                let runs = self.runs(job).await?;
                let newest = runs.last().is_some_and(|run| run.due_at == instant(last_ms));
                if !newest || runs.iter().any(|run| run.ended_at.is_none()) {
                    open.push(*job);
                }
            }
            let is_early = now_ms() < last_ms + every_ms - QUIET_MS;
            Ok(if open.is_empty() && is_early {
                Look::Enough(last_ms)
            } else {
                Look::NotYet(format!("{open:?}"))
            })
        })
        .await
    }

    /// All dead letters, oldest first.
    pub async fn letters(&self) -> anyhow::Result<Vec<Letter>> {
        Ok(serde_json::from_value(self.json(&["dead", "list", "--limit", "1000"]).await?)?)
    }

    /// Waits for dead letters that a filter picks.
    pub async fn wait_for_letters(
        &self,
        what: &str,
        deadline: Duration,
        pick: impl Fn(&Letter) -> bool,
        enough: impl Fn(&[Letter]) -> bool,
    ) -> anyhow::Result<Vec<Letter>> {
        wait_until(deadline, what, || async {
            let mut letters = self.letters().await?;
            letters.retain(&pick);
            Ok(if enough(&letters) { Look::Enough(letters) } else { Look::NotYet(format!("{letters:#?}")) })
        })
        .await
    }
}

impl Answer {
    /// What it printed, if it succeeded.
    pub fn ok(self) -> anyhow::Result<String> {
        if self.code != Some(0) {
            bail!("exit code {:?}\n{}\n{}", self.code, self.stdout, self.stderr);
        }
        Ok(self.stdout)
    }
}

/// Runs any command to its end, with a text as its standard input.
pub async fn finish(mut command: Command, stdin: &str) -> anyhow::Result<Answer> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let pipe = child.stdin.take();
    let feed = async move {
        if let Some(mut pipe) = pipe {
            // A command that doesn't read to the end is no failure.
            let _closed = pipe.write_all(stdin.as_bytes()).await;
        }
    };
    let ended = async { tokio::join!(child.wait_with_output(), feed).0 };
    let output = tokio::time::timeout(COMMAND_TIMEOUT, ended).await.context("wait for its end")??;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Answer { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) })
}

/// A program of the system, run to its end.
pub async fn program(name: impl AsRef<OsStr>, args: &[&str]) -> anyhow::Result<Answer> {
    let mut command = Command::new(name.as_ref());
    command.args(args);
    finish(command, "").await.with_context(|| format!("run {}", name.as_ref().to_string_lossy()))
}
