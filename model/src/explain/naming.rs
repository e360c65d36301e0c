//! Whether a schedule names an instant; if not, which of its parts is why.

use crate::schedule::{Exclusion, Fold, Gap, Identity, NamedCalendar, Reason, Schedule, ScheduleSpec};
use crate::time::Timestamp;

/// How far `spread` and `jitter` are looked for behind an instant (ms), at most: a day.
const MOVED_MAX_MS: i64 = 24 * 3_600_000;

/// A schedule's verdict on an instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Naming {
    Named {
        reasons: Vec<String>,
    },
    /// A rule names it, and `spread` or `jitter` moves the occurrence.
    Moved {
        to: Timestamp,
        reasons: Vec<String>,
    },
    BeforeStart {
        start: Timestamp,
    },
    AfterEnd {
        end: Timestamp,
    },
    CountUsedUp {
        count: u64,
        last: Option<Timestamp>,
    },
    Excluded {
        by: String,
    },
    /// A civil time that doesn't exist on that day.
    Gap {
        missing: String,
        policy: String,
        instead: Option<Timestamp>,
    },
    /// A civil time that occurs twice, and this one of the two doesn't count.
    Fold {
        civil: String,
        policy: String,
    },
    /// The schedule follows the end of the run before.
    FollowsEnds {
        delay: std::time::Duration,
    },
    NotNamed {
        before: Option<Timestamp>,
        after: Option<Timestamp>,
    },
}

/// A schedule and what it was compiled with.
#[derive(Clone, Copy)]
pub struct Judged<'a> {
    pub spec: &'a ScheduleSpec,
    pub job: &'a str,
    pub created_at: Timestamp,
    pub calendars: &'a dyn Fn(&str) -> Option<NamedCalendar>,
}

impl std::fmt::Debug for Judged<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Judged").field("spec", self.spec).finish_non_exhaustive()
    }
}

