//! The audit that a planner makes by itself: each shard in turn, once in every period, a bounded piece at a time.
//!
//! A job whose history reaches back less far than a period is looked at more often: what is taken out of its plan would
//! otherwise be forgotten before anybody looks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use ambient::{Clock, Shutdown};
use bus::specs::SpecStore;
use bus::{EditWriter, Nudge};
use model::name::JobId;
use model::shard::ShardId;
use model::time::{Timestamp, duration_ms};
use store::completeness::AuditNote;
use store::lease::Epoch;
use store::ownership::Lease;
use store::plan::PlanStore;
use store::{ChangeStore, CompletenessStore, StoreError};

use crate::completeness::{
    AUDIT_PAGE_MAX, AuditError, Auditor, Finding, RUN_PAGES_MAX, Report, Scans, Stretch, Tally,
};
use crate::feed::Owned;
use crate::pass::DeclaredCache;
use crate::service::pause_after;

/// How often each shard is audited, unless the planner is told otherwise.
pub const AUDIT_PERIOD: Duration = Duration::from_secs(120);
/// The shortest period.
pub const AUDIT_PERIOD_MIN: Duration = Duration::from_secs(1);
/// The longest period: what is missing is put right by itself for `REPAIRED_WITHIN_MS` only.
pub const AUDIT_PERIOD_MAX: Duration = Duration::from_secs(300);
/// Time between two pieces.
const STEP_INTERVAL: Duration = Duration::from_millis(500);
/// Jobs in one piece, of all shards together: 2,000 a second. A planner that owns more than that times the period takes
/// longer for a round.
pub const STEP_JOBS_MAX: usize = 1_000;
/// How soon a job is looked at again whose history is short.
const SHORT_INTERVAL_MIN: Duration = Duration::from_secs(2);
/// Such jobs of one shard that are looked at more often.
const SHORT_JOBS_MAX: usize = 1_000;
/// Findings of one look that are logged one by one.
const LOGGED_MAX: usize = 20;

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct StepReport {
    pub jobs: usize,
    pub found: usize,
    pub repaired: usize,
    /// Rounds that were completed.
    pub rounds: usize,
}

/// The audits of the shards that a planner owns.
#[derive(Debug)]
pub struct Audits {
    period: Duration,
    rounds: BTreeMap<ShardId, Round>,
}

#[derive(Debug)]
struct Round {
    epoch: Epoch,
    next_at: Timestamp,
    /// Jobs that are still to be looked at in this round; `None` between rounds.
    left: Option<VecDeque<JobId>>,
    scans: Scans,
    tally: Tally,
    found: u64,
    mended: u64,
    last_found: Option<String>,
    /// Jobs with a short history: when to look again, and since when.
    short: BTreeMap<JobId, (Timestamp, Timestamp)>,
    /// What was found and couldn't be put right: said once.
    standing: BTreeSet<String>,
}

impl Audits {
    /// With a period within `AUDIT_PERIOD_MIN` and `AUDIT_PERIOD_MAX`.
    #[must_use]
    pub fn new(period: Duration) -> Self {
        Self { period: period.clamp(AUDIT_PERIOD_MIN, AUDIT_PERIOD_MAX), rounds: BTreeMap::new() }
    }

    /// One piece of work on the shards of these leases.
    pub async fn step<S, B>(
        &mut self,
        store: &S,
        bus: &B,
        cache: &DeclaredCache,
        leases: &[Lease],
        now: Timestamp,
    ) -> Result<StepReport, AuditError>
    where
        S: PlanStore + ChangeStore + CompletenessStore,
        B: SpecStore + EditWriter + Nudge,
    {
        let is_ours = |shard: &ShardId, epoch: Epoch| {
            leases.iter().any(|lease| lease.shard == *shard && lease.epoch == epoch)
        };
        self.rounds.retain(|shard, round| is_ours(shard, round.epoch));
        let mut report = StepReport::default();
        for lease in leases {
            // The shards' rounds are spread over the period.
            let first_ms = i64::from(lease.shard.0) * 7_919 % duration_ms(self.period);
            let new = || Round::new(lease.epoch, now.plus_ms(first_ms));
            let round = self.rounds.entry(lease.shard).or_insert_with(new);
            let auditor = Auditor { store, bus, cache, shard: lease.shard, epoch: Some(lease.epoch), now };
            if round.left.is_none() && now >= round.next_at {
                round.left = Some(bus.jobs_of(lease.shard).await?.into());
                round.next_at = now.plus(self.period);
                let findings = auditor.runs_under_way(&mut round.scans, RUN_PAGES_MAX).await?;
                report.note(round.note(Report { findings, ..Report::default() }, now, self.period));
            }
            let jobs = round.next_jobs(STEP_JOBS_MAX.saturating_sub(report.jobs));
            if !jobs.is_empty() {
                let found = auditor.jobs(&jobs, Stretch::recent(now)).await?;
                report.jobs += jobs.len();
                report.note(round.note(found, now, self.period));
            }
            for (job, since) in round.short_jobs(STEP_JOBS_MAX.saturating_sub(report.jobs), now) {
                let stretch = Stretch { after: since, ..Stretch::recent(now) };
                let found = auditor.jobs(&[job], stretch).await?;
                report.jobs += 1;
                report.note(round.note(found, now, self.period));
            }
            if round.left.as_ref().is_some_and(VecDeque::is_empty) {
                store.note_audit(lease.shard, lease.epoch, &round.take_note(now)).await?;
                round.left = None;
                report.rounds += 1;
            }
        }
        Ok(report)
    }
}

