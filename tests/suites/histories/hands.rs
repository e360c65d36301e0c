//! The executors of the plain model: messages that come, attempts that end, and messages that come again.

use model::name::JobId;
use model::time::Timestamp;

use crate::history::{End, RETRY_MAX_S, Spec, Work};
use crate::job::Outcome;
use crate::play::Begun;

/// A message whose executor has fallen silent for so long is given to another one.
const ACK_WAIT_MS: i64 = 30_000;
/// A living executor says three times in that time that it is still there.
const BEAT_MS: i64 = ACK_WAIT_MS / 3;
/// A run that may not start as it was published, while nobody says how instead, is put back for so long.
const PUT_BACK_MS: i64 = 2_000;
/// Attempts of one run that may be lost with their executors (LOST_ATTEMPTS_MAX).
const LOST_MAX: u32 = 5;
/// When the dispatcher first looks after a run that it has published; then after half of its age, but not before that time again.
const WORRY_MS: i64 = 15_000;
const WORRY_MAX_MS: i64 = 300_000;
/// A run that nobody was given is skipped so long after its `startingDeadline`.
const UNSERVED_MS: i64 = 5_000;
/// Runs of a shard that are looked after at once.
const LOOKED_AFTER_MAX: usize = 100;

/// A run on its way to the executors.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub job: JobId,
    pub due_at: Timestamp,
    /// Of the declaration that it was published by.
    number: u64,
    published_at: Timestamp,
    /// When the dispatcher looks after it.
    worry_at: Timestamp,
    /// What the attempt goes by that is under way, or was last.
    spec: Spec,
    delivered: u32,
    failed: u32,
    /// Deliveries that count neither as failed nor as lost: turned away, or put back.
    uncounted: u32,
    /// Not before.
    comes_at: Option<Timestamp>,
    hand: Option<Hand>,
}

/// An attempt under way.
#[derive(Clone, Copy, Debug)]
struct Hand {
    since: Timestamp,
    ends_at: Timestamp,
    times_out: bool,
    end: End,
}

/// By what an attempt goes that is to start now.
#[derive(Debug)]
pub(crate) enum Word<'a> {
    Start(&'a Spec),
    /// Its job is gone.
    Deleted,
    /// Its job has been edited, and nobody says how.
    Nobody,
}

/// Asked for a job's run that was published by the declaration of this number. `None`: it goes by that.
pub(crate) type Present<'a> = dyn Fn(&JobId, u64) -> Option<Word<'a>> + 'a;

#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub job: JobId,
    pub due_at: Timestamp,
    pub outcome: Outcome,
    pub reason: Option<&'static str>,
}

impl Order {
    pub(crate) fn new(job: &JobId, due_at: Timestamp, number: u64, spec: &Spec, now: Timestamp) -> Self {
        Self {
            job: job.clone(),
            due_at,
            number,
            published_at: now,
            worry_at: now.plus_ms(WORRY_MS),
            spec: spec.clone(),
            delivered: 0,
            failed: 0,
            uncounted: 0,
            comes_at: None,
            hand: None,
        }
    }

    /// The wait after the newest failure.
    fn delay_s(&self) -> u32 {
        let mut delay_s = self.spec.retry_s;
        for _ in 1..self.failed {
            delay_s = (delay_s * self.spec.factor).min(RETRY_MAX_S);
        }
        delay_s.min(RETRY_MAX_S)
    }

    fn is_too_late(&self, now: Timestamp) -> bool {
        let deadline_s = self.spec.starting_deadline_s;
        deadline_s.is_some_and(|seconds| now.ms_since(self.due_at) > i64::from(seconds) * 1_000)
    }
}

#[derive(Debug)]
pub(crate) struct Hands {
    seed: u64,
    alive: bool,
    orders: Vec<Order>,
    reports: Vec<Report>,
    pub begun: Vec<Begun>,
}

