//! `ecron dead`: dead letters.

pub(crate) mod args;
mod bulk;
mod filter;

use ambient::Clock;
use bus::DeadLetters;
use bus::dead::{DeadReason, StoredDeadLetter};
use bus::nats::NatsBus;
use console::letters;
use planner::api::types::{AttemptView, RunRequest, RunView};
use serde_json::{Value, json};

use crate::args::Servers;
use crate::commands::describe;
use crate::connect::{ask, nats};
use crate::failure::Failure;
use crate::output::{self, Table, brief};
use args::DeadCommand;
use bulk::Deed;
use filter::picked_by;

pub(crate) async fn run(servers: &Servers, command: DeadCommand) -> Result<(), Failure> {
    let bus = nats(servers).await?;
    match command {
        DeadCommand::List { from, limit, filter, output } => {
            let filter = picked_by(&filter, Clock::system().now())?;
            let (letters, next) = letters::page(&bus, &filter, from, usize::from(limit)).await?;
            if output::structured(&letters.iter().map(as_json).collect::<Vec<_>>(), output)? {
                return Ok(());
            }
            let mut table = Table::new(&["NUMBER", "RUN", "REASON", "ATTEMPTS", "DIED", "LAST ERROR"]);
            for StoredDeadLetter { number, letter } in letters {
                table.row([
                    number.to_string(),
                    letter.id,
                    reason(letter.reason).into(),
                    letter.attempts.to_string(),
                    letter.died_at.to_string(),
                    brief(&letter.error, 60),
                ]);
            }
            table.print("no dead letters")?;
            match next {
                Some(next) => output::line(format_args!("there may be more: add --from {next}")),
                None => Ok(()),
            }
        }
        DeadCommand::Show { number, output } => {
            let Some(letter) = bus.letter(number).await? else { return Err(not_found(number)) };
            let attempts = attempts_of(&bus, &letter).await;
            let mut json = as_json(&letter);
            if let Some(fields) = json.as_object_mut() {
                fields.insert("attemptLog".into(), json!(attempts));
            }
            if output::structured(&json, output)? { Ok(()) } else { print(&letter, &attempts) }
        }
        DeadCommand::Redrive(args) => bulk::run(&bus, &args, Deed::Redrive).await,
        DeadCommand::Purge(args) => bulk::run(&bus, &args, Deed::Purge).await,
    }
}

/// All attempts of a letter's run, also of earlier redrives, while its record is kept; then those in the letter.
async fn attempts_of(bus: &NatsBus, stored: &StoredDeadLetter) -> Vec<AttemptView> {
    let run: Result<RunView, _> = ask(bus, "run", &RunRequest { run: stored.letter.id.clone() }).await;
    match run {
        Ok(run) if !run.attempt_log.is_empty() => run.attempt_log,
        _ => letters::attempts(&stored.letter),
    }
}

fn not_found(number: u64) -> Failure {
    Failure::failed(format!("there is no dead letter {number}; see `ecron dead list`"))
}

fn reason(reason: DeadReason) -> &'static str {
    match reason {
        DeadReason::AttemptsExhausted => "attempts exhausted",
        DeadReason::Permanent => "permanent failure",
        DeadReason::Poison => "poison",
        DeadReason::Undecodable => "undecodable",
        DeadReason::MalformedHeaders => "malformed headers",
        DeadReason::Terminated => "terminated",
        DeadReason::DeadlineExceeded => "deadline exceeded",
    }
}

/// The payload as JSON if it is, as text if it is, else as bytes in base64.
fn payload(bytes: &[u8]) -> Value {
    use base64::Engine;
    if let Ok(value) = serde_json::from_slice(bytes) {
        return value;
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({ "base64": base64::engine::general_purpose::STANDARD.encode(bytes) }),
    }
}

fn as_json(stored: &StoredDeadLetter) -> Value {
    let letter = &stored.letter;
    json!({
        "number": stored.number, "run": letter.id, "subject": letter.subject, "reason": reason(letter.reason),
        "error": letter.error, "attempts": letter.attempts, "diedAt": letter.died_at.to_string(),
        "headers": letter.original_headers, "payload": payload(&letter.payload),
    })
}

fn print(stored: &StoredDeadLetter, attempts: &[AttemptView]) -> Result<(), Failure> {
    let letter = &stored.letter;
    output::line(format_args!("Number:    {}", stored.number))?;
    output::line(format_args!("Run:       {}", letter.id))?;
    output::line(format_args!("Subject:   {}", letter.subject))?;
    output::line(format_args!("Reason:    {}", reason(letter.reason)))?;
    output::line(format_args!("Attempts:  {}", letter.attempts))?;
    output::line(format_args!("Died:      {}", letter.died_at))?;
    output::line(format_args!("Error:     {}", letter.error))?;
    describe::print_attempts(attempts)?;
    output::line("Headers:")?;
    for (name, value) in &letter.original_headers {
        output::line(format_args!("  {name}: {value}"))?;
    }
    output::line(format_args!("Payload:   {}", payload(&letter.payload)))
}
