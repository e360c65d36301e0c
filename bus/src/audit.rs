//! The audit: who asked for what, and when. Kept in the event stream, seven days.

use std::future::Future;

use model::time::Timestamp;

use crate::error::BusError;

/// One thing that somebody had done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    pub at: Timestamp,
    /// Who asked, as they said themselves: `user@host`.
    pub by: Option<String>,
    /// The verb: `apply`, `delete`, `pause`, `redrive`, …
    pub action: String,
    /// What it was done to: a job, a queue, a run, or a filter in words.
    pub target: String,
    /// How many of them.
    pub count: Option<u64>,
    pub detail: Option<String>,
}

/// Records in one answer of `audits`.
pub const AUDITS_MAX: usize = 10_000;

pub trait AuditLog: Send + Sync + 'static {
    /// Writes a record; `Ok` once it is stored.
    fn audit(&self, record: &AuditRecord) -> impl Future<Output = Result<(), BusError>> + Send;

    /// The records since an instant, oldest first; of very many the first `AUDITS_MAX`.
    fn audits(&self, since: Timestamp) -> impl Future<Output = Result<Vec<AuditRecord>, BusError>> + Send;
}
