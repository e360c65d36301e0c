//! `backfill`, `backfills` and `cancel-backfill`. What carries them out is `crate::backfill`.

use std::collections::BTreeSet;

use model::backfill::{Backfill, BackfillSpec, BackfillStatus, Turn};
use model::declared::Declared;
use model::limits::{BACKFILL_ACTIVE_MAX, BACKFILL_RUNS_MAX, NAME_CHARS_MAX};
use model::name::{BackfillId, JobId, Name};
use model::object::{ObjectKey, ObjectKind};
use model::time::Timestamp;
use store::Store;
use store::keys::History;
use store::ledger::{LEDGER_BATCH_MAX, RunRecord};
use store::record::{history_limit, history_of};

use super::Api;
use super::apply::CONFLICT_RETRIES_MAX;
use super::objects::applied_object;
use super::types::{
    ApiError, AppliedObject, ApplyAction, BackfillReply, BackfillRequest, BackfillView, BackfillsReply,
    BackfillsRequest, CancelBackfillRequest, ErrorKind,
};
use super::write::job_id;
use crate::backfill::{from_bytes, to_bytes};
use crate::service::PlannerBus;

/// Runs of a job that a backfill's preview looks at.
const RUNS_LOOKED_AT_MAX: usize = LEDGER_BATCH_MAX;

impl<S: Store, B: PlannerBus> Api<S, B> {
    pub(super) async fn backfill(
        &self,
        request: Result<BackfillRequest, ApiError>,
    ) -> Result<BackfillReply, ApiError> {
        let request = request?;
        let now = self.clock.now();
        let spec = spec_of(&request, now)?;
        let (dues, declared) = self.range(&spec).await?;
        let count = |dues: usize| u32::try_from(dues).unwrap_or(u32::MAX);
        let total = count(dues.len());
        let runs = self.store.runs(self.shards.shard_of(&spec.job), &spec.job, RUNS_LOOKED_AT_MAX).await?;
        let remembered = remembered(&dues, &runs, &declared, now);
        let mut reply = BackfillReply {
            backfill: String::new(),
            job: spec.job.to_string(),
            total,
            already_ran: count(remembered.ran),
            may_have_run: count(remembered.forgotten),
            first: dues.first().map(ToString::to_string),
            last: dues.last().map(ToString::to_string),
        };
        if request.dry_run {
            return Ok(reply);
        }
        let id = self.create(&spec, request.name.as_deref(), total, now, request.by.clone()).await?;
        reply.backfill = id.to_string();
        let detail = format!("of {}, {} to {}", spec.job, spec.from, spec.to);
        self.audit(
            request.by.as_deref(),
            "backfill",
            format!("backfill {id}"),
            Some(dues.len()),
            Some(detail),
        )
        .await;
        Ok(reply)
    }

    /// The occurrences of the range, or why there can't be a backfill of them.
    async fn range(&self, spec: &BackfillSpec) -> Result<(Vec<Timestamp>, Declared), ApiError> {
        let job = &spec.job;
        let Some(stored) = self.bus.get(self.shards.shard_of(job), job).await? else {
            return Err(ApiError::not_found(&format!("the job {job}")));
        };
        let declared = Declared::read(&stored.value, stored.written_at).map_err(ApiError::refused)?;
        let dues: Vec<Timestamp> = spec.occurrences(&declared.schedule).collect();
        if dues.is_empty() {
            let message =
                format!("backfill {job}: its schedule names no instant from {} to {}", spec.from, spec.to);
            return Err(ApiError::refused(message));
        }
        if dues.len() > BACKFILL_RUNS_MAX as usize {
            let message = format!(
                "backfill {job}: the range has more than {BACKFILL_RUNS_MAX} occurrences (BACKFILL_RUNS_MAX)"
            );
            return Err(ApiError::refused(message));
        }
        Ok((dues, declared))
    }

    async fn create(
        &self,
        spec: &BackfillSpec,
        name: Option<&str>,
        total: u32,
        now: Timestamp,
        by: Option<String>,
    ) -> Result<BackfillId, ApiError> {
        let given = match name {
            Some(name) => Some(
                Name::new(name)
                    .map_err(|problem| ApiError::refused(format!("read the name {name:?}: it {problem}")))?,
            ),
            None => None,
        };
        for attempt in 0..CONFLICT_RETRIES_MAX {
            let name = given.clone().unwrap_or_else(|| made_up(&spec.job, now, attempt));
            let id = BackfillId { namespace: spec.job.namespace.clone(), name };
            let status = BackfillStatus::new(total, now, by.clone());
            let backfill = Backfill { id: id.clone(), spec: spec.clone(), status };
            let key = ObjectKey::Backfill(id.clone());
            match self.bus.put_object(&key, None, to_bytes(&backfill).into()).await {
                Ok(_) => {
                    tracing::info!(backfill = %id, job = %spec.job, ?by, "a backfill begins");
                    return Ok(id);
                }
                Err(bus::BusError::Conflict) if given.is_some() => {
                    return Err(ApiError::refused(format!("make {key}: there is one of this name")));
                }
                Err(bus::BusError::Conflict) => {}
                Err(problem) => return Err(problem.into()),
            }
        }
        Err(ApiError::new(ErrorKind::Failed, "find a free name for the backfill: give one".into()))
    }

