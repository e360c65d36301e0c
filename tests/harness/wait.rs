//! Waiting for a condition, never for time to pass.

use std::future::Future;
use std::time::Duration;

use anyhow::bail;
use tokio::time::Instant;

/// Between two looks.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// What one look saw.
#[derive(Debug)]
pub enum Look<T> {
    Enough(T),
    /// And what there was instead, for the message if it stays so.
    NotYet(String),
}

/// `Enough` if a condition holds, else what was seen.
pub fn seen<T: std::fmt::Debug>(enough: bool, what: T) -> anyhow::Result<Look<T>> {
    Ok(if enough { Look::Enough(what) } else { Look::NotYet(format!("{what:#?}")) })
}

/// Looks until it is enough. A look that fails counts as "not yet": servers come and go in these tests.
pub async fn wait_until<T, F, Fut>(deadline: Duration, what: &str, mut look: F) -> anyhow::Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = anyhow::Result<Look<T>>>,
{
    let began = Instant::now();
    loop {
        let last = match look().await {
            Ok(Look::Enough(found)) => return Ok(found),
            Ok(Look::NotYet(state)) => state,
            Err(problem) => format!("{problem:#}"),
        };
        if began.elapsed() > deadline {
            bail!("wait until {what}: not within {} s; the last look saw:\n{last}", deadline.as_secs());
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
