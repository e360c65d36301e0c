//! Manifests: documents that people write (`apiVersion: ecron/v1`), and the objects that they declare.
//!
//! ```text
//! YAML (cli) ──▶ Node ──decode──▶ Object::{Job, Calendar, …} ──encode──▶ JSON
//! JSON ──from_json_bytes──▲          │ ▲
//!                          to_bytes  ▼ │ from_bytes
//!                  the spec store (`stored.rs`); other objects are stored as their manifests
//! ```
//!
//! Pure: no YAML, no IO, no clock. A document is refused as a whole, with all of its problems at once; what this
//! version can't do yet is a problem too, never silently accepted.

mod accept;
mod calendar;
mod calendars;
mod encode;
mod fields;
mod job;
mod json;
mod metadata;
mod namespace;
mod node;
mod policy;
mod problem;
mod queue;
mod scalar;
mod schedule;
mod stored;
mod suggest;
#[cfg(test)]
mod tests;
mod work;

pub use self::accept::{accept, admit};
pub use self::calendars::{Calendars, apply_order, calendars_named};
pub use self::encode::{encode, encode_object, policy_word};
pub use self::metadata::{job_id, kind, object_key};
pub use self::node::{Entry, Node, NodeValue};
pub use self::problem::{PROBLEMS_MAX, Problem};
pub use self::queue::foreign_queue;
pub use self::scalar::duration_text;
pub use self::stored::{STORED_VERSION, from_bytes, to_bytes};

use self::fields::{Field, list};
use self::problem::{Problems, quoted};
use crate::limits::{MANIFEST_BYTES_MAX, MANIFEST_DEPTH_MAX};
use crate::object::{ObjectKey, ObjectKind};
use crate::spec::{Acceptance, CalendarSpec, JobSpec, NamespaceSpec, QueueSpec};
use crate::time::Timestamp;

/// The one `apiVersion` of this version.
pub const API_VERSION: &str = "ecron/v1";
/// The kinds of object that this version knows.
pub const KINDS: [&str; 4] = ["Job", "Calendar", "Namespace", "Queue"];

/// What a document declares.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "nearly every object is a job, and they are read one by one")]
pub enum Object {
    Job(JobSpec),
    Calendar(CalendarSpec),
    Namespace(NamespaceSpec),
    Queue(QueueSpec),
}

impl Object {
    /// The full name of an object that isn't a job.
    #[must_use]
    pub fn key(&self) -> Option<ObjectKey> {
        match self {
            Self::Job(_) => None,
            Self::Calendar(calendar) => Some(ObjectKey::Calendar(calendar.id.clone())),
            Self::Namespace(namespace) => Some(ObjectKey::Namespace(namespace.name.clone())),
            Self::Queue(queue) => Some(ObjectKey::Queue(queue.id.clone())),
        }
    }
}

/// What a document is read for.
#[derive(Clone, Copy, Debug)]
struct Terms<'a> {
    accepted: &'a Acceptance,
    /// It has been accepted before. Then rules that only admission needs don't hold: that a schedule still has
    /// occurrences ahead, and what a manifest may say that a publisher's message says more freely. A job that was
    /// accepted must never become unreadable.
    is_stored: bool,
    /// What the calendars that it names say.
    calendars: &'a Calendars,
}

/// Turns a document into the object that it declares, every default filled in.
///
/// `since` is the instant from which the schedule counts: now, for a new job. A schedule with no occurrence after it
/// is refused, and so is one that names a calendar.
///
/// # Errors
/// All problems of the document, in the order of its lines.
///
/// ```
/// use ecron_model::manifest::{Node, Object, decode};
/// # let now = "2026-11-22T06:45:00Z".parse().unwrap();
/// let text = br#"{
///   "apiVersion": "ecron/v1", "kind": "Job",
///   "metadata": {"name": "nightly-report"},
///   "spec": {"schedule": {"cron": "30 2 * * *"}, "timeout": "10m"}
/// }"#;
/// let Object::Job(job) = decode(&Node::from_json_bytes(text).unwrap(), now).unwrap() else { unreachable!() };
/// assert_eq!(job.id.to_string(), "default/nightly-report");
/// ```
pub fn decode(document: &Node, since: Timestamp) -> Result<Object, Vec<Problem>> {
    decode_with(document, since, &Calendars::default())
}

