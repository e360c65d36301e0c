//! What a scalar means by YAML 1.2's core schema (chapter 10.3): `on`, `yes`, `1_000`, `0 2 * * *`, `12:30` are text.

use model::manifest::NodeValue;
use saphyr_parser::{ScalarStyle, Tag};

/// The value of a scalar, or what is wrong with it.
pub(super) fn resolve(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<NodeValue, String> {
    let Some(tag) = tag else {
        return if style == ScalarStyle::Plain { plain(text) } else { Ok(NodeValue::String(text.into())) };
    };
    // A lone `!` says "not by the schema": text.
    if tag.suffix.is_empty() || (tag.handle.is_empty() && tag.suffix == "!") {
        return Ok(NodeValue::String(text.into()));
    }
    if !tag.is_yaml_core_schema() {
        return Err(unsupported(tag));
    }
    let value = plain(text)?;
    match (tag.suffix.as_str(), value) {
        ("str", _) => Ok(NodeValue::String(text.into())),
        ("float", NodeValue::Int(int)) => Ok(NodeValue::Float(int as f64)),
        ("int", value @ NodeValue::Int(_))
        | ("float", value @ NodeValue::Float(_))
        | ("bool", value @ NodeValue::Bool(_))
        | ("null", value @ NodeValue::Null) => Ok(value),
        ("int" | "float" | "bool" | "null", _) => {
            Err(format!("has {text:?} where the tag {tag} says otherwise"))
        }
        _ => Err(unsupported(tag)),
    }
}

pub(super) fn unsupported(tag: &Tag) -> String {
    format!("has the tag {tag}, which is not supported")
}

fn plain(text: &str) -> Result<NodeValue, String> {
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => NodeValue::Null,
        "true" | "True" | "TRUE" => NodeValue::Bool(true),
        "false" | "False" | "FALSE" => NodeValue::Bool(false),
        ".nan" | ".NaN" | ".NAN" => NodeValue::Float(f64::NAN),
        _ => match number(text)? {
            Some(number) => number,
            None => NodeValue::String(text.into()),
        },
    })
}

fn number(text: &str) -> Result<Option<NodeValue>, String> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        let infinite = if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY };
        return Ok(Some(NodeValue::Float(infinite)));
    }
    let all = |digits: &str, is_digit: fn(&u8) -> bool| {
        !digits.is_empty() && digits.as_bytes().iter().all(is_digit)
    };
    let int = if let Some(hex) = text.strip_prefix("0x").filter(|hex| all(hex, u8::is_ascii_hexdigit)) {
        i128::from_str_radix(hex, 16)
    } else if let Some(octal) =
        text.strip_prefix("0o").filter(|octal| all(octal, |b| (b'0'..=b'7').contains(b)))
    {
        i128::from_str_radix(octal, 8)
    } else if all(unsigned, u8::is_ascii_digit) {
        text.parse()
    } else {
        return Ok(float(text, unsigned));
    };
    // As JSON has them, and everything behind us: what needs more would silently lose digits somewhere.
    let fits = |int: &i128| (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(int);
    match int.ok().filter(fits) {
        Some(int) => Ok(Some(NodeValue::Int(int))),
        None => Err("has an integer of more than 64 bits; put it in quotes".into()),
    }
}

/// `[-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?`
fn float(text: &str, unsigned: &str) -> Option<NodeValue> {
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let has_digits = !whole.is_empty() || !fraction.is_empty();
    let is_float = has_digits
        && digits(whole)
        && digits(fraction)
        && exponent.is_none_or(|exponent| !exponent.is_empty() && digits(exponent));
    // Rust's grammar of floats contains this one.
    if is_float { text.parse().ok().map(NodeValue::Float) } else { None }
}