impl Judged<'_> {
    fn compile(&self, change: impl FnOnce(&mut ScheduleSpec)) -> Option<Schedule> {
        let mut spec = self.spec.clone();
        change(&mut spec);
        let identity = Identity { job: self.job, created_at: self.created_at };
        Schedule::compile(&spec, &identity, self.calendars).ok()
    }

    fn names_without(&self, at: Timestamp, change: impl FnOnce(&mut ScheduleSpec)) -> bool {
        self.compile(change).is_some_and(|schedule| schedule.names(at))
    }

    /// The verdict on an instant.
    #[must_use]
    pub fn naming(&self, at: Timestamp) -> Naming {
        let Some(schedule) = self.compile(|_| {}) else {
            return Naming::NotNamed { before: None, after: None };
        };
        if let Some(delay) = schedule.after_delay() {
            return Naming::FollowsEnds { delay };
        }
        if schedule.names(at) {
            return Naming::Named { reasons: texts(&schedule.reasons(at)) };
        }
        let nothing = || {
            let (before, after) = (schedule.previous_before(at), schedule.next_after(at));
            Naming::NotNamed { before, after }
        };
        if self.spec.also.is_empty() {
            self.moved(&schedule, at).or_else(|| self.left_out(&schedule, at)).unwrap_or_else(nothing)
        } else {
            self.naming_of_any(at).unwrap_or_else(nothing)
        }
    }

    /// Of many schedules: the first that would have something to do with the instant.
    fn naming_of_any(&self, at: Timestamp) -> Option<Naming> {
        self.spec.each().find_map(|one| {
            let one = ScheduleSpec { also: Vec::new(), ..one.clone() };
            let naming = Judged { spec: &one, ..*self }.naming(at);
            (!matches!(naming, Naming::NotNamed { .. })).then_some(naming)
        })
    }

    /// A part of the schedule without which it would name the instant.
    fn left_out(&self, schedule: &Schedule, at: Timestamp) -> Option<Naming> {
        let spec = self.spec;
        if let Some(start) = spec.start.filter(|start| at < *start)
            && self.names_without(at, |spec| (spec.start, spec.count) = (None, None))
        {
            return Some(Naming::BeforeStart { start });
        }
        if let Some(end) = spec.end.filter(|end| at > *end)
            && self.names_without(at, |spec| (spec.end, spec.count) = (None, None))
        {
            return Some(Naming::AfterEnd { end });
        }
        if let Some(count) = spec.count
            && self.names_without(at, |spec| spec.count = None)
        {
            let last = schedule.previous_before(crate::time::TIMESTAMP_MAX);
            return Some(Naming::CountUsedUp { count, last });
        }
        if !spec.exclude.is_empty() && self.names_without(at, |spec| spec.exclude.clear()) {
            let by = spec
                .exclude
                .iter()
                .find(|one| !self.names_without(at, |spec| spec.exclude = vec![(*one).clone()]));
            return Some(Naming::Excluded { by: by.map_or_else(|| "its exclusions".into(), exclusion_text) });
        }
        self.gap(schedule, at).or_else(|| self.fold(at))
    }

    /// An occurrence that `spread` or `jitter` moved away from here.
    fn moved(&self, schedule: &Schedule, at: Timestamp) -> Option<Naming> {
        let by = [self.spec.spread, self.spec.jitter].into_iter().flatten().map(crate::time::duration_ms);
        let farthest = by.sum::<i64>().min(MOVED_MAX_MS);
        if farthest == 0 || !self.names_without(at, |spec| (spec.spread, spec.jitter) = (None, None)) {
            return None;
        }
        let to = schedule.next_after(at).filter(|to| to.ms_since(at) <= farthest)?;
        Some(Naming::Moved { to, reasons: texts(&schedule.reasons(to)) })
    }

    fn gap(&self, schedule: &Schedule, at: Timestamp) -> Option<Naming> {
        [Gap::Shift, Gap::Next].into_iter().find_map(|gap| {
            let other = self.compile(|spec| spec.gap = Some(gap)).filter(|other| other.names(at))?;
            let missing = other.reasons(at).into_iter().find_map(|reason| match reason {
                Reason::Gap { missing, .. } => Some(missing),
                Reason::Fold { .. } | Reason::Spread(_) | Reason::Jitter(_) => None,
            })?;
            // Where the schedule's own policy has put it, if anywhere near.
            let own = |due: &Timestamp| {
                schedule.reasons(*due).iter().any(|reason| matches!(reason, Reason::Gap { .. }))
            };
            let around = [schedule.previous_before(at), schedule.next_after(at)];
            let instead = around.into_iter().flatten().find(own);
            let policy = self.policy().0.to_string();
            Some(Naming::Gap { missing, policy, instead })
        })
    }

    fn fold(&self, at: Timestamp) -> Option<Naming> {
        let other = self.compile(|spec| spec.fold = Some(Fold::Both)).filter(|other| other.names(at))?;
        let civil = other.reasons(at).into_iter().find_map(|reason| match reason {
            Reason::Fold { civil, .. } => Some(civil),
            Reason::Gap { .. } | Reason::Spread(_) | Reason::Jitter(_) => None,
        })?;
        Some(Naming::Fold { civil, policy: self.policy().1.to_string() })
    }

    fn policy(&self) -> (Gap, Fold) {
        let dialect = self.spec.dialect.unwrap_or_default();
        let gap = self.spec.gap.unwrap_or_else(|| dialect.default_gap());
        (gap, self.spec.fold.unwrap_or_else(|| dialect.default_fold()))
    }
}

fn texts(reasons: &[Reason]) -> Vec<String> {
    reasons.iter().map(ToString::to_string).collect()
}

