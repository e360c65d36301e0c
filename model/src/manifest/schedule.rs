//! `spec.schedule`: each field read on its own, then the whole compiled, so that an expression, a zone or a rule that
//! can never occur is refused here and not when it is due.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use super::Terms;
use super::calendar::{json_bytes, too_many_bytes};
use super::fields::{Field, Fields};
use super::node::NodeValue;
use super::problem::{Problem, Problems};
use crate::limits::CALENDARS_BYTES_MAX;
use crate::name::JobId;
use crate::schedule::{
    Bound, COUNT_MAX, Exclusion, Identity, Schedule, ScheduleSpec, parse_duration, parse_interval,
};
use crate::time::Timestamp;

const FIELDS: &[&str] = &[
    "cron", "every", "at", "after", "dialect", "timeZone", "gap", "fold", "start", "end", "count", "exclude",
    "jitter", "spread",
];

/// Reads and compiles the schedule of a job.
pub(super) fn schedule(
    field: &Field<'_>,
    job: &JobId,
    terms: &Terms<'_>,
    problems: &mut Problems,
) -> Option<ScheduleSpec> {
    let mut own = Problems::default();
    let spec = read(field, &mut own);
    // Compiled even if a field was refused: an unknown zone and a bad expression are two mistakes, to be told at once.
    if let Some(spec) = &spec {
        for problem in compiled(field, spec, job, terms) {
            if !own.concern(&problem) {
                own.add(problem);
            }
        }
    }
    let is_sound = own.is_empty();
    problems.append(own);
    spec.filter(|_| is_sound)
}

/// One schedule, or a list of them.
fn read(field: &Field<'_>, problems: &mut Problems) -> Option<ScheduleSpec> {
    let NodeValue::Seq(items) = &field.node.value else { return read_one(field, problems) };
    if items.is_empty() {
        return field.refuse(problems, "must not be an empty list");
    }
    let all: Vec<Option<ScheduleSpec>> =
        field.one_or_many().iter().map(|item| read_one(item, problems)).collect();
    ScheduleSpec::union(all.into_iter().collect::<Option<Vec<_>>>()?)
}

fn read_one(field: &Field<'_>, problems: &mut Problems) -> Option<ScheduleSpec> {
    if let NodeValue::String(_) = field.node.value {
        return field
            .refuse(problems, "expected a map, found one text; a cron expression goes into schedule.cron");
    }
    let fields = field.fields(problems, FIELDS)?;
    let dialect = parsed(&fields, "dialect", problems);
    let mut cron = many(&fields, "cron", problems, |text| Ok::<_, String>(text.to_owned()));
    if dialect.is_none() && fields.get("dialect").is_some() {
        // By another dialect's rules a good expression could look bad.
        cron.clear();
    }
    Some(ScheduleSpec {
        cron,
        every: duration(&fields, "every", problems, parse_interval),
        at: many(&fields, "at", problems, Timestamp::from_str),
        after: duration(&fields, "after", problems, parse_duration),
        dialect,
        time_zone: fields.get("timeZone").and_then(|field| field.text(problems)).map(str::to_owned),
        gap: parsed(&fields, "gap", problems),
        fold: parsed(&fields, "fold", problems),
        start: parsed(&fields, "start", problems),
        end: parsed(&fields, "end", problems),
        count: fields.get("count").and_then(|field| field.int(problems, 1..=COUNT_MAX, "")).map(u64::from),
        exclude: fields
            .get("exclude")
            .map(|field| exclusions(&field, Inside::Schedule, problems))
            .unwrap_or_default(),
        jitter: duration(&fields, "jitter", problems, parse_duration),
        spread: duration(&fields, "spread", problems, parse_duration),
        also: Vec::new(),
    })
}

/// A field of one text, by its type's own parser.
pub(super) fn parsed<T: FromStr<Err: Display>>(
    fields: &Fields<'_>,
    key: &str,
    problems: &mut Problems,
) -> Option<T> {
    let field = fields.get(key)?;
    let text = field.text(problems)?;
    text.parse().map_or_else(|error| field.refuse(problems, format!("{error}")), Some)
}

