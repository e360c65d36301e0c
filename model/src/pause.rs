//! Pausing: a time in which a job's occurrences aren't planned, because somebody said so.
//!
//! A job is paused by itself (`suspend`) or with its namespace. What would have occurred meanwhile was missed, as in any
//! interruption: when the job is resumed its `catchUp` decides. Work that somebody asked for (a trigger, a backfill)
//! runs all the same.

use crate::spec::Acceptance;
use crate::time::Timestamp;

/// A job's newest pause. No occurrence after `since`, up to and including `until`, is planned by its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    pub since: Timestamp,
    /// When it was resumed; `None` while it lasts.
    pub until: Option<Timestamp>,
}

impl Pause {
    /// A job's newest pause after somebody said at `now` whether it is paused.
    #[must_use]
    pub fn turned(newest: Option<Self>, paused: bool, now: Timestamp) -> Option<Self> {
        match (newest, paused) {
            (Some(Self { until: None, .. }), true) | (Some(Self { until: Some(_), .. }) | None, false) => {
                newest
            }
            (Some(Self { since, until: None }), false) => Some(Self { since, until: Some(now.max(since)) }),
            (Some(Self { until: Some(_), .. }) | None, true) => Some(Self { since: now, until: None }),
        }
    }
}

impl Acceptance {
    /// Since when the job is paused, if it is.
    #[must_use]
    pub fn paused_since(&self) -> Option<Timestamp> {
        self.pause.filter(|pause| pause.until.is_none()).map(|pause| pause.since)
    }

    /// The same job after its namespace was paused or resumed.
    #[must_use]
    pub fn in_namespace(&self, namespace_paused: bool, suspended: bool, now: Timestamp) -> Self {
        let pause = Pause::turned(self.pause, suspended || namespace_paused, now);
        Self { namespace_paused, pause, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_ms(seconds * 1000)
    }

    #[test]
    fn a_pause_begins_lasts_and_ends() {
        let pause = |since, until: Option<i64>| Some(Pause { since: at(since), until: until.map(at) });
        let table = [
            (None, false, None),
            (None, true, pause(9, None)),
            (pause(1, None), true, pause(1, None)),
            (pause(1, None), false, pause(1, Some(9))),
            (pause(1, Some(5)), false, pause(1, Some(5))),
            (pause(1, Some(5)), true, pause(9, None)),
        ];
        for (newest, paused, expected) in table {
            assert_eq!(Pause::turned(newest, paused, at(9)), expected, "{newest:?} {paused}");
        }
    }

    #[test]
    fn a_job_is_paused_while_it_or_its_namespace_is() {
        let running = Acceptance::new(at(0));
        let both = running.in_namespace(true, true, at(1));
        assert_eq!(both.paused_since(), Some(at(1)));
        let alone = both.in_namespace(false, true, at(2));
        assert_eq!((alone.paused_since(), alone.namespace_paused), (Some(at(1)), false));
        assert_eq!(alone.in_namespace(false, false, at(3)).paused_since(), None);
    }
}
