//! The console: the API over HTTP, and pages for people. It needs NATS alone, like any other client, and asks planners by the same
//! verbs as the command line does.
//!
//! ```text
//! request ─▶ access (whose is it, may it) ─▶ rest   JSON, problem+json, server-sent events ─┐
//!                                         └▶ pages  HTML, rendered here, readable without JS ┴─▶ desk ─▶ ecron.api.v1.*
//! ```
//!
//! Nothing is decided here, and nothing is remembered beyond the last hour's events and who is logged in.

mod access;
mod assets;
mod desk;
pub mod letters;
pub mod outlook;
mod pages;
mod problem;
mod pulse;
mod rest;
mod server;

pub use access::tokens::{Credentials, CredentialsError};
pub use rest::openapi;
pub use server::{Bound, ConsoleError, Settings, bind};
