//! `kind: Job`: from the tree to a `JobSpec`.

use std::collections::BTreeMap;

use super::fields::{Field, Fields};
use super::metadata::full_name;
use super::policy;
use super::problem::Problems;
use super::{Terms, queue, schedule, work};
use crate::limits::{LABEL_CHARS_MAX, LABELS_MAX};
use crate::name::{JobId, Name, QueueId};
use crate::spec::JobSpec;

/// The fields of a job's `spec`, in the order of the documentation.
const SPEC_FIELDS: &[&str] = &[
    "schedule",
    "queue",
    "payload",
    "exec",
    "http",
    "headers",
    "overlap",
    "maxActive",
    "catchUp",
    "startingDeadline",
    "timeout",
    "deadline",
    "retry",
    "priority",
    "rateKey",
    "suspend",
    "history",
];

/// `None` always comes with a problem; the reverse isn't so, hence the caller looks at the problems.
pub(super) fn job(document: &Fields<'_>, terms: &Terms<'_>, problems: &mut Problems) -> Option<JobSpec> {
    let metadata = document.require("metadata", problems, "it holds the job's name");
    let metadata = metadata.and_then(|field| metadata_of(&field, problems));
    let spec = document.require("spec", problems, "it says when the job runs, and what");
    let (id, labels) = metadata.unwrap_or_else(placeholder);
    spec_of(&spec?, id, labels, terms, problems)
}

/// Stands in for a broken `metadata`, so that the mistakes of `spec` are found in the same pass.
fn placeholder() -> (JobId, BTreeMap<String, String>) {
    (JobId { namespace: Name::default_name(), name: Name::default_name() }, BTreeMap::new())
}

fn metadata_of(field: &Field<'_>, problems: &mut Problems) -> Option<(JobId, BTreeMap<String, String>)> {
    let fields = field.fields(problems, &["name", "namespace", "labels"])?;
    let full_name = full_name(&fields, problems);
    let labels = fields.get("labels").and_then(|field| labels(&field, problems)).unwrap_or_default();
    let (namespace, name) = full_name?;
    Some((JobId { namespace, name }, labels))
}

fn labels(field: &Field<'_>, problems: &mut Problems) -> Option<BTreeMap<String, String>> {
    let labels = field.texts(problems, |key, value| {
        if key.is_empty() || key.chars().count() > LABEL_CHARS_MAX || !key.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(format!(
                "the key of a label must be 1 to {LABEL_CHARS_MAX} (LABEL_CHARS_MAX) printable ASCII characters \
                 without spaces"
            ));
        }
        let chars = value.chars().count();
        if chars > LABEL_CHARS_MAX {
            return Err(format!("has {chars} characters; the limit is {LABEL_CHARS_MAX} (LABEL_CHARS_MAX)"));
        }
        if value.chars().any(char::is_control) {
            return Err("must not hold control characters".into());
        }
        Ok(())
    })?;
    if labels.len() > LABELS_MAX {
        return field.refuse(
            problems,
            format!("has {} labels; the limit is {LABELS_MAX} (LABELS_MAX)", labels.len()),
        );
    }
    Some(labels)
}

fn spec_of(
    field: &Field<'_>,
    id: JobId,
    labels: BTreeMap<String, String>,
    terms: &Terms<'_>,
    problems: &mut Problems,
) -> Option<JobSpec> {
    let spec = field.fields(problems, SPEC_FIELDS)?;
    let schedule = spec.require("schedule", problems, "when the job runs: cron, every or at");
    let schedule = schedule.and_then(|field| schedule::schedule(&field, &id, terms, problems));
    let (work, default_queue) = work::work(&spec, problems);
    let queue = spec.get("queue").and_then(|field| queue::queue_name(&field, &id.namespace, problems));
    let queue = queue.unwrap_or_else(|| QueueId { namespace: id.namespace.clone(), name: default_queue });
    let headers = spec.get("headers").and_then(|field| work::headers(&field, terms, problems));
    let overlap = spec.get("overlap").and_then(|field| field.word(problems, policy::OVERLAPS));
    let priority = spec.get("priority").and_then(|field| field.word(problems, policy::PRIORITIES));
    let retry = spec.get("retry").and_then(|field| policy::retry(&field, terms, problems));
    let catch_up = spec.get("catchUp").and_then(|field| policy::catch_up(&field, problems));
    let history = spec.get("history").and_then(|field| policy::history(&field, problems));
    let suspend = spec.get("suspend").and_then(|field| field.flag(problems));
    let calendars = schedule.as_ref().map(|schedule| terms.calendars.of(&id.namespace, schedule));
    Some(JobSpec {
        queue,
        calendars: calendars.unwrap_or_default(),
        id,
        labels,
        work,
        headers: headers.unwrap_or_default(),
        overlap: overlap.unwrap_or_default(),
        max_active: policy::max_active(&spec, problems),
        catch_up: catch_up.unwrap_or_default(),
        starting_deadline: policy::starting_deadline(&spec, problems),
        timeout: policy::timeout(&spec, problems),
        deadline: policy::deadline(&spec, problems),
        retry: retry.unwrap_or_default(),
        priority: priority.unwrap_or_default(),
        rate_key: spec.get("rateKey").and_then(|field| policy::rate_key(&field, problems)),
        suspend: suspend.unwrap_or(false),
        history: history.unwrap_or_default(),
        delete_when_done: false,
        schedule: schedule?,
    })
}
