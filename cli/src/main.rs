//! `ecron`: the one binary. It parses, traces, and hands over; each command is a file of `commands`.

mod args;
mod bench;
mod commands;
mod config;
mod connect;
mod executor;
mod failure;
mod import;
mod output;
mod patience;
mod preflight;
mod up;
mod yaml;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Cli;

/// A run is some hundreds of small allocations on many threads: with the C library's allocator they are a quarter of its
/// CPU time (`docs/performance.md`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Before anything else: the re-executed helper that becomes a child process must not start a runtime.
    if let Some(code) = executor::child::run_if_asked() {
        return code;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(problem) => {
            return refuse(&problem);
        }
    };
    output::trace(&cli.log, cli.log_json);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(problem) => {
            eprintln!("error: failed to start the runtime: {problem}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(commands::run(cli));
    // A blocking read of standard input must not hold up the end.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Says what is wrong with the arguments, or prints the help that was asked for.
fn refuse(problem: &clap::Error) -> ExitCode {
    if !problem.use_stderr() {
        // Nothing can be done about a closed terminal.
        let _closed = problem.print();
        return ExitCode::SUCCESS;
    }
    // The usage line repeats what was given, and counts what came from the environment: where the servers are is noise.
    let mut text = problem.render().to_string();
    for given in [" --redis-url <URL>", " --nats-url <URL>", " --log <FILTER>", " --log-json"] {
        text = text.replace(given, "");
    }
    eprint!("{text}");
    ExitCode::from(2)
}
