//! Every key that ecron has in Redis, in one catalogue, made to be read with `redis-cli`.
//!
//! All keys of a shard begin with the same prefix, whose braces make it the hash tag: they live in one cluster slot, so
//! that one script may touch any of them. The scripts build keys from that prefix by the same words as this file.

use model::bucket::{HalfHour, Minute};
use model::id::Occurrence;
use model::name::JobId;
use model::shard::ShardId;

use crate::lease::Role;

/// hash: node id → its announcement (`record::NodeRecord`, JSON), by its last heartbeat.
pub const NODES: &str = "ecron:nodes";

/// string with a time to live: `<instant> <reason>`, for a message of the run stream, by its sequence, that an executor
/// ended for good without a report.
#[must_use]
pub fn terminated(sequence: u64) -> String {
    format!("ecron:terminated:{sequence}")
}

/// What every key of a shard begins with: `ecron:{07}:`.
#[must_use]
pub fn prefix(shard: ShardId) -> String {
    format!("ecron:{{{shard}}}:")
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

/// zset: `<bucket> <member>` → when it was put here (ms). Members that nobody could read, for an operator to look at.
#[must_use]
pub fn quarantine(shard: ShardId) -> String {
    format!("ecron:{{{shard}}}:quarantine")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_never_change() {
        // Golden: another text here would orphan what is stored.
        let (shard, at) = (ShardId(7), "2026-11-22T06:45:17Z".parse().unwrap());
        let occurrence: Occurrence = "billing/nightly-report@2026-11-22T06:45:17Z".parse().unwrap();
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
            history(shard, &occurrence.job, History::Failed),
            quarantine(shard),
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
            "history:billing/nightly-report:failed",
            "quarantine",
        ];
        assert_eq!(keys.to_vec(), expected.map(|key| format!("ecron:{{07}}:{key}")).to_vec());
        assert_eq!(terminated(17), "ecron:terminated:17");
        assert!(keys.iter().all(|key| key.starts_with(&prefix(shard))));
    }
}
