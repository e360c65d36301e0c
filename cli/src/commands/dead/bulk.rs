//! Redriving and purging: preview, question, then some letters at a time, no faster than asked for.

use std::io::{BufRead, IsTerminal, Write};
use std::time::Duration;

use ambient::Clock;
use bus::DeadLetters;
use bus::dead::StoredDeadLetter;
use bus::nats::NatsBus;
use console::letters::{chosen, groups};
use planner::api::dead::LETTERS_MAX;
use planner::api::types::{ErrorKind, LetterOutcome, LettersReply, LettersRequest};

use super::args::BulkArgs;
use super::filter::picked_by;
use crate::commands::who;
use crate::connect::ask;
use crate::failure::Failure;
use crate::output::{self, Table, brief};

/// Requests in a second: a rate is kept by spacing them.
const REQUESTS_PER_S: u32 = 10;
/// Groups in a preview; the others are counted.
const GROUPS_SHOWN: usize = 30;
/// Failures that are spelled out; the others are counted.
const FAILURES_SHOWN: usize = 20;
/// Numbers of letters that the audit spells out.
const NUMBERS_SPELLED: usize = 5;
/// Characters of the progress bar.
const BAR: usize = 30;

/// What is done with letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Redrive,
    Purge,
}

impl Deed {
    fn verb(self) -> &'static str {
        match self {
            Self::Redrive => "redrive",
            Self::Purge => "purge",
        }
    }

    fn done(self) -> &'static str {
        match self {
            Self::Redrive => "redriven",
            Self::Purge => "purged",
        }
    }
}

pub(super) async fn run(bus: &NatsBus, args: &BulkArgs, deed: Deed) -> Result<(), Failure> {
    let filter = picked_by(&args.filter, Clock::system().now())?;
    let verb = deed.verb();
    match (args.numbers.is_empty(), args.all || filter.is_narrow()) {
        (true, false) => {
            let hint = format!(
                "name letters by their numbers, or choose by filters, or say --all; see `ecron dead {verb} --help`"
            );
            return Err(Failure::input(hint));
        }
        (false, true) => return Err(Failure::input("give numbers or filters; not both")),
        (false, false) if !args.dry_run => {
            return carry_out(bus, args, deed, &args.numbers, None).await;
        }
        _ => {}
    }
    let letters = match args.numbers.as_slice() {
        [] => chosen(bus, &filter).await?,
        numbers => by_number(bus, numbers).await?,
    };
    if letters.is_empty() {
        return output::line("no dead letter is chosen");
    }
    preview(&letters)?;
    let count = letters.len();
    if args.dry_run {
        return output::line(format_args!("{count} letter(s) would be {} (dry run)", deed.done()));
    }
    if !args.yes && !agreed(&format!("{verb} {count} letter(s)?"))? {
        return Err(Failure::failed("nothing was done"));
    }
    let numbers: Vec<u64> = letters.iter().map(|stored| stored.number).collect();
    carry_out(bus, args, deed, &numbers, Some(filter.words())).await
}

async fn by_number(bus: &NatsBus, numbers: &[u64]) -> Result<Vec<StoredDeadLetter>, Failure> {
    let mut letters = Vec::new();
    for number in numbers {
        letters.extend(bus.letter(*number).await?);
    }
    Ok(letters)
}

/// Counts by job and error.
fn preview(letters: &[StoredDeadLetter]) -> Result<(), Failure> {
    let groups = groups(letters, |error| brief(error, 70));
    let mut table = Table::new(&["LETTERS", "JOB", "LAST ERROR"]);
    for ((job, error), count) in groups.iter().take(GROUPS_SHOWN) {
        table.row([count.to_string(), job.clone(), error.clone()]);
    }
    table.print("no dead letters")?;
    match groups.len().saturating_sub(GROUPS_SHOWN) {
        0 => Ok(()),
        more => output::line(format_args!("and {more} more groups")),
    }
}

fn agreed(question: &str) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::input(format!("{question} Say --yes if nobody can be asked")));
    }
    let mut terminal = std::io::stderr();
    write!(terminal, "{question} [y/N] ")?;
    terminal.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

