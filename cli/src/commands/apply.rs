//! `ecron apply`: manifests to the API, in batches that fit a message, and optionally wait for the planner.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ambient::Clock;
use bus::nats::NatsBus;
use dispatcher::queue_rules::REFRESH_INTERVAL;
use model::manifest::{Node, apply_order};
use model::object::ObjectKind;
use planner::api::types::{
    ApiError, AppliedJob, AppliedObject, ApplyAction, ApplyReply, ApplyRequest, JobRequest, JobView,
};

use crate::args::{ApplyArgs, Servers};
use crate::commands::validate::{OtherCalendars, Report, check};
use crate::commands::who;
use crate::connect::{ask, nats};
use crate::failure::Failure;
use crate::output;

/// Bytes of manifests in one request: half of what NATS takes in a message.
const BATCH_BYTES_MAX: usize = 512 * 1024;
/// Objects in one request.
const BATCH_OBJECTS_MAX: usize = 500;
/// How often the planner's progress is looked at.
const WAIT_POLL: Duration = Duration::from_millis(50);
/// By then every dispatcher has looked at the queues again: they do so once a second, and a look takes a while. Nobody notes what
/// each of them knows.
const QUEUES_KNOWN_AFTER: Duration = REFRESH_INTERVAL.saturating_mul(2);

pub(crate) async fn run(servers: &Servers, args: &ApplyArgs) -> Result<(), Failure> {
    let manifests = read(&args.files)?;
    let bus = nats(servers).await?;
    let reply = apply(&bus, &manifests, args.dry_run).await?;
    let waited = if args.wait && !args.dry_run { wait(&bus, &reply, args.timeout).await } else { Ok(()) };
    // Whatever became of the wait: this is what was written.
    if !output::structured(&reply, args.output)? {
        for sentence in sentences(&reply, args.dry_run) {
            output::line(sentence)?;
        }
    }
    let errors = reply.objects.iter().map(|object| &object.error).chain(jobs(&reply).map(|job| &job.error));
    let failed = errors.filter(|error| error.is_some()).count();
    if failed > 0 {
        return Err(Failure::failed(format!("{failed} object(s) weren't applied")));
    }
    waited
}

/// Every job that an `apply` wrote: the declared ones, and those that a changed calendar moved.
fn jobs(reply: &ApplyReply) -> impl Iterator<Item = &AppliedJob> {
    reply.jobs.iter().chain(reply.objects.iter().flat_map(|object| &object.updated))
}

/// Every manifest of these files, checked, what jobs refer to first; or every problem of every file.
pub(crate) fn read(files: &[PathBuf]) -> Result<Vec<serde_json::Value>, Failure> {
    // Calendars that aren't here are the server's to judge.
    let Report { mut manifests, problems, .. } = check(&expand(files)?, OtherCalendars::Assumed)?;
    if !problems.is_empty() {
        let count = problems.len();
        return Err(Failure::input(format!(
            "the input has {count} problem(s); nothing was applied\n{}",
            problems.join("\n")
        )));
    }
    // What others refer to goes into the first batches.
    manifests.sort_by_key(apply_order);
    if manifests.is_empty() {
        return Err(Failure::input("there is no manifest in the input"));
    }
    Ok(manifests.iter().map(Node::to_json).collect())
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
) -> Result<ApplyReply, Failure> {
    let mut applied = ApplyReply { jobs: Vec::with_capacity(manifests.len()), objects: vec![] };
    let mut batch = Vec::new();
    let mut bytes = 0;
    for manifest in manifests {
        let size = manifest.to_string().len();
        if !batch.is_empty() && (bytes + size > BATCH_BYTES_MAX || batch.len() >= BATCH_OBJECTS_MAX) {
            send(bus, std::mem::take(&mut batch), dry_run, &mut applied).await?;
            bytes = 0;
        }
        bytes += size;
        batch.push(manifest.clone());
    }
    send(bus, batch, dry_run, &mut applied).await?;
    Ok(applied)
}

