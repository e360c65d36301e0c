//! `ecron pause` and `ecron resume`: jobs, a namespace, or a queue.

use bus::nats::NatsBus;
use clap::Args;
use model::object::ObjectKind;
use planner::api::types::{ApplyReply, PauseRequest, QueueRequest};

use crate::args::{Format, Servers};
use crate::commands::{apply, job_name, objects, who};
use crate::connect::{ask, nats};
use crate::failure::Failure;
use crate::output;

#[derive(Clone, Debug, Args)]
pub(crate) struct PauseArgs {
    /// Jobs: NAME or NS/NAME (the word `job` may stand before them); or `namespace NS…`, `queue NAME…`, `backfill NAME…`
    #[arg(value_name = "JOB", required = true)]
    pub(crate) what: Vec<String>,
    /// The namespace of a bare NAME
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,
    /// Wait until the planner has taken note
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to wait
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = crate::config::duration)]
    pub(crate) timeout: std::time::Duration,
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

/// Which way to turn what is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Pause,
    Resume,
}

impl Turn {
    fn verb(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
        }
    }

    fn done(self) -> &'static str {
        match self {
            Self::Pause => "paused",
            Self::Resume => "resumed",
        }
    }
}

pub(crate) async fn run(servers: &Servers, args: &PauseArgs, turn: Turn) -> Result<(), Failure> {
    let (kind, names) = match args.what.split_first() {
        Some((word, names)) if !names.is_empty() => match word.as_str() {
            "job" | "jobs" | "namespace" | "namespaces" | "queue" | "queues" | "backfill" | "backfills" => {
                (word.trim_end_matches('s'), names)
            }
            _ => ("job", args.what.as_slice()),
        },
        _ => ("job", args.what.as_slice()),
    };
    let bus = nats(servers).await?;
    let mut reply = ApplyReply { jobs: vec![], objects: vec![] };
    for name in names {
        let one = match kind {
            "namespace" => {
                let request =
                    PauseRequest { namespace: Some(name.clone()), by: who(), ..PauseRequest::default() };
                ask::<_, ApplyReply>(&bus, turn.verb(), &request).await?
            }
            "backfill" => {
                let backfill = Some(objects::named(ObjectKind::Backfill, name, &args.namespace)?.name());
                let request = PauseRequest { backfill, by: who(), ..PauseRequest::default() };
                ask::<_, ApplyReply>(&bus, turn.verb(), &request).await?
            }
            "queue" => {
                turn_queue(&bus, name, args, turn).await?;
                continue;
            }
            _ => {
                let job = Some(job_name(name, &args.namespace)?);
                let request = PauseRequest { job, by: who(), ..PauseRequest::default() };
                ask::<_, ApplyReply>(&bus, turn.verb(), &request).await?
            }
        };
        reply.jobs.extend(one.jobs);
        reply.objects.extend(one.objects);
    }
    if kind == "queue" {
        return Ok(());
    }
    if args.wait {
        apply::wait(&bus, &reply, args.timeout).await?;
    }
    if !output::structured(&reply, args.output)? {
        for sentence in sentences(&reply, turn) {
            output::line(sentence)?;
        }
    }
    let failed =
        reply.objects.iter().flat_map(|object| &object.updated).filter(|job| job.error.is_some()).count();
    if failed > 0 {
        return Err(Failure::failed(format!("{failed} job(s) weren't {}; repeat the command", turn.done())));
    }
    Ok(())
}

fn sentences(reply: &ApplyReply, turn: Turn) -> Vec<String> {
    use planner::api::types::ApplyAction::Unchanged;
    let word = |action| match (action, turn) {
        (Unchanged, Turn::Pause) => "is paused already",
        (Unchanged, Turn::Resume) => "isn't paused by itself",
        (_, turn) => turn.done(),
    };
    let mut lines = Vec::new();
    for object in &reply.objects {
        let jobs = object.updated.len() + object.updated_more;
        let word = word(object.action);
        if object.kind == ObjectKind::Backfill {
            lines.push(format!("backfill {} {word}", object.name));
            continue;
        }
        lines.push(format!(
            "namespace {} {word} ({jobs} job(s) told, revision {})",
            object.name, object.revision
        ));
        for (job, error) in object.updated.iter().filter_map(|job| Some((job, job.error.as_ref()?))) {
            lines.push(format!("  job {} failed to {error}", job.job));
        }
    }
    let job = |job: &planner::api::types::AppliedJob| {
        format!("job {} {} (revision {})", job.job, word(job.action), job.revision)
    };
    lines.extend(reply.jobs.iter().map(job));
    lines
}

async fn turn_queue(bus: &NatsBus, name: &str, args: &PauseArgs, turn: Turn) -> Result<(), Failure> {
    let queue = if name.contains('/') { name.to_owned() } else { format!("{}/{name}", args.namespace) };
    queue
        .parse::<model::name::QueueId>()
        .map_err(|problem| Failure::input(format!("failed to read queue {queue:?}: {problem}")))?;
    let request = QueueRequest { queue: queue.clone(), by: who() };
    let _: serde_json::Value = ask(bus, &format!("{}-queue", turn.verb()), &request).await?;
    if args.wait {
        apply::wait_for_queues().await;
    }
    output::line(format_args!("queue {queue} {}", turn.done()))
}
