//! ecron: cli.
use std::process::ExitCode;

#[allow(dead_code)]
mod executor;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|word| word == executor::child::CHILD_COMMAND) {
        return executor::child::child_main(args);
    }
    ExitCode::SUCCESS
}
