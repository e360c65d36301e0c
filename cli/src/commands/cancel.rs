//! `ecron cancel`: a run that isn't wanted any more.

use std::time::Duration;

use ambient::Clock;
use clap::Args;
use model::id::Occurrence;
use planner::api::types::{CancelReply, CancelRequest, RunRequest, RunView};

use crate::args::{Format, Servers};
use crate::commands::{backfill, describe, job_name, who};
use crate::connect::{ask, nats};
use crate::failure::Failure;
use crate::output;

/// How often the run is looked at.
const WAIT_POLL: Duration = Duration::from_millis(100);

#[derive(Clone, Debug, Args)]
pub(crate) struct CancelArgs {
    /// The run's id (`ecron describe JOB` shows them), or a job's name together with --at; or `backfill NAME…`
    #[arg(value_name = "RUN|JOB", required = true)]
    pub(crate) what: Vec<String>,
    /// The instant at which the run is due, if a job was given; RFC 3339
    #[arg(long, value_name = "T")]
    pub(crate) at: Option<String>,
    /// Namespace of a job that is named without one
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Wait until the run has ended
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to wait
    #[arg(long, default_value = "45s", value_parser = crate::config::duration, value_name = "DURATION")]
    pub(crate) timeout: Duration,
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

pub(crate) async fn run(servers: &Servers, args: &CancelArgs) -> Result<(), Failure> {
    if args.what.first().is_some_and(|word| ["backfill", "backfills"].contains(&word.as_str())) {
        return backfill::cancel(servers, &args.what[1..], &args.namespace).await;
    }
    let run = run_id(args)?;
    let bus = nats(servers).await?;
    let request = CancelRequest { run: run.clone(), reason: args.reason.clone(), by: who() };
    let reply: CancelReply = ask(&bus, "cancel", &request).await?;
    if !args.wait {
        if !output::structured(&reply, args.output)? {
            let more = if reply.state == "cancelled" { "" } else { ": its executor is being told" };
            output::line(format_args!("run {} is {}{more}", reply.run, reply.state))?;
        }
        return Ok(());
    }
    let clock = Clock::system();
    let give_up_at = clock.monotonic() + args.timeout;
    loop {
        let view: RunView = ask(&bus, "run", &RunRequest { run: run.clone() }).await?;
        if view.ended_at.is_some() {
            if !output::structured(&view, args.output)? {
                describe::print_run(&view)?;
            }
            let state = view.state;
            return if state == "cancelled" {
                Ok(())
            } else {
                Err(Failure::failed(format!("it ended before it was cancelled: the run is {state}")))
            };
        }
        if clock.monotonic() >= give_up_at {
            return Err(Failure::failed(format!(
                "run {run} hasn't ended in time; it is still being cancelled"
            )));
        }
        clock.sleep(WAIT_POLL).await;
    }
}

/// The run that is meant: named by its id, or by its job and instant.
fn run_id(args: &CancelArgs) -> Result<String, Failure> {
    let [named] = args.what.as_slice() else {
        return Err(Failure::input("name one run, a job with --at, or: ecron cancel backfill NAME"));
    };
    let text = match &args.at {
        Some(at) => {
            let job = job_name(named, &args.namespace)?;
            let due_at: model::time::Timestamp = at
                .parse()
                .map_err(|problem| Failure::input(format!("failed to read --at {at:?}: {problem}")))?;
            format!("{job}@{due_at}")
        }
        None => named.clone(),
    };
    match text.parse::<Occurrence>() {
        Ok(run) => Ok(run.to_string()),
        Err(problem) => Err(Failure::input(format!("failed to {problem}; or name a job, with --at"))),
    }
}
