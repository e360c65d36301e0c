//! ecron: store.
