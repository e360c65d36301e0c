//! The barrier: whoever can't tell whether a publish arrived lets the outcomes catch up first.
//!
//! JetStream drops a copy of a message that is stored or whose id it remembers; but after a restart it has forgotten
//! the ids of acknowledged messages (design §4, measured). An acknowledged run has an outcome, though, and settling it
//! takes its entry out of the plan. So: every outcome up to now is settled, then what is left may be published again.

use std::sync::Arc;
use std::time::Duration;

use ambient::Clock;
use bus::{BusError, EventReader};
use tokio::sync::Mutex;

/// How often the settlers' progress is looked at.
const BARRIER_POLL: Duration = Duration::from_millis(50);
/// How long one wait lasts before the caller looks around (shutdown, lost lease) and waits again.
const BARRIER_WAIT_MAX: Duration = Duration::from_secs(2);

/// The barrier of one dispatcher. All its shards meet it at once after a takeover or a reconnect, so one wait serves
/// everybody who came before it began.
#[derive(Clone, Debug)]
pub struct Barrier {
    clock: Clock,
    /// When the newest wait that was passed had begun.
    passed: Arc<Mutex<Option<Duration>>>,
}

impl Barrier {
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { clock, passed: Arc::default() }
    }

    /// Waits until every event that is stored now has been settled by somebody. `false`: not yet.
    pub async fn pass<B: EventReader>(&self, bus: &B) -> Result<bool, BusError> {
        let came_at = self.clock.monotonic();
        let mut passed = self.passed.lock().await;
        if passed.is_some_and(|began_at| began_at >= came_at) {
            return Ok(true);
        }
        let began_at = self.clock.monotonic();
        let caught_up = outcomes_caught_up(bus, &self.clock).await?;
        if caught_up {
            *passed = Some(began_at);
        }
        Ok(caught_up)
    }
}

async fn outcomes_caught_up<B: EventReader>(bus: &B, clock: &Clock) -> Result<bool, BusError> {
    let progress = bus.event_progress().await?;
    let target = progress.last_sequence;
    if progress.settled_until >= target {
        return Ok(true);
    }
    let give_up_at = clock.monotonic() + BARRIER_WAIT_MAX;
    while clock.monotonic() < give_up_at {
        clock.sleep(BARRIER_POLL).await;
        if bus.event_progress().await?.settled_until >= target {
            return Ok(true);
        }
    }
    Ok(false)
}
