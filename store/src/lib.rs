//! What is remembered: the plan, job records and the run ledger, in Redis.
//!
//! Small traits by need; `redis` and `memory` implement all of them and pass one conformance suite. Every write that
//! acts for a shard carries the epoch of the caller's lease, and changes nothing if that isn't the newest.

pub mod adhoc;
pub mod changes;
pub mod completeness;
pub mod control;
pub mod error;
pub mod gate;
pub mod inspect;
pub mod keys;
pub mod lease;
pub mod ledger;
pub mod live;
pub mod memory;
pub mod node;
pub mod ownership;
pub mod plan;
pub mod record;
pub mod redis;
pub mod space;
pub mod stats;

#[cfg(feature = "conformance")]
pub mod conformance;

pub use adhoc::AdHocStore;
pub use changes::ChangeStore;
pub use completeness::CompletenessStore;
pub use control::ControlStore;
pub use error::StoreError;
pub use gate::GateStore;
pub use inspect::Inspect;
pub use lease::LeaseStore;
pub use ledger::LedgerStore;
pub use live::LiveStore;
pub use node::NodeStore;
pub use plan::PlanStore;
pub use space::SpaceStore;
pub use stats::StatsStore;

/// Everything at once, for whoever assembles a node.
pub trait Store:
    LeaseStore
    + NodeStore
    + PlanStore
    + LedgerStore
    + SpaceStore
    + ControlStore
    + ChangeStore
    + StatsStore
    + GateStore
    + LiveStore
    + AdHocStore
    + CompletenessStore
    + Inspect
{
}
impl<
    T: LeaseStore
        + NodeStore
        + PlanStore
        + LedgerStore
        + SpaceStore
        + ControlStore
        + ChangeStore
        + StatsStore
        + GateStore
        + LiveStore
        + AdHocStore
        + CompletenessStore
        + Inspect,
> Store for T
{
}
