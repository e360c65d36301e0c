//! The built-in executor: commands and HTTP requests, as handlers on top of the SDK.
//!
//! `exec` says what a command is and how its end reads, `process` starts and ends processes, `capture` keeps what they
//! print, `spawner` and `child` see to it that none outlives the executor, `http` sends requests.
//!
//! Architecture invariant: commands run only where the operator asked for it (`allow_exec`), and only for orders that
//! a dispatcher published, never for what anybody may submit.

pub(crate) mod child;

mod capture;
mod discover;
mod exec;
mod group;
mod http;
mod process;
mod spawner;
mod user;

use std::path::PathBuf;
use std::sync::Arc;

use ambient::{Clock, Shutdown};
use bus::SpecStore;
use bytes::Bytes;
use executor_sdk::{Bus, Context, Executor, HandlerError, Output, WorkKind};
use model::id::RunId;
use model::name::QueueId;
use serde::de::DeserializeOwned;

/// What the built-in executor serves, and what it may do.
#[derive(Clone, Debug)]
pub(crate) struct BuiltinOptions {
    /// Empty: every queue for which there is a job with a command or a request.
    pub(crate) queues: Vec<QueueId>,
    /// Whether commands may run here. Requests always may.
    pub(crate) allow_exec: bool,
    /// Attempts that run at the same time, for each queue.
    pub(crate) concurrency: usize,
}

/// Serves the queues until `shutdown`, then drains.
pub(crate) async fn run<B: Bus + SpecStore>(
    bus: Arc<B>,
    options: BuiltinOptions,
    clock: Clock,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    run_with(bus, options, clock, shutdown, child::own_binary()).await
}

/// The same with another `ecron` to start commands through, for programs that have no `ecron __child` of their own.
pub(super) async fn run_with<B: Bus + SpecStore>(
    bus: Arc<B>,
    options: BuiltinOptions,
    clock: Clock,
    shutdown: Shutdown,
    ecron: PathBuf,
) -> anyhow::Result<()> {
    let BuiltinOptions { queues, allow_exec, concurrency } = options;
    let builtin = Arc::new(Builtin::new(allow_exec, ecron)?);
    let handler = move |ctx, payload| {
        let builtin = Arc::clone(&builtin);
        async move { builtin.carry_out(ctx, payload).await }
    };
    let mut executor = Executor::new(Arc::clone(&bus)).clock(clock.clone()).shutdown(shutdown);
    if queues.is_empty() {
        let found = discover::queues(bus, clock);
        executor = executor.queues_as_found(found).concurrency(concurrency).handle_work(handler.clone());
    }
    for queue in queues {
        executor = executor.queue_id(queue).concurrency(concurrency).handle_work(handler.clone());
    }
    Ok(executor.run().await?)
}

/// What commands and requests are carried out with.
struct Builtin {
    /// `None` where commands aren't allowed.
    commands: Option<spawner::Spawner>,
    requests: http::Requests,
}

impl Builtin {
    fn new(allow_exec: bool, ecron: PathBuf) -> anyhow::Result<Self> {
        let commands = if allow_exec { Some(spawner::Spawner::start(ecron)?) } else { None };
        Ok(Self { commands, requests: http::Requests::new()? })
    }

    async fn carry_out(&self, ctx: Context, payload: Bytes) -> Result<Output, HandlerError> {
        match ctx.kind() {
            WorkKind::Exec => {
                let commands = self.commands.as_ref().ok_or_else(|| {
                    HandlerError::permanent("this executor runs no commands; start it with --allow-exec")
                })?;
                if let RunId::AdHoc { .. } = ctx.run_id() {
                    // The bus refuses it already; this is what would be worst to get wrong.
                    return Err(HandlerError::permanent(
                        "a command must come from a job, not from a publisher",
                    ));
                }
                exec::run(&ctx, &read(&payload, "command")?, commands).await
            }
            WorkKind::Http => self.requests.send(&ctx, &read(&payload, "request")?).await,
            WorkKind::Payload => Err(HandlerError::permanent(format!(
                "the run has a payload for a handler of your own, but queue {} is served by the built-in executor, \
                 which knows exec and http",
                ctx.queue()
            ))),
        }
    }
}

fn read<T: DeserializeOwned>(payload: &Bytes, what: &str) -> Result<T, HandlerError> {
    serde_json::from_slice(payload)
        .map_err(|error| HandlerError::permanent(format!("failed to read the {what}: {error}")))
}
