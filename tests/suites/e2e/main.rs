//! End to end: real processes, real servers, real time. One module a suite.
//!
//! What can be seen at a cheaper layer is tested there; here is what only whole processes show.

mod audit;
mod bad_input;
mod bare_clients;
mod calendars;
mod cancel;
mod catch_up;
mod control;
mod dead;
mod doctor;
mod executor_loss;
mod explain;
mod first_runs;
mod gates;
mod jobs;
mod retries;
mod store_loss;
mod tidy;
mod underway;
mod up_and_down;
