//! One job in the plain model: what is declared and in force, and what became of each of its occurrences.

use std::collections::{BTreeMap, BTreeSet};

use model::name::JobId;
use model::time::Timestamp;

use crate::declaration::Declaration;
use crate::hands::Order;
use crate::history::Spec;
use crate::play::Standing;
use crate::rules::{Gap, INTERRUPTION_MS};

/// The window of `catchUp`, unless the manifest says another one.
const WINDOW_S: u32 = 24 * 3_600;

/// Who finds out that an interruption is over. A planner doesn't know which of the occurrences somebody has cancelled
/// beforehand, so that one of those may be the latest. A dispatcher knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Planner,
    Dispatcher,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Succeeded,
    Failed,
    Cancelled,
    Skipped,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// For an earlier run.
    Waiting,
    /// It may go: at the next look.
    Free,
    /// For its queue.
    Held,
    /// With the executors.
    Out,
    Ended(Outcome, Option<&'static str>),
}

#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub state: State,
    /// Somebody asked for it: no schedule names it.
    asked: bool,
    stopping: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Job {
    /// The newest revision.
    pub declared: Option<Declaration>,
    /// The revision in force.
    pub installed: Option<Declaration>,
    /// Everything that the schedule in force names up to here has been decided, or waits.
    decided_until: Timestamp,
    /// Runs that somebody asked for, not looked at yet; whether their job has been there all the time.
    pub asked: BTreeMap<Timestamp, bool>,
    pub runs: BTreeMap<Timestamp, Run>,
    counts: [u64; 4],
    /// Revisions so far.
    revisions: u64,
    /// Runs that ended while there was no such job: of those only a few are remembered.
    orphans: BTreeSet<Timestamp>,
}

impl Job {
    /// `apply`: refused if nothing is left to occur.
    pub(crate) fn declare(
        &mut self,
        name: &str,
        spec: &Spec,
        namespace_paused: bool,
        begin: Timestamp,
        now: Timestamp,
    ) -> bool {
        let old = self.declared.as_ref();
        let created_at = old.map_or(now, |old| old.created_at);
        // An edit of the schedule makes occurrences count from now; any other edit leaves them alone.
        let kept = old.filter(|old| old.spec.same_schedule(spec));
        let since = kept.map_or(now, |old| old.since);
        let Ok(schedule) = spec.schedule(name, begin, created_at) else { return false };
        if kept.is_none() && schedule.next_after(since).is_none() {
            return false;
        }
        if old.is_some_and(|old| old.spec == *spec && old.namespace_paused == namespace_paused) {
            return true;
        }
        let (pause, spec) = (old.and_then(|old| old.pause), spec.clone());
        let mut past = old.map_or_else(Vec::new, |old| old.past.clone());
        past.extend(old.filter(|_| kept.is_none()).map(|old| (old.since, old.schedule.clone())));
        let number = self.revisions;
        let new = Declaration { spec, schedule, created_at, since, past, namespace_paused, pause, number };
        let new = new.paused(now);
        self.revisions = new.number;
        self.declared = Some(new);
        true
    }

    /// `pause` and `resume`: the same as editing `suspend`.
    pub(crate) fn turn(&mut self, suspend: bool, now: Timestamp) -> bool {
        self.edit(
            now,
            |declared| declared.spec.suspend != suspend,
            |declared| declared.spec.suspend = suspend,
        )
    }

    pub(crate) fn turn_namespace(&mut self, paused: bool, now: Timestamp) -> bool {
        let edit = |declared: &mut Declaration| declared.namespace_paused = paused;
        self.edit(now, |declared| declared.namespace_paused != paused, edit)
    }

    fn edit(
        &mut self,
        now: Timestamp,
        needs: impl Fn(&Declaration) -> bool,
        edit: impl Fn(&mut Declaration),
    ) -> bool {
        let Some(declared) = &mut self.declared else { return false };
        if needs(declared) {
            edit(declared);
            declared.number = self.revisions;
            *declared = declared.clone().paused(now);
            self.revisions = declared.number;
        }
        true
    }

