//! Judging a `ScheduleSpec`: all problems at once, or a `Schedule`.

use std::sync::OnceLock;
use std::time::Duration;

use super::calendar::Calendar;
use super::cron_rule::CronRule;
use super::dialect::Dialect;
use super::exclude::{Exclusion, Exclusions, NamedCalendar};
use super::expression::{Expression, parse_expression};
use super::hash::Stable;
use super::interval::{DURATION_MAX, INTERVAL_MIN, duration_text};
use super::nominal::{Nominal, Source};
use super::occurrences::{Inner, LAST, Schedule};
use super::spec::{SCHEDULES_MAX, ScheduleSpec};
use super::zone::Zone;
use crate::time::{SECOND_MS, Timestamp, duration_ms};

/// How many expressions one schedule may have: each costs at every step.
const CRON_MAX: usize = 100;
/// How many instants `at` may list.
const AT_MAX: usize = 10_000;
/// How many exclusions a schedule may have, those of its calendars included.
const EXCLUDE_MAX: usize = 10_000;
/// The largest `count`: its last occurrence is found by counting.
pub const COUNT_MAX: u32 = 100_000;
/// The largest `jitter` and `spread`: a day.
const MOVE_MAX: Duration = Duration::from_secs(86_400);

/// Whose schedule it is: the anchor of `every`, the seed of `H`, `jitter` and `spread`.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// `namespace/name`.
    pub job: &'a str,
    /// When the job was first accepted; unchanged by later revisions.
    pub created_at: Timestamp,
}

/// One thing that is wrong with a schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}{}{message}", if .field.is_empty() { "" } else { ": " })]
pub struct ScheduleProblem {
    /// Relative to `schedule`, as written in the manifest: `cron`, `cron[1]`, `timeZone`, `[2].timeZone` of a list; empty
    /// for the schedule as a whole.
    pub field: String,
    /// What is wrong, and what was expected.
    pub message: String,
}

/// For a schedule that may not refer to calendars.
#[must_use]
pub fn no_calendars(_name: &str) -> Option<NamedCalendar> {
    None
}

impl Schedule {
    /// Judges a spec. A schedule that can never occur is refused too, in bounded time.
    ///
    /// ```
    /// use ecron_model::schedule::{Identity, Schedule, ScheduleSpec, no_calendars};
    /// let spec = ScheduleSpec {
    ///     cron: vec!["30 2 * * 1-5".into()],
    ///     time_zone: Some("Europe/Berlin".into()),
    ///     ..ScheduleSpec::default()
    /// };
    /// let created_at = "2026-11-22T06:45:00Z".parse().unwrap();
    /// let identity = Identity { job: "billing/nightly-report", created_at };
    /// let schedule = Schedule::compile(&spec, &identity, &no_calendars).unwrap();
    /// assert_eq!(schedule.next_after(created_at).unwrap().to_string(), "2026-11-23T01:30:00Z");
    /// assert_eq!(schedule.describe(), "at 02:30 on weekdays, Europe/Berlin");
    /// ```
    ///
    /// # Errors
    /// All problems that were found, in the order of the fields.
    pub fn compile(
        spec: &ScheduleSpec,
        identity: &Identity<'_>,
        calendars: &dyn Fn(&str) -> Option<NamedCalendar>,
    ) -> Result<Self, Vec<ScheduleProblem>> {
        let many = !spec.also.is_empty();
        let mut problems = Vec::new();
        if 1 + spec.also.len() > SCHEDULES_MAX {
            let message = format!("{} schedules: expected at most {SCHEDULES_MAX}", 1 + spec.also.len());
            return Err(vec![ScheduleProblem { field: String::new(), message }]);
        }
        let mut compiled = Vec::with_capacity(1 + spec.also.len());
        for (index, one) in spec.each().enumerate() {
            match compile_one(one, identity, calendars) {
                Ok(inner) if many && inner.after.is_some() => problems.push(ScheduleProblem {
                    field: format!("[{index}].after"),
                    message: "it can't stand beside other schedules: it follows the previous run, whatever began that"
                        .into(),
                }),
                Ok(inner) => compiled.push(inner),
                Err(found) => {
                    problems.extend(found.into_iter().map(|one| if many { one.below(index) } else { one }));
                }
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut compiled = compiled.into_iter();
        let Some(first) = compiled.next() else { return Err(problems) };
        Ok(Self::new(Inner { also: compiled.collect(), ..first }))
    }
}

/// One of a job's schedules, by itself.
fn compile_one(
    spec: &ScheduleSpec,
    identity: &Identity<'_>,
    calendars: &dyn Fn(&str) -> Option<NamedCalendar>,
) -> Result<Inner, Vec<ScheduleProblem>> {
    let mut judge = Judge { spec, identity, problems: Vec::new() };
    let inner = judge.inner(calendars);
    if !judge.problems.is_empty() {
        return Err(judge.problems);
    }
    let occurs = inner.after.is_some() || judge.surely_occurs(&inner) || inner.next(-1).is_some();
    if occurs {
        return Ok(inner);
    }
    judge.problem("", "it never occurs: expected at least one instant before the year 2200");
    Err(judge.problems)
}

impl ScheduleProblem {
    /// The same, of one of many schedules.
    fn below(self, index: usize) -> Self {
        let dot = if self.field.is_empty() { "" } else { "." };
        Self { field: format!("[{index}]{dot}{}", self.field), ..self }
    }
}

impl NamedCalendar {
    /// Why no schedule could take it over: each problem with its field, `exclude[1]`. Empty: any can.
    #[must_use]
    pub fn problems(&self) -> Vec<ScheduleProblem> {
        let spec =
            ScheduleSpec { exclude: self.exclude.clone(), dialect: self.dialect, ..ScheduleSpec::default() };
        // Whose job and which zone it will be read for doesn't decide whether an entry is sound.
        let identity = Identity { job: "", created_at: Timestamp::from_ms(0) };
        let mut judge = Judge { spec: &spec, identity: &identity, problems: Vec::new() };
        judge.exclusions(Zone::UTC, &no_calendars);
        judge.problems
    }
}

struct Judge<'a> {
    spec: &'a ScheduleSpec,
    identity: &'a Identity<'a>,
    problems: Vec<ScheduleProblem>,
}

impl Judge<'_> {
    fn problem(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.problems.push(ScheduleProblem { field: field.into(), message: message.into() });
    }

