//! Backfills: the occurrences that a job's schedule names in a time that has passed, run now, a few at a time.
//!
//! A backfill's whole progress is in its object: where it has come to, which of its runs are open, how the others ended.
//! So it goes on after any crash, and after the loss of Redis. Each step is a function of that and of what became of the
//! open runs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::limits::BACKFILL_RUNS_MAX;
use crate::name::{BackfillId, JobId};
use crate::schedule::Schedule;
use crate::time::Timestamp;

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackfillSpec {
    pub job: JobId,
    /// The first instant of the range.
    pub from: Timestamp,
    /// The first instant after the range.
    pub to: Timestamp,
    /// Runs of it that may be under way at once.
    pub max_active: u32,
    /// The newest first.
    #[serde(default)]
    pub reverse: bool,
}

/// Where a backfill stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    Running,
    /// It starts no further runs until it is resumed.
    Paused,
    /// It starts no further runs; those under way go on.
    Cancelled,
    Done,
    /// Its job is gone.
    Failed,
}

/// How far a backfill has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackfillStatus {
    pub phase: Phase,
    /// Occurrences in the range when it was made.
    pub total: u32,
    /// The occurrence that it looked at last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Timestamp>,
    /// Nothing of the range is left to look at.
    #[serde(default)]
    pub exhausted: bool,
    /// Its runs that are under way.
    #[serde(default)]
    pub open: Vec<Timestamp>,
    #[serde(default)]
    pub succeeded: u32,
    /// Dead-lettered and cancelled ones.
    #[serde(default)]
    pub failed: u32,
    #[serde(default)]
    pub skipped: u32,
    /// Left out: a run of the occurrence was there already.
    #[serde(default)]
    pub already_ran: u32,
    pub created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Who asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// A backfill as its object holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backfill {
    pub id: BackfillId,
    pub spec: BackfillSpec,
    pub status: BackfillStatus,
}

/// How a run of a backfill ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunEnd {
    Succeeded,
    Failed,
    Skipped,
    /// It was never the backfill's: there was a run already.
    AlreadyRan,
}

impl RunEnd {
    /// The word of the store.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "succeeded" => Some(Self::Succeeded),
            "failed" => Some(Self::Failed),
            "skipped" => Some(Self::Skipped),
            _ => None,
        }
    }
}

/// What an operator may do with a backfill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    Pause,
    Resume,
    Cancel,
}

impl BackfillSpec {
    /// The occurrence that comes after a cursor (`None`: the first one), in the order of the backfill.
    #[must_use]
    pub fn next(&self, schedule: &Schedule, cursor: Option<Timestamp>) -> Option<Timestamp> {
        if self.reverse {
            schedule.previous_before(cursor.unwrap_or(self.to)).filter(|due| *due >= self.from)
        } else {
            schedule.next_after(cursor.unwrap_or(self.from.plus_ms(-1))).filter(|due| *due < self.to)
        }
    }

    /// The occurrences of the range, in order; one more than `BACKFILL_RUNS_MAX` if there are too many.
    pub fn occurrences<'a>(&'a self, schedule: &'a Schedule) -> impl Iterator<Item = Timestamp> + 'a {
        let first = self.next(schedule, None);
        std::iter::successors(first, |due| self.next(schedule, Some(*due)))
            .take(BACKFILL_RUNS_MAX as usize + 1)
    }
}

