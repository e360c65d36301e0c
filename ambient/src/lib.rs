//! ecron: ambient.
