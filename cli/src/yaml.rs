//! From YAML text to `Node`s: many documents in one file, every value with its line. JSON is YAML, so it comes this
//! way too.
//!
//! It reads YAML 1.2's core schema and nothing beyond it: `on` and `yes` are text, tags of one's own are problems, and
//! aliases expand only up to a limit. What a document means is decided by `model::manifest::decode`.

#[cfg(test)]
mod documented;
pub(crate) mod quoted;
mod scalar;
#[cfg(test)]
mod tests;
mod text;

pub(crate) use self::text::to_text;

use std::collections::BTreeMap;

use model::limits::{MANIFEST_BYTES_MAX, MANIFEST_DEPTH_MAX, MANIFEST_OBJECTS_MAX};
use model::manifest::{Entry, Node, NodeValue, PROBLEMS_MAX, Problem};
use saphyr_parser::{Event, Parser};

/// Bytes of one file of manifests.
pub(crate) const FILE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Bytes that the aliases of one document may expand to. Without a limit a few lines can mean gigabytes ("billion
/// laughs").
const ALIAS_BYTES_MAX: usize = MANIFEST_BYTES_MAX;

/// What was read of a file. Both may be filled: the documents before a syntax error are as good as ever.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Parsed {
    pub(crate) documents: Vec<Node>,
    pub(crate) problems: Vec<Problem>,
}

/// Reads all documents of a file; empty ones are left out.
#[must_use]
pub(crate) fn parse(bytes: &[u8]) -> Parsed {
    let mut builder = Builder::default();
    if bytes.len() > FILE_BYTES_MAX {
        builder.problem(
            None,
            format!("has {} bytes; the limit is {FILE_BYTES_MAX} (FILE_BYTES_MAX)", bytes.len()),
        );
        return builder.parsed;
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let line = 1 + bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
            builder.problem(Some(line), "is not UTF-8 text");
            return builder.parsed;
        }
    };
    if let Err(error) = builder.read(text) {
        // JSON allows a few escapes that YAML doesn't (pairs of surrogates).
        if let Ok(document) = Node::from_json_bytes(bytes) {
            return Parsed { documents: vec![document], problems: Vec::new() };
        }
        builder.parsed.problems.push(error);
    }
    builder.parsed
}

/// Folds the parser's events into trees. A loop over a stack rather than a recursion, for the depth is the user's.
#[derive(Default)]
struct Builder {
    parsed: Parsed,
    open: Vec<Open>,
    /// The document that has been closed last.
    root: Option<Node>,
    anchors: BTreeMap<usize, Node>,
    alias_bytes: usize,
}

/// A list or map whose end hasn't come yet.
struct Open {
    line: usize,
    anchor: usize,
    items: Items,
}

enum Items {
    Seq(Vec<Node>),
    Map { entries: Vec<Entry>, key: Option<Key> },
}

struct Key {
    text: String,
    line: usize,
}

