//! Real servers at the pace of a clock that a test moves: what the server would let come again by its own clock comes again when the
//! test's clock says so, and a test can wait until nobody has anything left to do at the present instant.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ambient::Clock;
use anyhow::{Result, bail};
use bus::RunStream;
use bus::queue::Delivery;
use model::id::RunId;
use model::time::Timestamp;
use tokio::sync::watch;

/// How often whoever can go on is let go on before anybody is thought to rest.
const ROUNDS: usize = 50;
/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);
/// Who isn't done by then never is.
const STUCK_AFTER: Duration = Duration::from_secs(20);

/// What a message's executor is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    /// It does something that takes no time on the test's clock.
    Busy,
    /// It waits for an instant.
    Rests(Timestamp),
    /// It was put back, and is about to be delivered again.
    Comes,
}

#[derive(Debug, Default)]
struct Known {
    /// By sequence.
    messages: BTreeMap<u64, Stand>,
    sequences: BTreeMap<RunId, u64>,
}

/// The messages in the hands of executors. Clones share it.
#[derive(Clone, Debug)]
pub struct Pace {
    clock: Clock,
    known: Arc<Mutex<Known>>,
    /// Whether what executors report is heard: only while somebody waits for quiet, so that nothing ends while others are at work.
    hears: watch::Sender<bool>,
}

impl Pace {
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { clock, known: Arc::default(), hears: watch::Sender::new(false) }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn delivered(&self, delivery: &impl Delivery) {
        let mut known = self.known();
        known.messages.insert(delivery.sequence(), Stand::Busy);
        if let Ok(order) = delivery.order() {
            known.sequences.insert(order.run_id.clone(), delivery.sequence());
        }
    }

    /// Waits until executors may say something.
    pub(crate) async fn hearing(&self) {
        // The sender lives in the handle that is borrowed here.
        let _ = self.hears.subscribe().wait_for(|hears| *hears).await;
    }

    pub(crate) fn ended(&self, sequence: u64) {
        self.known().messages.remove(&sequence);
    }

    fn stands(&self, sequence: u64, stand: Stand) {
        if let Some(present) = self.known().messages.get_mut(&sequence) {
            *present = stand;
        }
    }

    /// Puts a message back after a delay of the test's clock. Its executor may be gone by then.
    pub(crate) fn put_back<D: Delivery>(&self, delivery: Arc<D>, delay: Duration) {
        let (pace, sequence) = (self.clone(), delivery.sequence());
        pace.stands(sequence, Stand::Rests(pace.clock.now().plus(delay)));
        tokio::spawn(async move {
            pace.clock.sleep(delay).await;
            pace.stands(sequence, Stand::Comes);
            // If the server isn't told, the message never comes, and whoever waits for that says so.
            let _ = delivery.nak(Duration::ZERO).await;
        });
    }

    /// A handler takes its time.
    pub async fn rest(&self, run: &RunId, duration: Duration) {
        let sequence = self.known().sequences.get(run).copied().unwrap_or_default();
        let rest = Rest { pace: self, sequence };
        self.stands(sequence, Stand::Rests(self.clock.now().plus(duration)));
        self.clock.sleep(duration).await;
        drop(rest);
    }

    /// Waits until nothing is left to do at this instant: every message of the run stream is in the hands of an executor, and
    /// each of those waits for a later instant.
    pub async fn quiet(&self, stream: &impl RunStream) -> Result<()> {
        self.hears.send_replace(true);
        let quiet = self.await_quiet(stream).await;
        self.hears.send_replace(false);
        quiet
    }

    async fn await_quiet(&self, stream: &impl RunStream) -> Result<()> {
        let begun = tokio::time::Instant::now();
        loop {
            for _ in 0..ROUNDS {
                tokio::task::yield_now().await;
            }
            let resting: Vec<u64> = self.known().messages.keys().copied().collect();
            for sequence in resting {
                // Somebody took it off the stream.
                if stream.stored_message_id(sequence).await?.is_none() {
                    self.ended(sequence);
                }
            }
            let stored = usize::try_from(stream.extent().await?.messages)?;
            let now = self.clock.now();
            {
                let known = self.known();
                let rests = |stand: &Stand| matches!(stand, Stand::Rests(until) if *until > now);
                if stored == known.messages.len() && known.messages.values().all(rests) {
                    return Ok(());
                }
                if begun.elapsed() > STUCK_AFTER {
                    bail!("at {now} {stored} runs are stored, and this is known of them: {known:?}");
                }
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}

/// Ends with the wait, also if that is broken off.
struct Rest<'a> {
    pace: &'a Pace,
    sequence: u64,
}

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        self.pace.stands(self.sequence, Stand::Busy);
    }
}
