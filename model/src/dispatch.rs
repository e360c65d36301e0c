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
    /// Whether only so many of its runs may be under way (`overlap::Rule`): then each is claimed before it is published.
    pub limited: bool,
    /// Whether the present schedule names an instant.
    pub names: &'a dyn Fn(Timestamp) -> bool,
}

impl std::fmt::Debug for JobNow<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JobNow").field("revision", &self.revision).finish_non_exhaustive()
    }
}

/// A due entry of the minute tier, and what is known of its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    pub at: Timestamp,
    pub revision: Revision,
    pub admission: Admission,
    /// Somebody asked for it, besides the schedule. (Of a run with a record that is in its admission.)
    pub triggered: bool,
}

/// How far a due entry's run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Admission {
    /// It has no record: nobody has decided about it, or its record isn't written yet.
    #[default]
    Fresh,
    /// It waited (for an earlier run, or for a place in its queue) and may go now. It was never published.
    Released {
        /// Somebody asked for it, besides the schedule.
        triggered: bool,
    },
    /// It was admitted and may have been published.
    Claimed {
        /// Somebody asked for it, besides the schedule.
        triggered: bool,
    },
}

impl Admission {
    fn is_triggered(self) -> bool {
        matches!(self, Self::Released { triggered: true } | Self::Claimed { triggered: true })
    }
}

