//! The executor SDK: give it a handler, and it carries out the runs of a queue.
//!
//! ```no_run
//! use ecron_executor_sdk::{Context, Executor, HandlerError};
//!
//! #[derive(serde::Deserialize)]
//! struct Report { region: String }
//!
//! # async fn main_() -> Result<(), Box<dyn std::error::Error>> {
//! Executor::connect("nats://127.0.0.1:4222").await?
//!     .queue("billing/reports")?.concurrency(8)
//!     .handle(|ctx: Context, report: Report| async move {
//!         println!("{} for {}", ctx.run_id(), report.region);
//!         Ok::<_, HandlerError>(())
//!     })
//!     .run().await?; // until SIGINT or SIGTERM, then drains
//! # Ok(()) }
//! ```
//!
//! What it does around the handler, in the order of a run's life:
//! `pull` asks the queue for as many runs as there are free slots → `attempt` is one of them, a method a state →
//! `fence` knows which jobs were edited, so that none starts by an order that was superseded →
//! `decide` says what follows, as functions over data → `running` is the handler itself: timeout, cancellation,
//! panic; `scribe` sends what it says meanwhile → `answer` stores the outcome, then ends the message.
//!
//! Architecture invariants: a message is never ended before its outcome (or its dead letter) is stored; whatever goes
//! wrong in between, it comes again. Nothing here knows NATS, Redis or the wire: only the traits of `bus`.

mod answer;
mod attempt;
mod context;
mod decide;
mod excerpt;
mod executor;
mod fence;
mod handler;
mod hands;
mod heartbeat;
mod pull;
mod running;
mod scribe;

pub use bus::order::WorkKind;
pub use context::Context;
pub use excerpt::{Excerpt, clip};
pub use executor::{Binding, Bus, CONCURRENCY_DEFAULT, CONCURRENCY_MAX, Executor, RunError};
pub use handler::{HandlerError, Output};
pub use running::CANCEL_GRACE;

#[cfg(test)]
mod double;
