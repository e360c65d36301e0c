//! Stored forms, versioned, and their conversion to and from what the traits speak of.
//!
//! Hashes are written as fields of text that a person can read; a hash of a version that this build doesn't know is
//! reported as corrupt, never guessed at. Nothing here talks to a server.

use std::str::FromStr;
use std::time::Duration;

use model::bucket::{HalfHour, Placed, Tier};
use model::id::{Occurrence, Revision};
use model::run::{AttemptEnd, Generation, Outcome, RunState, WaitsFor};
use model::spec::HistoryLimits;
use model::stats::FirstStart;
use model::time::{Timestamp, duration_ms};

use crate::error::StoreError;
use crate::keys::History;
use crate::lease::{Epoch, Role};
use crate::ledger::{CancelMark, RunRecord, SentRun, Settlement};
use crate::node::{Node, NodeView};
use crate::plan::{After, Cursor, JobRecord};

/// The version of all stored forms; field `v` of every hash.
pub const VERSION: &str = "1";

/// The fields of a job's hash, in the order in which they are read.
pub const JOB_FIELDS: [&str; 9] =
    ["v", "revision", "spec", "history", "overlap", "after", "after_due", "condition", "placed"];

/// The fields of a run's hash, in the order in which they are read.
pub const RUN_FIELDS: [&str; 16] = [
    "v",
    "state",
    "revision",
    "generation",
    "waits_for",
    "triggered",
    "published",
    "republished",
    "attempt",
    "first",
    "error",
    "executor",
    "output",
    "skip_reason",
    "cancel",
    "ended_at",
];

/// The fields of a shard's cursor, in the order in which they are read. In milliseconds, since scripts compare them.
pub const CURSOR_FIELDS: [&str; 5] =
    ["v", "incarnation", "planned_until_ms", "taken_until_ms", "spec_revision"];

/// Some fields of a hash and their values.
pub type Fields = Vec<(&'static str, String)>;

/// The bucket of a coarse place: what follows the shard's prefix in its key.
#[must_use]
pub fn place_bucket(placed: &Placed) -> String {
    match placed.tier {
        Tier::HalfHour => format!("half-hour:{}", HalfHour::of(placed.due_at)),
        Tier::Horizon => "horizon".into(),
    }
}

/// A coarse place as a job's hash holds it: bucket and due, `half-hour:2026-11-22T06:30Z 2026-11-22T06:45:00Z`.
#[must_use]
pub fn place_text(placed: &Placed) -> String {
    format!("{} {}", place_bucket(placed), placed.due_at)
}

/// A coarse place from its text.
#[must_use]
pub fn place_from(text: &str) -> Option<Placed> {
    let (bucket, due_at) = text.split_once(' ')?;
    let tier = if bucket == "horizon" { Tier::Horizon } else { Tier::HalfHour };
    let placed = Placed { tier, due_at: due_at.parse().ok()? };
    (place_bucket(&placed) == bucket).then_some(placed)
}

/// The list that a run of this state is remembered in; `None` while it is open.
#[must_use]
pub fn history_of(state: RunState) -> Option<History> {
    match state {
        RunState::Waiting | RunState::Dispatched => None,
        RunState::Succeeded => Some(History::Succeeded),
        RunState::DeadLettered | RunState::Cancelled => Some(History::Failed),
        RunState::Skipped => Some(History::Skipped),
    }
}

/// How many runs of a list a job keeps.
#[must_use]
pub fn history_limit(limits: &HistoryLimits, kind: History) -> u32 {
    match kind {
        History::Succeeded => limits.succeeded,
        History::Failed => limits.failed,
        History::Skipped => limits.skipped,
    }
}

/// History limits as a job's hash holds them: `succeeded=3 failed=10 skipped=100`.
#[must_use]
pub fn limits_text(limits: &HistoryLimits) -> String {
    format!("succeeded={} failed={} skipped={}", limits.succeeded, limits.failed, limits.skipped)
}

fn limits_from(text: &str) -> Option<HistoryLimits> {
    let mut values = [("succeeded", None), ("failed", None), ("skipped", None)];
    for word in text.split(' ') {
        let (name, value) = word.split_once('=')?;
        let slot = values.iter_mut().find(|(known, _)| *known == name)?;
        slot.1 = Some(value.parse().ok()?);
    }
    Some(HistoryLimits { succeeded: values[0].1?, failed: values[1].1?, skipped: values[2].1? })
}

/// A hash as it was read: values in the order of its field list, and the key for messages.
struct Read<'a> {
    key: &'a str,
    fields: &'a [&'a str],
    values: &'a [Option<String>],
}

