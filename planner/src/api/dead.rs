//! `redrive` and `purge`: dead letters, some at a time. Each letter is its own matter: one that fails stops no other.
//!
//! A redrive goes through the ledger: message → record open again, in its next generation → letter gone. A crash in
//! between leaves the letter, and doing it again publishes nothing twice.

use std::collections::BTreeSet;
use std::time::Duration;

use bus::dead::{Redriven, StoredDeadLetter};
use bus::wire;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use model::id::{Occurrence, RunId};
use model::name::QueueId;
use model::object::ObjectKind;
use model::run::Generation;
use store::Store;
use store::stats::Reopening;

use super::Api;
use super::audit::named;
use super::queues::queue_of;
use super::types::{ApiError, LetterOutcome, LettersReply, LettersRequest};
use crate::service::PlannerBus;

/// Letters in one request.
pub const LETTERS_MAX: usize = 1_000;
/// Letters of one request that are under way at once.
const LETTERS_IN_FLIGHT_MAX: usize = 16;
/// When to start worrying about a run that was published again.
pub(super) const WORRY_AFTER: Duration = Duration::from_secs(15);
/// The header in which a run's generation stands.
const GENERATION: &str = "Ecron-Generation";

impl<S: Store, B: PlannerBus> Api<S, B> {
    pub(super) async fn redrive(
        &self,
        request: Result<LettersRequest, ApiError>,
    ) -> Result<LettersReply, ApiError> {
        let request = admitted(request?)?;
        let paused = self.paused_queues().await?;
        let mut work: Vec<BoxFuture<'_, LetterOutcome>> = Vec::with_capacity(request.letters.len());
        for number in &request.letters {
            work.push(Box::pin(async { outcome(*number, self.redrive_one(*number, &paused).await) }));
        }
        let letters: Vec<_> =
            futures_util::stream::iter(work).buffered(LETTERS_IN_FLIGHT_MAX).collect().await;
        self.audit_letters("redrive", &request, &letters).await;
        Ok(LettersReply { letters })
    }

    pub(super) async fn purge(
        &self,
        request: Result<LettersRequest, ApiError>,
    ) -> Result<LettersReply, ApiError> {
        let request = admitted(request?)?;
        let mut work: Vec<BoxFuture<'_, LetterOutcome>> = Vec::with_capacity(request.letters.len());
        for number in &request.letters {
            work.push(Box::pin(async { outcome(*number, self.purge_one(*number).await) }));
        }
        let letters: Vec<_> =
            futures_util::stream::iter(work).buffered(LETTERS_IN_FLIGHT_MAX).collect().await;
        self.audit_letters("purge", &request, &letters).await;
        Ok(LettersReply { letters })
    }

    /// The queues that let nothing through. A redriven message doesn't wait at a gate, so it isn't sent at all.
    async fn paused_queues(&self) -> Result<BTreeSet<QueueId>, ApiError> {
        let stored = self.bus.objects(ObjectKind::Queue, None).await?;
        let queues = stored.iter().filter_map(|(_, stored)| queue_of(stored));
        Ok(queues.filter(|spec| spec.rules.paused).map(|spec| spec.id).collect())
    }

    async fn redrive_one(&self, number: u64, paused: &BTreeSet<QueueId>) -> Result<Option<String>, ApiError> {
        let Some(stored) = self.bus.letter(number).await? else { return Err(gone(number)) };
        if let Some(queue) = wire::dead::queue_of(&stored.letter).filter(|queue| paused.contains(queue)) {
            return Err(ApiError::refused(format!(
                "redrive letter {number}: its queue {queue} is paused, and a redriven run doesn't wait at its gate; resume the queue first"
            )));
        }
        if let Some(run) = self.redriven_already(&stored).await? {
            self.bus.purge(number).await?;
            return Ok(Some(run));
        }
        match self.bus.resend(&stored).await? {
            Redriven::Sent { run_id, revision, generation, sequence } => {
                if let RunId::Occurrence(occurrence) = &run_id {
                    let now = self.clock.now();
                    let reopening = Reopening {
                        occurrence: occurrence.clone(),
                        revision,
                        generation,
                        sequence,
                        published_at: now,
                        worry_at: now.plus(WORRY_AFTER),
                    };
                    // Its end may have been settled already: then there is nothing to open.
                    self.store.reopen(self.shards.shard_of(&occurrence.job), &reopening).await?;
                }
                self.bus.purge(number).await?;
                Ok(Some(run_id.to_string()))
            }
            Redriven::NotFound => Err(gone(number)),
            Redriven::Unreadable { problem } => Err(ApiError::refused(format!(
                "redrive letter {number}: it can't run as it is: {problem}; publish it again by hand, then purge it"
            ))),
        }
    }

    /// The run of a letter that was redriven before, by somebody who died before the letter was gone.
    async fn redriven_already(&self, stored: &StoredDeadLetter) -> Result<Option<String>, ApiError> {
        let Ok(occurrence) = stored.letter.id.parse::<Occurrence>() else { return Ok(None) };
        let died = stored.letter.original_headers.get(GENERATION).and_then(|text| text.parse().ok());
        let died = Generation(died.unwrap_or(0));
        let record = self.store.run(self.shards.shard_of(&occurrence.job), &occurrence).await?;
        Ok(record.filter(|record| record.generation > died).map(|record| record.occurrence.to_string()))
    }

    async fn purge_one(&self, number: u64) -> Result<Option<String>, ApiError> {
        if self.bus.purge(number).await? { Ok(None) } else { Err(gone(number)) }
    }

    async fn audit_letters(&self, action: &str, request: &LettersRequest, letters: &[LetterOutcome]) {
        let failed = letters.iter().filter(|letter| letter.error.is_some()).count();
        let numbers: Vec<String> = request.letters.iter().map(ToString::to_string).collect();
        let target = match &request.target {
            Some(filters) => format!("dead letters {filters}"),
            None => format!("dead letters {}", named(&numbers)),
        };
        let detail = (failed > 0).then(|| format!("{failed} more failed"));
        let done = letters.len() - failed;
        let by = request.by.as_deref();
        self.audit_part(by, action, target, Some(done), detail, request.operation.clone()).await;
    }
}

fn admitted(request: LettersRequest) -> Result<LettersRequest, ApiError> {
    let count = request.letters.len();
    if count > LETTERS_MAX {
        return Err(ApiError::refused(format!("take {count} letters at once; the limit is {LETTERS_MAX}")));
    }
    Ok(request)
}

fn gone(number: u64) -> ApiError {
    ApiError::not_found(&format!("dead letter {number}; see `ecron dead list`"))
}

fn outcome(letter: u64, outcome: Result<Option<String>, ApiError>) -> LetterOutcome {
    match outcome {
        Ok(run) => LetterOutcome { letter, run, error: None },
        Err(error) => LetterOutcome { letter, run: None, error: Some(error) },
    }
}
