//! ecron's words and rules. No async, no IO, no clock, no randomness: every decision is a function over data.

pub mod bucket;
pub mod codes;
pub mod declared;
pub mod dispatch;
pub mod id;
pub mod lifecycle;
pub mod limits;
pub mod manifest;
pub mod misfire;
pub mod name;
pub mod object;
pub mod overlap;
pub mod plan;
pub mod priority;
pub mod progress;
pub mod quota;
pub mod rate;
pub mod retry;
pub mod run;
pub mod schedule;
pub mod shard;
pub mod spec;
pub mod time;
