//! Every job as it is declared, read for a forecast, and what becomes of them with proposed manifests applied.

use std::collections::BTreeMap;

use bus::{BusError, ObjectStore, SpecStore};
use bytes::Bytes;
use futures_util::StreamExt;
use model::declared::Declared;
use model::forecast::{Forecast, Share, forecast, makers};
use model::manifest::{self, Calendars, Node, Object, decode};
use model::name::JobId;
use model::object::{ObjectKey, ObjectKind};
use model::time::{MINUTE_MS, Timestamp};
use planner::api::types::InputProblem;
use serde::Serialize;
use utoipa::ToSchema;

/// Jobs of the peak that are named.
const MAKERS_SHOWN: usize = 20;
/// Minutes that are named as the busiest.
const PEAKS_SHOWN: usize = 5;

/// The jobs, by name.
#[derive(Debug, Default)]
pub struct Outlook {
    jobs: BTreeMap<JobId, Declared>,
    /// Jobs whose newest revision can't be read: none of theirs are foretold.
    unreadable: Vec<JobId>,
    proposed: usize,
}

/// Reads every job, optionally of one namespace.
///
/// # Errors
/// Those of the bus.
pub async fn gather(bus: &impl SpecStore) -> Result<Outlook, BusError> {
    let mut specs = bus.list(None).await?;
    let mut stored: Vec<(JobId, Bytes, Timestamp)> = Vec::new();
    while let Some((job, spec)) = specs.next().await {
        stored.push((job, spec.value, spec.written_at));
    }
    // Compiling a schedule costs some ten microseconds: too long, for very many, to keep a server's threads from others.
    let read = tokio::task::spawn_blocking(move || {
        let mut outlook = Outlook::default();
        for (job, value, written_at) in stored {
            match Declared::read(&value, written_at) {
                Ok(declared) => drop(outlook.jobs.insert(job, declared)),
                Err(_) => outlook.unreadable.push(job),
            }
        }
        outlook
    });
    read.await.map_err(|problem| BusError::Failed(format!("read the jobs: {problem}")))
}

/// The jobs as they would be if these manifests were applied now. Queues and namespaces change nothing of what is due.
///
/// # Errors
/// Every problem of every manifest; or those of the bus, as one problem.
pub async fn propose(
    bus: &impl ObjectStore,
    mut outlook: Outlook,
    manifests: &[serde_json::Value],
    now: Timestamp,
) -> Result<Outlook, Vec<InputProblem>> {
    let nodes: Vec<Node> = manifests.iter().cloned().map(Node::from_json).collect();
    let mut calendars = Calendars::declared_in(&nodes);
    let failed = |problem: BusError| {
        vec![InputProblem { object: 0, field: "calendars".into(), message: format!("failed to {problem}") }]
    };
    for (key, stored) in bus.objects(ObjectKind::Calendar, None).await.map_err(failed)? {
        let ObjectKey::Calendar(id) = key else { continue };
        let node = Node::from_json_bytes(&stored.value).ok();
        if let (false, Some(Ok(Object::Calendar(spec)))) =
            (calendars.has(&id), node.map(|node| decode(&node, now)))
        {
            calendars.insert(id, spec.calendar);
        }
    }
    let mut problems = Vec::new();
    for (object, node) in nodes.iter().enumerate() {
        let problem = |field: String, message: String| InputProblem { object, field, message };
        if manifest::kind(node).is_some() {
            let outcome = manifest::decode_with(node, now, &calendars);
            problems
                .extend(outcome.err().into_iter().flatten().map(|found| problem(found.field, found.message)));
            continue;
        }
        let before = manifest::job_id(node).and_then(|job| outlook.jobs.get(&job));
        let before = before.map(|declared| (&declared.spec, &declared.acceptance));
        match manifest::admit(node, before, now, &calendars) {
            Ok((spec, acceptance)) => {
                let acceptance = match before {
                    Some((_, before)) => acceptance.in_namespace(before.namespace_paused, spec.suspend, now),
                    None => acceptance.in_namespace(false, spec.suspend, now),
                };
                match Declared::of(spec, acceptance) {
                    Ok(declared) => {
                        outlook.proposed += 1;
                        outlook.jobs.insert(declared.spec.id.clone(), declared);
                    }
                    Err(message) => problems.push(problem("spec.schedule".into(), message)),
                }
            }
            Err(found) => problems.extend(found.into_iter().map(|found| problem(found.field, found.message))),
        }
    }
    if problems.is_empty() { Ok(outlook) } else { Err(problems) }
}

