//! A queue's gate: which of the runs that are due may go now, if the queue has a limit for all executors together.
//!
//! The properties, which the tests name:
//! (A) never more than `concurrency` runs are active;
//! (B) starts keep the queue's rate, and for each key the rate for a key;
//! (C) while runs wait, priorities get turns as 16 : 4 : 1 and, within a priority, namespaces as their shares: nobody
//!     starves;
//! (D) within a line (one priority, one namespace) who is due first goes first, unless their key has no token;
//! (E) asking again changes nothing: an active run stays active and costs no further token.
//!
//! Turns are strides: each line has a *pass*, the lowest goes next and moves on by its stride. Who comes anew starts at
//! the pass of the last turn, so that waiting for nothing saves no credit. Whole numbers only: `gate.lua` does the same.

pub mod rate;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::id::Occurrence;
use crate::limits::GATE_SCAN_MAX;
use crate::name::Name;
use crate::priority::Priority;
use crate::rate::Rate;
use crate::time::Timestamp;

/// What a queue's object asks for.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct GateRules {
    /// Runs that may be under way at once, for all executors together.
    pub concurrency: Option<u32>,
    /// Starts of the whole queue.
    pub rate: Option<Rate>,
    /// Starts of the runs of one key.
    pub key_rate: Option<Rate>,
    /// Nothing starts.
    pub paused: bool,
    /// Turns of namespaces within a priority; 1 for those that aren't named.
    pub shares: BTreeMap<Name, u32>,
}

impl GateRules {
    /// Lets nobody go: to take runs out of a gate without having to see to others.
    #[must_use]
    pub fn closed() -> Self {
        Self { paused: true, ..Self::default() }
    }

    /// Whether runs have to ask at all.
    #[must_use]
    pub fn is_gated(&self) -> bool {
        self.concurrency.is_some() || self.rate.is_some() || self.key_rate.is_some() || self.paused
    }

    /// By how much a namespace's pass moves with a turn.
    #[must_use]
    pub fn stride(&self, namespace: &Name) -> i64 {
        NAMESPACE_STRIDE / i64::from(self.shares.get(namespace).copied().unwrap_or(1).max(1))
    }
}

/// The stride of a namespace with a share of 1.
pub const NAMESPACE_STRIDE: i64 = 1_000_000;

/// By how much a priority's pass moves with a turn: they get turns as 16 : 4 : 1.
#[must_use]
pub fn priority_stride(priority: Priority) -> i64 {
    match priority {
        Priority::High => 1,
        Priority::Normal => 4,
        Priority::Low => 16,
    }
}

/// A run that asks to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateRun {
    pub occurrence: Occurrence,
    pub priority: Priority,
    pub rate_key: Option<String>,
}

/// What was let go.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Picked {
    /// In the order of their turns.
    pub runs: Vec<Occurrence>,
    /// When, by time alone, the next one may go. `None`: only once something else changes.
    pub next_at: Option<Timestamp>,
}

type LineKey = (Priority, Name);
/// In order of due, then of the id's text.
type Place = (Timestamp, String);

#[derive(Clone, Debug)]
struct Waiting {
    occurrence: Occurrence,
    rate_key: Option<String>,
}

/// The gate of one queue.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    /// Let go and not ended; since when (or since somebody made sure).
    active: BTreeMap<Occurrence, Timestamp>,
    lines: BTreeMap<LineKey, BTreeMap<Place, Waiting>>,
    /// Where a waiting run stands.
    places: BTreeMap<Occurrence, Priority>,
    passes: Passes,
    /// Due marks (µs): of the queue under `None`, of keys.
    marks: BTreeMap<Option<String>, i64>,
}

/// Kept while anything waits.
#[derive(Clone, Debug, Default)]
struct Passes {
    /// The pass of the last turn: of all, and within each priority.
    clock: i64,
    clocks: BTreeMap<Priority, i64>,
    priorities: BTreeMap<Priority, i64>,
    lines: BTreeMap<LineKey, i64>,
}

impl Passes {
    fn clock_of(&self, priority: Priority) -> i64 {
        self.clocks.get(&priority).copied().unwrap_or(0)
    }

    /// At least the pass of the last turn.
    fn catch_up(&mut self, priority: Priority) {
        let pass = self.priorities.entry(priority).or_insert(0);
        *pass = (*pass).max(self.clock);
    }

    fn catch_up_line(&mut self, line: &LineKey) {
        let clock = self.clock_of(line.0);
        let pass = self.lines.entry(line.clone()).or_insert(0);
        *pass = (*pass).max(clock);
    }

