//! `ecron forecast`: the load of the next hours, minute by minute, also with proposed manifests applied.

use std::path::PathBuf;

use ambient::Clock;
use clap::Args;
use console::outlook::{ForecastView, gather, propose};
use model::time::{MINUTE_MS, Timestamp};

use crate::args::{Format, Servers};
use crate::commands::apply;
use crate::connect::nats;
use crate::failure::Failure;
use crate::output::{self, Table};

/// Minutes of one line of the table.
const LINE_MINUTES: usize = 60;
/// Levels of a minute's bar.
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

const EXAMPLES: &str = "\
Examples:
  ecron forecast                                    # the next 24 hours
  ecron forecast --hours 48 -n billing -o json
  ecron forecast -f jobs/new.yaml                   # as if these were applied now; changes nothing

It counts what falls due, not what becomes of it. Jobs whose runs follow the end of the run before (`after`) can't be foretold, and \
are named instead. It needs NATS only.";

/// Show how much falls due in the next hours, minute by minute
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ForecastArgs {
    /// Hours ahead
    #[arg(long, value_name = "N", default_value_t = 24, value_parser = clap::value_parser!(u16).range(1..=168))]
    pub(crate) hours: u16,
    /// Begin here instead of now; RFC 3339
    #[arg(long, value_name = "INSTANT")]
    pub(crate) from: Option<Timestamp>,
    /// As if these manifests (files or folders) were applied
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Only jobs of this namespace
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,
    /// Only jobs of this queue
    #[arg(long, value_name = "NS/QUEUE")]
    pub(crate) queue: Option<String>,
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

pub(crate) async fn run(servers: &Servers, args: &ForecastArgs) -> Result<(), Failure> {
    let manifests = if args.files.is_empty() { vec![] } else { apply::read(&args.files)? };
    let now = Clock::system().now();
    let bus = nats(servers).await?;
    let mut outlook = gather(&bus).await?;
    if !manifests.is_empty() {
        outlook = propose(&bus, outlook, &manifests, now).await.map_err(|problems| {
            let lines = problems
                .iter()
                .map(|found| format!("object {}: {}: {}", found.object + 1, found.field, found.message));
            Failure::input(format!("{} problem(s)\n{}", problems.len(), lines.collect::<Vec<_>>().join("\n")))
        })?;
    }
    let outlook = outlook.only(args.namespace.as_deref(), args.queue.as_deref());
    let view = outlook.forecast(args.from.unwrap_or(now), usize::from(args.hours) * 60);
    if output::structured(&view, args.output)? { Ok(()) } else { print(&view) }
}

fn print(view: &ForecastView) -> Result<(), Failure> {
    let from: Timestamp =
        view.from.parse().map_err(|problem| Failure::failed(format!("failed to {problem}")))?;
    let most = view.minutes.iter().copied().max().unwrap_or(0);
    let mut table = Table::new(&["FROM", "DUE", "BUSIEST", "MINUTE BY MINUTE"]);
    for (line, minutes) in view.minutes.chunks(LINE_MINUTES).enumerate() {
        let at = from.plus_ms(MINUTE_MS * (line * LINE_MINUTES) as i64);
        let sum: u64 = minutes.iter().map(|count| u64::from(*count)).sum();
        let busiest = minutes.iter().max().copied().unwrap_or(0);
        let bars: String = minutes.iter().map(|count| bar(*count, most)).collect();
        table.row([at.to_string(), sum.to_string(), busiest.to_string(), bars]);
    }
    table.print("nothing is foretold")?;
    output::line(format_args!("{} occurrence(s) of {} job(s)", view.total, view.jobs))?;
    if let Some(peak) = view.peaks.first() {
        output::line(format_args!("the busiest minute is {} with {}:", peak.at, peak.count))?;
    }
    for maker in &view.makers {
        output::line(format_args!("  {:>6}  {}", maker.count, maker.job))?;
    }
    if view.makers_more > 0 {
        output::line(format_args!("  and {} more jobs", view.makers_more))?;
    }
    for (jobs, why) in [
        (&view.unforeseen, "follow the end of their run before, and aren't counted"),
        (&view.unreadable, "can't be read, and aren't counted"),
    ] {
        if !jobs.is_empty() {
            output::line(format_args!("{} job(s) {why}: {}", jobs.len(), jobs.join(", ")))?;
        }
    }
    if let Some(job) = &view.cut_at {
        output::line(format_args!(
            "there are too many occurrences: {job} and the jobs after it aren't counted"
        ))?;
    }
    Ok(())
}

fn bar(count: u32, most: u32) -> char {
    match count {
        0 => ' ',
        count => {
            let level = (count as usize * LEVELS.len()).div_ceil(most.max(1) as usize);
            LEVELS[level.clamp(1, LEVELS.len()) - 1]
        }
    }
}
