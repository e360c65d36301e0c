//! Overlap: what happens to an occurrence that falls due while earlier runs of its job are under way.

/// The policy of a job. Kubernetes' `Forbid` coalesces, although users take it for `skip`: ours have names of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Overlap {
    /// It starts beside them.
    #[default]
    Allow,
    /// It never runs.
    Skip,
    /// It waits; if one waits already, the newer one takes its place.
    QueueOne,
    /// It waits behind those that wait already, up to `OVERLAP_WAITING_MAX`.
    QueueAll,
    /// The earlier runs are cancelled; it starts when they have ended.
    Replace,
}

impl Overlap {
    /// The word of manifests, records and output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Skip => "skip",
            Self::QueueOne => "queue-one",
            Self::QueueAll => "queue-all",
            Self::Replace => "replace",
        }
    }
}
