//! End to end: real processes, real servers, real time. One module a suite.
//!
//! What can be seen at a cheaper layer is tested there; here is what only whole processes show.

mod catch_up;
mod first_runs;
mod jobs;
mod retries;
