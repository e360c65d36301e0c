//! Reading a tree field by field: where we are, what was found there, and the problems met on the way.
//!
//! Nothing here stops at the first mistake. A reader of a broken field answers `None`, its problem is noted, and
//! whoever asked goes on with a default that is never used, because a document with problems yields no object.

use std::fmt;

use super::node::{Entry, Node, NodeValue};
use super::problem::{Problem, Problems, quoted};
use super::suggest;

/// A place in the document. A chain of borrowed steps: its text is only built for a problem.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    parent: Option<&'a Self>,
    step: Step<'a>,
    line: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Root,
    Key(&'a str),
    Index(usize),
}

impl<'a> Place<'a> {
    pub(super) fn root(node: &Node) -> Self {
        Self { parent: None, step: Step::Root, line: node.line }
    }
    pub(super) fn key(&'a self, key: &'a str, line: Option<usize>) -> Self {
        Self { parent: Some(self), step: Step::Key(key), line: line.or(self.line) }
    }
    pub(super) fn index(&'a self, index: usize, line: Option<usize>) -> Self {
        Self { parent: Some(self), step: Step::Index(index), line: line.or(self.line) }
    }
    pub(super) fn problem(&self, message: impl Into<String>) -> Problem {
        Problem { field: self.to_string(), line: self.line, message: message.into() }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        let is_plain = |key: &str| {
            !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        };
        match self.step {
            Step::Root => Ok(()),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(key) if is_plain(key) && key.len() <= 64 => {
                let dot = if self.parent.is_some_and(|parent| parent.parent.is_some()) { "." } else { "" };
                write!(f, "{dot}{key}")
            }
            Step::Key(key) => {
                let key: String = key.chars().take(64).collect();
                write!(f, "[{}]", serde_json::Value::String(key))
            }
        }
    }
}

/// A value and its place: what a field reader gets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'a> {
    pub(super) place: Place<'a>,
    pub(super) node: &'a Node,
}

impl<'a> Field<'a> {
    pub(super) fn root(node: &'a Node) -> Self {
        Self { place: Place::root(node), node }
    }

    pub(super) fn refuse<T>(&self, problems: &mut Problems, message: impl Into<String>) -> Option<T> {
        problems.add(self.place.problem(message));
        None
    }

    /// A problem that another part of the core found below here, by its own name for the field (`cron[0]`).
    pub(super) fn problem_below(&self, field: &str, message: impl Into<String>) -> Problem {
        let here = self.place.to_string();
        let dot = if field.is_empty() || field.starts_with('[') { "" } else { "." };
        let line = if field.is_empty() { None } else { self.node.line_of(field) };
        Problem {
            field: format!("{here}{dot}{field}"),
            line: line.or(self.place.line),
            message: message.into(),
        }
    }

    /// Refuses a value of the wrong type.
    pub(super) fn expected<T>(&self, problems: &mut Problems, what: &str) -> Option<T> {
        self.refuse(problems, format!("expected {what}, found {}", self.node.described()))
    }

    /// Opens a map whose fields are known: unknown and repeated ones are problems.
    pub(super) fn fields(
        &'a self,
        problems: &mut Problems,
        known: &'static [&'static str],
    ) -> Option<Fields<'a>> {
        let NodeValue::Map(entries) = &self.node.value else {
            return self.expected(problems, &format!("a map with {}", list(known)));
        };
        for entry in entries {
            if !known.contains(&entry.key.as_str()) {
                let clause = suggest::clause(&entry.key, known);
                problems
                    .add(self.place.key(&entry.key, entry.line).problem(format!("unknown field{clause}")));
            }
        }
        self.refuse_repeated(entries, problems);
        Some(Fields { place: &self.place, entries })
    }

    /// The entries of a map whose keys are the user's own; repeated ones are problems.
    pub(super) fn entries(&'a self, problems: &mut Problems) -> Option<Vec<(&'a str, Field<'a>)>> {
        let NodeValue::Map(entries) = &self.node.value else {
            return self.expected(problems, "a map");
        };
        self.refuse_repeated(entries, problems);
        Some(entries.iter().map(|entry| (entry.key.as_str(), at(&self.place, entry))).collect())
    }

    /// The items of a list.
    pub(super) fn items(&'a self, problems: &mut Problems) -> Option<Vec<Field<'a>>> {
        let NodeValue::Seq(items) = &self.node.value else {
            return self.expected(problems, "a list");
        };
        Some(self.of_items(items))
    }

    /// The items of a list, or the value itself as the only one.
    pub(super) fn one_or_many(&'a self) -> Vec<Field<'a>> {
        match &self.node.value {
            NodeValue::Seq(items) => self.of_items(items),
            _ => vec![*self],
        }
    }

    fn of_items(&'a self, items: &'a [Node]) -> Vec<Field<'a>> {
        items
            .iter()
            .enumerate()
            .map(|(index, node)| Field { place: self.place.index(index, node.line), node })
            .collect()
    }

    fn refuse_repeated(&self, entries: &[Entry], problems: &mut Problems) {
        const FEW: usize = 16;
        let distinct = |(index, entry): (usize, &Entry)| entries[..index].iter().all(|e| e.key != entry.key);
        if entries.len() <= FEW && entries.iter().enumerate().all(distinct) {
            return;
        }
        let mut first_lines = std::collections::BTreeMap::new();
        for entry in entries {
            let Some(first) = first_lines.insert(&entry.key, entry.line) else { continue };
            let first = first.map_or(String::new(), |line| format!("; first on line {line}"));
            problems.add(self.place.key(&entry.key, entry.line).problem(format!("is given twice{first}")));
        }
    }
}

/// An opened map.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a> {
    pub(super) place: &'a Place<'a>,
    entries: &'a [Entry],
}

impl<'a> Fields<'a> {
    /// A field that was given. `key:` with nothing behind it counts as not given, as in Kubernetes.
    pub(super) fn get(&self, key: &str) -> Option<Field<'a>> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        (!entry.value.is_null()).then(|| at(self.place, entry))
    }

    /// A field that must be given.
    pub(super) fn require(&self, key: &'a str, problems: &mut Problems, why: &str) -> Option<Field<'a>> {
        let found = self.get(key);
        if found.is_none() {
            problems.add(self.place.key(key, None).problem(format!("must be given: {why}")));
        }
        found
    }
}

fn at<'a>(place: &'a Place<'a>, entry: &'a Entry) -> Field<'a> {
    Field { place: place.key(&entry.key, entry.line), node: &entry.value }
}

/// `a, b or c`.
pub(super) fn list(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => (*only).into(),
        [head @ .., last] => format!("{} or {last}", head.join(", ")),
    }
}

/// One of the words that a field allows.
pub(super) fn unknown_word(found: &str, known: &[&str]) -> String {
    let near = suggest::nearest(found, known).map_or(String::new(), |near| format!("; did you mean {near}?"));
    format!("must be {}, not {}{near}", list(known), quoted(found))
}
