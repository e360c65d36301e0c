//! `ecron describe`: a job with its status, its spec and its last runs, for people.

use planner::api::types::{
    AttemptView, CancelView, JobRequest, JobView, PercentilesView, RunView, RunningView, RunsReply,
    RunsRequest, StatsView,
};

use crate::args::{OneJobArgs, Servers};
use crate::commands::get;
use crate::commands::runs::waits;
use crate::connect::{ask, nats};
use crate::failure::Failure;
use crate::output::{self, brief};

/// Runs shown.
const RUNS_SHOWN: usize = 10;

pub(crate) async fn run(servers: &Servers, args: &OneJobArgs) -> Result<(), Failure> {
    let of_run = matches!(args.word.as_deref(), Some("run" | "runs"));
    if of_run || args.word.is_none() && args.job.contains(['@', '~']) {
        return get::run_by_id(servers, &args.job, args.output).await;
    }
    let job = args.name()?;
    let bus = nats(servers).await?;
    let view: JobView = ask(&bus, "get", &JobRequest { job: job.clone() }).await?;
    let runs: RunsReply =
        ask(&bus, "runs", &RunsRequest { job, limit: Some(RUNS_SHOWN), brief: false }).await?;
    if output::structured(&serde_json::json!({ "job": view, "runs": runs.runs }), args.output)? {
        return Ok(());
    }
    print_job(&view, &runs.runs)
}

pub(crate) fn print_job(view: &JobView, runs: &[RunView]) -> Result<(), Failure> {
    let status = &view.status;
    output::line(format_args!("Job:        {}", view.job))?;
    output::line(format_args!("Schedule:   {}", status.schedule))?;
    let next = match (&status.next_due_at, status.suspended) {
        (_, true) => {
            let whose = if status.namespace_paused { "its namespace" } else { "the job" };
            let since = status.paused_since.as_deref().unwrap_or_default();
            format!("not before it is resumed: {whose} is paused (what is due after {since} is missed)")
        }
        (Some(at), false) => at.clone(),
        (None, false) => "never again".to_owned(),
    };
    output::line(format_args!("Next due:   {next}"))?;
    output::line(format_args!("Created:    {}", status.created_at))?;
    let observed = if status.observed_revision == status.revision { "in force" } else { "not installed yet" };
    output::line(format_args!("Revision:   {} ({observed})", status.revision))?;
    if let Some(condition) = &status.condition {
        output::line(format_args!("Condition:  {condition}"))?;
    }
    if let Some(stats) = &status.stats {
        print_stats(stats)?;
    }
    let spec = view.manifest.get("spec").unwrap_or(&serde_json::Value::Null);
    output::line("Spec:")?;
    for line in crate::yaml::to_text(spec).trim_end().lines() {
        output::line(format_args!("  {line}"))?;
    }
    if !runs.is_empty() {
        output::line("Last runs:")?;
    }
    for run in runs {
        let note =
            run.reason.as_deref().or(run.error.as_deref()).map(|note| format!(": {}", brief(note, 80)));
        let attempts =
            if run.attempts > 1 { format!(" after {} attempts", run.attempts) } else { String::new() };
        let late = run.lateness_ms.map(|ms| format!(", {ms} ms late")).unwrap_or_default();
        let took = Some(took(run)).filter(|took| !took.is_empty()).map(|took| format!(", took {took}"));
        output::line(format_args!(
            "  {}  {}{attempts}{late}{}{}",
            run.due_at,
            run.state,
            took.unwrap_or_default(),
            note.unwrap_or_default()
        ))?;
    }
    Ok(())
}

/// A job's statistics, a line each.
fn print_stats(stats: &StatsView) -> Result<(), Failure> {
    let StatsView { succeeded, failed, cancelled, skipped, .. } = stats;
    let rate = stats.success_rate.map(|rate| format!(" ({:.1} % of those that ran succeeded)", rate * 100.0));
    output::line(format_args!(
        "Runs:       {succeeded} succeeded, {failed} failed, {cancelled} cancelled, {skipped} skipped{}",
        rate.unwrap_or_default()
    ))?;
    if let Some(at) = &stats.last_success_at {
        output::line(format_args!("Success:    last at {at}"))?;
    }
    let times = [("Lateness:", stats.lateness_ms), ("Duration:", stats.duration_ms)];
    for (name, percentiles) in times {
        if let Some(PercentilesView { p50, p95, p99 }) = percentiles {
            let ms = |ms: u64| milliseconds(i64::try_from(ms).unwrap_or(i64::MAX));
            output::line(format_args!("{name:<11} p50 {}, p95 {}, p99 {}", ms(p50), ms(p95), ms(p99)))?;
        }
    }
    Ok(())
}

