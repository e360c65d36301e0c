//! `ecron import`.
