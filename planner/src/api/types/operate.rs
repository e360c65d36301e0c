//! What an operator does: pausing, triggers, cancelling, backfills, submitting, and looking ahead.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::is_zero;

/// `trigger`: one run of a job, now.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TriggerRequest {
    pub job: String,
    /// Instead of the job's own; any JSON, also `null`.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub payload: Option<serde_json::Value>,
    /// Names this trigger: the same key again, within a day, is answered with this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Who asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// A field that is there, even if it is `null`.
fn given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<serde_json::Value>, D::Error> {
    serde_json::Value::deserialize(deserializer).map(Some)
}

/// `pause` and `resume`: a job (`billing/nightly-report`), a namespace (`billing`) or a backfill (`billing/june`).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PauseRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backfill: Option<String>,
    /// Who asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TriggerReply {
    /// The run that was started.
    pub run: String,
    /// It was started before, by a request with the same key.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub duplicate: bool,
}

/// `backfill`: run a job's occurrences of a time that has passed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackfillRequest {
    pub job: String,
    /// The first instant of the range.
    pub from: String,
    /// The first instant after the range; not in the future.
    pub to: String,
    /// Runs of it that may be under way at once: 1 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_active: Option<u32>,
    /// The newest first.
    #[serde(default)]
    pub reverse: bool,
    /// Its name, in the job's namespace. Made up unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Only say what it would do.
    #[serde(default)]
    pub dry_run: bool,
    /// Who asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct BackfillReply {
    /// Empty for a dry run.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub backfill: String,
    pub job: String,
    /// Occurrences in the range.
    pub total: u32,
    /// Those of them whose runs are remembered: they are left out.
    pub already_ran: u32,
    /// Those of the others that are older than what the job's history keeps: they may have run, and run again.
    #[serde(default)]
    pub may_have_run: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
}

/// `backfills`: all of them, those of a namespace, or one.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackfillsRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backfill: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BackfillsReply {
    /// In order of name.
    pub backfills: Vec<BackfillView>,
}

/// `cancel-backfill`: one by its full name.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CancelBackfillRequest {
    pub backfill: String,
    /// Who asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// A backfill: what was asked for, and how far it has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct BackfillView {
    pub backfill: String,
    pub job: String,
    pub from: String,
    pub to: String,
    pub max_active: u32,
    pub reverse: bool,
    /// `running`, `paused`, `cancelled`, `done` or `failed`.
    pub phase: String,
    pub total: u32,
    /// Runs that were begun: those under way and those that ended.
    pub started: u32,
    /// Runs under way.
    pub active: u32,
    pub succeeded: u32,
    /// Dead-lettered or cancelled.
    pub failed: u32,
    /// Recorded as skipped, with a reason.
    pub skipped: u32,
    /// Left out: there was a run already.
    pub already_ran: u32,
    pub created_at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// `catch-up`: of one job, of a namespace's, or of all.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CatchUpRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct CatchUpReply {
    /// When it was looked at.
    pub at: String,
    /// Occurrences that were missed, of all jobs.
    pub missed: u64,
    /// Runs that would start, of all jobs.
    pub runs: u64,
    /// From the first start to the last.
    pub over_ms: i64,
    /// The jobs that missed something, those that would start most first.
    pub jobs: Vec<CatchUpView>,
    /// How many more of them there are than are listed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub jobs_more: usize,
}

/// What one job would be caught up on, if it were resumed and dispatched now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct CatchUpView {
    pub job: String,
    /// Nothing that was due after this instant was dispatched.
    pub since: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_since: Option<String>,
    /// It is paused by itself.
    pub suspended: bool,
    pub namespace_paused: bool,
    /// `catchUp.policy`.
    pub policy: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    pub missed: u32,
    /// Runs that would start.
    pub runs: usize,
    /// The due instants of the first and the last of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    /// The newest ten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub due: Vec<String>,
    /// From the first start to the last, by `catchUp.rate`.
    pub over_ms: i64,
}

/// `pause-queue` and `resume-queue`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QueueRequest {
    /// `billing/reports`.
    pub queue: String,
    /// Who asks, for example `ann@desk`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct PauseQueueReply {
    pub queue: String,
    pub paused: bool,
    pub revision: u64,
    /// `false`: it was so already.
    pub changed: bool,
}

/// `submit`: ad-hoc work, now or for later.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SubmitRequest {
    /// `billing/reports`.
    pub queue: String,
    /// Any JSON: the message's body is its text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<serde_json::Value>,
    /// Instead of it, any bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_base64: Option<String>,
    /// For the handler.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Names the run, so that the same submission can be repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// While the key is taken, further submissions are told its run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique: Option<UniqueRequest>,
    /// As in `Ecron-Timeout`: `10m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// As in `Ecron-Retry`: `attempts=5`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<String>,
    /// Not before this instant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Not before this much time has passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<String>,
    /// Who asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// What a key is unique among, and for how long.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UniqueRequest {
    /// `queue` (unless given) or `namespace`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// `started`, `done` (unless given), or a duration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SubmitReply {
    /// The run of this work.
    pub run: String,
    /// It had been submitted before.
    pub duplicate: bool,
}

/// `cancel`: one run by its id.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CancelRequest {
    pub run: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who asks: `ada@host-1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CancelReply {
    pub run: String,
    /// `cancelled`; or `cancelling`: an executor may have it in hand, and is being told.
    pub state: String,
}

/// Who cancelled a run, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CancelView {
    pub at: String,
    pub by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
