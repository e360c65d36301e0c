//! A job as its stored spec declares it, with everything that follows from it.

use crate::manifest;
use crate::schedule::{Identity, Schedule};
use crate::spec::{Acceptance, JobSpec};
use crate::time::Timestamp;
use crate::timeline::Timeline;

/// A spec, what acceptance added to it, and its schedule, ready to be asked.
#[derive(Clone, Debug)]
pub struct Declared {
    pub spec: JobSpec,
    pub acceptance: Acceptance,
    pub schedule: Schedule,
    /// The same with those that were in force before.
    pub timeline: Timeline,
}

impl Declared {
    /// Reads a stored spec. `written_at` stands in for what acceptance would have noted, if another tool wrote it.
    ///
    /// # Errors
    /// Every problem, in one line.
    pub fn read(value: &[u8], written_at: Timestamp) -> Result<Self, String> {
        let (spec, acceptance) = manifest::from_bytes(value, written_at)
            .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
        Self::of(spec, acceptance)
    }

    /// Compiles the schedule of an accepted spec, with the calendars that it was accepted with.
    ///
    /// # Errors
    /// Every problem, in one line.
    pub fn of(spec: JobSpec, acceptance: Acceptance) -> Result<Self, String> {
        let job = spec.id.to_string();
        let identity = Identity { job: &job, created_at: acceptance.created_at };
        let calendars = |name: &str| spec.calendars.get(name).cloned();
        let schedule = Schedule::compile(&spec.schedule, &identity, &calendars).map_err(|problems| {
            let sentences = problems
                .iter()
                .map(|problem| format!("spec.schedule.{}: {}", problem.field, problem.message));
            sentences.collect::<Vec<_>>().join("; ")
        })?;
        let timeline = Timeline::new(schedule.clone(), &acceptance, &identity);
        Ok(Self { spec, acceptance, schedule, timeline })
    }
}
