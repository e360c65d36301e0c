//! What a run that somebody asked for brings along: a payload of its own, or that it belongs to a backfill.
//!
//! Only few runs are looked up, so that scheduled ones cost nothing: those due at a fraction of a second that no schedule
//! names (triggers), those whose starting deadline has passed, and late ones of jobs that limit how many run at once.

use std::collections::HashMap;
use std::sync::Arc;

use bus::order::Publication;
use bytes::Bytes;
use model::id::Occurrence;
use model::misfire::INTERRUPTION_MIN;
use model::shard::ShardId;
use model::time::{SECOND_MS, Timestamp};
use store::StoreError;
use store::control::{AskedFor, ControlStore};
use store::ledger::TakenEntry;

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

    /// The same for the entries of a pass, each with its job.
    pub(crate) async fn of_taken<S: ControlStore>(
        store: &S,
        shard: ShardId,
        entries: &[TakenEntry],
        jobs: &[Option<Arc<KnownJob>>],
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let runs = entries.iter().zip(jobs);
        let known = runs.filter_map(|(taken, job)| Some((&taken.entry.occurrence, &**job.as_ref()?)));
        Self::look_up(store, shard, known, now).await
    }

    /// Whether a run belongs to a backfill.
    pub(crate) fn is_backfilled(&self, run: &Occurrence) -> bool {
        self.0.get(run).is_some_and(|asked| asked.backfilled)
    }

    /// Whether a run was triggered, as far as that isn't plain: its job has another revision by now.
    pub(crate) fn is_triggered(&self, run: &Occurrence) -> bool {
        self.0.get(run).is_some_and(|asked| asked.triggered)
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
    let is_triggered = due_at.floor(SECOND_MS) != due_at && !job.timeline.names(due_at);
    let is_too_late = job.spec.starting_deadline.is_some_and(|deadline| now > due_at.plus(deadline));
    let is_late_and_limited = job.spec.overlap_rule().is_some() && now > due_at.plus(INTERRUPTION_MIN);
    is_triggered || is_too_late || is_late_and_limited
}
