//! `ecron catch-up --dry-run`: what a resume, or the end of a downtime, would start.

use clap::Args;
use planner::api::types::{CatchUpReply, CatchUpRequest, CatchUpView};

use crate::args::{Format, Servers};
use crate::commands::describe::milliseconds;
use crate::commands::job_name;
use crate::connect::{ask, nats};
use crate::failure::Failure;
use crate::output::{self, Table};

#[derive(Clone, Debug, Args)]
pub(crate) struct CatchUpArgs {
    /// Only look; there is nothing else to do here
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// NAME or NS/NAME; all jobs unless given
    #[arg(value_name = "JOB")]
    pub(crate) job: Option<String>,
    /// Only this namespace; also the namespace of a bare NAME
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

pub(crate) async fn run(servers: &Servers, args: &CatchUpArgs) -> Result<(), Failure> {
    if !args.dry_run {
        return Err(Failure::input(
            "catching up happens by itself, as each job's catchUp says; to see what it would start, add --dry-run",
        ));
    }
    let request = match &args.job {
        Some(job) => {
            let namespace = args.namespace.as_deref().unwrap_or("default");
            CatchUpRequest { job: Some(job_name(job, namespace)?), namespace: None }
        }
        None => CatchUpRequest { job: None, namespace: args.namespace.clone() },
    };
    let reply: CatchUpReply = ask(&nats(servers).await?, "catch-up", &request).await?;
    if output::structured(&reply, args.output)? {
        return Ok(());
    }
    let mut table =
        Table::new(&["JOB", "MISSED", "WOULD START", "OLDEST", "NEWEST", "OVER", "POLICY", "WHY"]);
    for job in &reply.jobs {
        table.row([
            job.job.clone(),
            job.missed.to_string(),
            job.runs.to_string(),
            job.first.clone().unwrap_or_default(),
            job.last.clone().unwrap_or_default(),
            if job.over_ms > 0 { milliseconds(job.over_ms) } else { "at once".into() },
            job.rate.as_ref().map_or_else(|| job.policy.clone(), |rate| format!("{}, {rate}", job.policy)),
            why(job),
        ]);
    }
    table.print("nothing was missed: a resume would start nothing")?;
    if reply.jobs_more > 0 {
        output::line(format_args!("and {} more jobs", reply.jobs_more))?;
    }
    if !reply.jobs.is_empty() {
        let over =
            if reply.over_ms > 0 { format!(" over {}", milliseconds(reply.over_ms)) } else { String::new() };
        let (runs, missed) = (reply.runs, reply.missed);
        output::line(format_args!("{runs} run(s) would start{over}, of {missed} missed occurrence(s)"))?;
    }
    Ok(())
}

fn why(job: &CatchUpView) -> String {
    let since = &job.since;
    match (job.suspended, job.namespace_paused) {
        (true, true) => format!("paused, and its namespace too, since {since}"),
        (true, false) => format!("paused since {since}"),
        (false, true) => format!("its namespace is paused since {since}"),
        (false, false) => format!("not dispatched since {since}"),
    }
}
