//! Carrying out backfills: one pass looks at every backfill whose job's shard this planner owns.
//!
//! Order of a pass, so that a crash after any step is repaired by the next: put the open runs in (again: those that are
//! there stay as they are) → see how they ended → write the new status by compare-and-set → put the new open runs in →
//! forget those that are counted. A run is counted in the same write that takes it off the list of open ones, so each is
//! counted once.

use std::collections::{BTreeMap, BTreeSet};

use ambient::{Clock, Shutdown};
use bus::objects::ObjectStore;
use bus::{BusError, Nudge};
use model::backfill::{Backfill, BackfillSpec, BackfillStatus, Phase, RunEnd};
use model::declared::Declared;
use model::id::{Occurrence, Revision};
use model::limits::BACKFILL_KEPT;
use model::name::BackfillId;
use model::object::{ObjectKey, ObjectKind};
use model::shard::{ShardCount, ShardId};
use model::time::{Timestamp, duration_ms};
use serde::{Deserialize, Serialize};
use store::StoreError;
use store::control::{BackfillRun, ControlStore};
use store::ownership::Lease;
use store::plan::PlanStore;

use crate::feed::Owned;
use crate::service::pause_after;

/// Time between two passes while a backfill is in work.
pub const BUSY_INTERVAL: std::time::Duration = std::time::Duration::from_millis(200);
/// Time between two passes otherwise: how long a new backfill may wait.
pub const IDLE_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);

/// What went wrong in a pass. Every step is safe to repeat.
#[derive(Debug, thiserror::Error)]
pub enum BackfillError {
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a pass did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct BackfillReport {
    /// Backfills that have something left to do.
    pub in_work: usize,
    /// Runs that were begun.
    pub started: usize,
}

/// The stored form, made to be read like a manifest.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    api_version: String,
    kind: String,
    metadata: Metadata,
    spec: BackfillSpec,
    status: BackfillStatus,
}

#[derive(Serialize, Deserialize)]
struct Metadata {
    name: String,
    namespace: String,
}

/// A backfill's stored form.
#[must_use]
pub fn to_bytes(backfill: &Backfill) -> Vec<u8> {
    let Backfill { id, spec, status } = backfill;
    let document = Document {
        api_version: model::manifest::API_VERSION.into(),
        kind: ObjectKind::Backfill.as_str().into(),
        metadata: Metadata { name: id.name.to_string(), namespace: id.namespace.to_string() },
        spec: spec.clone(),
        status: status.clone(),
    };
    // It holds nothing that JSON can't say.
    serde_json::to_vec(&document).unwrap_or_default()
}

/// Reads the stored form; `None` if it isn't one.
#[must_use]
pub fn from_bytes(id: &BackfillId, value: &[u8]) -> Option<Backfill> {
    let Document { spec, status, .. } = serde_json::from_slice(value).ok()?;
    Some(Backfill { id: id.clone(), spec, status })
}

/// How it stands, in a few words.
#[must_use]
pub fn summary(backfill: &Backfill) -> String {
    let status = &backfill.status;
    format!("{} of {}, {}", status.finished(), status.total, status.phase.as_str())
}

/// Carries out backfills until shutdown.
pub(crate) async fn run<S, B>(
    store: &S,
    bus: &B,
    owned: &Owned,
    shards: ShardCount,
    clock: &Clock,
    shutdown: &Shutdown,
) where
    S: PlanStore + ControlStore,
    B: ObjectStore + Nudge,
{
    while !shutdown.stopping() {
        let wait = match pass(store, bus, &owned.ready(), shards, clock.now()).await {
            Ok(report) if report.in_work > 0 => BUSY_INTERVAL,
            // The next pass finds the new owner.
            Ok(_) | Err(BackfillError::Store(StoreError::Fenced)) => IDLE_INTERVAL,
            Err(problem) => {
                pause_after(&problem, "backfilling", clock, shutdown).await;
                continue;
            }
        };
        tokio::select! {
            biased;
            () = shutdown.stopped() => {}
            () = clock.sleep(wait) => {}
        }
    }
}

/// One pass over every backfill of the shards of these leases.
pub async fn pass<S, B>(
    store: &S,
    bus: &B,
    leases: &[Lease],
    shards: ShardCount,
    now: Timestamp,
) -> Result<BackfillReport, BackfillError>
where
    S: PlanStore + ControlStore,
    B: ObjectStore + Nudge,
{
    let mut report = BackfillReport::default();
    if leases.is_empty() {
        return Ok(report);
    }
    let leases: BTreeMap<ShardId, &Lease> = leases.iter().map(|lease| (lease.shard, lease)).collect();
    for (key, stored) in bus.objects(ObjectKind::Backfill, None).await? {
        let ObjectKey::Backfill(id) = &key else { continue };
        let Some(backfill) = from_bytes(id, &stored.value) else {
            tracing::debug!(backfill = %id, "its object can't be read; it is left alone");
            continue;
        };
        let Some(lease) = leases.get(&shards.shard_of(&backfill.spec.job)) else { continue };
        if backfill.in_work() {
            let one = step(store, bus, lease, &key, stored.revision, backfill, now).await?;
            report.in_work += one.in_work;
            report.started += one.started;
        } else if is_old(&backfill.status, now) {
            match bus.delete_object(&key, stored.revision).await {
                Ok(_) | Err(BusError::Conflict) => {}
                Err(problem) => return Err(problem.into()),
            }
        }
    }
    Ok(report)
}

