//! A cluster under fire, and a verdict that doesn't depend on it. `tests/chaos.sh` starts it; `docs/reliability.md` tells
//! what it showed.
//!
//! `generator` uses the cluster, `inject` hurts it as `faults` planned, `executor` (a process of its own) does the work;
//! all of them write `evidence`, and `checker` reads nothing else.

mod checker;
mod client;
mod cluster;
mod dice;
mod evidence;
mod executor;
mod faults;
mod generator;
mod inject;
mod jobs;
mod proxy;
mod timeline;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use ambient::Shutdown;
use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use harness::witness::now_ms;
use tokio::time::Instant;

use checker::{Verdict, check};
use client::Client;
use cluster::Cluster;
use evidence::{ENDS, Evidence, FAULTS, Journal, OPERATIONS, PUBLISHED, SHOWN, UNTIL};
use faults::{Kind, Lane, schedule};
use generator::Generator;

/// Before the first fault, and after the last one.
const CALM_BEFORE: Duration = Duration::from_secs(8);
const CALM_AFTER: Duration = Duration::from_secs(60);
/// How long runs that are under way in the end may take: an ack wait, three attempts and a reserve.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(120);
const DRAIN_LOOK: Duration = Duration::from_secs(5);
const START_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Debug, Parser)]
#[command(about = "Chaos: many nodes under fire, and a checker of its own")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a campaign; the last line is its verdict
    Run(Campaign),
    /// Judge a folder of evidence again
    Check { folder: PathBuf },
    /// List what can be injected
    Kinds,
    /// Do the work of a campaign
    #[command(hide = true)]
    Executor {
        #[arg(long)]
        name: String,
        #[arg(long)]
        seen: PathBuf,
        #[arg(long, env = "ECRON_NATS_URL")]
        nats_url: String,
    },
}

#[derive(Debug, Args)]
struct Campaign {
    /// All in all, the last minute without faults
    #[arg(long, default_value_t = 3.0)]
    minutes: f64,
    /// Chooses faults, targets and edits
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// About how many runs a second
    #[arg(long, default_value_t = 25)]
    rate: u32,
    /// Only these kinds of faults, separated by commas
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// All kinds but these
    #[arg(long, value_delimiter = ',')]
    without: Vec<String>,
    /// Where evidence and logs go, and stay; otherwise they stay only if something is wrong
    #[arg(long)]
    out: Option<PathBuf>,
    /// Nothing but the verdict
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    match carry_out(Cli::parse().command).await {
        Ok(code) => code,
        Err(problem) => {
            eprintln!("failed to {problem:#}");
            ExitCode::from(2)
        }
    }
}

