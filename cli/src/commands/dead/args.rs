//! The arguments of `ecron dead`.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::args::Format;

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum DeadCommand {
    /// List dead letters, oldest first
    #[command(
        after_help = "Examples:\n  ecron dead list --from 100 --limit 50 -o json\n  ecron dead list --job billing/nightly-report --error timeout\n  ecron dead list --namespace billing --error '/disk (full|quota)/' --newer-than 2h"
    )]
    List {
        /// Start at this number
        #[arg(long, default_value_t = 0)]
        from: u64,
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
        #[command(flatten)]
        filter: FilterArgs,
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Show one: headers, payload, every attempt
    #[command(after_help = "Example:\n  ecron dead show 3")]
    Show {
        number: u64,
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Send letters to their queues again: one, some, or all that filters pick
    #[command(
        after_help = "Examples:\n  ecron dead redrive 3 4\n  ecron dead redrive --job billing/nightly-report --dry-run\n  ecron dead redrive --error 'connection refused' --rate 20 --yes\n  ecron dead redrive --all\n\nWhat was chosen by filters is shown before anything is sent. A redrive that was interrupted is gone on with by the same command: a letter goes once its run is on its way, and none is sent twice."
    )]
    Redrive(BulkArgs),
    /// Remove letters for good: one, some, or all that filters pick
    #[command(
        after_help = "Examples:\n  ecron dead purge 3 4\n  ecron dead purge --older-than 30d --dry-run\n  ecron dead purge --reason undecodable --yes"
    )]
    Purge(BulkArgs),
}

/// Which letters. Several filters must all hold.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct FilterArgs {
    /// Of this job (NAME is default/NAME)
    #[arg(long, value_name = "NS/NAME")]
    pub(crate) job: Option<String>,
    /// Of this queue (NAME is default/NAME)
    #[arg(long, value_name = "NS/NAME")]
    pub(crate) queue: Option<String>,
    /// Of this namespace
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,
    /// Whose last error contains this text, or matches /this expression/
    #[arg(long, value_name = "TEXT|/REGEX/")]
    pub(crate) error: Option<String>,
    /// That died for this reason
    #[arg(long, value_enum)]
    pub(crate) reason: Option<Reason>,
    /// That died longer ago than this
    #[arg(long, value_name = "DURATION", value_parser = crate::config::duration)]
    pub(crate) older_than: Option<Duration>,
    /// That died within this time
    #[arg(long, value_name = "DURATION", value_parser = crate::config::duration)]
    pub(crate) newer_than: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Reason {
    AttemptsExhausted,
    Permanent,
    Poison,
    Undecodable,
    MalformedHeaders,
    Terminated,
    DeadlineExceeded,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct BulkArgs {
    /// Letters by their numbers
    pub(crate) numbers: Vec<u64>,
    /// All letters, or all that the filters pick
    #[arg(long, conflicts_with = "numbers")]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// Show what would be done, by job and error; change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Don't ask
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Letters in a second, at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) rate: u32,
}