impl Hands {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, alive: true, orders: Vec::new(), reports: Vec::new(), begun: Vec::new() }
    }

    pub(crate) fn publish(&mut self, order: Order) {
        self.orders.push(order);
    }

    pub(crate) fn reports(&mut self) -> Vec<Report> {
        std::mem::take(&mut self.reports)
    }

    /// A new second: attempts end, and what was put back comes again.
    pub(crate) fn wake(&mut self, now: Timestamp, present: &Present<'_>) {
        if !self.alive {
            return;
        }
        for mut order in std::mem::take(&mut self.orders) {
            let over = match order.hand {
                Some(hand) if hand.ends_at <= now => self.finish(&mut order, hand, now),
                Some(_) | None => false,
            };
            if !over {
                self.orders.push(order);
            }
        }
        self.take_new(now, present);
    }

    /// Messages that are there begin; an attempt that takes no time ends at once.
    pub(crate) fn take_new(&mut self, now: Timestamp, present: &Present<'_>) {
        if !self.alive {
            return;
        }
        for mut order in std::mem::take(&mut self.orders) {
            let comes = order.hand.is_none() && order.comes_at.is_none_or(|comes_at| comes_at <= now);
            if !(comes && self.begin(&mut order, now, present)) {
                self.orders.push(order);
            }
        }
    }

    /// One delivery; `true` if the run is over with it.
    fn begin(&mut self, order: &mut Order, now: Timestamp, present: &Present<'_>) -> bool {
        order.delivered += 1;
        let attempt = order.delivered;
        match present(&order.job, order.number) {
            None => {}
            Some(Word::Start(spec)) => order.spec = spec.clone(),
            Some(Word::Deleted) if attempt == 1 => {
                return self.report(order, Outcome::Skipped, Some("deleted"));
            }
            Some(Word::Deleted) => return self.report(order, Outcome::Cancelled, None),
            Some(Word::Nobody) => {
                order.uncounted += 1;
                order.comes_at = Some(now.plus_ms(PUT_BACK_MS));
                return false;
            }
        }
        if attempt - 1 - order.failed - order.uncounted > LOST_MAX {
            return self.report(order, Outcome::Failed, None);
        }
        if attempt == 1 && order.is_too_late(now) {
            return self.report(order, Outcome::Skipped, Some("deadline"));
        }
        let (job, due_at, version) = (order.job.clone(), order.due_at, order.spec.version);
        let work = Work::of(self.seed, &job, due_at);
        self.begun.push(Begun { at: now, job, due_at, attempt, version });
        let takes_s = work.takes_s.min(order.spec.timeout_s);
        let hand = Hand {
            since: now,
            ends_at: now.plus_ms(i64::from(takes_s) * 1_000),
            times_out: work.takes_s > order.spec.timeout_s,
            end: work.end(attempt),
        };
        order.hand = Some(hand);
        takes_s == 0 && self.finish(order, hand, now)
    }

    /// One attempt's end; `true` if the run is over with it.
    fn finish(&mut self, order: &mut Order, hand: Hand, now: Timestamp) -> bool {
        order.hand = None;
        let end = if hand.times_out { End::Failure } else { hand.end };
        match end {
            End::Success => self.report(order, Outcome::Succeeded, None),
            End::Permanent => self.report(order, Outcome::Failed, None),
            End::Failure => {
                order.failed += 1;
                if order.failed >= order.spec.attempts {
                    return self.report(order, Outcome::Failed, None);
                }
                order.comes_at = Some(now.plus_ms(i64::from(order.delay_s()) * 1_000));
                false
            }
            // Doesn't count.
            End::Busy(seconds) => {
                order.uncounted += 1;
                order.comes_at = Some(now.plus_ms(i64::from(seconds) * 1_000));
                false
            }
        }
    }

    fn report(&mut self, order: &Order, outcome: Outcome, reason: Option<&'static str>) -> bool {
        let (job, due_at) = (order.job.clone(), order.due_at);
        self.reports.push(Report { job, due_at, outcome, reason });
        true
    }

    /// A run is to be stopped. `true`: nobody has it in hand, and nobody will; else whoever has it reports its end.
    pub(crate) fn stop(&mut self, job: &JobId, due_at: Timestamp) -> bool {
        let found = self.orders.iter().position(|order| order.job == *job && order.due_at == due_at);
        // It has been reported already.
        let Some(found) = found else { return false };
        let order = self.orders.remove(found);
        let in_hand = self.alive && order.hand.is_some();
        !(in_hand && self.report(&order, Outcome::Cancelled, None))
    }

    /// The dispatcher looks after runs that were published long ago. Those that nobody was ever given are skipped once they are too late, by
    /// what their job says now; `present` knows what it says, if that isn't what they were published by.
    pub(crate) fn look_after<'a>(
        &mut self,
        is_mine: impl Fn(&JobId) -> bool,
        present: impl Fn(&JobId, u64) -> Option<&'a Spec>,
        now: Timestamp,
    ) -> Vec<Report> {
        let mut overdue: Vec<usize> = (0..self.orders.len())
            .filter(|index| is_mine(&self.orders[*index].job) && self.orders[*index].worry_at <= now)
            .collect();
        overdue.sort_by_key(|index| {
            let order = &self.orders[*index];
            (order.worry_at, format!("{}@{}", order.job, order.due_at))
        });
        overdue.truncate(LOOKED_AFTER_MAX);
        let mut skipped = Vec::new();
        for index in overdue {
            let order = &mut self.orders[index];
            let deadline_s = present(&order.job, order.number).unwrap_or(&order.spec).starting_deadline_s;
            let skipped_at =
                deadline_s.map(|seconds| order.due_at.plus_ms(i64::from(seconds) * 1_000 + UNSERVED_MS));
            if order.delivered == 0 && skipped_at.is_some_and(|at| at <= now) {
                skipped.push(index);
                continue;
            }
            let patience_ms = (now.ms_since(order.published_at) / 2).clamp(WORRY_MS, WORRY_MAX_MS);
            let worry_at = now.plus_ms(patience_ms);
            order.worry_at = skipped_at.filter(|at| *at > now).map_or(worry_at, |at| at.min(worry_at));
        }
        skipped.sort_unstable();
        let skipped = skipped.into_iter().rev().map(|index| self.orders.remove(index));
        let report = |order: Order| {
            let (outcome, reason) = (Outcome::Skipped, Some("deadline"));
            Report { job: order.job, due_at: order.due_at, outcome, reason }
        };
        skipped.map(report).collect()
    }

    /// The executor is killed: what it has in hand comes again once it has been silent for long enough.
    pub(crate) fn die(&mut self, now: Timestamp) {
        self.alive = false;
        for order in &mut self.orders {
            if let Some(hand) = order.hand.take() {
                let beats = now.ms_since(hand.since) / BEAT_MS;
                order.comes_at = Some(hand.since.plus_ms(beats * BEAT_MS + ACK_WAIT_MS));
            }
        }
    }

    pub(crate) fn revive(&mut self, now: Timestamp, present: &Present<'_>) {
        self.alive = true;
        self.take_new(now, present);
    }
}