fn is_old(status: &BackfillStatus, now: Timestamp) -> bool {
    status.ended_at.is_some_and(|ended_at| now.ms_since(ended_at) > duration_ms(BACKFILL_KEPT))
}

async fn step<S, B>(
    store: &S,
    bus: &B,
    lease: &Lease,
    key: &ObjectKey,
    revision: Revision,
    backfill: Backfill,
    now: Timestamp,
) -> Result<BackfillReport, BackfillError>
where
    S: PlanStore + ControlStore,
    B: ObjectStore + Nudge,
{
    let job = &backfill.spec.job;
    let record = store.jobs(lease.shard, std::slice::from_ref(job)).await?.pop().flatten();
    let declared = record.and_then(|record| Declared::read(record.spec.as_bytes(), now).ok());
    let runs: Vec<BackfillRun> = store
        .backfill_runs(lease.shard)
        .await?
        .into_iter()
        .filter(|run| run.backfill == backfill.id && run.occurrence.job == *job)
        .collect();
    let (ends, absent) = ends(&backfill, &runs);
    // What was decided but not put in (or lost with Redis) is put in now.
    let ends = match start(store, lease, &backfill, &absent).await? {
        Some(left_out) => ends.into_iter().chain(left_out).collect(),
        None => ends,
    };
    let limit = declared.as_ref().and_then(|declared| declared.spec.overlap_rule()).map(|rule| rule.limit);
    let status = backfill.step(declared.as_ref().map(|declared| &declared.schedule), limit, &ends, now);
    let new: Vec<Timestamp> =
        status.open.iter().copied().filter(|due| !backfill.status.open.contains(due)).collect();
    let stepped = Backfill { status, ..backfill.clone() };
    if stepped.status != backfill.status {
        match bus.put_object(key, Some(revision), to_bytes(&stepped).into()).await {
            Ok(_) => {}
            // An operator turned it, or another planner was faster: the next pass sees it as it is.
            Err(BusError::Conflict) => return Ok(BackfillReport { in_work: 1, started: 0 }),
            Err(problem) => return Err(problem.into()),
        }
        if stepped.status.phase != backfill.status.phase {
            tracing::info!(backfill = %backfill.id, summary = summary(&stepped), "a backfill has ended");
        }
    }
    start(store, lease, &stepped, &new).await?;
    if !new.is_empty() || !absent.is_empty() {
        // A lost nudge costs the dispatcher's poll interval.
        bus.nudge(lease.shard).await?;
    }
    let open: BTreeSet<Timestamp> = stepped.status.open.iter().copied().collect();
    let counted: Vec<Occurrence> = runs
        .into_iter()
        .filter(|run| run.end.is_some() && !open.contains(&run.occurrence.due_at))
        .map(|run| run.occurrence)
        .collect();
    if !counted.is_empty() {
        store.forget_backfill_runs(lease.shard, lease.epoch, &counted).await?;
    }
    let in_work = usize::from(stepped.in_work() && stepped.status.phase != Phase::Paused);
    Ok(BackfillReport { in_work, started: new.len() })
}

/// How the open runs ended that did, and which of them the store doesn't know.
fn ends(backfill: &Backfill, runs: &[BackfillRun]) -> (BTreeMap<Timestamp, RunEnd>, Vec<Timestamp>) {
    let known: BTreeMap<Timestamp, Option<RunEnd>> =
        runs.iter().map(|run| (run.occurrence.due_at, run.end)).collect();
    let mut ends = BTreeMap::new();
    let mut absent = Vec::new();
    for due in &backfill.status.open {
        match known.get(due) {
            Some(Some(end)) => {
                ends.insert(*due, *end);
            }
            Some(None) => {}
            None => absent.push(*due),
        }
    }
    (ends, absent)
}

/// Puts runs into the minute tier; answers with those that are none of the backfill's. `None`: the job is gone.
async fn start<S: ControlStore>(
    store: &S,
    lease: &Lease,
    backfill: &Backfill,
    dues: &[Timestamp],
) -> Result<Option<BTreeMap<Timestamp, RunEnd>>, StoreError> {
    if dues.is_empty() {
        return Ok(Some(BTreeMap::new()));
    }
    let started =
        store.start_backfilled(lease.shard, lease.epoch, &backfill.id, &backfill.spec.job, dues).await?;
    let left_out = |started: Vec<bool>| {
        let pairs = dues.iter().zip(started).filter(|(_, started)| !started);
        pairs.map(|(due, _)| (*due, RunEnd::AlreadyRan)).collect()
    };
    Ok(started.map(left_out))
}
