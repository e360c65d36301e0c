//! Buckets: the time slices of the plan, and which one an instant falls in.

use std::fmt;

use crate::time::{HALF_HOUR_MS, MINUTE_MS, Timestamp};

/// A slice of half an hour, by its first instant: `2026-11-22T06:30Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HalfHour(Timestamp);

/// A slice of one minute, by its first instant: `2026-11-22T06:45Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Minute(Timestamp);

impl HalfHour {
    #[must_use]
    pub fn of(at: Timestamp) -> Self {
        Self(at.floor(HALF_HOUR_MS))
    }
    #[must_use]
    pub fn start(self) -> Timestamp {
        self.0
    }
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.plus_ms(HALF_HOUR_MS))
    }
}

impl Minute {
    #[must_use]
    pub fn of(at: Timestamp) -> Self {
        Self(at.floor(MINUTE_MS))
    }
    #[must_use]
    pub fn start(self) -> Timestamp {
        self.0
    }
}

fn slice_text(start: Timestamp) -> String {
    // Both slices begin on a full minute, so the seconds of the RFC 3339 text say nothing.
    start.to_string().replacen(":00Z", "Z", 1)
}

impl fmt::Display for HalfHour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&slice_text(self.0))
    }
}

impl fmt::Display for Minute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&slice_text(self.0))
    }
}

/// Where a job waits before its next occurrence is in the minute tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tier {
    HalfHour,
    Horizon,
}

/// A job's one place in the coarse tiers: its next occurrence that isn't in the minute tier yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Placed {
    pub tier: Tier,
    pub due_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_read_as_minutes() {
        let at: Timestamp = "2026-11-22T06:45:17.250Z".parse().unwrap();
        assert_eq!(Minute::of(at).to_string(), "2026-11-22T06:45Z");
        assert_eq!(HalfHour::of(at).to_string(), "2026-11-22T06:30Z");
        let midnight: Timestamp = "2026-11-22T00:00:00Z".parse().unwrap();
        assert_eq!(Minute::of(midnight).to_string(), "2026-11-22T00:00Z");
    }
}
