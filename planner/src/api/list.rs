//! `list`: pages of jobs, narrowed by namespace, name, labels and state.

use std::collections::BTreeMap;

use bus::specs::{SPEC_PAGE_MAX, StoredSpec};
use futures_util::StreamExt;
use model::manifest;
use model::name::{JobId, Name};
use model::run::RunState;
use store::Store;

use super::Api;
use super::types::{ApiError, JobState, JobView, ListReply, ListRequest};
use crate::service::PlannerBus;

/// Jobs in a page of `list`, unless asked for fewer.
const LIST_PAGE: usize = 500;
/// Runs of each job that a list tells, at most.
pub(super) const RECENT_MAX: usize = 50;
/// Jobs whose runs one request looks at to find those that fail; the next page goes on from there.
const LOOKED_AT_MAX: usize = 5_000;
/// Jobs that are looked at together.
const CHUNK: usize = 100;

impl<S: Store, B: PlannerBus> Api<S, B> {
    pub(super) async fn list(&self, request: Result<ListRequest, ApiError>) -> Result<ListReply, ApiError> {
        let request = request?;
        let namespace = match request.namespace.as_deref().map(Name::new) {
            Some(Ok(name)) => Some(name),
            Some(Err(problem)) => return Err(ApiError::refused(format!("read the namespace: it {problem}"))),
            None => None,
        };
        let limit = request.limit.unwrap_or(LIST_PAGE).clamp(1, SPEC_PAGE_MAX);
        let recent = request.recent.unwrap_or(0).min(RECENT_MAX);
        let only_failing = request.state == Some(JobState::Failing);
        // One more than is looked at shows that there is another page.
        let looked_at = if only_failing { LOOKED_AT_MAX } else { limit };
        let mut page = self.smallest(&request, namespace.as_ref(), looked_at + 1).await?;
        let more = page.len() > looked_at;
        page.truncate(looked_at);
        let mut jobs: Vec<JobView> = Vec::new();
        let mut last = None;
        for chunk in page.chunks(CHUNK) {
            let views = chunk.iter().map(|(job, stored)| self.listed(job, stored, recent));
            for view in futures_util::future::try_join_all(views).await? {
                if jobs.len() == limit {
                    return Ok(ListReply { jobs, next: last });
                }
                last = Some(view.job.clone());
                if !only_failing || is_failing(&view) {
                    jobs.push(view);
                }
            }
        }
        Ok(ListReply { jobs, next: last.filter(|_| more) })
    }

    /// The first jobs in order of name, after `after`, that the request means as far as their specs tell.
    async fn smallest(
        &self,
        request: &ListRequest,
        namespace: Option<&Name>,
        count: usize,
    ) -> Result<Vec<(JobId, StoredSpec)>, ApiError> {
        let mut specs = self.bus.list(namespace).await?;
        let mut page = BTreeMap::new();
        while let Some((job, stored)) = specs.next().await {
            let name = job.to_string();
            if request.after.as_ref().is_some_and(|after| name <= *after)
                || !is_meant(&name, &stored, request)
            {
                continue;
            }
            page.insert(name, (job, stored));
            if page.len() > count {
                page.pop_last();
            }
        }
        Ok(page.into_values().collect())
    }
}

fn is_meant(name: &str, stored: &StoredSpec, request: &ListRequest) -> bool {
    if request.search.as_ref().is_some_and(|text| !name.contains(&text.to_lowercase())) {
        return false;
    }
    let by_spec = request.state.filter(|state| *state != JobState::Failing);
    if request.labels.is_empty() && by_spec.is_none() {
        return true;
    }
    let Ok((spec, acceptance)) = manifest::from_bytes(&stored.value, stored.written_at) else {
        return request.labels.is_empty() && by_spec == Some(JobState::Invalid);
    };
    let paused = acceptance.paused_since().is_some();
    let stands = match by_spec {
        None | Some(JobState::Failing) => true,
        Some(JobState::Active) => !paused,
        Some(JobState::Paused) => paused,
        Some(JobState::Invalid) => false,
    };
    stands && request.labels.iter().all(|(key, value)| spec.labels.get(key) == Some(value))
}

fn is_failing(view: &JobView) -> bool {
    view.status.last_run.as_ref().is_some_and(|run| run.state == RunState::DeadLettered.as_str())
}
