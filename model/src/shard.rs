//! Shards: which one a job belongs to, and which node should own it.
//!
//! Both answers are pure functions of names, so every node computes the same without asking anyone.

use std::fmt;
use std::hash::Hasher;

use siphasher::sip::SipHasher24;

use crate::limits::SHARDS_MAX;
use crate::name::{JobId, QueueId};
use crate::unique::UniqueKey;

/// Shards of a cluster, unless set when it is initialised.
pub const SHARDS_DEFAULT: u16 = 64;

/// One shard, the unit of ownership. Two digits at least, as in `ecron:{07}:…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}", self.0)
    }
}

/// How many shards a cluster has: 1 to 1024, fixed when it is initialised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardCount(u16);

impl ShardCount {
    /// `None` outside 1 to 1024.
    #[must_use]
    pub fn new(count: u16) -> Option<Self> {
        (1..=SHARDS_MAX).contains(&count).then_some(Self(count))
    }

    #[must_use]
    pub fn get(self) -> u16 {
        self.0
    }

    /// All shards, in order.
    pub fn all(self) -> impl Iterator<Item = ShardId> {
        (0..self.0).map(ShardId)
    }

    /// The shard of a job. Stable for ever: changing it would orphan every stored key.
    #[must_use]
    pub fn shard_of(self, job: &JobId) -> ShardId {
        let hash = stable_hash(&[job.namespace.as_str(), "/", job.name.as_str()]);
        ShardId(u16::try_from(hash % u64::from(self.0)).unwrap_or(0))
    }

    /// The shard of what is remembered of a queue: that of a job of the same name.
    #[must_use]
    pub fn shard_of_queue(self, queue: &QueueId) -> ShardId {
        self.shard_of(&JobId { namespace: queue.namespace.clone(), name: queue.name.clone() })
    }

    /// The shard of a unique key: that of its queue, or of a queue called like its namespace.
    #[must_use]
    pub fn shard_of_key(self, key: &UniqueKey) -> ShardId {
        let (namespace, name) = key.home();
        self.shard_of(&JobId { namespace: namespace.clone(), name: name.clone() })
    }
}

impl Default for ShardCount {
    fn default() -> Self {
        Self(SHARDS_DEFAULT)
    }
}

/// SipHash-2-4 with the zero key over the parts, concatenated: the same on every host and version.
#[must_use]
pub fn stable_hash(parts: &[&str]) -> u64 {
    let mut hasher = SipHasher24::new();
    for part in parts {
        hasher.write(part.as_bytes());
    }
    hasher.finish()
}

/// A node that could own shards: its id and its weight (0 = owns nothing).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate<'a> {
    pub node: &'a str,
    pub weight: u32,
}

/// Which of the candidates should own a shard: weighted rendezvous hashing. A node that comes or goes moves only the
/// shards that it gains or loses. `None` without a candidate of positive weight.
#[must_use]
pub fn owner_of<'a>(shard: ShardId, candidates: &[Candidate<'a>]) -> Option<&'a str> {
    let score = |candidate: &Candidate<'_>| {
        let hash = stable_hash(&[candidate.node, "|", &shard.to_string()]);
        // The hash as a fraction strictly between 0 and 1, so that its logarithm is finite and negative.
        let fraction = ((hash >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        -f64::from(candidate.weight) / fraction.ln()
    };
    candidates
        .iter()
        .filter(|candidate| candidate.weight > 0)
        .max_by(|a, b| score(a).total_cmp(&score(b)).then_with(|| a.node.cmp(b.node)))
        .map(|candidate| candidate.node)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(text: &str) -> JobId {
        text.parse().unwrap()
    }

    #[test]
    fn the_shard_of_a_job_never_changes() {
        // Golden values: a change here orphans every stored key.
        let shards = ShardCount::default();
        assert_eq!(shards.shard_of(&job("billing/nightly-report")), ShardId(27));
        assert_eq!(shards.shard_of(&job("default/heartbeat")), ShardId(10));
    }

    #[test]
    fn weights_decide_the_share() {
        let nodes = [Candidate { node: "big", weight: 300 }, Candidate { node: "small", weight: 100 }];
        let big = (0..1024).filter(|n| owner_of(ShardId(*n), &nodes) == Some("big")).count();
        assert!((700..=836).contains(&big), "{big} of 1024 for three quarters of the weight");
        assert_eq!(owner_of(ShardId(3), &[Candidate { node: "none", weight: 0 }]), None);
    }

    #[test]
    fn a_node_that_leaves_moves_only_its_own_shards() {
        let three = ["a", "b", "c"].map(|node| Candidate { node, weight: 100 });
        let two = [three[0].clone(), three[2].clone()];
        for shard in (0..1024).map(ShardId) {
            let before = owner_of(shard, &three);
            if before != Some("b") {
                assert_eq!(owner_of(shard, &two), before);
            }
        }
    }
}
