//! Objects that aren't jobs: what jobs refer to, and what holds for many of them. Their kinds and full names.

use std::fmt;

use crate::name::{BackfillId, CalendarId, FullNameError, Name};

/// The kinds of object beside jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum ObjectKind {
    Calendar,
    Namespace,
    /// Made by a request of its own, not by a manifest.
    Backfill,
}

impl ObjectKind {
    /// As in `kind:` of a manifest.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Calendar => "Calendar",
            Self::Namespace => "Namespace",
            Self::Backfill => "Backfill",
        }
    }

    /// As in a sentence.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Calendar => "calendar",
            Self::Namespace => "namespace",
            Self::Backfill => "backfill",
        }
    }
}

/// The full name of an object that isn't a job.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKey {
    Calendar(CalendarId),
    Namespace(Name),
    Backfill(BackfillId),
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
        }
    }

    #[must_use]
    pub fn kind(&self) -> ObjectKind {
        match self {
            Self::Calendar(_) => ObjectKind::Calendar,
            Self::Namespace(_) => ObjectKind::Namespace,
            Self::Backfill(_) => ObjectKind::Backfill,
        }
    }

    /// The namespace that it is in, or that it is.
    #[must_use]
    pub fn namespace(&self) -> &Name {
        match self {
            Self::Calendar(id) => &id.namespace,
            Self::Backfill(id) => &id.namespace,
            Self::Namespace(name) => name,
        }
    }

    /// Without its kind: `billing/de-holidays`, `billing`.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Calendar(id) => id.to_string(),
            Self::Backfill(id) => id.to_string(),
            Self::Namespace(name) => name.to_string(),
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind().word(), self.name())
    }
}
