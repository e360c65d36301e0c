//! `ecron dead`: dead letters.

use bus::DeadLetters;
use bus::dead::{DeadReason, Redriven, StoredDeadLetter};
use serde_json::{Value, json};

use crate::args::{DeadCommand, Servers};
use crate::connect::nats;
use crate::failure::Failure;
use crate::output::{self, Table, brief};

pub(crate) async fn run(servers: &Servers, command: DeadCommand) -> Result<(), Failure> {
    let bus = nats(servers).await?;
    match command {
        DeadCommand::List { from, limit, output } => {
            let letters = bus.letters(from, usize::from(limit)).await?;
            if output::structured(&letters.iter().map(as_json).collect::<Vec<_>>(), output)? {
                return Ok(());
            }
            let next = (letters.len() == usize::from(limit))
                .then(|| letters.last().map_or(0, |last| last.number + 1));
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
            if let Some(next) = next {
                output::line(format_args!("there may be more: ecron dead list --from {next}"))?;
            }
            Ok(())
        }
        DeadCommand::Show { number, output } => match bus.letter(number).await? {
            Some(letter) if output::structured(&as_json(&letter), output)? => Ok(()),
            Some(letter) => print(&letter),
            None => Err(not_found(number)),
        },
        DeadCommand::Redrive { numbers } => {
            for number in numbers {
                match bus.redrive(number).await? {
                    Redriven::Sent { run_id, .. } => {
                        output::line(format_args!("letter {number} redriven: run {run_id}"))?
                    }
                    Redriven::NotFound => return Err(not_found(number)),
                    Redriven::Unreadable { problem } => {
                        return Err(Failure::failed(format!(
                            "letter {number} can't run as it is: {problem}; publish it again by hand, then purge it"
                        )));
                    }
                }
            }
            Ok(())
        }
        DeadCommand::Purge { numbers } => {
            for number in numbers {
                if !bus.purge(number).await? {
                    return Err(not_found(number));
                }
                output::line(format_args!("letter {number} purged"))?;
            }
            Ok(())
        }
    }
}

fn not_found(number: u64) -> Failure {
    Failure::failed(format!("there is no dead letter {number}; see `ecron dead list`"))
}

fn reason(reason: DeadReason) -> &'static str {
    match reason {
        DeadReason::AttemptsExhausted => "attempts exhausted",
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

fn print(stored: &StoredDeadLetter) -> Result<(), Failure> {
    let letter = &stored.letter;
    output::line(format_args!("Number:    {}", stored.number))?;
    output::line(format_args!("Run:       {}", letter.id))?;
    output::line(format_args!("Subject:   {}", letter.subject))?;
    output::line(format_args!("Reason:    {}", reason(letter.reason)))?;
    output::line(format_args!("Attempts:  {}", letter.attempts))?;
    output::line(format_args!("Died:      {}", letter.died_at))?;
    output::line(format_args!("Error:     {}", letter.error))?;
    output::line("Headers:")?;
    for (name, value) in &letter.original_headers {
        output::line(format_args!("  {name}: {value}"))?;
    }
    output::line(format_args!("Payload:   {}", payload(&letter.payload)))
}
