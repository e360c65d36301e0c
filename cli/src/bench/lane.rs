//! A lane: the runs that are expected of one system in one repetition, when each started, and whether it came once.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use ambient::Clock;
use bytes::Bytes;

use super::figures::{Figures, percentile};
use super::wall::Wall;
use crate::failure::Failure;

/// A lane in which nothing arrives for this long has lost what is missing.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// After the last expected run: time for a second copy to show up.
const COPIES_WAIT: Duration = Duration::from_millis(500);
const POLL: Duration = Duration::from_millis(20);
/// Fills payloads up to the size of a small JSON document.
const FILLER: &str = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz";

/// One repetition of one system.
#[derive(Debug)]
pub(super) struct Lane {
    number: u32,
    /// When each run should start; set late by those who learn it late.
    due_us: Vec<AtomicI64>,
    /// When each started; 0: it hasn't.
    started_us: Vec<AtomicI64>,
    /// Runs from here on are measured; those before warm up.
    measured_from: usize,
    arrived: AtomicUsize,
    doubled: AtomicUsize,
    strays: AtomicUsize,
}

impl Lane {
    pub(super) fn new(number: u32, due_us: &[i64], measured_from: usize) -> Arc<Self> {
        let zeros = |_: &i64| AtomicI64::new(0);
        Arc::new(Self {
            number,
            due_us: due_us.iter().map(|due| AtomicI64::new(*due)).collect(),
            started_us: due_us.iter().map(zeros).collect(),
            measured_from,
            arrived: AtomicUsize::new(0),
            doubled: AtomicUsize::new(0),
            strays: AtomicUsize::new(0),
        })
    }

    pub(super) fn number(&self) -> u32 {
        self.number
    }

    pub(super) fn len(&self) -> usize {
        self.due_us.len()
    }

    pub(super) fn due_us(&self, index: usize) -> i64 {
        self.due_us[index].load(Ordering::Relaxed)
    }

    pub(super) fn set_due(&self, index: usize, at_us: i64) {
        self.due_us[index].store(at_us, Ordering::Relaxed);
    }

    /// The text that a run carries: a JSON string is this in quotes, and nothing else.
    pub(super) fn text(&self, index: usize) -> String {
        format!("{:04}-{index:08}-{FILLER}", self.number)
    }

    /// The message body of a run: the same bytes whoever sends them.
    pub(super) fn body(&self, index: usize) -> Bytes {
        Bytes::from(format!("\"{}\"", self.text(index)))
    }

    /// A run has started. What isn't of this lane is a stray: a copy from an earlier one.
    pub(super) fn mark(&self, body: &[u8], now_us: i64) {
        match read(body) {
            Some((number, index)) if number == self.number && index < self.started_us.len() => {
                let first =
                    self.started_us[index].compare_exchange(0, now_us, Ordering::Relaxed, Ordering::Relaxed);
                let counter = if first.is_ok() { &self.arrived } else { &self.doubled };
                counter.fetch_add(1, Ordering::Relaxed);
            }
            _ => {
                self.strays.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    pub(super) fn arrived(&self) -> usize {
        self.arrived.load(Ordering::Relaxed)
    }

    /// Waits until all have arrived, or until nothing more does.
    pub(super) async fn all_arrived(&self, clock: &Clock, wall: &Wall) {
        let (mut seen, mut since) = (self.arrived(), clock.monotonic());
        while self.arrived() < self.len() {
            clock.sleep(POLL).await;
            let last_due_us = self.due_us.last().map_or(0, |due| due.load(Ordering::Relaxed));
            if self.arrived() != seen || wall.now_us() < last_due_us {
                (seen, since) = (self.arrived(), clock.monotonic());
            } else if clock.monotonic() - since > SILENCE_MAX {
                return;
            }
        }
    }

    /// Whether every run came exactly once; call it once all arrived.
    pub(super) async fn check(&self, who: &str, clock: &Clock) -> Result<(), Failure> {
        clock.sleep(COPIES_WAIT).await;
        let missing = self.len() - self.arrived();
        let (doubled, strays) = (self.doubled.load(Ordering::Relaxed), self.strays.load(Ordering::Relaxed));
        if (missing, doubled, strays) == (0, 0, 0) {
            return Ok(());
        }
        Err(Failure::failed(format!(
            "{who}: of {} expected runs {missing} are missing, {doubled} came again, and {strays} came that weren't expected",
            self.len()
        )))
    }

    /// Lateness and throughput of what was measured. `throughput_per_s` counts from the first due instant to the last start.
    pub(super) fn figures(&self) -> Figures {
        let measured = self.measured_from..self.len();
        let mut late_us: Vec<i64> = Vec::with_capacity(measured.len());
        let (mut first_due, mut last_start) = (i64::MAX, i64::MIN);
        for index in measured {
            let (due, start) = (self.due_us(index), self.started_us[index].load(Ordering::Relaxed));
            late_us.push(start - due);
            first_due = first_due.min(due);
            last_start = last_start.max(start);
        }
        late_us.sort_unstable();
        let ms = |us: i64| us as f64 / 1_000.0;
        let span_s = ((last_start - first_due) as f64 / 1e6).max(1e-6);
        Figures::from([
            ("min_ms", ms(percentile(&late_us, 0.0))),
            ("p50_ms", ms(percentile(&late_us, 0.5))),
            ("p99_ms", ms(percentile(&late_us, 0.99))),
            ("max_ms", ms(percentile(&late_us, 1.0))),
            ("throughput_per_s", late_us.len() as f64 / span_s),
        ])
    }
}

/// Lane and index of a run, out of its body.
fn read(body: &[u8]) -> Option<(u32, usize)> {
    let text = std::str::from_utf8(body.get(1..14)?).ok()?;
    let (number, index) = text.split_once('-')?;
    Some((number.parse().ok()?, index.parse().ok()?))
}

/// The lane that runs belong to at present. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Present(Arc<RwLock<Option<Arc<Lane>>>>);

impl Present {
    pub(super) fn set(&self, lane: &Arc<Lane>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(lane));
    }

    pub(super) fn mark(&self, body: &[u8], wall: &Wall) {
        let now_us = wall.now_us();
        if let Some(lane) = &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            lane.mark(body, now_us);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_reads_its_own_bodies_and_counts_copies_and_strays() {
        let lane = Lane::new(7, &[1_000_000, 1_001_000, 1_002_000], 1);
        for index in 0..3 {
            lane.mark(&lane.body(index), 1_003_000);
        }
        assert_eq!(lane.arrived(), 3);
        lane.mark(&lane.body(1), 1_004_000);
        lane.mark(&Lane::new(6, &[0], 0).body(0), 1_004_000);
        lane.mark(b"\"nonsense\"", 1_004_000);
        assert_eq!((lane.doubled.load(Ordering::Relaxed), lane.strays.load(Ordering::Relaxed)), (1, 2));
        let figures = lane.figures();
        assert_eq!((figures["p50_ms"], figures["max_ms"]), (1.0, 2.0));
        assert!((figures["throughput_per_s"] - 1_000.0).abs() < 1e-6);
    }
}
