//! `kind: Queue`: from the tree to a `QueueSpec`; and how a job names its queue.

use std::collections::{BTreeMap, BTreeSet};

use super::fields::{Field, Fields};
use super::metadata::full_name;
use super::node::{Node, NodeValue};
use super::problem::{Problems, quoted};
use crate::gate::GateRules;
use crate::limits::{QUEUE_CONCURRENCY_MAX, QUEUE_NAMESPACES_MAX, QUEUE_SHARE_MAX};
use crate::name::{JobId, Name, QueueId};
use crate::rate::{Rate, RateError};
use crate::spec::{QueueSpec, Senders};

/// `None` always comes with a problem.
pub(super) fn queue(document: &Fields<'_>, problems: &mut Problems) -> Option<QueueSpec> {
    let field = document.require("metadata", problems, "it holds the queue's name");
    let id = field.and_then(|field| full_name(&field.fields(problems, &["name", "namespace"])?, problems));
    let spec = document.require("spec", problems, "it says what holds for the queue's runs")?;
    let known = &["concurrency", "rate", "keyRate", "paused", "shares", "from"];
    let fields = spec.fields(problems, known)?;
    let concurrency = fields
        .get("concurrency")
        .and_then(|field| field.int(problems, 1..=QUEUE_CONCURRENCY_MAX, "QUEUE_CONCURRENCY_MAX"));
    let rules = GateRules {
        concurrency,
        rate: fields.get("rate").and_then(|field| rate(&field, problems)),
        key_rate: fields.get("keyRate").and_then(|field| rate(&field, problems)),
        paused: fields.get("paused").and_then(|field| field.flag(problems)).unwrap_or(false),
        shares: fields.get("shares").and_then(|field| shares(&field, problems)).unwrap_or_default(),
    };
    let from = fields.get("from").and_then(|field| senders(&field, problems)).unwrap_or_default();
    let (namespace, name) = id?;
    Some(QueueSpec { id: QueueId { namespace, name }, rules, from })
}

pub(super) fn rate(field: &Field<'_>, problems: &mut Problems) -> Option<Rate> {
    if !matches!(field.node.value, NodeValue::String(_)) {
        return field.expected(problems, "a number of starts and a period, for example 10/s or 10/1m");
    }
    let read = field.text(problems)?.parse();
    read.map_or_else(|error: RateError| field.refuse(problems, error.to_string()), Some)
}

fn shares(field: &Field<'_>, problems: &mut Problems) -> Option<BTreeMap<Name, u32>> {
    let mut shares = BTreeMap::new();
    for (key, share) in field.entries(problems)? {
        let name = match Name::new(key) {
            Ok(name) => Some(name),
            Err(error) => share.refuse(problems, format!("{} is no name: it {error}", quoted(key))),
        };
        let share = share.int(problems, 1..=QUEUE_SHARE_MAX, "QUEUE_SHARE_MAX");
        shares.extend(name.zip(share));
    }
    bounded(field, shares.len(), problems)?;
    Some(shares)
}

fn senders(field: &Field<'_>, problems: &mut Problems) -> Option<Senders> {
    let mut named = BTreeSet::new();
    let mut any = false;
    for item in field.items(problems)? {
        match item.text(problems) {
            Some("*") => any = true,
            Some(_) => named.extend(item.name(problems)),
            None => {}
        }
    }
    if any && !named.is_empty() {
        return field.refuse(problems, "\"*\" means every namespace: leave the others out");
    }
    bounded(field, named.len(), problems)?;
    Some(if any { Senders::Any } else { Senders::Named(named) })
}

fn bounded(field: &Field<'_>, count: usize, problems: &mut Problems) -> Option<()> {
    if count <= QUEUE_NAMESPACES_MAX {
        return Some(());
    }
    field.refuse(
        problems,
        format!("names {count} namespaces; the limit is {QUEUE_NAMESPACES_MAX} (QUEUE_NAMESPACES_MAX)"),
    )
}

/// `reports`, or `billing/reports` for another namespace's.
pub(super) fn queue_name(field: &Field<'_>, own: &Name, problems: &mut Problems) -> Option<QueueId> {
    let text = field.text(problems)?;
    if !text.contains('/') {
        return field.name(problems).map(|name| QueueId { namespace: own.clone(), name });
    }
    match text.parse() {
        Ok(queue) => Some(queue),
        Err(error) => field.refuse(problems, format!("{} is no queue: {error}", quoted(text))),
    }
}

/// The queue of another namespace that a document of a job names, without checking the rest: enough to look it up.
#[must_use]
pub fn foreign_queue(document: &Node) -> Option<QueueId> {
    let job: JobId = super::job_id(document).filter(|_| super::kind(document).is_none())?;
    let queue: QueueId = document.get("spec")?.get("queue")?.as_str()?.parse().ok()?;
    (queue.namespace != job.namespace).then_some(queue)
}
