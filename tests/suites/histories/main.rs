//! Random histories of jobs (edits, pauses, triggers, cancellations, crashes, lost executors) on the real planner, dispatcher and
//! executor SDK over the memory twins, compared with a plain model of the rules.
//!
//! `draw` makes a history of a seed, `play` plays it and writes down what was seen, the model (`rules`, `declaration`, `job`, `hands`)
//! says what should have been seen, `compare` compares, `shrink` looks for the shortest history that still disagrees.
//!
//! A few are played on real servers as well (`servers`); `ECRON_TEST_SERVER_HISTORIES=50` plays more of those.
//!
//! `ECRON_TEST_HISTORIES=10000 cargo test -p ecron-tests --test histories` plays more of them, `ECRON_TEST_SEED=7` begins with
//! another one, `ECRON_TEST_TRACE=1` prints everything that is known of the first one that fails. Seeds that failed once go into
//! `tests/histories-seeds.txt` and stay.

mod compare;
mod declaration;
mod draw;
mod hands;
mod history;
mod job;
mod limits;
mod play;
mod rules;
mod servers;
mod shrink;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, ensure};

use crate::history::History;
use crate::play::Seen;

/// Histories of one run of the suite, unless `ECRON_TEST_HISTORIES` says how many.
const HISTORIES: u64 = 120;
/// The same on real servers, unless `ECRON_TEST_SERVER_HISTORIES` says how many.
const HISTORIES_ON_SERVERS: u64 = 3;
/// Histories with limits.
const LIMITED_HISTORIES: u64 = 15;
/// Of so many it is looked whether they repeat.
const REPEATED: u64 = 5;
/// Disagreements that are shown of one history.
const SHOWN_MAX: usize = 8;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn check(history: &History, play: impl Fn(&History) -> Result<Seen>) -> Vec<String> {
    let found = play(history).and_then(|seen| compare::disagreements(history.seed, &seen));
    found.unwrap_or_else(|problem| vec![format!("{problem:#}")])
}

fn check_limits(history: &History) -> Vec<String> {
    let found = play::play(history).and_then(|seen| limits::violations(history, &seen));
    found.unwrap_or_else(|problem| vec![format!("{problem:#}")])
}

/// The seeds whose histories disagree with the model, played by as many threads as there are cores.
fn failing(seeds: &[u64]) -> Vec<u64> {
    let (next, failed) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
            if !check(&draw::history(*seed), play::play).is_empty() {
                failed.lock().unwrap_or_else(|broken| broken.into_inner()).push(*seed);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let mut failed = failed.into_inner().unwrap_or_else(|broken| broken.into_inner());
    failed.sort_unstable();
    failed
}

/// Prints the shortest history that can be found for a seed.
fn show(seed: u64) -> Result<()> {
    let short = shrink::shrink(&draw::history(seed), &|history| !check(history, play::play).is_empty());
    println!("{short}");
    check(&short, play::play).iter().take(SHOWN_MAX).for_each(|found| println!("    {found}"));
    if variable("ECRON_TEST_TRACE").is_some() { compare::trace(&short) } else { Ok(()) }
}

#[test]
fn histories_are_as_the_plain_model_says() -> Result<()> {
    let kept = include_str!("../../histories-seeds.txt").lines().filter(|line| !line.starts_with('#'));
    let mut seeds = kept.map(|line| Ok(line.trim().parse()?)).collect::<Result<Vec<u64>>>()?;
    let count = variable("ECRON_TEST_HISTORIES").unwrap_or(HISTORIES);
    let first = variable("ECRON_TEST_SEED").unwrap_or(1);
    seeds.extend(first..first + count);
    let failed = failing(&seeds);
    for seed in failed.iter().take(variable("ECRON_TEST_SHRINK").unwrap_or(1) as usize) {
        show(*seed)?;
    }
    println!("{} histories, {} disagree with the model", seeds.len(), failed.len());
    ensure!(failed.is_empty(), "{} of {} histories disagree: seeds {failed:?}", failed.len(), seeds.len());
    Ok(())
}

#[test]
fn histories_on_real_servers_are_as_the_plain_model_says() -> Result<()> {
    let count = variable("ECRON_TEST_SERVER_HISTORIES").unwrap_or(HISTORIES_ON_SERVERS);
    let first = variable("ECRON_TEST_SEED").unwrap_or(1);
    let mut failed = Vec::new();
    for seed in first..first + count {
        let history = draw::history_on_servers(seed);
        let found = check(&history, servers::play);
        if !found.is_empty() {
            println!("{history}");
            found.iter().take(SHOWN_MAX).for_each(|found| println!("    {found}"));
            failed.push(seed);
        }
    }
    println!("{count} histories on real servers, {} disagree with the model", failed.len());
    ensure!(failed.is_empty(), "{} of {count} histories disagree: seeds {failed:?}", failed.len());
    Ok(())
}

#[test]
fn limits_hold_in_every_history() -> Result<()> {
    let count = variable("ECRON_TEST_LIMITED_HISTORIES").unwrap_or(LIMITED_HISTORIES);
    let first = variable("ECRON_TEST_SEED").unwrap_or(1);
    let mut failed = Vec::new();
    for seed in first..first + count {
        if check_limits(&draw::limited_history(seed)).is_empty() {
            continue;
        }
        if failed.is_empty() {
            let fails = |history: &History| !check_limits(history).is_empty();
            let short = shrink::shrink(&draw::limited_history(seed), &fails);
            println!("{short}");
            check_limits(&short).iter().take(SHOWN_MAX).for_each(|found| println!("    {found}"));
        }
        failed.push(seed);
    }
    println!("{count} histories with limits, {} exceed them", failed.len());
    ensure!(failed.is_empty(), "{} of {count} histories exceed their limits: seeds {failed:?}", failed.len());
    Ok(())
}

#[test]
fn a_seed_repeats() -> Result<()> {
    for seed in 1..=REPEATED {
        let seen = || -> Result<String> { Ok(format!("{:?}", play::play(&draw::history(seed))?)) };
        ensure!(seen()? == seen()?, "seed {seed} doesn't repeat");
    }
    Ok(())
}
