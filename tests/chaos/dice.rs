//! Choices that a seed makes: the same seed, the same history of intentions.

use ambient::Entropy;

/// A seeded source of choices. Streams of different names don't disturb each other.
#[derive(Debug)]
pub(crate) struct Dice(Entropy);

impl Dice {
    /// The choices of one purpose under a seed.
    #[must_use]
    pub(crate) fn of(seed: u64, purpose: &str) -> Self {
        // FNV-1a: any spreading will do, if only it stays the same.
        let mix = purpose.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        Self(Entropy::seeded(seed ^ mix))
    }

    /// A number below `n` (0 if `n` is 0).
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0.next_u64().checked_rem(n).unwrap_or(0)
    }

    /// A number in a range, both ends included.
    pub(crate) fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most.saturating_sub(least) + 1)
    }

    /// One of these; `None` if there are none.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(usize::try_from(self.below(items.len() as u64)).unwrap_or(0))
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, usize::try_from(self.below(last as u64 + 1)).unwrap_or(0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_purposes_differ() {
        let throw = |seed, purpose| {
            let mut dice = Dice::of(seed, purpose);
            (0..20).map(|_| dice.between(1, 1_000)).collect::<Vec<_>>()
        };
        assert_eq!(throw(7, "faults"), throw(7, "faults"));
        assert_ne!(throw(7, "faults"), throw(8, "faults"));
        assert_ne!(throw(7, "faults"), throw(7, "jobs"));
    }
}
