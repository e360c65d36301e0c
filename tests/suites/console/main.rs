//! The console against real servers and a real `ecron up`: its statuses, what guards changes, who is let in, markup that stays text,
//! other sites' requests, and every page of an empty and of a full system.

mod access;
mod api;
mod pages;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::cli::Cli;
use harness::http::{Http, Reply};
use harness::ports::Ports;
use harness::process::Process;
use harness::up::{Slot, Up};
use harness::wait::{seen, wait_until};
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_secs(60);
/// Bytes of a page, at most.
const PAGE_BYTES_MAX: usize = 100_000;
/// A schedule that no test will live to see.
const NEVER_SOON: &str = "2099-01-01T00:00:00Z";
/// What must stay text wherever it is shown.
const MARKUP: &str = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>";

static SHARED: Slot = Slot::new();

async fn shared() -> Result<(Arc<Up>, Http)> {
    let up = Up::shared(&SHARED).await?;
    let http = Http::at(up.port_base() + 2);
    Ok((up, http))
}

fn job(name: &str, spec: Value) -> Value {
    let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
    let mut manifest = json!({
        "apiVersion": "ecron/v1", "kind": "Job", "metadata": {"name": name, "namespace": namespace},
        "spec": {"schedule": {"at": [NEVER_SOON]}, "history": {"succeeded": 100, "failed": 100}},
    });
    if let (Some(all), Some(given)) = (manifest["spec"].as_object_mut(), spec.as_object()) {
        all.extend(given.clone());
    }
    manifest
}

/// Puts a job and waits until it is in force.
async fn put(http: &Http, manifest: &Value) -> Result<String> {
    let name = format!(
        "{}/{}",
        manifest["metadata"]["namespace"].as_str().unwrap_or_default(),
        manifest["metadata"]["name"].as_str().unwrap_or_default()
    );
    let path = format!("/api/v1/jobs/{name}");
    let reply = http.put(&path, manifest).await?;
    ensure!(matches!(reply.status, 200 | 201), "{reply:?}");
    wait_until(DEADLINE, &format!("{name} in force"), || async {
        let status = http.get(&path).await?.json()?["status"].clone();
        seen(status["revision"] == status["observedRevision"], status)
    })
    .await?;
    Ok(path)
}

async fn trigger(http: &Http, path: &str, body: &Value) -> Result<String> {
    let reply = http.post(&format!("{path}/trigger"), body).await?;
    ensure!(reply.status == 202, "{reply:?}");
    Ok(reply.json()?["run"].as_str().context("a run")?.to_owned())
}

async fn ended(http: &Http, run: &str) -> Result<Value> {
    wait_until(DEADLINE, &format!("the end of {run}"), || async {
        let view = http.get(&format!("/api/v1/runs/{run}")).await?.json()?;
        seen(view["endedAt"].is_string(), view)
    })
    .await
}

#[track_caller]
fn is_problem(reply: &Reply, status: u16, part: &str) {
    assert_eq!(reply.status, status, "{reply:?}");
    assert_eq!(reply.header("content-type"), "application/problem+json", "{reply:?}");
    assert!(reply.body.contains(part), "{part:?} in {reply:?}");
}
