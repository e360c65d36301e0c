//! From a schedule's rules to instants.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ScheduleSpec {}
