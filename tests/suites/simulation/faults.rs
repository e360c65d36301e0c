//! What goes wrong, as a seed has it.

use std::time::Duration;

use ambient::Entropy;

use crate::cluster::Kind;
use crate::line::Weather;

/// What servers may lose within one simulation. Both at once is more than is promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Losing {
    Nothing,
    Store,
    Bus,
}

#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// A process dies, after so many legs of its operations, and comes back.
    Crash {
        host: usize,
        legs: u64,
        away: Duration,
    },
    /// A process is told to stop, and a successor starts.
    Leave {
        host: usize,
        away: Duration,
    },
    /// All processes of a kind are gone.
    Gone {
        kind: Kind,
        away: Duration,
    },
    /// A process stands still, and goes on with what it believed.
    Pause {
        host: usize,
        lasts: Duration,
    },
    /// A process is cut off from the store, from the bus, or from both.
    Cut {
        host: usize,
        store: bool,
        bus: bool,
        lasts: Duration,
    },
    /// A process' line is slow and lossy.
    Rough {
        host: usize,
        weather: Weather,
        lasts: Duration,
    },
    /// Everybody's line is.
    Storm {
        weather: Weather,
        lasts: Duration,
    },
    /// A host's clock is stepped, and maybe set right again.
    Clock {
        host: usize,
        by_ms: i64,
        back_after: Option<Duration>,
    },
    StoreAway {
        lasts: Duration,
    },
    BusAway {
        lasts: Duration,
    },
    StoreWiped,
    /// The store is as it was so long ago.
    StoreRolledBack {
        by: Duration,
    },
    IdsForgotten,
    NewestRunsLost {
        count: usize,
    },
    RunsLost,
    /// Everything that is in somebody's hands is delivered once more.
    DeliveredAgain,
}

/// Draws what goes wrong, and when.
#[derive(Debug)]
pub(crate) struct Dice {
    entropy: Entropy,
    pub(crate) losing: Losing,
    mean_gap_ms: u64,
}

const SECOND_MS: i64 = 1_000;
const HOUR_MS: i64 = 3_600 * SECOND_MS;
const STEPS_MS: [i64; 12] = [
    300,
    -300,
    20 * SECOND_MS,
    -20 * SECOND_MS,
    70 * SECOND_MS,
    -70 * SECOND_MS,
    5 * SECOND_MS,
    -5 * SECOND_MS,
    HOUR_MS,
    -HOUR_MS,
    24 * HOUR_MS,
    -24 * HOUR_MS,
];

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        let entropy = Entropy::seeded(seed);
        let mut dice = Self { entropy, losing: Losing::Nothing, mean_gap_ms: 0 };
        dice.losing = dice.pick(&[Losing::Nothing, Losing::Store, Losing::Store, Losing::Bus, Losing::Bus]);
        dice.mean_gap_ms = dice.pick(&[20_000, 60_000, 240_000, 900_000]);
        dice
    }

    pub(crate) fn below(&self, bound: u64) -> u64 {
        self.entropy.next_u64() % bound.max(1)
    }

    pub(crate) fn chance(&self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<T: Clone>(&self, items: &[T]) -> T {
        items[self.below(items.len() as u64) as usize].clone()
    }

    /// Short ones are as likely as long ones.
    fn between(&self, least_ms: u64, most_ms: u64) -> Duration {
        let octaves: u64 = (most_ms / least_ms.max(1)).max(1).ilog2().into();
        let least_ms = least_ms << self.below(octaves + 1);
        Duration::from_millis((least_ms + self.below(least_ms)).min(most_ms))
    }

    pub(crate) fn gap(&self) -> Duration {
        Duration::from_millis(self.below(2 * self.mean_gap_ms) + 1)
    }

    fn weather(&self) -> Weather {
        Weather {
            slow: self.pick(&[0, 10, 50]),
            slow_max_ms: self.pick(&[5, 40, 400, 2_500]),
            lost: self.pick(&[0, 2, 10, 30]),
            mixed: self.pick(&[0, 50, 100]),
        }
    }

    pub(crate) fn fault(&self, hosts: usize) -> Fault {
        let host = self.below(hosts as u64) as usize;
        let kind = self.pick(&[Kind::Planner, Kind::Dispatcher, Kind::Executor]);
        match self.below(100) {
            0..=24 => {
                let legs = self.pick(&[1, 2, 3, 5, 8, 13, 30]) + self.below(6);
                Fault::Crash { host, legs, away: self.between(200, 60_000) }
            }
            25..=31 => Fault::Leave { host, away: self.between(1, 10_000) },
            // A dispatcher that stays away for longer than the stream remembers ids is a known limit.
            32..=36 => {
                let most_ms = if kind == Kind::Dispatcher { 420_000 } else { 7_200_000 };
                Fault::Gone { kind, away: self.between(1_000, most_ms) }
            }
            37..=46 => Fault::Pause { host, lasts: self.between(500, 60_000) },
            47..=56 => {
                let (store, bus) = self.pick(&[(true, false), (false, true), (true, true)]);
                Fault::Cut { host, store, bus, lasts: self.between(500, 120_000) }
            }
            57..=66 => Fault::Rough { host, weather: self.weather(), lasts: self.between(5_000, 300_000) },
            67..=72 => Fault::Storm { weather: self.weather(), lasts: self.between(2_000, 60_000) },
            73..=79 => {
                let back_after = self.chance(70).then(|| self.between(100, 600_000));
                Fault::Clock { host, by_ms: self.pick(&STEPS_MS), back_after }
            }
            80..=83 => Fault::StoreAway { lasts: self.between(200, 120_000) },
            84..=87 => Fault::BusAway { lasts: self.between(200, 120_000) },
            88..=90 => Fault::DeliveredAgain,
            _ => match self.losing {
                Losing::Nothing => Fault::Pause { host, lasts: self.between(3_000, 600_000) },
                Losing::Store if self.chance(40) => Fault::StoreWiped,
                Losing::Store => Fault::StoreRolledBack { by: self.between(100, 60_000) },
                Losing::Bus => match self.below(4) {
                    0 => Fault::RunsLost,
                    1 => Fault::NewestRunsLost { count: 1 + self.below(20) as usize },
                    _ => Fault::IdsForgotten,
                },
            },
        }
    }
}
