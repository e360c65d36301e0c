//! ecron: executor-sdk.
