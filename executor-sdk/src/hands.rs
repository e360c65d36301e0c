//! What an executor has in hand, and which runs it was told to end: where a cancel signal meets an attempt.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ambient::{Clock, Shutdown};
use bus::cancel::{CancelNotice, CancelRequest};
use bus::{BusError, CancelListener};
use futures_util::StreamExt as _;
use model::id::RunId;
use model::name::QueueId;
use model::run::Generation;
use tokio_util::sync::CancellationToken;

/// Signals about runs that aren't in hand which an executor remembers; further ones push the oldest out. Whoever
/// cancels repeats itself, so that a forgotten one costs time only.
const CANCELS_REMEMBERED_MAX: usize = 10_000;
/// A signal is remembered for so many ack waits: by then a delivery that was on its way has come.
const CANCEL_REMEMBERED_ACK_WAITS: u32 = 2;
/// The pause before the signals are listened to again, after the bus was lost.
const LISTEN_AGAIN_AFTER: Duration = Duration::from_secs(1);

type Key = (RunId, Generation);

/// The runs in an executor's hands. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Hands(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    clock: Clock,
    remembered_for: Duration,
    next: u64,
    /// By a number: one run may be here twice, delivered again after a stall.
    held: HashMap<u64, (Key, Grip)>,
    /// Signals for runs that weren't here, and until when they count.
    told: HashMap<Key, (CancelRequest, Duration)>,
}

/// A run in hand: fires when it is to end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Grip {
    cancelled: CancellationToken,
    request: Arc<Mutex<Option<CancelRequest>>>,
}

/// Lets go of a run when dropped.
#[derive(Debug)]
pub(crate) struct Held {
    hands: Hands,
    number: u64,
    grip: Grip,
}

impl Grip {
    fn cancel(&self, request: &CancelRequest) {
        lock(&self.request).get_or_insert_with(|| request.clone());
        self.cancelled.cancel();
    }

    /// Fires when the run is to end.
    pub(crate) fn cancelled(&self) -> &CancellationToken {
        &self.cancelled
    }

    /// Who ended it, and why, if anybody did.
    pub(crate) fn request(&self) -> Option<CancelRequest> {
        lock(&self.request).clone()
    }
}

impl Held {
    pub(crate) fn grip(&self) -> &Grip {
        &self.grip
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        lock(&self.hands.0).held.remove(&self.number);
    }
}

impl Hands {
    pub(crate) fn new(clock: &Clock, ack_wait: Duration) -> Self {
        Self(Arc::new(Mutex::new(State {
            clock: clock.clone(),
            remembered_for: ack_wait * CANCEL_REMEMBERED_ACK_WAITS,
            next: 0,
            held: HashMap::new(),
            told: HashMap::new(),
        })))
    }

    /// Takes a run in hand. If it was cancelled before it came, its grip has fired already.
    pub(crate) fn take(&self, run_id: &RunId, generation: Generation) -> Held {
        let (key, grip) = ((run_id.clone(), generation), Grip::default());
        let mut state = lock(&self.0);
        let now = state.clock.monotonic();
        if let Some((request, _)) = state.told.get(&key).filter(|(_, until)| now < *until) {
            grip.cancel(request);
        }
        let number = state.next;
        state.next += 1;
        state.held.insert(number, (key, grip.clone()));
        Held { hands: self.clone(), number, grip }
    }

    /// A signal: `true` if the run is in hand. Otherwise it is remembered for a while.
    pub(crate) fn cancel(&self, request: &CancelRequest) -> bool {
        let key = (request.run_id.clone(), request.generation);
        let mut state = lock(&self.0);
        let mut found = false;
        for (_, grip) in state.held.values().filter(|(held, _)| *held == key) {
            grip.cancel(request);
            found = true;
        }
        // Also if it is in hand: a copy of it may come.
        state.remember(key, request);
        found
    }

