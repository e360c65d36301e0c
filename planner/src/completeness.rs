//! The completeness audit: what the jobs' schedules name against what the plan and the ledger hold (`model::completeness`),
//! and what is missing laid out again.
//!
//! ```text
//! jobs of a shard ─page─▶ records ─▶ expected occurrences ─examine─▶ verdicts ─▶ findings ─▶ lay_again, mend
//! ```
//!
//! Reads are one script, so nothing that moves looks lost. Repairs go through the scripts of ordinary planning: `install` of
//! the same revision puts in what isn't there and leaves what is, so laying out twice is laying out once. Nothing here
//! publishes; what is published a second time carries the same message id.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bus::specs::{SpecStore, StoredSpec};
use bus::{BusError, EditWriter, Nudge};
use model::completeness::{Excuse, Facts, Gap, REPAIRED_WITHIN_MS, Verdict};
use model::declared::Declared;
use model::id::Occurrence;
use model::limits::INTERRUPTIONS_MAX;
use model::misfire::Interruption;
use model::name::JobId;
use model::plan::place;
use model::shard::ShardId;
use model::time::Timestamp;
use store::completeness::{Absent, EXAMINE_BATCH_MAX, Examined, Holding, MEND_BATCH_MAX, Question, RunList};
use store::lease::Epoch;
use store::plan::{Cursor, Install, JobRecord, PlanStore};
use store::{ChangeStore, CompletenessStore, StoreError};

use crate::install::{InstallError, Site, declared, reinstall_plan};
use crate::pass::DeclaredCache;

/// Jobs that are examined together.
pub const AUDIT_PAGE_MAX: usize = 100;
/// Occurrences of one job in one look, before and after the taken mark each.
pub const AUDIT_DUES_MAX: usize = 300;
/// Pages of one list of runs in one look of the planner's.
pub const RUN_PAGES_MAX: usize = 40;
/// Findings that one report names; the others are counted.
pub const FINDINGS_MAX: usize = 1_000;

/// What was found missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Missing {
    Occurrence(Gap),
    /// Of a run under way.
    Run(Absent),
    /// The job runs after its own ends, and nothing of it is planned or under way.
    Chain,
    /// The job's record, though its spec was installed.
    Job,
}

impl Missing {
    /// For programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Occurrence(gap) => gap.as_str(),
            Self::Run(absent) => absent.as_str(),
            Self::Chain => "chain",
            Self::Job => "job",
        }
    }

    /// For people.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Occurrence(gap) => gap.describe(),
            Self::Run(absent) => absent.describe(),
            Self::Chain => "the job runs after its own ends, and nothing of it is planned or under way",
            Self::Job => "the job's record is gone, though its spec was installed",
        }
    }
}

/// Something that is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub job: JobId,
    pub due_at: Option<Timestamp>,
    pub missing: Missing,
    /// It was put right, or is about to run.
    pub repaired: bool,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.job)?;
        if let Some(due_at) = self.due_at {
            write!(f, "@{due_at}")?;
        }
        write!(f, ": {}", self.missing.describe())
    }
}

/// How the occurrences that were looked at are accounted for.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Tally {
    pub jobs: usize,
    pub planned: usize,
    pub under_way: usize,
    pub ended: usize,
    pub skipped: usize,
    pub excused: BTreeMap<Excuse, usize>,
    pub gaps: usize,
    /// Jobs whose records can't be read, or that changed while they were looked at.
    pub unread: usize,
}

impl Tally {
    /// Occurrences.
    #[must_use]
    pub fn occurrences(&self) -> usize {
        let excused: usize = self.excused.values().sum();
        self.planned + self.under_way + self.ended + self.skipped + excused + self.gaps
    }

    fn count(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Planned => self.planned += 1,
            Verdict::UnderWay => self.under_way += 1,
            Verdict::Ended(_) => self.ended += 1,
            Verdict::Skipped(_) => self.skipped += 1,
            Verdict::Excused(excuse) => *self.excused.entry(*excuse).or_default() += 1,
            Verdict::Gap(_) => self.gaps += 1,
        }
    }

    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        self.jobs += other.jobs;
        self.planned += other.planned;
        self.under_way += other.under_way;
        self.ended += other.ended;
        self.skipped += other.skipped;
        self.gaps += other.gaps;
        self.unread += other.unread;
        for (excuse, count) in &other.excused {
            *self.excused.entry(*excuse).or_default() += count;
        }
    }
}

/// What a look came to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub tally: Tally,
    pub findings: Vec<Finding>,
    /// Jobs whose history reaches back less far than the look did, and how far it does.
    pub short: Vec<(JobId, Timestamp)>,
}

