//! A shard with its leases and cursor, and short forms of what the cases do over and over.

use std::time::Duration;

use model::bucket::{Placed, Tier};
use model::id::{Entry, Key, Occurrence, Revision};
use model::name::JobId;
use model::run::{AttemptEnd, Generation, Outcome, RunState, SkipReason};
use model::shard::ShardId;
use model::spec::HistoryLimits;
use model::time::Timestamp;

use super::Fixture;
use crate::control::{Trigger, Triggered};
use crate::lease::{Epoch, LeaseReply, Role};
use crate::ledger::{Sent, Settlement, Skip};
use crate::plan::{Cursor, Install, Installed, JobRecord};
use crate::{ControlStore, Inspect, LeaseStore, LedgerStore, PlanStore};

/// Long enough to outlive a case.
pub(crate) const TTL: Duration = Duration::from_secs(60);

/// A fixture's shard 7, held by `node-a` in both roles.
pub struct World<'a, F: Fixture> {
    pub fixture: &'a F,
    pub shard: ShardId,
    pub planner: Epoch,
    pub dispatcher: Epoch,
}

impl<F: Fixture> std::fmt::Debug for World<'_, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("shard", &self.shard).finish_non_exhaustive()
    }
}

/// An instant of 2026-11-22, from its time of day.
pub(crate) fn at(time: &str) -> Timestamp {
    format!("2026-11-22T{time}Z").parse().unwrap()
}

pub(crate) fn job(text: &str) -> JobId {
    text.parse().unwrap()
}

pub(crate) fn occurrence(job: &str, due_at: Timestamp) -> Occurrence {
    Occurrence { job: job.parse().unwrap(), due_at }
}

pub(crate) fn entry(job: &str, due_at: Timestamp, revision: u64) -> Entry {
    Entry { occurrence: occurrence(job, due_at), revision: Revision(revision) }
}

pub(crate) fn half_hour(due_at: Timestamp) -> Option<Placed> {
    Some(Placed { tier: Tier::HalfHour, due_at })
}

pub(crate) fn horizon(due_at: Timestamp) -> Option<Placed> {
    Some(Placed { tier: Tier::Horizon, due_at })
}

pub(crate) fn record(revision: u64, placed: Option<Placed>) -> JobRecord {
    JobRecord {
        revision: Revision(revision),
        spec: format!("spec {revision}"),
        placed,
        condition: None,
        history: HistoryLimits { succeeded: 3, failed: 10, skipped: 100 },
        overlap: None,
        after: None,
        after_due: None,
    }
}

pub(crate) fn install(name: &str, expected: Option<u64>, record: Option<JobRecord>) -> Install {
    Install {
        job: job(name),
        expected: expected.map(Revision),
        record,
        after_first: None,
        keep_history: false,
        at: at("07:00:03"),
        remove: Vec::new(),
        add: Vec::new(),
        add_unseen: Vec::new(),
        spaced: Vec::new(),
        skipped: Vec::new(),
        change: None,
    }
}

pub(crate) fn sent(entry: Entry, sequence: u64) -> Sent {
    let due_at = entry.occurrence.due_at;
    Sent { entry, sequence, published_at: due_at, worry_at: due_at.plus_ms(60_000), republished: 0 }
}

pub(crate) fn skip(entry: Entry, reason: SkipReason) -> Skip {
    let at = entry.occurrence.due_at.plus_ms(5);
    Skip { entry, reason, at }
}

pub(crate) fn attempt(number: u32, outcome: Outcome) -> AttemptEnd {
    let error = (outcome != Outcome::Succeeded).then(|| format!("attempt {number} went wrong"));
    AttemptEnd { attempt: number, outcome, error, started_at: at("07:00:00"), ended_at: at("07:00:01") }
}