async fn carry_out(command: Command) -> anyhow::Result<ExitCode> {
    let verdict = match command {
        Command::Executor { name, seen, nats_url } => {
            executor::run(&nats_url, &name, &seen).await?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Kinds => {
            Kind::all().for_each(|kind| println!("{}", kind.name()));
            return Ok(ExitCode::SUCCESS);
        }
        Command::Check { folder } => {
            let verdict = check(&Evidence::read(&folder)?);
            verdict.findings.iter().for_each(|finding| eprintln!("{finding}"));
            serde_json::to_value(&verdict)?
        }
        Command::Run(campaign) => run(&campaign).await?,
    };
    println!("{verdict}");
    Ok(if verdict["holds"] == true { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The kinds that may be injected here and were asked for.
fn kinds(campaign: &Campaign) -> anyhow::Result<Vec<Kind>> {
    for name in campaign.only.iter().chain(&campaign.without) {
        Kind::named(name).with_context(|| format!("there is no kind {name}; `kinds` lists them"))?;
    }
    let asked = |kind: &Kind| {
        let has = |names: &[String]| names.iter().any(|name| name == kind.name());
        (campaign.only.is_empty() || has(&campaign.only)) && !has(&campaign.without)
    };
    let possible = |kind: &Kind| *kind != Kind::ClockOff || inject::clock_shim().is_some();
    Ok(Kind::all().filter(asked).filter(possible).collect())
}

async fn run(campaign: &Campaign) -> anyhow::Result<serde_json::Value> {
    let shutdown = Shutdown::on_signals()?;
    let temporary = tempfile::Builder::new().prefix("ecron-chaos-").tempdir()?;
    let folder = campaign.out.clone().unwrap_or_else(|| temporary.path().into());
    std::fs::create_dir_all(&folder)?;
    anyhow::ensure!(!folder.join(OPERATIONS).exists(), "{} holds a campaign already", folder.display());
    let tell = |what: String| {
        if !campaign.json {
            eprintln!("{what}");
        }
    };
    let cluster = Cluster::start(&folder).await?;
    tell(format!("evidence and logs: {}", folder.display()));
    let campaigned = tokio::select! {
        biased;
        () = shutdown.stopped() => Err(anyhow::anyhow!("interrupted")),
        fallen = cluster.watch() => fallen,
        tapped = tap(&cluster, &folder) => tapped,
        done = under_fire(campaign, &cluster, &folder, &tell) => done,
    };
    cluster.end().await?;
    campaigned?;
    let verdict = check(&Evidence::read(&folder)?);
    verdict.findings.iter().for_each(|finding| tell(finding.clone()));
    if !verdict.holds && campaign.out.is_none() {
        eprintln!("evidence and logs are kept: {}", temporary.keep().display());
    }
    let mut value = serde_json::to_value(&verdict)?;
    if let Some(fields) = value.as_object_mut() {
        fields.insert("seed".into(), campaign.seed.into());
        fields.insert("minutes".into(), campaign.minutes.into());
    }
    Ok(value)
}

async fn tap(cluster: &Cluster, folder: &Path) -> anyhow::Result<()> {
    Client::connect(&cluster.nats_url).await?.tap(&Journal::open(&folder.join(PUBLISHED))?).await
}

async fn under_fire(
    campaign: &Campaign,
    cluster: &Cluster,
    folder: &Path,
    tell: &impl Fn(String),
) -> anyhow::Result<()> {
    let generator = Generator {
        client: Client::connect(&cluster.nats_url).await?,
        operations: Journal::open(&folder.join(OPERATIONS))?,
        shown: Journal::open(&folder.join(SHOWN))?,
        seed: campaign.seed,
    };
    let faults = Journal::open(&folder.join(FAULTS))?;
    let started = Instant::now();
    while !cluster.all_alive().await || !cluster.all_begun().await? {
        anyhow::ensure!(
            started.elapsed() < START_TIMEOUT,
            "start the nodes: they keep ending, see their logs"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let steady = generator.begin(campaign.rate).await?;
    tell(format!("{} jobs are declared", steady.len()));

    let began = Instant::now() + CALM_BEFORE;
    let whole = Duration::from_secs_f64(campaign.minutes * 60.0);
    let burning = whole.saturating_sub(CALM_BEFORE + CALM_AFTER);
    let kinds = kinds(campaign)?;
    let plan = |lane| schedule(campaign.seed, lane, burning, &kinds);
    let (servers, nodes) = (plan(Lane::Servers), plan(Lane::Nodes));
    let last = began + burning;
    let hurt = async {
        tokio::try_join!(
            Box::pin(inject::run(cluster, &servers, began, &faults)),
            Box::pin(inject::run(cluster, &nodes, began, &faults)),
        )?;
        tokio::time::sleep_until(last).await;
        cluster.heal().await
    };
    let used = async {
        generator.run(&steady, last + CALM_AFTER).await;
        anyhow::Ok(())
    };
    tokio::try_join!(hurt, used)?;
    // Judged up to here; the schedules go on until everything that was due by now has ended.
    std::fs::write(folder.join(UNTIL), now_ms().to_string())?;
    tell("the last minute is over; what is under way may end".into());
    drain(&generator, folder).await?;
    generator.look_at_all(&steady).await;
    Ok(())
}

/// Waits until nothing is missing, or until that can't be expected any more.
async fn drain(generator: &Generator, folder: &Path) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        tokio::time::sleep(DRAIN_LOOK).await;
        let ends = folder.join(ENDS);
        if ends.exists() {
            std::fs::remove_file(&ends)?;
        }
        generator.client.save_ends(&Journal::open(&ends)?).await?;
        let Verdict { missed, unended, .. } = check(&Evidence::read(folder)?);
        if missed + unended == 0 || began.elapsed() > DRAIN_TIMEOUT {
            return Ok(());
        }
    }
}
