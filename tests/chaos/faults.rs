//! Which faults, when, and to whom: a function of the seed. Carrying them out is `inject`'s business.
//!
//! There are two lanes, each a sequence: what happens to servers, and what happens to nodes and their lines. So a server
//! and some node may ail at the same time, but the promise's own limit holds: never both stores at once.

use std::time::Duration;

use crate::dice::Dice;

/// What can be injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// SIGKILL, and a start on the same data a while later.
    RedisKill,
    /// FLUSHALL while everything runs.
    RedisFlush,
    /// SIGKILL; what was written in the last second or two is missing from the file, which ends in the middle of a command.
    RedisTailLost,
    /// SIGKILL; up to half a minute is missing.
    RedisRolledBack,
    /// SIGSTOP, SIGCONT.
    RedisPause,
    /// Every node's line to Redis is slow.
    RedisSlow,
    NatsKill,
    NatsPause,
    NatsSlow,
    /// A queue's consumer is deleted by hand.
    ConsumerDeleted,
    /// All planners and dispatchers die, and Redis is wiped before they are back.
    CrashAndFlush,
    PlannerKill,
    PlannerPause,
    PlannersGone,
    DispatcherKill,
    DispatcherPause,
    /// All of them, for longer than what counts as lateness.
    DispatchersGone,
    ExecutorKill,
    ExecutorPause,
    /// SIGTERM: the node says farewell, and another one comes.
    Leave,
    /// Another planner and another dispatcher for a while.
    Join,
    /// One node loses its lines to both servers; nothing is broken.
    Partition,
    LineStalled,
    LineCut,
    LineDeaf,
    LineSlow,
    /// A planner's or dispatcher's clock is wrong from its next start on.
    ClockOff,
}

/// Where a kind takes place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    Servers,
    Nodes,
}

/// A kind's name and lane, how long it lasts (ms, least and most), and how often it is dealt.
struct Row(Kind, &'static str, Lane, (u64, u64), usize);

const KINDS: [Row; 27] = [
    Row(Kind::RedisKill, "redis-kill", Lane::Servers, (100, 4_000), 2),
    Row(Kind::RedisFlush, "redis-flush", Lane::Servers, (0, 0), 2),
    Row(Kind::RedisTailLost, "redis-tail-lost", Lane::Servers, (100, 2_000), 1),
    Row(Kind::RedisRolledBack, "redis-rolled-back", Lane::Servers, (100, 2_000), 1),
    Row(Kind::RedisPause, "redis-pause", Lane::Servers, (500, 8_000), 1),
    Row(Kind::RedisSlow, "redis-slow", Lane::Servers, (2_000, 8_000), 1),
    Row(Kind::NatsKill, "nats-kill", Lane::Servers, (100, 4_000), 2),
    Row(Kind::NatsPause, "nats-pause", Lane::Servers, (500, 8_000), 1),
    Row(Kind::NatsSlow, "nats-slow", Lane::Servers, (2_000, 8_000), 1),
    Row(Kind::ConsumerDeleted, "consumer-deleted", Lane::Servers, (0, 0), 1),
    Row(Kind::CrashAndFlush, "crash-and-flush", Lane::Servers, (200, 4_000), 1),
    Row(Kind::PlannerKill, "planner-kill", Lane::Nodes, (200, 6_000), 2),
    Row(Kind::PlannerPause, "planner-pause", Lane::Nodes, (1_000, 9_000), 1),
    Row(Kind::PlannersGone, "planners-gone", Lane::Nodes, (3_000, 12_000), 1),
    Row(Kind::DispatcherKill, "dispatcher-kill", Lane::Nodes, (200, 6_000), 2),
    Row(Kind::DispatcherPause, "dispatcher-pause", Lane::Nodes, (1_000, 9_000), 2),
    Row(Kind::DispatchersGone, "dispatchers-gone", Lane::Nodes, (8_000, 14_000), 1),
    Row(Kind::ExecutorKill, "executor-kill", Lane::Nodes, (200, 6_000), 2),
    Row(Kind::ExecutorPause, "executor-pause", Lane::Nodes, (1_000, 9_000), 1),
    Row(Kind::Leave, "leave", Lane::Nodes, (500, 3_000), 2),
    Row(Kind::Join, "join", Lane::Nodes, (4_000, 10_000), 1),
    Row(Kind::Partition, "partition", Lane::Nodes, (2_000, 9_000), 2),
    Row(Kind::LineStalled, "line-stalled", Lane::Nodes, (1_000, 9_000), 2),
    Row(Kind::LineCut, "line-cut", Lane::Nodes, (100, 6_000), 1),
    Row(Kind::LineDeaf, "line-deaf", Lane::Nodes, (1_000, 9_000), 2),
    Row(Kind::LineSlow, "line-slow", Lane::Nodes, (2_000, 8_000), 1),
    Row(Kind::ClockOff, "clock-off", Lane::Nodes, (4_000, 12_000), 1),
];

impl Kind {
    fn row(self) -> &'static Row {
        KINDS.iter().find(|row| row.0 == self).unwrap_or(&KINDS[0])
    }

    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        self.row().1
    }

    pub(crate) fn all() -> impl Iterator<Item = Self> {
        KINDS.iter().map(|row| row.0)
    }

    #[must_use]
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::all().find(|kind| kind.name() == name)
    }

    /// Whether Redis forgets what it had acknowledged.
    #[must_use]
    pub(crate) fn forgets(self) -> bool {
        matches!(self, Self::RedisFlush | Self::RedisTailLost | Self::RedisRolledBack | Self::CrashAndFlush)
    }
}

