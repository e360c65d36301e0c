//! Every key that ecron has in Redis, in one catalogue, made to be read with `redis-cli`.
//!
//! All keys of a shard begin with the same prefix, whose braces make it the hash tag: they live in one cluster slot, so
//! that one script may touch any of them. The scripts build keys from that prefix by the same words as this file.

use model::bucket::{HalfHour, Minute};
use model::id::{Occurrence, RunId};
use model::name::{JobId, QueueId};
use model::shard::{ShardCount, ShardId};
use model::unique::UniqueKey;

use crate::lease::Role;

/// hash: node id → its announcement (`record::NodeRecord`, JSON), by its last heartbeat.
pub const NODES: &str = "ecron:nodes";

/// string with a time to live: `<instant> <reason>`, for a message of the run stream, by its sequence, that an executor
/// ended for good without a report, or that was withdrawn because its run was cancelled.
#[must_use]
pub fn terminated(sequence: u64) -> String {
    format!("ecron:terminated:{sequence}")
}

/// What every key of a shard begins with: `ecron:{07}:`.
#[must_use]
pub fn prefix(shard: ShardId) -> String {
    format!("ecron:{{{shard}}}:")
}

/// The first word of every key of a shard, behind its prefix. Each is written by one of the functions below.
const WORDS: [&str; 31] = [
    "ad-hoc",
    "admitted",
    "audit",
    "backfill-runs",
    "cancelling",
    "changes",
    "cursor",
    "gate",
    "gates",
    "half-hour",
    "half-hours",
    "held",
    "history",
    "horizon",
    "interruptions",
    "job",
    "lease",
    "minute",
    "minutes",
    "open",
    "overrides",
    "owners",
    "quarantine",
    "run",
    "sent",
    "spaced",
    "stats",
    "trigger",
    "unique",
    "waits",
    "withdrawn",
];

/// Whether a key that begins with `ecron:` is one of this version's, for a cluster of so many shards.
#[must_use]
pub fn is_known(key: &str, shards: ShardCount) -> bool {
    let Some(rest) = key.strip_prefix("ecron:{") else {
        return key == NODES || key.starts_with("ecron:terminated:");
    };
    let Some((shard, rest)) = rest.split_once("}:") else { return false };
    let word = rest.split(':').next().unwrap_or_default();
    shard.parse().is_ok_and(|shard: u16| shard < shards.get()) && WORDS.contains(&word)
}

/// zset: `<ns>/<job>` → due (ms) of the job's next occurrence, for jobs with nothing in the next hour.
#[must_use]
pub fn horizon(shard: ShardId) -> String {
    format!("ecron:{{{shard}}}:horizon")
}

/// zset: half hour (as in its key) → its start (ms). The index of the non-empty half-hour buckets.
#[must_use]
pub fn half_hours(shard: ShardId) -> String {
    format!("ecron:{{{shard}}}:half-hours")
}

/// zset: entry → due (ms). The half-hour tier: each job's *next* occurrence, if it falls in that half hour.
#[must_use]
pub fn half_hour(shard: ShardId, slice: HalfHour) -> String {
    format!("ecron:{{{shard}}}:half-hour:{slice}")
}

/// zset: minute (as in its key) → its start (ms). The index of the non-empty minute buckets, so that a taker finds
/// old ones after a long interruption.
#[must_use]
pub fn minutes(shard: ShardId) -> String {
    format!("ecron:{{{shard}}}:minutes")
}

/// zset: entry → due (ms). The minute tier: *every* occurrence due in that minute that isn't published yet.
#[must_use]
pub fn minute(shard: ShardId, slice: Minute) -> String {
    format!("ecron:{{{shard}}}:minute:{slice}")
}

/// zset: run id → when to start worrying (ms). Published runs whose outcome isn't known yet.
#[must_use]
pub fn sent(shard: ShardId) -> String {
    format!("ecron:{{{shard}}}:sent")
}

/// zset, all scores 0 so that it is in order of text: run id. The runs under way, to be found and counted by their job:
/// those that `sent` and `held` hold, and those in `admitted`.
#[must_use]
pub fn open(shard: ShardId) -> String {
    format!("ecron:{{{shard}}}:open")
}

/// set: run id. Runs whose entry is in the minute tier, and that have a record (waiting): they are admitted and about to
/// be published, or they waited and may go now.
#[must_use]
pub fn admitted(shard: ShardId) -> String {
    format!("ecron:{{{shard}}}:admitted")
}

/// zset: entry → due (ms). Occurrences of a job that wait for an earlier run of it to end.
#[must_use]
pub fn waits(shard: ShardId, job: &JobId) -> String {
    format!("ecron:{{{shard}}}:waits:{job}")
}

/// zset: entry → due (ms). Runs that wait for their queue.
#[must_use]
pub fn held(shard: ShardId) -> String {
    format!("ecron:{{{shard}}}:held")
}

/// zset: `<due (ms)> <entry>` → not before (ms). Entries of the minute tier that `catchUp.rate` spreads out; `take` puts them
/// back when their time has come.
#[must_use]
pub fn spaced(shard: ShardId) -> String {
    format!("ecron:{{{shard}}}:spaced")
}