impl Report {
    /// Adds another one; of its findings as many as there is room for.
    pub fn add(&mut self, other: Self) {
        self.tally.add(&other.tally);
        let room = FINDINGS_MAX.saturating_sub(self.findings.len());
        self.findings.extend(other.findings.into_iter().take(room));
        self.short.extend(other.short);
    }
}

/// What went wrong. Every step is safe to repeat.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<InstallError> for AuditError {
    fn from(problem: InstallError) -> Self {
        match problem {
            InstallError::Store(problem) => Self::Store(problem),
            InstallError::Bus(problem) => Self::Bus(problem),
        }
    }
}

/// Which occurrences a look covers: those due after `after` and up to `until`, as far as they are planned.
#[derive(Clone, Copy, Debug)]
pub struct Stretch {
    pub after: Timestamp,
    pub until: Option<Timestamp>,
    pub dues_max: usize,
}

impl Stretch {
    /// What the planner looks at by itself.
    #[must_use]
    pub fn recent(now: Timestamp) -> Self {
        Self { after: now.plus_ms(-REPAIRED_WITHIN_MS), until: None, dues_max: AUDIT_DUES_MAX }
    }
}

/// Looks at one shard; repairs what it finds if it has the epoch of the planner's lease.
#[derive(Debug)]
pub struct Auditor<'a, S, B> {
    pub store: &'a S,
    pub bus: &'a B,
    pub cache: &'a DeclaredCache,
    pub shard: ShardId,
    pub epoch: Option<Epoch>,
    pub now: Timestamp,
}

/// A job as its record declares it.
struct Subject {
    job: JobId,
    record: JobRecord,
    declared: Arc<Declared>,
}

