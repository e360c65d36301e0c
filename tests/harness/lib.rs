//! What the end-to-end tests stand on: real servers, real processes, and evidence that isn't ecron's own.
//!
//! Everything that a test starts has a folder and ports of its own and is gone when the test is, also if it panics.

pub mod bare;
pub mod binary;
pub mod cli;
pub mod http;
pub mod mortal;
pub mod pace;
pub mod ports;
pub mod process;
pub mod python;
pub mod roles;
pub mod servers;
pub mod up;
pub mod wait;
pub mod witness;
pub mod world;