impl Read<'_> {
    fn corrupt(&self, problem: String) -> StoreError {
        StoreError::Corrupt { key: self.key.into(), problem }
    }

    fn get(&self, field: &str) -> Option<&str> {
        let index = self.fields.iter().position(|known| *known == field)?;
        self.values.get(index)?.as_deref()
    }

    fn need(&self, field: &str) -> Result<&str, StoreError> {
        self.get(field).ok_or_else(|| self.corrupt(format!("field {field} is missing")))
    }

    fn word<T>(&self, field: &str, read: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, StoreError> {
        let Some(text) = self.get(field) else { return Ok(None) };
        let short: String = text.chars().take(80).collect();
        read(text).map(Some).ok_or_else(|| self.corrupt(format!("field {field} holds {short:?}")))
    }

    fn parse<T: FromStr>(&self, field: &str) -> Result<Option<T>, StoreError> {
        self.word(field, |text| text.parse().ok())
    }

    fn parse_needed<T: FromStr>(&self, field: &str) -> Result<T, StoreError> {
        self.need(field)?;
        self.parse(field)?.ok_or_else(|| self.corrupt(format!("field {field} is missing")))
    }

    /// Whether the hash exists, in a version that can be read.
    fn exists(&self) -> Result<bool, StoreError> {
        match self.get("v") {
            Some(VERSION) => Ok(true),
            Some(other) => Err(self.corrupt(format!("version {other}; this build reads {VERSION}"))),
            None if self.values.iter().all(Option::is_none) => Ok(false),
            None => Err(self.corrupt("field v is missing".into())),
        }
    }
}

/// How a job follows its own ends: the delay and the last instant in ms, `600000 -`.
fn after_text(after: &After) -> String {
    let last = after.last.map_or_else(|| "-".into(), |last| last.as_ms().to_string());
    format!("{} {last}", duration_ms(after.delay))
}

fn after_from(text: &str) -> Option<After> {
    let (delay, last) = text.split_once(' ')?;
    let last = if last == "-" { None } else { Some(Timestamp::from_ms(last.parse().ok()?)) };
    Some(After { delay: Duration::from_millis(delay.parse().ok()?), last })
}

/// A job's record as fields. A field that isn't there must be absent from the hash.
#[must_use]
pub fn job_fields(record: &JobRecord) -> Fields {
    let mut fields = vec![
        ("v", VERSION.into()),
        ("revision", record.revision.to_string()),
        ("spec", record.spec.clone()),
        ("history", limits_text(&record.history)),
    ];
    if let Some(rule) = &record.overlap {
        fields.push(("overlap", rule.to_string()));
    }
    if let Some(after) = &record.after {
        fields.push(("after", after_text(after)));
    }
    if let Some(condition) = &record.condition {
        fields.push(("condition", condition.clone()));
    }
    if let Some(placed) = &record.placed {
        fields.push(("placed", place_text(placed)));
    }
    fields
}

/// A job's record from the values of `JOB_FIELDS`; `None` if there is no such hash.
pub fn job_from(key: &str, values: &[Option<String>]) -> Result<Option<JobRecord>, StoreError> {
    let read = Read { key, fields: &JOB_FIELDS, values };
    if !read.exists()? {
        return Ok(None);
    }
    Ok(Some(JobRecord {
        revision: Revision(read.parse_needed("revision")?),
        spec: read.need("spec")?.into(),
        placed: read.word("placed", place_from)?,
        condition: read.get("condition").map(Into::into),
        history: read
            .word("history", limits_from)?
            .ok_or_else(|| read.corrupt("field history is missing".into()))?,
        overlap: read.parse("overlap")?,
        after: read.word("after", after_from)?,
        after_due: read.word("after_due", |text| text.split_once(' ')?.0.parse().ok())?,
    }))
}

