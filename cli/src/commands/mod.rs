//! One file a command; this one only hands over.

pub(crate) mod apply;
pub(crate) mod audit;
pub(crate) mod backfill;
pub(crate) mod bench;
pub(crate) mod cancel;
pub(crate) mod catch_up;
pub(crate) mod console;
pub(crate) mod dead;
pub(crate) mod delete;
pub(crate) mod describe;
pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod forecast;
mod gates;
pub(crate) mod get;
pub(crate) mod import;
pub(crate) mod inspect;
pub(crate) mod logs;
pub(crate) mod next;
pub(crate) mod objects;
pub(crate) mod pause;
pub(crate) mod roles;
pub(crate) mod runs;
pub(crate) mod simulate;
pub(crate) mod submit;
pub(crate) mod trigger;
pub(crate) mod validate;

use ambient::Clock;
use clap::CommandFactory;

use crate::args::{Cli, Command, OneJobArgs};
use crate::failure::Failure;
use crate::{output, up};

pub(crate) async fn run(cli: Cli) -> Result<(), Failure> {
    let servers = cli.servers;
    match cli.command {
        Command::Up(args) => Box::pin(up::run(args)).await,
        Command::Planner(args) => Box::pin(roles::planner(&servers, &args)).await,
        Command::Dispatcher(args) => roles::dispatcher(&servers, &args).await,
        Command::Executor(args) => roles::executor(&servers, &args).await,
        Command::Console(args) => console::run(&servers, &args).await,
        Command::Forecast(args) => forecast::run(&servers, &args).await,
        Command::Apply(args) => apply::run(&servers, &args).await,
        Command::Get(args) => get::run(&servers, &args).await,
        Command::Logs(args) => logs::run(&servers, &args).await,
        Command::Describe(args) => describe::run(&servers, &args).await,
        Command::Audit(args) => audit::run(&servers, &args).await,
        Command::Explain(args) => Box::pin(explain::run(&servers, &args)).await,
        Command::Delete(args) => delete::run(&servers, &args).await,
        Command::Pause(args) => pause::run(&servers, &args, pause::Turn::Pause).await,
        Command::Resume(args) => pause::run(&servers, &args, pause::Turn::Resume).await,
        Command::Submit(args) => submit::run(&servers, &args).await,
        Command::Trigger(args) => trigger::run(&servers, &args).await,
        Command::Backfill(args) => backfill::run(&servers, &args).await,
        Command::Cancel(args) => cancel::run(&servers, &args).await,
        Command::CatchUp(args) => catch_up::run(&servers, &args).await,
        Command::Simulate(args) => simulate::run(&args),
        Command::Validate(args) => validate::run(&args),
        Command::Next(args) => next_instants(args),
        Command::Inspect(args) => inspect::run(&servers, &args).await,
        Command::Doctor(args) => doctor::run(&servers, &args).await,
        Command::Dead(command) => dead::run(&servers, command).await,
        Command::Import(command) => import::run(command),
        Command::Bench(args) => Box::pin(bench::run(&servers, &args)).await,
        Command::Completions { shell } => completions(shell),
        Command::Version => version(),
    }
}

fn next_instants(args: next::NextArgs) -> Result<(), Failure> {
    let mut text = Vec::new();
    let outcome = next::run(&args, Clock::system().now(), &mut text);
    output::print(&String::from_utf8_lossy(&text))?;
    outcome.map_err(|problem| match problem.exit_code() {
        2 => Failure::input(problem.to_string()),
        _ => Failure::failed(problem.to_string()),
    })
}

fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "ecron", &mut text);
    output::print(&String::from_utf8_lossy(&text))
}

fn version() -> Result<(), Failure> {
    output::line(format_args!(
        "ecron {}\ntzdata {}",
        env!("CARGO_PKG_VERSION"),
        model::schedule::tzdata_version()
    ))
}

/// Who runs this command, for change logs and the audit: `user@host`.
pub(crate) fn who() -> Option<String> {
    let known = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let user = known("ECRON_BY").or_else(|| known("USER")).or_else(|| known("LOGNAME"));
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|host| host.trim().to_owned());
    let user = user.unwrap_or_else(|| "unknown".to_owned());
    match host.filter(|host| !host.is_empty()) {
        Some(host) if !user.contains('@') => Some(format!("{user}@{host}")),
        Some(_) | None => Some(user),
    }
}

impl OneJobArgs {
    /// The job's full name.
    pub(crate) fn name(&self) -> Result<String, Failure> {
        match self.word.as_deref() {
            None | Some("job" | "jobs") => job_name(&self.job, &self.namespace),
            Some(word) => Err(Failure::input(format!(
                "one job at a time: expected NAME or NS/NAME, found {word:?} and {:?}",
                self.job
            ))),
        }
    }
}

/// The full name of a job from `NAME` or `NS/NAME`.
pub(crate) fn job_name(name: &str, namespace: &str) -> Result<String, Failure> {
    let full = if name.contains('/') { name.to_owned() } else { format!("{namespace}/{name}") };
    full.parse::<model::name::JobId>()
        .map_err(|problem| Failure::input(format!("failed to read job {full:?}: {problem}")))?;
    Ok(full)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn job_of(words: &[&str]) -> Result<String, String> {
        let cli = Cli::try_parse_from([&["ecron", "trigger"], words].concat());
        match cli.map_err(|problem| problem.to_string())?.command {
            Command::Trigger(args) => args.job.name().map_err(|problem| problem.to_string()),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn one_job_is_named_at_a_time() {
        assert_eq!(job_of(&["a"]).as_deref(), Ok("default/a"));
        assert_eq!(job_of(&["job", "a/b"]).as_deref(), Ok("a/b"));
        assert_eq!(job_of(&["-n", "ops", "jobs", "a"]).as_deref(), Ok("ops/a"));
        let two = job_of(&["a", "b"]).unwrap_err();
        assert!(two.contains("one job at a time") && two.contains("\"a\" and \"b\""), "{two}");
        assert!(job_of(&[]).unwrap_err().contains("<JOB>"));
        assert!(job_of(&["job", "a", "b"]).is_err());
        let mut command = Cli::command();
        let trigger = command.find_subcommand_mut("trigger").unwrap();
        assert!(trigger.render_usage().to_string().contains("[job] <JOB>"), "{}", trigger.render_usage());
    }

    #[test]
    fn prose_in_help_is_wrapped_by_the_terminal_alone() {
        fn visit(command: &clap::Command) {
            let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for paragraph in text.split("\n\n").filter(|paragraph| !paragraph.contains("\n  ")) {
                assert!(!paragraph.contains('\n'), "{}: {paragraph}", command.get_name());
            }
            command.get_subcommands().for_each(visit);
        }
        visit(&Cli::command());
    }
}
