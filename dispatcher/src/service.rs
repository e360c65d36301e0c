//! A dispatcher at work: leases, a loop for each owned shard, settling and checkpoints, until it is told to stop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ambient::{Clock, Shutdown};
use futures_util::StreamExt;
use model::shard::{ShardCount, ShardId};
use model::time::{Timestamp, duration_ms};
use store::lease::Role;
use store::node::Node;
use store::ownership::{Lease, Ownership, RENEW_INTERVAL};
use store::{Store, StoreError};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::DispatcherBus;
use crate::barrier::Barrier;
use crate::cancel::Canceller;
use crate::checkpoint::{self, Progress};
use crate::gate::Gates;
use crate::gate_keeper::GateKeeper;
use crate::jobs::Jobs;
use crate::queue_rules::QueueRules;
use crate::reconcile::{RECONCILE_INTERVAL, Reconciler};
use crate::settle::Settler;
use crate::shard::{POLL_INTERVAL, PassError, ShardDispatch, ShardReport, TAKE_AHEAD};
use crate::turns::Turns;

/// Passes begin on this grid, so that the shards' scripts reach the store together: twenty at once wake it (and us) hardly
/// more often than one.
const PASS_GRID: Duration = Duration::from_millis(8);

/// The wait before a pass is tried again after a server failed or something stayed unpublished.
const RETRY_DELAY: Duration = Duration::from_millis(250);

/// The wait before a pass after one whose entries changed under it: long enough not to spin.
const LOOK_AGAIN_DELAY: Duration = Duration::from_millis(2);

/// Who this dispatcher is.
#[derive(Clone, Debug)]
pub struct DispatcherConfig {
    pub node: Node,
    pub shards: ShardCount,
    pub message_id_key: [u8; 16],
}

#[derive(Debug)]
pub struct Dispatcher<S, B> {
    store: Arc<S>,
    bus: Arc<B>,
    clock: Clock,
    config: DispatcherConfig,
    jobs: Jobs,
    progress: Progress,
    barrier: Barrier,
    turns: Turns,
    gates: Gates<S, B>,
}

/// A shard's loop, and how to wake or end it.
#[derive(Debug)]
struct ShardLoop {
    lease: Lease,
    wake: Arc<Notify>,
    stop: Shutdown,
    task: JoinHandle<()>,
}

impl<S: Store, B: DispatcherBus> Dispatcher<S, B> {
    #[must_use]
    pub fn new(store: Arc<S>, bus: Arc<B>, clock: Clock, config: DispatcherConfig) -> Self {
        let barrier = Barrier::new(clock.clone());
        let (rules, shards) = (QueueRules::default(), config.shards);
        let gates = Gates::new(Arc::clone(&store), Arc::clone(&bus), clock.clone(), shards, rules);
        Self {
            store,
            bus,
            clock,
            config,
            jobs: Jobs::default(),
            progress: Progress::default(),
            barrier,
            turns: Turns::default(),
            gates,
        }
    }

    /// Works until shutdown; then finishes the passes under way and gives its leases back.
    pub async fn run(self, shutdown: Shutdown) {
        let settler = Settler::new(self.gates.clone());
        tokio::join!(
            self.own(&shutdown),
            settler.run(&shutdown),
            self.gates.rules.run(&*self.bus, &self.clock, &shutdown),
            checkpoint::run(&*self.bus, &self.config.node.id, &self.progress, &self.clock, &shutdown),
        );
    }

    async fn own(&self, shutdown: &Shutdown) {
        let mut ownership = Ownership::new(Role::Dispatcher, &self.config.node.id, self.config.shards);
        let mut loops: BTreeMap<ShardId, ShardLoop> = BTreeMap::new();
        let mut nudges = futures_util::stream::empty().boxed();
        let mut ailing = false;
        let mut nudged = false;
        while !shutdown.stopping() {
            if !nudged {
                // Without nudges, near work waits for the poll: so subscribing may fail and be tried again.
                match self.bus.nudges().await {
                    Ok(stream) => (nudges, nudged) = (stream, true),
                    Err(problem) => tracing::debug!(%problem, "no nudges yet"),
                }
            }
            match self.beat(&mut ownership, &mut loops).await {
                Ok(()) => ailing = false,
                Err(problem) => {
                    if !ailing {
                        tracing::warn!(%problem, "dispatching waits for the store");
                    }
                    ailing = true;
                }
            }
            let next_beat = self.clock.sleep(RENEW_INTERVAL);
            tokio::pin!(next_beat);
            loop {
                tokio::select! {
                    biased;
                    () = shutdown.stopped() => break,
                    () = &mut next_beat => break,
                    nudge = nudges.next(), if nudged => match nudge {
                        Some(shard) => if let Some(known) = loops.get(&shard) { known.wake.notify_one() },
                        None => nudged = false,
                    },
                }
            }
        }
        self.farewell(ownership, loops).await;
    }

