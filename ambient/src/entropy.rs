//! Randomness: ids and keys that nobody can guess, or, in a test, that everybody can.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use uuid::Uuid;

/// A source of randomness. Clones share it.
///
/// ```
/// use ecron_ambient::Entropy;
/// assert_eq!(Entropy::seeded(7).mint_id(), Entropy::seeded(7).mint_id());
/// ```
#[derive(Clone, Debug)]
pub struct Entropy(Arc<Source>);

#[derive(Debug)]
enum Source {
    System,
    /// The state of SplitMix64.
    Seeded(AtomicU64),
}

impl Entropy {
    /// The operating system's randomness.
    #[must_use]
    pub fn system() -> Self {
        Self(Arc::new(Source::System))
    }

    /// The same values for the same seed, in the order they are asked for. For tests only: they can be predicted.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(Source::Seeded(AtomicU64::new(seed))))
    }

    /// A new id: a UUID of version 4 in its usual text.
    #[must_use]
    pub fn mint_id(&self) -> String {
        uuid::Builder::from_random_bytes(self.key128()).into_uuid().to_string()
    }

    /// 128 random bits: a secret key.
    #[must_use]
    pub fn key128(&self) -> [u8; 16] {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&self.next_u64().to_le_bytes());
        key[8..].copy_from_slice(&self.next_u64().to_le_bytes());
        key
    }

    /// 64 random bits.
    #[must_use]
    pub fn next_u64(&self) -> u64 {
        match &*self.0 {
            Source::System => system_u64(),
            Source::Seeded(state) => {
                const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
                let mut z = state.fetch_add(GAMMA, Ordering::Relaxed).wrapping_add(GAMMA);
                z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                z ^ (z >> 31)
            }
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that draws from the system's randomness"
)]
fn system_u64() -> u64 {
    // Six of a version 4 UUID's bits are fixed; these eight bytes hold none of them.
    let [a, b, c, d, e, f, _, _, _, g, h, ..] = Uuid::new_v4().into_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_its_values_differ() {
        let (one, two) = (Entropy::seeded(42), Entropy::seeded(42));
        let ids: Vec<String> = (0..100).map(|_| one.mint_id()).collect();
        assert_eq!(ids, (0..100).map(|_| two.mint_id()).collect::<Vec<_>>());
        assert_eq!(ids.iter().collect::<std::collections::BTreeSet<_>>().len(), 100);
        assert_ne!(Entropy::seeded(43).mint_id(), ids[0]);
    }

    #[test]
    fn system_ids_are_uuids_that_differ() {
        let entropy = Entropy::system();
        let id: Uuid = entropy.mint_id().parse().unwrap();
        assert_eq!(id.get_version_num(), 4);
        assert_ne!(entropy.key128(), entropy.key128());
    }
}
