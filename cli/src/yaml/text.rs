//! From a JSON value to block YAML for people.

use serde_json::Value;

use super::quoted;

/// The value as YAML, with a line feed at the end.
pub(crate) fn to_text(value: &Value) -> String {
    let mut text = String::new();
    block(value, 0, &mut text);
    text
}

fn block(value: &Value, indent: usize, text: &mut String) {
    let pad = "  ".repeat(indent);
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                text.push_str(&format!("{pad}{}:", quoted::scalar(key)));
                nested(value, indent + 1, text);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let mut inner = String::new();
                block(item, indent + 1, &mut inner);
                // The first line of the item stands behind its dash.
                text.push_str(&format!("{pad}- {}", inner.trim_start()));
            }
        }
        leaf => text.push_str(&format!("{pad}{}\n", scalar(leaf))),
    }
}

fn nested(value: &Value, indent: usize, text: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            text.push('\n');
            block(value, indent, text);
        }
        Value::Array(items) if !items.is_empty() => {
            text.push('\n');
            block(value, indent, text);
        }
        leaf => text.push_str(&format!(" {}\n", scalar(leaf))),
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => quoted::scalar(text),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_written_reads_back_as_itself() {
        let value = json!({
            "schedule": {"cron": "30 2 * * 1-5", "timeZone": "Europe/Berlin"}, "empty": {}, "none": [],
            "list": [{"a": 1, "b": ["x", "- y", "true"]}, [1, 2], "z: 1"], "text": "line\nline", "n": null, "on": "on",
        });
        let parsed = crate::yaml::parse(to_text(&value).as_bytes());
        assert_eq!(parsed.problems, []);
        assert_eq!(parsed.documents[0].to_json(), value);
    }
}
