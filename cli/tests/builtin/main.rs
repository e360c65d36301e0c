//! The built-in executor with real processes and a real HTTP server, over a bus of this suite's own.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on has failed")]

#[path = "../../src/executor/mod.rs"]
#[allow(dead_code)]
mod executor;

mod bench;
mod commands;
mod discovery;
mod kill;
mod requests;
mod server;