async fn send(
    bus: &NatsBus,
    manifests: Vec<serde_json::Value>,
    dry_run: bool,
    applied: &mut ApplyReply,
) -> Result<(), Failure> {
    let request = ApplyRequest { manifests, dry_run, by: who(), expected: None };
    match ask::<_, ApplyReply>(bus, "apply", &request).await {
        Ok(reply) => {
            applied.jobs.extend(reply.jobs);
            applied.objects.extend(reply.objects);
            Ok(())
        }
        Err(problem) => Err(named(problem, &request.manifests)),
    }
}

/// A refusal with the objects' names: their numbers are those of a batch, which the user doesn't know.
fn named(mut problem: ApiError, manifests: &[serde_json::Value]) -> Failure {
    for input in std::mem::take(&mut problem.problems) {
        let manifest = manifests.get(input.object).unwrap_or(&serde_json::Value::Null);
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let (kind, metadata) = (text(&manifest["kind"]).to_lowercase(), &manifest["metadata"]);
        let namespace = match (metadata["namespace"].as_str(), kind.as_str()) {
            (_, "namespace") => String::new(),
            (namespace, _) => format!("{}/", namespace.unwrap_or("default")),
        };
        let name = format!("{namespace}{}", text(&metadata["name"]));
        problem.message.push_str(&format!("\n  {kind} {name}: {}: {}", input.field, input.message));
    }
    problem.into()
}

/// Waits until a queue's limits, or its pause, hold everywhere.
pub(crate) async fn wait_for_queues() {
    Clock::system().sleep(QUEUES_KNOWN_AFTER).await;
}

/// Waits until each job's accepted revision is in force, and each queue's limits are.
pub(crate) async fn wait(bus: &NatsBus, applied: &ApplyReply, timeout: Duration) -> Result<(), Failure> {
    let clock = Clock::system();
    let give_up_at = clock.monotonic() + timeout;
    for job in jobs(applied).filter(|job| job.error.is_none()) {
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
    let is_new =
        |object: &AppliedObject| object.kind == ObjectKind::Queue && object.action != ApplyAction::Unchanged;
    if applied.objects.iter().any(is_new) {
        wait_for_queues().await;
    }
    Ok(())
}

/// What happened, a line each.
pub(crate) fn sentences(reply: &ApplyReply, dry_run: bool) -> Vec<String> {
    let mut lines = Vec::new();
    for object in &reply.objects {
        let name = format!("{} {}", object.kind.word(), object.name);
        lines.push(sentence(&name, object.action, object.revision, object.error.as_ref(), dry_run));
        lines.extend(object.note.iter().map(|note| format!("  note: {note}")));
        for job in &object.updated {
            lines.push(match &job.error {
                Some(error) => format!("  job {} failed to {error}", job.job),
                None => format!("  job {} follows it (revision {})", job.job, job.revision),
            });
        }
        if object.updated_more > 0 {
            lines.push(format!("  and {} more jobs", object.updated_more));
        }
    }
    let job = |job: &AppliedJob| {
        sentence(&format!("job {}", job.job), job.action, job.revision, job.error.as_ref(), dry_run)
    };
    lines.extend(reply.jobs.iter().map(job));
    lines
}

fn sentence(
    name: &str,
    action: ApplyAction,
    revision: u64,
    error: Option<&ApiError>,
    dry_run: bool,
) -> String {
    match (error, action) {
        (Some(error), _) => format!("{name} failed to {error}"),
        (None, _) if dry_run => format!("{name} is valid (dry run)"),
        (None, ApplyAction::Created) => format!("{name} created (revision {revision})"),
        (None, ApplyAction::Configured) => format!("{name} configured (revision {revision})"),
        (None, ApplyAction::Unchanged) => format!("{name} unchanged (revision {revision})"),
        (None, ApplyAction::Failed) => format!("{name} failed"),
    }
}