    /// Listens to a queue's signals until stopping is asked for. Attempts that are draining are still in hand, but by
    /// then whoever cancels has other means.
    pub(crate) async fn listen<B: CancelListener>(
        &self,
        bus: &B,
        queue: &QueueId,
        clock: &Clock,
        stop: &Shutdown,
    ) {
        let mut warned = false;
        while !stop.stopping() {
            let problem = match bus.cancels(queue).await {
                Ok(mut notices) => {
                    while let Some(Some(notice)) = stop.unless_stopped(notices.next()).await {
                        self.hear(&notice).await;
                    }
                    BusError::Failed("the subscription ended".into())
                }
                Err(problem) => problem,
            };
            if !warned && !stop.stopping() {
                tracing::warn!(%queue, %problem, "cancel signals aren't heard; trying until they are");
                warned = true;
            }
            stop.unless_stopped(clock.sleep(LISTEN_AGAIN_AFTER)).await;
        }
    }

    async fn hear(&self, notice: &impl CancelNotice) {
        let request = notice.request();
        let in_hand = self.cancel(request);
        tracing::info!(run = %request.run_id, in_hand, by = request.by, reason = request.reason, "told to cancel a run");
        if in_hand && let Err(problem) = notice.in_hand().await {
            tracing::debug!(run = %request.run_id, %problem, "failed to answer a cancel signal");
        }
    }
}

impl State {
    fn remember(&mut self, key: Key, request: &CancelRequest) {
        let now = self.clock.monotonic();
        if self.told.len() >= CANCELS_REMEMBERED_MAX {
            self.told.retain(|_, (_, until)| now < *until);
        }
        if self.told.len() >= CANCELS_REMEMBERED_MAX
            && let Some(oldest) =
                self.told.iter().min_by_key(|(_, (_, until))| *until).map(|(key, _)| key.clone())
        {
            self.told.remove(&oldest);
        }
        self.told.insert(key, (request.clone(), now + self.remembered_for));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use model::time::Timestamp;

    use super::*;

    fn request(run: &str) -> CancelRequest {
        CancelRequest {
            queue: "billing/reports".parse().unwrap(),
            run_id: run.parse().unwrap(),
            generation: Generation(0),
            by: None,
            reason: None,
        }
    }

    fn hands() -> (Hands, Clock) {
        let clock = Clock::manual(Timestamp::from_ms(0));
        (Hands::new(&clock, Duration::from_secs(30)), clock)
    }

    #[test]
    fn a_signal_reaches_the_run_of_its_generation_only() {
        let (hands, _) = hands();
        let wanted = request("billing/reports~1");
        let (held, twice) =
            (hands.take(&wanted.run_id, Generation(0)), hands.take(&wanted.run_id, Generation(0)));
        let others =
            [hands.take(&wanted.run_id, Generation(1)), hands.take(&request("a/b~1").run_id, Generation(0))];
        assert!(hands.cancel(&wanted));
        for held in [&held, &twice] {
            assert!(held.grip().cancelled().is_cancelled());
            assert_eq!(held.grip().request(), Some(wanted.clone()));
        }
        assert!(others.iter().all(|held| !held.grip().cancelled().is_cancelled()));
        drop((held, twice));
        assert!(!hands.cancel(&wanted));
    }

    #[test]
    fn a_signal_that_came_first_is_remembered_for_two_ack_waits() {
        let (hands, clock) = hands();
        let wanted = request("billing/reports~1");
        assert!(!hands.cancel(&wanted));
        clock.advance(Duration::from_secs(59));
        assert!(hands.take(&wanted.run_id, Generation(0)).grip().cancelled().is_cancelled());
        clock.advance(Duration::from_secs(1));
        assert!(!hands.take(&wanted.run_id, Generation(0)).grip().cancelled().is_cancelled());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (hands, clock) = hands();
        for number in 0..=CANCELS_REMEMBERED_MAX {
            clock.advance(Duration::from_nanos(1));
            hands.cancel(&request(&format!("billing/reports~{number}")));
        }
        let told = |number: usize| {
            let held = hands.take(&request(&format!("billing/reports~{number}")).run_id, Generation(0));
            held.grip().cancelled().is_cancelled()
        };
        assert_eq!([0, 1, CANCELS_REMEMBERED_MAX].map(told), [false, true, true]);
    }
}
