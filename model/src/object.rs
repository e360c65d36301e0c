//! Objects that aren't jobs: what jobs refer to, and what holds for many of them. Their kinds and full names.

use std::fmt;

use crate::name::{BackfillId, CalendarId, FullNameError, Name, QueueId};

/// The kinds of object beside jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum ObjectKind {
    Calendar,
    Namespace,
    /// Made by a request of its own, not by a manifest.
    Backfill,
    Queue,
}

impl ObjectKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Calendar, Self::Namespace, Self::Queue, Self::Backfill];

    /// As in `kind:` of a manifest.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Calendar => "Calendar",
            Self::Namespace => "Namespace",
            Self::Backfill => "Backfill",
            Self::Queue => "Queue",
        }
    }

    /// As in a sentence.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Calendar => "calendar",
            Self::Namespace => "namespace",
            Self::Backfill => "backfill",
            Self::Queue => "queue",
        }
    }

    /// Whether its objects are in a namespace (a namespace isn't).
    #[must_use]
    pub fn is_in_namespace(self) -> bool {
        match self {
            Self::Calendar | Self::Queue | Self::Backfill => true,
            Self::Namespace => false,
        }
    }
}

/// The full name of an object that isn't a job.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKey {
    Calendar(CalendarId),
    Namespace(Name),
    Backfill(BackfillId),
    Queue(QueueId),
}

impl ObjectKey {
    /// Reads `billing/de-holidays`, or `billing` for a namespace.
    ///
    /// # Errors
    /// The rule that the text breaks.
    pub fn parse(kind: ObjectKind, text: &str) -> Result<Self, FullNameError> {
        match kind {
            ObjectKind::Calendar => text.parse().map(Self::Calendar),
            ObjectKind::Backfill => text.parse().map(Self::Backfill),
            ObjectKind::Namespace => Name::new(text).map(Self::Namespace).map_err(FullNameError::Name),
            ObjectKind::Queue => text.parse().map(Self::Queue),
        }
    }

    #[must_use]
    pub fn kind(&self) -> ObjectKind {
        match self {
            Self::Calendar(_) => ObjectKind::Calendar,
            Self::Namespace(_) => ObjectKind::Namespace,
            Self::Backfill(_) => ObjectKind::Backfill,
            Self::Queue(_) => ObjectKind::Queue,
        }
    }

    /// The namespace that it is in, or that it is.
    #[must_use]
    pub fn namespace(&self) -> &Name {
        match self {
            Self::Calendar(id) => &id.namespace,
            Self::Backfill(id) => &id.namespace,
            Self::Namespace(name) => name,
            Self::Queue(id) => &id.namespace,
        }
    }

    /// Without its kind: `billing/de-holidays`, `billing`.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Calendar(id) => id.to_string(),
            Self::Backfill(id) => id.to_string(),
            Self::Namespace(name) => name.to_string(),
            Self::Queue(id) => id.to_string(),
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind().word(), self.name())
    }
}
