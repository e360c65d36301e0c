//! Which schedule was in force when: a job's present one, and those that edits have superseded.
//!
//! An occurrence belongs to the schedule that was in force when it was due. An edit that is accepted while it is late
//! doesn't undo it: it is planned, and carried out, as the newest revision says, but at the instants that the older
//! schedule named. So each edit of a schedule keeps the one before it, and planner and dispatcher ask the timeline.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::limits::{SUPERSEDED_BYTES_MAX, SUPERSEDED_MAX};
use crate::name::Name;
use crate::schedule::{Identity, NamedCalendar, Schedule, ScheduleSpec};
use crate::spec::{Acceptance, JobSpec};
use crate::time::Timestamp;

/// A schedule that a later one has replaced. It was in force until the next one of its job counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Superseded {
    /// Since when it counted.
    pub since: Timestamp,
    pub schedule: ScheduleSpec,
    /// What the calendars that it names said.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub calendars: BTreeMap<Name, NamedCalendar>,
}

impl Acceptance {
    /// The same job once a spec with another schedule is accepted at `now`: its schedule counts anew, and `old` has the
    /// one that was in force so far.
    #[must_use]
    pub fn counting_anew(&self, old: &JobSpec, now: Timestamp) -> Self {
        let mut superseded = self.superseded.clone();
        superseded.push(Superseded {
            since: self.schedule_since,
            schedule: old.schedule.clone(),
            calendars: old.calendars.clone(),
        });
        let mut bytes = 0;
        let mut fits = |one: &Superseded| {
            bytes += serde_json::to_string(one).map_or(SUPERSEDED_BYTES_MAX, |text| text.len());
            bytes <= SUPERSEDED_BYTES_MAX
        };
        let kept = superseded.iter().rev().take(SUPERSEDED_MAX).take_while(|one| fits(one)).count();
        superseded.drain(..superseded.len() - kept);
        // Two nodes' clocks differ: what counts since then must not begin before what it supersedes.
        Self { schedule_since: now.max(self.schedule_since), superseded, ..self.clone() }
    }

    /// The earliest instant after which it is known which schedule was in force.
    #[must_use]
    pub fn known_since(&self) -> Timestamp {
        self.superseded.first().map_or(self.schedule_since, |first| first.since)
    }

    /// Since when schedules count that a revision whose own counts since `since` knows nothing of.
    #[must_use]
    pub fn unseen_since(&self, since: Timestamp) -> Option<Timestamp> {
        let starts = self.superseded.iter().map(|one| one.since).chain([self.schedule_since]);
        starts.into_iter().find(|start| *start > since)
    }
}

/// A job's schedules, each with the time in which it was in force. Before the earliest that is known, that one.
#[derive(Clone, Debug)]
pub struct Timeline {
    /// Ascending by the instant since which each counted.
    past: Vec<(Timestamp, Schedule)>,
    since: Timestamp,
    present: Schedule,
}

impl Timeline {
    /// The timeline of a job with this present schedule.
    #[must_use]
    pub fn new(present: Schedule, acceptance: &Acceptance, identity: &Identity<'_>) -> Self {
        let compiled = |one: &Superseded| {
            let calendars = |name: &str| one.calendars.get(name).cloned();
            let schedule = Schedule::compile(&one.schedule, identity, &calendars).ok()?;
            Some((one.since, schedule))
        };
        // One that can't be read any more hides what is older: nothing may be taken for another's.
        let mut past: Vec<_> = acceptance.superseded.iter().rev().map_while(compiled).collect();
        past.reverse();
        Self { past, since: acceptance.schedule_since, present }
    }

    /// Of a job whose schedule was never edited.
    #[must_use]
    pub fn of(present: Schedule) -> Self {
        Self { past: Vec::new(), since: Timestamp::from_ms(0), present }
    }

