//! `audit`: looks at one job, or at a page of a shard's jobs.

use model::name::JobId;
use model::shard::ShardId;
use model::time::{HOUR_MS, Timestamp};
use store::Store;
use store::lease::{Epoch, Role};

use super::Api;
use super::types::{ApiError, AuditReply, AuditRequest, FindingView};
use super::write::job_id;
use crate::completeness::{AuditError, Auditor, Finding, Report, Scans, Stretch};
use crate::pass::DeclaredCache;
use crate::service::PlannerBus;

/// Jobs of one answer.
const REQUEST_JOBS_MAX: usize = 1_000;
/// Occurrences that were taken, and others, of each of them; and of a job that is asked for by its name.
const REQUEST_DUES_MAX: usize = 300;
const JOB_DUES_MAX: usize = 10_000;
/// Pages of each list of runs under way.
const REQUEST_PAGES_MAX: usize = 200;
/// How far back it looks, unless told.
const LOOK_BACK_MS: i64 = 24 * HOUR_MS;

impl From<AuditError> for ApiError {
    fn from(problem: AuditError) -> Self {
        match problem {
            AuditError::Bus(problem) => problem.into(),
            AuditError::Store(problem) => problem.into(),
        }
    }
}

impl<S: Store, B: PlannerBus> Api<S, B> {
    pub(super) async fn completeness(
        &self,
        request: Result<AuditRequest, ApiError>,
    ) -> Result<AuditReply, ApiError> {
        let request = request?;
        let now = self.clock.now();
        let job = request.job.as_deref().map(job_id).transpose()?;
        let shard = match (&job, request.shard) {
            (Some(job), _) => self.shards.shard_of(job),
            (None, Some(shard)) if shard < self.shards.get() => ShardId(shard),
            (None, shard) => {
                let last = self.shards.get() - 1;
                let given = shard.map_or("none".into(), |shard| shard.to_string());
                return Err(ApiError::refused(format!(
                    "audit: give a job, or a shard from 0 to {last}, not {given}"
                )));
            }
        };
        let stretch = Stretch {
            after: instant("from", request.from.as_deref())?.unwrap_or(now.plus_ms(-LOOK_BACK_MS)),
            until: instant("to", request.to.as_deref())?,
            dues_max: if job.is_some() { JOB_DUES_MAX } else { REQUEST_DUES_MAX },
        };
        let epoch = if request.repair { Some(self.owner_of(shard).await?) } else { None };
        let (jobs, next) = match job {
            Some(job) => {
                if self.bus.get(shard, &job).await?.is_none() {
                    return Err(ApiError::not_found(&format!("the job {job}")));
                }
                (vec![job], None)
            }
            None => self.page_of(shard, request.after.as_deref()).await?,
        };
        let cache = DeclaredCache::default();
        let auditor = Auditor { store: &*self.store, bus: &*self.bus, cache: &cache, shard, epoch, now };
        let mut report = Report::default();
        if request.job.is_none() && request.after.is_none() {
            report.findings = auditor.runs_under_way(&mut Scans::default(), REQUEST_PAGES_MAX).await?;
        }
        report.add(auditor.jobs(&jobs, stretch).await?);
        let repaired = report.findings.iter().filter(|finding| finding.repaired).count();
        if repaired > 0 {
            let target = request.job.unwrap_or_else(|| format!("shard {shard}"));
            self.audit(request.by.as_deref(), "repair", target, Some(repaired), None).await;
        }
        Ok(reply(report, self.shards.get(), next.map(|job| job.to_string())))
    }

    /// Repairs act for whoever owns the shard: they are fenced by its epoch, and harmless beside it.
    async fn owner_of(&self, shard: ShardId) -> Result<Epoch, ApiError> {
        let leases = self.store.leases(&[shard]).await?;
        let held = leases.iter().find(|lease| lease.role == Role::Planner).map(|lease| lease.epoch);
        held.ok_or_else(|| ApiError::refused(format!("repair shard {shard}: no planner owns it now")))
    }

    async fn page_of(
        &self,
        shard: ShardId,
        after: Option<&str>,
    ) -> Result<(Vec<JobId>, Option<JobId>), ApiError> {
        let after = after.map(job_id).transpose()?;
        let mut jobs = self.bus.jobs_of(shard).await?;
        jobs.sort_unstable();
        jobs.retain(|job| after.as_ref().is_none_or(|after| job > after));
        let is_last = jobs.len() <= REQUEST_JOBS_MAX;
        jobs.truncate(REQUEST_JOBS_MAX);
        let next = jobs.last().filter(|_| !is_last).cloned();
        Ok((jobs, next))
    }
}

fn instant(field: &str, text: Option<&str>) -> Result<Option<Timestamp>, ApiError> {
    let Some(text) = text else { return Ok(None) };
    let read = text.parse().map(Some);
    read.map_err(|_| ApiError::refused(format!("read {field}: expected RFC 3339, not {text:?}")))
}

fn reply(report: Report, shards: u16, next: Option<String>) -> AuditReply {
    let Report { tally, findings, .. } = report;
    AuditReply {
        shards,
        jobs: tally.jobs,
        occurrences: tally.occurrences(),
        planned: tally.planned,
        under_way: tally.under_way,
        ended: tally.ended,
        skipped: tally.skipped,
        excused: tally.excused.iter().map(|(why, count)| (why.as_str().into(), *count)).collect(),
        gaps: tally.gaps,
        unread: tally.unread,
        findings: findings.into_iter().map(view).collect(),
        next,
    }
}

fn view(finding: Finding) -> FindingView {
    FindingView {
        job: finding.job.to_string(),
        due_at: finding.due_at.map(|at| at.to_string()),
        missing: finding.missing.as_str().into(),
        what: finding.missing.describe().into(),
        repaired: finding.repaired,
    }
}
