//! What the simulation saw with its own eyes: at the servers, in handlers, at the client. Each thing that is seen is held against the
//! invariants at once; `judge` does the rest when all is over. Their ids are those of docs/reliability.md.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ambient::Clock;
use bus::events::AttemptReport;
use bus::order::Order;
use bus::runs::Published;
use model::id::{Occurrence, RunId};
use model::limits::LOST_ATTEMPTS_MAX;
use model::run::Generation;
use model::shard::ShardId;
use model::time::Timestamp;
use store::lease::{Epoch, Role};
use store::memory::Deed;

/// A publisher's clock may differ from the store's by half of the round trip that measured it.
const EARLY_MAX_MS: i64 = 50;
/// A copy that comes later than this is stored as another message (a known limit).
const DEDUP_WINDOW: Duration = Duration::from_secs(600);
/// Violations that are told of one seed.
const TOLD_MAX: usize = 40;

/// What the sequence of a run's message was, and when it was stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message {
    pub(crate) generation: Generation,
    pub(crate) sequence: u64,
    pub(crate) at: Timestamp,
    /// The stream has lost it since.
    pub(crate) lost: bool,
    /// And gives its sequence to another one.
    pub(crate) replaced: bool,
}

/// What was seen of one run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Run {
    pub(crate) messages: Vec<Message>,
    pub(crate) begun: Vec<Timestamp>,
    /// Reports that ended it.
    pub(crate) ended: usize,
    /// Copies that the stream dropped.
    pub(crate) copies: usize,
}

#[derive(Clone, Debug)]
struct Holder {
    node: String,
    epoch: Epoch,
    expires_at: Timestamp,
}

/// What the store was seen to hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct StoreSeen {
    holders: BTreeMap<(ShardId, Role), Holder>,
    taken: BTreeMap<ShardId, Timestamp>,
    settled: BTreeMap<(Occurrence, Generation), String>,
}

#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) runs: BTreeMap<RunId, Run>,
    store: StoreSeen,
    /// Of all leases that were ever given.
    highest: BTreeMap<(ShardId, Role), Epoch>,
    pub(crate) violations: Vec<String>,
    pub(crate) violated: usize,
    /// Every leg of every operation, in order.
    pub(crate) digest: u64,
    pub(crate) legs: u64,
    pub(crate) settled: u64,
    pub(crate) old_copies: u64,
    pub(crate) store_lost_at: Option<Timestamp>,
    /// Sequences that the stream gave, lost, and gives again.
    given_again: BTreeSet<u64>,
}

/// Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    clock: Clock,
    seen: Arc<Mutex<Seen>>,
    traced: bool,
}