    fn turn(&mut self, line: &LineKey, rules: &GateRules) {
        let pass = self.priorities.entry(line.0).or_insert(0);
        self.clock = *pass;
        *pass += priority_stride(line.0);
        let pass = self.lines.entry(line.clone()).or_insert(0);
        self.clocks.insert(line.0, *pass);
        *pass += rules.stride(&line.1);
    }
}

/// How far a line has been looked through in one call: who was passed over stays so, tokens only get fewer.
#[derive(Debug, Default)]
struct Look {
    passed_over: BTreeSet<Place>,
    is_blocked: bool,
}

impl Gate {
    /// Puts runs that ask in line, then lets go whom it may, at most `most`. Afterwards `is_active` tells who may go.
    pub fn admit(&mut self, rules: &GateRules, now: Timestamp, runs: &[GateRun], most: usize) -> Picked {
        for run in runs {
            self.enter(run);
        }
        self.pick(rules, now, most)
    }

    /// Takes runs that have ended out, wherever they are, then lets others go.
    pub fn leave(&mut self, rules: &GateRules, now: Timestamp, ended: &[Occurrence], most: usize) -> Picked {
        for run in ended {
            self.active.remove(run);
            if let Some(priority) = self.places.remove(run) {
                self.remove_waiting(priority, run);
            }
        }
        self.pick(rules, now, most)
    }

    #[must_use]
    pub fn is_active(&self, run: &Occurrence) -> bool {
        self.active.contains_key(run)
    }

    #[must_use]
    pub fn is_waiting(&self, run: &Occurrence) -> bool {
        self.places.contains_key(run)
    }

    /// The active runs that nobody looked at since an instant, longest ago first.
    #[must_use]
    pub fn unseen(&self, until: Timestamp, limit: usize) -> Vec<Occurrence> {
        let mut unseen: Vec<_> = self
            .active
            .iter()
            .filter(|(_, since)| **since <= until)
            .map(|(run, since)| (*since, run.to_string(), run.clone()))
            .collect();
        unseen.sort();
        unseen.into_iter().take(limit).map(|(.., run)| run).collect()
    }

    /// Notes that active runs are still under way.
    pub fn seen(&mut self, runs: &[Occurrence], now: Timestamp) {
        for run in runs {
            self.active.entry(run.clone()).and_modify(|since| *since = now);
        }
    }

    #[must_use]
    pub fn active(&self) -> usize {
        self.active.len()
    }

    /// How many wait in each line, and when the first of them was due.
    #[must_use]
    pub fn waiting(&self) -> Vec<(Priority, Name, u64, Timestamp)> {
        let lines = self.lines.iter();
        let first = |line: &BTreeMap<Place, Waiting>| line.keys().next().map(|(due_at, _)| *due_at);
        lines
            .map(|((priority, name), line)| {
                (*priority, name.clone(), line.len() as u64, first(line).unwrap_or_default())
            })
            .collect()
    }

    /// The due mark of the queue's rate, if there is one.
    #[must_use]
    pub fn mark_us(&self) -> Option<i64> {
        self.marks.get(&None).copied()
    }

    /// Nothing here is worth keeping.
    #[must_use]
    pub fn is_idle(&self, now: Timestamp) -> bool {
        let now_us = rate::us(now);
        self.active.is_empty() && self.lines.is_empty() && self.marks.values().all(|mark| *mark <= now_us)
    }

    fn enter(&mut self, run: &GateRun) {
        if self.is_active(&run.occurrence) || self.is_waiting(&run.occurrence) {
            return;
        }
        let line = (run.priority, run.occurrence.job.namespace.clone());
        if !self.lines.keys().any(|(priority, _)| *priority == run.priority) {
            self.passes.catch_up(run.priority);
        }
        if !self.lines.contains_key(&line) {
            self.passes.catch_up_line(&line);
        }
        self.places.insert(run.occurrence.clone(), run.priority);
        let waiting = Waiting { occurrence: run.occurrence.clone(), rate_key: run.rate_key.clone() };
        self.lines.entry(line).or_default().insert(place(&run.occurrence), waiting);
    }

    fn remove_waiting(&mut self, priority: Priority, run: &Occurrence) {
        let key = (priority, run.job.namespace.clone());
        if let Some(line) = self.lines.get_mut(&key) {
            line.remove(&place(run));
            if line.is_empty() {
                self.lines.remove(&key);
            }
        }
    }