    pub(super) async fn backfills(
        &self,
        request: Result<BackfillsRequest, ApiError>,
    ) -> Result<BackfillsReply, ApiError> {
        let BackfillsRequest { backfill, namespace } = request?;
        if let Some(name) = backfill {
            let id = backfill_id(&name)?;
            let stored = self.bus.object(&ObjectKey::Backfill(id.clone())).await?;
            let found = stored.and_then(|stored| from_bytes(&id, &stored.value));
            let found = found.ok_or_else(|| ApiError::not_found(&format!("the backfill {id}")))?;
            return Ok(BackfillsReply { backfills: vec![view(&found)] });
        }
        let namespace = namespace.as_deref().map(Name::new).transpose();
        let namespace =
            namespace.map_err(|problem| ApiError::refused(format!("read the namespace: it {problem}")))?;
        let found = self.bus.objects(ObjectKind::Backfill, namespace.as_ref()).await?;
        let backfills = found.iter().filter_map(|(key, stored)| match key {
            ObjectKey::Backfill(id) => from_bytes(id, &stored.value).as_ref().map(view),
            ObjectKey::Calendar(_) | ObjectKey::Namespace(_) | ObjectKey::Queue(_) => None,
        });
        Ok(BackfillsReply { backfills: backfills.collect() })
    }

    pub(super) async fn cancel_backfill(
        &self,
        request: Result<CancelBackfillRequest, ApiError>,
    ) -> Result<AppliedObject, ApiError> {
        let CancelBackfillRequest { backfill, by } = request?;
        let done = self.turn_backfill(&backfill, Turn::Cancel, self.clock.now()).await?;
        if done.action != ApplyAction::Unchanged {
            self.audit(by.as_deref(), "cancel", format!("backfill {}", done.name), None, None).await;
        }
        Ok(done)
    }

    pub(super) async fn turn_backfill(
        &self,
        name: &str,
        turn: Turn,
        now: Timestamp,
    ) -> Result<AppliedObject, ApiError> {
        let id = backfill_id(name)?;
        let key = ObjectKey::Backfill(id.clone());
        for _ in 0..CONFLICT_RETRIES_MAX {
            let Some(stored) = self.bus.object(&key).await? else {
                return Err(ApiError::not_found(&format!("the {key}")));
            };
            let present = from_bytes(&id, &stored.value)
                .ok_or_else(|| ApiError::refused(format!("read the stored {key}: delete it")))?;
            let status = present
                .turn(turn, now)
                .map_err(|problem| ApiError::refused(format!("change {key}: {problem}")))?;
            if status == present.status {
                return Ok(applied_object(&key, stored.revision, ApplyAction::Unchanged));
            }
            let value = to_bytes(&Backfill { status, ..present }).into();
            match self.bus.put_object(&key, Some(stored.revision), value).await {
                Ok(revision) => return Ok(applied_object(&key, revision, ApplyAction::Configured)),
                // Its own progress, most likely.
                Err(bus::BusError::Conflict) => {}
                Err(problem) => return Err(problem.into()),
            }
        }
        Err(ApiError::new(ErrorKind::Failed, format!("write {key}: others keep writing it")))
    }
}

/// What a job's newest runs tell of some occurrences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Remembered {
    /// There is a run.
    ran: usize,
    /// There may have been one: it would be older than all that its list keeps.
    forgotten: usize,
}

fn remembered(dues: &[Timestamp], runs: &[RunRecord], declared: &Declared, now: Timestamp) -> Remembered {
    let known: BTreeSet<Timestamp> = runs.iter().map(|run| run.occurrence.due_at).collect();
    let of_list = |kind| runs.iter().filter(move |run| history_of(run.state) == Some(kind));
    let full_since = |kind| {
        let limit = history_limit(&declared.spec.history, kind) as usize;
        let oldest = of_list(kind).map(|run| run.occurrence.due_at).min();
        (of_list(kind).count() >= limit).then(|| oldest.unwrap_or(now))
    };
    let seen_since = (runs.len() >= RUNS_LOOKED_AT_MAX).then(|| known.first().copied()).flatten();
    let kept_since = [History::Succeeded, History::Failed].into_iter().filter_map(full_since);
    let kept_since = kept_since.chain(seen_since).max();
    let created_at = declared.acceptance.created_at;
    let is_forgotten = |due: &&Timestamp| {
        !known.contains(*due) && **due >= created_at && kept_since.is_some_and(|since| **due < since)
    };
    Remembered {
        ran: dues.iter().filter(|due| known.contains(*due)).count(),
        forgotten: dues.iter().filter(is_forgotten).count(),
    }
}