/// What to do with a due entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Publish it, under this revision (the entry's own, or the newer one that still names it), once `overlap` admits it.
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
/// its message id) rather than skipped. Of a limited job we know more: what isn't claimed wasn't published.
#[must_use]
pub fn decide(due: Due, job: Option<JobNow<'_>>, taken_before: Timestamp, now: Timestamp) -> Verdict {
    let Some(job) = job else { return Verdict::Skip(SkipReason::Deleted) };
    let stale = due.revision != job.revision;
    let named = (job.names)(due.at);
    let maybe_published = match due.admission {
        // A stale entry may be of a revision that wasn't limited.
        Admission::Fresh => due.at <= taken_before && (stale || !job.limited),
        Admission::Released { .. } => false,
        Admission::Claimed { .. } => true,
    };
    let triggered = due.triggered || due.admission.is_triggered();
    if stale && !named && !triggered {
        return Verdict::Skip(SkipReason::Superseded);
    }
    if stale && !maybe_published && !triggered && due.admission == Admission::Fresh {
        // The install that made it stale has put the same instant in under the new revision.
        return Verdict::Drop;
    }
    // What may have been published already isn't skipped any more. And besides the schedule's own occurrences there are
    // triggered ones: asked for by somebody, whatever the schedule's state.
    let waited = matches!(due.admission, Admission::Released { .. });
    if maybe_published || (!named && !waited) {
        return Verdict::Publish { revision: job.revision };
    }
    if job.suspended && named {
        return Verdict::Skip(SkipReason::Suspended);
    }
    if job.starting_deadline.is_some_and(|deadline| now.ms_since(due.at) > duration_ms(deadline)) {
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

/// When each of the entries that were missed and run after all may start, if not at once. `run` is in order of due;
/// catching up begins at `from`.
#[must_use]
pub fn space_missed<'a>(
    run: &[(JobId, Timestamp)],
    from: Timestamp,
    catch_up: &dyn Fn(&JobId) -> Option<&'a CatchUp>,
) -> Vec<(usize, Timestamp)> {
    let mut counts: HashMap<&JobId, usize> = HashMap::new();
    let mut spaced = Vec::new();
    for (index, (job, _)) in run.iter().enumerate() {
        let Some(rule) = catch_up(job) else { continue };
        let count = counts.entry(job).or_default();
        let start_at = rule.start_at(*count, from);
        *count += 1;
        if start_at > from {
            spaced.push((index, start_at));
        }
    }
    spaced
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
        use Admission::{Claimed, Fresh, Released};
        const OLD: Revision = Revision(1);
        const NEW: Revision = Revision(2);
        const WAITED: Admission = Released { triggered: false };
        const ASKED_FOR: Admission = Released { triggered: true };
        let yes = |_: Timestamp| true;
        let no = |_: Timestamp| false;
        let job =
            JobNow { revision: NEW, suspended: false, starting_deadline: None, limited: false, names: &yes };
        let unnamed = JobNow { names: &no, ..job };
        let deadline = JobNow { starting_deadline: Some(Duration::from_secs(5)), ..job };
        let suspended = JobNow { suspended: true, ..job };
        let limited = JobNow { limited: true, ..deadline };
        let publish = Verdict::Publish { revision: NEW };
        let skip = Verdict::Skip;
        // (what, entry's revision, admission, job, taken before, now, verdict); due at 100 s.
        let table = [
            ("fresh", NEW, Fresh, Some(job), 99, 100, publish.clone()),
            ("retaken", NEW, Fresh, Some(job), 100, 200, publish.clone()),
            ("no job", NEW, Fresh, None, 99, 100, skip(SkipReason::Deleted)),
            ("stale, named, never published", OLD, Fresh, Some(job), 99, 100, Verdict::Drop),
            ("stale, named, maybe published", OLD, Fresh, Some(job), 100, 100, publish.clone()),
            ("stale, not named", OLD, Fresh, Some(unnamed), 100, 100, skip(SkipReason::Superseded)),
            ("triggered, not named", NEW, Fresh, Some(unnamed), 99, 100, publish.clone()),
            ("suspended", NEW, Fresh, Some(suspended), 99, 100, skip(SkipReason::Suspended)),
            ("in time", NEW, Fresh, Some(deadline), 99, 105, publish.clone()),
            ("too late", NEW, Fresh, Some(deadline), 99, 106, skip(SkipReason::StartingDeadline)),
            ("too late, maybe published", NEW, Fresh, Some(deadline), 100, 106, publish.clone()),
            ("limited, not claimed", NEW, Fresh, Some(limited), 100, 106, skip(SkipReason::StartingDeadline)),
            ("limited now, maybe published before", OLD, Fresh, Some(limited), 100, 106, publish.clone()),
            (
                "claimed, too late",
                NEW,
                Claimed { triggered: false },
                Some(limited),
                100,
                106,
                publish.clone(),
            ),
            ("waited", NEW, WAITED, Some(limited), 100, 105, publish.clone()),
            ("waited too long", NEW, WAITED, Some(limited), 100, 106, skip(SkipReason::StartingDeadline)),
            ("waited, and edited", OLD, WAITED, Some(job), 100, 200, publish.clone()),
            ("waited, not named", OLD, WAITED, Some(unnamed), 100, 200, skip(SkipReason::Superseded)),
            ("waited, suspended", OLD, WAITED, Some(suspended), 100, 200, skip(SkipReason::Suspended)),
            ("waited, deleted", OLD, WAITED, None, 100, 200, skip(SkipReason::Deleted)),
            (
                "asked for, waited, suspended",
                OLD,
                ASKED_FOR,
                Some(JobNow { suspended: true, ..unnamed }),
                100,
                200,
                publish.clone(),
            ),
            (
                "asked for, waited too long",
                NEW,
                ASKED_FOR,
                Some(JobNow { names: &no, ..limited }),
                100,
                106,
                skip(SkipReason::StartingDeadline),
            ),
        ];
        for (what, revision, admission, job, taken_before, now, verdict) in table {
            let due = Due { at: at(100), revision, admission, triggered: false };
            assert_eq!(decide(due, job, at(taken_before), at(now)), verdict, "{what}");
        }
        // An edit came between the trigger and its dispatch: what was asked for runs, under the new revision.
        for suspended in [false, true] {
            let job = Some(JobNow { suspended, ..unnamed });
            let due = Due { at: at(100), revision: OLD, admission: Fresh, triggered: true };
            assert_eq!(decide(due, job, at(99), at(106)), publish);
            assert_eq!(decide(due, None, at(99), at(106)), skip(SkipReason::Deleted));
        }
    }

    #[test]
    fn each_job_is_spaced_by_its_own_rate() {
        let slow = CatchUp { rate: "1/m".parse().ok(), ..CatchUp::default() };
        let free = CatchUp::default();
        let job = |name: &str| name.parse::<JobId>().unwrap();
        let run = [("a/slow", 1), ("a/free", 2), ("a/slow", 3), ("a/free", 4), ("a/slow", 5), ("a/gone", 6)]
            .map(|(name, seconds)| (job(name), at(seconds)));
        let rules = |id: &JobId| match id.name.as_str() {
            "slow" => Some(&slow),
            "free" => Some(&free),
            _ => None,
        };
        assert_eq!(space_missed(&run, at(60), &rules), [(2, at(120)), (4, at(180))]);
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
