//! `ecron trigger`: one run now, besides the schedule.

use std::time::Duration;

use ambient::Clock;
use planner::api::types::{ErrorKind, RunRequest, RunView, TriggerReply, TriggerRequest};

use crate::args::{Servers, TriggerArgs};
use crate::commands::{describe, who};
use crate::connect::{ask, nats};
use crate::failure::Failure;
use crate::output;

/// How often the run is looked at.
const WAIT_POLL: Duration = Duration::from_millis(100);

pub(crate) async fn run(servers: &Servers, args: &TriggerArgs) -> Result<(), Failure> {
    let job = args.job.name()?;
    let bus = nats(servers).await?;
    let payload = args.payload.as_deref().map(serde_json::from_str).transpose();
    let payload =
        payload.map_err(|problem| Failure::input(format!("failed to read --payload as JSON: {problem}")))?;
    let request = TriggerRequest { job, payload, key: args.key.clone(), by: who() };
    let reply: TriggerReply = ask(&bus, "trigger", &request).await?;
    if !args.wait {
        if !output::structured(&reply, args.job.output)? {
            let word = if reply.duplicate { "was started before, with this key" } else { "started" };
            output::line(format_args!("run {} {word}", reply.run))?;
        }
        return Ok(());
    }
    let clock = Clock::system();
    let give_up_at = clock.monotonic() + args.timeout;
    loop {
        let found: Result<RunView, _> = ask(&bus, "run", &RunRequest { run: reply.run.clone() }).await;
        match found {
            Ok(view) if view.ended_at.is_some() => {
                if !output::structured(&view, args.job.output)? {
                    describe::print_run(&view)?;
                }
                let state = view.state;
                return if state == "succeeded" {
                    Ok(())
                } else {
                    Err(Failure::failed(format!("the run is {state}")))
                };
            }
            Ok(_) => {}
            Err(problem) if problem.kind == ErrorKind::NotFound => {}
            Err(problem) => return Err(problem.into()),
        }
        if clock.monotonic() >= give_up_at {
            return Err(Failure::failed(format!("run {} hasn't ended in time; it goes on", reply.run)));
        }
        clock.sleep(WAIT_POLL).await;
    }
}
