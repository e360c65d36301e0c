//! `ScheduleSpec`: what the user declared, as plain data. `Schedule::compile` judges it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::dialect::Dialect;
use super::exclude::Exclusion;
use super::policy::{Fold, Gap};
use super::text;
use crate::time::Timestamp;

/// When a job is due. Several rules on one job are a union: an instant that two of them name occurs once.
///
/// ```
/// use ecron_model::schedule::ScheduleSpec;
/// let text = r#"{"cron": "30 2 * * 1-5", "timeZone": "Europe/Berlin"}"#;
/// let spec: ScheduleSpec = serde_json::from_str(text).unwrap();
/// assert_eq!(spec.cron, ["30 2 * * 1-5"]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
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
}