    async fn beat(
        &self,
        ownership: &mut Ownership,
        loops: &mut BTreeMap<ShardId, ShardLoop>,
    ) -> Result<(), StoreError> {
        // Against the clock as it is corrected already, so that a sample that tells nothing new changes nothing.
        let offset_ms = self.clock.offset_ms();
        let corrected = || self.clock.local_now().plus_ms(offset_ms);
        let (change, sample) = ownership.beat(&*self.store, &self.config.node, corrected).await?;
        self.clock.set_offset_ms(offset_ms + sample.correction_ms());
        for shard in change.lost {
            self.end_loop(loops, shard).await;
        }
        for lease in change.gained {
            self.end_loop(loops, lease.shard).await;
            loops.insert(lease.shard, self.begin_loop(lease));
        }
        if !change.surplus.is_empty() {
            for shard in &change.surplus {
                self.end_loop(loops, *shard).await;
            }
            ownership.give_back(&*self.store, &change.surplus).await?;
        }
        // A loop that ended by itself (fenced) while its lease is still ours begins anew.
        for lease in ownership.held().values() {
            if loops.get(&lease.shard).is_none_or(|known| known.task.is_finished()) {
                loops.insert(lease.shard, self.begin_loop(lease.clone()));
            }
        }
        Ok(())
    }

    fn begin_loop(&self, lease: Lease) -> ShardLoop {
        let wake = Arc::new(Notify::new());
        let stop = Shutdown::new();
        let shard = ShardDispatch::new(
            self.gates.clone(),
            self.jobs.clone(),
            self.config.message_id_key,
            lease.clone(),
            self.barrier.clone(),
        )
        .in_line(self.turns.clone());
        let reconciler = Reconciler {
            gates: self.gates.clone(),
            jobs: self.jobs.clone(),
            message_id_key: self.config.message_id_key,
            barrier: self.barrier.clone(),
        };
        let keeper = GateKeeper::new(self.gates.clone(), self.jobs.clone(), lease.shard);
        let canceller = Canceller { gates: self.gates.clone(), message_id_key: self.config.message_id_key };
        let beside = Beside { reconciler, keeper, canceller };
        let loop_ = run_shard(shard, beside, self.progress.clone(), Arc::clone(&wake), stop.clone());
        ShardLoop { lease, wake, stop, task: tokio::spawn(loop_) }
    }

    async fn end_loop(&self, loops: &mut BTreeMap<ShardId, ShardLoop>, shard: ShardId) {
        let Some(known) = loops.remove(&shard) else { return };
        known.stop.stop();
        known.wake.notify_one();
        if let Err(problem) = known.task.await {
            tracing::error!(%shard, epoch = known.lease.epoch.0, %problem, "a shard's loop broke");
        }
    }

    async fn farewell(&self, mut ownership: Ownership, mut loops: BTreeMap<ShardId, ShardLoop>) {
        for known in loops.values() {
            known.stop.stop();
            known.wake.notify_one();
        }
        while let Some((_, known)) = loops.pop_first() {
            if let Err(problem) = known.task.await {
                tracing::error!(%problem, "a shard's loop broke");
            }
        }
        let held: Vec<ShardId> = ownership.held().keys().copied().collect();
        let leave = async {
            ownership.give_back(&*self.store, &held).await?;
            self.store.forget(&self.config.node.id).await
        };
        if let Err(problem) = leave.await {
            tracing::warn!(%problem, "the dispatcher's leases run out by themselves");
        }
    }
}

/// What works beside a shard's passes.
struct Beside<S, B> {
    reconciler: Reconciler<S, B>,
    keeper: GateKeeper<S, B>,
    canceller: Canceller<S, B>,
}

/// One shard's work: passes at every due instant, nudge or poll; beside them, the reconciler and the keeper of its gates now and
/// then, and the canceller when a pass says that there is a run to be stopped.
async fn run_shard<S: Store, B: DispatcherBus>(
    shard: ShardDispatch<S, B>,
    Beside { reconciler, keeper, canceller }: Beside<S, B>,
    progress: Progress,
    wake: Arc<Notify>,
    stop: Shutdown,
) {
    let lease = shard.lease.clone();
    let clock = shard.clock.clone();
    let cancels = Notify::new();
    tokio::select! {
        biased;
        () = dispatch(shard, progress, wake, &cancels, &stop) => {}
        () = reconcile(reconciler, &lease, &clock) => {}
        () = keep(keeper, &clock) => {}
        () = cancel(canceller, &lease, &clock, &cancels) => {}
    }
}

