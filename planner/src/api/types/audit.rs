//! `audit`: whether each occurrence that jobs' schedules name is accounted for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `audit`: of one job, or of a page of a shard's jobs. Reads only, unless `repair` is set.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuditRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// Without a job: of this shard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<u16>,
    /// Without a job: only those whose names come after this one, as `next` of the answer before says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Only what is due after this instant (RFC 3339). Unset: a day ago.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Only what is due up to this instant. Unset: everything that is planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Close the gaps that can be closed without a run twice.
    #[serde(default)]
    pub repair: bool,
    /// Who asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct AuditReply {
    /// Shards of the cluster.
    pub shards: u16,
    pub jobs: usize,
    /// Occurrences that were looked at: the sum of the counts below.
    pub occurrences: usize,
    pub planned: usize,
    pub under_way: usize,
    pub ended: usize,
    pub skipped: usize,
    /// Those of which nothing is left, and that proves nothing: how many by why (`forgotten`, `missed`, `paused`, `changed`,
    /// `interrupted`, `before-the-beginning`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub excused: BTreeMap<String, usize>,
    pub gaps: usize,
    /// Jobs that can't be read, or that changed while they were looked at.
    pub unread: usize,
    /// At most 1,000.
    pub findings: Vec<FindingView>,
    /// There are more jobs: ask again with this as `after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Something that is missing.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct FindingView {
    pub job: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<String>,
    /// For programs: `entry`, `record`, `place`, `sent`, …
    pub missing: String,
    /// For people.
    pub what: String,
    /// It was put right.
    pub repaired: bool,
}