async fn carry_out(
    bus: &NatsBus,
    args: &BulkArgs,
    deed: Deed,
    numbers: &[u64],
    target: Option<&str>,
) -> Result<(), Failure> {
    let clock = Clock::system();
    // As many in one request as a tenth of a second allows; a slow rate spaces single letters.
    let batch = usize::try_from(args.rate / REQUESTS_PER_S).unwrap_or(1).clamp(1, LETTERS_MAX);
    let began = clock.monotonic();
    let parts = numbers.len().div_ceil(batch);
    let operation = (parts > 1).then(|| format!("{}-{}", clock.now().as_ms(), std::process::id()));
    let said = target.map(str::to_owned).or_else(|| operation.as_ref().map(|_| spelled(numbers)));
    let mut progress =
        Progress { shown: target.is_some() && std::io::stderr().is_terminal(), done: 0, failures: vec![] };
    for (number, letters) in numbers.chunks(batch).enumerate() {
        let sent = u32::try_from(number * batch).unwrap_or(u32::MAX);
        let due = began + Duration::from_secs_f64(f64::from(sent) / f64::from(args.rate));
        clock.sleep(due.saturating_sub(clock.monotonic())).await;
        let request = LettersRequest {
            letters: letters.to_vec(),
            target: said.clone(),
            by: who(),
            operation: operation.clone(),
        };
        match ask::<_, LettersReply>(bus, deed.verb(), &request).await {
            Ok(reply) => progress.note(deed, reply.letters, target.is_none())?,
            Err(problem) => {
                progress.end();
                let done = progress.done;
                let text = format!(
                    "{done} of {} were {}; run the same command again to go on",
                    numbers.len(),
                    deed.done()
                );
                let failure = Failure::from(problem);
                return Err(failure.with_note(&text));
            }
        }
        progress.show(numbers.len());
    }
    progress.end();
    if target.is_some() {
        output::line(format_args!("{} letter(s) {}", progress.done, deed.done()))?;
    }
    progress.outcome(deed)
}

/// `3, 4, 5, 6, 7 and 12 more`.
fn spelled(numbers: &[u64]) -> String {
    let first: Vec<String> = numbers.iter().take(NUMBERS_SPELLED).map(ToString::to_string).collect();
    match numbers.len().saturating_sub(NUMBERS_SPELLED) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

struct Progress {
    shown: bool,
    done: usize,
    failures: Vec<String>,
}

impl Progress {
    fn note(&mut self, deed: Deed, letters: Vec<LetterOutcome>, each: bool) -> Result<(), Failure> {
        for LetterOutcome { letter, run, error } in letters {
            match (error, run) {
                (Some(problem), _) => {
                    let unknown =
                        if problem.kind == ErrorKind::Unknown { " (it may have happened)" } else { "" };
                    self.failures.push(format!("failed to {}{unknown}", problem.message));
                }
                (None, run) => {
                    self.done += 1;
                    if each {
                        let run = run.map(|run| format!(": run {run}")).unwrap_or_default();
                        output::line(format_args!("letter {letter} {}{run}", deed.done()))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn show(&self, total: usize) {
        if !self.shown {
            return;
        }
        let seen = self.done + self.failures.len();
        let full = BAR * seen / total.max(1);
        let bar = "#".repeat(full) + &"-".repeat(BAR - full);
        // A terminal that went away is no failure.
        let _closed = write!(std::io::stderr(), "\r[{bar}] {seen}/{total}, {} failed ", self.failures.len());
    }

    fn end(&self) {
        if self.shown {
            let _closed = writeln!(std::io::stderr());
        }
    }

    fn outcome(self, deed: Deed) -> Result<(), Failure> {
        if self.failures.is_empty() {
            return Ok(());
        }
        let count = self.failures.len();
        let mut text = format!("{count} letter(s) weren't {}", deed.done());
        for failure in self.failures.iter().take(FAILURES_SHOWN) {
            text.push_str(&format!("\n  {failure}"));
        }
        if count > FAILURES_SHOWN {
            text.push_str(&format!("\n  and {} more", count - FAILURES_SHOWN));
        }
        Err(Failure::failed(text))
    }
}