async fn dispatch<S: Store, B: DispatcherBus>(
    mut shard: ShardDispatch<S, B>,
    progress: Progress,
    wake: Arc<Notify>,
    cancels: &Notify,
    stop: &Shutdown,
) {
    let clock = shard.clock.clone();
    let lease = shard.lease.clone();
    let mut ailing = false;
    while !stop.stopping() && lease.is_valid() {
        let wait_until = match shard.run_once(clock.now()).await {
            Ok(report) => {
                if report.unpublished > 0 && !ailing {
                    let problem = shard.last_problem.as_deref().unwrap_or("their jobs changed meanwhile");
                    let runs = report.unpublished;
                    tracing::warn!(shard = %lease.shard, runs, problem, "runs aren't published yet; they are tried again");
                }
                ailing = report.unpublished > 0;
                if let Some(until) = report.dispatched_until {
                    progress.note(lease.shard, until);
                }
                if report.cancels_at.is_some_and(|at| at <= clock.now()) {
                    cancels.notify_one();
                }
                next_pass_at(&report, clock.now())
            }
            Err(PassError::Store(StoreError::Fenced)) => return,
            Err(problem) => {
                if !ailing {
                    tracing::warn!(shard = %lease.shard, %problem, "dispatching waits for the servers");
                }
                ailing = true;
                clock.now().plus(RETRY_DELAY)
            }
        };
        tokio::select! {
            biased;
            () = wake.notified() => {}
            () = clock.sleep_until(wait_until) => {}
        }
    }
}

/// Returns only when the shard has another owner. It may be dropped at any await: every step is safe to repeat.
async fn reconcile<S: Store, B: DispatcherBus>(reconciler: Reconciler<S, B>, lease: &Lease, clock: &Clock) {
    loop {
        clock.sleep(RECONCILE_INTERVAL).await;
        match reconciler.run_once(lease, clock.now()).await {
            Ok(_) => {}
            Err(PassError::Store(StoreError::Fenced)) => return,
            Err(problem) => {
                tracing::debug!(shard = %lease.shard, %problem, "reconciling is tried again later")
            }
        }
    }
}

/// Never returns; like reconciling, it may be dropped at any await.
async fn keep<S: Store, B: DispatcherBus>(mut keeper: GateKeeper<S, B>, clock: &Clock) {
    loop {
        let next = match keeper.run_once(clock.now()).await {
            Ok(next) => next,
            Err(problem) => {
                tracing::debug!(%problem, "keeping the gates is tried again");
                clock.now().plus(RETRY_DELAY)
            }
        };
        clock.sleep_until(next.max(clock.now().plus_ms(1))).await;
    }
}

/// Returns only when the shard has another owner. It may be dropped at any await, too.
async fn cancel<S: Store, B: DispatcherBus>(
    canceller: Canceller<S, B>,
    lease: &Lease,
    clock: &Clock,
    wanted: &Notify,
) {
    loop {
        wanted.notified().await;
        match canceller.run_once(lease, clock.now()).await {
            Ok(_) => {}
            Err(PassError::Store(StoreError::Fenced)) => return,
            Err(problem) => {
                tracing::debug!(shard = %lease.shard, %problem, "cancelling is tried again later")
            }
        }
    }
}

/// When a shard should be looked at again.
fn next_pass_at(report: &ShardReport, now: Timestamp) -> Timestamp {
    if report.unpublished > 0 {
        return now.plus(RETRY_DELAY);
    }
    if report.more {
        return now;
    }
    if report.undecided > 0 {
        return now.plus(LOOK_AGAIN_DELAY);
    }
    let poll_at = on_grid(now.plus(POLL_INTERVAL), POLL_INTERVAL);
    // A grid's step before an entry is due enough is early enough for any in between.
    let ahead_ms = duration_ms(TAKE_AHEAD - PASS_GRID);
    // One whose time has come already is in the canceller's hands.
    let poll_at = report.cancels_at.filter(|at| *at > now).map_or(poll_at, |at| poll_at.min(at));
    let Some(due_at) = report.next_due else { return poll_at };
    let pass_at = on_grid(due_at.plus_ms(1 - ahead_ms), PASS_GRID);
    // What is due but not planned to the end yet can't be taken: ask again, but not in circles.
    let soonest = if report.published == 0 { on_grid(now.plus(PASS_GRID), PASS_GRID) } else { now };
    poll_at.min(pass_at.max(soonest))
}

/// The last instant of a grid that is not after this one.
fn on_grid(at: Timestamp, step: Duration) -> Timestamp {
    at.plus_ms(-at.as_ms().rem_euclid(duration_ms(step)))
}

/// After a failed step of a loop: says why, and waits a little or until shutdown.
pub(crate) async fn pause_after(
    problem: &(dyn std::fmt::Display + Sync),
    what: &str,
    clock: &Clock,
    shutdown: &Shutdown,
) {
    tracing::warn!(%problem, "{what} waits for the servers");
    tokio::select! {
        biased;
        () = shutdown.stopped() => {}
        () = clock.sleep(RETRY_DELAY) => {}
    }
}
