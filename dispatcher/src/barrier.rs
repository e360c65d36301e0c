//! The barrier: whoever can't tell whether a publish arrived lets the outcomes catch up first.
//!
//! JetStream drops a copy of a message that is stored or whose id it remembers; but after a restart it has forgotten
//! the ids of acknowledged messages (design §4, measured). An acknowledged run has an outcome, though, and settling it
//! takes its entry out of the plan. So: every outcome up to now is settled, then what is left may be published again.

use std::time::Duration;

use ambient::Clock;
use bus::{BusError, EventReader};

/// How often the settlers' progress is looked at.
const BARRIER_POLL: Duration = Duration::from_millis(20);
/// How long one wait lasts before the caller looks around (shutdown, lost lease) and waits again.
const BARRIER_WAIT_MAX: Duration = Duration::from_secs(2);

/// Waits until every event that is stored now has been settled by somebody. `false`: not yet.
pub async fn outcomes_caught_up<B: EventReader>(bus: &B, clock: &Clock) -> Result<bool, BusError> {
    let target = bus.event_progress().await?.last_sequence;
    let give_up_at = clock.monotonic() + BARRIER_WAIT_MAX;
    loop {
        if bus.event_progress().await?.settled_until >= target {
            return Ok(true);
        }
        if clock.monotonic() >= give_up_at {
            return Ok(false);
        }
        clock.sleep(BARRIER_POLL).await;
    }
}
