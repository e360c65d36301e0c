//! How a store operation can go wrong, in the three classes that callers must tell apart.

/// A store operation that did not answer with a result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The caller's lease isn't the newest (or its shard's state was wiped): nothing was changed, stop acting.
    #[error("act for a shard: its lease belongs to somebody else by now")]
    Fenced,
    /// The store understood and won't (out of memory, read-only, wrong type, no permission): nothing was changed.
    #[error("get the store to accept it: {0}")]
    Refused(String),
    /// The store couldn't be reached, or is still loading: nothing was changed, try again later.
    #[error("reach the store: {0}")]
    Failed(String),
    /// No answer in time: it may or may not have happened. Every operation is safe to repeat, but for
    /// `insert`, which would insert another.
    #[error("hear from the store in time (it may have happened): {0}")]
    Unknown(String),
    /// A stored value can't be read. It is left as it is.
    #[error("read a stored value: {key}: {problem}")]
    Corrupt { key: String, problem: String },
}
