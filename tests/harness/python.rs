//! Clients that nobody here wrote: scripts of `tests/python`, which speak to NATS through nats-py and know no ecron.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tokio::process::Command;

use crate::cli::finish;

/// Runs a script of `tests/python` to its end; answers with what it printed, which must be one JSON value.
pub async fn run(script: &str, args: &[&str]) -> anyhow::Result<serde_json::Value> {
    let answer = finish(Command::from(command(script, args)?), "").await?;
    let text = answer.ok().with_context(|| format!("run {script} {args:?}"))?;
    serde_json::from_str(&text).with_context(|| format!("read what {script} printed:\n{text}"))
}

/// The command, for whoever starts it otherwise.
pub fn command(script: &str, args: &[&str]) -> anyhow::Result<std::process::Command> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = std::process::Command::new(interpreter(here)?);
    command.arg(here.join("python").join(script)).args(args).env("PYTHONUNBUFFERED", "1");
    Ok(command)
}

fn interpreter(here: &Path) -> anyhow::Result<PathBuf> {
    if let Some(given) = std::env::var_os("ECRON_PYTHON") {
        return Ok(given.into());
    }
    let installed = here.join("../.ecron/venv/bin/python");
    if !installed.is_file() {
        bail!("find a Python with nats-py: run tests/install.sh, or set ECRON_PYTHON");
    }
    Ok(installed)
}