    fn inner(&mut self, calendars: &dyn Fn(&str) -> Option<NamedCalendar>) -> Inner {
        let spec = self.spec;
        self.check_kind();
        let zone = spec.time_zone.as_deref().map_or(Ok(Zone::UTC), Zone::named).unwrap_or_else(|error| {
            self.problem("timeZone", error.to_string());
            Zone::UTC
        });
        let sources = self.sources(zone);
        let first = self.bounds();
        let exclusions = self.exclusions(zone, calendars);
        let jitter = self.bounded("jitter", spec.jitter, Duration::ZERO, MOVE_MAX);
        let spread = self.bounded("spread", spec.spread, Duration::ZERO, MOVE_MAX);
        let spread = Stable::of(self.identity.job, "spread").at(0, spread.unsigned_abs());
        self.bounded("after", spec.after, Duration::ZERO, DURATION_MAX);
        Inner {
            nominal: Nominal { sources, exclusions },
            zone,
            spread: i64::try_from(spread).unwrap_or(0),
            start: spec.start,
            first,
            last: spec.end.map_or(LAST, |end| end.as_ms().min(LAST)),
            count: spec.count,
            counted_last: OnceLock::new(),
            jitter,
            jitter_of: Stable::of(self.identity.job, "jitter"),
            after: spec.after,
            also: Vec::new(),
        }
    }

    /// Whether something occurs without looking: each rule names an instant by itself, and nothing takes it away.
    fn surely_occurs(&self, inner: &Inner) -> bool {
        let spec = self.spec;
        let cut =
            spec.start.is_some() || spec.end.is_some() || spec.count.is_some() || !spec.exclude.is_empty();
        !cut && inner.nominal.sources.iter().any(|source| match source {
            Source::Cron(rule) => rule.surely_occurs(),
            Source::Every { .. } | Source::At(_) => true,
        })
    }

    /// Either rules that name instants, or `after`, which names none and goes with nothing that needs them.
    fn check_kind(&mut self) {
        let spec = self.spec;
        let names_instants = !spec.cron.is_empty() || spec.every.is_some() || !spec.at.is_empty();
        if spec.after.is_none() {
            if !names_instants {
                self.problem("", "it names no instant: expected cron, every, at or after");
            }
            return;
        }
        for (field, is_set) in [
            ("cron", !spec.cron.is_empty()),
            ("every", spec.every.is_some()),
            ("at", !spec.at.is_empty()),
            ("count", spec.count.is_some()),
            ("exclude", !spec.exclude.is_empty()),
            ("jitter", spec.jitter.is_some()),
            ("spread", spec.spread.is_some()),
        ] {
            if is_set {
                self.problem(
                    field,
                    "it can't go with after, which follows the previous run instead of a calendar",
                );
            }
        }
    }

    fn sources(&mut self, zone: Zone) -> Vec<Source> {
        let spec = self.spec;
        let mut sources = Vec::new();
        if spec.cron.len() > CRON_MAX {
            self.problem("cron", format!("{} expressions: expected at most {CRON_MAX}", spec.cron.len()));
        }
        for (index, text) in spec.cron.iter().enumerate().take(CRON_MAX) {
            match self.cron_source(text, zone) {
                Ok(source) => sources.push(source),
                Err(message) => self.problem(indexed("cron", index, spec.cron.len()), message),
            }
        }
        if spec.every.is_some() {
            let interval = self.bounded("every", spec.every, INTERVAL_MIN, DURATION_MAX);
            sources.push(self.every(interval.max(1)));
        }
        if spec.at.len() > AT_MAX {
            self.problem("at", format!("{} instants: expected at most {AT_MAX}", spec.at.len()));
        }
        if !spec.at.is_empty() {
            let mut instants: Vec<i64> = spec.at.iter().map(|at| at.as_ms()).collect();
            instants.sort_unstable();
            instants.dedup();
            sources.push(Source::At(instants));
        }
        sources
    }