pub(crate) fn settlement(occurrence: Occurrence, revision: u64, state: RunState) -> Settlement {
    let outcome = match state {
        RunState::Succeeded => Outcome::Succeeded,
        RunState::Cancelled => Outcome::Cancelled,
        _ => Outcome::Failed,
    };
    Settlement {
        occurrence,
        revision: Revision(revision),
        generation: Generation(0),
        state,
        last: attempt(1, outcome),
        executor: "worker-1".into(),
        output: Some("output".into()),
        settled_at: at("07:00:02"),
    }
}

impl<'a, F: Fixture> World<'a, F> {
    /// Leases only.
    pub async fn held(fixture: &'a F) -> Self {
        let shard = ShardId(7);
        let mut epochs = Vec::new();
        for role in Role::ALL {
            let replies = fixture.store().hold(role, "node-a", &[shard], TTL).await.unwrap();
            match replies.as_slice() {
                [LeaseReply::Granted { epoch, .. }] => epochs.push(*epoch),
                other => panic!("no lease: {other:?}"),
            }
        }
        Self { fixture, shard, planner: epochs[0], dispatcher: epochs[1] }
    }

    /// Leases, and a cursor that is planned until 08:00 and taken until 06:00.
    pub async fn begun(fixture: &'a F) -> Self {
        let world = Self::held(fixture).await;
        let cursor = world.cursor_at("06:00:00");
        fixture.store().begin(world.shard, world.planner, &cursor).await.unwrap();
        world
    }

    pub(crate) fn cursor_at(&self, taken_until: &str) -> Cursor {
        Cursor {
            incarnation: "incarnation-1".into(),
            planned_until: at("08:00:00"),
            taken_until: at(taken_until),
            spec_revision: Revision(5),
        }
    }

    pub(crate) fn store(&self) -> &'a F::Store {
        self.fixture.store()
    }

    pub(crate) async fn install(&self, install: &Install) -> Installed {
        self.store().install(self.shard, self.planner, install).await.unwrap()
    }

    /// A new job with these occurrences in the minute tier.
    pub(crate) async fn planned(&self, name: &str, revision: u64, dues: &[Timestamp]) {
        let mut new = install(name, None, Some(record(revision, None)));
        new.add_unseen = dues.to_vec();
        assert_eq!(self.install(&new).await, Installed::Done);
    }

    /// A new job with one occurrence, published.
    pub(crate) async fn published(&self, name: &str, due_at: Timestamp) -> Occurrence {
        self.planned(name, 1, &[due_at]).await;
        self.confirm(&[sent(entry(name, due_at, 1), 11)]).await;
        occurrence(name, due_at)
    }

    pub(crate) async fn trigger(&self, name: &str, due_at: Timestamp, key: Option<&str>) -> Triggered {
        let key = key.map(|key| Key::new(key).unwrap());
        let trigger = Trigger { job: job(name), due_at, key, payload: None };
        self.store().trigger(self.shard, &trigger).await.unwrap().unwrap()
    }

    pub(crate) async fn confirm(&self, sent: &[Sent]) {
        self.store().confirm(self.shard, self.dispatcher, sent).await.unwrap();
    }

    pub(crate) async fn state(&self, occurrence: &Occurrence) -> Option<RunState> {
        self.store().run(self.shard, occurrence).await.unwrap().map(|run| run.state)
    }

    /// The members of the minute tier, in order.
    pub(crate) async fn minute_tier(&self) -> Vec<String> {
        self.members(crate::inspect::BucketKind::Minute).await
    }

    /// The members of a tier, in order.
    pub(crate) async fn members(&self, kind: crate::inspect::BucketKind) -> Vec<String> {
        let buckets = self.store().buckets(self.shard, 10_000).await.unwrap();
        let of_kind = buckets.into_iter().filter(|bucket| bucket.kind == kind);
        of_kind.flat_map(|bucket| bucket.first).map(|(member, _)| member).collect()
    }

    /// The runs that are published and not ended, as text.
    pub(crate) async fn sent_ids(&self) -> Vec<String> {
        let runs = self.store().sent(self.shard, 100).await.unwrap();
        runs.into_iter().map(|run| run.occurrence.to_string()).collect()
    }
}
