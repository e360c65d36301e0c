//! From a schedule's rules to instants: the only place that knows *when* a job is due.
//!
//! ```text
//! ScheduleSpec ──compile──▶ Schedule ──next_after / previous_before / names──▶ Timestamp
//!   text of a dialect ─parse─▶ Expression ─Calendar (crate `cron`, civil time)─▶ CronRule (zone, gap, fold)
//! ```
//!
//! Everything here is a function over data: no clock, no host time zone database, no randomness. The same spec and
//! identity give the same instants in every process, for ever; nothing is remembered between two calls.

mod calendar;
mod compile;
mod cron_rule;
mod days;
mod describe;
mod dialect;
mod exclude;
mod expression;
mod hash;
mod interval;
mod nominal;
mod occurrences;
mod parse;
mod parse_days;
mod policy;
mod spec;
mod text;
mod zone;

pub use self::compile::{COUNT_MAX, Identity, ScheduleProblem, no_calendars};
pub use self::dialect::{Dialect, ParseDialectError};
pub use self::exclude::{Bound, Exclusion, NamedCalendar, ParseExclusionError};
pub use self::expression::{Expression, FieldName, parse_expression};
pub use self::interval::{
    INTERVAL_MIN, ParseIntervalError, parse_duration, parse_go_duration, parse_interval,
};
pub use self::occurrences::{Reason, Schedule};
pub use self::parse::CronError;
pub use self::policy::{Fold, Gap, ParsePolicyError};
pub use self::spec::{SCHEDULES_MAX, ScheduleSpec};
pub use self::zone::{UnknownZone, Zone, tzdata_version};
