//! Jobs in stock: what they cost while nothing is due (`idle`), and how fast they come in (`apply`).

use std::time::Duration;

use bus::subjects::{BUCKET_SPECS, bucket_stream};

use super::figures::{Figures, Outcome};
use super::ours::Rules;
use super::stage::Stage;
use super::usage;
use crate::commands::bench::BenchArgs;
use crate::failure::Failure;

/// Jobs in stock are due this long from now: beyond the half-hour tier, as almost every job almost always is.
const DUE_IN: Duration = Duration::from_secs(24 * 3600);
/// After jobs came in: until the servers have written everything down.
const CALM: Duration = Duration::from_secs(5);
/// Jobs between two lines of progress.
const PROGRESS: usize = 100_000;
const PAYLOAD: &str = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz";

/// Nothing due, without and with the jobs.
pub(super) async fn idle(stage: &mut Stage, args: &BenchArgs) -> Result<Outcome, Failure> {
    let window = Duration::from_secs(u64::from(args.seconds));
    let mut outcome = Outcome::default();
    for _ in 0..args.repeats {
        outcome.push("without", rest(stage, window).await);
    }
    let stock = fill(stage, args.jobs).await?;
    let mut with = Outcome::default();
    for _ in 0..args.repeats {
        let mut figures = rest(stage, window).await;
        figures.extend(stock.clone());
        with.push("ours", figures);
    }
    with.append(outcome);
    Ok(with)
}

/// CPU of each process in percent of a core, over a window.
async fn rest(stage: &Stage, window: Duration) -> Figures {
    eprintln!("watching for {} s", window.as_secs());
    let (before, began) = (stage.processes.cpu(), stage.clock.monotonic());
    stage.clock.sleep(window).await;
    let (after, span) = (stage.processes.cpu(), stage.clock.monotonic() - began);
    let mut figures = Figures::new();
    for (process, seconds) in after.each_since(&before) {
        let name = match process {
            "redis" => "cpu_percent_redis",
            "nats" => "cpu_percent_nats",
            _ => "cpu_percent_ecron",
        };
        figures.insert(name, 100.0 * seconds / span.as_secs_f64());
    }
    figures.insert("cpu_percent", 100.0 * after.since(&before) / span.as_secs_f64());
    figures
}

/// Specs a second, durable and planned.
pub(super) async fn apply(stage: &mut Stage, args: &BenchArgs) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    let warm_up = (args.count / 10).max(1);
    fill(stage, warm_up).await?;
    for repeat in 1..=args.repeats {
        eprintln!("repeat {repeat}/{}", args.repeats);
        outcome.push("ours", fill(stage, args.count).await?);
    }
    Ok(outcome)
}

/// Declares jobs that are due tomorrow and waits until they are planned: how fast that was, and how large they are.
pub(super) async fn fill(stage: &mut Stage, count: u32) -> Result<Figures, Failure> {
    let mut figures = Figures::new();
    if count == 0 {
        return Ok(figures);
    }
    let held_before = held(stage).await?;
    let at = stage.clock.now().plus(DUE_IN);
    let batch = stage.lane(&[], 0).number();
    let before = stage.processes.cpu();
    let began_us = stage.wall.now_us();
    let jobs = (0..count as usize).map(|index| {
        if index % PROGRESS == 0 {
            eprintln!("  declaring job {index} of {count}");
        }
        (format!("stock-{batch}-{index}"), at, PAYLOAD.to_owned())
    });
    let last = stage.ours.declare(Rules::None, jobs).await?;
    let durable_us = stage.wall.now_us();
    stage.ours.installed(last).await?;
    let planned_us = stage.wall.now_us();
    let cpu = stage.processes.cpu().since(&before);
    stage.clock.sleep(CALM).await;
    let held_after = held(stage).await?;
    let (count, span_s) = (f64::from(count), |until_us: i64| (until_us - began_us) as f64 / 1e6);
    figures.insert("durable_per_s", count / span_s(durable_us));
    figures.insert("throughput_per_s", count / span_s(planned_us));
    figures.insert("planned_after_last_ms", (planned_us - durable_us) as f64 / 1e3);
    figures.insert("cpu_us_per_spec", cpu * 1e6 / count);
    for ((name, before), (_, after)) in held_before.into_iter().zip(held_after) {
        figures.insert(name, (after - before) / count);
    }
    Ok(figures)
}

/// Bytes that the servers hold.
async fn held(stage: &Stage) -> Result<[(&'static str, f64); 4], Failure> {
    let redis = usage::redis_info(&stage.redis_url).await;
    let used = redis.get("used_memory").and_then(|bytes| bytes.parse().ok()).unwrap_or(0.0);
    let (_, stored) = stage.bare.held(&bucket_stream(BUCKET_SPECS)).await?;
    Ok([
        ("redis_bytes_per_job", used),
        ("jetstream_bytes_per_job", stored as f64),
        ("nats_resident_bytes_per_job", stage.processes.resident("nats").unwrap_or(0.0)),
        ("ecron_resident_bytes_per_job", stage.processes.resident("ecron").unwrap_or(0.0)),
    ])
}