    fn pick(&mut self, rules: &GateRules, now: Timestamp, most: usize) -> Picked {
        let now_us = rate::us(now);
        self.marks.retain(|_, mark| *mark > now_us);
        let mut looks: BTreeMap<LineKey, Look> = BTreeMap::new();
        let mut picked = Picked::default();
        let mut key_free_us: Option<i64> = None;
        let limit = rules.concurrency.map_or(usize::MAX, |limit| limit as usize);
        while !self.lines.is_empty() && !rules.paused && self.active.len() < limit {
            if picked.runs.len() >= most {
                picked.next_at = Some(now);
                break;
            }
            if let Some(free_us) = self.blocked_until(rules.rate.as_ref(), None, now_us) {
                picked.next_at = Some(rate::instant(free_us));
                break;
            }
            let Some((line, place)) = self.choose(rules, now_us, &mut looks, &mut key_free_us) else {
                picked.next_at = key_free_us.map(rate::instant);
                break;
            };
            picked.runs.extend(self.let_go(&line, &place, rules, now));
        }
        for (line, _) in looks.iter().filter(|(_, look)| look.is_blocked) {
            self.passes.catch_up_line(line);
        }
        for priority in Priority::ALL {
            let mut lines = self.lines.keys().filter(|(of, _)| *of == priority).peekable();
            if lines.peek().is_some() && lines.all(|line| looks.get(line).is_some_and(|look| look.is_blocked))
            {
                self.passes.catch_up(priority);
            }
        }
        if self.lines.is_empty() {
            self.passes = Passes::default();
        }
        picked
    }

    /// Until when a rate has no token, if it has none.
    fn blocked_until(&self, rate: Option<&Rate>, key: Option<&String>, now_us: i64) -> Option<i64> {
        let mark = *self.marks.get(&key.cloned())?;
        rate.map(|rate| rate::free_at_us(rate, mark)).filter(|free| *free > now_us)
    }

    /// Whose turn it is: the first of the line with the lowest pass, of the priority with the lowest pass.
    fn choose(
        &self,
        rules: &GateRules,
        now_us: i64,
        looks: &mut BTreeMap<LineKey, Look>,
        key_free_us: &mut Option<i64>,
    ) -> Option<(LineKey, Place)> {
        let mut priorities: Vec<Priority> = Priority::ALL.into();
        priorities.sort_by_key(|priority| self.passes.priorities.get(priority).copied().unwrap_or(0));
        for priority in priorities {
            let mut lines: Vec<&LineKey> = self.lines.keys().filter(|(of, _)| *of == priority).collect();
            lines.sort_by_key(|line| self.passes.lines.get(*line).copied().unwrap_or(0));
            for line in lines {
                let look = looks.entry(line.clone()).or_default();
                if let Some(place) = self.first_of(line, rules, now_us, look, key_free_us) {
                    return Some((line.clone(), place));
                }
            }
        }
        None
    }

    fn first_of(
        &self,
        line: &LineKey,
        rules: &GateRules,
        now_us: i64,
        look: &mut Look,
        key_free_us: &mut Option<i64>,
    ) -> Option<Place> {
        if look.is_blocked {
            return None;
        }
        for (place, waiting) in self.lines.get(line)? {
            if look.passed_over.contains(place) {
                continue;
            }
            let key = waiting.rate_key.as_ref();
            let blocked = key.and_then(|key| self.blocked_until(rules.key_rate.as_ref(), Some(key), now_us));
            let Some(free_us) = blocked else { return Some(place.clone()) };
            *key_free_us = Some(key_free_us.map_or(free_us, |known| known.min(free_us)));
            look.passed_over.insert(place.clone());
            if look.passed_over.len() >= GATE_SCAN_MAX {
                break;
            }
        }
        look.is_blocked = true;
        None
    }

    fn let_go(
        &mut self,
        line: &LineKey,
        place: &Place,
        rules: &GateRules,
        now: Timestamp,
    ) -> Option<Occurrence> {
        let waiting = self.lines.get_mut(line)?.remove(place)?;
        if self.lines.get(line).is_some_and(BTreeMap::is_empty) {
            self.lines.remove(line);
        }
        self.places.remove(&waiting.occurrence);
        self.passes.turn(line, rules);
        if let Some(rate) = &rules.rate {
            self.start(None, rate, now);
        }
        if let (Some(rate), Some(key)) = (&rules.key_rate, waiting.rate_key) {
            self.start(Some(key), rate, now);
        }
        self.active.insert(waiting.occurrence.clone(), now);
        Some(waiting.occurrence)
    }

    fn start(&mut self, key: Option<String>, rate: &Rate, now: Timestamp) {
        let mark = self.marks.get(&key).copied();
        self.marks.insert(key, rate::after_start_us(rate, mark, rate::us(now)));
    }
}

fn place(run: &Occurrence) -> Place {
    (run.due_at, run.to_string())
}