    /// A planner sees what is declared, if it hasn't yet. Revisions that it never saw have never been.
    pub(crate) fn come_into_force(&mut self, reached: Option<Timestamp>, now: Timestamp) {
        let number = |declaration: &Option<Declaration>| declaration.as_ref().map(|known| known.number);
        if number(&self.declared) == number(&self.installed) {
            return;
        }
        let old = std::mem::replace(&mut self.installed, self.declared.clone());
        let Some(new) = self.installed.clone() else { return self.go() };
        // What was due before is dealt with up to where dispatchers have come, as far as they knew the schedule of that time.
        let known_since = new.known_since();
        let reached = reached.unwrap_or(known_since);
        let unseen = old.as_ref().and_then(|old| new.unseen_since(old.since));
        let is_same = old.as_ref().is_some_and(|old| old.created_at == new.created_at);
        let dealt =
            if is_same { known_since.max(reached.min(unseen.unwrap_or(reached))) } else { known_since };
        let decided = if is_same { self.decided_until } else { known_since };
        let decided = decided.min(unseen.filter(|_| is_same).unwrap_or(decided));
        // A pause that has been in force, or that a new job was born with, is made up for once it is over; but not what it
        // left out before its schedule was edited.
        let held_since = match &old {
            Some(old) => old.paused_since(),
            None => new.pause.map(|(since, _)| since),
        };
        let held_until = new.pause.map_or(now, |(since, until)| until.unwrap_or(since));
        let held = held_since.map(|since| Gap { since: since.max(new.since), until: held_until });
        let all_before = held_since.is_some_and(|since| decided >= since);
        self.decided_until = held.filter(|_| all_before).map_or(decided, |held| held.since);
        let held = held.filter(|held| held.since < held.until);
        // So is a time in which nobody dispatched, up to a pause.
        let away = Gap { since: dealt, until: new.paused_since().unwrap_or(now).min(now) };
        let away =
            Some(away).filter(|away| away.since < away.until && now.ms_since(away.since) >= INTERRUPTION_MS);
        // What touches is made up for together.
        let gap = match (held, away) {
            (Some(a), Some(b)) => Some(Gap { since: a.since.min(b.since), until: a.until.max(b.until) }),
            (held, away) => held.or(away),
        };
        if let Some(gap) = gap {
            self.catch_up(gap, now, Who::Planner);
            self.leave_out_what_is_too_late(gap, now);
        }
        self.let_waiting_go();
    }

    /// Deleted: what has ended is forgotten, what waits never runs.
    fn go(&mut self) {
        self.runs.retain(|_, run| !matches!(run.state, State::Ended(..)));
        self.counts = [0; 4];
        let waiting = self.runs.iter().filter(|(_, run)| run.state == State::Waiting);
        for due_at in waiting.map(|(due_at, _)| *due_at).collect::<Vec<_>>() {
            self.end(due_at, Outcome::Skipped, Some("deleted"));
        }
        self.asked.values_mut().for_each(|known| *known = false);
    }

    /// Nobody was there: `catchUp` decides, for a job that isn't paused.
    pub(crate) fn miss(&mut self, gap: Gap, now: Timestamp, who: Who) {
        if self.installed.is_some() {
            self.catch_up(gap, now, who);
        }
    }

    /// What the schedule names and nobody has decided about, and what was cancelled or skipped beforehand.
    fn named(&self, until: Timestamp) -> Vec<Timestamp> {
        let Some(installed) = &self.installed else { return Vec::new() };
        let until = installed.paused_since().map_or(until, |since| since.min(until));
        installed.dues(self.decided_until, until)
    }

    fn pending(&self, until: Timestamp) -> Vec<Timestamp> {
        let mut dues = self.named(until);
        dues.retain(|due_at| !self.runs.contains_key(due_at));
        dues
    }

