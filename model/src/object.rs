//! Objects that aren't jobs: what jobs refer to, and what holds for many of them. Their kinds and full names.

use std::fmt;

use crate::name::{CalendarId, FullNameError, Name};

/// The kinds of object beside jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum ObjectKind {
    Calendar,
    Namespace,
}

impl ObjectKind {
    /// As in `kind:` of a manifest.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Calendar => "Calendar",
            Self::Namespace => "Namespace",
        }
    }

    /// As in a sentence.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Calendar => "calendar",
            Self::Namespace => "namespace",
        }
    }
}

/// The full name of an object that isn't a job.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKey {
    Calendar(CalendarId),
    Namespace(Name),
}

impl ObjectKey {
    /// Reads `billing/de-holidays`, or `billing` for a namespace.
    ///
    /// # Errors
    /// The rule that the text breaks.
    pub fn parse(kind: ObjectKind, text: &str) -> Result<Self, FullNameError> {
        match kind {
            ObjectKind::Calendar => text.parse().map(Self::Calendar),
            ObjectKind::Namespace => Name::new(text).map(Self::Namespace).map_err(FullNameError::Name),
        }
    }

    #[must_use]
    pub fn kind(&self) -> ObjectKind {
        match self {
            Self::Calendar(_) => ObjectKind::Calendar,
            Self::Namespace(_) => ObjectKind::Namespace,
        }
    }

    /// The namespace that it is in, or that it is.
    #[must_use]
    pub fn namespace(&self) -> &Name {
        match self {
            Self::Calendar(id) => &id.namespace,
            Self::Namespace(name) => name,
        }
    }

    /// Without its kind: `billing/de-holidays`, `billing`.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Calendar(id) => id.to_string(),
            Self::Namespace(name) => name.to_string(),
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind().word(), self.name())
    }
}
