//! The fence: which jobs of a queue were edited, so that no run of a revision that was superseded starts (ADR 0042).
//!
//! What is known of the edits counts for `EDITS_KNOWN_FOR` from when it was asked for; an edit is in force only once longer
//! than that has passed since it was announced and installed. So whoever asked before it didn't start anything afterwards.
//! Runs share what was asked: at most a few requests a second for each queue, and none for each run.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ambient::Clock;
use bus::BusError;
use bus::edits::{EDITS_AGE_MAX, EditMark, EditReader, Edits};
use bus::order::Order;
use model::id::{Revision, RunId};
use model::limits::EDITS_KNOWN_FOR;
use model::name::{JobId, QueueId};
use model::time::{Timestamp, duration_ms};

/// Edited jobs that an executor remembers for each queue.
const JOBS_REMEMBERED_MAX: usize = 100_000;
/// The clocks of servers and executors may differ by this much, and a dispatcher may take this long to publish what it has
/// taken: a run that was stored so long after an instant is of no revision that was superseded before that instant.
const MARGIN: Duration = Duration::from_secs(60);
/// The pause after which an executor that may not read the edits of its queue tries again.
const REFUSED_FOR: Duration = Duration::from_secs(60);
/// What this executor hasn't read is read anew after this long without a look: some of it may not be kept any more.
const READ_ANEW_AFTER: Duration = Duration::from_secs(EDITS_AGE_MAX.as_secs() / 2);

/// What is known of the edits of one queue.
#[derive(Debug)]
pub(crate) struct Fence {
    queue: QueueId,
    clock: Clock,
    known: Mutex<Known>,
    /// Held by who asks for edits.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    mark: Option<EditMark>,
    newest: HashMap<JobId, Revision>,
    /// Of edits that were announced before, some may not be known.
    complete_since: Option<Timestamp>,
    /// When they were asked for last, on the monotonic clock.
    asked_at: Option<Duration>,
    /// Until when nobody asks, since it isn't allowed.
    refused_until: Option<Duration>,
}

/// Whether a run's revision is the newest that was announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Newest {
    /// It may be started until then, on the monotonic clock.
    Yes { lapses_at: Duration },
    /// It was superseded, or nobody here knows.
    Unsure,
}

/// The job whose edits concern an order. Ad-hoc work has none; a dead letter that was sent again goes on as it was.
pub(crate) fn fenced_job(order: &Order) -> Option<&JobId> {
    match &order.run_id {
        RunId::Occurrence(occurrence) if order.attempt_base == 0 => Some(&occurrence.job),
        RunId::Occurrence(_) | RunId::AdHoc { .. } => None,
    }
}

/// Until when an answer counts that came `now`: from when it was asked for; if it took too long, there is nothing better.
pub(crate) fn lapse(asked_at: Duration, now: Duration) -> Duration {
    let lapses_at = asked_at + EDITS_KNOWN_FOR;
    if now < lapses_at { lapses_at } else { now + EDITS_KNOWN_FOR }
}

impl Fence {
    pub(crate) fn new(queue: &QueueId, clock: &Clock) -> Self {
        let (known, asking) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { queue: queue.clone(), clock: clock.clone(), known, asking }
    }

    /// Whether a run is of its job's newest revision, as of now.
    pub(crate) async fn newest<B: EditReader>(
        &self,
        bus: &B,
        job: &JobId,
        revision: Revision,
        stored_at: Timestamp,
    ) -> Result<Newest, BusError> {
        let entered_at = self.clock.monotonic();
        loop {
            let now = self.clock.monotonic();
            {
                let known = self.known();
                if known.refused_until.is_some_and(|until| now < until) {
                    return Ok(Newest::Yes { lapses_at: Duration::MAX });
                }
                let age = known.asked_at.map(|asked_at| now.saturating_sub(asked_at));
                // Somebody asks again while what is known still counts, so that under load nobody waits.
                let is_fresh = age.is_some_and(|age| {
                    age < EDITS_KNOWN_FOR / 2 || age < EDITS_KNOWN_FOR && self.asking.try_lock().is_err()
                });
                if is_fresh {
                    return Ok(known.verdict(job, revision, stored_at, now));
                }
                // It was asked for this run, but the answer took longer than it counts for. Waiting for a better one might
                // be for ever.
                if known.asked_at.is_some_and(|asked_at| asked_at >= entered_at) {
                    tracing::debug!(queue = %self.queue, "edits are told slowly");
                    return Ok(known.verdict(job, revision, stored_at, now));
                }
            }
            self.ask(bus, entered_at).await?;
        }
    }

    /// Asks for edits, unless somebody did since `entered_at`, or just now.
    async fn ask<B: EditReader>(&self, bus: &B, entered_at: Duration) -> Result<(), BusError> {
        let _turn = self.asking.lock().await;
        let asked_at = self.clock.monotonic();
        let mark = {
            let known = self.known();
            let before = known.asked_at;
            if before.is_some_and(|before| before >= entered_at || asked_at - before < EDITS_KNOWN_FOR / 2) {
                return Ok(());
            }
            known.mark.filter(|_| before.is_some_and(|before| asked_at - before < READ_ANEW_AFTER))
        };
        match bus.edits_after(&self.queue, mark).await {
            Ok(edits) => self.known().learn(edits, mark.is_none(), asked_at, self.clock.now()),
            Err(BusError::Refused(problem)) => {
                tracing::warn!(queue = %self.queue, problem, "edits can't be read; runs start as they were published");
                self.known().refused_until = Some(asked_at + REFUSED_FOR);
            }
            Err(problem) => return Err(problem),
        }
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn verdict(&self, job: &JobId, revision: Revision, stored_at: Timestamp, now: Duration) -> Newest {
        let is_covered = self.complete_since.is_none_or(|since| stored_at > since.plus(MARGIN));
        let is_superseded = self.newest.get(job).is_some_and(|newest| *newest > revision);
        match self.asked_at {
            Some(asked_at) if is_covered && !is_superseded => Newest::Yes { lapses_at: lapse(asked_at, now) },
            Some(_) | None => Newest::Unsure,
        }
    }

    fn learn(&mut self, edits: Edits, from_beginning: bool, asked_at: Duration, now: Timestamp) {
        let kept_since = from_beginning.then(|| now.plus_ms(-duration_ms(EDITS_AGE_MAX)));
        self.complete_since = self.complete_since.max(kept_since).max(edits.complete_since);
        if edits.mark.zip(self.mark).is_some_and(|(mark, before)| mark.sequence < before.sequence) {
            // Another stream, after the former was lost; revisions may have begun anew, too.
            self.newest.clear();
            self.complete_since = Some(now);
        }
        for edit in edits.edits {
            let newest = self.newest.entry(edit.job).or_insert(edit.revision);
            *newest = edit.revision.max(*newest);
        }
        if self.newest.len() > JOBS_REMEMBERED_MAX {
            self.newest.clear();
            self.complete_since = Some(now);
        }
        // Without one, nothing is kept: what was read before stays read.
        self.mark = edits.mark.or(self.mark);
        self.asked_at = Some(asked_at);
    }
}
