//! `ecron explain`: why an occurrence did, will or did not run.

use std::sync::Arc;

use ambient::Clock;
use bus::BusError;
use bus::nats::NatsBus;
use clap::Args;
use planner::api::Api;
use planner::api::types::{ApiError, Envelope, ErrorKind, ExplainReply, ExplainRequest, ExplanationView};

use crate::args::{Format, Servers};
use crate::commands::job_name;
use crate::connect::{ask, nats, redis};
use crate::failure::Failure;
use crate::output;

const EXAMPLES: &str = "\
Examples:
  ecron explain billing/nightly-report                          # the last occurrence and the next
  ecron explain billing/nightly-report --at 2026-11-22T01:30:00Z
  ecron explain billing/nightly-report --at '2026-03-29 02:30'   # in the job's time zone
  ecron explain billing/nightly-report@2026-11-22T01:30:00Z -o json

It reads only, and also works while no planner runs (then it asks Redis itself).";

/// Say why a job did, will or did not run at an instant
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ExplainArgs {
    /// NAME or NS/NAME, or a run's id
    #[arg(value_name = "JOB")]
    pub(crate) job: String,
    /// The instant, past or future: RFC 3339, or a civil time in the job's zone
    #[arg(long, value_name = "INSTANT")]
    pub(crate) at: Option<String>,
    /// The namespace of a bare NAME
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

pub(crate) async fn run(servers: &Servers, args: &ExplainArgs) -> Result<(), Failure> {
    let (job, at) = match (args.job.split_once('@'), &args.at) {
        (Some(_), Some(_)) => return Err(Failure::input("give a run's id, or a job and --at; not both")),
        (Some((job, at)), None) => (job.to_owned(), Some(at.to_owned())),
        (None, at) => (args.job.clone(), at.clone()),
    };
    let request = ExplainRequest { job: job_name(&job, &args.namespace)?, at };
    let bus = nats(servers).await?;
    let reply = match ask::<_, ExplainReply>(&bus, "explain", &request).await {
        // Nobody serves the API: that may be the very answer.
        Err(problem) if problem.kind == ErrorKind::Failed => {
            alone(servers, bus, &request).await.map_err(|_| Failure::from(problem))?
        }
        answer => answer?,
    };
    if output::structured(&reply, args.output)? {
        return Ok(());
    }
    for (index, explanation) in reply.explanations.iter().enumerate() {
        if index > 0 {
            output::line("")?;
        }
        print(&reply.job, explanation)?;
    }
    Ok(())
}

/// The same answer from here, without a planner.
async fn alone(servers: &Servers, bus: NatsBus, request: &ExplainRequest) -> Result<ExplainReply, Failure> {
    let cluster = bus.cluster().await?;
    let shards = cluster.ok_or(BusError::Failed("find the cluster's settings".into()))?.shards;
    let store = redis(servers).await?;
    let api = Api::new(Arc::new(store), Arc::new(bus), Clock::system(), shards);
    let failed =
        |problem: serde_json::Error| Failure::failed(format!("failed to read the answer: {problem}"));
    let body = serde_json::to_vec(request).map_err(failed)?;
    let envelope: Envelope<ExplainReply> =
        serde_json::from_slice(&api.answer("explain", &body).await).map_err(failed)?;
    match (envelope.ok, envelope.error) {
        (Some(reply), _) => Ok(reply),
        (None, Some(error)) => Err(error.into()),
        (None, None) => Err(ApiError::refused("read the answer: it is empty".into()).into()),
    }
}

fn print(job: &str, explanation: &ExplanationView) -> Result<(), Failure> {
    let ExplanationView { at, local, fate, cause, steps, .. } = explanation;
    let local = if local == at { String::new() } else { format!(" ({local})") };
    output::line(format_args!("{job} at {at}{local}"))?;
    output::line(format_args!("{}: {cause}", fate.replace('-', " ")))?;
    for step in steps {
        let at = step.at.as_deref().unwrap_or("-");
        let line =
            format!("  {:<8} {:<12} {at:<24} {}", step.status, step.step, step.note.replace('\n', " "));
        output::line(line.trim_end())?;
    }
    Ok(())
}