/// A forecast as JSON says it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ForecastView {
    /// The first minute.
    pub from: String,
    pub total: u64,
    /// Occurrences due in each minute.
    pub minutes: Vec<u32>,
    /// The same by namespace and queue, the largest first.
    pub shares: Vec<ShareView>,
    /// The busiest minutes, the busiest first.
    pub peaks: Vec<PeakView>,
    /// The jobs that make the busiest one, those with the most first.
    pub makers: Vec<MakerView>,
    /// How many more of them there are.
    pub makers_more: usize,
    /// Jobs that were looked at.
    pub jobs: usize,
    /// How many of them were proposed.
    pub proposed: usize,
    /// Jobs whose runs follow the end of the run before: none of theirs are counted.
    pub unforeseen: Vec<String>,
    /// Jobs whose newest revision can't be read.
    pub unreadable: Vec<String>,
    /// There are too many occurrences: the jobs from this one on aren't counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut_at: Option<String>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ShareView {
    pub namespace: String,
    pub queue: String,
    pub total: u64,
    pub minutes: Vec<u32>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PeakView {
    pub at: String,
    pub count: u32,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct MakerView {
    pub job: String,
    pub count: usize,
}

impl Outlook {
    /// Only the jobs of this namespace, or this queue.
    #[must_use]
    pub fn only(mut self, namespace: Option<&str>, queue: Option<&str>) -> Self {
        self.jobs.retain(|job, declared| {
            namespace.is_none_or(|namespace| job.namespace.as_str() == namespace)
                && queue.is_none_or(|queue| declared.spec.queue.to_string() == queue)
        });
        self
    }

    /// The load of so many minutes, from the one that `from` is in.
    #[must_use]
    pub fn forecast(&self, from: Timestamp, minutes: usize) -> ForecastView {
        let ahead = forecast(self.jobs.values(), from, minutes);
        let peak = ahead.peak();
        let mut makers =
            peak.map_or_else(Vec::new, |(at, _)| makers(self.jobs.values(), at, at.plus_ms(MINUTE_MS)));
        let makers_more = makers.len().saturating_sub(MAKERS_SHOWN);
        makers.truncate(MAKERS_SHOWN);
        let names = |jobs: &[JobId]| jobs.iter().map(ToString::to_string).collect();
        ForecastView {
            from: ahead.from.to_string(),
            total: ahead.total,
            peaks: peaks(&ahead),
            makers: makers
                .into_iter()
                .map(|(job, count)| MakerView { job: job.to_string(), count })
                .collect(),
            makers_more,
            jobs: self.jobs.len(),
            proposed: self.proposed,
            unforeseen: names(&ahead.unforeseen),
            unreadable: names(&self.unreadable),
            cut_at: ahead.cut_at.as_ref().map(ToString::to_string),
            shares: shares(ahead.shares),
            minutes: ahead.minutes,
        }
    }
}

fn shares(shares: BTreeMap<Share, Vec<u32>>) -> Vec<ShareView> {
    let view = |(share, minutes): (Share, Vec<u32>)| ShareView {
        namespace: share.namespace.to_string(),
        queue: share.queue.to_string(),
        total: minutes.iter().map(|count| u64::from(*count)).sum(),
        minutes,
    };
    let mut views: Vec<ShareView> = shares.into_iter().map(view).collect();
    views.sort_by_key(|view| std::cmp::Reverse(view.total));
    views
}

fn peaks(ahead: &Forecast) -> Vec<PeakView> {
    let mut busy: Vec<(usize, u32)> =
        ahead.minutes.iter().copied().enumerate().filter(|(_, count)| *count > 0).collect();
    busy.sort_by_key(|(at, count)| (std::cmp::Reverse(*count), *at));
    busy.into_iter()
        .take(PEAKS_SHOWN)
        .map(|(at, count)| PeakView { at: ahead.at(at).to_string(), count })
        .collect()
}
