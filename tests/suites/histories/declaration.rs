//! A revision of a job in the plain model: what its manifest says, since when it counts, and how it is paused.

use model::schedule::Schedule;
use model::time::Timestamp;

use crate::history::Spec;

/// A revision of a job.
#[derive(Clone, Debug)]
pub(crate) struct Declaration {
    pub spec: Spec,
    pub schedule: Schedule,
    pub created_at: Timestamp,
    /// Nothing up to here is an occurrence of this schedule.
    pub since: Timestamp,
    /// The schedules before it, oldest first, each with since when it counted. What was due in their time is theirs.
    pub past: Vec<(Timestamp, Schedule)>,
    pub namespace_paused: bool,
    /// Its newest pause: since when, until when.
    pub pause: Option<(Timestamp, Option<Timestamp>)>,
    /// Grows with each revision.
    pub number: u64,
}

impl Declaration {
    /// Since when it is known what the job's schedule was.
    pub(crate) fn known_since(&self) -> Timestamp {
        self.past.first().map_or(self.since, |(since, _)| *since)
    }

    /// When a schedule began to count that nobody knew who knew only those since `since`.
    pub(crate) fn unseen_since(&self, since: Timestamp) -> Option<Timestamp> {
        self.parts().map(|(start, _)| start).find(|start| *start > since)
    }

    fn parts(&self) -> impl DoubleEndedIterator<Item = (Timestamp, &Schedule)> {
        self.past.iter().map(|(since, schedule)| (*since, schedule)).chain([(self.since, &self.schedule)])
    }

    /// Whether the schedule of its time names an instant.
    pub(crate) fn names(&self, due_at: Timestamp) -> bool {
        let in_force = self.parts().rev().find(|(since, _)| *since < due_at).or(self.parts().next());
        in_force.is_some_and(|(_, schedule)| schedule.names(due_at))
    }

    /// The next occurrence but for those that somebody has cancelled ahead.
    pub(crate) fn next_due(
        &self,
        now: Timestamp,
        cancelled: impl Fn(Timestamp) -> bool,
    ) -> Option<Timestamp> {
        let next = |after: Timestamp| self.schedule.next_after(after);
        std::iter::successors(next(now.max(self.since)), |due_at| next(*due_at))
            .find(|due_at| !cancelled(*due_at))
    }

    pub(crate) fn paused_since(&self) -> Option<Timestamp> {
        self.pause.filter(|(_, until)| until.is_none()).map(|(since, _)| since)
    }

    /// After somebody said how it is paused from now on.
    pub(crate) fn paused(mut self, now: Timestamp) -> Self {
        let paused = self.spec.suspend || self.namespace_paused;
        self.pause = match (self.pause, paused) {
            (Some((since, None)), false) => Some((since, Some(now))),
            (None | Some((_, Some(_))), true) => Some((now, None)),
            (same, _) => same,
        };
        self.number += 1;
        self
    }

    /// The instants that were, are and will be named: by each schedule those of its time.
    pub(crate) fn dues(&self, after: Timestamp, until: Timestamp) -> Vec<Timestamp> {
        let ends = self.parts().skip(1).map(|(since, _)| since).chain([until]);
        let mut dues = Vec::new();
        for ((since, schedule), end) in self.parts().zip(ends) {
            let first = schedule.next_after(after.max(since));
            let named = std::iter::successors(first, |due_at| schedule.next_after(*due_at));
            dues.extend(named.take_while(|due_at| *due_at <= end.min(until)));
        }
        dues
    }
}
