//! The attempts of a run, in order, with those that nobody reported.

use super::AttemptFacts;
use crate::limits::ATTEMPTS_KEPT_MAX;
use crate::run::Generation;

/// What is said of an attempt that left no report. (A delivery counts, whatever became of it.)
pub const NO_REPORT: &str = "no report: its executor was lost, or gave it back as it stopped";

/// An attempt of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempted<'a> {
    Ended(&'a AttemptFacts),
    /// A later one is known, and of this one nothing.
    Unreported {
        generation: Generation,
        attempt: u32,
    },
}

/// Every attempt before the one that is `under_way`, in order; `known` are those whose end was reported.
#[must_use]
pub fn attempts_made(known: &[AttemptFacts], under_way: Option<(Generation, u32)>) -> Vec<Attempted<'_>> {
    let is_known = |generation: Generation, attempt: u32| {
        known.iter().any(|facts| (facts.generation, facts.end.attempt) == (generation, attempt))
    };
    let ended = known.iter().map(|facts| (facts.generation, facts.end.attempt, Some(facts)));
    let under_way = under_way.map(|(generation, attempt)| (generation, attempt, None));
    let mut all = Vec::new();
    let mut next = (Generation(0), 1);
    for (index, (generation, attempt, facts)) in ended.chain(under_way).enumerate() {
        if generation != next.0 {
            next = (generation, 1);
        }
        // Of as many as this, the oldest have been forgotten. And a bare client may report any number.
        let first = if index == 0 && known.len() >= ATTEMPTS_KEPT_MAX {
            attempt
        } else {
            next.1.max(attempt.saturating_sub(ATTEMPTS_KEPT_MAX as u32))
        };
        let unreported = (first..attempt).filter(|attempt| !is_known(generation, *attempt));
        all.extend(unreported.map(|attempt| Attempted::Unreported { generation, attempt }));
        all.extend(facts.map(Attempted::Ended));
        next.1 = next.1.max(attempt.saturating_add(1));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{AttemptEnd, Outcome};
    use crate::time::Timestamp;

    fn ended(generation: u32, attempt: u32) -> AttemptFacts {
        let at = Timestamp::from_ms(0);
        let end = AttemptEnd { attempt, outcome: Outcome::Failed, error: None, started_at: at, ended_at: at };
        AttemptFacts { generation: Generation(generation), end, executor: "x".into() }
    }

    /// `1 (2) r1.1`: an attempt, one that nobody reported, and one of the first redrive.
    fn told(known: &[(u32, u32)], under_way: Option<(u32, u32)>) -> String {
        let known: Vec<AttemptFacts> =
            known.iter().map(|(generation, attempt)| ended(*generation, *attempt)).collect();
        let under_way = under_way.map(|(generation, attempt)| (Generation(generation), attempt));
        let number = |generation: Generation, attempt: u32| match generation.0 {
            0 => attempt.to_string(),
            redrive => format!("r{redrive}.{attempt}"),
        };
        let words = attempts_made(&known, under_way).into_iter().map(|made| match made {
            Attempted::Ended(facts) => number(facts.generation, facts.end.attempt),
            Attempted::Unreported { generation, attempt } => format!("({})", number(generation, attempt)),
        });
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn an_attempt_that_nobody_reported_is_listed() {
        assert_eq!(told(&[], None), "");
        assert_eq!(told(&[(0, 1), (0, 2)], None), "1 2");
        assert_eq!(told(&[(0, 2)], None), "(1) 2");
        assert_eq!(told(&[(0, 1), (0, 4)], None), "1 (2) (3) 4");
        assert_eq!(told(&[(0, 1), (1, 2)], None), "1 (r1.1) r1.2");
        assert_eq!(told(&[(0, 2), (0, 1)], None), "2 1", "reported the other way round");
        assert_eq!(told(&[], Some((0, 3))), "(1) (2)");
        assert_eq!(told(&[(0, 1)], Some((1, 2))), "1 (r1.1)");
    }

    #[test]
    fn a_number_from_outside_makes_no_endless_list() {
        assert_eq!(attempts_made(&[ended(0, u32::MAX)], None).len(), ATTEMPTS_KEPT_MAX + 1);
        // The newest ones of a run with more attempts than are kept: those before weren't lost.
        let kept: Vec<AttemptFacts> = (51..).take(ATTEMPTS_KEPT_MAX).map(|n| ended(0, n)).collect();
        assert_eq!(attempts_made(&kept, None).len(), ATTEMPTS_KEPT_MAX);
    }
}
