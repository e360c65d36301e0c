//! The store in memory: the same behaviour as the one in Redis, for tests and simulation.
//!
//! One state behind one lock, so every operation is atomic; time comes from an injected clock. The conformance suite
//! runs on both. Keep this the plainer of the two: it is also the specification of what the scripts do.

mod adhoc;
mod after;
mod cancel;
mod changes;
mod completeness;
mod control;
mod gate;
mod inspect;
mod lease;
mod ledger;
mod link;
mod live;
mod overlap;
mod plan;
mod space;
mod stats;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use model::change::Change;
use model::gate::Gate;
use model::id::{Entry, Occurrence, Revision, RunId};
use model::misfire::Interruption;
use model::name::{JobId, QueueId};
use model::progress::Progress;
use model::run::Generation;
use model::shard::ShardId;
use model::spec::HistoryLimits;
use model::stats::JobStats;
use model::time::Timestamp;

pub use completeness::Loss;

use crate::adhoc::AdHocRun;
use crate::completeness::AuditNote;
use crate::error::StoreError;
use crate::keys::History;
use crate::lease::{Epoch, Role};
use crate::node::NodeView;
use crate::plan::{Cursor, JobRecord};
use crate::record::{StoredRun, history_limit, history_of};
use crate::stats::PastAttempt;

pub use link::{Deed, Link};

/// The clock of a `MemoryStore`.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// How the next operation goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It answers with this error and changes nothing.
    Before(StoreError),
    /// It happens, and answers with this error all the same (as a lost answer does).
    After(StoreError),
}

/// All that ecron remembers, in memory: one caller's way to it.
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
    clock: Clock,
    link: Option<Arc<dyn Link>>,
}

/// What a store held at some instant.
#[derive(Clone)]
pub struct Snapshot(State);

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

#[derive(Clone, Default)]
struct State {
    shards: BTreeMap<ShardId, Shard>,
    nodes: BTreeMap<String, NodeView>,
    /// Reason, and when it is forgotten.
    terminated: BTreeMap<u64, (String, Timestamp)>,
    /// Of the next operations, one each; `None`: it goes well.
    faults: VecDeque<Option<Fault>>,
}

#[derive(Clone)]
struct Lease {
    node: String,
    epoch: Epoch,
    expires_at: Timestamp,
}

/// What a job's newest revision waits for before it is in force.
#[derive(Clone)]
struct EditBarrier {
    /// How often the shard had been taken when it was installed.
    takes: u64,
    /// The revision that was in force by then.
    before: Revision,
    installed_at: Timestamp,
}

/// A sorted set as Redis orders it: by score, then by the member's text.
type Sorted<T> = BTreeSet<(Timestamp, String, T)>;

#[derive(Clone, Default)]
struct Shard {
    leases: BTreeMap<Role, Lease>,
    highest_epochs: BTreeMap<Role, Epoch>,
    cursor: Option<Cursor>,
    jobs: BTreeMap<JobId, JobRecord>,
    /// How often it was taken.
    takes: u64,
    /// Of jobs that were edited.
    barriers: BTreeMap<JobId, EditBarrier>,
    horizon: Sorted<JobId>,
    half_hours: Sorted<Entry>,
    minutes: Sorted<Entry>,
    /// Runs that wait for an earlier one of their job.
    waits: Sorted<Entry>,
    /// Runs that wait for their queue.
    held: Sorted<Entry>,
    /// Entries that come back into the minute tier at an instant.
    spaced: Sorted<Entry>,
    sent: Sorted<Occurrence>,
    /// Published runs that are being cancelled, by when to see to them.
    cancelling: Sorted<Occurrence>,
    /// Runs that were cancelled before they were due. No history's trimming forgets them.
    withdrawn: BTreeSet<Occurrence>,
    runs: BTreeMap<Occurrence, StoredRun>,
    asked: control::Asked,
    /// Past attempts by run; those of runs that are forgotten go with them.
    tries: BTreeMap<Occurrence, BTreeMap<(Generation, u32), PastAttempt>>,
    stats: BTreeMap<JobId, JobStats>,
    owners: BTreeMap<(Role, Epoch), String>,
    changes: BTreeMap<JobId, VecDeque<Change>>,
    interruptions: BTreeMap<(Timestamp, String), Interruption>,
    gates: BTreeMap<QueueId, Gate>,
    audit: Option<AuditNote>,
    live: BTreeMap<Occurrence, Progress>,
    unique: BTreeMap<String, adhoc::Taken>,
    /// Runs of ad-hoc work, and until when each is remembered.
    ad_hoc: BTreeMap<RunId, (AdHocRun, Timestamp)>,
}