    /// Of the occurrences in a gap, the policy keeps none, the latest or the newest `max`; none from before the window.
    fn catch_up(&mut self, gap: Gap, now: Timestamp, who: Who) {
        let Some(spec) = self.installed.as_ref().map(|installed| installed.spec.clone()) else { return };
        let mut missed = match who {
            Who::Planner => self.named(gap.until),
            Who::Dispatcher => self.pending(gap.until),
        };
        missed.retain(|due_at| gap.has(*due_at));
        let window_ms = i64::from(spec.window_s.unwrap_or(WINDOW_S)) * 1_000;
        let kept = match spec.catch_up {
            "none" => 0,
            "latest" => 1,
            _ => spec.max.map_or(usize::MAX, |max| max as usize),
        };
        for (newer, due_at) in missed.iter().rev().enumerate() {
            let reason = match spec.catch_up {
                "none" => "catch-up none",
                _ if now.ms_since(*due_at) > window_ms => "catch-up window",
                _ if newer < kept => continue,
                "latest" => "catch-up latest",
                _ => "catch-up max",
            };
            if !self.runs.contains_key(due_at) {
                self.end(*due_at, Outcome::Skipped, Some(reason));
            }
        }
    }

    fn is_too_late(&self, due_at: Timestamp, now: Timestamp) -> bool {
        let deadline_s = self.installed.as_ref().and_then(|installed| installed.spec.starting_deadline_s);
        deadline_s.is_some_and(|seconds| now.ms_since(due_at) > i64::from(seconds) * 1_000)
    }

    fn leave_out_what_is_too_late(&mut self, gap: Gap, now: Timestamp) {
        for due_at in self.pending(gap.until) {
            if gap.has(due_at) && self.is_too_late(due_at, now) {
                self.end(due_at, Outcome::Skipped, Some("deadline"));
            }
        }
    }

    /// Decides everything up to `reach`; answers with the runs that go to the executors.
    pub(crate) fn look(
        &mut self,
        id: &JobId,
        reached: Option<Timestamp>,
        reach: Timestamp,
        now: Timestamp,
        queue_is_held: bool,
    ) -> Vec<Order> {
        let mut due: Vec<Timestamp> = self.pending(reach);
        if let Some(installed) = &self.installed {
            let until = installed.paused_since().map_or(reach, |since| since.min(reach));
            self.decided_until = self.decided_until.max(until);
        }
        due.extend(self.asked.keys().filter(|due_at| **due_at <= reach));
        due.sort_unstable();
        let mut out = Vec::new();
        loop {
            due.extend(self.of_state(|state| *state == State::Free));
            due.sort_unstable();
            if due.is_empty() {
                return out;
            }
            let (starting, undecided) = self.decide(std::mem::take(&mut due), reached, now);
            due = undecided;
            for due_at in starting {
                self.set(due_at, if queue_is_held { State::Held } else { State::Out });
                let installed = self.installed.as_ref().filter(|_| !queue_is_held);
                let order =
                    |installed: &Declaration| Order::new(id, due_at, installed.number, &installed.spec, now);
                out.extend(installed.map(order));
            }
        }
    }