impl<S, B> Auditor<'_, S, B>
where
    S: PlanStore + ChangeStore + CompletenessStore,
    B: SpecStore + EditWriter + Nudge,
{
    /// Looks at some jobs of the shard.
    pub async fn jobs(&self, jobs: &[JobId], stretch: Stretch) -> Result<Report, AuditError> {
        let mut report = Report::default();
        let Some(cursor) = self.store.cursor(self.shard).await? else { return Ok(report) };
        for page in jobs.chunks(AUDIT_PAGE_MAX) {
            report.add(self.page(page, stretch, &cursor).await?);
        }
        if report.findings.iter().any(|finding| finding.repaired) {
            // A lost nudge costs the dispatcher's poll interval.
            self.bus.nudge(self.shard).await?;
        }
        Ok(report)
    }

    async fn page(&self, page: &[JobId], stretch: Stretch, cursor: &Cursor) -> Result<Report, AuditError> {
        let mut report = Report::default();
        let mut subjects = Vec::with_capacity(page.len());
        for (job, record) in page.iter().zip(self.records(page).await?) {
            match record {
                Some(Some(record)) => match self.cache.known_or_read(job, &record) {
                    Some(declared) => subjects.push(Subject { job: job.clone(), record, declared }),
                    None => report.tally.unread += 1,
                },
                Some(None) => report.findings.extend(self.without_record(job, cursor).await?),
                None => report.tally.unread += 1,
            }
        }
        for (numbers, questions) in self.batches(&subjects, stretch, cursor) {
            let examined = self.store.examine(self.shard, &questions).await?;
            // Noted before anything beyond them is taken: read after.
            let interruptions = self.store.interruptions(self.shard).await?;
            let subjects = numbers.into_iter().map(|number| &subjects[number]);
            self.judge(subjects.zip(questions).collect(), examined, &interruptions, &mut report).await?;
        }
        report.tally.jobs += subjects.len();
        Ok(report)
    }

    /// The records of some jobs; `None` in place of one that can't be read.
    async fn records(&self, jobs: &[JobId]) -> Result<Vec<Option<Option<JobRecord>>>, AuditError> {
        match self.store.jobs(self.shard, jobs).await {
            Ok(records) => Ok(records.into_iter().map(Some).collect()),
            Err(StoreError::Corrupt { .. }) => {
                let mut records = Vec::with_capacity(jobs.len());
                for job in jobs {
                    match self.store.jobs(self.shard, std::slice::from_ref(job)).await {
                        Ok(mut one) => records.push(Some(one.pop().flatten())),
                        Err(StoreError::Corrupt { .. }) => records.push(None),
                        Err(problem) => return Err(problem.into()),
                    }
                }
                Ok(records)
            }
            Err(problem) => Err(problem.into()),
        }
    }

    /// What to ask about each subject, in calls of bounded size; and which subjects those are.
    fn batches(
        &self,
        subjects: &[Subject],
        stretch: Stretch,
        cursor: &Cursor,
    ) -> Vec<(Vec<usize>, Vec<Question>)> {
        let mut batches: Vec<(Vec<usize>, Vec<Question>)> = Vec::new();
        let mut asked = EXAMINE_BATCH_MAX;
        for (number, subject) in subjects.iter().enumerate() {
            let facts = facts(subject, None, cursor, self.now, &[]);
            let mut dues = facts.expected(stretch.after, stretch.dues_max);
            dues.retain(|due_at| stretch.until.is_none_or(|until| *due_at <= until));
            let parts: Vec<&[Timestamp]> =
                if dues.is_empty() { vec![&[]] } else { dues.chunks(EXAMINE_BATCH_MAX).collect() };
            for part in parts {
                let size = part.len().max(1);
                if asked + size > EXAMINE_BATCH_MAX {
                    batches.push((Vec::new(), Vec::new()));
                    asked = 0;
                }
                asked += size;
                if let Some((numbers, questions)) = batches.last_mut() {
                    numbers.push(number);
                    questions.push(Question {
                        job: subject.job.clone(),
                        revision: subject.record.revision,
                        dues: part.to_vec(),
                    });
                }
            }
        }
        batches
    }

    async fn judge(
        &self,
        asked: Vec<(&Subject, Question)>,
        examined: Examined,
        interruptions: &[Interruption],
        report: &mut Report,
    ) -> Result<(), AuditError> {
        let Some(cursor) = &examined.cursor else { return Ok(()) };
        let mut open = Vec::new();
        for ((subject, question), holding) in asked.into_iter().zip(&examined.jobs) {
            let Some(holding) = holding else {
                // It was edited or deleted meanwhile: the next look is about the new one.
                report.tally.unread += 1;
                continue;
            };
            let facts = facts(subject, Some(holding), cursor, examined.now, interruptions);
            let mut gaps = Vec::new();
            for (due_at, found) in question.dues.iter().zip(&holding.found) {
                let verdict = facts.judge(*due_at, found);
                report.tally.count(&verdict);
                match verdict {
                    Verdict::Gap(gap) => gaps.push((*due_at, gap)),
                    Verdict::UnderWay => {
                        open.push(Occurrence { job: subject.job.clone(), due_at: *due_at });
                    }
                    _ => {}
                }
            }
            let reaches = facts.forgotten_until();
            let is_short =
                |until: &Timestamp| question.dues.iter().any(|due| due <= until && *due <= facts.taken_until);
            if let Some(until) = reaches.filter(is_short) {
                report.short.push((subject.job.clone(), until));
            }
            let mut missing: Vec<(Option<Timestamp>, Missing, bool)> = gaps
                .iter()
                .map(|(due_at, gap)| {
                    (Some(*due_at), Missing::Occurrence(*gap), facts.may_repair(*due_at, *gap))
                })
                .collect();
            if holding.broken_off {
                missing.push((None, Missing::Chain, true));
            }
            if missing.is_empty() {
                continue;
            }
            let may: Vec<(Timestamp, Gap)> =
                gaps.into_iter().filter(|(due_at, gap)| facts.may_repair(*due_at, *gap)).collect();
            let wanted = !may.is_empty() || holding.broken_off;
            let repaired = match self.epoch {
                Some(epoch) if wanted => self.lay_again(subject, &may, epoch).await?,
                Some(_) | None => false,
            };
            report.findings.extend(missing.into_iter().map(|(due_at, missing, may)| Finding {
                job: subject.job.clone(),
                due_at,
                missing,
                repaired: repaired && may,
            }));
        }
        report.findings.extend(self.mend(&open).await?);
        Ok(())
    }

    /// Lays occurrences out again; `false`: the job has changed meanwhile.
    async fn lay_again(
        &self,
        subject: &Subject,
        gaps: &[(Timestamp, Gap)],
        epoch: Epoch,
    ) -> Result<bool, AuditError> {
        // Its record may have moved on to its next place since it was read: it is read once more.
        let plan = |record: &JobRecord| lay_again_plan(&subject.job, record, gaps, self.now);
        Ok(self.site(epoch).again(&subject.job, subject.record.revision, plan).await?)
    }

    /// A job that has a spec and no record. If its spec was installed, its record is lost.
    async fn without_record(&self, job: &JobId, cursor: &Cursor) -> Result<Option<Finding>, AuditError> {
        let Some(stored) = self.bus.get(self.shard, job).await? else { return Ok(None) };
        // `cursor` was read before the record was: what it says was installed was there by then, unless it was deleted since.
        if stored.revision > cursor.spec_revision {
            return Ok(None);
        }
        let Ok(declared) = declared(job, &stored) else { return Ok(None) };
        let repaired = match self.epoch {
            Some(epoch) => self.reinstall(&declared, &stored, epoch).await?,
            None => false,
        };
        Ok(Some(Finding { job: job.clone(), due_at: None, missing: Missing::Job, repaired }))
    }

    async fn reinstall(
        &self,
        declared: &Declared,
        stored: &StoredSpec,
        epoch: Epoch,
    ) -> Result<bool, AuditError> {
        let Some(cursor) = self.store.cursor(self.shard).await? else { return Ok(false) };
        let plan = reinstall_plan(declared, stored.revision, &cursor, self.now);
        Ok(self.site(epoch).carry_out(&plan, &cursor).await?)
    }

    fn site(&self, epoch: Epoch) -> Site<'_, S, B> {
        Site { store: self.store, bus: self.bus, shard: self.shard, epoch, now: self.now }
    }

    /// Compares runs' records with where they are.
    async fn mend(&self, runs: &[Occurrence]) -> Result<Vec<Finding>, AuditError> {
        let since = self.now.plus_ms(-REPAIRED_WITHIN_MS);
        let mut findings = Vec::new();
        for runs in runs.chunks(MEND_BATCH_MAX) {
            let lacks = self.store.mend(self.shard, self.epoch, since, runs).await?;
            findings.extend(lacks.into_iter().map(|lack| Finding {
                job: lack.run.job,
                due_at: Some(lack.run.due_at),
                missing: Missing::Run(lack.absent),
                repaired: lack.mended,
            }));
        }
        Ok(findings)
    }

    /// Looks at the runs under way, whoever asked for them: of each list so many pages, from where the last look stopped.
    pub async fn runs_under_way(
        &self,
        scans: &mut Scans,
        pages_max: usize,
    ) -> Result<Vec<Finding>, AuditError> {
        let mut findings = Vec::new();
        for (list, from) in RunList::ALL.into_iter().zip(&mut scans.0) {
            for _ in 0..pages_max {
                let (runs, next) = self.store.named_runs(self.shard, list, *from).await?;
                findings.extend(self.mend(&runs).await?);
                *from = next.unwrap_or(0);
                if next.is_none() {
                    break;
                }
            }
        }
        if findings.iter().any(|finding| finding.repaired) {
            self.bus.nudge(self.shard).await?;
        }
        // Several lists name one run: what isn't put right comes up with each.
        let mut seen = BTreeSet::new();
        findings.retain(|finding| seen.insert((finding.job.clone(), finding.due_at, finding.missing)));
        Ok(findings)
    }
}