/// The same for a document that may name these calendars.
///
/// # Errors
/// All problems of the document.
pub fn decode_with(document: &Node, since: Timestamp, calendars: &Calendars) -> Result<Object, Vec<Problem>> {
    read(document, &Acceptance::new(since), calendars, object)
}

/// The same for a document that must declare a job.
///
/// # Errors
/// All problems of the document.
pub fn decode_job(document: &Node, since: Timestamp) -> Result<JobSpec, Vec<Problem>> {
    let acceptance = Acceptance::new(since);
    read(document, &acceptance, &Calendars::default(), job_only)
}

/// Reads a document that is to be accepted.
fn read<T>(
    document: &Node,
    accepted: &Acceptance,
    calendars: &Calendars,
    reader: fn(&Node, &Terms<'_>, &mut Problems) -> Option<T>,
) -> Result<T, Vec<Problem>> {
    let bytes = document.text_bytes();
    if bytes > MANIFEST_BYTES_MAX {
        return Err(vec![json::too_large(bytes)]);
    }
    let mut problems = Problems::default();
    match reader(document, &Terms { accepted, is_stored: false, calendars }, &mut problems) {
        Some(object) if problems.is_empty() => Ok(object),
        _ => Err(problems.into_vec()),
    }
}

/// Reads a job where nothing else makes sense.
fn job_only(document: &Node, terms: &Terms<'_>, problems: &mut Problems) -> Option<JobSpec> {
    match object(document, terms, problems)? {
        Object::Job(job) => Some(job),
        Object::Calendar(_) | Object::Namespace(_) | Object::Queue(_) => {
            problems.add(Problem {
                field: "kind".into(),
                line: document.line_of("kind"),
                message: "must be Job here".into(),
            });
            None
        }
    }
}

fn object(document: &Node, terms: &Terms<'_>, problems: &mut Problems) -> Option<Object> {
    let root = Field::root(document);
    let depth = document.depth();
    if depth > MANIFEST_DEPTH_MAX {
        let message =
            format!("is nested {depth} deep; the limit is {MANIFEST_DEPTH_MAX} (MANIFEST_DEPTH_MAX)");
        return root.refuse(problems, message);
    }
    let fields = root.fields(problems, &["apiVersion", "kind", "metadata", "spec"])?;
    let version = fields.require("apiVersion", problems, API_VERSION);
    if let Some(field) = version
        && let Some(found) = field.text(problems)
        && found != API_VERSION
    {
        field.refuse::<()>(problems, format!("must be {API_VERSION}, not {}", quoted(found)));
    }
    let kind = fields.require("kind", problems, &list(&KINDS));
    let others = ObjectKind::ALL.map(|kind| (kind.as_str(), Some(kind)));
    let words: Vec<_> = [("Job", None)].into_iter().chain(others).collect();
    let kind = kind.and_then(|field| field.word(problems, &words));
    match kind {
        Some(Some(ObjectKind::Calendar)) => calendar::calendar(&fields, problems).map(Object::Calendar),
        Some(Some(ObjectKind::Namespace)) => namespace::namespace(&fields, problems).map(Object::Namespace),
        Some(Some(ObjectKind::Backfill)) => root.refuse(problems, "a backfill is made by `ecron backfill`"),
        Some(Some(ObjectKind::Queue)) => queue::queue(&fields, problems).map(Object::Queue),
        Some(None) => job::job(&fields, terms, problems).map(Object::Job),
        // Without a kind, or with a slip in it, it is read as a job to find the other mistakes. Of something else
        // altogether (whose spec has no schedule) nothing more can be said.
        None if fields.get("kind").is_some() && !has_schedule(document) => None,
        None => job::job(&fields, terms, problems).map(Object::Job),
    }
}

fn has_schedule(document: &Node) -> bool {
    document.get("spec").is_some_and(|spec| spec.get("schedule").is_some())
}
