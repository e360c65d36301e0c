//! The forms of requests and answers, version 1. Both sides use these types; docs/protocol.md describes their JSON.

use model::object::ObjectKind;
use model::progress::Fraction;
use serde::{Deserialize, Serialize};

mod audit;
mod look;
mod operate;

pub use audit::*;
pub use look::*;
pub use operate::*;

/// The version of the API's bodies.
pub const API_VERSION: u32 = 1;

/// Every answer: either `ok` or `error`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Envelope<T> {
    pub v: u32,
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    pub ok: Option<T>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ApiError>,
}

impl<T> From<Result<T, ApiError>> for Envelope<T> {
    fn from(outcome: Result<T, ApiError>) -> Self {
        match outcome {
            Ok(ok) => Self { v: API_VERSION, ok: Some(ok), error: None },
            Err(error) => Self { v: API_VERSION, ok: None, error: Some(error) },
        }
    }
}

/// The three classes of failure, and the most common refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// The input is wrong, or the state forbids it. Nothing was changed.
    Refused,
    /// There is no such thing. Nothing was changed.
    NotFound,
    /// A server couldn't be reached. Nothing was changed; try again.
    Failed,
    /// No answer in time: it may have happened. Look before trying again.
    Unknown,
    /// The thing isn't at the revision that the request expected. Nothing was changed.
    Conflict,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[error("{message}")]
pub struct ApiError {
    pub kind: ErrorKind,
    /// Reads after "failed to".
    pub message: String,
    /// Everything that is wrong with the input.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<InputProblem>,
}

/// One thing that is wrong with one object of the input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct InputProblem {
    /// Which of the objects, from 0.
    pub object: usize,
    pub field: String,
    pub message: String,
}

impl ApiError {
    #[must_use]
    pub fn new(kind: ErrorKind, message: String) -> Self {
        Self { kind, message, problems: vec![] }
    }

    #[must_use]
    pub fn refused(message: String) -> Self {
        Self::new(ErrorKind::Refused, message)
    }

    #[must_use]
    pub fn not_found(what: &str) -> Self {
        Self::new(ErrorKind::NotFound, format!("find {what}"))
    }
}

/// `apply`: declare jobs and other objects, in any order. All are validated before any is written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApplyRequest {
    pub manifests: Vec<serde_json::Value>,
    /// Validate only.
    #[serde(default)]
    pub dry_run: bool,
    /// Who asks, for the change logs: `user@host`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// For a single job: write it only if this is its newest revision; 0: only if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<u64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ApplyReply {
    pub jobs: Vec<AppliedJob>,
    /// Calendars, namespaces and queues.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<AppliedObject>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct AppliedObject {
    #[cfg_attr(feature = "openapi", schema(value_type = String, example = "Queue"))]
    pub kind: ObjectKind,
    pub name: String,
    pub revision: u64,
    pub action: ApplyAction,
    /// The jobs that name the calendar and were brought up to date with it, each as a new revision.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub updated: Vec<AppliedJob>,
    /// How many more of them there are than are listed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub updated_more: usize,
    /// What one should know about the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Why this one wasn't carried out although the input was valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ApiError>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct AppliedJob {
    pub job: String,
    pub revision: u64,
    pub action: ApplyAction,
    /// Why this one wasn't written although the input was valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ApiError>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ApplyAction {
    Created,
    Configured,
    Unchanged,
    Failed,
}

/// `get`, `delete`: one job by its full name.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JobRequest {
    pub job: String,
}

/// `object` and `delete-object`: a calendar (`billing/de-holidays`), a queue (`billing/reports`), a namespace (`billing`)
/// or a backfill (`billing/june`).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectRequest {
    #[cfg_attr(feature = "openapi", schema(value_type = String, example = "Queue"))]
    pub kind: ObjectKind,
    pub name: String,
}

/// `objects`: those of a kind, optionally of one namespace; a page of at most `limit` after `after`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectsRequest {
    #[cfg_attr(feature = "openapi", schema(value_type = String, example = "Queue"))]
    pub kind: ObjectKind,
    #[serde(default)]
    pub namespace: Option<String>,
    #[serde(default)]
    pub after: Option<String>,
    #[serde(default)]
    pub limit: Option<usize>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ObjectsReply {
    /// In order of name, without manifests and jobs.
    pub objects: Vec<ObjectView>,
    /// Where the next page begins, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// An object that isn't a job.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ObjectView {
    #[cfg_attr(feature = "openapi", schema(value_type = String, example = "Queue"))]
    pub kind: ObjectKind,
    pub name: String,
    pub revision: u64,
    /// In words: "3 entries", "minInterval 10s", "concurrency 8, paused".
    pub summary: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<serde_json::Value>,
    /// The jobs that name the calendar, or use the queue.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<String>,
    /// How many more of them there are than are listed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub jobs_more: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeleteObjectReply {
    #[cfg_attr(feature = "openapi", schema(value_type = String, example = "Queue"))]
    pub kind: ObjectKind,
    pub name: String,
    pub revision: u64,
}