/// zset: run id → when to see to it (ms). Published runs that are being cancelled.
#[must_use]
pub fn cancelling(shard: ShardId) -> String {
    format!("ecron:{{{shard}}}:cancelling")
}

/// zset, all scores 0: run id. Runs that were cancelled before they were due; their records say so until a week after.
#[must_use]
pub fn withdrawn(shard: ShardId) -> String {
    format!("ecron:{{{shard}}}:withdrawn")
}

/// hash (`record::JOB_FIELDS`): a job's revision, spec, place in the coarse tiers, history limits, overlap rule.
#[must_use]
pub fn job(shard: ShardId, job: &JobId) -> String {
    format!("ecron:{{{shard}}}:job:{job}")
}

/// hash (`record::CURSOR_FIELDS`): how far the shard is planned and taken, its incarnation; and, outliving the
/// leases, the highest epoch granted for each role (`planner_epoch`, `dispatcher_epoch`).
#[must_use]
pub fn cursor(shard: ShardId) -> String {
    format!("ecron:{{{shard}}}:cursor")
}

/// string with a time to live: `<node id> <epoch>`.
#[must_use]
pub fn lease(shard: ShardId, role: Role) -> String {
    format!("ecron:{{{shard}}}:lease:{}", role.as_str())
}

/// hash (`record::RUN_FIELDS`): what is known of a run. Once it has ended it stays until its job's history is trimmed.
#[must_use]
pub fn run(shard: ShardId, occurrence: &Occurrence) -> String {
    format!("ecron:{{{shard}}}:run:{occurrence}")
}

/// hash with a time to live: `run`, `until`, and `published` once that is known. A unique key that is taken.
#[must_use]
pub fn unique(shard: ShardId, key: &UniqueKey) -> String {
    format!("ecron:{{{shard}}}:unique:{key}")
}

/// hash with a time to live: generation, ended, attempt and the rest as JSON. A run of ad-hoc work that failed at least
/// once.
#[must_use]
pub fn ad_hoc(shard: ShardId, run_id: &RunId) -> String {
    format!("ecron:{{{shard}}}:ad-hoc:{run_id}")
}

/// Which list of a job's runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum History {
    Succeeded,
    /// Dead-lettered and cancelled runs.
    Failed,
    Skipped,
}

impl History {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Succeeded, Self::Failed, Self::Skipped];

    /// The last word of the key.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// zset: run id → due (ms). The ended runs of a job that are remembered, by how they ended.
#[must_use]
pub fn history(shard: ShardId, job: &JobId, kind: History) -> String {
    format!("ecron:{{{shard}}}:history:{job}:{}", kind.as_str())
}

/// string with a time to live: the due instant (ms) of the run that was triggered first with this key.
#[must_use]
pub fn trigger(shard: ShardId, job: &JobId, key: &str) -> String {
    format!("ecron:{{{shard}}}:trigger:{job}~{key}")
}

/// hash: run id → message body (empty: its job's), of triggered runs that haven't ended.
#[must_use]
pub fn overrides(shard: ShardId) -> String {
    format!("ecron:{{{shard}}}:overrides")
}

/// hash: run id → `<backfill>`, and behind it how the run ended (`succeeded`, `failed`, `skipped`) until it is counted.
#[must_use]
pub fn backfill_runs(shard: ShardId) -> String {
    format!("ecron:{{{shard}}}:backfill-runs")
}

/// list of JSON (`changes::change_text`), newest first: what was done to a job, when and by whom.
#[must_use]
pub fn changes(shard: ShardId, job: &JobId) -> String {
    format!("ecron:{{{shard}}}:changes:{job}")
}

/// hash: how a job's runs ended, how late they were and how long they took (`stats::counted_text` names the fields).
#[must_use]
pub fn stats(shard: ShardId, job: &JobId) -> String {
    format!("ecron:{{{shard}}}:stats:{job}")
}

/// zset: `<role> <node> <epoch>` → epoch. Who held the shard's leases, so that an epoch can be told as a node.
#[must_use]
pub fn owners(shard: ShardId) -> String {
    format!("ecron:{{{shard}}}:owners")
}

/// zset: `<since> <until>` → until (ms). The times in which nobody took the shard's entries.
#[must_use]
pub fn interruptions(shard: ShardId) -> String {
    format!("ecron:{{{shard}}}:interruptions")
}

/// set: the queues of this shard (by their names) whose gates hold anything.
#[must_use]
pub fn gates(shard: ShardId) -> String {
    format!("ecron:{{{shard}}}:gates")
}

/// The parts of a queue's gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GatePart {
    /// zset: run id → since when it is under way, or was last seen so (ms).
    Active,
    /// zset, all scores 0: `<priority> <namespace>` of the lines where anybody waits.
    Lines,
    /// hash: id of a waiting run → `<priority>`, or `<priority> <rate key>`.
    Runs,
    /// hash: the passes of priorities and lines (see `gate.lua`), while anybody waits.
    Passes,
    /// zset: `=` (the queue) or `:<rate key>` → when the next start would be due if they came evenly (µs).
    Marks,
}