    fn cron_source(&self, text: &str, zone: Zone) -> Result<Source, String> {
        let dialect = self.spec.dialect.unwrap_or_default();
        match parse_expression(text, dialect, self.identity.job).map_err(|error| error.to_string())? {
            Expression::Every(interval) => Ok(self.every(duration_ms(interval))),
            Expression::Civil(rule) => {
                let gap = self.spec.gap.unwrap_or(dialect.default_gap());
                let fold = self.spec.fold.unwrap_or(dialect.default_fold());
                let calendar = Calendar::new(*rule)
                    .ok_or("it never occurs: no day before the year 2200 matches all of its fields")?;
                Ok(Source::Cron(CronRule::new(calendar, zone, gap, fold)))
            }
        }
    }

    /// Anchored to `start` or the job's creation, never to the start of a process. Whole seconds stay whole: a job
    /// that was created at 14:45:00.005 and runs every 15 minutes runs at 15:00:00.
    fn every(&self, interval: i64) -> Source {
        let created_at = self.identity.created_at;
        let created_at = if interval % SECOND_MS == 0 { created_at.floor(SECOND_MS) } else { created_at };
        Source::Every { anchor: self.spec.start.unwrap_or(created_at).as_ms(), interval }
    }

    /// The first instant that may occur.
    fn bounds(&mut self) -> i64 {
        let spec = self.spec;
        if let (Some(start), Some(end)) = (spec.start, spec.end)
            && end < start
        {
            self.problem("end", format!("{end} is before start: expected an instant from {start} on"));
        }
        match spec.count {
            Some(0) => self.problem("count", "0: expected at least 1"),
            Some(count) if count > u64::from(COUNT_MAX) => {
                self.problem("count", format!("{count}: expected at most {COUNT_MAX}"));
            }
            _ => {}
        }
        match (spec.start, spec.count) {
            (Some(start), _) => start.as_ms(),
            // Without `start`, counting begins after the job's creation.
            (None, Some(_)) => self.identity.created_at.as_ms() + 1,
            (None, None) => 0,
        }
    }

    fn bounded(&mut self, field: &str, value: Option<Duration>, least: Duration, most: Duration) -> i64 {
        let Some(value) = value else { return 0 };
        if value < least || value > most {
            let (shown, least, most) = (duration_text(value), duration_text(least), duration_text(most));
            self.problem(field, format!("{shown}: expected a duration from {least} to {most}"));
            return 0;
        }
        duration_ms(value)
    }

    fn exclusions(&mut self, zone: Zone, calendars: &dyn Fn(&str) -> Option<NamedCalendar>) -> Exclusions {
        let spec = self.spec;
        let mut exclusions = Exclusions::new(zone);
        let mut entries = 0;
        for (index, entry) in spec.exclude.iter().enumerate() {
            let field = format!("exclude[{index}]");
            let (all, dialect) = match entry {
                Exclusion::Calendar(name) => match calendars(name) {
                    Some(calendar) => (calendar.exclude, calendar.dialect),
                    None => {
                        self.problem(
                            field,
                            format!("calendar {name:?} is unknown: expected a kind: Calendar of that name"),
                        );
                        continue;
                    }
                },
                entry => (vec![entry.clone()], spec.dialect),
            };
            entries += all.len();
            if entries > EXCLUDE_MAX {
                self.problem(
                    field,
                    format!("more than {EXCLUDE_MAX} entries in all: expected at most that many"),
                );
                break;
            }
            for entry in all {
                if let Err(message) = self.exclude(&mut exclusions, entry, dialect.unwrap_or_default()) {
                    self.problem(field.clone(), message);
                }
            }
        }
        exclusions.seal()
    }

    fn exclude(&self, exclusions: &mut Exclusions, entry: Exclusion, dialect: Dialect) -> Result<(), String> {
        match entry {
            Exclusion::Range { from, to } => exclusions.add_range(from, to),
            Exclusion::Calendar(_) => {
                return Err("a calendar inside a calendar: expected dates and expressions".into());
            }
            Exclusion::Cron(text) => match parse_expression(&text, dialect, self.identity.job) {
                Ok(Expression::Civil(rule)) => {
                    let calendar = Calendar::new(*rule)
                        .ok_or("it excludes nothing: no day matches all of its fields")?;
                    exclusions.add_rule(calendar);
                }
                Ok(Expression::Every(_)) => {
                    return Err("@every: expected an expression over the calendar".into());
                }
                Err(error) => return Err(error.to_string()),
            },
        }
        Ok(())
    }
}

/// `cron` for the only one, `cron[1]` for one of many.
fn indexed(field: &str, index: usize, of: usize) -> String {
    if of == 1 { field.to_owned() } else { format!("{field}[{index}]") }
}
