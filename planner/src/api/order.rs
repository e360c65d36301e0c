//! `order.<ns>.<queue>`: an executor has a run that was published under a revision that may be superseded, and asks what is
//! to become of it. The run was due before the edit, so it is carried out; but by the present revision.

use bus::BusError;
use bus::order::{Order, Publication, body};
use bus::wire::message_id;
use bus::wire::standing::{OrderReply, OrderRequest};
use bytes::Bytes;
use model::declared::Declared;
use model::id::{Occurrence, Revision};
use model::name::QueueId;
use model::run::Generation;
use model::shard::ShardId;
use model::spec::JobSpec;
use store::Store;
use store::control::AskedFor;
use store::stats::Reopening;

use super::Api;
use super::dead::WORRY_AFTER;
use super::types::{ApiError, ErrorKind};
use crate::service::PlannerBus;

impl<S: Store, B: PlannerBus> Api<S, B> {
    pub(super) async fn present_order(
        &self,
        queue: &QueueId,
        request: Result<OrderRequest, ApiError>,
    ) -> Result<OrderReply, ApiError> {
        let OrderRequest { run, revision, generation } = request?;
        let occurrence: Occurrence =
            run.parse().map_err(|problem| ApiError::refused(format!("{problem}")))?;
        let job = &occurrence.job;
        let shard = self.shards.shard_of(job);
        let Some(record) = self.store.jobs(shard, std::slice::from_ref(job)).await?.pop().flatten() else {
            return match self.bus.get(shard, job).await? {
                // A missing record is no deletion: Redis may have been wiped.
                Some(_) => Err(failed(format!("find the record of {job}: it isn't installed yet"))),
                None => Ok(OrderReply::Deleted),
            };
        };
        if record.revision <= Revision(revision) {
            return Ok(OrderReply::AsPublished);
        }
        let standing = self.store.run(shard, &occurrence).await?;
        let is_past = |run: &store::ledger::RunRecord| {
            run.generation > Generation(generation)
                || run.generation == Generation(generation) && run.state.is_end()
        };
        if standing.as_ref().is_some_and(is_past) {
            return Ok(OrderReply::Elsewhere);
        }
        let Declared { spec, .. } = Declared::read(record.spec.as_bytes(), self.clock.now())
            .map_err(|problems| failed(format!("read the record of {job}: {problems}")))?;
        let published_at = standing.and_then(|run| run.published_at).unwrap_or_else(|| self.clock.now());
        let asked = self.store.asked_for(shard, std::slice::from_ref(&occurrence)).await?.pop();
        let moves = spec.queue != *queue;
        let generation = Generation(if moves { generation.saturating_add(1) } else { generation });
        let order = Order::of_job(&spec, record.revision, occurrence.clone(), generation, published_at);
        let (order, payload) = with_asked(order, &spec, asked.unwrap_or_default());
        if !moves {
            return Ok(OrderReply::revised(&order, &payload));
        }
        self.move_run(shard, occurrence, order, payload).await?;
        Ok(OrderReply::Elsewhere)
    }

    /// Publishes a run to its job's present queue, in its next generation, like a redrive: from then on the message in its
    /// former queue means nothing. A crash in between leaves that message, and doing it again publishes nothing twice.
    async fn move_run(
        &self,
        shard: ShardId,
        occurrence: Occurrence,
        order: Order,
        payload: Bytes,
    ) -> Result<(), ApiError> {
        self.bus.ensure_queue(&order.queue).await?;
        let key = match self.bus.cluster().await? {
            Some(cluster) => cluster.message_id_key,
            None => return Err(failed("find the cluster's settings".into())),
        };
        let (revision, generation) = (order.revision, order.generation);
        tracing::info!(run = %order.run_id, queue = %order.queue, %revision, "moving a run to its job's present queue");
        let message_id = message_id(&key, &order.run_id, generation, 0);
        let mut published = self.bus.publish(vec![Publication { order, message_id, payload }]).await;
        let nothing = || Err(BusError::Failed("nothing was sent".into()));
        let sequence = published.pop().unwrap_or_else(nothing)?.sequence;
        let published_at = self.clock.now();
        let worry_at = published_at.plus(WORRY_AFTER);
        let reopening = Reopening { occurrence, revision, generation, sequence, published_at, worry_at };
        self.store.reopen(shard, &reopening).await?;
        Ok(())
    }
}

/// An order and its payload, with what a triggered or backfilled run brings along.
fn with_asked(order: Order, spec: &JobSpec, asked: AskedFor) -> (Order, Bytes) {
    let start_by = order.start_by.filter(|_| !asked.backfilled);
    let payload = asked.payload.map_or_else(|| body(&spec.work), Bytes::from);
    (Order { start_by, ..order }, payload)
}

fn failed(message: String) -> ApiError {
    ApiError::new(ErrorKind::Failed, message)
}