fn exclusion_text(exclusion: &Exclusion) -> String {
    match exclusion {
        Exclusion::Range { from, to } if from == to => format!("the date {from}"),
        Exclusion::Range { from, to } => format!("the range {from}/{to}"),
        Exclusion::Cron(expression) => format!("the expression {expression:?}"),
        Exclusion::Calendar(name) => format!("the calendar {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::no_calendars;

    fn naming(spec: &str, at: &str) -> Naming {
        let spec: ScheduleSpec = serde_json::from_str(spec).unwrap();
        let created_at = "2026-01-01T00:00:00Z".parse().unwrap();
        let judged = Judged { spec: &spec, job: "a/b", created_at, calendars: &no_calendars };
        judged.naming(at.parse().unwrap())
    }

    #[test]
    fn each_part_of_a_schedule_is_told_apart() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let table = [
            (r#"{"cron": "30 2 * * *"}"#, "2026-05-01T02:30:00Z", Naming::Named { reasons: vec![] }),
            (
                r#"{"cron": "30 2 * * *"}"#,
                "2026-05-01T02:31:00Z",
                Naming::NotNamed {
                    before: Some(at("2026-05-01T02:30:00Z")),
                    after: Some(at("2026-05-02T02:30:00Z")),
                },
            ),
            (
                r#"{"cron": "30 2 * * *", "start": "2026-06-01T00:00:00Z"}"#,
                "2026-05-01T02:30:00Z",
                Naming::BeforeStart { start: at("2026-06-01T00:00:00Z") },
            ),
            (
                r#"{"cron": "30 2 * * *", "end": "2026-04-01T00:00:00Z"}"#,
                "2026-05-01T02:30:00Z",
                Naming::AfterEnd { end: at("2026-04-01T00:00:00Z") },
            ),
            (
                r#"{"cron": "30 2 * * *", "count": 2}"#,
                "2026-05-01T02:30:00Z",
                Naming::CountUsedUp { count: 2, last: Some(at("2026-01-02T02:30:00Z")) },
            ),
            (
                r#"{"cron": "30 2 * * *", "exclude": ["2026-04-30", "2026-05-01"]}"#,
                "2026-05-01T02:30:00Z",
                Naming::Excluded { by: "the date 2026-05-01".into() },
            ),
            (
                r#"{"cron": "30 2 * * *", "timeZone": "Europe/Berlin", "gap": "skip"}"#,
                "2026-03-29T02:30:00+01:00",
                Naming::Gap { missing: "2026-03-29 02:30:00".into(), policy: "skip".into(), instead: None },
            ),
            (
                r#"{"cron": "30 2 * * *", "timeZone": "Europe/Berlin", "gap": "next"}"#,
                "2026-03-29T02:30:00+01:00",
                Naming::Gap {
                    missing: "2026-03-29 02:30:00".into(),
                    policy: "next".into(),
                    instead: Some(at("2026-03-29T01:00:00Z")),
                },
            ),
            (
                r#"{"cron": "30 2 * * *", "timeZone": "Europe/Berlin", "fold": "first"}"#,
                "2026-10-25T02:30:00+01:00",
                Naming::Fold { civil: "2026-10-25 02:30:00".into(), policy: "first".into() },
            ),
        ];
        let table = table.into_iter().chain([
            (
                r#"[{"every": "1h", "end": "2026-02-01T00:00:00Z"}, {"cron": "30 2 * * *", "exclude": ["2026-05-01"]}]"#,
                "2026-05-01T02:30:00Z",
                Naming::Excluded { by: "the date 2026-05-01".into() },
            ),
            (
                r#"[{"every": "1h", "start": "2026-02-01T00:00:00Z"}, {"cron": "30 2 * * *"}]"#,
                "2026-05-01T02:30:00Z",
                Naming::Named { reasons: vec![] },
            ),
        ]);
        for (spec, instant, expected) in table {
            assert_eq!(naming(spec, instant), expected, "{spec} at {instant}");
        }
        let moved = naming(r#"{"cron": "30 2 * * *", "jitter": "10m"}"#, "2026-05-01T02:30:00Z");
        assert!(
            matches!(&moved, Naming::Moved { reasons, .. } if reasons[0].contains("jitter")),
            "{moved:?}"
        );
    }
}
