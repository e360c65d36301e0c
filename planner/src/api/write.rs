//! `delete` and `trigger`.

use model::name::JobId;
use store::Store;

use super::Api;
use super::types::{ApiError, DeleteReply, DeleteRequest, ErrorKind, JobRequest, TriggerReply};
use crate::service::PlannerBus;

/// Attempts of one compare-and-set against other writers.
const CONFLICT_RETRIES_MAX: usize = 8;

impl<S: Store, B: PlannerBus> Api<S, B> {
    pub(super) async fn delete(
        &self,
        request: Result<DeleteRequest, ApiError>,
    ) -> Result<DeleteReply, ApiError> {
        let DeleteRequest { job, by } = request?;
        let job = job_id(&job)?;
        let shard = self.shards.shard_of(&job);
        for _ in 0..CONFLICT_RETRIES_MAX {
            let Some(present) = self.bus.get(shard, &job).await? else {
                return Err(ApiError::not_found(&format!("the job {job}")));
            };
            match self.bus.delete_by(shard, &job, present.revision, by.as_deref()).await {
                Ok(revision) => {
                    self.audit(by.as_deref(), "delete", format!("job {job}"), None, None).await;
                    return Ok(DeleteReply { job: job.to_string(), revision: revision.0 });
                }
                Err(bus::BusError::Conflict) => {}
                Err(problem) => return Err(problem.into()),
            }
        }
        Err(ApiError::new(ErrorKind::Failed, format!("delete {job}: others keep writing it")))
    }

    /// One run now, besides the schedule and without moving it.
    pub(super) async fn trigger(
        &self,
        request: Result<JobRequest, ApiError>,
    ) -> Result<TriggerReply, ApiError> {
        let job = job_id(&request?.job)?;
        let shard = self.shards.shard_of(&job);
        let Some(due_at) = self.store.insert(shard, &job, self.clock.now()).await? else {
            return Err(ApiError::not_found(&format!("the job {job} (or the planner hasn't seen it yet)")));
        };
        if let Err(problem) = self.bus.nudge(shard).await {
            // The run is planned; without the nudge the dispatcher finds it at its next poll.
            tracing::debug!(%problem, %job, "the nudge for a triggered run was lost");
        }
        let run = model::id::Occurrence { job, due_at }.to_string();
        self.audit(None, "trigger", format!("run {run}"), None, None).await;
        Ok(TriggerReply { run })
    }
}

pub(super) fn job_id(text: &str) -> Result<JobId, ApiError> {
    text.parse().map_err(|problem| ApiError::refused(format!("read job {text:?}: {problem}")))
}
