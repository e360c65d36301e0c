//! One planning pass over one shard: jobs whose next occurrence is near move on to a finer tier.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;
use model::bucket::Tier;
use model::declared::Declared;
use model::id::Revision;
use model::misfire::Interruption;
use model::name::JobId;
use model::plan::{Window, half_hour_tier_until, lay_out, minute_tier_until, place};
use model::shard::ShardId;
use model::time::Timestamp;
use store::StoreError;
use store::lease::Epoch;
use store::plan::{Advance, Cursor, JobRecord, PLAN_BATCH_MAX, PlanStore, Waiting};

/// Declared jobs kept at hand. At about 2 KB each, 40 MB.
pub const DECLARED_CACHE_MAX: usize = 20_000;
/// Steps of one shard in one pass, so that a long catch-up of one shard doesn't hold up the others.
pub const PASS_BATCHES_MAX: usize = 200;
/// Minute-tier entries in one call of the store.
const STEP_ENTRIES_MAX: usize = 1_000;

/// Declared jobs by job, for the revision that was asked for last.
#[derive(Debug, Clone)]
pub struct DeclaredCache(Arc<Mutex<LruCache<JobId, AtRevision>>>);

type AtRevision = (Revision, Arc<Declared>);

impl Default for DeclaredCache {
    fn default() -> Self {
        let size = NonZeroUsize::new(DECLARED_CACHE_MAX).unwrap_or(NonZeroUsize::MIN);
        Self(Arc::new(Mutex::new(LruCache::new(size))))
    }
}

impl DeclaredCache {
    fn get(&self, job: &JobId, revision: Revision) -> Option<Arc<Declared>> {
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cache.get(job).filter(|(known, _)| *known == revision).map(|(_, declared)| Arc::clone(declared))
    }

    /// What a record declares, without keeping it: whoever goes through all jobs would push out those that are planned. `None`:
    /// it can't be read.
    pub(crate) fn known_or_read(&self, job: &JobId, record: &JobRecord) -> Option<Arc<Declared>> {
        let read = || Declared::read(record.spec.as_bytes(), Timestamp::from_ms(0)).ok().map(Arc::new);
        self.get(job, record.revision).or_else(read)
    }

    fn put(&self, job: &JobId, revision: Revision, declared: &Arc<Declared>) {
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cache.put(job.clone(), (revision, Arc::clone(declared)));
    }
}

/// What a pass did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct PassReport {
    pub jobs: usize,
    pub occurrences: usize,
    pub skipped: usize,
    /// More is waiting: call again soon.
    pub more: bool,
}

/// Plans one shard up to the end of the next full minute.
pub async fn plan_shard<S: PlanStore>(
    store: &S,
    shard: ShardId,
    epoch: Epoch,
    cache: &DeclaredCache,
    now: Timestamp,
) -> Result<PassReport, StoreError> {
    let mut report = PassReport::default();
    let cursor = store.cursor(shard).await?.ok_or(StoreError::Fenced)?;
    let until = minute_tier_until(now);
    for _ in 0..PASS_BATCHES_MAX {
        let waiting = store.waiting(shard, epoch, until, half_hour_tier_until(now), PLAN_BATCH_MAX).await?;
        if waiting.is_empty() {
            if until > cursor.planned_until {
                store.progress(shard, epoch, Some(until), None).await?;
            }
            return Ok(report);
        }
        let declared = declared_jobs(store, shard, &waiting, cache).await?;
        let mut steps = Vec::with_capacity(waiting.len());
        for (job, declared) in waiting.into_iter().zip(declared) {
            steps.push(step(job, declared.as_deref(), &cursor, now));
        }
        report.jobs += steps.len();
        report.occurrences += steps.iter().map(|step| step.minute.len()).sum::<usize>();
        report.skipped += steps.iter().map(|step| step.skipped.len()).sum::<usize>();
        for batch in batches(&steps) {
            store.advance(shard, epoch, batch).await?;
        }
    }
    report.more = true;
    Ok(report)
}

/// One job's step, given its present spec (`None`: it can't be read, so it waits nowhere until it is mended).
#[must_use]
pub fn step(waiting: Waiting, declared: Option<&Declared>, cursor: &Cursor, now: Timestamp) -> Advance {
    let Waiting { job, placed, revision } = waiting;
    let mut advance = Advance { job, revision, from: placed, minute: vec![], next: None, skipped: vec![] };
    let Some(declared) = declared else { return advance };
    let until = minute_tier_until(now);
    if placed.tier == Tier::Horizon && placed.due_at >= until {
        advance.next = Some(place(placed.due_at, now));
        return advance;
    }
    let interruption = Interruption::between(cursor.planned_until, now)
        .filter(|_| !cursor.is_beginning(cursor.planned_until, now));
    let window = Window { after: placed.due_at.plus_ms(-1), until, now, interruption };
    let layout = lay_out(&declared.timeline, window, &declared.spec.catch_up, declared.spec.history.skipped);
    Advance { minute: layout.minute, next: layout.next, skipped: layout.skipped, ..advance }
}

/// Splits steps so that no call carries many more entries than `STEP_ENTRIES_MAX`.
fn batches(steps: &[Advance]) -> Vec<&[Advance]> {
    let mut batches = Vec::new();
    let (mut from, mut entries) = (0, 0);
    for (index, step) in steps.iter().enumerate() {
        entries += step.minute.len() + step.skipped.len();
        if entries >= STEP_ENTRIES_MAX {
            batches.push(&steps[from..=index]);
            (from, entries) = (index + 1, 0);
        }
    }
    if from < steps.len() {
        batches.push(&steps[from..]);
    }
    batches
}

async fn declared_jobs<S: PlanStore>(
    store: &S,
    shard: ShardId,
    waiting: &[Waiting],
    cache: &DeclaredCache,
) -> Result<Vec<Option<Arc<Declared>>>, StoreError> {
    let mut found: Vec<_> = waiting.iter().map(|w| cache.get(&w.job, w.revision)).collect();
    let missing: Vec<usize> = (0..found.len()).filter(|index| found[*index].is_none()).collect();
    if missing.is_empty() {
        return Ok(found);
    }
    let jobs: Vec<JobId> = missing.iter().map(|index| waiting[*index].job.clone()).collect();
    let records = store.jobs(shard, &jobs).await?;
    for ((index, job), record) in missing.into_iter().zip(jobs).zip(records) {
        found[index] =
            record.filter(|record| record.revision == waiting[index].revision).and_then(|record| {
                let declared = Arc::new(readable(&job, &record)?);
                cache.put(&job, record.revision, &declared);
                Some(declared)
            });
    }
    Ok(found)
}

fn readable(job: &JobId, record: &JobRecord) -> Option<Declared> {
    match Declared::read(record.spec.as_bytes(), Timestamp::from_ms(0)) {
        Ok(declared) => Some(declared),
        Err(problems) => {
            // It was readable when it was installed, so somebody wrote to the record: the job is left out and said so.
            tracing::error!(%job, %problems, "a job's stored spec can't be read; it isn't planned until it is applied again");
            None
        }
    }
}