impl Backfill {
    /// After one look: `ends` says how those of its open runs ended that did, `schedule` is the job's present one (`None`:
    /// the job is gone), `limit` how many of the job's runs may be under way at all.
    #[must_use]
    pub fn step(
        &self,
        schedule: Option<&Schedule>,
        limit: Option<u32>,
        ends: &BTreeMap<Timestamp, RunEnd>,
        now: Timestamp,
    ) -> BackfillStatus {
        let mut status = self.status.clone();
        for end in status.open.iter().filter_map(|due| ends.get(due)) {
            match end {
                RunEnd::Succeeded => status.succeeded += 1,
                RunEnd::Failed => status.failed += 1,
                RunEnd::Skipped => status.skipped += 1,
                RunEnd::AlreadyRan => status.already_ran += 1,
            }
        }
        status.open.retain(|due| !ends.contains_key(due));
        match (status.phase, schedule) {
            (Phase::Running, Some(schedule)) => {
                let at_once = limit.map_or(self.spec.max_active, |limit| limit.min(self.spec.max_active));
                while !status.exhausted && status.open.len() < at_once as usize {
                    match self.spec.next(schedule, status.cursor) {
                        Some(due) => {
                            status.open.push(due);
                            status.cursor = Some(due);
                        }
                        None => status.exhausted = true,
                    }
                }
            }
            (Phase::Running | Phase::Paused, None) => {
                status.phase = Phase::Failed;
                status.ended_at = Some(now);
            }
            (Phase::Paused | Phase::Cancelled | Phase::Done | Phase::Failed, _) => {}
        }
        if status.phase == Phase::Running && status.exhausted && status.open.is_empty() {
            status.phase = Phase::Done;
            status.ended_at = Some(now);
        }
        status
    }

    /// Whether anything is left to do: also an ended one's open runs are counted.
    #[must_use]
    pub fn in_work(&self) -> bool {
        match self.status.phase {
            Phase::Running => true,
            Phase::Paused | Phase::Cancelled => !self.status.open.is_empty(),
            Phase::Done | Phase::Failed => false,
        }
    }

    /// Its status after an operator's word, or why it can't be.
    ///
    /// # Errors
    /// It has ended.
    pub fn turn(&self, turn: Turn, now: Timestamp) -> Result<BackfillStatus, &'static str> {
        let mut status = self.status.clone();
        match (status.phase, turn) {
            (Phase::Running | Phase::Paused, Turn::Pause) => status.phase = Phase::Paused,
            (Phase::Running | Phase::Paused, Turn::Resume) => status.phase = Phase::Running,
            (Phase::Running | Phase::Paused, Turn::Cancel) => {
                status.phase = Phase::Cancelled;
                status.ended_at = Some(now);
            }
            (Phase::Cancelled, Turn::Cancel) => {}
            (Phase::Cancelled, Turn::Pause | Turn::Resume) => return Err("it is cancelled"),
            (Phase::Done, _) => return Err("it is done"),
            (Phase::Failed, _) => return Err("it has failed"),
        }
        Ok(status)
    }
}

impl BackfillStatus {
    /// Of a backfill that is new.
    #[must_use]
    pub fn new(total: u32, now: Timestamp, by: Option<String>) -> Self {
        Self {
            phase: Phase::Running,
            total,
            cursor: None,
            exhausted: false,
            open: vec![],
            succeeded: 0,
            failed: 0,
            skipped: 0,
            already_ran: 0,
            created_at: now,
            ended_at: None,
            by,
        }
    }

    /// Occurrences that it is done with.
    #[must_use]
    pub fn finished(&self) -> u32 {
        self.succeeded + self.failed + self.skipped + self.already_ran
    }
}

