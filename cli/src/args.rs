//! The command line. Names follow kubectl's habits; every command says what it does, with an example.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use model::durability::Profile;

use crate::patience::ConnectWait;

/// Exit codes, said in `--help`.
const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 the input was wrong.";

/// A distributed job scheduler driven by a message queue.
#[derive(Debug, Parser)]
#[command(name = "ecron", version, after_help = EXIT_CODES, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) servers: Servers,
    /// What to log on standard error: a level, or directives such as `info,ecron_dispatcher=debug`.
    #[arg(
        long,
        global = true,
        env = "ECRON_LOG",
        default_value = "warn",
        value_name = "FILTER",
        help_heading = "Logging"
    )]
    pub(crate) log: String,
    /// Log lines as JSON.
    #[arg(long, global = true, env = "ECRON_LOG_JSON", help_heading = "Logging")]
    pub(crate) log_json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where the servers are. Given nothing: `ecron.toml`, else a running `ecron up`.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Servers {
    /// Redis, e.g. redis://127.0.0.1:6379
    #[arg(long, global = true, env = "ECRON_REDIS_URL", value_name = "URL", help_heading = "Servers")]
    pub(crate) redis_url: Option<String>,
    /// NATS, e.g. nats://127.0.0.1:4222
    #[arg(long, global = true, env = "ECRON_NATS_URL", value_name = "URL", help_heading = "Servers")]
    pub(crate) nats_url: Option<String>,
    /// What the servers must survive: safe, fast or dev (default)
    #[arg(long, global = true, env = "ECRON_PROFILE", value_name = "PROFILE", help_heading = "Servers")]
    pub(crate) profile: Option<Profile>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run everything on this machine: private servers, planner, dispatcher, the built-in executor and the console
    #[command(
        after_help = "Example:\n  ecron up --data .ecron/data --allow-exec --apply examples/heartbeat.yaml\n\nCtrl-C stops everything cleanly; the data is kept, and the next start goes on where it was."
    )]
    Up(UpArgs),
    /// Run a planner against given servers
    #[command(
        after_help = "Example:\n  ecron planner --redis-url redis://10.0.0.5:6379 --nats-url nats://10.0.0.6:4222"
    )]
    Planner(crate::commands::audit::PlannerArgs),
    /// Run a dispatcher against given servers
    #[command(
        after_help = "Example:\n  ecron dispatcher --redis-url redis://10.0.0.5:6379 --nats-url nats://10.0.0.6:4222"
    )]
    Dispatcher(RoleArgs),
    /// Run the built-in executor for exec and http jobs
    #[command(
        after_help = "Examples:\n  ecron executor --allow-exec                         # every queue that has exec or http jobs\n  ecron executor --queue billing/http --concurrency 4\n\nNeeds NATS only."
    )]
    Executor(ExecutorArgs),
    Console(crate::commands::console::ConsoleArgs),
    Forecast(crate::commands::forecast::ForecastArgs),
    /// Declare jobs, calendars, namespaces and queues
    #[command(
        after_help = "Examples:\n  ecron apply -f examples/heartbeat.yaml --wait\n  ecron apply -f jobs/ -f extra.yaml\n  generate | ecron apply -f -"
    )]
    Apply(ApplyArgs),
    /// List jobs, runs, calendars, namespaces, queues, backfills or the audit
    #[command(
        after_help = "Examples:\n  ecron get jobs                     # of every namespace\n  ecron get jobs -n billing -l team=finance\n  ecron get job billing/nightly-report -o yaml\n  ecron get runs billing/nightly-report\n  ecron get runs -n billing --state dead-lettered\n  ecron get runs billing/nightly-report -w\n  ecron get audit --since 2h\n  ecron get run billing/nightly-report@2026-11-22T01:30:00Z -o json\n  ecron get calendars\n  ecron get calendar billing/de-holidays -o yaml\n  ecron get queue billing/reports\n  ecron get backfills -w"
    )]
    Get(GetArgs),
    /// Show what a run's attempts said, line by line
    #[command(
        after_help = "Examples:\n  ecron logs billing/nightly-report@2026-11-22T01:30:00Z\n  ecron logs billing/reports~order-17 -f     # until the run ends"
    )]
    Logs(crate::commands::logs::LogsArgs),
    /// Show everything about a job, or a run
    #[command(
        after_help = "Examples:\n  ecron describe billing/nightly-report\n  ecron describe run billing/reports~order-17"
    )]
    Describe(OneJobArgs),
    Explain(crate::commands::explain::ExplainArgs),
    Audit(crate::commands::audit::AuditArgs),
    /// Delete jobs, calendars, namespaces or queues
    #[command(
        after_help = "Examples:\n  ecron delete billing/nightly-report\n  ecron delete -f examples/heartbeat.yaml\n  ecron delete calendar billing/de-holidays"
    )]
    Delete(DeleteArgs),
    /// Pause jobs, all jobs of a namespace, or a queue
    #[command(
        after_help = "Examples:\n  ecron pause billing/nightly-report\n  ecron pause namespace billing\n  ecron pause queue billing/reports\n\nA paused job's occurrences aren't planned; triggers and backfills still run, and so do runs under way. A paused queue hands out nothing. See `ecron resume`, and `ecron catch-up --dry-run` for what a resume would start."
    )]
    Pause(crate::commands::pause::PauseArgs),
    /// Resume what was paused; each job's catchUp decides about what it missed
    #[command(
        after_help = "Examples:\n  ecron catch-up --dry-run billing/nightly-report    # what it would start\n  ecron resume billing/nightly-report\n  ecron resume namespace billing --wait\n  ecron resume queue billing/reports"
    )]
    Resume(crate::commands::pause::PauseArgs),
    /// Run a job now, besides its schedule
    #[command(
        after_help = "Examples:\n  ecron trigger billing/nightly-report --wait\n  ecron trigger billing/nightly-report --payload '{\"region\": \"us\"}' --key order-17\n\nA trigger never moves the schedule, and runs also while the job is paused. The same key again, within a day, starts nothing and answers with the first run."
    )]
    Trigger(TriggerArgs),
    /// Run the occurrences of a time that has passed, a few at a time
    #[command(
        after_help = "Examples:\n  ecron backfill billing/nightly-report --from 2026-06-01T00:00:00Z --to 2026-07-01T00:00:00Z --dry-run\n  ecron backfill billing/nightly-report --from 2026-06-01T00:00:00Z --to 2026-07-01T00:00:00Z --max-active 4 --name june\n  ecron get backfills -w\n  ecron get backfill billing/june\n  ecron pause backfill billing/june\n  ecron cancel backfill billing/june\n\nEach run is due at its own instant and has its own id. One whose run is remembered already is left out."
    )]
    Backfill(crate::commands::backfill::BackfillArgs),
    /// Cancel runs (not due yet, waiting, or in an executor's hands) or a backfill
    #[command(
        after_help = "Examples:\n  ecron cancel billing/nightly-report@2026-11-22T06:45:00Z --reason 'wrong figures' --wait\n  ecron cancel billing/nightly-report --at 2026-11-23T06:45:00Z\n  ecron cancel backfill billing/june"
    )]
    Cancel(crate::commands::cancel::CancelArgs),
    /// Show what a resume, or the end of a downtime, would start
    #[command(
        after_help = "Examples:\n  ecron catch-up --dry-run                            # all jobs\n  ecron catch-up --dry-run -n billing\n  ecron catch-up --dry-run billing/nightly-report -o json\n\nPaused jobs are shown as if they were resumed now. Catching up itself happens by each job's catchUp, when it is resumed or when dispatching goes on."
    )]
    CatchUp(crate::commands::catch_up::CatchUpArgs),
    /// Show what jobs would do in a stretch of time; needs no server
    #[command(
        after_help = "Examples:\n  ecron simulate -f jobs/ --from 2026-12-24T00:00:00Z --to 2026-12-27T00:00:00Z\n  ecron simulate -f job.yaml --from 2026-12-24T00:00:00Z --to 2026-12-25T00:00:00Z --duration 25m -o json\n\nFrom the first instant (included) to the second (not included). With --duration, runs take that long and the overlap policy shows. `every` counts from its start, or from --from."
    )]
    Simulate(crate::commands::simulate::SimulateArgs),
    /// Give a queue ad-hoc work, now or for later
    #[command(
        after_help = "Examples:\n  ecron submit billing/reports '{\"region\": \"eu\"}'\n  ecron submit billing/reports --key order-17 --unique-until done -    # the payload from standard input\n  ecron submit billing/reports --delay 2h --retry attempts=5 '{}'"
    )]
    Submit(SubmitArgs),
    /// Check manifests: every problem at once, with line and field; needs no server
    #[command(after_help = "Example:\n  ecron validate examples/*.yaml")]
    Validate(ValidateArgs),
    /// Print the next instants of a cron expression; needs no server
    Next(crate::commands::next::NextArgs),
    /// Show the plan as Redis holds it
    #[command(
        after_help = "Examples:\n  ecron inspect buckets\n  ecron inspect leases -o json\n  ecron inspect sent\n  ecron inspect gates"
    )]
    Inspect(InspectArgs),
    /// Check the servers: durability, clocks, nodes, leftovers
    #[command(
        after_help = "Examples:\n  ecron doctor\n  ecron doctor --profile safe      # whether these servers hold its promise\n  ecron doctor -o json\n\nLooks, and changes nothing. Exit code 1 if something is BAD. docs/reliability.md says what each profile promises."
    )]
    Doctor(crate::commands::doctor::DoctorArgs),
    /// List, show, redrive or purge dead letters
    #[command(
        subcommand,
        after_help = "Examples:\n  ecron dead list\n  ecron dead show 3\n  ecron dead redrive 3\n  ecron dead redrive --job billing/nightly-report --error timeout"
    )]
    Dead(crate::commands::dead::args::DeadCommand),
    /// Import jobs from elsewhere
    #[command(subcommand)]
    Import(ImportCommand),
    /// Measure: lateness, throughput and CPU, beside bare JetStream on the same servers
    Bench(crate::commands::bench::BenchArgs),
    /// Print a shell's completions
    #[command(after_help = "Example:\n  ecron completions bash > /etc/bash_completion.d/ecron")]
    Completions {
        shell: clap_complete::Shell,
    },
    /// Print the versions of ecron and of its time zone database
    #[command(after_help = "Example:\n  ecron version")]
    Version,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    #[default]
    Table,
    Json,
    Yaml,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct UpArgs {
    /// Where Redis and NATS keep their files
    #[arg(long, value_name = "DIR", default_value = ".ecron/data")]
    pub(crate) data: PathBuf,
    /// Redis listens on N, NATS on N+1, the console on N+2
    #[arg(long, value_name = "N", default_value_t = 17600, value_parser = clap::value_parser!(u16).range(1024..=65_533))]
    pub(crate) port_base: u16,
    /// Let the built-in executor run commands (exec jobs)
    #[arg(long)]
    pub(crate) allow_exec: bool,
    /// Apply these manifests (files or folders) once everything runs
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub(crate) apply: Vec<PathBuf>,
    /// Runs of exec and http jobs at once
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) concurrency: u16,
    /// Shards of a new cluster
    #[arg(long, value_name = "N", default_value_t = model::shard::SHARDS_DEFAULT, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) shards: u16,
    /// Don't print runs as they happen
    #[arg(long)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) console: UpConsoleArgs,
    #[command(flatten)]
    pub(crate) audit: crate::commands::audit::AuditPeriodArgs,
}

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct UpConsoleArgs {
    /// Where the console listens, instead of on this machine's N+2 of --port-base
    #[arg(long, value_name = "ADDRESS:PORT", help_heading = "Console")]
    pub(crate) console_listen: Option<std::net::SocketAddr>,
    /// Tokens of the console; see `ecron console --help`
    #[arg(long, value_name = "FILE", help_heading = "Console")]
    pub(crate) token_file: Option<PathBuf>,
    /// No console
    #[arg(long, help_heading = "Console", conflicts_with_all = ["console_listen", "token_file"])]
    pub(crate) no_console: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct RoleArgs {
    /// This node's share of the shards, relative to the others; 0 owns none
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub(crate) weight: u32,
    /// Start although the servers don't hold the profile's promise; the reason is logged
    #[arg(long, value_name = "REASON")]
    pub(crate) accept_data_loss: Option<String>,
    /// Shards, if the cluster is new
    #[arg(long, value_name = "N", default_value_t = model::shard::SHARDS_DEFAULT, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) shards: u16,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// A node's start.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct ConnectArgs {
    /// How long to wait for servers that aren't there yet; 0: fail at once
    #[arg(long, env = "ECRON_CONNECT_WAIT", value_name = "DURATION|forever", default_value = "forever")]
    pub(crate) connect_wait: ConnectWait,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ExecutorArgs {
    /// Serve this queue; may be repeated. Unless given: every queue that has exec or http jobs
    #[arg(long = "queue", value_name = "NS/QUEUE")]
    pub(crate) queues: Vec<String>,
    /// Run commands (exec jobs). Whoever may declare jobs may then run commands as this user
    #[arg(long)]
    pub(crate) allow_exec: bool,
    /// Runs at once
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) concurrency: u16,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ApplyArgs {
    /// A manifest, a folder of manifests, or `-` for standard input; may be repeated
    #[arg(short = 'f', long = "filename", value_name = "FILE", required = true, num_args = 1..)]
    pub(crate) files: Vec<PathBuf>,
    /// Wait until the planner has installed every job
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to wait
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = crate::config::duration)]
    pub(crate) timeout: std::time::Duration,
    /// Validate at the server, change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct GetArgs {
    /// jobs, job, runs, run, calendars, calendar, namespaces, namespace, queues, queue, backfills, backfill or audit
    #[arg(value_enum)]
    pub(crate) kind: Kind,
    /// A job, calendar, queue or backfill (NAME or NS/NAME), a namespace, or a run id
    pub(crate) name: Option<String>,
    /// Only this namespace; also the namespace of a bare NAME
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,
    /// Only jobs with this label; may be repeated
    #[arg(short = 'l', long = "label", value_name = "KEY=VALUE")]
    pub(crate) labels: Vec<String>,
    /// Only runs in this state
    #[arg(long, value_parser = ["waiting", "dispatched", "succeeded", "dead-lettered", "cancelled", "skipped"])]
    pub(crate) state: Option<String>,
    /// Keep watching runs (each change is another line) or backfills (until they have ended)
    #[arg(short, long)]
    pub(crate) watch: bool,
    /// Only what was asked for within this time (audit)
    #[arg(long, value_name = "DURATION", default_value = "1d", value_parser = crate::config::duration)]
    pub(crate) since: std::time::Duration,
    /// Runs to show, newest first
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) limit: u16,
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    Jobs,
    Job,
    Runs,
    Run,
    Calendars,
    Calendar,
    Namespaces,
    Namespace,
    Backfills,
    Backfill,
    Queues,
    Queue,
    /// Who had what done
    Audit,
}

