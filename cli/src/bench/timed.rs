//! Shapes with due instants: `steady`, `herd` and `backlog`. Ours, the floor and the native schedules get the same
//! payloads at the same offsets, one system after another, so that none disturbs another.

use std::sync::Arc;

use model::time::Timestamp;

use super::figures::{Figures, Outcome};
use super::lane::Lane;
use super::ours::Rules;
use super::stage::Stage;
use super::usage::Cpu;
use crate::commands::bench::BenchArgs;
use crate::failure::Failure;

/// Steady load before what is measured.
const WARM_UP_S: usize = 2;
/// Between a herd's vanguard, which warms up, and the herd.
const VANGUARD_LEAD_MS: i64 = 3_000;
/// The vanguard is this share of the herd.
const VANGUARD_SHARE: usize = 20;
/// Specs a second that we count on when choosing the first due instant, and seconds on top.
const DECLARED_PER_S: usize = 2_500;
const LEAD_S: usize = 5;
/// Native schedules a second, likewise.
const SCHEDULED_PER_S: usize = 10_000;
/// CPU is counted from shortly before the first due instant.
const CPU_LEAD_US: i64 = 100_000;
/// Everything must be in place this long before the first due instant.
const READY_LEAD_US: i64 = 500_000;

/// When runs are due, from the first on.
pub(super) struct Timed {
    offsets_ms: Vec<i64>,
    measured_from: usize,
}

impl Timed {
    pub(super) fn steady(rate: u32, seconds: u32) -> Self {
        let rate = rate as usize;
        let warm_up = rate * WARM_UP_S;
        let due = |index: usize| i64::try_from(index * 1_000 / rate).unwrap_or(i64::MAX);
        Self { offsets_ms: (0..warm_up + rate * seconds as usize).map(due).collect(), measured_from: warm_up }
    }

    pub(super) fn herd(count: u32) -> Self {
        let count = count as usize;
        let vanguard = (count / VANGUARD_SHARE).max(1);
        let offsets = std::iter::repeat_n(0, vanguard).chain(std::iter::repeat_n(VANGUARD_LEAD_MS, count));
        Self { offsets_ms: offsets.collect(), measured_from: vanguard }
    }

    fn len(&self) -> usize {
        self.offsets_ms.len()
    }
}

/// All repetitions of a timed shape.
pub(super) async fn run(stage: &mut Stage, args: &BenchArgs, timed: &Timed) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    for repeat in 1..=args.repeats {
        let step = |who: &str| eprintln!("repeat {repeat}/{}: {who}, {} runs", args.repeats, timed.len());
        step("ours");
        outcome.push("ours", ours(stage, args, timed, Rules::None).await?);
        if !args.ours_only {
            step("floor");
            outcome.push("floor", floor(stage, timed).await?);
            step("native");
            outcome.push("native", native(stage, timed).await?);
        }
    }
    Ok(outcome)
}

/// Steady without anything else, then with jobs waiting in the horizon, which stay for all repetitions.
pub(super) async fn backlog(stage: &mut Stage, args: &BenchArgs) -> Result<Outcome, Failure> {
    let timed = Timed::steady(args.rate, args.seconds);
    let mut without = Vec::new();
    for repeat in 1..=args.repeats {
        eprintln!("repeat {repeat}/{}: without a backlog", args.repeats);
        without.push(ours(stage, args, &timed, Rules::None).await?);
    }
    let stock = super::stock::fill(stage, args.pending).await?;
    let mut outcome = Outcome::default();
    for (repeat, without) in (1..=args.repeats).zip(without) {
        eprintln!("repeat {repeat}/{}: with {} jobs waiting", args.repeats, args.pending);
        let mut with = ours(stage, args, &timed, Rules::None).await?;
        with.extend(stock.clone());
        outcome.push("ours", with);
        outcome.push("without", without);
    }
    Ok(outcome)
}

/// A herd that must ask before each start, beside the same herd that needn't: what limits cost while they don't bite.
/// `ours` has `overlap: skip` and a queue with a concurrency and a rate, `limited` the latter, `skip` the former, `without` neither.
pub(super) async fn limits(stage: &mut Stage, args: &BenchArgs) -> Result<Outcome, Failure> {
    const SYSTEMS: [(&str, Rules); 4] = [
        ("ours", Rules::SkipAndQueue),
        ("limited", Rules::Queue),
        ("skip", Rules::Skip),
        ("without", Rules::None),
    ];
    let timed = Timed::herd(args.count);
    stage.ours.limit().await?;
    let mut outcome = Outcome::against("without");
    for repeat in 1..=args.repeats {
        for (name, rules) in SYSTEMS {
            eprintln!("repeat {repeat}/{}: {name}, {} runs", args.repeats, timed.len());
            outcome.push(name, ours(stage, args, &timed, rules).await?);
        }
    }
    Ok(outcome)
}

fn lane_from_now(stage: &mut Stage, timed: &Timed, lead_s: usize) -> Arc<Lane> {
    let first_ms = stage.wall.now().as_ms() + i64::try_from(lead_s * 1_000).unwrap_or(i64::MAX);
    let due_us: Vec<i64> = timed.offsets_ms.iter().map(|offset| (first_ms + offset) * 1_000).collect();
    stage.lane(&due_us, timed.measured_from)
}

