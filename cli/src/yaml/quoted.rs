//! How a text is written as a YAML scalar: bare where every reader takes it for itself, else in quotes.

use std::fmt::Write as _;

/// A text as a scalar of one line, in block and flow context alike.
pub(crate) fn scalar(text: &str) -> String {
    if is_bare(text) {
        return text.into();
    }
    // Single quotes need no escapes, which suits commands; but they can't hold what isn't printable.
    if text.contains(['"', '\\']) && text.chars().all(is_printable) {
        return format!("'{}'", text.replace('\'', "''"));
    }
    double_quoted(text)
}

/// The same, never bare: for what looks strange without quotes, such as a cron expression.
pub(crate) fn double_quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if is_printable(c) => quoted.push(c),
            c => {
                let _infallible = write!(quoted, "\\U{:08X}", u32::from(c));
            }
        }
    }
    quoted.push('"');
    quoted
}

/// Whether a text means itself without quotes, in any version of YAML: people feed these files to other tools.
fn is_bare(text: &str) -> bool {
    let safe = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_./@%+- ".contains(c))
        && !text.ends_with(' ');
    let reserved = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"];
    safe && !reserved.contains(&text.to_ascii_lowercase().as_str())
}

/// Neither a control character, nor one of those that YAML or an editor takes for the end of a line or of the text,
/// nor one that makes text look like something else.
pub(crate) fn is_printable(c: char) -> bool {
    let is_deceptive = matches!(
        c,
        '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
    );
    !c.is_control() && !is_deceptive
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::yaml;

    #[test]
    fn texts_are_bare_only_where_nobody_could_misread_them() {
        for (text, yaml) in [
            ("root", "root"),
            ("Europe/Berlin", "Europe/Berlin"),
            ("/usr/bin/tidy --all", "/usr/bin/tidy --all"),
            ("on", "\"on\""),
            ("5", "\"5\""),
            ("", "\"\""),
            ("-c", "\"-c\""),
            ("/bin:/sbin", "\"/bin:/sbin\""),
            ("a: b # c", "\"a: b # c\""),
            ("say \"it's\"", "'say \"it''s\"'"),
            ("a\nb", "\"a\\nb\""),
            ("a\u{85}b", "\"a\\U00000085b\""),
        ] {
            assert_eq!(scalar(text), yaml, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_back(key in "[^\0]{1,20}", text in any::<String>()) {
            for written in [scalar(&text), double_quoted(&text)] {
                let yaml = format!("k:\n  {}: {written}\n  list: [{written}, {written}]\n", scalar(&key));
                let parsed = yaml::parse(yaml.as_bytes());
                prop_assert_eq!(&parsed.problems, &[], "{}", yaml);
                let map = parsed.documents[0].get("k").unwrap();
                prop_assert_eq!(map.get(&key).and_then(|node| node.as_str()), Some(text.as_str()), "{}", yaml);
                let list = map.to_json()["list"].clone();
                prop_assert_eq!(list, serde_json::json!([text.clone(), text.clone()]), "{}", yaml);
            }
        }
    }
}
