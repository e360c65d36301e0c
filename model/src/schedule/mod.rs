//! From a schedule's rules to instants.
