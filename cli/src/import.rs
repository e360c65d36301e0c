//! Imports: jobs out of what other schedulers keep. Each source has a module; all of them answer with an `Import`.

pub(crate) mod crontab;
mod emit;
mod naming;

use std::fmt;

use model::spec::JobSpec;

pub(crate) use self::emit::to_yaml;

/// What was found in a file.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Import {
    /// What was imported, for the comments: a file's name.
    pub(crate) source: String,
    pub(crate) jobs: Vec<Imported>,
    /// Everything worth saying, in the order of the lines. A line that holds no job and has no note was a comment,
    /// empty, or a variable: nothing is dropped silently.
    pub(crate) notes: Vec<Note>,
}

/// A job, and where it comes from.
#[derive(Debug, PartialEq)]
pub(crate) struct Imported {
    pub(crate) line: usize,
    /// The line as it stood there.
    pub(crate) text: String,
    pub(crate) spec: JobSpec,
}

/// Something that whoever imports should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    /// From 1; none for the file as a whole.
    pub(crate) line: Option<usize>,
    pub(crate) severity: Severity,
    pub(crate) message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    /// Means something else here, or nothing; no harm.
    Info,
    /// Imported, but it may behave differently.
    Warning,
    /// Not imported.
    Error,
}

impl Import {
    /// Whether something was left out.
    #[must_use]
    pub(crate) fn is_partial(&self) -> bool {
        self.notes.iter().any(|note| note.severity == Severity::Error)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Info => "note",
            Self::Warning => "warning",
            Self::Error => "not imported",
        })
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        write!(f, "{}: {}", self.severity, self.message)
    }
}
