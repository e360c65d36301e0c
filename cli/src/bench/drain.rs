//! `drain`: ad-hoc messages, as fast as one publisher can, until the last of them is acknowledged.

use std::sync::Arc;
use std::time::Duration;

use super::figures::{Figures, Outcome};
use super::ours::Ours;
use super::stage::Stage;
use super::timed::{foreign_cpu, published, with_cpu};
use crate::commands::bench::BenchArgs;
use crate::failure::Failure;

/// How often the stream is looked at for its last message.
const POLL: Duration = Duration::from_millis(5);
/// How long messages may stay in the stream once all of them have started.
const ACKS_WAIT: Duration = Duration::from_secs(30);
/// The first repetition is done twice; its first time, with this share, warms up.
const WARM_UP_SHARE: u32 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum System {
    Ours,
    Floor,
}

pub(super) async fn run(stage: &mut Stage, args: &BenchArgs) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    let warm_up = (args.count / WARM_UP_SHARE).max(1);
    for repeat in 0..=args.repeats {
        let count = if repeat == 0 { warm_up } else { args.count };
        for (name, system) in [("ours", System::Ours), ("floor", System::Floor)] {
            if args.ours_only && system == System::Floor {
                continue;
            }
            eprintln!("repeat {repeat}/{}: {name}, {count} messages", args.repeats);
            let figures = drain(stage, system, count).await?;
            if repeat > 0 {
                outcome.push(name, figures);
            }
        }
    }
    Ok(outcome)
}

/// `throughput_per_s` counts from the first publish to the last ack; lateness, each from its own publish.
async fn drain(stage: &mut Stage, system: System, count: u32) -> Result<Figures, Failure> {
    let lane = stage.lane(&vec![0; count as usize], 0);
    let (stream, who) = match system {
        System::Ours => (bus::subjects::STREAM_RUNS, "ours"),
        System::Floor => ("BENCH_FLOOR", "floor"),
    };
    let reading = match system {
        System::Ours => None,
        System::Floor => Some(stage.bare.open_floor(stage.present.clone(), stage.wall).await?),
    };
    let subject = Ours::submit_subject()?;
    let before = stage.processes.cpu();
    let began_us = stage.wall.now_us();
    let publishing = tokio::spawn({
        let (bare, wall, lane) = (Arc::clone(&stage.bare), stage.wall, Arc::clone(&lane));
        async move {
            match system {
                System::Ours => bare.publish_all(&subject, &lane, &wall).await,
                System::Floor => bare.publish_floor(&lane, &wall).await,
            }
        }
    });
    lane.all_arrived(&stage.clock, &stage.wall).await;
    published(publishing).await?;
    let give_up_at = stage.clock.monotonic() + ACKS_WAIT;
    while stage.bare.held(stream).await?.0 > 0 {
        if stage.clock.monotonic() > give_up_at {
            return Err(Failure::failed(format!("{who}: messages that started aren't acknowledged")));
        }
        stage.clock.sleep(POLL).await;
    }
    let span_s = (stage.wall.now_us() - began_us) as f64 / 1e6;
    let after = match system {
        System::Ours => {
            stage.ours.settled().await?;
            stage.processes.cpu()
        }
        System::Floor => foreign_cpu(stage, began_us),
    };
    lane.check(who, &stage.clock).await?;
    drop(reading);
    let mut figures = with_cpu(&lane, &before, &after);
    figures.insert("throughput_per_s", f64::from(count) / span_s);
    Ok(figures)
}
