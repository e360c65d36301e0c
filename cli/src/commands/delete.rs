//! `ecron delete`: jobs and other objects by name, or those that manifests declare.

use bus::nats::NatsBus;
use model::manifest::{self, Node};
use model::object::ObjectKey;
use planner::api::types::{ApiError, DeleteReply, DeleteRequest, ErrorKind};

use crate::args::{DeleteArgs, Servers};
use crate::commands::{apply, job_name, objects, who};
use crate::connect::{ask, nats};
use crate::failure::Failure;
use crate::output;

/// One thing to delete.
enum Doomed {
    Job(String),
    Object(ObjectKey),
}

pub(crate) async fn run(servers: &Servers, args: &DeleteArgs) -> Result<(), Failure> {
    let mut doomed = by_name(args)?;
    if !args.files.is_empty() {
        // The jobs before the calendars that they name: the reverse of how they are applied.
        for manifest in apply::read(&args.files)?.into_iter().rev() {
            doomed.extend(declared(&Node::from_json(manifest)));
        }
    }
    let bus = nats(servers).await?;
    for one in doomed {
        match delete(&bus, &one).await {
            Ok(name) => output::line(format_args!("{name} deleted"))?,
            Err(problem) if args.ignore_not_found && problem.kind == ErrorKind::NotFound => {}
            Err(problem) => return Err(problem.into()),
        }
    }
    Ok(())
}

fn by_name(args: &DeleteArgs) -> Result<Vec<Doomed>, Failure> {
    let job = |name: &String| Ok(Doomed::Job(job_name(name, &args.namespace)?));
    // A kind before names; alone, the word is a job's own name.
    let Some((word, names)) = args.jobs.split_first().filter(|(_, names)| !names.is_empty()) else {
        return args.jobs.iter().map(job).collect();
    };
    if let Some(kind) = objects::kind(word) {
        let object = |name: &String| Ok(Doomed::Object(objects::named(kind, name, &args.namespace)?));
        return names.iter().map(object).collect();
    }
    let names = if ["job", "jobs"].contains(&word.as_str()) { names } else { &args.jobs };
    names.iter().map(job).collect()
}

fn declared(manifest: &Node) -> Option<Doomed> {
    match manifest::object_key(manifest) {
        Some(key) => Some(Doomed::Object(key)),
        None => manifest::job_id(manifest).map(|job| Doomed::Job(job.to_string())),
    }
}

async fn delete(bus: &NatsBus, one: &Doomed) -> Result<String, ApiError> {
    match one {
        Doomed::Job(job) => {
            let reply: DeleteReply =
                ask(bus, "delete", &DeleteRequest { job: job.clone(), by: who(), expected: None }).await?;
            Ok(format!("job {}", reply.job))
        }
        Doomed::Object(key) => objects::delete(bus, key).await.map(|()| key.to_string()),
    }
}