impl Phase {
    /// As in output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Cancelled => "cancelled",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::schedule::{Identity, ScheduleSpec};

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_ms(1_800_000_000_000 + minutes * 60_000)
    }

    fn schedule() -> Schedule {
        let spec = ScheduleSpec { every: Some(Duration::from_secs(60)), ..ScheduleSpec::default() };
        Schedule::compile(&spec, &Identity { job: "a/b", created_at: at(0) }, &|_| None).unwrap()
    }

    fn backfill(max_active: u32, reverse: bool) -> Backfill {
        let spec = BackfillSpec { job: "a/b".parse().unwrap(), from: at(1), to: at(6), max_active, reverse };
        let status = BackfillStatus::new(5, at(100), None);
        Backfill { id: "a/x".parse().unwrap(), spec, status }
    }

    /// Steps until nothing is in work, each open run ending as told; answers with the order of the runs.
    fn carried_out(
        mut backfill: Backfill,
        end: impl Fn(Timestamp) -> RunEnd,
    ) -> (Vec<Timestamp>, BackfillStatus) {
        let mut order = Vec::new();
        for _ in 0..50 {
            let ends = backfill.status.open.iter().map(|due| (*due, end(*due))).collect();
            backfill.status = backfill.step(Some(&schedule()), None, &ends, at(200));
            assert!(backfill.status.open.len() <= backfill.spec.max_active as usize);
            order.extend(backfill.status.open.iter().copied());
            if !backfill.in_work() {
                break;
            }
        }
        (order, backfill.status)
    }

    #[test]
    fn every_occurrence_of_the_range_runs_once_in_order() {
        for (max_active, reverse) in [(1, false), (1, true), (2, false), (9, true)] {
            let (order, status) = carried_out(backfill(max_active, reverse), |_| RunEnd::Succeeded);
            let mut expected: Vec<_> = (1..6).map(at).collect();
            if reverse {
                expected.reverse();
            }
            assert_eq!(order, expected, "{max_active} {reverse}");
            assert_eq!((status.phase, status.succeeded, status.ended_at), (Phase::Done, 5, Some(at(200))));
        }
    }

    #[test]
    fn each_kind_of_end_is_counted() {
        let kinds = [RunEnd::Succeeded, RunEnd::Failed, RunEnd::Skipped, RunEnd::AlreadyRan, RunEnd::Failed];
        let (_, status) =
            carried_out(backfill(2, false), |due| kinds[(due.ms_since(at(1)) / 60_000) as usize]);
        assert_eq!((status.succeeded, status.failed, status.skipped, status.already_ran), (1, 2, 1, 1));
        assert_eq!(status.finished(), status.total);
    }

    #[test]
    fn a_paused_one_counts_but_starts_nothing_and_a_cancelled_one_never_does() {
        let mut paused = backfill(2, false);
        paused.status = paused.step(Some(&schedule()), None, &BTreeMap::new(), at(100));
        paused.status = paused.turn(Turn::Pause, at(101)).unwrap();
        let ends = BTreeMap::from([(at(1), RunEnd::Succeeded)]);
        paused.status = paused.step(Some(&schedule()), None, &ends, at(102));
        assert_eq!((paused.status.open.clone(), paused.status.succeeded), (vec![at(2)], 1));
        assert!(paused.in_work(), "its open run is still to be counted");
        let resumed = Backfill { status: paused.turn(Turn::Resume, at(103)).unwrap(), ..paused.clone() };
        assert_eq!(resumed.step(Some(&schedule()), None, &BTreeMap::new(), at(104)).open, [at(2), at(3)]);
        let cancelled = Backfill { status: paused.turn(Turn::Cancel, at(103)).unwrap(), ..paused };
        assert_eq!(cancelled.step(Some(&schedule()), None, &BTreeMap::new(), at(104)), cancelled.status);
        assert_eq!(cancelled.turn(Turn::Resume, at(105)), Err("it is cancelled"));
    }

    #[test]
    fn the_jobs_own_limit_holds_for_its_backfill_too() {
        let open =
            |limit| backfill(4, false).step(Some(&schedule()), limit, &BTreeMap::new(), at(100)).open.len();
        assert_eq!((open(None), open(Some(9)), open(Some(1))), (4, 4, 1));
    }

    #[test]
    fn it_fails_with_its_job() {
        let status = backfill(2, false).step(None, None, &BTreeMap::new(), at(100));
        assert_eq!((status.phase, status.ended_at), (Phase::Failed, Some(at(100))));
    }

    #[test]
    fn it_is_stored_as_it_is() {
        let one = backfill(2, true);
        let status = one.step(Some(&schedule()), None, &BTreeMap::new(), at(100));
        let text = serde_json::to_string(&(&one.spec, &status)).unwrap();
        assert!(text.contains(r#""phase":"running""#) && text.contains(r#""maxActive":2"#), "{text}");
        assert_eq!(
            serde_json::from_str::<(BackfillSpec, BackfillStatus)>(&text).unwrap(),
            (one.spec, status)
        );
    }
}
