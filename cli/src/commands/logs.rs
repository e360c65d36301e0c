//! `ecron logs`: what a run's attempts said. Needs NATS only: a run's end is heard as an event, or, if it came before, told
//! by a planner.

use std::time::Duration;

use ambient::{Clock, Shutdown};
use bus::events::Event;
use bus::logs::{LOG_PAGE_MAX, LogBatch, StoredLogBatch};
use bus::nats::NatsBus;
use bus::{EventReader, LogReader};
use clap::Args;
use futures_util::{FutureExt as _, StreamExt as _};
use model::id::RunId;
use planner::api::types::{RunRequest, RunView};
use serde_json::json;

use crate::args::{Format, Servers};
use crate::connect::{ask, nats};
use crate::failure::Failure;
use crate::output;

/// How often the log is looked at.
const FOLLOW_POLL: Duration = Duration::from_millis(250);
/// How often the run's state is asked for.
const STATE_POLL: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, Args)]
pub(crate) struct LogsArgs {
    /// The run's id
    pub(crate) run: String,
    /// Go on until the run has ended
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Put the time and the attempt before each line
    #[arg(short, long)]
    pub(crate) timestamps: bool,
    /// `json`: an object a line
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

pub(crate) async fn run(servers: &Servers, args: &LogsArgs) -> Result<(), Failure> {
    if !args.follow {
        return show(servers, args).await;
    }
    // Who follows a run that goes on for ever stops by interrupting.
    Shutdown::on_signals()?.unless_stopped(Box::pin(show(servers, args))).await.unwrap_or(Ok(()))
}

async fn show(servers: &Servers, args: &LogsArgs) -> Result<(), Failure> {
    let run_id: RunId = args.run.parse().map_err(|problem| Failure::input(format!("failed to {problem}")))?;
    let bus = nats(servers).await?;
    let clock = Clock::system();
    let mut events =
        if args.follow { bus.watch_events().await? } else { futures_util::stream::empty().boxed() };
    let (mut next, mut shown, mut ended, mut asked_at) = (0, false, !args.follow, None);
    loop {
        // Before the log is read: what an attempt says is stored before its end is.
        while let Some(Some(event)) = events.next().now_or_never() {
            ended = ended || is_end_of(&event, &run_id);
        }
        let now = clock.monotonic();
        if !ended && asked_at.is_none_or(|at| now >= at + STATE_POLL) {
            asked_at = Some(now);
            ended = has_ended(&bus, &args.run).await;
        }
        loop {
            let page = bus.log_batches(&run_id, next, LOG_PAGE_MAX).await?;
            for StoredLogBatch { sequence, batch } in &page {
                next = sequence + 1;
                shown = true;
                print(batch, args)?;
            }
            if page.len() < LOG_PAGE_MAX {
                break;
            }
        }
        if ended {
            break;
        }
        clock.sleep(FOLLOW_POLL).await;
    }
    if !shown && args.output == Format::Table {
        eprintln!("run {} has no log; logs are kept for seven days", args.run);
    }
    Ok(())
}

fn is_end_of(event: &Event, run: &RunId) -> bool {
    matches!(event, Event::Attempt(report) if report.run_id == *run && report.ends_run.is_some())
}

async fn has_ended(bus: &NatsBus, run: &str) -> bool {
    let view: Result<RunView, _> = ask(bus, "run", &RunRequest { run: run.to_owned() }).await;
    view.is_ok_and(|view| view.ended_at.is_some())
}

fn print(batch: &LogBatch, args: &LogsArgs) -> Result<(), Failure> {
    for line in &batch.lines {
        match args.output {
            Format::Table if args.timestamps => {
                let from = line.from.as_deref().unwrap_or("-");
                output::line(format_args!("{} {} {from} {}", line.at, batch.attempt, line.text))?;
            }
            Format::Table => output::line(&line.text)?,
            Format::Json | Format::Yaml => {
                let (attempt, at) = (batch.attempt, line.at.to_string());
                output::line(json!({"at": at, "attempt": attempt, "from": line.from, "text": line.text}))?;
            }
        }
    }
    Ok(())
}
