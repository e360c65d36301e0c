//! A document as a tree, each node with the line it came from. Whoever read the text makes it (the CLI from YAML, a
//! server from JSON); `decode` turns it into an object. It keeps what a map type would lose: order and duplicate keys.

/// A value and where it stood.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Line in the text, from 1; none if the value didn't come from a text.
    pub line: Option<usize>,
    pub value: NodeValue,
}

/// YAML's core schema, which is JSON's data model.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeValue {
    Null,
    Bool(bool),
    /// Any integer of 64 bits, signed or not.
    Int(i128),
    Float(f64),
    String(String),
    Seq(Vec<Node>),
    Map(Vec<Entry>),
}

/// One `key: value` of a map.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub key: String,
    pub line: Option<usize>,
    pub value: Node,
}

impl Node {
    /// From a JSON value, without lines.
    #[must_use]
    pub fn from_json(value: serde_json::Value) -> Self {
        use serde_json::Value;
        let value = match value {
            Value::Null => NodeValue::Null,
            Value::Bool(flag) => NodeValue::Bool(flag),
            Value::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(int), _) => NodeValue::Int(int.into()),
                (None, Some(int)) => NodeValue::Int(int.into()),
                (None, None) => NodeValue::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => NodeValue::String(text),
            Value::Array(items) => NodeValue::Seq(items.into_iter().map(Self::from_json).collect()),
            Value::Object(map) => NodeValue::Map(
                map.into_iter()
                    .map(|(key, value)| Entry { key, line: None, value: Self::from_json(value) })
                    .collect(),
            ),
        };
        Self { line: None, value }
    }

    /// As a JSON value. What JSON can't say (duplicate keys, infinite numbers, more than 64 bits) is lost: the last
    /// key wins, such a number becomes null. `decode` reports both before it takes a payload over.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value;
        match &self.value {
            NodeValue::Null => Value::Null,
            NodeValue::Bool(flag) => Value::Bool(*flag),
            NodeValue::Int(int) => match (i64::try_from(*int), u64::try_from(*int)) {
                (Ok(int), _) => int.into(),
                (_, Ok(int)) => int.into(),
                _ => Value::Null,
            },
            NodeValue::Float(float) => {
                serde_json::Number::from_f64(*float).map_or(Value::Null, Value::Number)
            }
            NodeValue::String(text) => Value::String(text.clone()),
            NodeValue::Seq(items) => Value::Array(items.iter().map(Self::to_json).collect()),
            NodeValue::Map(entries) => Value::Object(
                entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json())).collect(),
            ),
        }
    }

    /// The value under a key, if this is a map that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            NodeValue::Map(entries) => {
                entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
            }
            _ => None,
        }
    }

    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            NodeValue::String(text) => Some(text),
            _ => None,
        }
    }

    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self.value, NodeValue::Null)
    }

    /// The line of a field such as `spec.exec.command[2]`, or of the nearest thing around it: a server that was sent
    /// JSON answers with fields, the user wants lines.
    #[must_use]
    pub fn line_of(&self, field: &str) -> Option<usize> {
        let mut node = self;
        let mut line = self.line;
        let mut rest = field;
        while !rest.is_empty() {
            let (step, after) = next_step(rest);
            let found = match (&node.value, step) {
                (NodeValue::Map(entries), Step::Key(key)) => {
                    entries.iter().find(|entry| entry.key == key).map(|entry| (entry.line, &entry.value))
                }
                (NodeValue::Seq(items), Step::Index(index)) => items.get(index).map(|item| (item.line, item)),
                _ => None,
            };
            let Some((found_line, found)) = found else { break };
            (line, node, rest) = (found_line.or(line), found, after);
        }
        line
    }

    /// Levels of nesting: 1 for a scalar.
    #[must_use]
    pub fn depth(&self) -> usize {
        match &self.value {
            NodeValue::Seq(items) => 1 + items.iter().map(Self::depth).max().unwrap_or(0),
            NodeValue::Map(entries) => 1 + entries.iter().map(|entry| entry.value.depth()).max().unwrap_or(0),
            _ => 1,
        }
    }

    /// About how long it is as JSON: escapes aren't counted, for this only has to stop what is far too large.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        match &self.value {
            NodeValue::Null | NodeValue::Bool(_) | NodeValue::Int(_) | NodeValue::Float(_) => 4,
            NodeValue::String(text) => text.len() + 2,
            NodeValue::Seq(items) => 2 + items.iter().map(|item| item.text_bytes() + 1).sum::<usize>(),
            NodeValue::Map(entries) => {
                2 + entries.iter().map(|entry| entry.key.len() + 4 + entry.value.text_bytes()).sum::<usize>()
            }
        }
    }

    /// What it is, for a message: "the integer 90", "a list".
    pub(super) fn described(&self) -> String {
        match &self.value {
            NodeValue::Null => "nothing".into(),
            NodeValue::Bool(flag) => format!("the boolean {flag}"),
            NodeValue::Int(int) => format!("the integer {int}"),
            NodeValue::Float(float) => format!("the number {float}"),
            NodeValue::String(text) => format!("the text {}", super::problem::quoted(text)),
            NodeValue::Seq(_) => "a list".into(),
            NodeValue::Map(_) => "a map".into(),
        }
    }
}

