//! `ecron trigger`: one run now, besides the schedule.

use std::time::Duration;

use ambient::Clock;
use planner::api::types::{ErrorKind, RunRequest, RunView, TriggerReply, TriggerRequest};

use crate::args::{Servers, TriggerArgs};
use crate::commands::runs::waits;
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
            // Whether it has started is another question: it may have to wait, or be skipped.
            let word = if reply.duplicate { "was asked for before, with this key" } else { "is due now" };
            output::line(format_args!("run {} {word}", reply.run))?;
        }
        return Ok(());
    }
    let clock = Clock::system();
    let give_up_at = clock.monotonic() + args.timeout;
    let mut standing = "is due now".to_owned();
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
            Ok(view) => standing = standing_of(&view),
            Err(problem) if problem.kind == ErrorKind::NotFound => {}
            Err(problem) => return Err(problem.into()),
        }
        if clock.monotonic() >= give_up_at {
            let text = format!("run {} {standing} and hasn't ended in time; it goes on", reply.run);
            return Err(Failure::failed(text));
        }
        clock.sleep(WAIT_POLL).await;
    }
}

/// Where a run stands that hasn't ended: `is dispatched`, `waits at its queue's gate`.
fn standing_of(view: &RunView) -> String {
    match waits(view) {
        Some(waits) if waits.starts_with("waits") => waits.to_owned(),
        Some(waits) => format!("is {waits}"),
        None => format!("is {}", view.state),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_has_not_ended_says_what_for() {
        let of = |state: &str, waits_for: Option<&str>| {
            standing_of(&RunView {
                state: state.into(),
                waits_for: waits_for.map(Into::into),
                ..RunView::default()
            })
        };
        assert_eq!(of("dispatched", None), "is dispatched");
        assert_eq!(of("waiting", Some("queue")), "waits at its queue's gate");
        assert_eq!(of("waiting", Some("dispatch")), "is about to be published");
    }
}
