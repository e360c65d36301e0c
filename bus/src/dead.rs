//! Dead letters: messages that no policy will retry, kept until somebody redrives or purges them.

use std::collections::BTreeMap;
use std::future::Future;

use bytes::Bytes;
use model::id::{Revision, RunId};
use model::run::{AttemptEnd, Generation};
use model::time::Timestamp;

use crate::error::BusError;

/// Why a message is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeadReason {
    /// Its last attempt failed.
    AttemptsExhausted,
    /// An attempt failed in a way that trying again can't help, however many attempts were left.
    Permanent,
    /// Executors died with it too often.
    Poison,
    /// Its headers or body can't be read.
    Undecodable,
    /// A publisher's ad-hoc headers are malformed.
    MalformedHeaders,
    /// A bare client ended it by `term`.
    Terminated,
    /// The whole run was to have ended by an instant that came first.
    DeadlineExceeded,
}

/// A message on its way into the dead-letter stream: the original, and what happened to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The run's id if it could be read, else the original message's stream and sequence.
    pub id: String,
    /// The subject that it came on, and, if it was a run, where a redrive sends it.
    pub subject: String,
    pub reason: DeadReason,
    pub error: String,
    pub attempts: u32,
    /// How its attempts ended, oldest first, as far as executors of ours noted it; long errors are cut, so that all fit.
    pub attempt_log: Vec<AttemptEnd>,
    pub died_at: Timestamp,
    pub original_headers: BTreeMap<String, String>,
    pub payload: Bytes,
}

/// A dead letter as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDeadLetter {
    /// Its sequence in the dead-letter stream: its number for `show`, `redrive` and `purge`.
    pub number: u64,
    pub letter: DeadLetter,
}

/// What a redrive did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redriven {
    /// Published again under the next generation (or, ad hoc, as a new message), and no longer a dead letter.
    Sent { run_id: RunId, revision: Revision, generation: Generation, sequence: u64 },
    /// No letter with that number.
    NotFound,
    /// It can't run as it is: its headers can't be read.
    Unreadable { problem: String },
}

pub trait DeadLetters: Send + Sync + 'static {
    /// Parks a message; `Ok` once it is stored. Idempotent by id, generation and reason.
    fn park(&self, letter: &DeadLetter) -> impl Future<Output = Result<u64, BusError>> + Send;

    /// Letters with a number of at least `from`, oldest first, at most `limit`.
    fn letters(
        &self,
        from: u64,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<StoredDeadLetter>, BusError>> + Send;

    fn letter(&self, number: u64) -> impl Future<Output = Result<Option<StoredDeadLetter>, BusError>> + Send;

    /// Sends a letter's message to its queue again, as the run's next generation; the letter stays. Doing it again
    /// publishes nothing twice (message id by letter number).
    fn resend(&self, stored: &StoredDeadLetter) -> impl Future<Output = Result<Redriven, BusError>> + Send;

    /// `resend`, then the letter is removed. A crash in between leaves the letter.
    fn redrive(&self, number: u64) -> impl Future<Output = Result<Redriven, BusError>> + Send {
        async move {
            let Some(stored) = self.letter(number).await? else { return Ok(Redriven::NotFound) };
            let redriven = self.resend(&stored).await?;
            if matches!(redriven, Redriven::Sent { .. }) {
                self.purge(number).await?;
            }
            Ok(redriven)
        }
    }

    /// Removes a letter; `false` if there is none.
    fn purge(&self, number: u64) -> impl Future<Output = Result<bool, BusError>> + Send;
}
