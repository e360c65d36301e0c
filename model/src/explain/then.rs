//! What a job was at an instant, from its change log.

use super::{Facts, Judged, Naming};
use crate::change::{Change, ChangeKind};
use crate::schedule::{NamedCalendar, ScheduleSpec};
use crate::time::Timestamp;

/// A job at one instant.
#[derive(Clone, Debug, Default)]
pub struct Then {
    /// Whether it existed; unknown if the log doesn't reach back so far.
    pub existed: Option<bool>,
    /// The deletion that the instant comes after, if nothing came after that.
    pub deleted: Option<Change>,
    /// The creation that the instant comes before.
    pub created_later: Option<Timestamp>,
    /// The change that suspended it, if it was.
    pub paused: Option<Change>,
    /// What ended that.
    pub resumed: Option<Change>,
    /// The newest change of its schedule before the instant.
    pub edited: Option<Change>,
    /// The schedule that was in force, if it isn't the present one.
    pub older: Option<ScheduleSpec>,
    /// The one before that.
    pub before_edit: Option<ScheduleSpec>,
}

impl Then {
    /// Reads the change log up to the instant.
    #[must_use]
    pub fn of(facts: &Facts) -> Self {
        let mut then = Self::default();
        let mut schedule = None;
        let (past, later): (Vec<&Change>, Vec<&Change>) =
            facts.changes.iter().rev().partition(|change| change.at <= facts.at);
        for change in past {
            match change.kind {
                ChangeKind::Created => then = Self { existed: Some(true), ..Self::default() },
                ChangeKind::Deleted => {
                    then = Self { existed: Some(false), deleted: Some(change.clone()), ..Self::default() };
                }
                ChangeKind::Paused => then.paused = Some(change.clone()),
                ChangeKind::Resumed => then.paused = None,
                ChangeKind::Edited => {}
            }
            if change.kind != ChangeKind::Deleted {
                then.existed = Some(true);
            }
            if let Some(new) = &change.schedule {
                then.before_edit = schedule.replace(new.clone());
                then.edited = (change.kind != ChangeKind::Created).then(|| change.clone());
            }
        }
        if then.paused.is_some() {
            then.resumed =
                later.iter().find(|change| change.kind == ChangeKind::Resumed).map(|c| (*c).clone());
        }
        if then.existed.is_none() {
            let created = facts.declared.as_ref().map(|declared| declared.acceptance.created_at);
            let first = later.first().filter(|change| change.kind == ChangeKind::Created).map(|c| c.at);
            let since = created.or(first);
            then.existed = since.map(|since| facts.at > since);
            then.created_later = since.filter(|since| facts.at <= *since);
        }
        if then.existed == Some(false) && then.created_later.is_none() {
            // Deleted, then created again.
            then.created_later = later.iter().find(|c| c.kind == ChangeKind::Created).map(|c| c.at);
        }
        let present = facts.declared.as_ref().map(|declared| &declared.spec.schedule);
        let changed_later = later.iter().any(|change| change.schedule.is_some());
        let is_other = changed_later || present.is_none();
        then.older = schedule.filter(|schedule| is_other && Some(schedule) != present);
        then
    }

    /// What the schedule in force said of the instant; `None` if it isn't known any more.
    #[must_use]
    pub fn naming(&self, facts: &Facts) -> Option<Naming> {
        self.judge(facts, self.older.as_ref())
    }

    /// Whether the schedule before the newest edit named the instant.
    #[must_use]
    pub fn named_before_edit(&self, facts: &Facts) -> bool {
        let naming = self.before_edit.as_ref().and_then(|spec| self.judge(facts, Some(spec)));
        matches!(naming, Some(Naming::Named { .. }))
    }

    fn judge(&self, facts: &Facts, older: Option<&ScheduleSpec>) -> Option<Naming> {
        let declared = facts.declared.as_ref();
        let spec = older.or(declared.map(|declared| &declared.spec.schedule))?;
        let created = || facts.changes.iter().rev().find(|c| c.kind == ChangeKind::Created).map(|c| c.at);
        let created_at = declared.map(|declared| declared.acceptance.created_at).or_else(created);
        let calendars = |name: &str| {
            let known = declared.and_then(|declared| declared.spec.calendars.get(name).cloned());
            known.or_else(|| Some(NamedCalendar::default()))
        };
        let job = facts.job.to_string();
        let created_at = created_at.unwrap_or(Timestamp::from_ms(0));
        Some(Judged { spec, job: &job, created_at, calendars: &calendars }.naming(facts.at))
    }
}