    /// The first occurrence after an instant.
    #[must_use]
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let first = self.index_at(after.plus_ms(1));
        (first..=self.past.len()).find_map(|index| {
            let from = if index == first { after } else { self.part(index).0 };
            let due = self.part(index).1.next_after(from)?;
            self.until(index).is_none_or(|until| due <= until).then_some(due)
        })
    }

    /// The last occurrence before an instant.
    #[must_use]
    pub fn previous_before(&self, before: Timestamp) -> Option<Timestamp> {
        (0..=self.index_at(before.plus_ms(-1))).rev().find_map(|index| {
            let (since, schedule) = self.part(index);
            let end = self.until(index).map_or(before, |until| before.min(until.plus_ms(1)));
            schedule.previous_before(end).filter(|due| index == 0 || *due > since)
        })
    }

    /// Whether an instant is an occurrence.
    #[must_use]
    pub fn names(&self, due: Timestamp) -> bool {
        self.at(due).names(due)
    }

    /// The schedule that was (or is, or will be) in force at an instant.
    #[must_use]
    pub fn at(&self, due: Timestamp) -> &Schedule {
        self.part(self.index_at(due)).1
    }

    /// The newest part that counted before an instant.
    fn index_at(&self, due: Timestamp) -> usize {
        let begun = self.past.iter().filter(|(since, _)| *since < due).count();
        if begun == self.past.len() && self.since < due { begun } else { begun.saturating_sub(1) }
    }

    fn part(&self, index: usize) -> (Timestamp, &Schedule) {
        self.past.get(index).map_or((self.since, &self.present), |(since, schedule)| (*since, schedule))
    }

    /// Up to and including when a part was in force.
    fn until(&self, index: usize) -> Option<Timestamp> {
        (index < self.past.len()).then(|| self.part(index + 1).0)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::declared::Declared;
    use crate::manifest::{Node, accept, decode_job};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_ms(1_800_000_000_000 + seconds * 1000)
    }

    fn every(seconds: i64) -> JobSpec {
        let document = json!({
            "apiVersion": "ecron/v1", "kind": "Job", "metadata": {"name": "a"},
            "spec": {"schedule": {"every": format!("{seconds}s")}},
        });
        decode_job(&Node::from_json(document), at(0)).unwrap()
    }

    /// A job that was accepted at 0 s, and edited at these seconds.
    fn edited(first: i64, edits: &[(i64, i64)]) -> Declared {
        let mut spec = every(first);
        let mut acceptance = accept(&spec, None, at(0));
        for (when, seconds) in edits {
            let new = every(*seconds);
            acceptance = accept(&new, Some((&spec, &acceptance)), at(*when));
            spec = new;
        }
        Declared::of(spec, acceptance).unwrap()
    }

    fn forward(timeline: &Timeline, after: i64, until: i64) -> Vec<i64> {
        let dues = std::iter::successors(timeline.next_after(at(after)), |due| timeline.next_after(*due));
        dues.take_while(|due| *due <= at(until)).map(|due| due.ms_since(at(0)) / 1000).collect()
    }

    fn backward(timeline: &Timeline, after: i64, until: i64) -> Vec<i64> {
        let dues = std::iter::successors(timeline.previous_before(at(until).plus_ms(1)), |due| {
            timeline.previous_before(*due)
        });
        let mut dues: Vec<i64> =
            dues.take_while(|due| *due > at(after)).map(|due| due.ms_since(at(0)) / 1000).collect();
        dues.reverse();
        dues
    }

    #[test]
    fn an_occurrence_belongs_to_the_schedule_in_force_when_it_was_due() {
        let table = [
            (edited(2, &[]), vec![2, 4, 6, 8, 10, 12, 14]),
            (edited(2, &[(6, 4)]), vec![2, 4, 6, 8, 12]),
            (edited(4, &[(6, 3)]), vec![4, 9, 12]),
            (edited(2, &[(3, 50), (12, 2)]), vec![2, 14]),
            (edited(2, &[(3, 50), (3, 60), (9, 5)]), vec![2, 10]),
        ];
        for (job, expected) in table {
            assert_eq!(forward(&job.timeline, 0, 14), expected, "{:?}", job.acceptance);
            assert_eq!(backward(&job.timeline, 0, 14), expected, "{:?}", job.acceptance);
            for seconds in 1..=14 {
                assert_eq!(job.timeline.names(at(seconds)), expected.contains(&seconds), "{seconds}");
            }
        }
    }

    #[test]
    fn an_edit_elsewhere_keeps_what_was_in_force() {
        let job = edited(2, &[(6, 4)]);
        let edit = JobSpec { timeout: std::time::Duration::from_secs(9), ..job.spec.clone() };
        assert_eq!(accept(&edit, Some((&job.spec, &job.acceptance)), at(20)), job.acceptance);
    }

    #[test]
    fn a_clock_that_is_behind_turns_no_order_around() {
        let job = edited(2, &[(6, 4), (5, 3)]);
        assert_eq!(job.acceptance.schedule_since, at(6));
        assert_eq!(forward(&job.timeline, 0, 14), [2, 4, 6, 9, 12]);
    }

    #[test]
    fn only_so_many_are_kept_the_newest() {
        let edits: Vec<(i64, i64)> = (1..40).map(|n| (n * 10, 2 + n % 3)).collect();
        let job = edited(9, &edits);
        assert_eq!(job.acceptance.superseded.len(), SUPERSEDED_MAX);
        assert_eq!(job.acceptance.known_since(), at((39 - SUPERSEDED_MAX as i64) * 10));
        let long = Superseded {
            since: at(0),
            schedule: ScheduleSpec { at: (0..2_000).map(at).collect(), ..ScheduleSpec::default() },
            calendars: BTreeMap::new(),
        };
        let old = JobSpec { schedule: long.schedule.clone(), ..every(2) };
        let after =
            Acceptance { superseded: vec![long], ..Acceptance::new(at(1)) }.counting_anew(&old, at(2));
        assert_eq!((after.superseded.len(), after.known_since()), (0, at(2)), "too long to keep");
    }

    #[test]
    fn what_an_older_revision_knows_nothing_of_is_found() {
        let job = edited(2, &[(6, 4), (20, 3)]).acceptance;
        assert_eq!(job.known_since(), at(0));
        assert_eq!([0, 6, 20].map(|since| job.unseen_since(at(since))), [Some(at(6)), Some(at(20)), None]);
    }
}
