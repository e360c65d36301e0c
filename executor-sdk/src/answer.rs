//! Answers: a report, a parked letter or an acknowledgement, repeated until the bus has it.

use std::future::Future;
use std::time::Duration;

use ambient::Clock;
use bus::BusError;
use model::retry::RetryPolicy;
use tokio_util::sync::CancellationToken;

/// How long an answer is repeated while the bus doesn't take it. A run that is done but can't be answered is worth
/// waiting for: the alternative is to do it again.
pub(crate) const ANSWER_PERSISTENCE: Duration = Duration::from_secs(300);

/// The pauses between those repetitions: from 100 ms, doubling, up to 5 s.
const ANSWER_BACKOFF: RetryPolicy = RetryPolicy {
    attempts: u32::MAX,
    initial: Duration::from_millis(100),
    factor: 2.0,
    max: Duration::from_secs(5),
    jitter: 0.2,
};

/// The bus didn't take an answer in all that time, or in the time that was left to drain. The message stays unanswered, so it comes again.
#[derive(Debug, PartialEq)]
pub(crate) struct Unanswered;

/// Repeats an operation until it succeeds, `ANSWER_PERSISTENCE` is over, or the executor has no time left.
pub(crate) async fn insist<T, Fut>(
    what: &'static str,
    run: &str,
    clock: &Clock,
    drained: &CancellationToken,
    mut operation: impl FnMut() -> Fut,
) -> Result<T, Unanswered>
where
    Fut: Future<Output = Result<T, BusError>>,
{
    let until = clock.monotonic().saturating_add(ANSWER_PERSISTENCE);
    let mut tries: u32 = 0;
    loop {
        let error = match operation().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        tries = tries.saturating_add(1);
        let pause = ANSWER_BACKOFF.delay(run, tries);
        let over = clock.monotonic().saturating_add(pause) > until;
        if over || drained.run_until_cancelled(clock.sleep(pause)).await.is_none() {
            tracing::error!(run, tries, %error, "failed to {what}; the message will be delivered again");
            return Err(Unanswered);
        }
        tracing::debug!(run, tries, %error, "failed to {what}; trying again");
    }
}
