//! The deterministic simulation: the real planners, dispatchers and executors, all their loops, over the memory twins, by a simulated
//! clock and network. One seed is one history: crashes at any await, lost requests and answers, delays, reordering, pauses, partitions,
//! two live owners, stepped clocks, lost stores, lost runs; and in the end a calm in which everything must come right.
//!
//! `ECRON_SIM_HOURS=1000 ECRON_SIM_SEED=7` plays more, `ECRON_SIM_TRACE=1` tells all that happens (with one seed), and
//! `ECRON_SIM_LENGTH_S` says how long one is; `ECRON_SIM_HOURS=0` plays one seed. Seeds that failed once go into `tests/simulation-seeds.txt` and stay.

mod cluster;
mod faults;
mod jobs;
mod judge;
mod line;
mod linked_bus;
mod play;
mod watch;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::play::Outcome;

/// Simulated hours of one run of the suite, unless `ECRON_SIM_HOURS` says how many.
const HOURS: u64 = 4;
/// Of one seed.
const LENGTH_S: u64 = 7_200;
/// Of so many it is looked whether they repeat.
const REPEATED: u64 = 3;
const REPEATED_LENGTH_S: u64 = 1_800;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn length() -> Duration {
    Duration::from_secs(variable("ECRON_SIM_LENGTH_S").unwrap_or(LENGTH_S))
}

fn played(seed: u64, length: Duration) -> Outcome {
    let traced = variable("ECRON_SIM_TRACE").is_some();
    play::play(seed, length, traced).unwrap_or_else(|problem| Outcome {
        seed,
        violated: 1,
        violations: vec![format!("{problem:#}")],
        ..Outcome::default()
    })
}

/// Plays seeds on as many threads as there are cores, and tells of each that fails.
fn campaign(seeds: &[u64], hours: u64) -> Outcome {
    let (next, sum) = (AtomicU64::new(0), Mutex::new(Outcome::default()));
    let work = || {
        while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
            if sum.lock().unwrap_or_else(|broken| broken.into_inner()).seconds > hours * 3_600 {
                return;
            }
            let outcome = played(*seed, length());
            let mut sum = sum.lock().unwrap_or_else(|broken| broken.into_inner());
            if outcome.violated > 0 {
                println!("seed {seed}: {} violations", outcome.violated);
                outcome.violations.iter().for_each(|violation| println!("    {violation}"));
            }
            add(&mut sum, outcome);
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = variable("ECRON_SIM_THREADS").map_or(cores, |threads| threads as usize);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    sum.into_inner().unwrap_or_else(|broken| broken.into_inner())
}

fn add(sum: &mut Outcome, outcome: Outcome) {
    sum.seed += 1;
    sum.seconds += outcome.seconds;
    sum.owed += outcome.owed;
    sum.runs += outcome.runs;
    sum.begun_again += outcome.begun_again;
    sum.legs += outcome.legs;
    sum.old_copies += outcome.old_copies;
    sum.mistaken += outcome.mistaken;
    sum.given_up += outcome.given_up;
    sum.late_max_ms = sum.late_max_ms.max(outcome.late_max_ms);
    sum.violated += outcome.violated;
    if outcome.violated > 0 {
        sum.violations.push(outcome.seed.to_string());
    }
    let kinds: BTreeMap<_, _> = outcome.faults;
    for (kind, count) in kinds {
        *sum.faults.entry(kind).or_default() += count;
    }
}

#[test]
fn nothing_is_lost_doubled_or_early() -> Result<()> {
    let kept = include_str!("../../simulation-seeds.txt").lines().filter(|line| !line.starts_with('#'));
    let mut seeds = kept.map(|line| Ok(line.trim().parse()?)).collect::<Result<Vec<u64>>>()?;
    let hours = variable("ECRON_SIM_HOURS").unwrap_or(HOURS);
    match variable("ECRON_SIM_SEED") {
        Some(first) if hours == 0 => seeds = vec![first],
        Some(first) => seeds = (first..first + hours * 3_600 / length().as_secs() + 1).collect(),
        None => seeds.extend(1..=hours * 3_600 / length().as_secs() + 1),
    }
    let sum = campaign(&seeds, hours);
    println!(
        "{} seeds, {} simulated hours, {} owed, {} runs, {} began again, {} legs, {} old copies, {} mistaken, {} given up, at most {} ms late in quiet times, {} violations",
        sum.seed,
        sum.seconds / 3_600,
        sum.owed,
        sum.runs,
        sum.begun_again,
        sum.legs,
        sum.old_copies,
        sum.mistaken,
        sum.given_up,
        sum.late_max_ms,
        sum.violated,
    );
    println!("faults: {} {:?}", sum.faults.values().sum::<u64>(), sum.faults);
    ensure!(sum.owed > 0, "nothing was owed");
    ensure!(sum.violated == 0, "{} violations, by the seeds {}", sum.violated, sum.violations.join(" "));
    Ok(())
}

#[test]
fn a_seed_repeats() -> Result<()> {
    let length = Duration::from_secs(REPEATED_LENGTH_S);
    for seed in 1..=REPEATED {
        let (once, again) = (played(seed, length), played(seed, length));
        ensure!(once.legs > 0 && once == again, "seed {seed} doesn't repeat: {once:?} {again:?}");
    }
    Ok(())
}
