//! A node that starts before its servers waits for them, as it does when they go away later. It says once what it waits
//! for, and again from time to time; a server that understood and won't have us is no reason to wait.

use std::str::FromStr;
use std::time::Duration;

use ambient::{Clock, Shutdown};
use bus::BusError;
use store::StoreError;

use crate::failure::Failure;

/// The wait after the first attempt to reach a server; it doubles with each further one.
const DELAY_FIRST: Duration = Duration::from_millis(100);
/// The longest wait between two attempts.
const DELAY_MAX: Duration = Duration::from_secs(2);
/// How often it is said that the wait goes on.
const SAY_INTERVAL: Duration = Duration::from_secs(30);

/// How long a node waits for servers that aren't there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectWait {
    Forever,
    AtMost(Duration),
}

impl FromStr for ConnectWait {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "forever" => Ok(Self::Forever),
            "0" => Ok(Self::AtMost(Duration::ZERO)),
            text => match crate::config::duration(text) {
                Ok(limit) => Ok(Self::AtMost(limit)),
                Err(problem) => Err(format!("{problem}; or `forever`, or 0")),
            },
        }
    }
}

impl ConnectWait {
    /// What is left of it; `None` once it is over.
    fn left(self, waited: Duration) -> Option<Duration> {
        match self {
            Self::Forever => Some(Duration::MAX),
            Self::AtMost(limit) => limit.checked_sub(waited).filter(|left| !left.is_zero()),
        }
    }
}

/// Why an attempt to reach a server came to nothing.
#[derive(Debug)]
pub(crate) enum Setback {
    /// Nobody answered: another attempt may do.
    Absent(Failure),
    /// Somebody answered, and no.
    Final(Failure),
}

impl From<BusError> for Setback {
    fn from(problem: BusError) -> Self {
        match problem {
            BusError::Failed(_) | BusError::Unknown(_) => Self::Absent(problem.into()),
            BusError::Refused(_) | BusError::Conflict => Self::Final(problem.into()),
        }
    }
}

impl From<StoreError> for Setback {
    fn from(problem: StoreError) -> Self {
        match problem {
            StoreError::Failed(_) | StoreError::Unknown(_) => Self::Absent(problem.into()),
            StoreError::Fenced | StoreError::Refused(_) | StoreError::Corrupt { .. } => {
                Self::Final(problem.into())
            }
        }
    }
}

impl From<Failure> for Setback {
    fn from(failure: Failure) -> Self {
        Self::Final(failure)
    }
}

impl From<Setback> for Failure {
    fn from(setback: Setback) -> Self {
        match setback {
            Setback::Absent(failure) | Setback::Final(failure) => failure,
        }
    }
}

/// Waits for servers while a node starts.
#[derive(Debug)]
pub(crate) struct Patience<'a> {
    pub(crate) wait: ConnectWait,
    pub(crate) clock: &'a Clock,
    pub(crate) shutdown: &'a Shutdown,
}

impl Patience<'_> {
    /// Attempts something until it succeeds. `None`: stopping was asked for meanwhile.
    pub(crate) async fn until_there<T>(
        &self,
        what: &str,
        mut attempt: impl AsyncFnMut() -> Result<T, Setback>,
    ) -> Result<Option<T>, Failure> {
        let began = self.clock.monotonic();
        let (mut delay, mut said_at) = (DELAY_FIRST, None);
        loop {
            let Some(outcome) = self.shutdown.unless_stopped(Box::pin(attempt())).await else {
                return Ok(None);
            };
            let waited = self.clock.monotonic().saturating_sub(began);
            let failure = match outcome {
                Ok(found) => {
                    if said_at.is_some() {
                        tracing::info!(waited_s = waited.as_secs(), "{what} is there");
                    }
                    return Ok(Some(found));
                }
                Err(Setback::Final(failure)) => return Err(failure),
                Err(Setback::Absent(failure)) => failure,
            };
            let Some(left) = self.wait.left(waited) else { return Err(failure) };
            if said_at.is_none_or(|at| waited.saturating_sub(at) >= SAY_INTERVAL) {
                let problem = failure.to_string().replace("\n ", ";");
                tracing::warn!(problem, waited_s = waited.as_secs(), "waiting for {what}");
                said_at = Some(waited);
            }
            self.shutdown.unless_stopped(self.clock.sleep(delay.min(left))).await;
            delay = (delay * 2).min(DELAY_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn absent() -> Setback {
        BusError::Failed("nobody".into()).into()
    }

    async fn attempts(
        wait: ConnectWait,
        outcomes: Vec<Result<u32, Setback>>,
    ) -> (Result<Option<u32>, Failure>, usize) {
        let (clock, shutdown) = (Clock::system(), Shutdown::new());
        let patience = Patience { wait, clock: &clock, shutdown: &shutdown };
        let (mut outcomes, mut count) = (outcomes.into_iter(), 0);
        let outcome = patience
            .until_there("the server", async || {
                count += 1;
                outcomes.next().unwrap_or_else(|| {
                    shutdown.stop();
                    Err(absent())
                })
            })
            .await;
        (outcome, count)
    }

    #[tokio::test]
    async fn an_absent_server_is_waited_for_and_one_that_refuses_is_not() {
        let refused = || Err(BusError::Refused("no".into()).into());
        let long = ConnectWait::AtMost(Duration::from_secs(60));
        let (outcome, count) = attempts(long, vec![Err(absent()), Err(absent()), Ok(7)]).await;
        assert_eq!((outcome.unwrap(), count), (Some(7), 3));
        let (outcome, count) = attempts(ConnectWait::Forever, vec![Err(absent()), refused()]).await;
        assert_eq!((outcome.is_err(), count), (true, 2));
        let (outcome, count) = attempts(ConnectWait::AtMost(Duration::ZERO), vec![Err(absent())]).await;
        assert_eq!((outcome.is_err(), count), (true, 1));
        let (outcome, count) = attempts(ConnectWait::Forever, vec![Err(absent())]).await;
        assert_eq!((outcome.unwrap(), count), (None, 2), "stopped while it waited");
    }

    #[test]
    fn a_wait_is_a_duration_or_forever() {
        assert_eq!("forever".parse(), Ok(ConnectWait::Forever));
        assert_eq!("0".parse(), Ok(ConnectWait::AtMost(Duration::ZERO)));
        assert_eq!("2m".parse(), Ok(ConnectWait::AtMost(Duration::from_secs(120))));
        assert!("soon".parse::<ConnectWait>().unwrap_err().contains("forever"));
        let wait = ConnectWait::AtMost(Duration::from_secs(5));
        assert_eq!(wait.left(Duration::from_secs(4)), Some(Duration::from_secs(1)));
        assert_eq!(wait.left(Duration::from_secs(5)), None);
    }
}
