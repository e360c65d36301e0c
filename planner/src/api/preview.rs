//! `catch-up`: what a resume, or the end of a downtime, would start. Changes nothing.

use std::collections::BTreeMap;

use bus::specs::StoredSpec;
use futures_util::StreamExt;
use model::declared::Declared;
use model::first::ShardStanding;
use model::name::{JobId, Name};
use model::preview::{Preview, preview};
use model::shard::ShardId;
use model::time::duration_ms;
use store::Store;

use super::Api;
use super::types::{ApiError, CatchUpReply, CatchUpRequest, CatchUpView};
use super::write::job_id;
use crate::service::PlannerBus;

/// Jobs that an answer lists; the totals are of all.
const JOBS_LISTED_MAX: usize = 1_000;
/// Due instants that an answer lists of each job.
const RUNS_LISTED_MAX: usize = 10;

impl<S: Store, B: PlannerBus> Api<S, B> {
    pub(super) async fn catch_up(
        &self,
        request: Result<CatchUpRequest, ApiError>,
    ) -> Result<CatchUpReply, ApiError> {
        let CatchUpRequest { job, namespace } = request?;
        let now = self.clock.now();
        let mut standings = BTreeMap::new();
        let mut reply = CatchUpReply { at: now.to_string(), ..CatchUpReply::default() };
        if let Some(job) = job {
            let job = job_id(&job)?;
            let Some(stored) = self.bus.get(self.shards.shard_of(&job), &job).await? else {
                return Err(ApiError::not_found(&format!("the job {job}")));
            };
            self.look_at(&job, &stored, &mut standings, &mut reply).await?;
        } else {
            let namespace = namespace.as_deref().map(Name::new).transpose();
            let namespace = namespace
                .map_err(|problem| ApiError::refused(format!("read the namespace: it {problem}")))?;
            let mut specs = self.bus.list(namespace.as_ref()).await?;
            while let Some((job, stored)) = specs.next().await {
                self.look_at(&job, &stored, &mut standings, &mut reply).await?;
            }
        }
        // Those that would start most come first.
        reply.jobs.sort_by(|a, b| b.runs.cmp(&a.runs).then_with(|| a.job.cmp(&b.job)));
        reply.jobs_more = reply.jobs.len().saturating_sub(JOBS_LISTED_MAX);
        reply.jobs.truncate(JOBS_LISTED_MAX);
        Ok(reply)
    }

    async fn look_at(
        &self,
        job: &JobId,
        stored: &StoredSpec,
        standings: &mut BTreeMap<ShardId, Option<ShardStanding>>,
        reply: &mut CatchUpReply,
    ) -> Result<(), ApiError> {
        let shard = self.shards.shard_of(job);
        let standing = match standings.get(&shard) {
            Some(known) => *known,
            None => {
                let cursor = self.store.cursor(shard).await?;
                let standing = cursor.map(|cursor| ShardStanding {
                    planned_until: cursor.planned_until,
                    taken_until: cursor.taken_until,
                    rebuilding: false,
                });
                *standings.entry(shard).or_insert(standing)
            }
        };
        // A shard without a state has dispatched nothing that is known; a job that can't be read plans nothing.
        let (Some(standing), Ok(declared)) = (standing, Declared::read(&stored.value, stored.written_at))
        else {
            return Ok(());
        };
        if let Some(found) = preview(&declared, standing, self.clock.now()) {
            reply.missed += u64::from(found.missed);
            reply.runs += found.runs.len() as u64;
            reply.over_ms = reply.over_ms.max(duration_ms(found.over));
            reply.jobs.push(view(job, &declared, &found));
        }
        Ok(())
    }
}

fn view(job: &JobId, declared: &Declared, found: &Preview) -> CatchUpView {
    let catch_up = &declared.spec.catch_up;
    CatchUpView {
        job: job.to_string(),
        since: found.since.to_string(),
        paused_since: found.paused_since.map(|since| since.to_string()),
        suspended: declared.spec.suspend,
        namespace_paused: declared.acceptance.namespace_paused,
        policy: model::manifest::policy_word(catch_up.policy).into(),
        rate: catch_up.rate.map(|rate| rate.to_string()),
        missed: found.missed,
        runs: found.runs.len(),
        first: found.runs.first().map(ToString::to_string),
        last: found.runs.last().map(ToString::to_string),
        due: found.runs.iter().rev().take(RUNS_LISTED_MAX).rev().map(ToString::to_string).collect(),
        over_ms: duration_ms(found.over),
    }
}
