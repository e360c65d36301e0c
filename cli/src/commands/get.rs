//! `ecron get`: jobs and runs; other objects are shown by `objects`.

use std::collections::BTreeMap;

use ambient::Clock;
use bus::AuditLog;
use bus::audit::gathered;
use bus::nats::NatsBus;
use model::object::ObjectKind;
use planner::api::types::{JobRequest, JobView, ListReply, ListRequest, RunRequest, RunView};

use crate::args::{Format, GetArgs, Kind, Servers};
use crate::commands::{backfill, describe, job_name, objects, runs};
use crate::connect::{ask, nats};
use crate::failure::Failure;
use crate::output::{self, Table, brief};

pub(crate) async fn run(servers: &Servers, args: &GetArgs) -> Result<(), Failure> {
    let namespace = args.namespace.as_deref().unwrap_or("default");
    let named = |what: &str| args.name.clone().ok_or_else(|| Failure::input(format!("name {what}")));
    match args.kind {
        Kind::Jobs | Kind::Job if args.name.is_some() => {
            let job = job_name(&named("a job")?, namespace)?;
            let view: JobView = ask(&nats(servers).await?, "get", &JobRequest { job }).await?;
            show_job(&view, args.output)
        }
        Kind::Calendars | Kind::Calendar => objects::get(servers, args, ObjectKind::Calendar).await,
        Kind::Namespaces | Kind::Namespace => objects::get(servers, args, ObjectKind::Namespace).await,
        Kind::Backfills | Kind::Backfill => backfill::get(servers, args).await,
        Kind::Queues | Kind::Queue => objects::get(servers, args, ObjectKind::Queue).await,
        Kind::Job => Err(Failure::input("name a job: ecron get job NAME")),
        Kind::Jobs => list(&nats(servers).await?, args).await,
        Kind::Runs => runs::run(&nats(servers).await?, args).await,
        Kind::Audit => audit(&nats(servers).await?, args).await,
        Kind::Run => run_by_id(servers, &named("a run: ecron get run ID")?, args.output).await,
    }
}

pub(crate) async fn run_by_id(servers: &Servers, run: &str, format: Format) -> Result<(), Failure> {
    let view: RunView = ask(&nats(servers).await?, "run", &RunRequest { run: run.to_owned() }).await?;
    if output::structured(&view, format)? { Ok(()) } else { describe::print_run(&view) }
}

async fn list(bus: &NatsBus, args: &GetArgs) -> Result<(), Failure> {
    let mut labels = BTreeMap::new();
    for label in &args.labels {
        let (key, value) = label
            .split_once('=')
            .ok_or_else(|| Failure::input(format!("failed to read label {label:?}: expected KEY=VALUE")))?;
        labels.insert(key.to_owned(), value.to_owned());
    }
    let mut jobs = Vec::new();
    let mut after = None;
    loop {
        let request = ListRequest {
            namespace: args.namespace.clone(),
            labels: labels.clone(),
            after: after.take(),
            ..ListRequest::default()
        };
        let reply: ListReply = ask(bus, "list", &request).await?;
        jobs.extend(reply.jobs);
        after = reply.next;
        if after.is_none() {
            break;
        }
    }
    if output::structured(&jobs, args.output)? {
        return Ok(());
    }
    let mut table = Table::new(&["JOB", "SCHEDULE", "NEXT DUE", "LAST RUN", "LAST DUE", "REVISION"]);
    for view in jobs {
        let status = view.status;
        let state = match (&status.condition, status.suspended) {
            (Some(_), _) => "(invalid, see describe)".to_owned(),
            (None, true) if status.namespace_paused => "(paused with its namespace)".to_owned(),
            (None, true) => "(paused)".to_owned(),
            (None, false) => status.next_due_at.unwrap_or_default(),
        };
        let (last_state, last_due) = status.last_run.map(|run| (run.state, run.due_at)).unwrap_or_default();
        let revision = revision_text(status.revision, status.observed_revision);
        table.row([view.job, brief(&status.schedule, 48), state, last_state, last_due, revision]);
    }
    table.print("no jobs; declare some with `ecron apply -f FILE`")
}

/// The newest accepted revision, and which one is in force if that is another.
fn revision_text(revision: u64, observed: u64) -> String {
    match observed {
        observed if observed == revision => revision.to_string(),
        0 => format!("{revision} (not in force yet)"),
        older => format!("{revision} ({older} in force)"),
    }
}

fn show_job(view: &JobView, format: Format) -> Result<(), Failure> {
    if output::structured(view, format)? { Ok(()) } else { describe::print_job(view, &[]) }
}

async fn audit(bus: &NatsBus, args: &GetArgs) -> Result<(), Failure> {
    let since = Clock::system().now().plus_ms(-model::time::duration_ms(args.since));
    let records = gathered(bus.audits(since).await?);
    let rows = records.iter().map(|record| {
        serde_json::json!({
            "at": record.at.to_string(), "by": record.by, "action": record.action, "target": record.target,
            "count": record.count, "detail": record.detail,
        })
    });
    if output::structured(&rows.collect::<Vec<_>>(), args.output)? {
        return Ok(());
    }
    let mut table = Table::new(&["AT", "BY", "ACTION", "TARGET", "COUNT", "DETAIL"]);
    for record in records {
        table.row([
            record.at.to_string(),
            record.by.unwrap_or_default(),
            record.action,
            record.target,
            record.count.map(|count| count.to_string()).unwrap_or_default(),
            record.detail.unwrap_or_default(),
        ]);
    }
    table.print("nothing was asked for in that time; look further back with --since")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_that_is_not_in_force_says_so() {
        assert_eq!(revision_text(7, 7), "7");
        assert_eq!(revision_text(7, 5), "7 (5 in force)");
        assert_eq!(revision_text(7, 0), "7 (not in force yet)");
    }
}
