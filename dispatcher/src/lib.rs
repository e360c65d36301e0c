//! ecron: dispatcher.
