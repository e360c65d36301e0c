//! Test harness.

pub mod servers;
pub mod world;
