//! ecron: planner.
