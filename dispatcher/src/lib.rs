//! The dispatcher: due occurrences → runs, and reported outcomes → settlements.
//!
//! - `shard`: one pass over one shard: take → decide → publish → confirm;
//! - `admit`: what becomes of the entries of a pass, by the rules of `model`;
//! - `asked`: what a triggered or backfilled run brings along;
//! - `queue_rules`, `gate`, `gate_keeper`: queues with limits, whose runs have to ask before they go;
//! - `order`: a job's spec into the message of one run;
//! - `barrier`: outcomes first, whenever it is unknown what was published;
//! - `settle`: events into run records and history;
//! - `reconcile`: published runs that nobody reports;
//! - `cancel`: published runs that somebody wants stopped;
//! - `checkpoint`: how far dispatching has come, for the day Redis is lost;
//! - `service`: all of it, until it is told to stop.
//!
//! A dispatcher never computes when a job is due; it only asks whether a schedule still names an instant.

mod admit;
mod asked;
pub mod barrier;
pub mod cancel;
pub mod checkpoint;
pub mod gate;
pub mod gate_keeper;
pub mod jobs;
mod one_off;
pub mod order;
pub mod queue_rules;
pub mod reconcile;
pub mod service;
pub mod settle;
pub mod shard;
mod turns;

pub use service::{Dispatcher, DispatcherConfig};

use bus::{
    CancelSignal, Checkpoints, DeadLetters, EventReader, Nudge, ObjectStore, QueueBacklog, RunStream,
    SpecStore,
};

/// What a dispatcher needs from the bus.
pub trait DispatcherBus:
    RunStream
    + EventReader
    + Checkpoints
    + Nudge
    + DeadLetters
    + SpecStore
    + ObjectStore
    + CancelSignal
    + QueueBacklog
{
}
impl<
    T: RunStream
        + EventReader
        + Checkpoints
        + Nudge
        + DeadLetters
        + SpecStore
        + ObjectStore
        + CancelSignal
        + QueueBacklog,
> DispatcherBus for T
{
}
