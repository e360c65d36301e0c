//! The calendars that a job may name, and which ones it does.

use std::collections::BTreeMap;

use super::metadata::object_key;
use super::node::{Node, NodeValue};
use super::{Object, decode};
use crate::name::{CalendarId, Name};
use crate::object::{ObjectKey, ObjectKind};
use crate::schedule::{Exclusion, NamedCalendar, ScheduleSpec};
use crate::time::Timestamp;

/// What is known of calendars where a job is read.
#[derive(Clone, Debug, Default)]
pub struct Calendars {
    known: BTreeMap<CalendarId, NamedCalendar>,
    assumes_others: bool,
}

impl Calendars {
    /// Those that some of these documents declare. One with problems of its own counts as empty: they are told with
    /// it, and not again with every job that names it.
    #[must_use]
    pub fn declared_in<'a>(documents: impl IntoIterator<Item = &'a Node>) -> Self {
        let mut calendars = Self::default();
        for document in documents {
            let Some(ObjectKey::Calendar(id)) = object_key(document) else { continue };
            let calendar = match decode(document, Timestamp::from_ms(0)) {
                Ok(Object::Calendar(spec)) => spec.calendar,
                _ => NamedCalendar::default(),
            };
            calendars.insert(id, calendar);
        }
        calendars
    }

    /// Takes every other calendar for one that is there, with contents that somebody else will look at.
    #[must_use]
    pub fn assuming_others(self) -> Self {
        Self { assumes_others: true, ..self }
    }

    pub fn insert(&mut self, id: CalendarId, calendar: NamedCalendar) {
        self.known.insert(id, calendar);
    }

    #[must_use]
    pub fn has(&self, id: &CalendarId) -> bool {
        self.known.contains_key(id)
    }

    pub(super) fn get(&self, namespace: &Name, name: &str) -> Option<NamedCalendar> {
        let id = CalendarId { namespace: namespace.clone(), name: Name::new(name).ok()? };
        let assumed = || self.assumes_others.then(NamedCalendar::default);
        self.known.get(&id).cloned().or_else(assumed)
    }

    /// What a schedule takes over.
    pub(super) fn of(&self, namespace: &Name, schedule: &ScheduleSpec) -> BTreeMap<Name, NamedCalendar> {
        let named = schedule.each().flat_map(|one| &one.exclude).filter_map(|exclusion| match exclusion {
            Exclusion::Calendar(name) => Some((Name::new(name).ok()?, self.get(namespace, name)?)),
            Exclusion::Range { .. } | Exclusion::Cron(_) => None,
        });
        named.collect()
    }
}

fn one_or_many(node: Option<&Node>) -> &[Node] {
    match node {
        Some(Node { value: NodeValue::Seq(nodes), .. }) => nodes,
        Some(node) => std::slice::from_ref(node),
        None => &[],
    }
}

/// The calendars that a document of a job names, without checking the rest: enough to look them up.
#[must_use]
pub fn calendars_named(document: &Node) -> Vec<CalendarId> {
    let Some(job) = super::job_id(document).filter(|_| super::kind(document).is_none()) else {
        return Vec::new();
    };
    let schedule = ["spec", "schedule"].iter().try_fold(document, |node, key| node.get(key));
    let exclude = one_or_many(schedule).iter().flat_map(|schedule| one_or_many(schedule.get("exclude")));
    let named = exclude.filter_map(|entry| Name::new(entry.get("calendar")?.as_str()?).ok());
    named.map(|name| CalendarId { namespace: job.namespace.clone(), name }).collect()
}

/// The order in which objects are to be written: what others refer to comes first.
#[must_use]
pub fn apply_order(document: &Node) -> u8 {
    match super::kind(document) {
        Some(ObjectKind::Namespace) => 0,
        Some(ObjectKind::Calendar | ObjectKind::Queue) => 1,
        Some(ObjectKind::Backfill) | None => 2,
    }
}
