//! `ecron get runs`: the remembered runs of a job, or of many, once or as they change.

use std::collections::BTreeMap;
use std::time::Duration;

use ambient::{Clock, Shutdown};
use bus::EventReader;
use bus::nats::NatsBus;
use futures_util::{StreamExt, TryStreamExt};
use planner::api::types::{ListReply, ListRequest, RunView, RunsReply, RunsRequest};

use crate::args::{Format, GetArgs};
use crate::commands::{describe, job_name};
use crate::connect::ask;
use crate::failure::Failure;
use crate::output::{self, Table, brief};

/// Jobs whose runs are shown together, if none is named.
const JOBS_MAX: usize = 1_000;
/// Requests at once.
const REQUESTS_MAX: usize = 16;
/// Runs of one job that a state is looked for in.
const RUNS_SEARCHED: usize = 1_000;
/// How often runs are looked at while nothing is heard of them.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// Events come in bursts: what they report is looked at together.
const WATCH_PAUSE: Duration = Duration::from_millis(100);

pub(crate) async fn run(bus: &NatsBus, args: &GetArgs) -> Result<(), Failure> {
    let namespace = args.namespace.as_deref().unwrap_or("default");
    let job = match &args.name {
        Some(name) => Some(job_name(name, namespace)?),
        None => None,
    };
    if args.watch {
        // Being interrupted is how a watch ends.
        let watched =
            Shutdown::on_signals()?.unless_stopped(Box::pin(watch(bus, args, job.as_deref()))).await;
        return watched.unwrap_or(Ok(()));
    }
    let runs = look(bus, args, job.as_deref()).await?;
    if output::structured(&RunsReply { runs: runs.clone() }, args.output)? {
        return Ok(());
    }
    let mut table =
        Table::new(&["DUE", "STATE", "ATTEMPTS", "LATE", "TOOK", if job.is_some() { "NOTE" } else { "JOB" }]);
    for run in &runs {
        let [due, state, attempts, late, took, note] = cells(run);
        let last = if job.is_some() { note } else { of_job(run).to_owned() };
        table.row([due, state, attempts, late, took, last]);
    }
    table.print(if job.is_some() { "no runs are remembered of this job" } else { "no runs are remembered" })
}

/// The runs that were asked for, newest first.
async fn look(bus: &NatsBus, args: &GetArgs, job: Option<&str>) -> Result<Vec<RunView>, Failure> {
    let jobs = match job {
        Some(job) => vec![job.to_owned()],
        None => jobs(bus, args).await?,
    };
    let limit = usize::from(args.limit);
    let searched = if args.state.is_some() { RUNS_SEARCHED } else { limit };
    let of_job = |job: String| async move {
        ask::<_, RunsReply>(bus, "runs", &RunsRequest { job, limit: Some(searched), brief: false }).await
    };
    let replies: Vec<RunsReply> =
        futures_util::stream::iter(jobs.into_iter().map(of_job)).buffered(REQUESTS_MAX).try_collect().await?;
    let mut runs: Vec<RunView> = replies.into_iter().flat_map(|reply| reply.runs).collect();
    runs.retain(|run| args.state.as_ref().is_none_or(|state| run.state == *state));
    runs.sort_by_key(|run| std::cmp::Reverse(run.due_at.parse::<model::time::Timestamp>().ok()));
    runs.truncate(limit);
    Ok(runs)
}

async fn jobs(bus: &NatsBus, args: &GetArgs) -> Result<Vec<String>, Failure> {
    let request =
        ListRequest { namespace: args.namespace.clone(), limit: Some(JOBS_MAX), ..ListRequest::default() };
    let reply: ListReply = ask(bus, "list", &request).await?;
    if reply.next.is_some() {
        let hint = format!("there are more than {JOBS_MAX} jobs: name one, or a namespace with -n");
        return Err(Failure::input(hint));
    }
    Ok(reply.jobs.into_iter().map(|view| view.job).collect())
}

/// Prints each run as it is and as it changes, until interrupted.
async fn watch(bus: &NatsBus, args: &GetArgs, job: Option<&str>) -> Result<(), Failure> {
    let clock = Clock::system();
    let mut events = bus.watch_events().await?;
    let mut known: BTreeMap<String, RunView> = BTreeMap::new();
    if args.output == Format::Table {
        let [due, state, attempts, late, took, note] = ["DUE", "STATE", "ATTEMPTS", "LATE", "TOOK", "NOTE"];
        output::line(format_args!(
            "{due:<24}  {:<36}  {state:<13}  {attempts:<8}  {late:>9}  {took:>8}  {note}",
            "JOB"
        ))?;
    }
    loop {
        for run in look(bus, args, job).await?.into_iter().rev() {
            if known.get(&run.run) != Some(&run) {
                show(&run, args.output)?;
                known.insert(run.run.clone(), run);
            }
        }
        tokio::select! {
            biased;
            event = events.next() => match event {
                // What it reports is settled a moment later.
                Some(_) => clock.sleep(WATCH_PAUSE).await,
                None => events = bus.watch_events().await?,
            },
            () = clock.sleep(WATCH_INTERVAL) => {}
        }
        // Runs that the job's history has forgotten needn't be known any more.
        while known.len() > 4 * RUNS_SEARCHED {
            known.pop_first();
        }
    }
}

fn show(run: &RunView, format: Format) -> Result<(), Failure> {
    if format != Format::Table {
        let text = serde_json::to_string(run);
        return output::line(
            text.map_err(|problem| Failure::failed(format!("failed to write the output: {problem}")))?,
        );
    }
    let [due, state, attempts, late, took, note] = cells(run);
    let job = of_job(run);
    let line = format!("{due:<24}  {job:<36}  {state:<13}  {attempts:<8}  {late:>9}  {took:>8}  {note}");
    output::line(line.trim_end())
}

fn of_job(run: &RunView) -> &str {
    run.run.split_once('@').map_or(run.run.as_str(), |(job, _)| job)
}

/// What a run waits for, in words.
pub(crate) fn waits(run: &RunView) -> Option<&'static str> {
    match run.waits_for.as_deref()? {
        "overlap" => Some("waits for an earlier run of its job"),
        "queue" => Some("waits at its queue's gate"),
        "dispatch" => Some("about to be published"),
        // A catch-up says more by itself.
        _ => None,
    }
}

fn cells(run: &RunView) -> [String; 6] {
    let cancelling = run.cancel.as_ref().filter(|_| run.ended_at.is_none());
    let cancelling = cancelling.map(|mark| format!("being cancelled by {}", mark.by));
    let note = run.reason.as_deref().or(cancelling.as_deref()).or(waits(run)).or(run.error.as_deref());
    let note = note.unwrap_or_default();
    [
        run.due_at.clone(),
        run.state.clone(),
        if run.attempts == 0 { String::new() } else { run.attempts.to_string() },
        run.lateness_ms.map(|ms| format!("{ms} ms")).unwrap_or_default(),
        describe::took(run),
        brief(note, 70),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiting_run_says_what_for() {
        let noted = |waits_for: &str, reason: Option<&str>| {
            let run = RunView {
                waits_for: Some(waits_for.into()),
                reason: reason.map(Into::into),
                ..RunView::default()
            };
            cells(&run)[5].clone()
        };
        assert_eq!(noted("queue", None), "waits at its queue's gate");
        assert_eq!(noted("overlap", None), "waits for an earlier run of its job");
        assert_eq!(noted("catch-up", Some("missed")), "missed");
    }
}
