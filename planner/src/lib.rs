//! The planner: specs → occurrences in buckets. It also hosts the API, and turns deferred ad-hoc work into jobs.
//!
//! Loops, each only wiring around one pass that a test can call:
//! - `service`: every second, renew leases and plan each owned shard (`pass`);
//! - `feed`: spec changes, as they come, into job records and entries (`install`);
//! - `intake`: deferred messages into one-shot jobs;
//! - `backfill`: occurrences of the past into the minute tier, a few at a time;
//! - `audits`: what the schedules name against what the plan and the ledger hold (`completeness`), a piece at a time;
//! - `api`: requests.
//!
//! A planner never publishes a run, and never reads one's outcome.

pub mod api;
pub mod audits;
pub mod backfill;
pub mod completeness;
pub mod feed;
pub mod install;
pub mod intake;
pub mod pass;
pub mod service;

pub use service::{Planner, PlannerConfig};