fn spec_of(request: &BackfillRequest, now: Timestamp) -> Result<BackfillSpec, ApiError> {
    let instant = |field: &str, text: &str| {
        text.parse::<Timestamp>()
            .map_err(|problem| ApiError::refused(format!("read {field} {text:?}: {problem}")))
    };
    let (from, to) = (instant("from", &request.from)?, instant("to", &request.to)?);
    if from >= to {
        return Err(ApiError::refused(format!("read the range: {from} isn't before {to}")));
    }
    if to > now {
        let message = format!("read the range: {to} is in the future; what is due then runs by its schedule");
        return Err(ApiError::refused(message));
    }
    let max_active = request.max_active.unwrap_or(1);
    if !(1..=BACKFILL_ACTIVE_MAX).contains(&max_active) {
        let message =
            format!("read maxActive {max_active}: expected 1 to {BACKFILL_ACTIVE_MAX} (BACKFILL_ACTIVE_MAX)");
        return Err(ApiError::refused(message));
    }
    Ok(BackfillSpec { job: job_id(&request.job)?, from, to, max_active, reverse: request.reverse })
}

/// `nightly-report-20261122-064500`.
fn made_up(job: &JobId, now: Timestamp, attempt: usize) -> Name {
    let digits: String = now.plus_ms(attempt as i64 * 1_000).to_string();
    let digits: String = digits.chars().take(19).filter(char::is_ascii_digit).collect();
    let (date, time) = digits.split_at(digits.len().min(8));
    let ending = format!("-{date}-{time}");
    let mut text: String = job.name.as_str().chars().take(NAME_CHARS_MAX - ending.len()).collect();
    text.push_str(&ending);
    // A name cut short before a hyphen is one all the same: the ending begins with one.
    Name::new(&text).unwrap_or_else(|_| job.name.clone())
}

fn backfill_id(text: &str) -> Result<BackfillId, ApiError> {
    text.parse().map_err(|problem| ApiError::refused(format!("read backfill {text:?}: {problem}")))
}

fn view(backfill: &Backfill) -> BackfillView {
    let Backfill { id, spec, status } = backfill;
    let active = u32::try_from(status.open.len()).unwrap_or(u32::MAX);
    BackfillView {
        backfill: id.to_string(),
        job: spec.job.to_string(),
        from: spec.from.to_string(),
        to: spec.to.to_string(),
        max_active: spec.max_active,
        reverse: spec.reverse,
        phase: status.phase.as_str().into(),
        total: status.total,
        started: active + status.succeeded + status.failed,
        active,
        succeeded: status.succeeded,
        failed: status.failed,
        skipped: status.skipped,
        already_ran: status.already_ran,
        created_at: status.created_at.to_string(),
        ended_at: status.ended_at.map(|at| at.to_string()),
        by: status.by.clone(),
    }
}

#[cfg(test)]
mod tests {
    use model::id::{Occurrence, Revision};
    use model::manifest::{Node, decode_job};
    use model::run::RunState;
    use model::spec::Acceptance;

    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_ms(1_795_329_900_000 + minute * 60_000)
    }

    /// Created at minute 2, it remembers so many that succeeded, and more that failed than there are.
    fn declared(succeeded: u32) -> Declared {
        let document = serde_json::json!({
            "apiVersion": "ecron/v1", "kind": "Job", "metadata": {"name": "a"},
            "spec": {"schedule": {"every": "1m"}, "exec": {"shell": "true"}, "history": {"succeeded": succeeded}},
        });
        let spec = decode_job(&Node::from_json(document), at(2)).unwrap();
        Declared::of(spec, Acceptance::new(at(2))).unwrap()
    }

    fn run(minute: i64, state: RunState) -> RunRecord {
        let occurrence = Occurrence { job: "default/a".parse().unwrap(), due_at: at(minute) };
        RunRecord::new(occurrence, Revision(1), state)
    }

    #[test]
    fn what_the_history_is_too_short_for_may_have_run() {
        let range: Vec<Timestamp> = (0..10).map(at).collect();
        let ran = |minutes: &[i64]| -> Vec<RunRecord> {
            minutes.iter().map(|minute| run(*minute, RunState::Succeeded)).collect()
        };
        for (kept, runs, expected) in [
            (3, ran(&[]), (0, 0)),
            (3, ran(&[8, 7]), (2, 0)),
            (3, ran(&[8, 7, 6]), (3, 4)),
            (3, ran(&[20, 19, 8]), (1, 6)),
            (3, [ran(&[8, 7, 6]), vec![run(4, RunState::DeadLettered)]].concat(), (4, 3)),
            (0, ran(&[]), (0, 8)),
        ] {
            let remembered = remembered(&range, &runs, &declared(kept), at(30));
            assert_eq!((remembered.ran, remembered.forgotten), expected, "{kept} {}", runs.len());
        }
    }
}
