//! A queue as an executor reads it: deliveries, and the answers to them.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use model::name::QueueId;
use model::retry::Tally;
use model::run::AttemptEnd;
use model::time::Timestamp;

use crate::error::BusError;
use crate::order::{Order, OrderProblem};

/// How the reason of a `term` begins if a report of ours came before it; anything else comes from a bare client.
pub const REPORTED_TERM_PREFIX: &str = "ecron: ";

/// The wait before a message that nobody took is delivered again, by how often it was delivered. A pull that is under way
/// when its puller stops brings it back at once, as often as it has room: without a wait, a message would go to and fro
/// with one that is leaving. Doubling from a quarter of a second, five take longer than a pull.
#[must_use]
pub fn hand_back_delay(delivered: u32) -> Duration {
    const FIRST: Duration = Duration::from_millis(250);
    const DOUBLINGS_MAX: u32 = 6;
    FIRST * 2u32.pow(delivered.saturating_sub(1).min(DOUBLINGS_MAX))
}

/// What is noted of a message for its next delivery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    pub tally: Tally,
    /// How the attempts ended that executors noted, oldest first; long errors are cut, so that all fit. What is missing
    /// was lost with its executor.
    pub attempts: Vec<AttemptEnd>,
}

impl Notes {
    /// With one more attempt's end.
    #[must_use]
    pub fn after(&self, tally: Tally, end: AttemptEnd) -> Self {
        Self { tally, attempts: self.with(end) }
    }

    /// The attempts, and one more.
    #[must_use]
    pub fn with(&self, end: AttemptEnd) -> Vec<AttemptEnd> {
        let mut attempts = self.attempts.clone();
        attempts.push(end);
        attempts
    }
}

/// Puts back a message that nobody has started, for somebody else. It is noted, so that it counts as no lost attempt
/// however often it happens: no number of orderly leaves makes a dead letter. If that can't be noted, it goes back all the same.
pub async fn hand_back(delivery: &impl Delivery) -> Result<(), BusError> {
    let known = if delivery.delivered() > 1 { delivery.notes().await } else { Ok(Notes::default()) };
    let noted = match known {
        Ok(notes) => delivery.note(&Notes { tally: notes.tally.after_hand_back(), ..notes }).await,
        Err(problem) => Err(problem),
    };
    if let Err(problem) = noted {
        tracing::debug!(sequence = delivery.sequence(), %problem, "failed to note a message that is put back");
    }
    delivery.nak(hand_back_delay(delivery.delivered())).await
}

/// A run's message in the hands of an executor. Exactly one of `ack`, `nak` and `term` ends it; `in_progress` extends
/// the time to do so. A delivery that is dropped unanswered is delivered again after the ack wait.
pub trait Delivery: Send + Sync + 'static {
    /// What the headers say; a problem means that the message can't be carried out, ever.
    fn order(&self) -> &Result<Order, OrderProblem>;
    fn payload(&self) -> &Bytes;
    /// All headers as they came, for quarantine.
    fn raw_headers(&self) -> &BTreeMap<String, String>;
    fn subject(&self) -> &str;
    /// The message's sequence in the run stream.
    fn sequence(&self) -> u64;
    /// When the server stored it.
    fn stored_at(&self) -> Timestamp;
    /// How often this message has been delivered, this time included.
    fn delivered(&self) -> u32;

    /// Done. `Ok` once the server confirmed it.
    fn ack(&self) -> impl Future<Output = Result<(), BusError>> + Send;
    /// Done, without waiting for the server to confirm it: a round trip less for each message. If it is lost (the
    /// connection breaks in that moment), the message is delivered again after the ack wait, as if the executor had
    /// died right before `ack`; so it suits work whose outcome has been reported already.
    fn ack_unconfirmed(&self) -> impl Future<Output = Result<(), BusError>> + Send {
        self.ack()
    }
    /// Deliver again after `delay`.
    fn nak(&self, delay: Duration) -> impl Future<Output = Result<(), BusError>> + Send;
    /// Never deliver again (after it was parked in the dead-letter stream).
    fn term(&self, reason: &str) -> impl Future<Output = Result<(), BusError>> + Send;
    /// What was noted of this message's earlier deliveries; none of it if nothing was, or its order can't be read. It
    /// needn't be asked for at the first delivery.
    fn notes(&self) -> impl Future<Output = Result<Notes, BusError>> + Send;
    /// Notes, for the next delivery of this message, what became of those so far; `Ok` once it is stored. To be done
    /// before `nak`; without it an attempt counts as lost.
    fn note(&self, notes: &Notes) -> impl Future<Output = Result<(), BusError>> + Send;
    /// Still at it: restarts the ack wait.
    fn in_progress(&self) -> impl Future<Output = Result<(), BusError>> + Send;
}

pub trait QueueReader: Send + Sync + 'static {
    type Delivery: Delivery;

    /// Up to `limit` deliveries; waits up to `wait` for the first, then returns what there is. Creates the queue's
    /// consumer if it isn't there, and finds it again after a reconnect or a lost stream. The pull asks for no more
    /// than `limit`, so that messages aren't parked in a busy executor.
    fn fetch(
        &self,
        queue: &QueueId,
        limit: usize,
        wait: Duration,
    ) -> impl Future<Output = Result<Vec<Self::Delivery>, BusError>> + Send;

    /// The queue's ack wait: how long a silent executor keeps a message from the others.
    fn ack_wait(&self) -> Duration;
}