/// A run's record and what only `sent` needs of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRun {
    pub record: RunRecord,
    pub republished: u32,
}

impl StoredRun {
    /// A run that was never published again.
    #[must_use]
    pub fn new(record: RunRecord) -> Self {
        Self { record, republished: 0 }
    }
}

impl StoredRun {
    /// As an entry of `sent`.
    #[must_use]
    pub fn into_sent(self, worry_at: Timestamp) -> SentRun {
        SentRun {
            occurrence: self.record.occurrence,
            revision: self.record.revision,
            generation: self.record.generation,
            sequence: self.record.sequence.unwrap_or_default(),
            published_at: self.record.published_at.unwrap_or_default(),
            worry_at,
            republished: self.republished,
            cancel: self.record.cancel,
        }
    }
}

/// When a run was published, as what, and under which epoch: `2026-11-22T06:45:00.003Z 1234567 1795329900000`.
#[must_use]
pub fn published_text(at: Timestamp, sequence: u64, epoch: Epoch) -> String {
    format!("{at} {sequence} {}", epoch.0)
}

/// Who cancelled a run: `{"at":"2026-11-22T06:45:00Z","by":"ada@host-1","reason":"wrong figures"}`.
#[must_use]
pub fn cancel_text(mark: &CancelMark) -> String {
    let form = CancelForm { at: mark.at.to_string(), by: mark.by.clone(), reason: mark.reason.clone() };
    // Texts only: it can't fail.
    serde_json::to_string(&form).unwrap_or_default()
}

