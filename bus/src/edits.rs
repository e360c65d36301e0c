//! Edits, as executors learn of them: a planner announces each before it installs it, to the queue where runs of older
//! revisions may wait; an executor asks for them before it starts runs. Why that is enough: docs/adr/0042.

use std::future::Future;
use std::time::Duration;

use model::id::Revision;
use model::name::{JobId, QueueId};
use model::time::Timestamp;

use crate::error::BusError;

/// How long announcements are kept, at most.
pub const EDITS_AGE_MAX: Duration = Duration::from_secs(24 * 3_600);
/// Messages with announcements that are kept for one queue; the oldest go first.
pub const EDITS_KEPT_MAX: usize = 1_000;
/// Edits in one message.
pub const MESSAGE_EDITS_MAX: usize = 256;

/// A job has a newer revision, or is deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    pub job: JobId,
    /// Of the new spec, or of the delete marker.
    pub revision: Revision,
}

/// How far somebody has read the edits of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EditMark {
    pub sequence: u64,
    pub stored_at: Timestamp,
}

/// What was announced after a mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edits {
    /// In order.
    pub edits: Vec<Edit>,
    pub mark: Option<EditMark>,
    /// `None`: nothing after the mark is missing. Otherwise those announced before this instant may be.
    pub complete_since: Option<Timestamp>,
}

pub trait EditWriter: Send + Sync + 'static {
    /// Announces an edit to a queue; `Ok` once it is stored. It may be repeated.
    fn announce(&self, queue: &QueueId, edit: &Edit) -> impl Future<Output = Result<(), BusError>> + Send;
}

pub trait EditReader: Send + Sync + 'static {
    /// What was announced to a queue after a mark, or all that is kept. Whatever was stored before this was called is
    /// there.
    fn edits_after(
        &self,
        queue: &QueueId,
        mark: Option<EditMark>,
    ) -> impl Future<Output = Result<Edits, BusError>> + Send;
}
