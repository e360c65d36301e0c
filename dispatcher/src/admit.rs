//! What becomes of a batch of due entries, as `model` decides it: published, claimed first, parked, skipped or dropped.
//! Nothing here talks to a server.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use model::dispatch::{Admission, Due, JobNow, Verdict, decide};
use model::id::{Entry, Occurrence};
use model::name::{JobId, QueueId};
use model::overlap::{self, Overlap, Rule, Standing};
use model::time::Timestamp;
use store::ledger::{Claim, Park, Skip, TakenEntry, Wait};

use crate::asked::Asked;
use crate::jobs::KnownJob;

/// The decisions about a batch, in the order in which they are carried out.
#[derive(Debug, Default)]
pub(crate) struct Decided {
    pub(crate) skips: Vec<Skip>,
    /// Skipped runs that had been admitted: whoever waits for one of them may go now.
    pub(crate) made_room: usize,
    /// Skipped runs that may have a place in their queue's gate.
    pub(crate) left: Vec<(QueueId, Occurrence)>,
    pub(crate) drops: Vec<Entry>,
    pub(crate) parks: Vec<Park>,
    pub(crate) replaced: BTreeMap<JobId, Replaced>,
    /// To be claimed, and published if that succeeds.
    pub(crate) claims: Vec<(Claim, Arc<KnownJob>)>,
    /// To be published.
    pub(crate) publish: Vec<(Entry, Arc<KnownJob>)>,
    /// Their jobs changed between two reads (or can't be read): the next pass sees them as they are.
    pub(crate) changed: usize,
}

/// A job whose runs under way are to be cancelled: a newer one waits for their place.
#[derive(Debug)]
pub(crate) struct Replaced {
    /// How many may be under way.
    pub(crate) limit: u32,
    pub(crate) queue: QueueId,
}

/// Decides about entries, each with its job as it is now, earliest first.
pub(crate) fn decide_all(
    entries: impl Iterator<Item = (TakenEntry, Option<Arc<KnownJob>>)>,
    asked: &Asked,
    taken_before: Timestamp,
    now: Timestamp,
) -> Decided {
    let mut decided = Decided::default();
    let mut standings: HashMap<JobId, Standing> = HashMap::new();
    let mut seen: HashSet<Occurrence> = HashSet::new();
    for (taken, job) in entries {
        if job.is_none() && taken.job_revision.is_some() {
            decided.changed += 1;
            continue;
        }
        let backfilled = asked.is_backfilled(&taken.entry.occurrence);
        let triggered = asked.is_triggered(&taken.entry.occurrence);
        match (verdict(&taken, job.as_deref(), (backfilled, triggered), taken_before, now), job) {
            (Verdict::Publish { .. }, Some(job)) => {
                decided.admit(taken, job, backfilled, &mut standings, &mut seen, now);
            }
            // `decide` publishes nothing of a job that is gone.
            (Verdict::Publish { .. }, None) => {}
            (Verdict::Skip(reason), job) => {
                if taken.admission != Admission::Fresh {
                    decided.made_room += 1;
                    let queue = job.map(|job| job.spec.queue.clone());
                    decided.left.extend(queue.map(|queue| (queue, taken.entry.occurrence.clone())));
                }
                decided.skips.push(Skip { entry: taken.entry, reason, at: now });
            }
            (Verdict::Drop, _) => decided.drops.push(taken.entry),
        }
    }
    decided
}

impl Decided {
    /// An entry that may run as far as its schedule is concerned: its job's overlap rule decides when.
    fn admit(
        &mut self,
        taken: TakenEntry,
        job: Arc<KnownJob>,
        backfilled: bool,
        standings: &mut HashMap<JobId, Standing>,
        seen: &mut HashSet<Occurrence>,
        now: Timestamp,
    ) {
        let TakenEntry { entry, admission, overlap, .. } = taken;
        let claim = |entry: Entry, triggered| Claim { entry, revision: job.revision, triggered };
        let (rule, standing) = match (admission, job.spec.overlap_rule().zip(overlap)) {
            (Admission::Claimed { triggered }, _) if entry.revision != job.revision => {
                return self.claims.push((claim(entry, triggered), job));
            }
            // Planned by an older revision: it goes on under the present one.
            (Admission::Fresh, None) if entry.revision != job.revision => {
                let triggered = !is_named(&job, entry.occurrence.due_at);
                return self.claims.push((claim(entry, triggered), job));
            }
            (Admission::Claimed { .. }, _) | (Admission::Fresh, None) => {
                return self.publish.push((entry, job));
            }
            (Admission::Released { triggered }, _) => {
                return self.claims.push((claim(entry, triggered), job));
            }
            (Admission::Fresh, Some(limited)) => limited,
        };
        // Two entries of one occurrence (planned by two revisions) are one run.
        if !seen.insert(entry.occurrence.clone()) {
            return self.drops.push(entry);
        }
        let standing = standings.entry(entry.occurrence.job.clone()).or_insert(standing);
        // A backfill was asked for: it waits its turn, whatever becomes of the schedule's own occurrences.
        let rule = if backfilled { Rule { policy: Overlap::QueueAll, ..rule } } else { rule };
        let verdict = overlap::decide(rule, *standing);
        *standing = standing.after(&verdict);
        let triggered = !is_named(&job, entry.occurrence.due_at);
        match verdict {
            overlap::Verdict::Start => self.claims.push((claim(entry, triggered), job)),
            overlap::Verdict::Wait(overlap::Waiting { newest_only, cancel_active }) => {
                if cancel_active {
                    let replaced = Replaced { limit: rule.limit, queue: job.spec.queue.clone() };
                    self.replaced.insert(entry.occurrence.job.clone(), replaced);
                }
                self.parks.push(Park { entry, wait: Wait::Overlap { newest_only }, triggered, at: now });
            }
            overlap::Verdict::Skip(reason) => self.skips.push(Skip { entry, reason, at: now }),
        }
    }
}

/// Whether a job's own rule is why an occurrence is planned. One that follows the end of another names no instant: the store
/// plans it when that ends.
fn is_named(job: &KnownJob, due_at: Timestamp) -> bool {
    let schedule = job.timeline.at(due_at);
    schedule.after_delay().is_some() || schedule.names(due_at)
}

fn verdict(
    taken: &TakenEntry,
    job: Option<&KnownJob>,
    (backfilled, triggered): (bool, bool),
    taken_before: Timestamp,
    now: Timestamp,
) -> Verdict {
    let names = |due_at: Timestamp| job.is_some_and(|job| is_named(job, due_at));
    let job_now = job.map(|job| JobNow {
        revision: job.revision,
        // What was due before the pause is no business of it, nor is a backfill.
        suspended: !backfilled && job.paused_since.is_some_and(|since| taken.entry.occurrence.due_at > since),
        starting_deadline: job.spec.starting_deadline.filter(|_| !backfilled),
        limited: job.spec.overlap_rule().is_some(),
        names: &names,
    });
    let entry = &taken.entry;
    let admission = taken.admission;
    let due = Due { at: entry.occurrence.due_at, revision: entry.revision, admission, triggered };
    decide(due, job_now, taken_before, now)
}
