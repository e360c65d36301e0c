//! From a JSON value to block YAML for people. What could be read as anything but itself is quoted as JSON is, which
//! YAML understands.

use serde_json::Value;

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
                text.push_str(&format!("{pad}{}:", scalar(&Value::String(key.clone()))));
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
        Value::String(plain) if is_plain(plain) => plain.clone(),
        other => other.to_string(),
    }
}

/// Whether a text means itself without quotes, in any version of YAML.
fn is_plain(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || "_./@%+-".contains(c);
    let safe = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(|c| word(c) || c == ' ')
        && !text.ends_with(' ');
    let reserved = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"];
    safe && !reserved.contains(&text.to_ascii_lowercase().as_str())
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