impl Watch {
    pub(crate) fn new(clock: Clock, traced: bool) -> Self {
        Self { clock, seen: Arc::default(), traced }
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn trace(&self, what: impl FnOnce() -> String) {
        if self.traced {
            println!("{} {}", self.now(), what());
        }
    }

    /// An operation's leg.
    pub(crate) fn note(&self, name: &str, what: u64) {
        let now = self.now().as_ms().unsigned_abs();
        let mut seen = self.seen();
        seen.legs += 1;
        seen.digest = mixed(mixed(seen.digest, now), what);
        for byte in name.bytes() {
            seen.digest = mixed(seen.digest, byte.into());
        }
    }

    pub(crate) fn saw(&self, node: &str, deed: &Deed<'_>) {
        let now = self.now();
        let mut seen = self.seen();
        match deed {
            Deed::Granted { shard, role, epoch, expires_at } => {
                let place = (*shard, *role);
                let before = seen.store.holders.get(&place);
                let renewed = before.is_some_and(|held| held.node == node && held.epoch == *epoch);
                if !renewed {
                    if let Some(held) = before.filter(|held| now < held.expires_at) {
                        let text = format!("{node} was given {place:?}, which {held:?} holds");
                        seen.violate(now, "I9", text);
                    }
                    if seen.highest.get(&place).is_some_and(|highest| epoch <= highest) {
                        let text =
                            format!("{node} was given {place:?} at {epoch:?}, not above {:?}", seen.highest);
                        seen.violate(now, "I8", text);
                    }
                    seen.highest.insert(place, *epoch);
                    self.trace(|| format!("{node} holds {place:?} as {}", epoch.0));
                }
                let holder = Holder { node: node.into(), epoch: *epoch, expires_at: *expires_at };
                seen.store.holders.insert(place, holder);
            }
            Deed::Released { shard, role } => {
                seen.store.holders.remove(&(*shard, *role));
            }
            Deed::Acted { shard, role, epoch, taken_until } => {
                let holder = seen.store.holders.get(&(*shard, *role));
                let is_his = holder
                    .is_some_and(|held| held.node == node && held.epoch == *epoch && now < held.expires_at);
                if !is_his {
                    let text = format!("{node} acted for {shard} as {role:?} {epoch:?}; holder: {holder:?}");
                    seen.violate(now, "I9", text);
                }
                let Some(taken_until) = taken_until else { return };
                let before = seen.store.taken.insert(*shard, *taken_until);
                if before.is_some_and(|before| *taken_until < before) {
                    seen.violate(
                        now,
                        "I20",
                        format!("{shard} was taken until {before:?}, now {taken_until}"),
                    );
                }
            }
            Deed::Settled { occurrence, generation, state } => {
                seen.settled += 1;
                self.trace(|| format!("{occurrence} is settled: {state:?}"));
                let run = (Occurrence::clone(occurrence), *generation);
                // Without its job's record the store keeps a few ends only, and forgets that one was there.
                let forgettable =
                    |before: &String| seen.store_lost_at.is_some() && *before == format!("{state:?}");
                let before = seen.store.settled.get(&run).filter(|before| !forgettable(before)).cloned();
                seen.store.settled.insert(run, format!("{state:?}"));
                if let Some(before) = before {
                    let text = format!("{occurrence} ended as {before}, and again as {state:?}");
                    seen.violate(now, "I6", text);
                }
            }
        }
    }

    pub(crate) fn published(&self, node: &str, order: &Order, published: &Published) {
        let now = self.now();
        let (run_id, generation) = (&order.run_id, order.generation);
        self.trace(|| format!("{node} published {run_id} as {published:?}"));
        let mut seen = self.seen();
        if now.plus_ms(EARLY_MAX_MS) < order.due_at {
            seen.violate(now, "I4", format!("{node} published {run_id} early"));
        }
        // Whoever has a lost message in hand answers for the one that took its place.
        let replaced = seen.given_again.contains(&published.sequence);
        let run = seen.runs.entry(run_id.clone()).or_default();
        if published.duplicate {
            run.copies += 1;
            return;
        }
        let standing =
            run.messages.iter().find(|known| known.generation == generation && !known.lost).copied();
        let message = Message { generation, sequence: published.sequence, at: now, lost: false, replaced };
        run.messages.push(message);
        match standing {
            Some(before) if now < before.at.plus(DEDUP_WINDOW) => {
                let text =
                    format!("{node} published {run_id} at {}, which is at {before:?}", published.sequence);
                seen.violate(now, "I6", text);
            }
            Some(_) => seen.old_copies += 1,
            None => {}
        }
    }

    /// A handler has been called.
    pub(crate) fn began(
        &self,
        node: &str,
        run_id: &RunId,
        due_at: Timestamp,
        attempt: u32,
        attempts_max: u32,
    ) {
        let now = self.now();
        self.trace(|| format!("{node} begins {run_id} #{attempt}"));
        let mut seen = self.seen();
        if now.plus_ms(EARLY_MAX_MS) < due_at {
            seen.violate(now, "I4", format!("{node} began {run_id} early"));
        }
        let run = seen.runs.entry(run_id.clone()).or_default();
        run.begun.push(now);
        // Each message of it, and there is more than one only if the stream lost some.
        let most = (attempts_max + LOST_ATTEMPTS_MAX) as usize * run.messages.len();
        if run.begun.len() > most {
            let begun = run.begun.len();
            seen.violate(
                now,
                "I12",
                format!("{run_id} began {begun} times, as attempt {attempt} of {attempts_max}"),
            );
        }
    }

    /// A report was stored.
    pub(crate) fn reported(&self, report: &AttemptReport) {
        self.trace(|| {
            format!(
                "{} reports {} #{}: {:?}",
                report.executor, report.run_id, report.end.attempt, report.ends_run
            )
        });
        if report.ends_run.is_some() {
            self.seen().runs.entry(report.run_id.clone()).or_default().ended += 1;
        }
    }

    pub(crate) fn violate(&self, id: &str, text: String) {
        let now = self.now();
        self.seen().violate(now, id, text);
    }

    /// What the store was seen to hold, to be given back when it is restored.
    pub(crate) fn store_seen(&self) -> StoreSeen {
        self.seen().store.clone()
    }

    /// The store lost everything, or what came after something was seen.
    pub(crate) fn store_lost(&self, since: Option<&StoreSeen>) {
        let now = self.now();
        let mut seen = self.seen();
        seen.store = since.cloned().unwrap_or_default();
        seen.store_lost_at = Some(now);
    }

    /// The stream lost all messages after a sequence; if it is the same stream, others are given theirs.
    pub(crate) fn runs_lost(&self, after: u64, replaced: bool) {
        let mut seen = self.seen();
        let Seen { runs, given_again, .. } = &mut *seen;
        for run in runs.values_mut() {
            let is_over = run.ended > 0;
            for message in run.messages.iter_mut().filter(|known| known.sequence > after && !known.lost) {
                given_again.insert(message.sequence);
                message.lost |= !is_over;
                message.replaced |= replaced && !is_over;
            }
        }
    }
}

impl Run {
    /// A message of it was lost and its sequence given to another one. Once that is acknowledged, nobody can tell (a known limit).
    pub(crate) fn is_mistakable(&self) -> bool {
        self.messages.iter().any(|message| message.replaced)
    }
}

impl Seen {
    fn violate(&mut self, at: Timestamp, id: &str, text: String) {
        self.violated += 1;
        if self.violations.len() < TOLD_MAX {
            self.violations.push(format!("{id} at {at}: {text}"));
        }
    }
}

fn mixed(digest: u64, what: u64) -> u64 {
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    (digest ^ what).wrapping_mul(PRIME)
}
