//! How a command ends when it doesn't succeed: 1 failed, 2 the input was wrong.

use std::process::ExitCode;

use planner::api::types::{ApiError, ErrorKind};

/// A command's failure: the exit code, and what to tell the user.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// The input was wrong: exit code 2.
    pub(crate) fn input(message: impl Into<String>) -> Self {
        Self { code: 2, message: message.into() }
    }

    /// It failed: exit code 1.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self { code: 1, message: message.into() }
    }

    /// The same with a further line.
    pub(crate) fn with_note(mut self, note: &str) -> Self {
        self.message.push('\n');
        self.message.push_str(note);
        self
    }

    /// What to tell the user.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Says why on standard error; answers with the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        if !self.message.is_empty() {
            eprintln!("error: {}", self.message);
        }
        ExitCode::from(self.code)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(problem: anyhow::Error) -> Self {
        Self::failed(format!("{problem:#}"))
    }
}

impl From<ApiError> for Failure {
    fn from(problem: ApiError) -> Self {
        let mut message = format!("failed to {}", problem.message);
        for input in &problem.problems {
            message.push_str(&format!("\n  object {}: {}: {}", input.object + 1, input.field, input.message));
        }
        match problem.kind {
            ErrorKind::Refused => Self::input(message),
            ErrorKind::NotFound | ErrorKind::Failed | ErrorKind::Conflict => Self::failed(message),
            ErrorKind::Unknown => {
                Self::failed(format!("{message}\nit may have happened: look before you repeat it"))
            }
        }
    }
}

impl From<bus::BusError> for Failure {
    fn from(problem: bus::BusError) -> Self {
        Self::failed(format!("failed to {problem}"))
    }
}

impl From<store::StoreError> for Failure {
    fn from(problem: store::StoreError) -> Self {
        Self::failed(format!("failed to {problem}"))
    }
}

impl From<std::io::Error> for Failure {
    fn from(problem: std::io::Error) -> Self {
        Self::failed(problem.to_string())
    }
}
