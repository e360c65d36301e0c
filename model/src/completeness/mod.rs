//! Completeness: whether each occurrence that a job's schedules name is accounted for, in the plan or in the ledger.
//!
//! What a store remembers is bounded, so absence proves something only where nothing else explains it. An occurrence of
//! which nothing is left is a *gap* if
//! - the plan is known to be complete there (after the taken mark, and before the edge of what is planned), or
//! - it was taken, and every list of ended runs still reaches back to it; and
//! - no edit, pause, rebuild or interruption since might have left it out.
//!
//! Everything else is excused, by name. So a gap is always one, and what can't be told is never called one.

use crate::declared::Declared;
use crate::misfire::{INTERRUPTION_MIN, Interruption};
use crate::run::RunState;
use crate::time::{MINUTE_MS, Timestamp, duration_ms};

/// A gap of an occurrence that was due longer ago isn't put right by itself: half of the time in which the run stream drops a
/// copy of what it was given before. Within it an occurrence may be laid out again even if its run was published, or has
/// ended, and only its record is lost.
pub const REPAIRED_WITHIN_MS: i64 = 5 * MINUTE_MS;

/// What a store holds of an occurrence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    Nothing,
    /// An entry of the minute tier.
    Entry,
    /// An entry of the minute tier whose minute isn't in the index: nobody would take it.
    Hidden,
    /// An entry that `catchUp.rate` holds back.
    HeldBack,
    Run {
        state: RunState,
        reason: Option<String>,
    },
}

/// How an occurrence is accounted for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It waits in the plan.
    Planned,
    /// Its run waits, is published or under way.
    UnderWay,
    Ended(RunState),
    Skipped(Option<String>),
    /// Nothing is left of it, and that proves nothing.
    Excused(Excuse),
    Gap(Gap),
}

/// What is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Gap {
    /// The job's place in the horizon or the half-hour tier.
    Place,
    /// Its entry in the minute tier; nobody has taken it.
    Entry,
    /// It was taken: its entry, and its run's record.
    Record,
    /// Its minute, in the index of minutes.
    Index,
}

/// Why nothing can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Excuse {
    /// It was due before the job's schedules are known, or its shard's plan was (re)built.
    BeforeTheBeginning,
    /// The job was edited, paused, resumed or created since.
    Changed,
    /// It fell into a pause.
    Paused,
    /// Nobody has taken the shard's entries for a while: catch-up hasn't decided yet.
    Interrupted,
    /// An interruption missed it, and the job's catch-up leaves it out.
    Missed,
    /// The job's history doesn't reach back to it.
    Forgotten,
}

impl Gap {
    /// What is missing, in words.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Place => "the job's place in the horizon or half-hour tier is gone: nothing would plan it",
            Self::Entry => "its entry in the minute tier is gone",
            Self::Record => "neither its entry nor a record of its run is left",
            Self::Index => "its minute is missing in the index of minutes: nobody would take it",
        }
    }

    /// For programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Place => "place",
            Self::Entry => "entry",
            Self::Record => "record",
            Self::Index => "index",
        }
    }
}

impl Excuse {
    /// For programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BeforeTheBeginning => "before-the-beginning",
            Self::Changed => "changed",
            Self::Paused => "paused",
            Self::Interrupted => "interrupted",
            Self::Missed => "missed",
            Self::Forgotten => "forgotten",
        }
    }
}

/// One list of a job's ended runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Kept {
    /// How many it may hold.
    pub limit: u32,
    /// How many it holds.
    pub kept: u64,
    /// How many were ever put on it, as the job's statistics count.
    pub ended: u64,
    /// The due instant of the oldest.
    pub oldest: Option<Timestamp>,
}

impl Kept {
    /// Up to which due instant runs may have been forgotten; `None`: none was.
    fn forgotten_until(&self) -> Option<Timestamp> {
        let whole = self.kept == self.ended && self.kept < u64::from(self.limit);
        if whole {
            return None;
        }
        // Runs due longest ago are forgotten first. Where counts and list disagree, somebody took something out.
        Some(self.oldest.unwrap_or(Timestamp::from_ms(i64::MAX)))
    }
}

/// What is known of a job and its shard, all of one instant.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    pub declared: &'a Declared,
    pub now: Timestamp,
    pub planned_until: Timestamp,
    pub taken_until: Timestamp,
    /// When the shard's plan was made, or made anew.
    pub begun_at: Option<Timestamp>,
    /// Where the job waits for its next occurrence, and whether it is really there.
    pub place: Option<(Timestamp, bool)>,
    /// When the newest revision took effect.
    pub changed_at: Option<Timestamp>,
    /// Those that are remembered, and whether older ones were forgotten.
    pub interruptions: &'a [Interruption],
    pub interruptions_forgotten: bool,
    /// Succeeded, failed (and cancelled), skipped.
    pub histories: [Kept; 3],
}

