//! Reading what Redis answers.

use redis::Value;

use super::error::unexpected;
use crate::error::StoreError;

/// The items of an array.
pub(super) fn items(value: Value, what: &str) -> Result<Vec<Value>, StoreError> {
    match value {
        Value::Array(items) => Ok(items),
        _ => Err(unexpected(what)),
    }
}

/// The items of an array of a fixed length.
pub(super) fn row<const N: usize>(value: Value, what: &str) -> Result<[Value; N], StoreError> {
    items(value, what)?.try_into().map_err(|_| unexpected(what))
}

/// What a map or an array holds, one after the other.
pub(super) fn flat(value: Value) -> Vec<Value> {
    match value {
        Value::Map(pairs) => pairs.into_iter().flat_map(|(name, value)| [name, value]).collect(),
        Value::Array(items) => items,
        _ => Vec::new(),
    }
}

/// A whole number, however it is written.
pub(super) fn number(value: &Value, what: &str) -> Result<i64, StoreError> {
    match value {
        Value::Int(number) => Ok(*number),
        Value::BulkString(bytes) => std::str::from_utf8(bytes)
            .ok()
            .and_then(|text| text.parse().ok().or_else(|| text.parse::<f64>().ok().map(|score| score as i64)))
            .ok_or_else(|| unexpected(what)),
        _ => Err(unexpected(what)),
    }
}

/// Text, with a mark in place of what isn't UTF-8; `None` for nil.
pub(super) fn text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => Some(match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        }),
        Value::SimpleString(text) => Some(text),
        Value::Int(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Bytes as they are; empty for nil.
pub(super) fn bytes(value: Value) -> Vec<u8> {
    match value {
        Value::BulkString(bytes) => bytes,
        Value::SimpleString(text) => text.into_bytes(),
        _ => Vec::new(),
    }
}

/// The values of some fields of a hash.
pub(super) fn fields(value: Value, what: &str) -> Result<Vec<Option<String>>, StoreError> {
    Ok(items(value, what)?.into_iter().map(text).collect())
}

/// Reads a member or its like; `None` if it isn't what it should be.
pub(super) fn parse<T: std::str::FromStr>(bytes: &[u8]) -> Option<T> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}
