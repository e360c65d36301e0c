//! What an attempt tells while it is at work: that it has begun, how far it has come, and its log.
//!
//! A handler's words are kept in memory and sent beside it: it never waits for the bus. An attempt that is short and
//! says nothing costs nothing.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ambient::Clock;
use bus::BusError;
use bus::events::ProgressNote;
use bus::logs::{LogBatch, LogLine};
use model::limits::{LOG_BYTES_MAX, LOG_LINE_BYTES_MAX, PROGRESS_BYTES_MAX};
use model::progress::{Fraction, Progress};
use model::time::Timestamp;
use tokio::sync::Notify;

use crate::context::Context;
use crate::excerpt::clip;
use crate::executor::Bus;

/// An attempt that takes longer than this is said to be under way, even if it says nothing itself.
pub(crate) const STARTED_NOTE_AFTER: Duration = Duration::from_secs(1);
/// At most one note of progress in this time; the last one is always sent.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// Lines wait for others this long, or until they are so many bytes.
const LOG_WAIT: Duration = Duration::from_millis(200);
const LOG_BATCH_BYTES: usize = 32 * 1024;
/// The pause after the bus didn't take some lines.
const LOG_RETRY_DELAY: Duration = Duration::from_secs(1);
/// How long the end of an attempt waits for its last words to be taken.
const FAREWELL_WAIT: Duration = Duration::from_secs(2);
/// What a line weighs beside its text.
const LINE_WEIGHT: usize = 32;

/// A handler's words that aren't sent yet.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    said: Mutex<Said>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Said {
    progress: Option<(Timestamp, Fraction, String)>,
    lines: VecDeque<LogLine>,
    bytes: usize,
    /// When the oldest of these lines came, by the monotonic clock.
    since: Option<Duration>,
    /// Bytes logged so far, and whether the limit was said.
    total: usize,
    cut: bool,
}

impl Notes {
    pub(crate) fn progress(&self, clock: &Clock, fraction: f64, message: String) {
        lock(&self.said).progress = Some((clock.now(), fraction.into(), clip(&message, PROGRESS_BYTES_MAX)));
        self.wake.notify_one();
    }

    pub(crate) fn log(&self, clock: &Clock, from: Option<&str>, text: &str) {
        let mut said = lock(&self.said);
        for line in text.lines() {
            said.log(clock, from, line);
        }
        drop(said);
        self.wake.notify_one();
    }
}

impl Said {
    fn log(&mut self, clock: &Clock, from: Option<&str>, line: &str) {
        if self.cut {
            return;
        }
        let text = clip(line, LOG_LINE_BYTES_MAX);
        let weight = text.len() + LINE_WEIGHT;
        self.total += weight;
        self.cut = self.total > LOG_BYTES_MAX;
        let (from, text) = if self.cut {
            (
                None,
                format!("[the log is cut here: one attempt may log {LOG_BYTES_MAX} bytes (LOG_BYTES_MAX)]"),
            )
        } else {
            (from.map(str::to_owned), text)
        };
        self.bytes += weight;
        self.since.get_or_insert(clock.monotonic());
        self.lines.push_back(LogLine { at: clock.now(), from, text });
    }

    /// The lines of the next batch.
    fn take_lines(&mut self) -> Vec<LogLine> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while bytes < LOG_BATCH_BYTES {
            let Some(line) = self.lines.pop_front() else { break };
            bytes += line.text.len() + LINE_WEIGHT;
            taken.push(line);
        }
        self.bytes = self.bytes.saturating_sub(bytes);
        if self.lines.is_empty() {
            (self.since, self.bytes) = (None, 0);
        }
        taken
    }
}

/// Sends the words of one attempt.
pub(crate) struct Scribe<'a, B> {
    bus: &'a B,
    clock: &'a Clock,
    executor: &'a str,
    ctx: &'a Context,
    /// When the attempt began, by the monotonic clock.
    began: Duration,
    /// When a note of progress was sent last.
    noted: Option<Duration>,
    /// Taken from the notes, and not known to be stored yet.
    sending: Option<LogBatch>,
    batches: u32,
    /// No log is sent before this.
    not_before: Duration,
    /// This executor may not log.
    mute: bool,
}

impl<'a, B: Bus> Scribe<'a, B> {
    pub(crate) fn new(bus: &'a B, clock: &'a Clock, executor: &'a str, ctx: &'a Context) -> Self {
        let began = clock.monotonic();
        Self {
            bus,
            clock,
            executor,
            ctx,
            began,
            noted: None,
            sending: None,
            batches: 0,
            not_before: Duration::ZERO,
            mute: false,
        }
    }

    /// Sends what is said, for as long as it is polled.
    pub(crate) async fn run(&mut self) -> Infallible {
        loop {
            let pause = self.due_at().map(|due| due.saturating_sub(self.clock.monotonic()));
            woken_or_after(self.clock, &self.ctx.notes().wake, pause).await;
            // Boxed, so that attempts that say nothing don't carry its state around.
            Box::pin(self.say(false)).await;
        }
    }