    /// Decides about everything that is due, by what is under way at this moment, and carries it out: first who is skipped leaves, then
    /// room is made, then who has to wait does so, then the others start. Answers with those that start, and with those that found
    /// things changed by then.
    fn decide(
        &mut self,
        due: Vec<Timestamp>,
        reached: Option<Timestamp>,
        now: Timestamp,
    ) -> (Vec<Timestamp>, Vec<Timestamp>) {
        let limit = self.installed.as_ref().and_then(|installed| installed.spec.limit());
        let policy = self.installed.as_ref().map_or("allow", |installed| installed.spec.overlap);
        let (mut active, mut waiting) = (self.under_way().len(), self.waiting().len());
        let (mut skipped, mut parked, mut starting) = (Vec::new(), Vec::new(), Vec::new());
        let mut let_go = false;
        for due_at in due {
            let waited = self.runs.get(&due_at).is_some_and(|run| run.state == State::Free);
            if !waited && self.runs.contains_key(&due_at) {
                continue;
            }
            if let Some(reason) = self.never(due_at, waited, reached, now) {
                let_go |= waited;
                skipped.push((due_at, reason));
            } else if waited || limit.is_none_or(|limit| active < limit && waiting == 0) {
                active += usize::from(!waited);
                starting.push((due_at, waited));
            } else if policy == "skip" {
                skipped.push((due_at, "overlap"));
            } else {
                // Only the newest waits, or all do.
                waiting = if policy == "queue-one" || policy == "replace" { 1 } else { waiting + 1 };
                parked.push(due_at);
            }
        }
        for (due_at, reason) in skipped {
            self.asked.remove(&due_at);
            self.end(due_at, Outcome::Skipped, Some(reason));
        }
        if let_go {
            self.let_waiting_go();
        }
        if policy == "replace" && !parked.is_empty() {
            let under_way = self.under_way();
            let surplus = (under_way.len() + 1).saturating_sub(limit.unwrap_or(usize::MAX));
            under_way.iter().take(surplus).for_each(|earlier| self.replace(*earlier));
        }
        let mut undecided = Vec::new();
        for due_at in parked {
            if self.has_room() {
                undecided.push(due_at);
                continue;
            }
            self.enter(due_at, State::Waiting);
            if policy == "queue-one" || policy == "replace" {
                let waiting = self.waiting();
                for older in &waiting[..waiting.len() - 1] {
                    self.end(*older, Outcome::Skipped, Some("coalesced"));
                }
            }
            self.let_waiting_go();
        }
        let mut start = Vec::new();
        for (due_at, waited) in starting {
            let is_free = self.runs.get(&due_at).is_some_and(|run| run.state == State::Free);
            if waited && is_free {
                start.push(due_at);
            } else if !waited && self.has_room() {
                self.enter(due_at, State::Free);
                start.push(due_at);
            } else if !waited {
                undecided.push(due_at);
            }
        }
        (start, undecided)
    }

    fn has_room(&self) -> bool {
        let limit = self.installed.as_ref().and_then(|installed| installed.spec.limit());
        limit.is_none_or(|limit| self.under_way().len() < limit && self.waiting().is_empty())
    }

    fn enter(&mut self, due_at: Timestamp, state: State) {
        let asked = self.asked.remove(&due_at).is_some();
        self.runs.insert(due_at, Run { state, asked, stopping: false });
    }

