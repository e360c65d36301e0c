//! From JSON text to a `Node`. Unlike `serde_json::Value`, it keeps duplicate keys, so that `decode` can refuse them.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::node::{Entry, Node, NodeValue};
use super::problem::Problem;
use crate::limits::MANIFEST_BYTES_MAX;

impl Node {
    /// Reads one JSON document of at most `MANIFEST_BYTES_MAX`, without lines.
    pub fn from_json_bytes(text: &[u8]) -> Result<Self, Vec<Problem>> {
        if text.len() > MANIFEST_BYTES_MAX {
            return Err(vec![too_large(text.len())]);
        }
        Self::from_json_text(text)
    }

    /// The same for a text whose size the caller has bounded.
    pub(super) fn from_json_text(text: &[u8]) -> Result<Self, Vec<Problem>> {
        serde_json::from_slice(text).map_err(|error| {
            let line = Some(error.line()).filter(|line| *line > 0);
            vec![Problem::whole(line, format!("is not JSON: {error}"))]
        })
    }
}

/// What is said of a document beyond `MANIFEST_BYTES_MAX`.
pub(super) fn too_large(bytes: usize) -> Problem {
    Problem::whole(None, format!("has {bytes} bytes; the limit is {MANIFEST_BYTES_MAX} (MANIFEST_BYTES_MAX)"))
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // serde_json stops at 128 levels, so this recursion is bounded; `decode` has a limit of its own.
        deserializer.deserialize_any(NodeVisitor).map(|value| Self { line: None, value })
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = NodeValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<NodeValue, E> {
        Ok(NodeValue::Null)
    }
    fn visit_bool<E>(self, flag: bool) -> Result<NodeValue, E> {
        Ok(NodeValue::Bool(flag))
    }
    fn visit_i64<E>(self, int: i64) -> Result<NodeValue, E> {
        Ok(NodeValue::Int(int.into()))
    }
    fn visit_u64<E>(self, int: u64) -> Result<NodeValue, E> {
        Ok(NodeValue::Int(int.into()))
    }
    fn visit_f64<E>(self, float: f64) -> Result<NodeValue, E> {
        Ok(NodeValue::Float(float))
    }
    fn visit_str<E>(self, text: &str) -> Result<NodeValue, E> {
        Ok(NodeValue::String(text.into()))
    }
    fn visit_string<E>(self, text: String) -> Result<NodeValue, E> {
        Ok(NodeValue::String(text))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<NodeValue, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = items.next_element()? {
            nodes.push(node);
        }
        Ok(NodeValue::Seq(nodes))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<NodeValue, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, value)) = map.next_entry()? {
            entries.push(Entry { key, line: None, value });
        }
        Ok(NodeValue::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_duplicates_survive() {
        let node = Node::from_json_bytes(br#"{"b": 1, "a": [null, 1.5, -2], "b": "x"}"#).unwrap();
        let NodeValue::Map(entries) = node.value else { panic!("not a map") };
        assert_eq!(entries.iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>(), ["b", "a", "b"]);
    }

    #[test]
    fn broken_oversized_and_bottomless_texts_are_problems() {
        let problem = |text: &[u8]| Node::from_json_bytes(text).unwrap_err().remove(0);
        assert_eq!(problem(b"{\"a\": 1,\n}").line, Some(2));
        assert!(problem(b"").message.starts_with("is not JSON"));
        assert!(problem(b"\xff").message.starts_with("is not JSON"));
        assert!(problem(&vec![b' '; MANIFEST_BYTES_MAX + 1]).message.contains("MANIFEST_BYTES_MAX"));
        assert!(problem("[".repeat(100_000).as_bytes()).message.contains("recursion"));
    }
}