    /// The attempt has ended: its last words, for as long as that takes little time.
    pub(crate) async fn finish(mut self) {
        let silent = {
            let said = lock(&self.ctx.notes().said);
            said.progress.is_none() && said.lines.is_empty() && self.sending.is_none()
        };
        if silent {
            return;
        }
        let wait = self.clock.sleep(FAREWELL_WAIT);
        let told = async {
            Box::pin(self.say(true)).await;
            self.sending.is_none()
        };
        if !told_in_time(told, wait).await {
            tracing::warn!(run = %self.ctx.run_id(), attempt = self.ctx.attempt(), "the end of a log was lost");
        }
    }

    /// When there is something to be sent next.
    fn due_at(&self) -> Option<Duration> {
        let said = lock(&self.ctx.notes().said);
        let progress =
            said.progress.is_some().then(|| self.noted.map_or(Duration::ZERO, |at| at + PROGRESS_INTERVAL));
        let started = self.noted.is_none().then_some(self.began + self.ctx.started_note_after());
        let enough = said.bytes >= LOG_BATCH_BYTES || self.sending.is_some();
        let lines = said.since.map(|since| if enough { since } else { since + LOG_WAIT });
        let lines = lines.or(self.sending.is_some().then_some(Duration::ZERO)).filter(|_| !self.mute);
        let lines = lines.map(|due| due.max(self.not_before));
        [progress, started, lines].into_iter().flatten().min()
    }

    /// Sends what is due; with `all`, everything.
    async fn say(&mut self, all: bool) {
        let now = self.clock.monotonic();
        let rested = self.noted.is_none_or(|at| now >= at + PROGRESS_INTERVAL);
        let said = if rested || all { lock(&self.ctx.notes().said).progress.take() } else { None };
        let unheard = self.noted.is_none() && now >= self.began + self.ctx.started_note_after();
        if said.is_some() || (unheard && !all) {
            self.noted = Some(now);
            self.note(said).await;
        }
        while !self.mute && (all || now >= self.not_before) && self.send_lines(all).await {}
    }

    async fn note(&self, said: Option<(Timestamp, Fraction, String)>) {
        let order = self.ctx.order();
        let (at, fraction, message) = match said {
            Some((at, fraction, message)) => {
                (at, Some(fraction), Some(message).filter(|text| !text.is_empty()))
            }
            None => (self.clock.now(), None, None),
        };
        let note = ProgressNote {
            run_id: order.run_id.clone(),
            queue: order.queue.clone(),
            progress: Progress {
                generation: order.generation,
                attempt: self.ctx.attempt(),
                started_at: self.ctx.started_at(),
                at,
                fraction,
                message,
                executor: self.executor.to_owned(),
            },
        };
        if let Err(error) = self.bus.note_progress(&note).await {
            tracing::debug!(run = %order.run_id, %error, "failed to say how an attempt is doing");
        }
    }

    /// One batch; `true` if there may be another one to send now.
    async fn send_lines(&mut self, all: bool) -> bool {
        if self.sending.is_none() {
            self.sending = self.next_batch(all);
        }
        let Some(batch) = &self.sending else { return false };
        match self.bus.log(batch).await {
            Ok(()) => {
                self.sending = None;
                return true;
            }
            Err(BusError::Refused(problem)) => {
                tracing::warn!(run = %batch.run_id, problem, "this executor can't log");
                (self.mute, self.sending) = (true, None);
            }
            Err(error) => {
                tracing::debug!(run = %batch.run_id, %error, "failed to send a log; trying again");
                self.not_before = self.clock.monotonic() + LOG_RETRY_DELAY;
            }
        }
        false
    }

    fn next_batch(&mut self, all: bool) -> Option<LogBatch> {
        let now = self.clock.monotonic();
        let lines = {
            let mut said = lock(&self.ctx.notes().said);
            let due =
                said.bytes >= LOG_BATCH_BYTES || said.since.is_some_and(|since| now >= since + LOG_WAIT);
            if due || all { said.take_lines() } else { Vec::new() }
        };
        if lines.is_empty() {
            return None;
        }
        let order = self.ctx.order();
        let number = self.batches;
        self.batches += 1;
        Some(LogBatch {
            run_id: order.run_id.clone(),
            queue: order.queue.clone(),
            generation: order.generation,
            attempt: self.ctx.attempt(),
            number,
            lines,
        })
    }
}

async fn woken_or_after(clock: &Clock, wake: &Notify, pause: Option<Duration>) {
    let pause = async {
        match pause {
            Some(pause) => clock.sleep(pause).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = wake.notified() => {}
        () = pause => {}
    }
}

async fn told_in_time(told: impl Future<Output = bool>, wait: impl Future<Output = ()>) -> bool {
    let (told, wait) = (std::pin::pin!(told), std::pin::pin!(wait));
    match futures_util::future::select(told, wait).await {
        futures_util::future::Either::Left((told, _)) => told,
        futures_util::future::Either::Right(((), _)) => false,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
