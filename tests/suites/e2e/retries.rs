//! Attempts that fail: retried as the policy says, and dead-lettered once when it gives up.

use std::sync::Arc;
use std::time::Duration;

use harness::up::{Slot, Up};
use harness::witness::Begun;

use crate::jobs::triggered;

static UP: Slot = Slot::new();

async fn up() -> anyhow::Result<Arc<Up>> {
    Up::shared(&UP).await
}

const DEADLINE: Duration = Duration::from_secs(60);
/// How much later than the policy says an attempt may begin: the way through the server and a process to start.
const SLACK_MS: i64 = 2_500;

fn delays(begun: &[Begun]) -> Vec<i64> {
    begun.windows(2).map(|pair| pair[1].began_ms - pair[0].began_ms).collect()
}

#[tokio::test]
async fn a_run_that_fails_twice_then_succeeds_has_three_attempts_and_one_entry() -> anyhow::Result<()> {
    let up = up().await?;
    let (cli, witness) = (up.cli(), up.witness("flaky"));
    let shell = format!("{}\ntest \"$ECRON_ATTEMPT\" -ge 3", witness.line());
    let retry = "retry: {attempts: 5, initial: 1s, factor: 3, max: 30s, jitter: 0}";
    cli.apply(&triggered("retries/flaky", &shell, &[retry])).await?;
    let run = cli.json(&["trigger", "retries/flaky", "--wait", "--timeout", "60s"]).await?;
    assert_eq!((run["state"].as_str(), run["attempts"].as_u64()), (Some("succeeded"), Some(3)), "{run:#}");

    let begun = witness.begun()?;
    assert_eq!(begun.iter().map(|begun| begun.attempt).collect::<Vec<_>>(), [1, 2, 3], "{begun:#?}");
    assert!(
        begun.iter().all(|each| each.run == begun[0].run && each.due_ms == begun[0].due_ms),
        "{begun:#?}"
    );
    for (delay_ms, policy_ms) in delays(&begun).into_iter().zip([1_000, 3_000]) {
        assert!((policy_ms..policy_ms + SLACK_MS).contains(&delay_ms), "{delay_ms} ms: {begun:#?}");
    }
    let runs = cli.runs("retries/flaky").await?;
    assert_eq!(runs.len(), 1, "{runs:#?}");
    assert!(cli.letters().await?.iter().all(|letter| !letter.run.starts_with("retries/flaky@")));
    Ok(())
}

#[tokio::test]
async fn a_run_that_always_fails_is_one_dead_letter_and_a_redrive_runs_it_again() -> anyhow::Result<()> {
    let up = up().await?;
    let (cli, witness) = (up.cli(), up.witness("broken"));
    let repaired = up.folder().join("repaired");
    let shell = format!(
        "{}\nif test -e '{}'; then exit 0; fi\necho \"out of paper\" >&2\nexit 7",
        witness.line(),
        repaired.display()
    );
    let retry = "retry: {attempts: 3, initial: 500ms, factor: 1, jitter: 0}";
    cli.apply(&triggered("retries/broken", &shell, &[retry])).await?;
    let answer = cli.run(&["trigger", "retries/broken", "--wait", "--timeout", "60s"]).await?;
    assert_eq!(answer.code, Some(1), "a run that isn't successful is exit code 1: {answer:?}");

    let ours = |letter: &harness::cli::Letter| letter.run.starts_with("retries/broken@");
    let letters =
        cli.wait_for_letters("there is a letter", DEADLINE, ours, |letters| !letters.is_empty()).await?;
    let [letter] = letters.as_slice() else { anyhow::bail!("expected one letter: {letters:#?}") };
    assert_eq!((letter.attempts, letter.reason.as_str()), (3, "attempts exhausted"), "{letter:#?}");
    assert!(letter.error.contains("exit code 7") && letter.error.contains("out of paper"), "{letter:#?}");
    assert_eq!(witness.begun()?.len(), 3);
    let runs = cli.runs("retries/broken").await?;
    let [run] = runs.as_slice() else { anyhow::bail!("expected one run: {runs:#?}") };
    assert_eq!((run.state.as_str(), run.attempts), ("dead-lettered", 3), "{run:#?}");
    assert!(run.error.as_deref().is_some_and(|error| error.contains("out of paper")), "{run:#?}");
    let shown = cli.ok(&["dead", "show", &letter.number.to_string()]).await?;
    assert!(shown.contains("out of paper") && shown.contains(&letter.run), "{shown}");

    // Redriven while it is still broken: all attempts again, and again one letter.
    cli.ok(&["dead", "redrive", &letter.number.to_string()]).await?;
    let first = letter.number;
    let letters = cli
        .wait_for_letters("there is a new letter", DEADLINE, ours, |letters| {
            letters.iter().any(|letter| letter.number != first)
        })
        .await?;
    let [letter] = letters.as_slice() else { anyhow::bail!("expected one letter: {letters:#?}") };
    assert_eq!(witness.begun()?.len(), 6, "{:#?}", witness.begun()?);

    // Redriven after the repair: it succeeds, the letter is gone, and the history says so.
    std::fs::write(&repaired, "")?;
    cli.ok(&["dead", "redrive", &letter.number.to_string()]).await?;
    let runs = cli
        .wait_for_runs("retries/broken", "say that it succeeded", DEADLINE, |runs| {
            runs.iter().any(|run| run.state == "succeeded")
        })
        .await?;
    let [run] = runs.as_slice() else { anyhow::bail!("expected one run: {runs:#?}") };
    assert_eq!(run.generation, 2, "{run:#?}");
    assert_eq!(witness.begun()?.len(), 7, "{:#?}", witness.begun()?);
    assert!(!cli.letters().await?.iter().any(ours));
    let again = cli.run(&["dead", "redrive", &letter.number.to_string()]).await?;
    assert_eq!(again.code, Some(1), "a letter can be redriven once: {again:?}");
    Ok(())
}

#[tokio::test]
async fn an_attempt_beyond_its_timeout_is_ended_with_all_its_processes() -> anyhow::Result<()> {
    let up = up().await?;
    let (cli, witness) = (up.cli(), up.witness("slow"));
    let left = up.folder().join("left-behind");
    let shell = format!("{}\n(sleep 8; touch '{}') &\nsleep 600", witness.line(), left.display());
    let more = ["timeout: 1s", "retry: {attempts: 2, initial: 500ms, jitter: 0}"];
    cli.apply(&triggered("retries/slow", &shell, &more)).await?;
    let answer = cli.run(&["trigger", "retries/slow", "--wait", "--timeout", "60s", "-o", "json"]).await?;
    assert_eq!(answer.code, Some(1), "{answer:?}");
    let runs = cli.runs("retries/slow").await?;
    let [run] = runs.as_slice() else { anyhow::bail!("expected one run: {runs:#?}") };
    assert_eq!((run.state.as_str(), run.attempts), ("dead-lettered", 2), "{run:#?}");
    assert_eq!(run.last_outcome.as_deref(), Some("timed-out"), "{run:#?}");
    let begun = witness.begun()?;
    assert_eq!(begun.len(), 2, "{begun:#?}");
    harness::witness::until_ms(begun[1].began_ms + 9_000).await;
    assert!(!left.exists(), "a process of the group outlived its attempt");
    Ok(())
}
