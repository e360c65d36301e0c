//! Manifests: documents that people write (`apiVersion: ecron/v1`), and the objects that they declare.
//!
//! ```text
//! YAML (cli) ──▶ Node ──decode──▶ Object::Job(JobSpec) ──encode──▶ JSON
//! JSON ──from_json_bytes──▲          │ ▲
//!                          to_bytes  ▼ │ from_bytes
//!                             the spec store (`stored.rs`)
//! ```
//!
//! Pure: no YAML, no IO, no clock. A document is refused as a whole, with all of its problems at once; what this
//! version can't do yet is a problem too, never silently accepted.

mod accept;
mod encode;
mod fields;
mod job;
mod json;
mod node;
mod policy;
mod problem;
mod scalar;
mod schedule;
mod stored;
mod suggest;
#[cfg(test)]
mod tests;
mod work;

pub use self::accept::{accept, admit};
pub use self::encode::encode;
pub use self::node::{Entry, Node, NodeValue};
pub use self::problem::{PROBLEMS_MAX, Problem};
pub use self::scalar::duration_text;
pub use self::stored::{STORED_VERSION, from_bytes, to_bytes};

use self::fields::{Field, list};
use self::problem::{Problems, quoted};
use crate::limits::{MANIFEST_BYTES_MAX, MANIFEST_DEPTH_MAX};
use crate::name::{JobId, Name};
use crate::spec::{Acceptance, JobSpec};
use crate::time::Timestamp;

/// The one `apiVersion` of this version.
pub const API_VERSION: &str = "ecron/v1";
/// The kinds of object that this version knows.
pub const KINDS: [&str; 1] = ["Job"];

/// What a document declares.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    Job(JobSpec),
}

/// What a document is read for.
#[derive(Clone, Copy, Debug)]
struct Terms {
    accepted: Acceptance,
    /// It has been accepted before. Then rules that only admission needs don't hold: that a schedule still has
    /// occurrences ahead, and what a manifest may say that a publisher's message says more freely. A job that was
    /// accepted must never become unreadable.
    is_stored: bool,
}

/// Turns a document into the object that it declares, every default filled in.
///
/// `since` is the instant from which the schedule counts: now, for a new job. A schedule with no occurrence after it
/// is refused.
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
/// let Object::Job(job) = decode(&Node::from_json_bytes(text).unwrap(), now).unwrap();
/// assert_eq!(job.id.to_string(), "default/nightly-report");
/// ```
pub fn decode(document: &Node, since: Timestamp) -> Result<Object, Vec<Problem>> {
    decode_accepted(document, &Acceptance { created_at: since, schedule_since: since })
}

/// The same for a job that replaces one which has been accepted before.
fn decode_accepted(document: &Node, accepted: &Acceptance) -> Result<Object, Vec<Problem>> {
    let bytes = document.text_bytes();
    if bytes > MANIFEST_BYTES_MAX {
        return Err(vec![json::too_large(bytes)]);
    }
    let mut problems = Problems::default();
    match object(document, &Terms { accepted: *accepted, is_stored: false }, &mut problems) {
        Some(object) if problems.is_empty() => Ok(object),
        _ => Err(problems.into_vec()),
    }
}

/// The full name of the job that a document is about, without checking the rest: enough to look up what is there.
#[must_use]
pub fn job_id(document: &Node) -> Option<JobId> {
    let metadata = document.get("metadata")?;
    let namespace = match metadata.get("namespace") {
        Some(namespace) if !namespace.is_null() => Name::new(namespace.as_str()?).ok()?,
        _ => Name::default_name(),
    };
    Some(JobId { namespace, name: Name::new(metadata.get("name")?.as_str()?).ok()? })
}

fn object(document: &Node, terms: &Terms, problems: &mut Problems) -> Option<Object> {
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
    let kind = kind.and_then(|field| field.word(problems, &[("Job", ())]));
    // Of an unknown kind nothing more can be said; without any, it is read as a job to find the other mistakes.
    if kind.is_none() && fields.get("kind").is_some() {
        return None;
    }
    job::job(&fields, terms, problems).map(Object::Job)
}
