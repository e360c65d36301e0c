//! Which dead letters a command means.

use bus::dead::DeadReason;
use console::letters::{LetterFilter, LetterPick};
use model::time::Timestamp;

use super::args::{FilterArgs, Reason};
use crate::failure::Failure;

/// The filters of the command line, checked.
pub(super) fn picked_by(args: &FilterArgs, now: Timestamp) -> Result<LetterPick, Failure> {
    let filter = LetterFilter {
        job: args.job.clone(),
        queue: args.queue.clone(),
        namespace: args.namespace.clone(),
        error: args.error.clone(),
        reason: args.reason.map(Reason::reason),
        older_than: args.older_than,
        newer_than: args.newer_than,
    };
    LetterPick::of(&filter, now).map_err(|problem| Failure::input(format!("failed to {problem}")))
}

impl Reason {
    fn reason(self) -> DeadReason {
        match self {
            Self::AttemptsExhausted => DeadReason::AttemptsExhausted,
            Self::Permanent => DeadReason::Permanent,
            Self::Poison => DeadReason::Poison,
            Self::Undecodable => DeadReason::Undecodable,
            Self::MalformedHeaders => DeadReason::MalformedHeaders,
            Self::Terminated => DeadReason::Terminated,
            Self::DeadlineExceeded => DeadReason::DeadlineExceeded,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bus::dead::{DeadLetter, StoredDeadLetter};

    use super::*;

    fn letter() -> StoredDeadLetter {
        let letter = DeadLetter {
            id: "billing/nightly@2026-11-22T06:45:00Z".into(),
            subject: "ecron.run.billing.reports".into(),
            reason: DeadReason::AttemptsExhausted,
            error: "Disk full on /dev/sda".into(),
            attempts: 3,
            attempt_log: vec![],
            died_at: "2026-11-22T06:50:00Z".parse().unwrap(),
            original_headers: Default::default(),
            payload: bytes::Bytes::new(),
        };
        StoredDeadLetter { number: 1, letter }
    }

    fn picks(args: FilterArgs) -> bool {
        let now = "2026-11-22T07:00:00Z".parse().unwrap();
        picked_by(&args, now).unwrap().picks(&letter())
    }

    #[test]
    fn each_filter_narrows_by_its_own_part() {
        let text = |text: &str| Some(text.to_owned());
        let minutes = |minutes: u64| Some(Duration::from_secs(60 * minutes));
        let none = FilterArgs::default;
        assert!(picks(none()));
        let table = [
            (FilterArgs { job: text("billing/nightly"), ..none() }, true),
            (FilterArgs { job: text("nightly"), ..none() }, false),
            (FilterArgs { queue: text("billing/reports"), ..none() }, true),
            (FilterArgs { queue: text("billing/other"), ..none() }, false),
            (FilterArgs { namespace: text("billing"), ..none() }, true),
            (FilterArgs { namespace: text("ops"), ..none() }, false),
            (FilterArgs { error: text("disk FULL"), ..none() }, true),
            (FilterArgs { error: text("/disk (full|quota)/"), ..none() }, false),
            (FilterArgs { error: text("/[Dd]isk (full|quota)/"), ..none() }, true),
            (FilterArgs { reason: Some(Reason::Poison), ..none() }, false),
            (FilterArgs { reason: Some(Reason::AttemptsExhausted), ..none() }, true),
            (FilterArgs { older_than: minutes(5), ..none() }, true),
            (FilterArgs { older_than: minutes(15), ..none() }, false),
            (FilterArgs { newer_than: minutes(15), ..none() }, true),
            (FilterArgs { newer_than: minutes(5), ..none() }, false),
            (FilterArgs { newer_than: minutes(15), namespace: text("ops"), ..none() }, false),
        ];
        for (args, expected) in table {
            assert_eq!(picks(args.clone()), expected, "{args:?}");
        }
        let broken = FilterArgs { error: text("/(/"), ..none() };
        assert!(picked_by(&broken, Timestamp::from_ms(0)).is_err());
    }
}