/// Every attempt of a run, a line each.
pub(crate) fn print_attempts(attempts: &[AttemptView]) -> Result<(), Failure> {
    if !attempts.is_empty() {
        output::line("Attempts made:")?;
    }
    for attempt in attempts {
        let AttemptView { generation, attempt: number, outcome, started_at, ended_at, error, executor } =
            attempt;
        let redrive = if *generation > 0 { format!(" (redrive {generation})") } else { String::new() };
        let error = error.as_deref().map(|error| format!(": {}", brief(error, 200))).unwrap_or_default();
        let times = started_at.as_ref().zip(ended_at.as_ref());
        let times = times.map(|(from, to)| format!("  {from} to {to}")).unwrap_or_default();
        let place = executor.as_ref().map(|executor| format!("  on {executor}")).unwrap_or_default();
        output::line(format_args!("  {number}{redrive}{times}  {outcome}{place}{error}"))?;
    }
    Ok(())
}

pub(crate) fn print_run(run: &RunView) -> Result<(), Failure> {
    let rows = [
        ("Run", Some(run.run.clone())),
        ("State", Some(run.state.clone())),
        ("Reason", run.reason.clone().or_else(|| waits(run).map(Into::into))),
        ("Cancelled", run.cancel.as_ref().map(cancelled)),
        ("Running", run.running.as_ref().map(running)),
        ("Due", Some(run.due_at.clone())),
        ("Published", run.published_at.clone()),
        ("Started", run.started_at.clone()),
        ("Ended", run.ended_at.clone()),
        ("Late", run.lateness_ms.map(|ms| format!("{ms} ms"))),
        ("Attempts", (run.attempts > 0).then(|| run.attempts.to_string())),
        ("Outcome", run.last_outcome.clone()),
        ("Error", run.error.clone()),
        ("Executor", run.executor.clone()),
        ("Revision", Some(run.revision.to_string())),
        ("Redriven", (run.generation > 0).then(|| format!("{} time(s)", run.generation))),
    ];
    for (name, value) in rows {
        if let Some(value) = value {
            output::line(format_args!("{:<11} {value}", format!("{name}:")))?;
        }
    }
    print_attempts(&run.attempt_log)?;
    if let Some(text) = &run.output {
        output::line("Output:")?;
        for line in text.lines() {
            output::line(format_args!("  {line}"))?;
        }
    }
    Ok(())
}

/// `asked for at 06:45:00Z by ann@host-1: wrong figures`.
fn cancelled(CancelView { at, by, reason }: &CancelView) -> String {
    let reason = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("asked for at {at} by {by}{reason}")
}

/// `attempt 2 since 06:45:00Z on host-1; 40 % rows 4000/10000 (as of …)`.
fn running(running: &RunningView) -> String {
    let RunningView { attempt, since, executor, at, fraction, message } = running;
    let fraction = fraction.map(|fraction| fraction.to_string());
    let said: Vec<&str> = [fraction.as_deref(), message.as_deref()].into_iter().flatten().collect();
    let said = if said.is_empty() { String::new() } else { format!("; {} (at {at})", said.join(" ")) };
    format!("since {since}, attempt {attempt} on {executor}{said}")
}

/// How long the run took, with all its attempts; empty if it didn't end.
pub(crate) fn took(run: &RunView) -> String {
    let instant =
        |text: &Option<String>| text.as_ref().and_then(|text| text.parse::<model::time::Timestamp>().ok());
    match (instant(&run.started_at), instant(&run.ended_at)) {
        (Some(started), Some(ended)) => milliseconds(ended.ms_since(started)),
        _ => String::new(),
    }
}

/// A duration for people: `12 ms`, `3.4 s`, `5m 20s`.
pub(crate) fn milliseconds(ms: i64) -> String {
    match ms {
        ..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{:.1} s", ms as f64 / 1_000.0),
        _ => format!("{}m {}s", ms / 60_000, ms % 60_000 / 1_000),
    }
}
