//! `ecron up`: everything on one machine, in the foreground.
//!
//! `children` starts and minds the private servers, `ground` checks the folder and the ports, `live` prints runs as
//! they end. Stopping goes the other way round: roles first, then the servers.

mod children;
mod ground;
mod live;
mod private;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ambient::{Clock, Shutdown};
use bus::nats::{NatsBus, NatsOptions};
use console::Bound;
use store::redis::{RedisOptions, RedisStore};

use crate::args::UpArgs;
use crate::commands::{apply, roles};
use crate::config::{UP_FILE, UpFile, user_up_file};
use crate::executor::{BuiltinOptions, run as run_builtin};
use crate::failure::Failure;
use crate::output;
use crate::preflight::Demands;
use children::Servers;
use ground::Ground;
pub(crate) use private::PrivateServers;

/// How long the roles may take to drain once stopping was asked for.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the planner may take to answer its first request.
const READY_TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) async fn run(args: UpArgs) -> Result<(), Failure> {
    let clock = Clock::system();
    let began = clock.monotonic();
    let shutdown = Shutdown::on_signals()?.with_drain_timeout(DRAIN_TIMEOUT);
    let ground = Ground::prepare(&args, &clock).await?;
    let mut servers = Servers::start(&ground, &clock, &shutdown).await?;
    let outcome = tokio::select! {
        biased;
        outcome = with_servers(&args, &ground, &clock, began, &shutdown) => outcome,
        problem = servers.mind(&ground, &clock) => Err(problem),
    };
    ground.forget();
    servers.stop(&clock).await;
    if outcome.is_ok() {
        output::line("stopped; the data is kept")?;
    }
    outcome
}

/// Runs every role until shutdown.
async fn with_servers(
    args: &UpArgs,
    ground: &Ground,
    clock: &Clock,
    began: Duration,
    shutdown: &Shutdown,
) -> Result<(), Failure> {
    let store = RedisStore::connect(&ground.redis_url(), RedisOptions::default()).await?;
    let bus = NatsBus::connect(&ground.nats_url(), NatsOptions::default()).await?;
    let foundation = roles::lay(store, bus, args.shards, &Demands::default()).await?;
    let bus = Arc::clone(&foundation.bus);
    let options = BuiltinOptions {
        queues: vec![],
        allow_exec: args.allow_exec,
        concurrency: usize::from(args.concurrency),
    };
    let executor = run_builtin(Arc::clone(&bus), options, clock.clone(), shutdown.clone());
    let (console, console_at) = console(args, ground).await?;
    let console = async {
        match console {
            Some(bound) => bound.serve(Arc::clone(&bus), clock.clone(), shutdown.clone()).await,
            None => Ok(()),
        }
    };
    let roles = async {
        tokio::join!(
            foundation.planner(100, &args.audit).run(shutdown.clone()),
            foundation.dispatcher(100).run(shutdown.clone()),
            executor,
            console,
        )
    };
    let front = async {
        let outcome = announce(args, ground, &bus, clock, began, &console_at).await;
        if let Err(problem) = outcome {
            shutdown.stop();
            return Err(problem);
        }
        if !args.quiet {
            live::print_runs(&bus, clock, shutdown).await?;
        }
        Ok(())
    };
    // The roles end with the shutdown; what the front meets on the way decides the exit code.
    let ((_, _, executed, served), front) = tokio::join!(roles, async {
        tokio::select! {
            biased;
            front = front => front,
            () = shutdown.stopped() => Ok(()),
        }
    });
    front?;
    served.map_err(|problem| Failure::failed(format!("the console ended: failed to {problem}")))?;
    executed.map_err(|problem| Failure::failed(format!("the built-in executor ended: {problem}")))
}

/// Where the console is, or why there is none.
type ConsoleAt = Result<String, String>;

/// Takes the console's port. That the default one is taken stops nothing: nobody asked for it.
async fn console(args: &UpArgs, ground: &Ground) -> Result<(Option<Bound>, ConsoleAt), Failure> {
    if args.console.no_console {
        return Ok((None, Err("none (--no-console)".into())));
    }
    let default = SocketAddr::from((Ipv4Addr::LOCALHOST, ground.console_port()));
    let listen = args.console.console_listen.unwrap_or(default);
    match crate::commands::console::open(listen, args.console.token_file.as_deref()).await {
        Ok(bound) => {
            let url = bound.url();
            Ok((Some(bound), Ok(url)))
        }
        Err(problem) if args.console.console_listen.is_none() && args.console.token_file.is_none() => {
            Ok((None, Err(format!("none: {}; choose another port with --console-listen", problem.message()))))
        }
        Err(problem) => Err(problem),
    }
}

/// Waits for the planner, says where everything is, and applies what was asked for.
async fn announce(
    args: &UpArgs,
    ground: &Ground,
    bus: &NatsBus,
    clock: &Clock,
    began: Duration,
    console_at: &ConsoleAt,
) -> Result<(), Failure> {
    wait_until_ready(bus, clock).await?;
    let up = UpFile {
        pid: std::process::id(),
        redis_url: ground.redis_url(),
        nats_url: ground.nats_url(),
        data: ground.data().to_path_buf(),
        console_url: console_at.clone().ok(),
    };
    ground.remember(&up)?;
    let took_ms = (clock.monotonic() - began).as_millis();
    output::line(format_args!("ecron is up after {took_ms} ms; Ctrl-C stops it"))?;
    output::line(format_args!("  redis  {}    nats  {}", up.redis_url, up.nats_url))?;
    output::line(format_args!("  console  {}", console_at.as_ref().unwrap_or_else(|why| why)))?;
    output::line(format_args!("  data   {}", up.data.display()))?;
    if !args.allow_exec {
        output::line("  exec jobs won't run: start with --allow-exec to let jobs run commands as you")?;
    }
    if !args.apply.is_empty() {
        let manifests = apply::read(&args.apply)?;
        let applied = apply::apply(bus, &manifests, false).await?;
        apply::wait(bus, &applied, READY_TIMEOUT).await?;
        for sentence in apply::sentences(&applied, false) {
            output::line(format_args!("  {sentence}"))?;
        }
    }
    Ok(())
}

async fn wait_until_ready(bus: &NatsBus, clock: &Clock) -> Result<(), Failure> {
    use planner::api::types::{ListReply, ListRequest};
    let give_up_at = clock.monotonic() + READY_TIMEOUT;
    loop {
        let request = ListRequest { limit: Some(1), ..ListRequest::default() };
        let answer: Result<ListReply, _> = crate::connect::ask(bus, "list", &request).await;
        match answer {
            Ok(_) => return Ok(()),
            Err(problem) if clock.monotonic() >= give_up_at => return Err(problem.into()),
            Err(_) => clock.sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Where other commands of this user look for a running `ecron up`.
pub(crate) fn up_files(data: &std::path::Path) -> impl Iterator<Item = std::path::PathBuf> {
    [Some(data.join(UP_FILE)), user_up_file()].into_iter().flatten()
}
