//! From a job's spec to the message of one of its runs.

use bus::order::{Order, Publication};
use bus::wire::message_id;
use model::id::Occurrence;
use model::run::Generation;
use model::time::Timestamp;

use crate::jobs::KnownJob;

/// The publication of one occurrence at `now`, from when its deadline counts. `republished` counts repairs: each has a message id of its own.
#[must_use]
pub fn publication(
    occurrence: Occurrence,
    job: &KnownJob,
    key: &[u8; 16],
    generation: Generation,
    republished: u32,
    now: Timestamp,
) -> Publication {
    let order = Order::of_job(&job.spec, job.revision, occurrence, generation, now);
    let message_id = message_id(key, &order.run_id, generation, republished);
    Publication { order, message_id, payload: job.payload.clone() }
}