#[derive(serde::Serialize, serde::Deserialize)]
struct CancelForm {
    at: String,
    by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

fn cancel_from(text: &str) -> Option<CancelMark> {
    let CancelForm { at, by, reason } = serde_json::from_str(text).ok()?;
    Some(CancelMark { at: at.parse().ok()?, by, reason })
}

fn published_from(text: &str) -> Option<(Timestamp, u64, Epoch)> {
    let mut words = text.split(' ');
    let published =
        (words.next()?.parse().ok()?, words.next()?.parse().ok()?, Epoch(words.next()?.parse().ok()?));
    words.next().is_none().then_some(published)
}

/// One attempt's end but for its error: `2 timed-out 2026-11-22T06:45:01Z 2026-11-22T06:55:01Z`.
fn attempt_text(end: &AttemptEnd) -> String {
    format!("{} {} {} {}", end.attempt, end.outcome.as_str(), end.started_at, end.ended_at)
}

pub(crate) fn attempt_from(text: &str) -> Option<AttemptEnd> {
    let mut words = text.split(' ');
    let end = AttemptEnd {
        attempt: words.next()?.parse().ok()?,
        outcome: Outcome::from_word(words.next()?)?,
        error: None,
        started_at: words.next()?.parse().ok()?,
        ended_at: words.next()?.parse().ok()?,
    };
    words.next().is_none().then_some(end)
}

/// When a run was started first, in milliseconds, since scripts compare them: at all, the newest generation, in that one:
/// `1795329900250 1 1795416300100`.
#[must_use]
pub fn first_text(first: &FirstStart) -> String {
    format!("{} {} {}", first.at.as_ms(), first.generation.0, first.again_at.as_ms())
}

pub(crate) fn first_from(text: &str) -> Option<FirstStart> {
    let mut words = text.split(' ');
    let first = FirstStart {
        at: Timestamp::from_ms(words.next()?.parse().ok()?),
        generation: Generation(words.next()?.parse().ok()?),
        again_at: Timestamp::from_ms(words.next()?.parse().ok()?),
    };
    words.next().is_none().then_some(first)
}

/// One attempt's end as fields; `error` is absent if there was none, `generation` if it is the first.
#[must_use]
pub fn attempt_fields(end: &AttemptEnd, generation: Generation, executor: &str) -> Fields {
    let mut fields = vec![("attempt", attempt_text(end)), ("executor", executor.into())];
    if generation > Generation(0) {
        fields.push(("generation", generation.0.to_string()));
    }
    if let Some(error) = &end.error {
        fields.push(("error", error.clone()));
    }
    fields
}

/// A run's end as fields; `error` and `output` are absent if there were none.
#[must_use]
pub fn settlement_fields(settlement: &Settlement) -> Fields {
    let mut fields = vec![
        ("v", VERSION.into()),
        ("state", settlement.state.as_str().into()),
        ("revision", settlement.revision.to_string()),
        ("ended_at", settlement.settled_at.to_string()),
    ];
    fields.extend(attempt_fields(&settlement.last, settlement.generation, &settlement.executor));
    if let Some(output) = &settlement.output {
        fields.push(("output", output.clone()));
    }
    fields
}

/// A run from the values of `RUN_FIELDS`; `None` if there is no such hash.
pub fn run_from(
    key: &str,
    occurrence: &Occurrence,
    values: &[Option<String>],
) -> Result<Option<StoredRun>, StoreError> {
    let read = Read { key, fields: &RUN_FIELDS, values };
    if !read.exists()? {
        return Ok(None);
    }
    let state = read
        .word("state", RunState::from_word)?
        .ok_or_else(|| read.corrupt("field state is missing".into()))?;
    let last = read.word("attempt", attempt_from)?;
    let last = last.map(|end| AttemptEnd { error: read.get("error").map(Into::into), ..end });
    let published = read.word("published", published_from)?;
    let record = RunRecord {
        occurrence: occurrence.clone(),
        revision: Revision(read.parse_needed("revision")?),
        state,
        generation: Generation(read.parse("generation")?.unwrap_or(0)),
        waits_for: read.word("waits_for", WaitsFor::from_word)?,
        triggered: read.get("triggered").is_some(),
        published_at: published.map(|(at, ..)| at),
        sequence: published.map(|(_, sequence, _)| sequence),
        epoch: published.map(|(.., epoch)| epoch),
        last,
        first: read.word("first", first_from)?,
        executor: read.get("executor").map(Into::into),
        output: read.get("output").map(Into::into),
        skip_reason: read.get("skip_reason").map(Into::into),
        cancel: read.word("cancel", cancel_from)?,
        ended_at: read.parse("ended_at")?,
    };
    Ok(Some(StoredRun { record, republished: read.parse("republished")?.unwrap_or(0) }))
}

/// A cursor as fields.
#[must_use]
pub fn cursor_fields(cursor: &Cursor) -> Fields {
    vec![
        ("v", VERSION.into()),
        ("incarnation", cursor.incarnation.clone()),
        ("planned_until_ms", cursor.planned_until.as_ms().to_string()),
        ("taken_until_ms", cursor.taken_until.as_ms().to_string()),
        ("spec_revision", cursor.spec_revision.to_string()),
    ]
}

/// A cursor from the values of `CURSOR_FIELDS`; `None` if the shard wasn't begun.
pub fn cursor_from(key: &str, values: &[Option<String>]) -> Result<Option<Cursor>, StoreError> {
    let read = Read { key, fields: &CURSOR_FIELDS, values };
    if !read.exists()? {
        return Ok(None);
    }
    Ok(Some(Cursor {
        incarnation: read.need("incarnation")?.into(),
        planned_until: Timestamp::from_ms(read.parse_needed("planned_until_ms")?),
        taken_until: Timestamp::from_ms(read.parse_needed("taken_until_ms")?),
        spec_revision: Revision(read.parse_needed("spec_revision")?),
    }))
}

/// The text of a lease, `<node> <epoch>`, taken apart.
pub fn lease_from(key: &str, text: &str) -> Result<(String, Epoch), StoreError> {
    let corrupt =
        || StoreError::Corrupt { key: key.into(), problem: format!("expected 'node epoch', not {text:?}") };
    let (node, epoch) = text.rsplit_once(' ').ok_or_else(corrupt)?;
    Ok((node.into(), Epoch(epoch.parse().map_err(|_| corrupt())?)))
}

/// A node's announcement as it is stored (JSON).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct NodeRecord {
    v: u32,
    id: String,
    roles: Vec<String>,
    weight: u32,
    version: String,
    /// By the store's clock; the script that stores the announcement fills it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    heartbeat_at_ms: Option<i64>,
}