    /// Why a run whose turn has come never starts, if so.
    fn never(
        &self,
        due_at: Timestamp,
        waited: bool,
        reached: Option<Timestamp>,
        now: Timestamp,
    ) -> Option<&'static str> {
        let Some(installed) = &self.installed else { return Some("deleted") };
        if self.asked.get(&due_at) == Some(&false) {
            // The job that it was asked of is gone; there is another one of that name.
            return Some("deleted or superseded");
        }
        let asked = self.asked.contains_key(&due_at) || self.runs.get(&due_at).is_some_and(|run| run.asked);
        let named = installed.names(due_at);
        if !asked && !named {
            return Some("superseded");
        }
        if waited && !asked && installed.paused_since().is_some_and(|since| due_at > since) {
            return Some("suspended");
        }
        // What was due before the last look may be out already, so that the executor says that it is too late. So it does of
        // what was asked for.
        let maybe_out = installed.spec.limit().is_none() && reached.is_some_and(|reached| due_at <= reached);
        let said_here = waited || !(asked || maybe_out);
        (said_here && self.is_too_late(due_at, now)).then_some("deadline")
    }

    /// An earlier run makes room for a newer one.
    fn replace(&mut self, due_at: Timestamp) {
        match self.runs.get(&due_at).map(|run| run.state.clone()) {
            Some(State::Out) => self.stop(due_at),
            Some(State::Held | State::Free) => self.end(due_at, Outcome::Cancelled, None),
            _ => {}
        }
    }

    fn of_state(&self, wanted: impl Fn(&State) -> bool) -> Vec<Timestamp> {
        self.runs.iter().filter(|(_, run)| wanted(&run.state)).map(|(due_at, _)| *due_at).collect()
    }

    /// From its admission to its end.
    fn under_way(&self) -> Vec<Timestamp> {
        self.of_state(|state| matches!(state, State::Free | State::Held | State::Out))
    }

    fn waiting(&self) -> Vec<Timestamp> {
        self.of_state(|state| *state == State::Waiting)
    }

    /// As many of those that wait as there is room for, earliest first.
    pub(crate) fn let_waiting_go(&mut self) {
        let Some(installed) = &self.installed else { return };
        let room =
            installed.spec.limit().map_or(usize::MAX, |limit| limit.saturating_sub(self.under_way().len()));
        for due_at in self.waiting().into_iter().take(room) {
            self.set(due_at, State::Free);
        }
    }

    /// Its queue isn't paused any more.
    pub(crate) fn leave_queue(&mut self) {
        for due_at in self.of_state(|state| *state == State::Held) {
            self.set(due_at, State::Free);
        }
    }

    fn set(&mut self, due_at: Timestamp, state: State) {
        if let Some(run) = self.runs.get_mut(&due_at) {
            run.state = state;
        }
    }

    /// A run has its outcome. It counts if its job is there.
    pub(crate) fn end(&mut self, due_at: Timestamp, outcome: Outcome, reason: Option<&'static str>) {
        let asked = self.runs.get(&due_at).is_some_and(|run| run.asked);
        let state = State::Ended(outcome, reason);
        self.runs.insert(due_at, Run { state, asked, stopping: false });
        if self.installed.is_some() {
            self.counts[outcome as usize] += 1;
        } else {
            self.orphans.insert(due_at);
        }
        if outcome == Outcome::Cancelled {
            self.let_waiting_go();
        }
    }

    /// An executor reported the end of a run; the first report counts.
    pub(crate) fn settle(&mut self, due_at: Timestamp, outcome: Outcome, reason: Option<&'static str>) {
        let over = self.runs.get(&due_at).is_some_and(|run| matches!(run.state, State::Ended(..)));
        if !over {
            self.end(due_at, outcome, reason);
        }
    }

    pub(crate) fn stop(&mut self, due_at: Timestamp) {
        if let Some(run) = self.runs.get_mut(&due_at) {
            run.stopping = true;
        }
    }

    /// Runs with the executors that somebody wants to end.
    pub(crate) fn stopping(&self) -> Vec<Timestamp> {
        let stopping = self.runs.iter().filter(|(_, run)| run.stopping && run.state == State::Out);
        stopping.map(|(due_at, _)| *due_at).collect()
    }

    pub(crate) fn standing(&self, now: Timestamp) -> Standing {
        let told = |(due_at, run): (&Timestamp, &Run)| {
            let (word, reason) = match &run.state {
                State::Waiting | State::Free | State::Held => ("waiting", None),
                State::Out => ("dispatched", None),
                State::Ended(Outcome::Succeeded, _) => ("succeeded", None),
                State::Ended(Outcome::Failed, _) => ("dead-lettered", None),
                State::Ended(Outcome::Cancelled, _) => ("cancelled", None),
                State::Ended(Outcome::Skipped, reason) => ("skipped", *reason),
            };
            (*due_at, (word.to_owned(), reason.map(str::to_owned)))
        };
        let next_due = self.declared.as_ref().filter(|declared| declared.paused_since().is_none());
        Standing {
            runs: self.runs.iter().map(told).collect(),
            forgettable: self.orphans.clone(),
            counts: self.counts,
            next_due: next_due
                .and_then(|declared| declared.next_due(now, |due_at| self.runs.contains_key(&due_at))),
        }
    }
}
