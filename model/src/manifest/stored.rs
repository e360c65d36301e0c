//! The stored form of a job in the spec store: its manifest in an envelope with what acceptance adds.
//!
//! ```json
//! {"v": 1, "createdAt": "…", "scheduleSince": "…", "manifest": {"apiVersion": "ecron/v1", …},
//!  "calendars": {"de-holidays": {"exclude": ["2026-12-25"]}}}
//! ```
//!
//! `pausedSince`, `resumedAt` and `namespacePaused` tell of the newest pause, if there was one.
//!
//! `superseded` lists the schedules that were in force before, each with the instant since which it counted: what was due
//! by one of them and is late belongs to it (`timeline`).
//!
//! `calendars` holds what the calendars that the schedule names said at acceptance: reading a job needs no look-up,
//! and a revision means the same for ever.
//!
//! What has been accepted stays readable: rules that only admission needs are not applied again. The store may be
//! written by others too (GitOps, another tool): a bare manifest is read as accepted when it was
//! written; it can name no calendars. Whatever else is found there is a list of problems, never a panic.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::fields::{Field, Fields};
use super::node::Node;
use super::problem::{Problem, Problems};
use super::{Calendars, Terms, calendar, encode, job_id, job_only, json};
use crate::limits::{
    CALENDARS_BYTES_MAX, MANIFEST_BYTES_MAX, PAYLOAD_BYTES_MAX, SUPERSEDED_BYTES_MAX, SUPERSEDED_MAX,
};
use crate::name::{CalendarId, Name};
use crate::pause::Pause;
use crate::spec::{Acceptance, JobSpec, Work};
use crate::time::Timestamp;
use crate::timeline::Superseded;

/// The version of the envelope.
pub const STORED_VERSION: u32 = 1;
/// Bytes of a stored job: a manifest, a payload in Base64 and calendars, each at its limit, and the envelope.
const STORED_BYTES_MAX: usize =
    MANIFEST_BYTES_MAX + PAYLOAD_BYTES_MAX / 3 * 4 + CALENDARS_BYTES_MAX + SUPERSEDED_BYTES_MAX + 1024;

/// The stored form of a job.
#[must_use]
pub fn to_bytes(job: &JobSpec, acceptance: &Acceptance) -> Vec<u8> {
    let mut envelope = Map::new();
    envelope.insert("v".into(), STORED_VERSION.into());
    envelope.insert("createdAt".into(), acceptance.created_at.to_string().into());
    envelope.insert("scheduleSince".into(), acceptance.schedule_since.to_string().into());
    if !acceptance.superseded.is_empty() {
        envelope.insert("superseded".into(), json!(acceptance.superseded));
    }
    if let Some(pause) = acceptance.pause {
        envelope.insert("pausedSince".into(), pause.since.to_string().into());
        if let Some(until) = pause.until {
            envelope.insert("resumedAt".into(), until.to_string().into());
        }
    }
    if acceptance.namespace_paused {
        envelope.insert("namespacePaused".into(), true.into());
    }
    if job.delete_when_done {
        envelope.insert("deleteWhenDone".into(), true.into());
    }
    if let Work::Bytes(bytes) = &job.work {
        envelope.insert("payloadBase64".into(), STANDARD.encode(bytes).into());
    }
    if !job.calendars.is_empty() {
        let calendars = job.calendars.iter().map(|(name, calendar)| (name.to_string(), json!(calendar)));
        envelope.insert("calendars".into(), Value::Object(calendars.collect()));
    }
    envelope.insert("manifest".into(), encode(job));
    Value::Object(envelope).to_string().into_bytes()
}

/// Reads a stored job. `written_at` is when the store got it: the acceptance of a bare manifest.
///
/// # Errors
/// All problems of the document, by their fields.
pub fn from_bytes(text: &[u8], written_at: Timestamp) -> Result<(JobSpec, Acceptance), Vec<Problem>> {
    if text.len() > STORED_BYTES_MAX {
        return Err(vec![json::too_large(text.len())]);
    }
    let document = Node::from_json_text(text)?;
    let mut problems = Problems::default();
    let job = if document.get("v").is_some() {
        enveloped(&document, written_at, &mut problems)
    } else {
        let acceptance = Acceptance::new(written_at);
        let calendars = Calendars::default();
        let terms = Terms { accepted: &acceptance, is_stored: false, calendars: &calendars };
        job_only(&document, &terms, &mut problems).map(|job| {
            let acceptance = acceptance.in_namespace(false, job.suspend, written_at);
            (job, acceptance)
        })
    };
    match job {
        Some(job) if problems.is_empty() => Ok(job),
        _ => Err(problems.into_vec()),
    }
}