/// Where the lists of runs are looked at next.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scans([u64; RunList::ALL.len()]);

/// The same revision again, with what is missing put in.
#[must_use]
pub fn lay_again_plan(job: &JobId, record: &JobRecord, gaps: &[(Timestamp, Gap)], now: Timestamp) -> Install {
    let of_minute_tier = gaps.iter().filter(|(_, gap)| *gap != Gap::Place).map(|(due_at, _)| *due_at);
    Install {
        job: job.clone(),
        expected: Some(record.revision),
        record: Some(JobRecord { placed: placed_again(record, gaps, now), ..record.clone() }),
        // A chain that broke off goes on now.
        after_first: Some(now),
        keep_history: false,
        at: now,
        remove: vec![],
        add: vec![],
        // Whether they were taken or not: the mark may pass them any moment.
        add_unseen: of_minute_tier.collect(),
        spaced: vec![],
        skipped: vec![],
        change: None,
    }
}

/// Where a job waits once its gaps are closed.
fn placed_again(
    record: &JobRecord,
    gaps: &[(Timestamp, Gap)],
    now: Timestamp,
) -> Option<model::bucket::Placed> {
    let missing = gaps.iter().find(|(_, gap)| *gap == Gap::Place).map(|(due_at, _)| *due_at);
    match (record.placed, missing) {
        (Some(placed), Some(due_at)) if placed.due_at <= due_at => Some(placed),
        (_, Some(due_at)) => Some(place(due_at, now)),
        (placed, None) => placed,
    }
}

fn facts<'a>(
    subject: &'a Subject,
    holding: Option<&Holding>,
    cursor: &Cursor,
    now: Timestamp,
    interruptions: &'a [Interruption],
) -> Facts<'a> {
    let limits =
        [subject.record.history.succeeded, subject.record.history.failed, subject.record.history.skipped];
    let mut histories = holding.map(|holding| holding.histories).unwrap_or_default();
    for (list, limit) in histories.iter_mut().zip(limits) {
        list.limit = limit;
    }
    Facts {
        declared: &subject.declared,
        now,
        planned_until: cursor.planned_until,
        taken_until: cursor.taken_until,
        begun_at: cursor.made_at(),
        place: holding.and_then(|holding| holding.placed).map(|(placed, is_there)| (placed.due_at, is_there)),
        changed_at: holding.and_then(|holding| holding.newest_change.as_ref()).map(|change| change.at),
        interruptions,
        interruptions_forgotten: interruptions.len() >= INTERRUPTIONS_MAX,
        histories,
    }
}