/// A field of one text or a list of them.
fn many<T, E: Display>(
    fields: &Fields<'_>,
    key: &str,
    problems: &mut Problems,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Vec<T> {
    let Some(field) = fields.get(key) else { return Vec::new() };
    let items = field.one_or_many();
    if items.is_empty() {
        field.refuse::<()>(problems, "must not be an empty list");
    }
    let mut values = Vec::new();
    for item in items {
        let Some(text) = item.text(problems) else { continue };
        match parse(text) {
            Ok(value) => values.push(value),
            Err(error) => {
                item.refuse::<()>(problems, error.to_string());
            }
        }
    }
    values
}

fn duration<E: Display>(
    fields: &Fields<'_>,
    key: &str,
    problems: &mut Problems,
    parse: impl Fn(&str) -> Result<Duration, E>,
) -> Option<Duration> {
    let field = fields.get(key)?;
    let text = field.duration_words(problems)?;
    parse(text).map_or_else(|error| field.refuse(problems, format!("{error}")), Some)
}

/// Whose `exclude` it is: a calendar can't name another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inside {
    Schedule,
    Calendar,
}

/// Dates and ranges as text; expressions and calendars as a map with one key, so that none is taken for another.
pub(super) fn exclusions(field: &Field<'_>, inside: Inside, problems: &mut Problems) -> Vec<Exclusion> {
    // Keeps the place of a refused entry, so that the ones behind it keep their numbers in later problems.
    const REFUSED: Exclusion = {
        let never = Bound::Instant(Timestamp::from_ms(0));
        Exclusion::Range { from: never, to: never }
    };
    let items = field.one_or_many();
    items.iter().map(|item| exclusion(item, inside, problems).unwrap_or(REFUSED)).collect()
}

fn exclusion(item: &Field<'_>, inside: Inside, problems: &mut Problems) -> Option<Exclusion> {
    let parsed = |text: &str, problems: &mut Problems| match text.parse() {
        Ok(exclusion) => Some(exclusion),
        Err(error) => item.refuse(problems, format!("{error}")),
    };
    if let NodeValue::String(text) = &item.node.value {
        return parsed(text, problems);
    }
    let fields = item.fields(problems, &["date", "cron", "calendar"])?;
    match (fields.get("date"), fields.get("cron"), fields.get("calendar")) {
        (Some(date), None, None) => parsed(date.text(problems)?, problems),
        (None, Some(cron), None) => cron.text(problems).map(|text| Exclusion::Cron(text.to_owned())),
        (None, None, Some(calendar)) if inside == Inside::Calendar => {
            calendar.refuse(problems, "can't stand in a calendar; give the dates themselves")
        }
        (None, None, Some(calendar)) => {
            calendar.name(problems).map(|name| Exclusion::Calendar(name.as_str().to_owned()))
        }
        _ => item.refuse(problems, "expected one of date, cron and calendar"),
    }
}

/// Whether anything is to come. What follows the end of another run is, unless it had to end before.
fn occurs_after(schedule: &Schedule, spec: &ScheduleSpec, since: Timestamp) -> bool {
    match schedule.after_delay() {
        Some(_) => spec.end.is_none_or(|end| end > since),
        None => schedule.next_after(since).is_some(),
    }
}

/// What the schedule as a whole is refused for.
fn compiled(field: &Field<'_>, spec: &ScheduleSpec, job: &JobId, terms: &Terms<'_>) -> Vec<Problem> {
    let (id, job) = (job, job.to_string());
    let identity = Identity { job: &job, created_at: terms.accepted.created_at };
    let calendars = |name: &str| terms.calendars.get(&id.namespace, name);
    let schedule = match Schedule::compile(spec, &identity, &calendars) {
        Ok(schedule) => schedule,
        Err(refused) => {
            return refused
                .into_iter()
                .map(|problem| field.problem_below(&problem.field, problem.message))
                .collect();
        }
    };
    let bytes: usize = terms.calendars.of(&id.namespace, spec).values().map(json_bytes).sum();
    if bytes > CALENDARS_BYTES_MAX && !terms.is_stored {
        let message = format!("the calendars named here: {}", too_many_bytes(bytes));
        return vec![field.problem_below("exclude", message)];
    }
    let since = terms.accepted.schedule_since;
    if terms.is_stored || occurs_after(&schedule, spec, since) {
        return Vec::new();
    }
    // Each instant of `at` may have passed; of anything else, only the whole can be said to be over.
    let only_at = spec.cron.is_empty() && spec.every.is_none() && spec.also.is_empty();
    vec![field.problem_below(if only_at { "at" } else { "" }, format!("never occurs after {since}"))]
}
