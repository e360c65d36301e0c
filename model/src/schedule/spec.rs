//! `ScheduleSpec`: what the user declared, as plain data. `Schedule::compile` judges it.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeSeq, Serializer};
use serde::{Deserialize, Serialize};

use super::dialect::Dialect;
use super::exclude::Exclusion;
use super::policy::{Fold, Gap};
use super::text;
use crate::time::Timestamp;

/// How many schedules one job may have: each costs at every step.
pub const SCHEDULES_MAX: usize = 20;

/// When a job is due. Several rules on one job are a union: an instant that two of them name occurs once. As JSON it is
/// a map, or a list of maps if there is more than one.
///
/// ```
/// use ecron_model::schedule::ScheduleSpec;
/// let text = r#"{"cron": "30 2 * * 1-5", "timeZone": "Europe/Berlin"}"#;
/// let spec: ScheduleSpec = serde_json::from_str(text).unwrap();
/// assert_eq!(spec.cron, ["30 2 * * 1-5"]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default, remote = "Self")]
pub struct ScheduleSpec {
    /// Expressions of `dialect`; one or many in a manifest.
    #[serde(with = "text::one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub cron: Vec<String>,
    /// A fixed interval from `start`, or from the job's creation.
    #[serde(with = "text::duration", skip_serializing_if = "Option::is_none")]
    pub every: Option<Duration>,
    /// Single instants; one or many in a manifest.
    #[serde(with = "text::instants", skip_serializing_if = "Vec::is_empty")]
    pub at: Vec<Timestamp>,
    /// A delay after the end of the previous run. Such a schedule has no instants of its own.
    #[serde(with = "text::duration", skip_serializing_if = "Option::is_none")]
    pub after: Option<Duration>,
    /// Whose rules `cron` is read by; `ecron` unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dialect: Option<Dialect>,
    /// An IANA name; UTC unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// For fixed times that don't exist on a day; the dialect's default unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap: Option<Gap>,
    /// For fixed times that occur twice on a day; the dialect's default unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fold: Option<Fold>,
    /// Nothing occurs before this instant.
    #[serde(with = "text::instant", skip_serializing_if = "Option::is_none")]
    pub start: Option<Timestamp>,
    /// Nothing occurs after this instant.
    #[serde(with = "text::instant", skip_serializing_if = "Option::is_none")]
    pub end: Option<Timestamp>,
    /// Only the first so many occurrences since `start`, or since the job's creation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Civil dates, ranges, expressions and calendars on which nothing occurs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<Exclusion>,
    /// Every occurrence is late by its own stable amount below this.
    #[serde(with = "text::duration", skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Duration>,
    /// All occurrences of the job are late by the job's own stable amount below this.
    #[serde(with = "text::duration", skip_serializing_if = "Option::is_none")]
    pub spread: Option<Duration>,
    /// The job's further schedules, each with a zone, limits and exclusions of its own; these have none in turn.
    #[serde(skip)]
    pub also: Vec<Self>,
}

impl ScheduleSpec {
    /// Many as one: the first, with the others beside it; `None` for none.
    #[must_use]
    pub fn union(schedules: impl IntoIterator<Item = Self>) -> Option<Self> {
        let mut schedules = schedules.into_iter();
        let first = schedules.next()?;
        Some(Self { also: schedules.collect(), ..first })
    }

    /// Each of the job's schedules, in the order of the manifest.
    pub fn each(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.also)
    }

    /// The same with each of them changed.
    pub fn change_each(&mut self, change: impl Fn(&mut Self)) {
        change(self);
        self.also.iter_mut().for_each(change);
    }
}

/// One of many, as a map.
struct One<'a>(&'a ScheduleSpec);

impl Serialize for One<'_> {
    fn serialize<S: Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
        ScheduleSpec::serialize(self.0, output)
    }
}

impl Serialize for ScheduleSpec {
    fn serialize<S: Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
        if self.also.is_empty() {
            return One(self).serialize(output);
        }
        let mut list = output.serialize_seq(Some(1 + self.also.len()))?;
        self.each().try_for_each(|one| list.serialize_element(&One(one)))?;
        list.end()
    }
}

impl<'de> Deserialize<'de> for ScheduleSpec {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_any(OneOrList)
    }
}

struct OneOrList;

impl<'de> Visitor<'de> for OneOrList {
    type Value = ScheduleSpec;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a schedule or a list of schedules")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ScheduleSpec, A::Error> {
        ScheduleSpec::deserialize(de::value::MapAccessDeserializer::new(map))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<ScheduleSpec, A::Error> {
        let mut all: Vec<ScheduleSpec> = Vec::new();
        while let Some(one) = list.next_element::<ScheduleSpec>()? {
            if !one.also.is_empty() {
                return Err(de::Error::custom("a list of schedules inside another"));
            }
            all.push(one);
        }
        ScheduleSpec::union(all).ok_or_else(|| de::Error::custom("an empty list of schedules"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_schedule_is_a_map_and_many_are_a_list() {
        for text in [
            r#"{"every":"15s"}"#,
            r#"[{"cron":"0 9 * * *","timeZone":"Europe/Berlin"},{"cron":"0 9 * * *","timeZone":"America/New_York"}]"#,
        ] {
            let spec: ScheduleSpec = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&spec).unwrap(), text);
        }
        let one: ScheduleSpec = serde_json::from_str(r#"[{"every":"15s"}]"#).unwrap();
        assert_eq!(serde_json::to_string(&one).unwrap(), r#"{"every":"15s"}"#);
        for text in ["[]", r#"[[{"every":"15s"},{"every":"20s"}]]"#, r#""15s""#, r#"[{"evry":"15s"}]"#] {
            assert!(serde_json::from_str::<ScheduleSpec>(text).is_err(), "{text}");
        }
    }
}