impl MemoryStore {
    /// An empty store that lives by a clock.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { state: Arc::default(), clock, link: None }
    }

    /// The same store for a caller with a way of its own.
    #[must_use]
    pub fn linked(&self, link: Arc<dyn Link>) -> Self {
        Self { state: Arc::clone(&self.state), clock: Arc::clone(&self.clock), link: Some(link) }
    }

    /// All that it holds now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.state.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Loses what was written since, as a server does that starts from an older file.
    pub fn restore(&self, snapshot: &Snapshot) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = State { faults: std::mem::take(&mut state.faults), ..snapshot.0.clone() };
    }

    /// Forgets everything, as `FLUSHALL` does.
    pub fn wipe(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = State { faults: std::mem::take(&mut state.faults), ..State::default() };
    }

    /// Lets the next operation (or the next after those given before) go wrong.
    pub fn fail_next(&self, fault: Fault) {
        self.fail_after(0, fault);
    }

    /// Lets so many operations (after those that have a fault already) go well, and the one after them wrong.
    pub fn fail_after(&self, operations: usize, fault: Fault) {
        let faults = &mut self.state.lock().unwrap_or_else(PoisonError::into_inner).faults;
        faults.extend(std::iter::repeat_n(None, operations));
        faults.push_back(Some(fault));
    }

    /// Lets everything go well again: faults that haven't happened yet never will.
    pub fn forgive(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).faults.clear();
    }

    /// Carries out one operation, if it arrives; the answer may not.
    async fn act<T: Send>(
        &self,
        operation: impl FnOnce(&mut State, Timestamp) -> Result<T, StoreError> + Send,
    ) -> Result<T, StoreError> {
        let Some(link) = &self.link else { return self.carry_out(operation) };
        if let Some(arrival) = link.there() {
            arrival.await?;
        }
        let done = self.carry_out(operation);
        if let Some(answer) = link.back() {
            answer.await?;
        }
        done
    }

    /// One operation, or one fault.
    fn carry_out<T>(
        &self,
        operation: impl FnOnce(&mut State, Timestamp) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = (self.clock)();
        match state.faults.pop_front().flatten() {
            Some(Fault::Before(error)) => Err(error),
            Some(Fault::After(error)) => operation(&mut state, now).and(Err(error)),
            None => operation(&mut state, now),
        }
    }

    /// Tells whoever watches what was done.
    fn tell(&self, deed: &Deed<'_>) {
        if let Some(link) = &self.link {
            link.saw(deed);
        }
    }

    /// Carries out one operation on a shard.
    async fn on<T: Send>(
        &self,
        shard: ShardId,
        operation: impl FnOnce(&mut Shard, Timestamp) -> Result<T, StoreError> + Send,
    ) -> Result<T, StoreError> {
        self.act(|state, now| operation(state.shards.entry(shard).or_default(), now)).await
    }

    /// Carries out one operation on a shard for the holder of a lease.
    async fn fenced<T: Send>(
        &self,
        id: ShardId,
        role: Role,
        epoch: Epoch,
        operation: impl FnOnce(&mut Shard, Timestamp) -> Result<T, StoreError> + Send,
    ) -> Result<T, StoreError> {
        self.on(id, |shard, now| match shard.holder(role, now) {
            Some(lease) if lease.epoch == epoch => {
                let done = operation(shard, now)?;
                let taken_until = shard.cursor.as_ref().map(|cursor| cursor.taken_until);
                self.tell(&Deed::Acted { shard: id, role, epoch, taken_until });
                Ok(done)
            }
            _ => Err(StoreError::Fenced),
        })
        .await
    }
}

impl Shard {
    /// The lease of a role, unless it has run out.
    fn holder(&self, role: Role, now: Timestamp) -> Option<&Lease> {
        self.leases.get(&role).filter(|lease| now < lease.expires_at)
    }

    fn limits(&self, job: &JobId) -> HistoryLimits {
        self.jobs.get(job).map(|record| record.history).unwrap_or_default()
    }

    fn runs_of(&self, job: &JobId) -> impl DoubleEndedIterator<Item = (&Occurrence, &StoredRun)> {
        let first = Occurrence { job: job.clone(), due_at: Timestamp::from_ms(i64::MIN) };
        let last = Occurrence { job: job.clone(), due_at: Timestamp::from_ms(i64::MAX) };
        self.runs.range(first..=last)
    }

    /// Forgets the runs of a job beyond its limit for a list; those due longest ago go first.
    fn trim(&mut self, job: &JobId, kind: History) {
        let limit = history_limit(&self.limits(job), kind);
        let list: Vec<_> = self
            .runs_of(job)
            .filter(|(_, run)| history_of(run.record.state) == Some(kind))
            .filter(|(occurrence, _)| !self.withdrawn.contains(occurrence))
            .map(|(occurrence, _)| occurrence.clone())
            .collect();
        for occurrence in list.iter().rev().skip(limit as usize) {
            self.runs.remove(occurrence);
            self.tries.remove(occurrence);
        }
    }

    fn remove_entry(&mut self, entry: &Entry) -> bool {
        self.minutes.remove(&sorted(entry.occurrence.due_at, entry))
    }
}

/// A value's place in a sorted set.
fn sorted<T: Clone + ToString>(score: Timestamp, value: &T) -> (Timestamp, String, T) {
    (score, value.to_string(), value.clone())
}
