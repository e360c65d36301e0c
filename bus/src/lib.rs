//! What is said, over NATS: specs, other objects and checkpoints in KV; runs, outcomes, dead letters and ad-hoc work in streams;
//! nudges and the API over core NATS.
//!
//! Small traits by need; `nats` and `memory` implement all of them and pass one conformance suite. `wire` holds the
//! forms that cross NATS, `subjects` every name.

pub mod api;
pub mod audit;
pub mod backlog;
pub mod cancel;
pub mod checkpoints;
pub mod dead;
pub mod edits;
pub mod error;
pub mod events;
pub mod intake;
pub mod logs;
pub mod memory;
pub mod nats;
pub mod nudge;
pub mod objects;
pub mod order;
pub mod queue;
pub mod runs;
pub mod specs;
pub mod subjects;
pub mod wire;

#[cfg(feature = "conformance")]
pub mod conformance;

pub use api::{ApiClient, ApiServer};
pub use audit::AuditLog;
pub use backlog::QueueBacklog;
pub use cancel::{CancelListener, CancelSignal};
pub use checkpoints::Checkpoints;
pub use dead::DeadLetters;
pub use edits::{EditReader, EditWriter};
pub use error::BusError;
pub use events::{EventReader, EventWriter};
pub use intake::Intake;
pub use logs::{LogReader, LogWriter};
pub use nudge::Nudge;
pub use objects::ObjectStore;
pub use queue::QueueReader;
pub use runs::RunStream;
pub use specs::SpecStore;
