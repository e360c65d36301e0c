//! What a run that somebody asked for brings along: a payload of its own, or that it belongs to a backfill.
//!
//! Only two kinds of runs are looked up, so that scheduled ones cost nothing: those due at a fraction of a second that no
//! schedule names (triggers), and those whose starting deadline has passed although they are to be published.

use std::collections::HashMap;
use std::sync::Arc;

use bus::order::Publication;
use bytes::Bytes;
use model::id::{Entry, Occurrence};
use model::shard::ShardId;
use model::time::{SECOND_MS, Timestamp};
use store::StoreError;
use store::control::{AskedFor, ControlStore};

use crate::jobs::KnownJob;

/// What the runs of one pass bring along.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked(HashMap<Occurrence, AskedFor>);

impl Asked {
    /// Looks up what these runs bring along.
    pub(crate) async fn look_up<S: ControlStore>(
        store: &S,
        shard: ShardId,
        runs: impl Iterator<Item = (&Occurrence, &KnownJob)>,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let wanted: Vec<Occurrence> = runs
            .filter(|(run, job)| may_bring_something(run, job, now))
            .map(|(run, _)| run.clone())
            .collect();
        if wanted.is_empty() {
            return Ok(Self::default());
        }
        let found = store.asked_for(shard, &wanted).await?;
        Ok(Self(wanted.into_iter().zip(found).collect()))
    }

    /// The same for the entries of a pass.
    pub(crate) async fn of_entries<S: ControlStore>(
        store: &S,
        shard: ShardId,
        entries: &[(Entry, Arc<KnownJob>)],
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        Self::look_up(store, shard, entries.iter().map(|(entry, job)| (&entry.occurrence, &**job)), now).await
    }

    /// A run's publication with what it brings along.
    pub(crate) fn apply(&self, run: &Occurrence, mut publication: Publication) -> Publication {
        let Some(asked) = self.0.get(run) else { return publication };
        if let Some(payload) = &asked.payload {
            publication.payload = Bytes::from(payload.clone());
        }
        if asked.backfilled {
            publication.order.start_by = None;
        }
        publication
    }
}

fn may_bring_something(run: &Occurrence, job: &KnownJob, now: Timestamp) -> bool {
    let due_at = run.due_at;
    let is_triggered = due_at.floor(SECOND_MS) != due_at && !job.schedule.names(due_at);
    let is_too_late = job.spec.starting_deadline.is_some_and(|deadline| now > due_at.plus(deadline));
    is_triggered || is_too_late
}
