//! `ecron apply`: manifests to the API, in batches that fit a message, and optionally wait for the planner.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ambient::Clock;
use bus::nats::NatsBus;
use model::manifest::Node;
use planner::api::types::{AppliedJob, ApplyAction, ApplyReply, ApplyRequest, JobRequest, JobView};

use crate::args::{ApplyArgs, Servers};
use crate::commands::validate::check;
use crate::connect::{ask, nats};
use crate::failure::Failure;
use crate::output;

/// Bytes of manifests in one request: half of what NATS takes in a message.
const BATCH_BYTES_MAX: usize = 512 * 1024;
/// Objects in one request.
const BATCH_OBJECTS_MAX: usize = 500;
/// How often the planner's progress is looked at.
const WAIT_POLL: Duration = Duration::from_millis(50);

pub(crate) async fn run(servers: &Servers, args: &ApplyArgs) -> Result<(), Failure> {
    let manifests = read(&args.files)?;
    let bus = nats(servers).await?;
    let applied = apply(&bus, &manifests, args.dry_run).await?;
    if args.wait && !args.dry_run {
        wait(&bus, &applied, args.timeout).await?;
    }
    if !output::structured(&ApplyReply { jobs: applied.clone() }, args.output)? {
        for job in &applied {
            output::line(sentence(job, args.dry_run))?;
        }
    }
    let failed = applied.iter().filter(|job| job.error.is_some()).count();
    if failed > 0 {
        return Err(Failure::failed(format!("{failed} of {} jobs weren't applied", applied.len())));
    }
    Ok(())
}

/// Every manifest of these files, checked; or every problem of every file.
pub(crate) fn read(files: &[PathBuf]) -> Result<Vec<serde_json::Value>, Failure> {
    let mut manifests = Vec::new();
    let mut problems = Vec::new();
    for file in expand(files)? {
        let report = check(&file)?;
        manifests.extend(report.manifests.iter().map(Node::to_json));
        problems.extend(report.problems);
    }
    if !problems.is_empty() {
        let count = problems.len();
        return Err(Failure::input(format!(
            "the input has {count} problem(s); nothing was applied\n{}",
            problems.join("\n")
        )));
    }
    if manifests.is_empty() {
        return Err(Failure::input("there is no manifest in the input"));
    }
    Ok(manifests)
}

/// Folders become the manifests in them, in order of name.
pub(crate) fn expand(files: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut expanded = Vec::new();
    for file in files {
        if !file.is_dir() {
            expanded.push(file.clone());
            continue;
        }
        let mut inside: Vec<PathBuf> =
            std::fs::read_dir(file)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
        inside.retain(|path| is_manifest(path));
        if inside.is_empty() {
            return Err(Failure::input(format!(
                "there is no .yaml, .yml or .json file in {}",
                file.display()
            )));
        }
        inside.sort();
        expanded.extend(inside);
    }
    Ok(expanded)
}

fn is_manifest(path: &Path) -> bool {
    path.is_file()
        && path.extension().is_some_and(|ending| ["yaml", "yml", "json"].iter().any(|known| ending == *known))
}

/// Sends manifests in batches.
pub(crate) async fn apply(
    bus: &NatsBus,
    manifests: &[serde_json::Value],
    dry_run: bool,
) -> Result<Vec<AppliedJob>, Failure> {
    let mut applied = Vec::with_capacity(manifests.len());
    let mut batch = Vec::new();
    let mut bytes = 0;
    for manifest in manifests {
        let size = manifest.to_string().len();
        if !batch.is_empty() && (bytes + size > BATCH_BYTES_MAX || batch.len() >= BATCH_OBJECTS_MAX) {
            applied.extend(send(bus, std::mem::take(&mut batch), dry_run).await?);
            bytes = 0;
        }
        bytes += size;
        batch.push(manifest.clone());
    }
    applied.extend(send(bus, batch, dry_run).await?);
    Ok(applied)
}

async fn send(
    bus: &NatsBus,
    manifests: Vec<serde_json::Value>,
    dry_run: bool,
) -> Result<Vec<AppliedJob>, Failure> {
    let reply: ApplyReply = ask(bus, "apply", &ApplyRequest { manifests, dry_run }).await?;
    Ok(reply.jobs)
}

/// Waits until each job's accepted revision is in force.
pub(crate) async fn wait(bus: &NatsBus, applied: &[AppliedJob], timeout: Duration) -> Result<(), Failure> {
    let clock = Clock::system();
    let give_up_at = clock.monotonic() + timeout;
    for job in applied.iter().filter(|job| job.error.is_none()) {
        loop {
            let view: JobView = ask(bus, "get", &JobRequest { job: job.job.clone() }).await?;
            if view.status.observed_revision >= job.revision {
                break;
            }
            if let Some(condition) = view.status.condition {
                return Err(Failure::failed(format!("{} isn't in force: {condition}", job.job)));
            }
            if clock.monotonic() >= give_up_at {
                return Err(Failure::failed(format!(
                    "{} was accepted as revision {}, but no planner has installed it in time",
                    job.job, job.revision
                )));
            }
            clock.sleep(WAIT_POLL).await;
        }
    }
    Ok(())
}

pub(crate) fn sentence(job: &AppliedJob, dry_run: bool) -> String {
    match (&job.error, job.action) {
        (Some(error), _) => format!("job {} failed to {error}", job.job),
        (None, _) if dry_run => format!("job {} is valid (dry run)", job.job),
        (None, ApplyAction::Created) => format!("job {} created (revision {})", job.job, job.revision),
        (None, ApplyAction::Configured) => format!("job {} configured (revision {})", job.job, job.revision),
        (None, ApplyAction::Unchanged) => format!("job {} unchanged (revision {})", job.job, job.revision),
        (None, ApplyAction::Failed) => format!("job {} failed", job.job),
    }
}
