//! What an operator looks at: pages of jobs, what comes next, what was changed, and the plan, nodes and queues as they are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `list`: jobs, optionally of one namespace, with these labels, and so on; a page of at most `limit` after `after`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListRequest {
    #[serde(default)]
    pub namespace: Option<String>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub after: Option<String>,
    #[serde(default)]
    pub limit: Option<usize>,
    /// Only jobs whose full name contains this text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<String>,
    /// Only jobs that stand so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<JobState>,
    /// How many of each job's newest runs to tell, at most 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recent: Option<usize>,
}

/// How a job stands, as far as a list can be narrowed by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum JobState {
    /// Its occurrences are planned.
    Active,
    /// Paused, by itself or with its namespace.
    Paused,
    /// Its newest run was dead-lettered.
    Failing,
    /// Its newest revision can't be read.
    Invalid,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ListReply {
    /// In order of name.
    pub jobs: Vec<super::JobView>,
    /// Where the next page begins, if there may be one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A run in one line: when it was due, and how it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RunMark {
    pub due_at: String,
    pub state: String,
}

/// `next`: a job's next occurrences, and why each is where it is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NextRequest {
    pub job: String,
    /// After this instant; now unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Before this instant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// 10 unless given, at most 1,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<usize>,
    /// Also count the occurrences of this many days (UTC), today included; at most 366.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<usize>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct NextReply {
    pub job: String,
    /// In words.
    pub schedule: String,
    pub time_zone: String,
    /// It is paused: these occurrences aren't planned until it is resumed.
    pub suspended: bool,
    /// Its runs follow the end of the run before: there is nothing to foretell.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub follows_ends: bool,
    pub occurrences: Vec<OccurrenceView>,
    /// Days that have any, as far as 20,000 occurrences reach.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<DayView>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DayView {
    /// `2026-11-22`
    pub day: String,
    pub count: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OccurrenceView {
    pub at: String,
    /// The same in the job's zone.
    pub local: String,
    /// What moved it away from its rule's plain civil time; empty for an ordinary one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
}

/// `explain`: why an occurrence did, will or did not run. Without an instant: the last one and the next.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExplainRequest {
    pub job: String,
    /// RFC 3339, or a civil time in the job's zone: `2026-03-29 02:30`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ExplainReply {
    pub job: String,
    pub explanations: Vec<ExplanationView>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ExplanationView {
    pub at: String,
    /// The same in the job's zone.
    pub local: String,
    /// `ran`, `failed`, `under-way`, `will-run`, `will-not-run`, `did-not-run` or `unknown`.
    pub fate: String,
    /// For programs: `suspended`, `nobody-pulls`, …
    pub code: String,
    /// For people: one sentence.
    pub cause: String,
    /// Every step on the way, in order; nothing comes after one that was refused.
    pub steps: Vec<StepView>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct StepView {
    pub step: String,
    /// `done`, `missing`, `refused` or `open`.
    pub status: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// `changes`: what was done to a job, newest first; also to one that was deleted within a week.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangesRequest {
    pub job: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChangesReply {
    pub job: String,
    pub changes: Vec<ChangeView>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ChangeView {
    /// When it took effect.
    pub at: String,
    pub revision: u64,
    /// `created`, `edited`, `paused`, `resumed` or `deleted`.
    pub change: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The schedule that it put in force, in the form of a manifest, if it changed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<serde_json::Value>,
}

/// `cluster`: who is there, and how far each shard has come.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterRequest {}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ClusterReply {
    /// By the clock that decides what is due.
    pub at: String,
    pub nodes: Vec<NodeView>,
    pub shards: Vec<ShardView>,
    pub leases: Vec<LeaseView>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct NodeView {
    pub node: String,
    pub roles: Vec<String>,
    pub weight: u32,
    pub version: String,
    pub heartbeat_at: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct LeaseView {
    pub shard: u16,
    pub role: String,
    pub node: String,
    pub epoch: u64,
    pub expires_in_ms: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ShardView {
    pub shard: u16,
    /// Every occurrence due before this instant is in the minute tier, or beyond it.
    pub planned_until: String,
    /// Every occurrence due up to this instant has been taken by a dispatcher.
    pub taken_until: String,
}

/// `buckets`: the tiers of the plan as Redis holds them, a page in order of tier and key.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BucketsRequest {
    /// Members shown of each bucket: 5 unless given, at most 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<usize>,
    /// Only this tier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// The last key of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct BucketsReply {
    pub buckets: Vec<BucketView>,
    /// Of all buckets, tier by tier.
    pub totals: Vec<TierTotal>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TierTotal {
    /// `minute`, `spaced`, `half-hour` or `horizon`.
    pub tier: String,
    pub buckets: u64,
    pub entries: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BucketView {
    pub shard: u16,
    pub tier: String,
    pub key: String,
    pub entries: u64,
    /// The earliest members.
    pub first: Vec<MemberView>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct MemberView {
    pub member: String,
    pub due_at: String,
}

/// `sent`: published runs without an outcome, those that are open longest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SentRequest {
    /// 100 unless given, at most 1,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SentReply {
    pub runs: Vec<SentView>,
    /// There are more than are listed.
    pub more: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct SentView {
    pub run: String,
    pub revision: u64,
    pub published_at: String,
    /// From then on somebody looks what became of it.
    pub worry_at: String,
    /// It is to be stopped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancelling: bool,
}

/// `queues`: the queues that are declared or that jobs use, with what is in them; a page in order of name.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QueuesRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// 100 unless given, at most 500.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct QueuesReply {
    pub queues: Vec<QueueView>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A queue as it is now.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct QueueView {
    pub queue: String,
    /// There is an object of its name, with a revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// Its limits in words.
    pub limits: String,
    pub paused: bool,
    /// Jobs that use it.
    pub jobs: usize,
    /// Somebody has asked for its work, or ecron has made it ready: it has a consumer.
    pub has_consumer: bool,
    /// Pulls of executors that wait for work now.
    pub waiting_pulls: u64,
    /// Messages that executors have in hand, or that wait for their retry.
    pub in_hand: u64,
    /// Messages that were never delivered.
    pub undelivered: u64,
    /// Runs in the queue's gate that were let go and haven't ended; of a queue with limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub under_way: Option<u64>,
    /// Runs that wait in the gate.
    pub waiting: u64,
    /// When the one that waits longest was due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_due_at: Option<String>,
}
