//! `ecron bench`: the arguments; `crate::bench` does the work.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::args::Servers;
use crate::bench;
use crate::failure::Failure;

#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Examples:\n  ecron bench steady --rate 1000 --seconds 20\n  ecron bench herd --n 20000 --json\n  ecron bench drain --n 100000 --repeats 5\n  ecron bench idle --jobs 100000\n\nLateness is the start of the handler minus the due instant; the load never waits for what it measures. Without --redis-url and --nats-url it starts private servers and removes them. Each run checks that every expected run came exactly once, and exits with code 1 if not. Read docs/performance.md before quoting figures."
)]
pub(crate) struct BenchArgs {
    #[arg(value_enum)]
    pub(crate) shape: Shape,
    /// Occurrences a second (steady, backlog)
    #[arg(long, value_name = "R", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) rate: u32,
    /// How long to measure (steady, backlog: occurrences; idle: the window)
    #[arg(long, value_name = "S", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub(crate) seconds: u32,
    /// Jobs due at once, messages, or specs (herd, limits, drain, apply)
    #[arg(long = "n", value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=5_000_000))]
    pub(crate) count: u32,
    /// Jobs with nothing due for a day (idle)
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(0..=10_000_000))]
    pub(crate) jobs: u32,
    /// Jobs that wait in the horizon meanwhile (backlog)
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(0..=10_000_000))]
    pub(crate) pending: u32,
    /// Times that it is done; the figures are medians
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) repeats: u32,
    /// Runs that the executor may have in hand
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) concurrency: u16,
    /// Seconds between the first spec and the first due instant; by the number of jobs unless given
    #[arg(long, value_name = "S")]
    pub(crate) lead: Option<u32>,
    /// Where the private servers keep their files; a folder for temporary files unless given
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Leave out what is compared with: only ours
    #[arg(long)]
    pub(crate) ours_only: bool,
    /// The last line is one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shape {
    /// R occurrences a second, due at milliseconds of their own
    Steady,
    /// N jobs due at one instant
    Herd,
    /// N ad-hoc messages, from the first publish to the last ack
    Drain,
    /// Nothing due: CPU of each process, bytes of each job
    Idle,
    /// N specs: durable, and planned
    Apply,
    /// Steady, without and with many jobs waiting
    Backlog,
    /// A herd with `overlap: skip` and a limited queue, beside the same without
    Limits,
}

pub(crate) async fn run(servers: &Servers, args: &BenchArgs) -> Result<(), Failure> {
    Box::pin(bench::run(servers, args)).await
}
