//! `kind: Calendar`: from the tree to a `CalendarSpec`. The same contents stand in a stored job, once for each
//! calendar that it names.

use super::fields::{Field, Fields};
use super::metadata::full_name;
use super::problem::Problems;
use super::schedule::{Inside, exclusions, parsed};
use crate::limits::CALENDARS_BYTES_MAX;
use crate::name::CalendarId;
use crate::schedule::NamedCalendar;
use crate::spec::CalendarSpec;

/// `None` always comes with a problem.
pub(super) fn calendar(document: &Fields<'_>, problems: &mut Problems) -> Option<CalendarSpec> {
    let field = document.require("metadata", problems, "it holds the calendar's name");
    let id = field.and_then(|field| full_name(&field.fields(problems, &["name", "namespace"])?, problems));
    let spec = document.require("spec", problems, "it says what the calendar leaves out")?;
    let calendar = contents(&spec, problems)?;
    let bytes = json_bytes(&calendar);
    if bytes > CALENDARS_BYTES_MAX {
        return spec.refuse(problems, too_many_bytes(bytes));
    }
    let (namespace, name) = id?;
    Some(CalendarSpec { id: CalendarId { namespace, name }, calendar })
}

/// What a calendar says, checked as every schedule that names it will.
pub(super) fn contents(field: &Field<'_>, problems: &mut Problems) -> Option<NamedCalendar> {
    let fields = field.fields(problems, &["exclude", "dialect"])?;
    let mut own = Problems::default();
    let dialect = parsed(&fields, "dialect", &mut own);
    let is_dialect_known = dialect.is_some() || fields.get("dialect").is_none();
    let exclude = fields.require("exclude", &mut own, "the dates, ranges and expressions to leave out");
    let exclude = exclude.map(|field| exclusions(&field, Inside::Calendar, &mut own));
    let calendar = NamedCalendar { exclude: exclude.unwrap_or_default(), dialect };
    // By another dialect's rules a good expression could look bad.
    for problem in if is_dialect_known { calendar.problems() } else { Vec::new() } {
        let problem = field.problem_below(&problem.field, problem.message);
        if !own.concern(&problem) {
            own.add(problem);
        }
    }
    let is_sound = own.is_empty();
    problems.append(own);
    is_sound.then_some(calendar)
}

/// How much room a calendar takes in every job that names it.
pub(super) fn json_bytes(calendar: &NamedCalendar) -> usize {
    serde_json::to_string(calendar).map_or(0, |text| text.len())
}

pub(super) fn too_many_bytes(bytes: usize) -> String {
    format!("has {bytes} bytes as JSON; the limit is {CALENDARS_BYTES_MAX} (CALENDARS_BYTES_MAX)")
}