/// Part of the gate of a queue.
#[must_use]
pub fn gate(shard: ShardId, queue: &QueueId, part: GatePart) -> String {
    let word = match part {
        GatePart::Active => "active",
        GatePart::Lines => "lines",
        GatePart::Runs => "runs",
        GatePart::Passes => "passes",
        GatePart::Marks => "marks",
    };
    format!("ecron:{{{shard}}}:gate:{queue}:{word}")
}

/// What the keys of a gate's lines begin with. Behind it: `<priority>:<namespace>`.
/// zset: run id → due (ms). The runs that wait.
#[must_use]
pub fn gate_lines(shard: ShardId, queue: &QueueId) -> String {
    format!("ecron:{{{shard}}}:gate:{queue}:waiting:")
}

/// hash (`completeness::AUDIT_FIELDS`): what the last completeness audit of the shard came to, and what all of them found.
#[must_use]
pub fn audit(shard: ShardId) -> String {
    format!("ecron:{{{shard}}}:audit")
}

/// zset: `<bucket> <member>` → when it was put here (ms). Members that nobody could read, for an operator to look at.
#[must_use]
pub fn quarantine(shard: ShardId) -> String {
    format!("ecron:{{{shard}}}:quarantine")
}

#[cfg(test)]
mod tests {
    use model::id::Key;
    use model::unique::Scope;

    use super::*;

    #[test]
    fn keys_never_change() {
        // Golden: another text here would orphan what is stored.
        let (shard, at) = (ShardId(7), "2026-11-22T06:45:17Z".parse().unwrap());
        let occurrence: Occurrence = "billing/nightly-report@2026-11-22T06:45:17Z".parse().unwrap();
        let queue: QueueId = "billing/reports".parse().unwrap();
        let key = UniqueKey { scope: Scope::Queue, queue: queue.clone(), key: Key::new("order-17").unwrap() };
        let keys = [
            horizon(shard),
            half_hours(shard),
            half_hour(shard, HalfHour::of(at)),
            minutes(shard),
            minute(shard, Minute::of(at)),
            sent(shard),
            open(shard),
            admitted(shard),
            waits(shard, &occurrence.job),
            held(shard),
            spaced(shard),
            cancelling(shard),
            withdrawn(shard),
            job(shard, &occurrence.job),
            cursor(shard),
            lease(shard, Role::Planner),
            lease(shard, Role::Dispatcher),
            run(shard, &occurrence),
            unique(shard, &key),
            ad_hoc(shard, &key.run_id(at).unwrap()),
            history(shard, &occurrence.job, History::Failed),
            changes(shard, &occurrence.job),
            stats(shard, &occurrence.job),
            owners(shard),
            interruptions(shard),
            audit(shard),
            quarantine(shard),
            trigger(shard, &occurrence.job, "order-17"),
            overrides(shard),
            backfill_runs(shard),
            gates(shard),
            gate(shard, &queue, GatePart::Active),
            gate(shard, &queue, GatePart::Lines),
            gate(shard, &queue, GatePart::Runs),
            gate(shard, &queue, GatePart::Passes),
            gate(shard, &queue, GatePart::Marks),
            gate_lines(shard, &queue),
        ];
        let expected = [
            "horizon",
            "half-hours",
            "half-hour:2026-11-22T06:30Z",
            "minutes",
            "minute:2026-11-22T06:45Z",
            "sent",
            "open",
            "admitted",
            "waits:billing/nightly-report",
            "held",
            "spaced",
            "cancelling",
            "withdrawn",
            "job:billing/nightly-report",
            "cursor",
            "lease:planner",
            "lease:dispatcher",
            "run:billing/nightly-report@2026-11-22T06:45:17Z",
            "unique:billing/reports~order-17",
            "ad-hoc:billing/reports~order-17+q1795329917000",
            "history:billing/nightly-report:failed",
            "changes:billing/nightly-report",
            "stats:billing/nightly-report",
            "owners",
            "interruptions",
            "audit",
            "quarantine",
            "trigger:billing/nightly-report~order-17",
            "overrides",
            "backfill-runs",
            "gates",
            "gate:billing/reports:active",
            "gate:billing/reports:lines",
            "gate:billing/reports:runs",
            "gate:billing/reports:passes",
            "gate:billing/reports:marks",
            "gate:billing/reports:waiting:",
        ];
        assert_eq!(keys.to_vec(), expected.map(|key| format!("ecron:{{07}}:{key}")).to_vec());
        assert_eq!(terminated(17), "ecron:terminated:17");
        assert!(keys.iter().all(|key| key.starts_with(&prefix(shard))));
        let shards = ShardCount::new(8).unwrap();
        assert!(keys.iter().all(|key| is_known(key, shards)));
        for strange in
            ["ecron:{07}:jobs:a/b", "ecron:{08}:cursor", "ecron:{x}:cursor", "ecron:old", "ecron:{07}"]
        {
            assert!(!is_known(strange, shards), "{strange}");
        }
        assert!(is_known(NODES, shards) && is_known(&terminated(17), shards));
    }
}