impl Builder {
    /// Reads to the end, or to the first thing after which nothing more can be understood.
    fn read(&mut self, text: &str) -> Result<(), Problem> {
        let mut parser = Parser::new_from_str(text);
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(|error| {
                Problem::whole(Some(error.marker().line()), format!("is not YAML: {}", error.info()))
            })?;
            let line = span.start.line();
            match event {
                Event::DocumentStart(_) => {
                    self.anchors.clear();
                    self.alias_bytes = 0;
                }
                Event::DocumentEnd => self.end_document(line)?,
                Event::SequenceStart(anchor, tag) => {
                    self.check_tag(tag.as_deref(), "seq", line);
                    self.begin(line, anchor, Items::Seq(Vec::new()))?;
                }
                Event::MappingStart(anchor, tag) => {
                    self.check_tag(tag.as_deref(), "map", line);
                    self.begin(line, anchor, Items::Map { entries: Vec::new(), key: None })?;
                }
                Event::SequenceEnd | Event::MappingEnd => self.end(),
                Event::Scalar(text, style, anchor, tag) => {
                    let value = scalar::resolve(&text, style, tag.as_deref()).unwrap_or_else(|message| {
                        self.problem(Some(line), message);
                        NodeValue::Null
                    });
                    self.place(Node { line: Some(line), value }, anchor);
                }
                Event::Alias(anchor) => {
                    let node = self.expanded(anchor, line)?;
                    self.place(node, 0);
                }
                Event::Nothing | Event::StreamStart | Event::StreamEnd => {}
            }
        }
        Ok(())
    }

    fn begin(&mut self, line: usize, anchor: usize, items: Items) -> Result<(), Problem> {
        self.open.push(Open { line, anchor, items });
        if self.open.len() > MANIFEST_DEPTH_MAX { Err(too_deep(line)) } else { Ok(()) }
    }

    fn end(&mut self) {
        let Some(Open { line, anchor, items }) = self.open.pop() else { return };
        let value = match items {
            Items::Seq(items) => NodeValue::Seq(items),
            Items::Map { entries, .. } => NodeValue::Map(entries),
        };
        self.place(Node { line: Some(line), value }, anchor);
    }

    fn end_document(&mut self, line: usize) -> Result<(), Problem> {
        let Some(document) = self.root.take().filter(|document| !document.is_null()) else { return Ok(()) };
        if self.parsed.documents.len() == MANIFEST_OBJECTS_MAX {
            let message = format!("has more than {MANIFEST_OBJECTS_MAX} documents (MANIFEST_OBJECTS_MAX)");
            return Err(Problem::whole(Some(line), message));
        }
        self.parsed.documents.push(document);
        Ok(())
    }

    /// Puts a finished value where it belongs: into the list, behind its key, or as the key itself.
    fn place(&mut self, node: Node, anchor: usize) {
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let mut problem = None;
        match self.open.last_mut().map(|open| &mut open.items) {
            None => self.root = Some(node),
            Some(Items::Seq(items)) => items.push(node),
            Some(Items::Map { entries, key }) => match key.take() {
                Some(Key { text, line }) => entries.push(Entry { key: text, line: Some(line), value: node }),
                None => {
                    let (text, wrong) = key_text(&node);
                    problem = wrong.map(|message| (node.line, message));
                    *key = Some(Key { text, line: node.line.unwrap_or(0) });
                }
            },
        }
        if let Some((line, message)) = problem {
            self.problem(line, message);
        }
    }

    fn expanded(&mut self, anchor: usize, line: usize) -> Result<Node, Problem> {
        let Some(node) = self.anchors.get(&anchor) else {
            // `&a [*a]`: the anchor's own value isn't finished yet.
            return Err(Problem::whole(Some(line), "has an alias inside the value that it stands for"));
        };
        self.alias_bytes = self.alias_bytes.saturating_add(node.text_bytes());
        if self.alias_bytes > ALIAS_BYTES_MAX {
            let message =
                format!("has aliases that expand to more than {ALIAS_BYTES_MAX} bytes (ALIAS_BYTES_MAX)");
            return Err(Problem::whole(Some(line), message));
        }
        if self.open.len() + node.depth() > MANIFEST_DEPTH_MAX {
            return Err(too_deep(line));
        }
        Ok(node.clone())
    }

    fn check_tag(&mut self, tag: Option<&saphyr_parser::Tag>, expected: &str, line: usize) {
        let Some(tag) = tag else { return };
        if !tag.is_yaml_core_schema() || tag.suffix != expected {
            self.problem(Some(line), scalar::unsupported(tag));
        }
    }

    fn problem(&mut self, line: Option<usize>, message: impl Into<String>) {
        if self.parsed.problems.len() < PROBLEMS_MAX {
            self.parsed.problems.push(Problem::whole(line, message));
        }
    }
}

fn too_deep(line: usize) -> Problem {
    let message =
        format!("is nested too deep; the limit is {MANIFEST_DEPTH_MAX} levels (MANIFEST_DEPTH_MAX)");
    Problem::whole(Some(line), message)
}

/// A key as text, and what is wrong with it. A wrong key is kept as it was written, so that its value is still read.
fn key_text(node: &Node) -> (String, Option<String>) {
    let written = match &node.value {
        NodeValue::String(text) if text == "<<" => {
            let message = "has a merge key (<<), which YAML 1.2 doesn't know; write the fields out";
            return (text.clone(), Some(message.into()));
        }
        NodeValue::String(text) => return (text.clone(), None),
        NodeValue::Seq(_) | NodeValue::Map(_) => {
            return ("?".into(), Some("has a list or a map as a key; a key must be text".into()));
        }
        NodeValue::Null => "null".into(),
        NodeValue::Bool(flag) => flag.to_string(),
        NodeValue::Int(int) => int.to_string(),
        NodeValue::Float(float) => float.to_string(),
    };
    let message = format!("has the key {written}, which is not text; put it in quotes");
    (written, Some(message))
}