impl StepReport {
    fn note(&mut self, (found, repaired): (usize, usize)) {
        self.found += found;
        self.repaired += repaired;
    }
}

impl Round {
    fn new(epoch: Epoch, next_at: Timestamp) -> Self {
        Self {
            epoch,
            next_at,
            left: None,
            scans: Scans::default(),
            tally: Tally::default(),
            found: 0,
            mended: 0,
            last_found: None,
            short: BTreeMap::new(),
            standing: BTreeSet::new(),
        }
    }

    fn next_jobs(&mut self, room: usize) -> Vec<JobId> {
        let Some(left) = &mut self.left else { return Vec::new() };
        let count = left.len().min(room).min(AUDIT_PAGE_MAX);
        left.drain(..count).collect()
    }

    fn short_jobs(&mut self, room: usize, now: Timestamp) -> Vec<(JobId, Timestamp)> {
        let due = self.short.iter().filter(|(_, (at, _))| *at <= now);
        let due: Vec<_> = due.take(room).map(|(job, (_, since))| (job.clone(), *since)).collect();
        for (job, _) in &due {
            self.short.remove(job);
        }
        due
    }

    /// Remembers and says what was found; answers with how much of it is new, and how much was repaired.
    fn note(&mut self, report: Report, now: Timestamp, period: Duration) -> (usize, usize) {
        self.tally.add(&report.tally);
        for (job, until) in report.short {
            let (reach_ms, period_ms) = (now.ms_since(until), duration_ms(period));
            if 0 < reach_ms && reach_ms < period_ms && self.short.len() < SHORT_JOBS_MAX {
                let wait_ms = (reach_ms / 2).max(duration_ms(SHORT_INTERVAL_MIN));
                self.short.insert(job, (now.plus_ms(wait_ms), until));
            }
        }
        let (mut found, mut repaired) = (0, 0);
        for finding in report.findings {
            if !finding.repaired && !self.standing.insert(finding.to_string()) {
                continue;
            }
            found += 1;
            repaired += usize::from(finding.repaired);
            if found <= LOGGED_MAX {
                say(&finding);
            }
            self.last_found = Some(format!("{now} {finding}"));
        }
        self.found += found as u64;
        self.mended += repaired as u64;
        (found, repaired)
    }

    /// What is to be remembered of this round, which is over.
    fn take_note(&mut self, now: Timestamp) -> AuditNote {
        let tally = std::mem::take(&mut self.tally);
        AuditNote {
            at: now,
            jobs: tally.jobs as u64,
            occurrences: tally.occurrences() as u64,
            found: std::mem::take(&mut self.found),
            mended: std::mem::take(&mut self.mended),
            last_found: self.last_found.take(),
        }
    }
}

fn say(finding: &Finding) {
    let Finding { job, due_at, missing, repaired } = finding;
    let due_at = due_at.map(tracing::field::display);
    let what = missing.describe();
    if *repaired {
        tracing::warn!(%job, due_at, what, "the audit found a gap, and closed it");
    } else {
        tracing::error!(%job, due_at, what, "the audit found a gap that it doesn't close by itself; see `ecron audit`");
    }
}

/// Audits until shutdown.
pub(crate) async fn run<S, B>(
    store: &S,
    bus: &B,
    owned: &Owned,
    cache: &DeclaredCache,
    period: Duration,
    clock: &Clock,
    shutdown: &Shutdown,
) where
    S: PlanStore + ChangeStore + CompletenessStore,
    B: SpecStore + EditWriter + Nudge,
{
    let mut audits = Audits::new(period);
    while !shutdown.stopping() {
        match audits.step(store, bus, cache, &owned.ready(), clock.now()).await {
            // The next step finds the new owner.
            Ok(_) | Err(AuditError::Store(StoreError::Fenced)) => {}
            Err(problem) => {
                pause_after(&problem, "auditing", clock, shutdown).await;
                continue;
            }
        }
        tokio::select! {
            biased;
            () = shutdown.stopped() => {}
            () = clock.sleep(STEP_INTERVAL) => {}
        }
    }
}
