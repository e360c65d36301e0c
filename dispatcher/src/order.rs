//! From a job's spec to the message of one of its runs.

use bus::order::{Order, Publication, WorkKind};
use bus::wire::message_id;
use bytes::Bytes;
use model::id::{Occurrence, RunId};
use model::run::Generation;
use model::spec::Work;
use model::time::Timestamp;

use crate::jobs::KnownJob;

/// The message body of a job's runs.
#[must_use]
pub fn body(work: &Work) -> Bytes {
    match work {
        Work::Payload(value) => Bytes::from(value.to_string()),
        Work::Bytes(bytes) => Bytes::from(bytes.clone()),
        // Neither form holds anything that JSON can't say, so writing it can't fail.
        Work::Exec(spec) => Bytes::from(serde_json::to_vec(spec).unwrap_or_default()),
        Work::Http(spec) => Bytes::from(serde_json::to_vec(spec).unwrap_or_default()),
    }
}

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
    let spec = &job.spec;
    let due_at = occurrence.due_at;
    let run_id = RunId::Occurrence(occurrence);
    let message_id = message_id(key, &run_id, generation, republished);
    let order = Order {
        run_id,
        queue: spec.queue.clone(),
        kind: match spec.work {
            Work::Payload(_) | Work::Bytes(_) => WorkKind::Payload,
            Work::Exec(_) => WorkKind::Exec,
            Work::Http(_) => WorkKind::Http,
        },
        revision: job.revision,
        generation,
        due_at,
        attempt_base: 0,
        timeout: spec.timeout,
        retry: spec.retry,
        start_by: spec.starting_deadline.map(|deadline| due_at.plus(deadline)),
        deadline: spec.deadline.map(|deadline| now.max(due_at).plus(deadline)),
        headers: spec.headers.clone(),
    };
    Publication { order, message_id, payload: job.payload.clone() }
}
