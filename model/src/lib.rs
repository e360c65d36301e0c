//! ecron's words and rules. No async, no IO, no clock, no randomness: every decision is a function over data.

pub mod schedule;
pub mod time;
