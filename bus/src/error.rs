//! How a bus operation can go wrong, in the three classes that callers must tell apart.

/// A bus operation that did not answer with a result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// The server understood and won't (stream full, message too large, no permission): nothing was changed.
    #[error("get the bus to accept it: {0}")]
    Refused(String),
    /// A compare-and-set met another revision than expected: nothing was changed, read again.
    #[error("write at the expected revision: somebody else wrote first")]
    Conflict,
    /// The server couldn't be reached: nothing was changed, try again later.
    #[error("reach the bus: {0}")]
    Failed(String),
    /// No answer in time: it may or may not have happened.
    #[error("hear from the bus in time (it may have happened): {0}")]
    Unknown(String),
}