#[derive(Clone, Debug, Args)]
#[command(allow_missing_positional = true)]
pub(crate) struct OneJobArgs {
    /// The word `job`, for those who are used to it
    #[arg(value_name = "job")]
    pub(crate) word: Option<String>,
    /// NAME or NS/NAME
    pub(crate) job: String,
    /// The namespace of a bare NAME
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct DeleteArgs {
    /// Jobs: NAME or NS/NAME (the word `job` may stand before them); or `calendar NAME…`, `queue NAME…`, `namespace NAME…`
    #[arg(value_name = "JOB", required_unless_present = "files")]
    pub(crate) jobs: Vec<String>,
    /// Delete what these manifests declare
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// The namespace of a bare NAME
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,
    /// What isn't there is no failure
    #[arg(long)]
    pub(crate) ignore_not_found: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct TriggerArgs {
    #[command(flatten)]
    pub(crate) job: OneJobArgs,
    /// Instead of the job's own payload: any JSON
    #[arg(long, value_name = "JSON")]
    pub(crate) payload: Option<String>,
    /// Names this trigger: the same key again, within a day, starts nothing
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// Wait for the run's end and show it; exit code 1 unless it succeeded
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to wait
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = crate::config::duration)]
    pub(crate) timeout: std::time::Duration,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct SubmitArgs {
    /// NS/QUEUE, or QUEUE
    pub(crate) queue: String,
    /// What the handler gets, byte for byte; `-` reads it from standard input
    pub(crate) payload: Option<String>,
    /// The namespace of a bare QUEUE
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,
    /// Names the run: submitting the same key again within ten minutes starts nothing
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// Until the key's run has `started`, is `done`, or for a duration: a second submission is told the first one's run
    #[arg(long, value_name = "started|done|DURATION", requires = "key")]
    pub(crate) unique_until: Option<String>,
    /// What the key is unique among
    #[arg(long, value_name = "queue|namespace", requires = "key", value_parser = ["queue", "namespace"])]
    pub(crate) scope: Option<String>,
    /// Not before this instant
    #[arg(long, value_name = "INSTANT", conflicts_with = "delay")]
    pub(crate) at: Option<String>,
    /// Not before this much time has passed
    #[arg(long, value_name = "DURATION")]
    pub(crate) delay: Option<String>,
    /// How long one attempt may take
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<String>,
    /// The retry policy, or a part of it: attempts=5,initial=1s
    #[arg(long, value_name = "POLICY")]
    pub(crate) retry: Option<String>,
    /// For the handler; may be repeated
    #[arg(long = "header", value_name = "NAME=VALUE")]
    pub(crate) headers: Vec<String>,
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ValidateArgs {
    /// Manifests, folders of manifests, or `-`
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Calendars that are in none of these files are no problem: the server has them
    #[arg(long)]
    pub(crate) assume_calendars: bool,
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct InspectArgs {
    #[arg(value_enum)]
    pub(crate) what: Inspected,
    /// Entries shown of each bucket, lines of each gate, or rows of `sent` for each shard
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) first: u16,
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Inspected {
    /// The tiers of the plan, as sorted sets
    Buckets,
    /// Who owns which shard
    Leases,
    /// Live nodes
    Nodes,
    /// Published runs without an outcome
    Sent,
    /// Queues with limits: what is under way, what waits, and when the next run may go
    Gates,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ImportCommand {
    /// Turn a crontab into manifests
    #[command(
        after_help = "Examples:\n  crontab -l | ecron import crontab - > jobs.yaml\n  ecron import crontab /etc/crontab --out jobs.yaml && ecron apply -f jobs.yaml\n\nLines that can't be imported are named on standard error, one by one."
    )]
    Crontab(CrontabArgs),
}

#[derive(Clone, Debug, Args)]
pub(crate) struct CrontabArgs {
    /// The crontab, or `-`
    pub(crate) file: PathBuf,
    /// Write the manifests here instead of standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Whether lines have a user column: guessed from the file's place and contents unless given
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: CrontabFormat,
    /// The namespace of the jobs
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,
    /// The zone of lines before any CRON_TZ
    #[arg(long, value_name = "ZONE")]
    pub(crate) time_zone: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum CrontabFormat {
    #[default]
    Auto,
    /// `crontab -l`: no user column
    User,
    /// /etc/crontab, /etc/cron.d/*: with a user column
    System,
}
