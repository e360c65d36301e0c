//! `metadata`: what an object is called.

use super::fields::Fields;
use super::node::Node;
use super::problem::Problems;
use crate::name::{CalendarId, JobId, Name, QueueId};
use crate::object::{ObjectKey, ObjectKind};

/// Namespace and name of an object, from the opened `metadata`.
pub(super) fn full_name(fields: &Fields<'_>, problems: &mut Problems) -> Option<(Name, Name)> {
    let name = fields.require("name", problems, "what it is called").and_then(|field| field.name(problems));
    let namespace = fields.get("namespace").map(|field| field.name(problems));
    let namespace = namespace.unwrap_or_else(|| Some(Name::default_name()));
    Some((namespace?, name?))
}

/// The full name of the job that a document is about, without checking the rest: enough to look up what is there.
#[must_use]
pub fn job_id(document: &Node) -> Option<JobId> {
    let (namespace, name) = names(document)?;
    Some(JobId { namespace, name })
}

/// The same for a document that declares another object than a job.
#[must_use]
pub fn object_key(document: &Node) -> Option<ObjectKey> {
    let (namespace, name) = names(document)?;
    match kind(document)? {
        ObjectKind::Calendar => Some(ObjectKey::Calendar(CalendarId { namespace, name })),
        ObjectKind::Namespace => Some(ObjectKey::Namespace(name)),
        ObjectKind::Backfill => None,
        ObjectKind::Queue => Some(ObjectKey::Queue(QueueId { namespace, name })),
    }
}

/// Which object other than a job a document declares. `None`: a job, or nothing that we know.
#[must_use]
pub fn kind(document: &Node) -> Option<ObjectKind> {
    let kind = document.get("kind")?.as_str()?;
    ObjectKind::ALL.into_iter().find(|known| known.as_str() == kind)
}

fn names(document: &Node) -> Option<(Name, Name)> {
    let metadata = document.get("metadata")?;
    let namespace = match metadata.get("namespace") {
        Some(namespace) if !namespace.is_null() => Name::new(namespace.as_str()?).ok()?,
        _ => Name::default_name(),
    };
    Some((namespace, Name::new(metadata.get("name")?.as_str()?).ok()?))
}
