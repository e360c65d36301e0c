//! A caller's way to the store, as a simulation lays it: what is slow or lost on it, and what it was used for.

use futures_util::future::BoxFuture;
use model::id::Occurrence;
use model::run::{Generation, RunState};
use model::shard::ShardId;
use model::time::Timestamp;

use crate::error::StoreError;
use crate::lease::{Epoch, Role};

/// One caller's way. Without a future an operation, or its answer, passes at once.
pub trait Link: Send + Sync + 'static {
    /// Ends when an operation arrives, or with why it never does. Of a dead caller's it never ends.
    fn there(&self) -> Option<BoxFuture<'_, Result<(), StoreError>>>;
    /// Ends when the answer to what was carried out arrives.
    fn back(&self) -> Option<BoxFuture<'_, Result<(), StoreError>>>;
    /// Something was done for this caller, just now.
    fn saw(&self, deed: &Deed<'_>);
}

/// What the store did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed<'a> {
    /// A lease was given or renewed.
    Granted { shard: ShardId, role: Role, epoch: Epoch, expires_at: Timestamp },
    /// A lease was given back.
    Released { shard: ShardId, role: Role },
    /// The holder of a lease acted for its shard, which is taken until then.
    Acted { shard: ShardId, role: Role, epoch: Epoch, taken_until: Option<Timestamp> },
    /// An end was recorded.
    Settled { occurrence: &'a Occurrence, generation: Generation, state: RunState },
}