fn enveloped(
    document: &Node,
    written_at: Timestamp,
    problems: &mut Problems,
) -> Option<(JobSpec, Acceptance)> {
    let root = Field::root(document);
    // First the version: of the fields of another one nothing is known.
    let version = document.get("v").map(|node| Field { place: root.place.key("v", None), node })?;
    let found = version.int(problems, 0..=u32::MAX, "")?;
    if found != STORED_VERSION {
        return version.refuse(problems, format!("is {found}; this version knows only {STORED_VERSION}"));
    }
    const FIELDS: &[&str] = &[
        "v",
        "createdAt",
        "scheduleSince",
        "superseded",
        "pausedSince",
        "resumedAt",
        "namespacePaused",
        "deleteWhenDone",
        "payloadBase64",
        "calendars",
        "manifest",
    ];
    let fields = root.fields(problems, FIELDS)?;
    let created_at = instant(&fields, "createdAt", problems).unwrap_or(written_at);
    let schedule_since = instant(&fields, "scheduleSince", problems).unwrap_or(created_at);
    let superseded = fields.get("superseded").map(|field| superseded(&field, problems)).unwrap_or_default();
    let pause = fields.get("pausedSince").and_then(|field| {
        let since = moment(&field, problems)?;
        let until = fields.get("resumedAt").and_then(|field| moment(&field, problems));
        Some(Pause { since, until })
    });
    let mut flag =
        |name: &'static str| fields.get(name).and_then(|field| field.flag(problems)).unwrap_or(false);
    let namespace_paused = flag("namespacePaused");
    let delete_when_done = flag("deleteWhenDone");
    let bytes = fields.get("payloadBase64").map(|field| payload(&field, problems));
    let manifest = fields.require("manifest", problems, "the job itself")?;
    let acceptance = Acceptance { created_at, schedule_since, superseded, pause, namespace_paused };
    let calendars =
        fields.get("calendars").map(|field| calendars(&field, manifest.node, problems)).unwrap_or_default();
    let terms = Terms { accepted: &acceptance, is_stored: true, calendars: &calendars };
    let mut job = job_only(manifest.node, &terms, problems)?;
    job.delete_when_done = delete_when_done;
    if let Some(bytes) = bytes {
        job.work = Work::Bytes(bytes?);
    }
    // Another tool may have turned `suspend` without saying when.
    let acceptance = acceptance.in_namespace(namespace_paused, job.suspend, schedule_since);
    Some((job, acceptance))
}

fn instant(fields: &Fields<'_>, key: &'static str, problems: &mut Problems) -> Option<Timestamp> {
    moment(&fields.require(key, problems, "when the job was accepted")?, problems)
}

fn moment(field: &Field<'_>, problems: &mut Problems) -> Option<Timestamp> {
    match field.text(problems)?.parse() {
        Ok(at) => Some(at),
        Err(error) => field.refuse(problems, format!("{error}")),
    }
}

/// The schedules that were in force before, oldest first.
fn superseded(field: &Field<'_>, problems: &mut Problems) -> Vec<Superseded> {
    let items = field.items(problems).unwrap_or_default();
    if items.len() > SUPERSEDED_MAX {
        let message = format!("has {} entries; the limit is {SUPERSEDED_MAX} (SUPERSEDED_MAX)", items.len());
        field.refuse::<()>(problems, message);
        return Vec::new();
    }
    let mut found: Vec<Superseded> = Vec::with_capacity(items.len());
    for item in items {
        match serde_json::from_value::<Superseded>(item.node.to_json()) {
            Ok(one) if found.last().is_none_or(|before| before.since <= one.since) => found.push(one),
            Ok(one) => {
                item.refuse::<()>(problems, format!("counts since {}, before the one before it", one.since));
            }
            Err(error) => {
                item.refuse::<()>(problems, format!("is no superseded schedule: {error}"));
            }
        }
    }
    found
}

/// The calendars of a stored job, all of its own namespace.
fn calendars(field: &Field<'_>, manifest: &Node, problems: &mut Problems) -> Calendars {
    let mut calendars = Calendars::default();
    let Some(job) = job_id(manifest) else { return calendars };
    for (name, field) in field.entries(problems).unwrap_or_default() {
        let Some(contents) = calendar::contents(&field, problems) else { continue };
        match Name::new(name) {
            Ok(name) => calendars.insert(CalendarId { namespace: job.namespace.clone(), name }, contents),
            Err(error) => {
                field.refuse::<()>(problems, format!("its name {error}"));
            }
        }
    }
    calendars
}

fn payload(field: &Field<'_>, problems: &mut Problems) -> Option<Vec<u8>> {
    match STANDARD.decode(field.text(problems)?) {
        Ok(bytes) if bytes.len() <= PAYLOAD_BYTES_MAX => Some(bytes),
        Ok(bytes) => {
            let found = bytes.len();
            field.refuse(
                problems,
                format!("has {found} bytes; the limit is {PAYLOAD_BYTES_MAX} (PAYLOAD_BYTES_MAX)"),
            )
        }
        Err(error) => field.refuse(problems, format!("is not Base64: {error}")),
    }
}