/// A fault to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) kind: Kind,
    /// After the beginning of the faults.
    pub(crate) begins_after: Duration,
    pub(crate) lasts: Duration,
    /// For whoever carries it out to choose by: which node, how many bytes, …
    pub(crate) whim: u64,
}

/// The mean pause between two faults of a lane.
const PAUSE_MS: [(Lane, u64); 2] = [(Lane::Servers, 16_000), (Lane::Nodes, 7_000)];

/// One lane's faults within a time.
#[must_use]
pub(crate) fn schedule(seed: u64, lane: Lane, time: Duration, kinds: &[Kind]) -> Vec<Planned> {
    let mut dice = Dice::of(seed, if lane == Lane::Servers { "server faults" } else { "node faults" });
    let pause_ms = PAUSE_MS.iter().find(|(of, _)| *of == lane).map_or(10_000, |(_, ms)| *ms);
    let end_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let (mut planned, mut deck) = (Vec::new(), Vec::new());
    let mut at_ms = dice.between(0, pause_ms / 4);
    loop {
        // Dealt from a shuffled deck, so that every kind comes before one comes too often.
        if deck.is_empty() {
            deck = KINDS
                .iter()
                .filter(|row| row.2 == lane && kinds.contains(&row.0))
                .flat_map(|row| std::iter::repeat_n(row.0, row.4))
                .collect();
            dice.shuffle(&mut deck);
        }
        let Some(kind) = deck.pop() else { return planned };
        let (least, most) = kind.row().3;
        let lasts_ms = dice.between(least, most);
        if at_ms + lasts_ms > end_ms {
            return planned;
        }
        let whim = dice.below(u64::MAX);
        planned.push(Planned {
            kind,
            begins_after: Duration::from_millis(at_ms),
            lasts: Duration::from_millis(lasts_ms),
            whim,
        });
        at_ms += lasts_ms + dice.between(pause_ms / 4, pause_ms * 7 / 4);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_seed_repeats_its_faults_and_an_hour_has_enough_of_them() {
        let all: Vec<Kind> = Kind::all().collect();
        let hour = Duration::from_secs(3_600);
        let both = |seed| {
            let mut faults = schedule(seed, Lane::Servers, hour, &all);
            faults.extend(schedule(seed, Lane::Nodes, hour, &all));
            faults
        };
        assert_eq!(both(1), both(1));
        assert_ne!(both(1), both(2));
        assert!(both(1).len() >= 300, "{}", both(1).len());
        let kinds: BTreeSet<Kind> = both(1).iter().map(|fault| fault.kind).collect();
        assert_eq!(kinds.len(), KINDS.len());
    }

    #[test]
    fn even_three_minutes_have_ten_kinds() {
        let all: Vec<Kind> = Kind::all().collect();
        let time = Duration::from_secs(110);
        for seed in 0..20 {
            let kinds: BTreeSet<Kind> = [Lane::Servers, Lane::Nodes]
                .into_iter()
                .flat_map(|lane| schedule(seed, lane, time, &all))
                .map(|fault| fault.kind)
                .collect();
            assert!(kinds.len() >= 9, "seed {seed}: {kinds:?}");
        }
    }

    #[test]
    fn names_are_told_apart() {
        let names: BTreeSet<&str> = Kind::all().map(Kind::name).collect();
        assert_eq!(names.len(), KINDS.len());
        assert_eq!(Kind::named("leave"), Some(Kind::Leave));
    }
}
