//! ecron's words and rules. No async, no IO, no clock, no randomness: every decision is a function over data.

pub mod backfill;
pub mod bucket;
pub mod declared;
pub mod dispatch;
pub mod first;
pub mod id;
pub mod limits;
pub mod manifest;
pub mod misfire;
pub mod name;
pub mod object;
pub mod overlap;
pub mod pause;
pub mod plan;
pub mod preview;
pub mod priority;
pub mod quota;
pub mod rate;
pub mod retry;
pub mod run;
pub mod schedule;
pub mod shard;
pub mod simulate;
pub mod spec;
pub mod time;
