//! `ecron delete`: jobs by name, or those that manifests declare.

use planner::api::types::{DeleteReply, ErrorKind, JobRequest};

use crate::args::{DeleteArgs, Servers};
use crate::commands::{apply, job_name};
use crate::connect::{ask, nats};
use crate::failure::Failure;
use crate::output;

pub(crate) async fn run(servers: &Servers, args: &DeleteArgs) -> Result<(), Failure> {
    let mut jobs = Vec::new();
    let words = match args.jobs.split_first() {
        Some((kind, rest)) if !rest.is_empty() && ["job", "jobs"].contains(&kind.as_str()) => rest,
        _ => &args.jobs,
    };
    for name in words {
        jobs.push(job_name(std::slice::from_ref(name), &args.namespace)?);
    }
    if !args.files.is_empty() {
        for manifest in apply::read(&args.files)? {
            let field = |name: &str| manifest["metadata"][name].as_str().map(ToOwned::to_owned);
            let name = field("name").unwrap_or_default();
            let namespace = field("namespace").unwrap_or_else(|| "default".into());
            jobs.push(job_name(&[name], &namespace)?);
        }
    }
    let bus = nats(servers).await?;
    for job in jobs {
        let outcome: Result<DeleteReply, _> = ask(&bus, "delete", &JobRequest { job: job.clone() }).await;
        match outcome {
            Ok(reply) => output::line(format_args!("job {} deleted", reply.job))?,
            Err(problem) if args.ignore_not_found && problem.kind == ErrorKind::NotFound => {}
            Err(problem) => return Err(problem.into()),
        }
    }
    Ok(())
}
