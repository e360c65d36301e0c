//! `delete` and `trigger`.

use model::declared::Declared;
use model::id::{Key, Occurrence};
use model::limits::PAYLOAD_BYTES_MAX;
use model::name::JobId;
use model::spec::Work;
use store::Store;
use store::control::Trigger;

use super::Api;
use super::apply::conflict;
use super::types::{ApiError, DeleteReply, DeleteRequest, ErrorKind, TriggerReply, TriggerRequest};
use crate::service::PlannerBus;

/// Attempts of one compare-and-set against other writers.
const CONFLICT_RETRIES_MAX: usize = 8;

impl<S: Store, B: PlannerBus> Api<S, B> {
    pub(super) async fn delete(
        &self,
        request: Result<DeleteRequest, ApiError>,
    ) -> Result<DeleteReply, ApiError> {
        let DeleteRequest { job, by, expected } = request?;
        let job = job_id(&job)?;
        let shard = self.shards.shard_of(&job);
        for _ in 0..CONFLICT_RETRIES_MAX {
            let Some(present) = self.bus.get(shard, &job).await? else {
                return Err(ApiError::not_found(&format!("the job {job}")));
            };
            if let Some(expected) = expected.filter(|expected| *expected != present.revision.0) {
                return Err(conflict(&job, expected, present.revision.0));
            }
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

    /// One run now, besides the schedule and without moving it: also of a paused job. The same key within
    /// `TRIGGER_KEY_KEPT` is answered with the first one's run.
    pub(super) async fn trigger(
        &self,
        request: Result<TriggerRequest, ApiError>,
    ) -> Result<TriggerReply, ApiError> {
        let TriggerRequest { job, payload, key, by } = request?;
        let job = job_id(&job)?;
        let key = key.map(|key| Key::new(&key)).transpose();
        let key = key.map_err(|problem| ApiError::refused(problem.to_string()))?;
        let shard = self.shards.shard_of(&job);
        let record = self.store.jobs(shard, std::slice::from_ref(&job)).await?.pop().flatten();
        let not_there = || ApiError::not_found(&format!("the job {job} (or the planner hasn't seen it yet)"));
        let declared = record
            .and_then(|record| Declared::read(record.spec.as_bytes(), self.clock.now()).ok())
            .ok_or_else(not_there)?;
        let payload = payload.map(|payload| override_of(&declared, &payload)).transpose()?;
        let mut due_at = self.clock.now();
        while declared.schedule.names(due_at) {
            // That instant's run is the schedule's.
            due_at = due_at.plus_ms(1);
        }
        let trigger = Trigger { job: job.clone(), due_at, key, payload };
        let triggered = self.store.trigger(shard, &trigger).await?.ok_or_else(not_there)?;
        if let Err(problem) = self.bus.nudge(shard).await {
            // The run is planned; without the nudge the dispatcher finds it at its next poll.
            tracing::debug!(%problem, %job, "the nudge for a triggered run was lost");
        }
        let run = Occurrence { job, due_at: triggered.due_at }.to_string();
        if !triggered.duplicate {
            self.audit(by.as_deref(), "trigger", format!("run {run}"), None, None).await;
        }
        Ok(TriggerReply { run, duplicate: triggered.duplicate })
    }
}

/// The message body of a run whose payload is given.
fn override_of(declared: &Declared, payload: &serde_json::Value) -> Result<String, ApiError> {
    if !matches!(declared.spec.work, Work::Payload(_)) {
        let message = "override the payload: this job's work is no payload, but exec, http or deferred bytes";
        return Err(ApiError::refused(message.into()));
    }
    let text = payload.to_string();
    if text.len() > PAYLOAD_BYTES_MAX {
        let found = text.len();
        let message = format!("override the payload: it has {found} bytes; the limit is {PAYLOAD_BYTES_MAX}");
        return Err(ApiError::refused(message));
    }
    Ok(text)
}

pub(super) fn job_id(text: &str) -> Result<JobId, ApiError> {
    text.parse().map_err(|problem| ApiError::refused(format!("read job {text:?}: {problem}")))
}