impl Facts<'_> {
    /// Up to which due instant the job's history may have forgotten runs.
    #[must_use]
    pub fn forgotten_until(&self) -> Option<Timestamp> {
        self.histories.iter().filter_map(Kept::forgotten_until).max()
    }

    /// How an occurrence that the job's schedules name is accounted for. Of those due at `planned_until` or later, ask about
    /// the first only: the job's place stands for all of them.
    #[must_use]
    pub fn judge(&self, due_at: Timestamp, found: &Found) -> Verdict {
        match found {
            Found::Run { state: RunState::Waiting | RunState::Dispatched, .. } => Verdict::UnderWay,
            Found::Run { state: RunState::Skipped, reason } => Verdict::Skipped(reason.clone()),
            Found::Run { state, .. } => Verdict::Ended(*state),
            Found::Entry | Found::HeldBack => Verdict::Planned,
            Found::Hidden => Verdict::Gap(Gap::Index),
            Found::Nothing => match self.missing(due_at) {
                Ok(()) => Verdict::Planned,
                Err(Ok(excuse)) => Verdict::Excused(excuse),
                Err(Err(gap)) => Verdict::Gap(gap),
            },
        }
    }

    /// Nothing is there but, perhaps, the job's place.
    fn missing(&self, due_at: Timestamp) -> Result<(), Result<Excuse, Gap>> {
        if let Some((place, is_there)) = self.place
            && due_at >= place
        {
            return if is_there { Ok(()) } else { Err(Err(Gap::Place)) };
        }
        if let Some(excuse) = self.excuse(due_at) {
            return Err(Ok(excuse));
        }
        Err(Err(match due_at {
            due_at if due_at >= self.planned_until => Gap::Place,
            due_at if due_at > self.taken_until => Gap::Entry,
            _ => Gap::Record,
        }))
    }

    fn excuse(&self, due_at: Timestamp) -> Option<Excuse> {
        let accepted = &self.declared.acceptance;
        let in_pause =
            |since, until: Option<Timestamp>| since < due_at && until.is_none_or(|until| due_at <= until);
        if accepted.pause.is_some_and(|pause| in_pause(pause.since, pause.until)) {
            return Some(Excuse::Paused);
        }
        if due_at <= accepted.known_since() || self.begun_at.is_some_and(|begun_at| due_at <= begun_at) {
            return Some(Excuse::BeforeTheBeginning);
        }
        if self.changed_at.is_some_and(|changed_at| due_at <= changed_at) {
            return Some(Excuse::Changed);
        }
        if due_at > self.taken_until {
            let is_late =
                due_at <= self.now && self.now.ms_since(self.taken_until) >= duration_ms(INTERRUPTION_MIN);
            return is_late.then_some(Excuse::Interrupted);
        }
        if self.forgotten_until().is_some_and(|until| due_at <= until) {
            return Some(Excuse::Forgotten);
        }
        let oldest = self.interruptions.iter().map(|gap| gap.until).min();
        let may_be_older = self.interruptions_forgotten && oldest.is_none_or(|oldest| due_at <= oldest);
        let left_out =
            self.interruptions.iter().any(|gap| gap.missed(due_at) && self.leaves_out(due_at, *gap));
        (may_be_older || left_out).then_some(Excuse::Missed)
    }

    /// Whether the job's catch-up may have left an occurrence out that an interruption missed.
    fn leaves_out(&self, due_at: Timestamp, gap: Interruption) -> bool {
        let rule = &self.declared.spec.catch_up;
        // Planner and dispatcher decide at instants of their own: at the edge of the window nothing is sure.
        let inside = due_at >= gap.until.plus_ms(MINUTE_MS - duration_ms(rule.window));
        if !inside {
            return true;
        }
        let keep = rule.runs_max() as usize;
        let timeline = &self.declared.timeline;
        let later = std::iter::successors(timeline.next_after(due_at), |due| timeline.next_after(*due));
        later.take_while(|due| *due <= gap.until).take(keep).count() >= keep
    }

    /// Whether a gap may be closed by laying the occurrence out again, so that it runs once whatever is lost.
    #[must_use]
    pub fn may_repair(&self, due_at: Timestamp, gap: Gap) -> bool {
        gap != Gap::Record || self.now.ms_since(due_at) <= REPAIRED_WITHIN_MS
    }

    /// The occurrences to ask about: after an instant and before the edge of what is planned, and the first one beyond it.
    /// At most `max` of those that were taken (the newest), and `max` of the others.
    #[must_use]
    pub fn expected(&self, after: Timestamp, max: usize) -> Vec<Timestamp> {
        let timeline = &self.declared.timeline;
        let after = after.max(self.declared.acceptance.known_since());
        let mut before = self.taken_until.plus_ms(1);
        let mut dues = Vec::new();
        while dues.len() < max {
            match timeline.previous_before(before) {
                Some(due_at) if due_at > after => {
                    dues.push(due_at);
                    before = due_at;
                }
                Some(_) | None => break,
            }
        }
        dues.reverse();
        let mut last = self.taken_until.max(after);
        for _ in 0..max {
            let Some(due_at) = timeline.next_after(last) else { break };
            dues.push(due_at);
            last = due_at;
            if due_at >= self.planned_until {
                break;
            }
        }
        dues
    }
}

#[cfg(test)]
mod tests;
