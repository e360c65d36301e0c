//! Shared by the schedule tests: a seeded generator, short ways to a schedule, and instants.
#![allow(dead_code, reason = "each test crate uses its own part")]

use ecron_model::schedule::{
    Dialect, Fold, Gap, Identity, Schedule, ScheduleProblem, ScheduleSpec, no_calendars,
};
use ecron_model::time::Timestamp;

/// SplitMix64: a failing case is named by its seed alone.
pub(crate) struct Seeded(pub(crate) u64);

impl Seeded {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// In `0..below`.
    pub(crate) fn below(&mut self, below: u64) -> u64 {
        self.next() % below
    }

    /// In `low..=high`.
    pub(crate) fn between(&mut self, low: i64, high: i64) -> i64 {
        low + i64::try_from(self.below(u64::try_from(high - low + 1).unwrap())).unwrap()
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<'t, T: ?Sized>(&mut self, of: &[&'t T]) -> &'t T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }
}

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(crate) fn cron(expression: &str, dialect: Dialect, zone: &str) -> ScheduleSpec {
    ScheduleSpec {
        cron: vec![expression.to_owned()],
        dialect: Some(dialect),
        time_zone: Some(zone.to_owned()),
        ..ScheduleSpec::default()
    }
}

pub(crate) fn with_policy(spec: ScheduleSpec, gap: Gap, fold: Fold) -> ScheduleSpec {
    ScheduleSpec { gap: Some(gap), fold: Some(fold), ..spec }
}

pub(crate) fn try_compile(spec: &ScheduleSpec) -> Result<Schedule, Vec<ScheduleProblem>> {
    let identity = Identity { job: "tests/job", created_at: at("2026-01-01T00:00:00Z") };
    Schedule::compile(spec, &identity, &no_calendars)
}

pub(crate) fn compile(spec: &ScheduleSpec) -> Schedule {
    try_compile(spec).unwrap_or_else(|problems| panic!("{spec:?}: {problems:?}"))
}

/// One random item list for a numeric field of the rules that every dialect shares: values, ranges, steps on ranges.
pub(crate) fn field(seed: &mut Seeded, low: i64, high: i64) -> String {
    let items = 1 + seed.below(3);
    let mut text = Vec::new();
    for _ in 0..items {
        let from = seed.between(low, high);
        let to = seed.between(from, high);
        text.push(match seed.below(4) {
            0 if from < to => format!("{from}-{to}"),
            1 if from < to => format!("{from}-{to}/{}", seed.between(1, to - from)),
            _ => from.to_string(),
        });
    }
    text.join(",")
}
