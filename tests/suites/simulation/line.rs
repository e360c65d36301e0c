//! A node's line to the servers, and its life. What becomes of an operation is decided at each of its two legs: it passes at once, takes
//! its time, lets others go first, is lost (before or after it was carried out), or never ends, because the node is dead.

use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ambient::Entropy;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use store::StoreError;
use store::memory::{Deed, Link};
use tokio::time::Instant;

use crate::watch::Watch;

/// How long a caller waits for an answer before it takes it for lost.
const DEADLINE: Duration = Duration::from_secs(3);
/// So often others may go first.
const YIELDS_MAX: u64 = 12;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    Store,
    Bus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leg {
    There,
    Back,
}

/// An operation or its answer is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// The caller knows that nothing happened.
    Refused,
    /// The caller heard nothing.
    Silent,
}

/// A stretch of bad weather, in percent of legs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    pub(crate) slow: u64,
    pub(crate) slow_max_ms: u64,
    pub(crate) lost: u64,
    /// Others go first.
    pub(crate) mixed: u64,
}

#[derive(Debug, Default)]
struct State {
    dead: bool,
    /// Legs until it dies.
    dies_in: Option<u64>,
    paused_until: Option<Instant>,
    cut_until: [Option<Instant>; 2],
    weather: Option<(Weather, Instant)>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    entropy: Entropy,
    /// Whether anything but passing can happen.
    troubled: AtomicBool,
    state: Mutex<State>,
    watch: Watch,
}

/// Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Line(Arc<Shared>);

impl Line {
    pub(crate) fn new(name: String, entropy: Entropy, watch: Watch) -> Self {
        let (troubled, state) = (AtomicBool::new(false), Mutex::default());
        Self(Arc::new(Shared { name, entropy, troubled, state, watch }))
    }

    pub(crate) fn name(&self) -> &str {
        &self.0.name
    }

    pub(crate) fn watch(&self) -> &Watch {
        &self.0.watch
    }

    fn trouble(&self) -> MutexGuard<'_, State> {
        self.0.troubled.store(true, Ordering::Relaxed);
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn troubled(&self) -> bool {
        self.0.troubled.load(Ordering::Relaxed)
    }

    pub(crate) fn die(&self) {
        self.trouble().dead = true;
    }

    /// It dies in the middle of what it does, after so many legs.
    pub(crate) fn die_in(&self, legs: u64) {
        self.trouble().dies_in = Some(legs);
    }

    /// Whether it is dead, or about to die.
    pub(crate) fn is_doomed(&self) -> bool {
        self.troubled() && {
            let state = self.trouble();
            state.dead || state.dies_in.is_some()
        }
    }

    pub(crate) fn pause(&self, duration: Duration) {
        self.trouble().paused_until = Some(Instant::now() + duration);
    }

    pub(crate) fn cut(&self, server: Server, duration: Duration) {
        self.trouble().cut_until[server as usize] = Some(Instant::now() + duration);
    }

    pub(crate) fn weather(&self, weather: Weather, duration: Duration) {
        self.trouble().weather = Some((weather, Instant::now() + duration));
    }

    /// All is well again, but for the dead.
    pub(crate) fn heal(&self) {
        let mut state = self.trouble();
        *state = State { dead: state.dead, ..State::default() };
        self.0.troubled.store(state.dead, Ordering::Relaxed);
    }

    pub(crate) fn is_cut(&self, server: Server) -> bool {
        self.troubled()
            && self.trouble().cut_until[server as usize].is_some_and(|until| Instant::now() < until)
    }

    /// Waits while the node stands still; for ever if it is dead.
    pub(crate) async fn lives(&self) {
        while self.troubled() {
            let (dead, paused_until) = {
                let state = self.trouble();
                (state.dead, state.paused_until)
            };
            if dead {
                pending::<()>().await;
            }
            match paused_until.filter(|until| Instant::now() < *until) {
                Some(until) => tokio::time::sleep_until(until).await,
                None => return,
            }
        }
    }

    fn leg(&self, server: Server, leg: Leg) -> Option<BoxFuture<'_, Result<(), Lost>>> {
        self.0.watch.note(self.name(), server as u64 * 2 + u64::from(leg == Leg::Back));
        self.troubled().then(|| self.travel(server).boxed())
    }

    fn draw(&self, below: u64) -> u64 {
        self.0.entropy.next_u64() % below
    }

    async fn travel(&self, server: Server) -> Result<(), Lost> {
        let weather = {
            let mut state = self.trouble();
            if let Some(left) = &mut state.dies_in {
                *left = left.saturating_sub(1);
                state.dead |= *left == 0;
            }
            state.weather.filter(|(_, until)| Instant::now() < *until).map(|(weather, _)| weather)
        };
        self.lives().await;
        let cut_until = self.trouble().cut_until[server as usize].filter(|until| Instant::now() < *until);
        if let Some(until) = cut_until {
            let deadline = Instant::now() + DEADLINE;
            tokio::time::sleep_until(until.min(deadline)).await;
            self.lives().await;
            if deadline <= until {
                return Err(Lost::Silent);
            }
        }
        let Some(weather) = weather else { return Ok(()) };
        if self.draw(100) < weather.mixed {
            for _ in 0..=self.draw(YIELDS_MAX) {
                tokio::task::yield_now().await;
            }
        }
        if self.draw(100) < weather.slow {
            tokio::time::sleep(Duration::from_millis(self.draw(weather.slow_max_ms + 1))).await;
        }
        let lost = self.draw(1_000) < weather.lost * 10;
        let lost = lost.then(|| if self.draw(2) == 0 { Lost::Refused } else { Lost::Silent });
        if lost == Some(Lost::Silent) {
            tokio::time::sleep(DEADLINE).await;
        }
        self.lives().await;
        lost.map_or(Ok(()), Err)
    }

    pub(crate) async fn there(&self, server: Server) -> Result<(), Lost> {
        match self.leg(server, Leg::There) {
            Some(leg) => leg.await,
            None => Ok(()),
        }
    }

    /// On the way back nobody can know that nothing happened.
    pub(crate) async fn back(&self, server: Server) -> Result<(), Lost> {
        match self.leg(server, Leg::Back) {
            Some(leg) => leg.await.map_err(|_| Lost::Silent),
            None => Ok(()),
        }
    }
}

fn store_error(lost: Lost) -> StoreError {
    match lost {
        Lost::Refused => StoreError::Failed("the simulation lost it".into()),
        Lost::Silent => StoreError::Unknown("the simulation lost it".into()),
    }
}

impl Link for Line {
    fn there(&self) -> Option<BoxFuture<'_, Result<(), StoreError>>> {
        let leg = self.leg(Server::Store, Leg::There)?;
        Some(leg.map(|passed| passed.map_err(store_error)).boxed())
    }

    fn back(&self) -> Option<BoxFuture<'_, Result<(), StoreError>>> {
        let leg = self.leg(Server::Store, Leg::Back)?;
        Some(leg.map(|passed| passed.map_err(|_| store_error(Lost::Silent))).boxed())
    }

    fn saw(&self, deed: &Deed<'_>) {
        self.0.watch.saw(self.name(), deed);
    }
}
