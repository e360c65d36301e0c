//! The `ecron` under test: the one that `ECRON_BIN` names, else this workspace's, built on first use.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, bail};

/// Variables that cargo sets for a test. A cargo that is started from one must not see them: build scripts that watch
/// them would run again, and everything after them would be built twice.
const SET_BY_CARGO: [&str; 5] =
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_TARGET_TMPDIR"];

/// The executor that the SDK's documentation shows.
const EXAMPLE: &str = "report_handler";

/// The path of the example executor, beside the binary.
pub fn example() -> anyhow::Result<PathBuf> {
    Ok(ecron()?.with_file_name("examples").join(EXAMPLE))
}

/// The binary's path. Built at most once in this process; cargo's own lock puts several processes in order.
pub fn ecron() -> anyhow::Result<PathBuf> {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let found = BINARY.get_or_init(|| find_or_build().map_err(|problem| format!("{problem:#}")));
    found.clone().map_err(anyhow::Error::msg)
}

fn find_or_build() -> anyhow::Result<PathBuf> {
    if let Some(given) = std::env::var_os("ECRON_BIN") {
        let given = PathBuf::from(given);
        return given.canonicalize().with_context(|| format!("find ECRON_BIN={}", given.display()));
    }
    // …/target/PROFILE/deps/e2e-0123456789abcdef
    let this = std::env::current_exe()?;
    let folder = this.ancestors().nth(2).context("find the folder of this test's profile")?;
    let target = folder.parent().context("find the target folder")?;
    let profile = folder.file_name().and_then(|name| name.to_str()).context("find this test's profile")?;
    let profile = if profile == "debug" { "dev" } else { profile };
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // The whole workspace, and an example: then features are those of `cargo test`, and nothing is built twice.
    cargo.args(["build", "--workspace", "--bin", "ecron", "--example", EXAMPLE]);
    cargo.args(["--locked", "--quiet", "--profile", profile]);
    cargo.arg("--target-dir").arg(target);
    cargo.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| SET_BY_CARGO.iter().any(|start| name.starts_with(start))) {
            cargo.env_remove(name);
        }
    }
    let output = cargo.output().context("run cargo")?;
    if !output.status.success() {
        bail!("build ecron: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(folder.join("ecron"))
}
