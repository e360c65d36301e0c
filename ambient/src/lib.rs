//! The outside world, as far as a process feels it by itself: time, randomness, signals.
//!
//! Architecture invariant: nothing else in ecron reads the clock of the operating system, draws a random number or
//! listens to signals. So every test can choose them.

pub mod clock;
pub mod entropy;
pub mod shutdown;

pub use clock::Clock;
pub use entropy::Entropy;
pub use shutdown::Shutdown;
