//! The forms that cross NATS: headers of runs and ad-hoc work, JSON of events and settings, dead letters, message ids.
//!
//! Versioned types of their own, apart from those of `model`; pure functions, no IO and no clock. Whatever arrives was
//! written by somebody else: nothing here panics on it, and a problem names the header.

mod attempts;
pub mod audit;
pub mod cancel;
pub mod cluster;
pub mod dead;
pub mod edit;
pub mod event;
pub mod headers;
pub mod log;
pub mod order;
pub mod publisher;
pub mod standing;
pub mod tally;

pub use headers::Headers;
pub use order::{encode_publication, message_id};
pub use publisher::{Deferred, defer_request};