/// A node's announcement as JSON, without its time.
#[must_use]
pub fn node_json(node: &Node) -> String {
    let record = NodeRecord {
        v: 1,
        id: node.id.clone(),
        roles: node.roles.iter().map(|role| role.as_str().into()).collect(),
        weight: node.weight,
        version: node.version.clone(),
        heartbeat_at_ms: None,
    };
    // Strings and numbers only: serialising them can't fail.
    serde_json::to_string(&record).unwrap_or_default()
}

/// A node from its stored JSON. Roles that this build doesn't know are left out: a newer node may have more.
pub fn node_from(key: &str, json: &str) -> Result<NodeView, StoreError> {
    let corrupt = |problem: String| StoreError::Corrupt { key: key.into(), problem };
    let record: NodeRecord = serde_json::from_str(json).map_err(|error| corrupt(error.to_string()))?;
    let heartbeat_at_ms =
        record.heartbeat_at_ms.ok_or_else(|| corrupt("field heartbeat_at_ms is missing".into()))?;
    Ok(NodeView {
        node: Node {
            id: record.id,
            roles: record.roles.iter().filter_map(|word| Role::from_word(word)).collect(),
            weight: record.weight,
            version: record.version,
        },
        heartbeat_at: Timestamp::from_ms(heartbeat_at_ms),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn values(known: &[&str], fields: &Fields) -> Vec<Option<String>> {
        known
            .iter()
            .map(|name| fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.clone()))
            .collect()
    }

    fn text(fields: &Fields) -> String {
        fields.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    }

    fn job() -> JobRecord {
        JobRecord {
            revision: Revision(17),
            spec: "{}".into(),
            placed: Some(Placed { tier: Tier::HalfHour, due_at: at("2026-11-22T06:45:00Z") }),
            condition: None,
            history: HistoryLimits::default(),
            overlap: None,
            after: None,
            after_due: None,
        }
    }

    fn settlement() -> Settlement {
        Settlement {
            occurrence: "billing/nightly-report@2026-11-22T06:45:00Z".parse().unwrap(),
            revision: Revision(17),
            generation: Generation(1),
            state: RunState::DeadLettered,
            last: AttemptEnd {
                attempt: 3,
                outcome: Outcome::TimedOut,
                error: Some("too slow".into()),
                started_at: at("2026-11-22T06:45:01Z"),
                ended_at: at("2026-11-22T06:55:01Z"),
            },
            executor: "worker-1".into(),
            output: Some("out".into()),
            settled_at: at("2026-11-22T06:55:02Z"),
        }
    }

    #[test]
    fn job_hashes_never_change() {
        let fields = job_fields(&job());
        assert_eq!(
            text(&fields),
            "v=1; revision=17; spec={}; history=succeeded=3 failed=10 skipped=100; \
             placed=half-hour:2026-11-22T06:30Z 2026-11-22T06:45:00Z"
        );
        assert_eq!(job_from("k", &values(&JOB_FIELDS, &fields)), Ok(Some(job())));
        let limited = JobRecord { overlap: "queue-one 2".parse().ok(), placed: None, ..job() };
        let fields = job_fields(&limited);
        assert_eq!(
            text(&fields),
            "v=1; revision=17; spec={}; history=succeeded=3 failed=10 skipped=100; overlap=queue-one 2"
        );
        assert_eq!(job_from("k", &values(&JOB_FIELDS, &fields)), Ok(Some(limited)));
        for after in [
            After { delay: Duration::from_secs(600), last: None },
            After { delay: Duration::from_millis(1), last: Some(at("2026-11-22T06:45:00Z")) },
        ] {
            assert_eq!(after_from(&after_text(&after)), Some(after));
        }
        let bare = JobRecord { placed: None, condition: Some("invalid".into()), ..job() };
        assert_eq!(job_from("k", &values(&JOB_FIELDS, &job_fields(&bare))), Ok(Some(bare)));
        assert_eq!(job_from("k", &vec![None; JOB_FIELDS.len()]), Ok(None));
    }

    #[test]
    fn run_hashes_never_change() {
        let settlement = settlement();
        let fields = settlement_fields(&settlement);
        assert_eq!(
            text(&fields),
            "v=1; state=dead-lettered; revision=17; ended_at=2026-11-22T06:55:02Z; \
             attempt=3 timed-out 2026-11-22T06:45:01Z 2026-11-22T06:55:01Z; executor=worker-1; generation=1; \
             error=too slow; output=out"
        );
        let published = published_text(at("2026-11-22T06:45:00.003Z"), 42, Epoch(7));
        assert_eq!(published, "2026-11-22T06:45:00.003Z 42 7");
        let mark = CancelMark { at: at("2026-11-22T06:45:00Z"), by: "ada@host-1".into(), reason: None };
        assert_eq!(cancel_text(&mark), r#"{"at":"2026-11-22T06:45:00Z","by":"ada@host-1"}"#);
        assert_eq!(cancel_from(&cancel_text(&mark)), Some(mark));
        let first = FirstStart {
            at: at("2026-11-22T06:45:00.250Z"),
            generation: Generation(1),
            again_at: at("2026-11-23T06:45:00.100Z"),
        };
        assert_eq!(first_text(&first), "1795329900250 1 1795416300100");
        assert_eq!(first_from(&first_text(&first)), Some(first));
        assert_eq!(published_from(&published), Some((at("2026-11-22T06:45:00.003Z"), 42, Epoch(7))));
        let run =
            run_from("k", &settlement.occurrence, &values(&RUN_FIELDS, &fields)).unwrap().unwrap().record;
        assert_eq!((run.last, run.state), (Some(settlement.last), RunState::DeadLettered));
    }

    #[test]
    fn cursors_leases_and_nodes_never_change() {
        let cursor = Cursor {
            incarnation: "i1".into(),
            planned_until: Timestamp::from_ms(120_000),
            taken_until: Timestamp::from_ms(60_000),
            spec_revision: Revision(5),
        };
        let fields = cursor_fields(&cursor);
        assert_eq!(
            text(&fields),
            "v=1; incarnation=i1; planned_until_ms=120000; taken_until_ms=60000; spec_revision=5"
        );
        assert_eq!(cursor_from("k", &values(&CURSOR_FIELDS, &fields)), Ok(Some(cursor)));
        assert_eq!(lease_from("k", "node a 17"), Ok(("node a".into(), Epoch(17))));
        let node = Node { id: "a".into(), roles: vec![Role::Planner], weight: 100, version: "0.1.0".into() };
        assert_eq!(
            node_json(&node),
            r#"{"v":1,"id":"a","roles":["planner"],"weight":100,"version":"0.1.0"}"#
        );
        let stored = r#"{"v":1,"id":"a","roles":["planner","tea"],"weight":100,"version":"0.1.0","heartbeat_at_ms":7}"#;
        assert_eq!(node_from("k", stored), Ok(NodeView { node, heartbeat_at: Timestamp::from_ms(7) }));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let fields = job_fields(&job());
        for (field, value) in [
            ("v", "2"),
            ("revision", "x"),
            ("history", "succeeded=3"),
            ("placed", "soon"),
            ("placed", "half-hour:2026-11-22T06:30Z 2026-11-22T07:00:00Z"),
        ] {
            let mut broken = values(&JOB_FIELDS, &fields);
            let index = JOB_FIELDS.iter().position(|name| *name == field).unwrap();
            broken[index] = Some(value.into());
            let error = job_from("ecron:{07}:job:a/b", &broken).unwrap_err();
            assert!(
                matches!(&error, StoreError::Corrupt { key, .. } if key == "ecron:{07}:job:a/b"),
                "{error}"
            );
        }
        assert!(lease_from("k", "nonsense").is_err());
        assert!(node_from("k", "{}").is_err());
        assert!(cursor_from("k", &[None, Some("i".into()), None, None, None]).is_err());
    }
}
