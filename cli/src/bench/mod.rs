//! `ecron bench`: an open loop. Due instants are fixed beforehand, the load never waits for what it measures, and
//! lateness is the start of the handler minus the due instant; so nothing that is slow hides in a pause of the load.
//!
//! - `stage`: servers, and on them `ours` (planner, dispatcher, an executor of the SDK) and `bare` (JetStream alone);
//! - `lane`: one repetition of one system: what is expected, what came, and the exact-delivery check;
//! - `timed`, `drain`, `stock`: the shapes;
//! - `wall`, `usage`, `figures`: microseconds, CPU and memory, medians and ratios.
//!
//! It never decides whether a figure is good: it prints ours beside the floor, taken in the same run.

mod bare;
mod drain;
mod figures;
mod lane;
mod ours;
mod stage;
mod stock;
mod timed;
mod usage;
mod wall;

use ambient::{Clock, Shutdown};
use serde_json::Value;

use crate::args::Servers;
use crate::commands::bench::{BenchArgs, Shape};
use crate::failure::Failure;
use crate::output;
use figures::Outcome;
use stage::{Ground, Stage};

pub(crate) async fn run(servers: &Servers, args: &BenchArgs) -> Result<(), Failure> {
    let clock = Clock::system();
    let shutdown = Shutdown::on_signals()?;
    eprintln!("starting");
    let ground = Ground::find(servers, args, &clock, &shutdown).await?;
    let measured = tokio::select! {
        biased;
        () = shutdown.stopped() => Err(Failure::failed("interrupted")),
        measured = Box::pin(measure(&ground, args, &clock)) => measured,
    };
    ground.leave(&clock).await;
    let (outcome, setting) = measured?;
    let shape = word(args.shape);
    if args.json {
        return output::line(outcome.to_json(shape, &setting));
    }
    print(shape, &outcome, &setting)
}

async fn measure(ground: &Ground, args: &BenchArgs, clock: &Clock) -> Result<(Outcome, Value), Failure> {
    let mut stage = Stage::set(ground, args, clock).await?;
    let mut setting = stage.setting(args).await;
    let outcome = match args.shape {
        Shape::Steady => {
            let timed = timed::Timed::steady(args.rate, args.seconds);
            timed::run(&mut stage, args, &timed).await
        }
        Shape::Herd => timed::run(&mut stage, args, &timed::Timed::herd(args.count)).await,
        Shape::Backlog => timed::backlog(&mut stage, args).await,
        Shape::Limits => timed::limits(&mut stage, args).await,
        Shape::Drain => drain::run(&mut stage, args).await,
        Shape::Idle => stock::idle(&mut stage, args).await,
        Shape::Apply => stock::apply(&mut stage, args).await,
    };
    setting["load_after"] = usage::load().into();
    stage.ours.stop().await;
    Ok((outcome?, setting))
}

fn word(shape: Shape) -> &'static str {
    match shape {
        Shape::Steady => "steady",
        Shape::Herd => "herd",
        Shape::Drain => "drain",
        Shape::Idle => "idle",
        Shape::Apply => "apply",
        Shape::Backlog => "backlog",
        Shape::Limits => "limits",
    }
}

/// The same for people: a line a figure, medians with their range.
fn print(shape: &str, outcome: &Outcome, setting: &Value) -> Result<(), Failure> {
    output::line(format_args!("{shape}: medians (lowest to highest)"))?;
    if let Value::Object(setting) = setting {
        for (name, value) in setting {
            output::line(format_args!(
                "  {name:<12} {}",
                value.as_str().map_or_else(|| value.to_string(), str::to_owned)
            ))?;
        }
    }
    for (system, spreads) in outcome.systems() {
        output::line(system)?;
        for (name, s) in spreads {
            output::line(format_args!("  {name:<30} {:>14.3}  ({:.3} to {:.3})", s.median, s.min, s.max))?;
        }
    }
    let ratios = outcome.ratios();
    if !ratios.is_empty() {
        output::line("ratios")?;
    }
    for (name, s) in ratios {
        output::line(format_args!("  {name:<30} {:>14.3}  ({:.3} to {:.3})", s.median, s.min, s.max))?;
    }
    Ok(())
}
