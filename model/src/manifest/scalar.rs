//! Readers of single values: text, number, duration, name. Each names what it expected, what it found, and the limit.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::fields::{Field, unknown_word};
use super::node::NodeValue;
use super::problem::{Problems, quoted};
use crate::name::Name;
use crate::schedule::parse_duration;

impl<'a> Field<'a> {
    pub(super) fn text(&self, problems: &mut Problems) -> Option<&'a str> {
        match &self.node.value {
            NodeValue::String(text) => Some(text),
            // `version: 1.0` and `flag: true` are what people write when they mean a text.
            NodeValue::Int(_) | NodeValue::Float(_) | NodeValue::Bool(_) => self.refuse(
                problems,
                format!("expected text, found {}; put it in quotes", self.node.described()),
            ),
            _ => self.expected(problems, "text"),
        }
    }

    /// A text that isn't empty and has no NUL, which no system call takes.
    pub(super) fn full_text(&self, problems: &mut Problems) -> Option<&'a str> {
        let text = self.text(problems)?;
        if text.is_empty() {
            return self.refuse(problems, "must not be empty");
        }
        if text.contains('\0') {
            return self.refuse(problems, "must not hold a NUL character");
        }
        Some(text)
    }

    pub(super) fn flag(&self, problems: &mut Problems) -> Option<bool> {
        match &self.node.value {
            NodeValue::Bool(flag) => Some(*flag),
            _ => self.expected(problems, "true or false"),
        }
    }

    /// An integer in a range; `limit` names the constant behind the upper end, if there is one.
    pub(super) fn int(
        &self,
        problems: &mut Problems,
        range: RangeInclusive<u32>,
        limit: &str,
    ) -> Option<u32> {
        let NodeValue::Int(found) = self.node.value else {
            return self.expected(problems, "an integer");
        };
        match u32::try_from(found) {
            Ok(int) if range.contains(&int) => Some(int),
            _ => self.refuse(problems, outside(found, &range, limit)),
        }
    }

    pub(super) fn number(&self, problems: &mut Problems, range: RangeInclusive<f64>) -> Option<f64> {
        let number = match self.node.value {
            NodeValue::Float(number) => number,
            // Exact: only integers of a few digits are in any range that we have.
            NodeValue::Int(int) => int as f64,
            _ => return self.expected(problems, "a number"),
        };
        if range.contains(&number) {
            Some(number)
        } else {
            self.refuse(problems, outside(number, &range, ""))
        }
    }

    /// The words of a duration with its unit: `15s`, `1h30m`, `100ms`.
    pub(super) fn duration_words(&self, problems: &mut Problems) -> Option<&'a str> {
        const WHAT: &str = "a duration with a unit, for example 15s, 1h30m or 100ms";
        match &self.node.value {
            NodeValue::String(text) => Some(text),
            NodeValue::Int(number) => self.refuse(
                problems,
                format!("expected {WHAT}, found the bare number {number}; write {number}s for seconds"),
            ),
            _ => self.expected(problems, WHAT),
        }
    }

    pub(super) fn duration(
        &self,
        problems: &mut Problems,
        range: RangeInclusive<Duration>,
        limit: &str,
    ) -> Option<Duration> {
        let duration = match parse_duration(self.duration_words(problems)?) {
            Ok(duration) => duration,
            Err(error) => return self.refuse(problems, error.to_string()),
        };
        if range.contains(&duration) {
            return Some(duration);
        }
        let shown = duration_text(*range.start())..=duration_text(*range.end());
        self.refuse(problems, outside(duration_text(duration), &shown, limit))
    }

    pub(super) fn name(&self, problems: &mut Problems) -> Option<Name> {
        let text = self.text(problems)?;
        match Name::new(text) {
            Ok(name) => Some(name),
            Err(error) => self.refuse(problems, format!("{} is no name: it {error}", quoted(text))),
        }
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&self, problems: &mut Problems, known: &[(&str, T)]) -> Option<T> {
        let text = self.text(problems)?;
        let found = known.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
            return self.refuse(problems, unknown_word(text, &words));
        }
        found.map(|(_, value)| *value)
    }

    /// A map from text to text, each entry checked by `check`, which answers what is wrong with it.
    pub(super) fn texts(
        &self,
        problems: &mut Problems,
        check: impl Fn(&str, &str) -> Result<(), String>,
    ) -> Option<BTreeMap<String, String>> {
        let mut texts = BTreeMap::new();
        for (key, field) in self.entries(problems)? {
            let Some(value) = field.text(problems) else { continue };
            match check(key, value) {
                Ok(()) => {
                    texts.insert(key.to_owned(), value.to_owned());
                }
                Err(message) => {
                    field.refuse::<()>(problems, message);
                }
            }
        }
        Some(texts)
    }
}

fn outside<T: Display>(found: impl Display, range: &RangeInclusive<T>, limit: &str) -> String {
    let limit = if limit.is_empty() { String::new() } else { format!(" ({limit})") };
    format!("is {found}; it must be between {} and {}{limit}", range.start(), range.end())
}

/// A duration as people write it: `90s` is `1m30s`, zero is `0s`. `parse_duration` reads it back.
#[must_use]
pub fn duration_text(duration: Duration) -> String {
    let (seconds, ms) = (duration.as_secs(), duration.subsec_millis());
    let parts =
        [(seconds / 86_400, "d"), (seconds / 3_600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let mut text: String =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count}{unit}")).collect();
    if ms > 0 {
        text.push_str(&format!("{ms}ms"));
    }
    if text.is_empty() { "0s".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_read_as_people_write_them() {
        for (ms, text) in [
            (0, "0s"),
            (100, "100ms"),
            (90_000, "1m30s"),
            (86_400_000, "1d"),
            (366 * 86_400_000, "366d"),
            (5_400_250, "1h30m250ms"),
        ] {
            assert_eq!(duration_text(Duration::from_millis(ms)), text);
        }
    }

    proptest! {
        #[test]
        fn duration_texts_round_trip(ms in 0u64..300_000_000_000) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse_duration(&duration_text(duration)), Ok(duration));
        }
    }
}
