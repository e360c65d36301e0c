//! subjects.
