//! Stable numbers out of names: the seed of `H`, `~`, `spread` and `jitter`.
//!
//! SipHash-2-4 under a fixed key, over text that names its purpose. It must never change: a job's minute is part of
//! what its owner relies on, in every process and every release.

use std::hash::Hasher;

use siphasher::sip::SipHasher24;

/// Fixed for ever; see the module's comment.
const KEY: (u64, u64) = (0x6563_726f_6e20_7363, 0x6865_6475_6c65_2031);

/// A stable stream of numbers that belongs to one job and one purpose.
#[derive(Clone, Debug)]
pub(super) struct Stable {
    seed: u64,
    drawn: u64,
}

impl Stable {
    /// `purpose` keeps a job's minute, spread and jitter independent of each other.
    pub(super) fn of(job: &str, purpose: &str) -> Self {
        let mut hasher = SipHasher24::new_with_keys(KEY.0, KEY.1);
        hasher.write(purpose.as_bytes());
        hasher.write_u8(0);
        hasher.write(job.as_bytes());
        Self { seed: hasher.finish(), drawn: 0 }
    }

    /// The next number of the stream, in `0..below` (0 for an empty range).
    pub(super) fn draw(&mut self, below: u64) -> u64 {
        self.drawn += 1;
        self.at(self.drawn, below)
    }

    /// The number that belongs to `index`, in `0..below` (0 for an empty range).
    pub(super) fn at(&self, index: u64, below: u64) -> u64 {
        let mut hasher = SipHasher24::new_with_keys(self.seed, KEY.1);
        // Explicit bytes: `write_u64` would depend on the machine's byte order.
        hasher.write(&index.to_le_bytes());
        // Multiply and shift instead of `%`: no division, and no bias worth speaking of.
        u64::try_from((u128::from(hasher.finish()) * u128::from(below)) >> 64).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_job_never_change() {
        let mut minute = Stable::of("billing/nightly-report", "H");
        let drawn: Vec<u64> = (0..4).map(|_| minute.draw(60)).collect();
        assert_eq!(drawn, GOLDEN);
    }

    /// Computed once, and fixed: if this fails, every job in the world moves.
    const GOLDEN: [u64; 4] = [23, 30, 36, 59];

    #[test]
    fn draws_stay_in_range_and_reach_all_of_it() {
        let mut stream = Stable::of("a/b", "H");
        let mut seen = [false; 7];
        for _ in 0..500 {
            seen[usize::try_from(stream.draw(7)).unwrap()] = true;
        }
        assert!(seen.iter().all(|&hit| hit));
        assert_eq!(stream.draw(0), 0);
    }
}
