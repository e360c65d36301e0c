//! The specs of jobs that are due, compiled once for each revision.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use bus::order::body;
use bytes::Bytes;
use lru::LruCache;
use model::declared::Declared;
use model::id::Revision;
use model::name::JobId;
use model::shard::ShardId;
use model::spec::JobSpec;
use model::time::Timestamp;
use model::timeline::Timeline;
use store::plan::PlanStore;
use store::{StoreError, plan::JobRecord};

/// Jobs kept at hand. At about 3 KB each, 60 MB.
pub const JOBS_CACHE_MAX: usize = 20_000;

/// A job as dispatch needs it.
#[derive(Clone, Debug)]
pub struct KnownJob {
    pub revision: Revision,
    pub spec: JobSpec,
    pub timeline: Timeline,
    /// Since when it is paused, if it is.
    pub paused_since: Option<Timestamp>,
    /// The message body of its runs.
    pub payload: Bytes,
}

/// Compiled jobs by name, each for the revision that was read last.
#[derive(Clone, Debug)]
pub struct Jobs(Arc<Mutex<LruCache<JobId, Arc<KnownJob>>>>);

impl Default for Jobs {
    fn default() -> Self {
        let size = NonZeroUsize::new(JOBS_CACHE_MAX).unwrap_or(NonZeroUsize::MIN);
        Self(Arc::new(Mutex::new(LruCache::new(size))))
    }
}

impl Jobs {
    /// The jobs at these revisions, in order. `None`: gone, or changed since, or unreadable.
    pub async fn at<S: PlanStore>(
        &self,
        store: &S,
        shard: ShardId,
        wanted: &[(JobId, Revision)],
    ) -> Result<Vec<Option<Arc<KnownJob>>>, StoreError> {
        let mut found: Vec<Option<Arc<KnownJob>>> = {
            let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            wanted
                .iter()
                .map(|(job, revision)| cache.get(job).filter(|k| k.revision == *revision).cloned())
                .collect()
        };
        let missing: Vec<usize> = (0..found.len()).filter(|index| found[*index].is_none()).collect();
        if missing.is_empty() {
            return Ok(found);
        }
        let names: Vec<JobId> = missing.iter().map(|index| wanted[*index].0.clone()).collect();
        let records = store.jobs(shard, &names).await?;
        for ((index, job), record) in missing.into_iter().zip(names).zip(records) {
            let known = record.and_then(|record| read(&job, &record)).map(Arc::new);
            if let Some(known) = &known {
                self.0.lock().unwrap_or_else(PoisonError::into_inner).put(job, Arc::clone(known));
            }
            found[index] = known.filter(|known| known.revision == wanted[index].1);
        }
        Ok(found)
    }
}

fn read(job: &JobId, record: &JobRecord) -> Option<KnownJob> {
    match Declared::read(record.spec.as_bytes(), Timestamp::from_ms(0)) {
        Ok(Declared { spec, acceptance, timeline, .. }) => {
            let payload = body(&spec.work);
            let paused_since = acceptance.paused_since();
            Some(KnownJob { revision: record.revision, spec, timeline, paused_since, payload })
        }
        Err(problems) => {
            tracing::error!(%job, problems, "a job's stored spec can't be read; its runs wait until it is applied again");
            None
        }
    }
}
