//! `ecron logs`: what a run's attempts said. Needs NATS only; without a planner, `-f` goes on until it is stopped.

use std::time::Duration;

use ambient::Clock;
use bus::LogReader;
use bus::logs::{LOG_PAGE_MAX, LogBatch, StoredLogBatch};
use bus::nats::NatsBus;
use model::id::RunId;
use planner::api::types::{RunRequest, RunView};
use serde_json::json;

use crate::args::{Format, LogsArgs, Servers};
use crate::connect::{ask, nats};
use crate::failure::Failure;
use crate::output;

/// How often the log is looked at.
const FOLLOW_POLL: Duration = Duration::from_millis(250);
/// How often the run's state is asked for.
const STATE_POLL: Duration = Duration::from_secs(1);

pub(crate) async fn run(servers: &Servers, args: &LogsArgs) -> Result<(), Failure> {
    let run_id: RunId = args.run.parse().map_err(|problem| Failure::input(format!("failed to {problem}")))?;
    let bus = nats(servers).await?;
    let clock = Clock::system();
    let mut next = 0;
    let mut shown = false;
    let mut asked_at = None;
    loop {
        // Asked before the log is read: what an attempt says is stored before its end is.
        let now = clock.monotonic();
        let ended = if asked_at.is_none_or(|at| now >= at + STATE_POLL) {
            asked_at = Some(now);
            !args.follow || has_ended(&bus, &args.run).await
        } else {
            false
        };
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