enum Step {
    Key(String),
    Index(usize),
}

/// Splits `retry.attempts` after `retry`, `[2].x` after `[2]`, `["a.b"].x` after `["a.b"]`: the reverse of what
/// `Place` writes.
fn next_step(field: &str) -> (Step, &str) {
    fn past_dot(rest: &str) -> &str {
        rest.strip_prefix('.').unwrap_or(rest)
    }
    if let Some(inside) = field.strip_prefix('[') {
        let mut quoted = serde_json::Deserializer::from_str(inside).into_iter::<String>();
        if let Some(Ok(key)) = quoted.next() {
            return (Step::Key(key), past_dot(inside.get(quoted.byte_offset() + 1..).unwrap_or("")));
        }
        if let Some((index, rest)) = inside.split_once(']')
            && let Ok(index) = index.parse()
        {
            return (Step::Index(index), past_dot(rest));
        }
    }
    let end =
        field.char_indices().skip(1).find(|(_, c)| matches!(c, '.' | '[')).map_or(field.len(), |(i, _)| i);
    (Step::Key(field[..end].into()), past_dot(&field[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_round_trips() {
        let value = json!({
            "a": [1, -1, u64::MAX, 0.5, null, true, "x"],
            "b": {"c": {}, "d": []},
        });
        assert_eq!(Node::from_json(value.clone()).to_json(), value);
    }

    #[test]
    fn lines_are_found_by_field() {
        let leaf = |line| Node { line: Some(line), value: NodeValue::Null };
        let map = |line, entries: Vec<(&str, usize, Node)>| Node {
            line: Some(line),
            value: NodeValue::Map(
                entries
                    .into_iter()
                    .map(|(key, line, value)| Entry { key: key.into(), line: Some(line), value })
                    .collect(),
            ),
        };
        let list =
            Node { line: Some(4), value: NodeValue::Seq(vec![leaf(5), map(6, vec![("x", 7, leaf(7))])]) };
        let tree = map(1, vec![("spec", 2, map(3, vec![("list", 3, list), ("a.\"b", 9, leaf(9))]))]);
        for (field, line) in [
            ("", 1),
            ("spec", 2),
            ("spec.list", 3),
            ("spec.list[0]", 5),
            ("spec.list[1].x", 7),
            ("spec.list[1].gone", 6),
            ("spec.list[7]", 3),
            ("spec[\"a.\\\"b\"]", 9),
            ("spec.missing.more", 2),
            ("nonsense[", 1),
            ("[", 1),
            (".", 1),
            ("..", 1),
        ] {
            assert_eq!(tree.line_of(field), Some(line), "{field}");
        }
    }

    #[test]
    fn depth_counts_levels() {
        assert_eq!(Node::from_json(json!(1)).depth(), 1);
        assert_eq!(Node::from_json(json!({"a": [{}]})).depth(), 3);
    }
}
