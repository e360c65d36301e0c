//! Acceptance: what a new version of a job keeps from the old one.

use super::node::Node;
use super::problem::Problem;
use super::{Calendars, job_only, read};
use crate::spec::{Acceptance, JobSpec};
use crate::time::Timestamp;

/// The acceptance of a job that replaces `old`, if there is one.
///
/// `created_at` survives every edit. `schedule_since` moves to now when the schedule or a calendar of it changes. Any other
/// edit leaves it, so that changing a timeout, or pausing the job and resuming it, doesn't forget an occurrence that is
/// being caught up on.
#[must_use]
pub fn accept(new: &JobSpec, old: Option<(&JobSpec, &Acceptance)>, now: Timestamp) -> Acceptance {
    let Some((old, accepted)) = old else {
        return Acceptance::new(now).in_namespace(false, new.suspend, now);
    };
    let counts_anew = new.schedule != old.schedule || new.calendars != old.calendars;
    let counting = if counts_anew { accepted.counting_anew(old, now) } else { accepted.clone() };
    counting.in_namespace(accepted.namespace_paused, new.suspend, now)
}

/// Decodes a document that is to replace `old` (found by `job_id`) and accepts it.
///
/// A schedule must still have an occurrence from the instant on from which it counts. So a one-shot job that has run
/// may be applied again unchanged, as GitOps tools do, but not with another schedule that has already passed.
///
/// # Errors
/// All problems of the document.
pub fn admit(
    document: &Node,
    old: Option<(&JobSpec, &Acceptance)>,
    now: Timestamp,
    calendars: &Calendars,
) -> Result<(JobSpec, Acceptance), Vec<Problem>> {
    let before = old.map_or_else(|| Acceptance::new(now), |(_, accepted)| accepted.clone());
    let job = read(document, &before, calendars, job_only)?;
    let acceptance = accept(&job, old, now);
    if acceptance.schedule_since != before.schedule_since {
        read(document, &acceptance, calendars, job_only)?;
    }
    Ok((job, acceptance))
}
