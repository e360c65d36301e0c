//! `ecron doctor` and the durability profiles: what is wrong with the servers is named, before it costs a run.

use std::process::Command;
use std::time::Duration;

use harness::binary;
use harness::process::Process;
use harness::up::Up;
use rustix::process::Signal;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);

/// The findings of a report that aren't "ok": where, what was looked at, and how bad it is.
fn troubles(report: &Value) -> Vec<String> {
    let findings = report["findings"].as_array().cloned().unwrap_or_default();
    let text = |finding: &Value, field: &str| finding[field].as_str().unwrap_or_default().to_owned();
    let line = |one: &Value| format!("{} {} {}", text(one, "at"), text(one, "check"), text(one, "state"));
    findings.iter().filter(|one| one["state"] != "ok").map(line).collect()
}

#[tokio::test]
async fn the_doctor_names_what_is_wrong_and_roles_refuse_what_a_profile_forbids() -> anyhow::Result<()> {
    let up = Up::start().await?;
    let cli = up.cli();
    let healthy = cli.ok(&["doctor", "-o", "json"]).await?;
    assert_eq!(troubles(&serde_json::from_str(&healthy)?), Vec::<String>::new());

    for command in [
        &["config", "set", "maxmemory-policy", "allkeys-lru"][..],
        &["config", "set", "no-appendfsync-on-rewrite", "yes"],
        &["set", "ecron:{63}:wheel:7", "left by another version"],
    ] {
        up.redis_cli(command).await?;
    }
    let worse = cli.ok(&["doctor", "-o", "json"]).await?;
    assert_eq!(
        troubles(&serde_json::from_str(&worse)?),
        ["redis eviction warning", "redis fsync on rewrite warning", "redis keys warning"]
    );
    let shown = cli.ok(&["doctor"]).await?;
    assert!(shown.contains("allkeys-lru") && shown.contains("ecron:{63}:wheel:7"), "{shown:?}");

    let safe = cli.run(&["doctor", "--profile", "safe"]).await?;
    assert_eq!(safe.code, Some(1), "{safe:?}");
    let refused = cli.run(&["dispatcher", "--profile", "fast"]).await?;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.stderr.contains("what the profile fast promises") && refused.stderr.contains("add replicas")
    );

    let mut command = Command::new(binary::ecron()?);
    command.args(["dispatcher", "--profile", "fast", "--accept-data-loss", "a test", "--weight", "0"]);
    command.args(["--redis-url", &up.redis_url(), "--nats-url", &up.nats_url()]);
    let mut process = Process::spawn(command, "accepting", up.folder())?;
    process.says("dispatcher is running", 1, PATIENCE).await?;
    process.signal(Signal::INT)?;
    assert!(process.ended(PATIENCE).await?.success(), "{}", process.log());
    up.redis_cli(&["del", "ecron:{63}:wheel:7"]).await.map(drop)
}
