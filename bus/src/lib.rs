//! ecron: bus.
