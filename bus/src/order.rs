//! An order: one run as it is published to its queue, and as an executor reads it.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use model::id::{Occurrence, Revision, RunId};
use model::name::QueueId;
use model::retry::RetryPolicy;
use model::run::Generation;
use model::spec::{JobSpec, Work};
use model::time::Timestamp;

/// What the payload is, so that only the built-in executor runs commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WorkKind {
    /// The user's own bytes, for the user's handler.
    Payload,
    /// An `ExecSpec` in JSON. Believed only on `ecron.run.…`, where nobody but dispatchers may publish.
    Exec,
    /// An `HttpSpec` in JSON. Likewise.
    Http,
}

/// Everything that the headers of a run message say.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    pub run_id: RunId,
    pub queue: QueueId,
    pub kind: WorkKind,
    /// The spec's revision; `Revision(0)` for ad-hoc work.
    pub revision: Revision,
    pub generation: Generation,
    /// The instant from which lateness counts: due, or published (ad hoc).
    pub due_at: Timestamp,
    /// Attempts that were made before this message was published.
    pub attempt_base: u32,
    pub timeout: Duration,
    pub retry: RetryPolicy,
    /// Not started by then: skipped.
    pub start_by: Option<Timestamp>,
    /// The whole run must have ended by then; no attempt goes on beyond it.
    pub deadline: Option<Timestamp>,
    /// The user's own headers.
    pub headers: BTreeMap<String, String>,
}

impl Order {
    /// The order of a job's occurrence that is published at an instant, from when its deadline counts.
    #[must_use]
    pub fn of_job(
        spec: &JobSpec,
        revision: Revision,
        occurrence: Occurrence,
        generation: Generation,
        published_at: Timestamp,
    ) -> Self {
        let due_at = occurrence.due_at;
        Self {
            run_id: RunId::Occurrence(occurrence),
            queue: spec.queue.clone(),
            kind: match spec.work {
                Work::Payload(_) | Work::Bytes(_) => WorkKind::Payload,
                Work::Exec(_) => WorkKind::Exec,
                Work::Http(_) => WorkKind::Http,
            },
            revision,
            generation,
            due_at,
            attempt_base: 0,
            timeout: spec.timeout,
            retry: spec.retry,
            start_by: spec.starting_deadline.map(|deadline| due_at.plus(deadline)),
            deadline: spec.deadline.map(|deadline| published_at.max(due_at).plus(deadline)),
            headers: spec.headers.clone(),
        }
    }
}

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

/// An order ready to be published.
#[derive(Clone, Debug, PartialEq)]
pub struct Publication {
    pub order: Order,
    /// `Nats-Msg-Id`: see `wire::message_id`.
    pub message_id: String,
    pub payload: Bytes,
}

/// Why the headers of a message on a run or submit subject are no order. Reads after "failed to".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("read header {header}: {problem}")]
pub struct OrderProblem {
    pub header: String,
    pub problem: String,
}
