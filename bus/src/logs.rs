//! Logs: what attempts say while they are at work, a line each, kept for a week.

use std::future::Future;

use model::id::RunId;
use model::name::QueueId;
use model::run::Generation;
use model::time::Timestamp;

use crate::error::BusError;

/// One line of an attempt's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    pub at: Timestamp,
    /// Where it comes from, if that isn't the handler itself: `stdout`, `stderr`.
    pub from: Option<String>,
    pub text: String,
}

/// Some lines of an attempt, in order, sent together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogBatch {
    pub run_id: RunId,
    pub queue: QueueId,
    pub generation: Generation,
    pub attempt: u32,
    /// The attempt's batches are numbered from 0.
    pub number: u32,
    pub lines: Vec<LogLine>,
}

/// A batch as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLogBatch {
    /// Its sequence in the log stream.
    pub sequence: u64,
    pub batch: LogBatch,
}

/// Batches in one page.
pub const LOG_PAGE_MAX: usize = 256;

pub trait LogWriter: Send + Sync + 'static {
    /// Stores a batch; `Ok` once it is. Repeating it (same run, generation, attempt and number) is harmless.
    fn log(&self, batch: &LogBatch) -> impl Future<Output = Result<(), BusError>> + Send;
}

pub trait LogReader: Send + Sync + 'static {
    /// A run's batches with a sequence of at least `from`, in the order in which they came, at most `limit`.
    fn log_batches(
        &self,
        run_id: &RunId,
        from: u64,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<StoredLogBatch>, BusError>> + Send;
}