/// A job: what was declared, and how it stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct JobView {
    pub job: String,
    pub manifest: serde_json::Value,
    pub status: JobStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct JobStatus {
    /// The newest accepted revision.
    pub revision: u64,
    /// The revision in force: from then on no run of an older one is published. (In `list`, the one that the planner has
    /// installed; it is in force within a moment.)
    pub observed_revision: u64,
    pub created_at: String,
    /// In words: "every 10 s", "at 02:30 on weekdays, Europe/Berlin".
    pub schedule: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_due_at: Option<String>,
    /// Paused, by itself or with its namespace.
    pub suspended: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_since: Option<String>,
    /// Its namespace is paused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub namespace_paused: bool,
    /// Why the newest revision isn't in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<RunView>,
    /// The newest runs, newest first, if `list` was asked for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recent: Vec<RunMark>,
    /// In answers of `get`, not of `list`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stats: Option<StatsView>,
}

/// `runs`: a job's remembered runs, newest first.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunsRequest {
    pub job: String,
    #[serde(default)]
    pub limit: Option<usize>,
    /// Without outputs, and of errors the beginning only: enough for a list.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub brief: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RunsReply {
    pub runs: Vec<RunView>,
}

/// `run`: one run by its id.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunRequest {
    pub run: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RunView {
    pub run: String,
    /// `waiting`, `dispatched`, `succeeded`, `dead-lettered`, `cancelled` or `skipped`.
    pub state: String,
    pub due_at: String,
    pub revision: u64,
    /// 0, and one more for each redrive.
    pub generation: u32,
    /// What a waiting run waits for: `overlap` (an earlier run of its job), `queue`, `dispatch` or its turn in a `catch-up`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_at: Option<String>,
    /// The first attempt's start (after a redrive, that of the newest one): the run took from here to `endedAt`. Known
    /// once an attempt has ended, and only of attempts that weren't lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// The very first attempt's start minus the due instant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lateness_ms: Option<i64>,
    pub attempts: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_outcome: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Why it was skipped, or until when a catch-up holds it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who cancelled it; it may go on until its executor has stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<CancelView>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// The attempt that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<RunningView>,
    /// Every attempt before the one that is under way, in order; in answers of `run`, not of `runs`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempt_log: Vec<AttemptView>,
}

/// An attempt that is under way: what it said of itself last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RunningView {
    pub attempt: u32,
    pub since: String,
    pub executor: String,
    /// When it was heard of last.
    pub at: String,
    /// How far it has come, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<f64>))]
    pub fraction: Option<Fraction>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// `redrive` and `purge`: some dead letters, by their numbers; at most 1,000.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LettersRequest {
    pub letters: Vec<u64>,
    /// How they were chosen, in words, for the audit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Who asks, for the audit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// What this request is a part of, if that takes several: the audit shows them as one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LettersReply {
    /// In the order of the request.
    pub letters: Vec<LetterOutcome>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LetterOutcome {
    pub letter: u64,
    /// The run that was started again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Why nothing was done with this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ApiError>,
}

/// What a job's runs add up to since it was created.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct StatsView {
    pub succeeded: u64,
    /// Dead-lettered.
    pub failed: u64,
    pub cancelled: u64,
    pub skipped: u64,
    /// 0 to 1: succeeded of succeeded and failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success_rate: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success_at: Option<String>,
    /// From due to the first attempt's start; without runs that a backfill asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lateness_ms: Option<PercentilesView>,
    /// From the first attempt's start to the end, with all attempts and waits between them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<PercentilesView>,
}

/// Off by 6 % at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PercentilesView {
    pub p50: u64,
    pub p95: u64,
    pub p99: u64,
}

/// One attempt of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct AttemptView {
    pub generation: u32,
    pub attempt: u32,
    pub outcome: String,
    /// Not known of one that nobody reported; nor is its executor, which dead letters don't tell either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor: Option<String>,
}

/// `delete`: a job goes, with its history.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeleteRequest {
    pub job: String,
    /// Who asks, for the change log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Delete it only if this is its newest revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<u64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeleteReply {
    pub job: String,
    pub revision: u64,
}
