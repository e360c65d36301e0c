//! `ecron simulate`: what jobs would do in a stretch of time. Pure: no server, no clock.

use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

use model::declared::Declared;
use model::manifest::{Calendars, Node, Problem, admit, kind};
use model::simulate::{Fate, Simulated, simulate};
use model::time::Timestamp;
use serde::Serialize;

use crate::args::Format;
use crate::commands::apply::expand;
use crate::commands::describe::milliseconds;
use crate::commands::validate::{OtherCalendars, check};
use crate::failure::Failure;
use crate::output::{self, Table};

#[derive(Clone, Debug, Args)]
pub(crate) struct SimulateArgs {
    /// A manifest, a folder of manifests, or `-` for standard input; may be repeated
    #[arg(short = 'f', long = "filename", value_name = "FILE", required = true, num_args = 1..)]
    pub(crate) files: Vec<PathBuf>,
    /// The first instant (RFC 3339)
    #[arg(long, value_name = "INSTANT")]
    pub(crate) from: Timestamp,
    /// The first instant after it
    #[arg(long, value_name = "INSTANT")]
    pub(crate) to: Timestamp,
    /// How long each run takes
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = crate::config::duration)]
    pub(crate) duration: Duration,
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

/// Lines that one call prints.
const LINES_MAX: usize = 100_000;

/// One occurrence, for programs.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    job: String,
    due_at: String,
    /// `run`, `skip` or `excluded`.
    fate: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cancelled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip)]
    waited_ms: i64,
}

pub(crate) fn run(args: &SimulateArgs) -> Result<(), Failure> {
    if args.from >= args.to {
        return Err(Failure::input(format!(
            "failed to read the range: {} isn't before {}",
            args.from, args.to
        )));
    }
    let report = check(&expand(&args.files)?, OtherCalendars::Unknown)?;
    let calendars = Calendars::declared_in(&report.manifests);
    let jobs: Vec<&Node> = report.manifests.iter().filter(|node| kind(node).is_none()).collect();
    let mut lines = Vec::new();
    let mut problems = Vec::new();
    for node in &jobs {
        match declared(node, args.from, &calendars) {
            Ok(job) => lines.extend(simulate(&job, args.from, args.to, args.duration)),
            Err(found) => problems.extend(found),
        }
    }
    if !problems.is_empty() {
        // The check above knows files and lines; it judges by the present time, though, not by --from.
        let named = if report.problems.is_empty() { problems } else { report.problems };
        return Err(Failure::input(format!("{} problem(s)\n{}", named.len(), named.join("\n"))));
    }
    if jobs.is_empty() {
        return Err(Failure::input("there is no job in the input"));
    }
    lines.sort_by(|a, b| (a.due_at, &a.job).cmp(&(b.due_at, &b.job)));
    if lines.len() > LINES_MAX {
        let found = lines.len();
        return Err(Failure::input(format!(
            "{found} occurrences are more than {LINES_MAX}: take a shorter stretch"
        )));
    }
    let lines: Vec<Line> = lines.iter().map(line).collect();
    if output::structured(&lines, args.output)? { Ok(()) } else { print(&lines, args.duration) }
}

fn declared(node: &Node, from: Timestamp, calendars: &Calendars) -> Result<Declared, Vec<String>> {
    let texts = |problems: Vec<Problem>| -> Vec<String> {
        problems.iter().map(|problem| format!("  {problem}")).collect()
    };
    // Declared a moment before the first instant, so that this one counts.
    let (spec, acceptance) = admit(node, None, from.plus_ms(-1), calendars).map_err(texts)?;
    Declared::of(spec, acceptance).map_err(|problem| vec![problem])
}

fn line(one: &Simulated) -> Line {
    let plain = Line {
        job: one.job.to_string(),
        due_at: one.due_at.to_string(),
        fate: "run",
        started_at: None,
        ended_at: None,
        cancelled: false,
        reason: None,
        waited_ms: 0,
    };
    match &one.fate {
        Fate::Runs { started_at, ended_at, cancelled } => Line {
            started_at: Some(started_at.to_string()),
            ended_at: Some(ended_at.to_string()),
            cancelled: *cancelled,
            waited_ms: started_at.ms_since(one.due_at),
            ..plain
        },
        Fate::Skipped(reason) => Line { fate: "skip", reason: Some(reason.describe()), ..plain },
        Fate::Excluded => {
            Line { fate: "excluded", reason: Some("the schedule's exclude leaves it out"), ..plain }
        }
    }
}

fn print(lines: &[Line], takes: Duration) -> Result<(), Failure> {
    let mut table = Table::new(&["DUE", "JOB", "FATE", "WHY"]);
    for line in lines {
        let why = match (line.reason, line.waited_ms, &line.ended_at) {
            (Some(reason), _, _) => reason.to_owned(),
            (None, waited_ms, Some(ended_at)) if !takes.is_zero() => {
                let waited = if waited_ms > 0 {
                    format!("waits {}, ", milliseconds(waited_ms))
                } else {
                    String::new()
                };
                let end = if line.cancelled { "cancelled for a newer one at" } else { "ends" };
                format!("{waited}{end} {ended_at}")
            }
            (None, _, _) => String::new(),
        };
        table.row([line.due_at.clone(), line.job.clone(), line.fate.into(), why]);
    }
    table.print("nothing is due in that time")
}