async fn ours(stage: &mut Stage, args: &BenchArgs, timed: &Timed, rules: Rules) -> Result<Figures, Failure> {
    let lead_s = args.lead.map_or(LEAD_S + timed.len() / DECLARED_PER_S, |lead| lead as usize);
    let lane = lane_from_now(stage, timed, lead_s);
    let began_us = stage.wall.now_us();
    let jobs = (0..lane.len()).map(|index| {
        let name = format!("run-{}-{index}", lane.number());
        (name, Timestamp::from_ms(lane.due_us(index) / 1_000), lane.text(index))
    });
    let last = stage.ours.declare(rules, jobs).await?;
    stage.ours.installed(last).await?;
    let declared_s = (stage.wall.now_us() - began_us) as f64 / 1e6;
    eprintln!("  declared and planned in {declared_s:.1} s");
    let before = ready(stage, &lane, "--lead").await?;
    lane.all_arrived(&stage.clock, &stage.wall).await;
    stage.ours.settled().await?;
    let cpu = stage.processes.cpu();
    lane.check("ours", &stage.clock).await?;
    Ok(with_cpu(&lane, &before, &cpu))
}

async fn floor(stage: &mut Stage, timed: &Timed) -> Result<Figures, Failure> {
    let reading = stage.bare.open_floor(stage.present.clone(), stage.wall).await?;
    let lane = lane_from_now(stage, timed, 2);
    let before = ready(stage, &lane, "nothing").await?;
    let (bare, wall) = (Arc::clone(&stage.bare), stage.wall);
    let publishing = tokio::spawn({
        let lane = Arc::clone(&lane);
        async move { bare.publish_when_due(&lane, &wall).await }
    });
    lane.all_arrived(&stage.clock, &stage.wall).await;
    published(publishing).await?;
    let cpu = foreign_cpu(stage, lane.due_us(0) - CPU_LEAD_US);
    lane.check("floor", &stage.clock).await?;
    drop(reading);
    Ok(with_cpu(&lane, &before, &cpu))
}

async fn native(stage: &mut Stage, timed: &Timed) -> Result<Figures, Failure> {
    let reading = stage.bare.open_native(stage.present.clone(), stage.wall).await?;
    let lane = lane_from_now(stage, timed, LEAD_S + timed.len() / SCHEDULED_PER_S);
    stage.bare.schedule(&lane).await?;
    let before = ready(stage, &lane, "nothing").await?;
    lane.all_arrived(&stage.clock, &stage.wall).await;
    let cpu = foreign_cpu(stage, lane.due_us(0) - CPU_LEAD_US);
    lane.check("native", &stage.clock).await?;
    drop(reading);
    Ok(with_cpu(&lane, &before, &cpu))
}

/// CPU that is none of ours: what our roles use with nothing to do, while they wait beside the floor, is left out.
pub(super) fn foreign_cpu(stage: &Stage, began_us: i64) -> Cpu {
    let seconds = (stage.wall.now_us() - began_us) as f64 / 1e6;
    stage.processes.cpu().without_idle(&stage.idle, seconds)
}

/// Waits until right before the first due instant; answers with the CPU used until then.
async fn ready(stage: &Stage, lane: &Lane, remedy: &str) -> Result<Cpu, Failure> {
    let first_us = lane.due_us(0);
    if stage.wall.now_us() > first_us - READY_LEAD_US {
        return Err(Failure::failed(format!(
            "everything was in place only when the first run was due: this machine is too busy (adjust {remedy})"
        )));
    }
    stage.wall.sleep_until_us(first_us - CPU_LEAD_US).await;
    Ok(stage.processes.cpu())
}

pub(super) async fn published(task: tokio::task::JoinHandle<Result<(), Failure>>) -> Result<(), Failure> {
    task.await.map_err(|problem| Failure::failed(format!("the publisher broke: {problem}")))?
}

/// The lane's figures with the CPU of all processes for each run, those that warmed up included.
pub(super) fn with_cpu(lane: &Lane, before: &Cpu, after: &Cpu) -> Figures {
    let mut figures = lane.figures();
    let per_run = |seconds: f64| seconds * 1e6 / lane.len().max(1) as f64;
    figures.insert("cpu_us_per_run", per_run(after.since(before)));
    for (process, seconds) in after.each_since(before) {
        let name = match process {
            "redis" => "cpu_us_per_run_redis",
            "nats" => "cpu_us_per_run_nats",
            _ => "cpu_us_per_run_ecron",
        };
        figures.insert(name, per_run(seconds));
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steady_spreads_runs_over_milliseconds_after_a_warm_up() {
        let timed = Timed::steady(2_000, 1);
        assert_eq!((timed.len(), timed.measured_from), (6_000, 4_000));
        assert_eq!(timed.offsets_ms[..5], [0, 0, 1, 1, 2]);
        assert_eq!(timed.offsets_ms[5_999], 2_999);
    }

    #[test]
    fn a_herd_comes_at_one_instant_after_its_vanguard() {
        let timed = Timed::herd(100);
        assert_eq!((timed.len(), timed.measured_from), (105, 5));
        assert!(timed.offsets_ms[5..].iter().all(|offset| *offset == VANGUARD_LEAD_MS));
    }
}
