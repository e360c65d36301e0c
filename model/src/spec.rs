//! A job as its user declared it: what to run, when, and by which rules.
//!
//! `manifest` turns documents into these values and back; nothing here is optional in meaning, every default has
//! been filled in.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::codes::CodeRanges;
use crate::gate::GateRules;
use crate::misfire::CatchUp;
use crate::name::{CalendarId, JobId, Name, QueueId};
use crate::overlap::{self, Overlap};
use crate::pause::Pause;
use crate::priority::Priority;
use crate::retry::RetryPolicy;
use crate::schedule::{NamedCalendar, ScheduleSpec};
use crate::time::Timestamp;
use crate::timeline::Superseded;

/// A job, complete and checked.
#[derive(Clone, Debug, PartialEq)]
pub struct JobSpec {
    pub id: JobId,
    pub labels: BTreeMap<String, String>,
    pub schedule: ScheduleSpec,
    /// What the calendars that the schedule names said when the job was accepted, so that a revision means the same
    /// for ever, wherever it is read.
    pub calendars: BTreeMap<Name, NamedCalendar>,
    pub queue: QueueId,
    pub work: Work,
    /// Added to each run message, for the handler.
    pub headers: BTreeMap<String, String>,
    /// What happens to an occurrence that falls due while earlier runs are under way.
    pub overlap: Overlap,
    /// Runs that may be under way at once. Unset: one, unless `overlap` is `allow`.
    pub max_active: Option<u32>,
    pub catch_up: CatchUp,
    /// Not started this long after it was due: skipped, with a reason.
    pub starting_deadline: Option<Duration>,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// How long the whole run may take, with all its attempts and the waits between them, from its publication.
    pub deadline: Option<Duration>,
    pub retry: RetryPolicy,
    /// Which runs go first where runs of a queue wait for their turn.
    pub priority: Priority,
    /// Runs of the same key share the queue's rate for a key.
    pub rate_key: Option<String>,
    /// Paused: no occurrence is planned while set.
    pub suspend: bool,
    pub history: HistoryLimits,
    /// Delete the job once its only run has ended: set for work that was deferred ad hoc.
    pub delete_when_done: bool,
}

impl JobSpec {
    /// The rule by which its runs wait for each other; `None` if nothing limits how many are under way.
    #[must_use]
    pub fn overlap_rule(&self) -> Option<overlap::Rule> {
        overlap::Rule::of(self.overlap, self.max_active)
    }
}

/// A calendar: dates that the jobs of its namespace leave out together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CalendarSpec {
    pub id: CalendarId,
    pub calendar: NamedCalendar,
}

/// A queue that has rules of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSpec {
    pub id: QueueId,
    pub rules: GateRules,
    pub from: Senders,
}

/// Whose jobs may use a queue, besides those of its own namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Senders {
    Named(BTreeSet<Name>),
    Any,
}

impl Default for Senders {
    fn default() -> Self {
        Self::Named(BTreeSet::new())
    }
}

impl QueueSpec {
    /// Whether jobs of a namespace may use it.
    #[must_use]
    pub fn accepts(&self, namespace: &Name) -> bool {
        let is_named = match &self.from {
            Senders::Any => true,
            Senders::Named(names) => names.contains(namespace),
        };
        is_named || *namespace == self.id.namespace
    }
}

/// What holds for all jobs of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceSpec {
    pub name: Name,
    /// No job may have two occurrences closer together.
    pub min_interval: Option<Duration>,
    /// All its jobs are paused, whatever they say themselves.
    pub paused: bool,
}

/// What a run carries to its executor.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// Any JSON, for a handler of the user's own. The message body is its text.
    Payload(serde_json::Value),
    /// Any bytes (deferred ad-hoc work). The message body, untouched.
    Bytes(Vec<u8>),
    /// A command for the built-in executor.
    Exec(ExecSpec),
    /// A request for the built-in executor.
    Http(HttpSpec),
}

/// A command: exactly one of `command` (argv) and `shell` (a line for `/bin/sh -c`).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExecSpec {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Run as this user (system crontabs); needs an executor that runs as root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Exit codes after which trying again can't help. 126 and 127 (it can't be run) always are such.
    #[serde(default, skip_serializing_if = "CodeRanges::is_empty")]
    pub permanent_exit_codes: CodeRanges,
}

/// A request; an answer outside 200 to 299 is a failure.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpSpec {
    #[serde(default = "get")]
    pub method: String,
    pub url: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Statuses after which trying again can't help. Unset: 400 to 499, but for 408, 425 and 429.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permanent_statuses: Option<CodeRanges>,
}

impl ExecSpec {
    /// Whether a command that ended with this code is worth another attempt. By the shells' custom, 126 and 127 say
    /// that there was nothing to run.
    #[must_use]
    pub fn is_permanent(&self, exit_code: u16) -> bool {
        matches!(exit_code, 126 | 127) || self.permanent_exit_codes.contains(exit_code)
    }
}

impl HttpSpec {
    /// Whether a request that was answered so is worth another attempt.
    #[must_use]
    pub fn is_permanent(&self, status: u16) -> bool {
        match &self.permanent_statuses {
            Some(statuses) => statuses.contains(status),
            // Too late, too early, too many: another time may be better.
            None => (400..500).contains(&status) && !matches!(status, 408 | 425 | 429),
        }
    }
}

fn get() -> String {
    "GET".into()
}

/// How many finished runs a job keeps, for each kind of end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryLimits {
    pub succeeded: u32,
    pub failed: u32,
    pub skipped: u32,
}

impl Default for HistoryLimits {
    fn default() -> Self {
        Self { succeeded: 3, failed: 10, skipped: 100 }
    }
}

/// How long an attempt may take unless the job says otherwise.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(600);

/// What acceptance adds to a spec: facts that its rules need and its user doesn't write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acceptance {
    /// When the job was first accepted: the anchor of `every`. Survives edits.
    pub created_at: Timestamp,
    /// Since when its present schedule counts: no earlier instant is an occurrence. An edit of the schedule moves it, an
    /// edit of anything else doesn't.
    pub schedule_since: Timestamp,
    /// The schedules that were in force before, oldest first.
    pub superseded: Vec<Superseded>,
    /// The newest time in which it was paused.
    pub pause: Option<Pause>,
    /// Its namespace is paused, and so is it.
    pub namespace_paused: bool,
}

impl Acceptance {
    /// Of a job that is new at this instant, and runs.
    #[must_use]
    pub fn new(at: Timestamp) -> Self {
        Self {
            created_at: at,
            schedule_since: at,
            superseded: Vec::new(),
            pause: None,
            namespace_paused: false,
        }
    }
}
