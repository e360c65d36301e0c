//! What becomes of an entry that is due: published, skipped with a reason, or dropped.

use std::collections::HashMap;

use crate::id::Revision;
use crate::misfire::{CatchUp, Interruption};
use crate::name::JobId;
use crate::run::SkipReason;
use crate::time::{Timestamp, duration_ms};

/// The present spec of an entry's job, as far as dispatch depends on it.
#[derive(Clone, Copy)]
pub struct JobNow<'a> {
    pub revision: Revision,
    pub suspended: bool,
    pub starting_deadline: Option<std::time::Duration>,
    /// Whether the present schedule names an instant.
    pub names: &'a dyn Fn(Timestamp) -> bool,
}

impl std::fmt::Debug for JobNow<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JobNow").field("revision", &self.revision).finish_non_exhaustive()
    }
}

/// What to do with a due entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Publish it, under this revision (the entry's own, or the newer one that still names it).
    Publish { revision: Revision },
    /// Record it as skipped.
    Skip(SkipReason),
    /// Remove it without a record: the occurrence lives on under a newer entry.
    Drop,
}

/// The verdict on one due entry.
///
/// `taken_before` is how far the shard had been taken earlier. An entry due after it was never published; one due
/// before it may have been, by us or an owner before us, so it must be published again (the copies are dropped by
/// its message id) rather than skipped.
#[must_use]
pub fn decide(
    due_at: Timestamp,
    revision: Revision,
    job: Option<JobNow<'_>>,
    taken_before: Timestamp,
    now: Timestamp,
) -> Verdict {
    let Some(job) = job else { return Verdict::Skip(SkipReason::Deleted) };
    let maybe_published = due_at <= taken_before;
    if revision != job.revision && !(job.names)(due_at) {
        return Verdict::Skip(SkipReason::Superseded);
    }
    if revision != job.revision && !maybe_published {
        // The install that made it stale has put the same instant in under the new revision.
        return Verdict::Drop;
    }
    // Besides the schedule's own occurrences there are triggered ones: asked for by somebody, whatever the schedule's
    // state. And what may have been published already isn't skipped any more.
    if maybe_published || !(job.names)(due_at) {
        return Verdict::Publish { revision: job.revision };
    }
    if job.suspended {
        return Verdict::Skip(SkipReason::Suspended);
    }
    if job.starting_deadline.is_some_and(|deadline| now.ms_since(due_at) > duration_ms(deadline)) {
        return Verdict::Skip(SkipReason::StartingDeadline);
    }
    Verdict::Publish { revision: job.revision }
}

/// Which of the entries missed in an interruption don't run, by each job's own catch-up. `missed` is in order of due.
#[must_use]
pub fn skip_missed<'a>(
    missed: &[(JobId, Timestamp)],
    interruption: Interruption,
    catch_up: &dyn Fn(&JobId) -> Option<&'a CatchUp>,
) -> Vec<(usize, SkipReason)> {
    let mut by_job: HashMap<&JobId, Vec<(usize, Timestamp)>> = HashMap::new();
    for (index, (job, due_at)) in missed.iter().enumerate() {
        if interruption.missed(*due_at) {
            by_job.entry(job).or_default().push((index, *due_at));
        }
    }
    let mut skips = Vec::new();
    for (job, entries) in by_job {
        // A job without a spec is the business of `decide`.
        let Some(rule) = catch_up(job) else { continue };
        let dues: Vec<Timestamp> = entries.iter().map(|(_, due_at)| *due_at).collect();
        let verdict = rule.resolve(&dues, interruption.until);
        // `resolve` splits what it was given: the skipped ones come first.
        for ((index, _), (_, reason)) in entries.iter().zip(&verdict.skip) {
            skips.push((*index, SkipReason::Missed(*reason)));
        }
    }
    skips.sort_by_key(|(index, _)| *index);
    skips
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::misfire::{CatchUpPolicy, MissedReason};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_ms(seconds * 1000)
    }

    #[test]
    fn verdicts() {
        const OLD: Revision = Revision(1);
        const NEW: Revision = Revision(2);
        let yes = |_: Timestamp| true;
        let no = |_: Timestamp| false;
        let job = JobNow { revision: NEW, suspended: false, starting_deadline: None, names: &yes };
        let deadline = JobNow { starting_deadline: Some(Duration::from_secs(5)), ..job };
        let publish = Verdict::Publish { revision: NEW };
        // (what, entry's revision, job, taken before, now, verdict); due at 100 s.
        let table = [
            ("fresh", NEW, Some(job), 99, 100, publish.clone()),
            ("retaken", NEW, Some(job), 100, 200, publish.clone()),
            ("no job", NEW, None, 99, 100, Verdict::Skip(SkipReason::Deleted)),
            ("stale, named, never published", OLD, Some(job), 99, 100, Verdict::Drop),
            ("stale, named, maybe published", OLD, Some(job), 100, 100, publish.clone()),
            (
                "stale, not named",
                OLD,
                Some(JobNow { names: &no, ..job }),
                100,
                100,
                Verdict::Skip(SkipReason::Superseded),
            ),
            ("triggered, not named", NEW, Some(JobNow { names: &no, ..job }), 99, 100, publish.clone()),
            (
                "suspended",
                NEW,
                Some(JobNow { suspended: true, ..job }),
                99,
                100,
                Verdict::Skip(SkipReason::Suspended),
            ),
            ("in time", NEW, Some(deadline), 99, 105, publish.clone()),
            ("too late", NEW, Some(deadline), 99, 106, Verdict::Skip(SkipReason::StartingDeadline)),
            ("too late, maybe published", NEW, Some(deadline), 100, 106, publish),
        ];
        for (what, revision, job, taken_before, now, verdict) in table {
            assert_eq!(decide(at(100), revision, job, at(taken_before), at(now)), verdict, "{what}");
        }
    }

    #[test]
    fn each_job_is_caught_up_by_its_own_rule() {
        let latest = CatchUp::default();
        let none = CatchUp { policy: CatchUpPolicy::None, ..latest };
        let job = |name: &str| name.parse::<JobId>().unwrap();
        let missed: Vec<_> =
            [("a/latest", 1), ("a/none", 2), ("a/latest", 20), ("a/latest", 30), ("a/gone", 31)]
                .map(|(name, seconds)| (job(name), at(seconds)))
                .to_vec();
        let rules = |id: &JobId| match id.name.as_str() {
            "latest" => Some(&latest),
            "none" => Some(&none),
            _ => None,
        };
        let skips = skip_missed(&missed, Interruption { since: at(1), until: at(60) }, &rules);
        let reasons = [(1, MissedReason::PolicyNone), (2, MissedReason::SupersededByLatest)];
        assert_eq!(skips, reasons.map(|(index, reason)| (index, SkipReason::Missed(reason))));
    }
}
