//! What is wrong with a document: all of it at once, each with its field and, where the text is known, its line.

use std::fmt;

/// Problems that are listed for one document; beyond it only their number is said. A hostile document must not
/// make its own error report the larger part of the work.
pub const PROBLEMS_MAX: usize = 100;
/// Characters of a document's own text that one message repeats.
const QUOTED_CHARS_MAX: usize = 60;

/// One mistake in a document.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Problem {
    /// Where: `spec.retry.attempts`, `spec.exec.command[2]`; empty for the document as a whole.
    pub field: String,
    /// The line in the text that it was read from, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// What is wrong and what would be right: a fragment that reads after the field.
    pub message: String,
}

impl Problem {
    /// A problem of the document as a whole.
    #[must_use]
    pub fn whole(line: Option<usize>, message: impl Into<String>) -> Self {
        Self { field: String::new(), line, message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

/// The problems found so far.
#[derive(Debug, Default)]
pub(super) struct Problems {
    listed: Vec<Problem>,
    unlisted: usize,
}

impl Problems {
    pub(super) fn add(&mut self, problem: Problem) {
        if self.listed.len() < PROBLEMS_MAX {
            self.listed.push(problem);
        } else {
            self.unlisted += 1;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    pub(super) fn append(&mut self, other: Self) {
        other.listed.into_iter().for_each(|problem| self.add(problem));
        self.unlisted += other.unlisted;
    }

    /// Whether `other` is about a field that has a problem already, or about what lies around one: a follow-up.
    pub(super) fn concern(&self, other: &Problem) -> bool {
        self.listed.iter().any(|known| {
            let follows =
                |rest: &str| other.field.is_empty() || rest.is_empty() || rest.starts_with(['.', '[']);
            known.field.strip_prefix(other.field.as_str()).is_some_and(follows)
        })
    }

    /// In the order of the text, so that a reader walks through the file once.
    pub(super) fn into_vec(mut self) -> Vec<Problem> {
        self.listed.sort_by_key(|problem| problem.line.unwrap_or(0));
        if self.unlisted > 0 {
            self.listed.push(Problem::whole(None, format!("has {} more problems", self.unlisted)));
        }
        self.listed
    }
}

/// A piece of the user's own text, quoted and shortened, for a message.
pub(super) fn quoted(text: &str) -> String {
    if text.chars().count() <= QUOTED_CHARS_MAX {
        return format!("{text:?}");
    }
    let head: String = text.chars().take(QUOTED_CHARS_MAX).collect();
    format!("{head:?}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_problems_is_counted_not_listed() {
        let mut problems = Problems::default();
        for line in (1..=PROBLEMS_MAX + 7).rev() {
            problems.add(Problem::whole(Some(line), "bad"));
        }
        let listed = problems.into_vec();
        assert_eq!(listed.len(), PROBLEMS_MAX + 1);
        assert!(listed.windows(2).take(PROBLEMS_MAX - 1).all(|pair| pair[0].line <= pair[1].line));
        assert_eq!(listed[PROBLEMS_MAX].message, "has 7 more problems");
    }

    #[test]
    fn a_problem_reads_as_line_field_message() {
        let problem =
            Problem { field: "spec.timeout".into(), line: Some(7), message: "must be a duration".into() };
        assert_eq!(problem.to_string(), "line 7: spec.timeout: must be a duration");
        assert_eq!(Problem::whole(None, "is empty").to_string(), "is empty");
    }

    #[test]
    fn long_texts_are_shortened() {
        assert_eq!(quoted("a\nb"), "\"a\\nb\"");
        assert_eq!(quoted(&"ä".repeat(61)), format!("\"{}\"…", "ä".repeat(60)));
    }
}
