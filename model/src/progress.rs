//! What is known of an attempt that is under way: since when it runs, and how far it says it has come.

use serde::{Deserialize, Serialize};

use crate::run::{Generation, RunState};
use crate::time::Timestamp;

/// A share of the whole, in thousandths: 0 to 1,000. Its JSON is a number from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "f64", into = "f64")]
pub struct Fraction(u16);

/// One note about an attempt that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    pub generation: Generation,
    pub attempt: u32,
    pub started_at: Timestamp,
    /// When it was said.
    pub at: Timestamp,
    /// How far it has come, if it says so at all.
    pub fraction: Option<Fraction>,
    pub message: Option<String>,
    pub executor: String,
}

/// What a run's record says, as far as the rule below needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Underway {
    pub state: RunState,
    pub generation: Generation,
    /// The newest attempt whose end was noted; 0 if none was.
    pub ended_attempt: u32,
    /// Attempt and instant of the newest note.
    pub noted: Option<(u32, Timestamp)>,
}

/// Whether a note is news: its run is under way, its attempt hasn't ended, and nothing newer was noted.
#[must_use]
pub fn accepts_progress(run: Option<Underway>, note: &Progress) -> bool {
    let Some(run) = run else { return false };
    let newer = run.noted.is_none_or(|noted| (note.attempt, note.at) >= noted);
    run.state == RunState::Dispatched
        && note.generation == run.generation
        && note.attempt > run.ended_attempt
        && newer
}

impl Fraction {
    /// In thousandths.
    #[must_use]
    pub fn thousandths(self) -> u16 {
        self.0
    }
}

/// Whatever isn't between nothing and all counts as the nearer of both; what is no number, as nothing.
impl From<f64> for Fraction {
    fn from(share: f64) -> Self {
        // The cast saturates and takes NaN for 0; the range is that of the clamp.
        Self((share.clamp(0.0, 1.0) * 1_000.0).round() as u16)
    }
}

impl From<Fraction> for f64 {
    fn from(fraction: Fraction) -> Self {
        Self::from(fraction.0) / 1_000.0
    }
}

/// `40 %`, `99.9 %`.
impl std::fmt::Display for Fraction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 % 10 {
            0 => write!(f, "{} %", self.0 / 10),
            tenths => write!(f, "{}.{tenths} %", self.0 / 10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(attempt: u32, at_ms: i64) -> Progress {
        Progress {
            generation: Generation(1),
            attempt,
            started_at: Timestamp::from_ms(0),
            at: Timestamp::from_ms(at_ms),
            fraction: None,
            message: None,
            executor: "e1".into(),
        }
    }

    #[test]
    fn only_news_of_an_attempt_that_goes_on_counts() {
        use RunState::{Dispatched, Succeeded, Waiting};
        // (state, generation, ended attempt, noted), attempt, at, accepted
        let table = [
            ((Dispatched, 1, 0, None), 1, 5, true),
            ((Dispatched, 1, 1, None), 1, 5, false),
            ((Dispatched, 1, 1, None), 2, 5, true),
            ((Dispatched, 1, 0, Some((1, 5))), 1, 5, true),
            ((Dispatched, 1, 0, Some((1, 6))), 1, 5, false),
            ((Dispatched, 1, 0, Some((1, 6))), 2, 5, true),
            ((Dispatched, 1, 0, Some((2, 1))), 1, 5, false),
            ((Dispatched, 0, 0, None), 1, 5, false),
            ((Dispatched, 2, 0, None), 1, 5, false),
            ((Succeeded, 1, 0, None), 1, 5, false),
            ((Waiting, 1, 0, None), 1, 5, false),
        ];
        for ((state, generation, ended_attempt, noted), attempt, at_ms, accepted) in table {
            let noted = noted.map(|(attempt, ms)| (attempt, Timestamp::from_ms(ms)));
            let run = Underway { state, generation: Generation(generation), ended_attempt, noted };
            assert_eq!(
                accepts_progress(Some(run), &note(attempt, at_ms)),
                accepted,
                "{run:?} {attempt} {at_ms}"
            );
        }
        assert!(!accepts_progress(None, &note(1, 5)));
    }

    #[test]
    fn a_fraction_is_between_nothing_and_all() {
        for (share, text) in [
            (0.4, "40 %"),
            (0.9994, "99.9 %"),
            (-3.0, "0 %"),
            (7.0, "100 %"),
            (f64::NAN, "0 %"),
            (0.005, "0.5 %"),
        ] {
            assert_eq!(Fraction::from(share).to_string(), text);
        }
        assert_eq!(serde_json::to_string(&Fraction::from(0.4)).unwrap(), "0.4");
        assert_eq!(serde_json::from_str::<Fraction>("1").unwrap(), Fraction(1_000));
    }
}
