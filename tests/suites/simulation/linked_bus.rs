//! The memory bus as one node reaches it, over its line.

use std::collections::BTreeMap;
use std::future::{Future, pending};
use std::time::Duration;

use bus::BusError;
use bus::api::{ApiClient, ApiHandler, ApiServer};
use bus::audit::{AuditLog, AuditRecord};
use bus::backlog::{Backlog, QueueBacklog};
use bus::cancel::{CancelListener, CancelNotice, CancelRequest, CancelSignal};
use bus::checkpoints::{Checkpoints, Cluster};
use bus::dead::{DeadLetter, DeadLetters, Redriven, StoredDeadLetter};
use bus::edits::{Edit, EditMark, EditReader, EditWriter, Edits};
use bus::events::{
    AttemptReport, Event, EventDelivery, EventProgress, EventReader, EventWriter, ProgressNote,
};
use bus::intake::{Intake, IntakeDelivery};
use bus::logs::{LogBatch, LogWriter};
use bus::memory::MemoryBus;
use bus::nudge::Nudge;
use bus::objects::{ObjectStore, StoredObject};
use bus::order::{Order, OrderProblem, Publication};
use bus::queue::{Delivery, Notes, QueueReader};
use bus::runs::{Published, RunStream, StoredRun, StreamExtent};
use bus::specs::{SpecChange, SpecStore, StoredSpec};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use model::id::Revision;
use model::name::{JobId, Name, QueueId};
use model::object::{ObjectKey, ObjectKind};
use model::shard::ShardId;
use model::time::Timestamp;

use crate::line::{Line, Lost, Server};

#[derive(Clone, Debug)]
pub(crate) struct LinkedBus {
    pub(crate) bus: MemoryBus,
    pub(crate) line: Line,
}

/// Something that came over a line, and is answered over it.
#[derive(Debug)]
pub(crate) struct Linked<D> {
    what: D,
    line: Line,
}

fn bus_error(lost: Lost) -> BusError {
    match lost {
        Lost::Refused => BusError::Failed("the simulation lost it".into()),
        Lost::Silent => BusError::Unknown("the simulation lost it".into()),
    }
}

async fn over<T>(line: &Line, deed: impl Future<Output = Result<T, BusError>>) -> Result<T, BusError> {
    line.there(Server::Bus).await.map_err(bus_error)?;
    let done = deed.await;
    line.back(Server::Bus).await.map_err(bus_error)?;
    done
}

/// What is told without being asked for, as far as it arrives; `ends`: with the first that doesn't.
fn told<T: Send + 'static>(line: &Line, stream: BoxStream<'static, T>, ends: bool) -> BoxStream<'static, T> {
    let step = move |(mut stream, line): (BoxStream<'static, T>, Line)| async move {
        loop {
            let item = stream.next().await?;
            match line.back(Server::Bus).await {
                Ok(()) => return Some((item, (stream, line))),
                Err(_) if ends => return None,
                Err(_) => {}
            }
        }
    };
    futures_util::stream::unfold((stream, line.clone()), step).boxed()
}

impl LinkedBus {
    async fn over<T>(&self, deed: impl Future<Output = Result<T, BusError>>) -> Result<T, BusError> {
        over(&self.line, deed).await
    }

    fn linked<D>(&self, found: Vec<D>) -> Vec<Linked<D>> {
        found.into_iter().map(|what| Linked { what, line: self.line.clone() }).collect()
    }

    async fn publish_one(&self, publication: Publication) -> Result<Published, BusError> {
        self.line.there(Server::Bus).await.map_err(bus_error)?;
        let order = publication.order.clone();
        let answer = self.bus.publish(vec![publication]).await.pop();
        let published = answer.ok_or_else(|| BusError::Unknown("no answer".into()))?;
        if let Ok(published) = &published {
            self.line.watch().published(self.line.name(), &order, published);
        }
        self.line.back(Server::Bus).await.map_err(bus_error)?;
        published
    }
}

impl RunStream for LinkedBus {
    async fn publish(&self, publications: Vec<Publication>) -> Vec<Result<Published, BusError>> {
        futures_util::future::join_all(publications.into_iter().map(|one| self.publish_one(one))).await
    }

    async fn stored_message_id(&self, sequence: u64) -> Result<Option<String>, BusError> {
        self.over(self.bus.stored_message_id(sequence)).await
    }

    async fn stored_run(&self, sequence: u64) -> Result<Option<StoredRun>, BusError> {
        self.over(self.bus.stored_run(sequence)).await
    }

    async fn extent(&self) -> Result<StreamExtent, BusError> {
        self.over(self.bus.extent()).await
    }

    async fn ensure_queue(&self, queue: &QueueId) -> Result<(), BusError> {
        self.over(self.bus.ensure_queue(queue)).await
    }

    async fn limit_queue(&self, queue: &QueueId, most: Option<u32>) -> Result<(), BusError> {
        self.over(self.bus.limit_queue(queue, most)).await
    }

    async fn withdraw(&self, sequence: u64) -> Result<bool, BusError> {
        self.over(self.bus.withdraw(sequence)).await
    }

    fn connected(&self) -> bool {
        self.bus.connected() && !self.line.is_cut(Server::Bus)
    }
}

impl SpecStore for LinkedBus {
    async fn put_by(
        &self,
        shard: ShardId,
        job: &JobId,
        expected: Option<Revision>,
        value: Bytes,
        by: Option<&str>,
    ) -> Result<Revision, BusError> {
        self.over(self.bus.put_by(shard, job, expected, value, by)).await
    }

    async fn delete_by(
        &self,
        shard: ShardId,
        job: &JobId,
        expected: Revision,
        by: Option<&str>,
    ) -> Result<Revision, BusError> {
        self.over(self.bus.delete_by(shard, job, expected, by)).await
    }

    async fn get(&self, shard: ShardId, job: &JobId) -> Result<Option<StoredSpec>, BusError> {
        self.over(self.bus.get(shard, job)).await
    }

    async fn changes(
        &self,
        shards: &[ShardId],
        after: Revision,
    ) -> Result<BoxStream<'static, SpecChange>, BusError> {
        Ok(told(&self.line, self.over(self.bus.changes(shards, after)).await?, true))
    }

    async fn list(
        &self,
        namespace: Option<&Name>,
    ) -> Result<BoxStream<'static, (JobId, StoredSpec)>, BusError> {
        self.over(self.bus.list(namespace)).await
    }

    async fn jobs_of(&self, shard: ShardId) -> Result<Vec<JobId>, BusError> {
        self.over(self.bus.jobs_of(shard)).await
    }
}

impl ObjectStore for LinkedBus {
    async fn put_object(
        &self,
        key: &ObjectKey,
        expected: Option<Revision>,
        value: Bytes,
    ) -> Result<Revision, BusError> {
        self.over(self.bus.put_object(key, expected, value)).await
    }

    async fn delete_object(&self, key: &ObjectKey, expected: Revision) -> Result<Revision, BusError> {
        self.over(self.bus.delete_object(key, expected)).await
    }

    async fn object(&self, key: &ObjectKey) -> Result<Option<StoredObject>, BusError> {
        self.over(self.bus.object(key)).await
    }

    async fn objects_revision(&self) -> Result<Revision, BusError> {
        self.over(self.bus.objects_revision()).await
    }

    async fn objects(
        &self,
        kind: ObjectKind,
        namespace: Option<&Name>,
    ) -> Result<Vec<(ObjectKey, StoredObject)>, BusError> {
        self.over(self.bus.objects(kind, namespace)).await
    }
}

impl Checkpoints for LinkedBus {
    async fn init_cluster(&self, proposal: &Cluster) -> Result<Cluster, BusError> {
        self.over(self.bus.init_cluster(proposal)).await
    }

    async fn cluster(&self) -> Result<Option<Cluster>, BusError> {
        self.over(self.bus.cluster()).await
    }

    async fn save_checkpoint(
        &self,
        node: &str,
        dispatched_until: &BTreeMap<ShardId, Timestamp>,
    ) -> Result<(), BusError> {
        self.over(self.bus.save_checkpoint(node, dispatched_until)).await
    }

    async fn checkpoints(&self) -> Result<BTreeMap<ShardId, Timestamp>, BusError> {
        self.over(self.bus.checkpoints()).await
    }
}

impl Nudge for LinkedBus {
    async fn nudge(&self, shard: ShardId) -> Result<(), BusError> {
        self.over(self.bus.nudge(shard)).await
    }

    async fn nudges(&self) -> Result<BoxStream<'static, ShardId>, BusError> {
        Ok(told(&self.line, self.over(self.bus.nudges()).await?, false))
    }
}

impl ApiServer for LinkedBus {
    /// A request that doesn't arrive, or whose answer doesn't, is one that nobody answers.
    async fn serve(&self, handler: ApiHandler) -> Result<(), BusError> {
        let line = self.line.clone();
        let served: ApiHandler = std::sync::Arc::new(move |verb, body| {
            let (line, handler) = (line.clone(), handler.clone());
            async move {
                if line.there(Server::Bus).await.is_err() {
                    return pending().await;
                }
                let answer = handler(verb, body).await;
                if line.back(Server::Bus).await.is_err() {
                    return pending().await;
                }
                answer
            }
            .boxed()
        });
        self.bus.serve(served).await
    }
}

impl ApiClient for LinkedBus {
    async fn request(&self, verb: &str, body: Bytes, timeout: Duration) -> Result<Bytes, BusError> {
        self.over(self.bus.request(verb, body, timeout)).await
    }
}

impl AuditLog for LinkedBus {
    async fn audit(&self, record: &AuditRecord) -> Result<(), BusError> {
        self.over(self.bus.audit(record)).await
    }

    async fn audits(&self, since: Timestamp) -> Result<Vec<AuditRecord>, BusError> {
        self.over(self.bus.audits(since)).await
    }
}

impl QueueBacklog for LinkedBus {
    async fn backlog(&self, queue: &QueueId) -> Result<Option<Backlog>, BusError> {
        self.over(self.bus.backlog(queue)).await
    }
}

impl EditWriter for LinkedBus {
    async fn announce(&self, queue: &QueueId, edit: &Edit) -> Result<(), BusError> {
        self.over(self.bus.announce(queue, edit)).await
    }
}

impl EditReader for LinkedBus {
    async fn edits_after(&self, queue: &QueueId, mark: Option<EditMark>) -> Result<Edits, BusError> {
        self.over(self.bus.edits_after(queue, mark)).await
    }
}

impl DeadLetters for LinkedBus {
    async fn park(&self, letter: &DeadLetter) -> Result<u64, BusError> {
        self.over(self.bus.park(letter)).await
    }

    async fn letters(&self, from: u64, limit: usize) -> Result<Vec<StoredDeadLetter>, BusError> {
        self.over(self.bus.letters(from, limit)).await
    }

    async fn letter(&self, number: u64) -> Result<Option<StoredDeadLetter>, BusError> {
        self.over(self.bus.letter(number)).await
    }

    async fn resend(&self, stored: &StoredDeadLetter) -> Result<Redriven, BusError> {
        self.over(self.bus.resend(stored)).await
    }

    async fn purge(&self, number: u64) -> Result<bool, BusError> {
        self.over(self.bus.purge(number)).await
    }
}

impl EventWriter for LinkedBus {
    async fn report(&self, report: &AttemptReport) -> Result<(), BusError> {
        let stored = async {
            self.bus.report(report).await?;
            self.line.watch().reported(report);
            Ok(())
        };
        self.over(stored).await
    }

    async fn note_progress(&self, note: &ProgressNote) -> Result<(), BusError> {
        self.over(self.bus.note_progress(note)).await
    }
}

impl EventReader for LinkedBus {
    type Delivery = Linked<<MemoryBus as EventReader>::Delivery>;

    async fn fetch_events(&self, limit: usize, wait: Duration) -> Result<Vec<Self::Delivery>, BusError> {
        Ok(self.linked(self.over(self.bus.fetch_events(limit, wait)).await?))
    }

    async fn event_progress(&self) -> Result<EventProgress, BusError> {
        self.over(self.bus.event_progress()).await
    }

    async fn watch_events(&self) -> Result<BoxStream<'static, Event>, BusError> {
        self.over(self.bus.watch_events()).await
    }
}

impl<D: EventDelivery> EventDelivery for Linked<D> {
    fn event(&self) -> &Event {
        self.what.event()
    }

    async fn ack(&self) -> Result<(), BusError> {
        over(&self.line, self.what.ack()).await
    }
}

impl LogWriter for LinkedBus {
    async fn log(&self, batch: &LogBatch) -> Result<(), BusError> {
        self.over(self.bus.log(batch)).await
    }
}

impl Intake for LinkedBus {
    type Delivery = Linked<<MemoryBus as Intake>::Delivery>;

    async fn fetch_intake(&self, limit: usize, wait: Duration) -> Result<Vec<Self::Delivery>, BusError> {
        Ok(self.linked(self.over(self.bus.fetch_intake(limit, wait)).await?))
    }
}

impl<D: IntakeDelivery> IntakeDelivery for Linked<D> {
    fn subject(&self) -> &str {
        self.what.subject()
    }

    fn headers(&self) -> &BTreeMap<String, String> {
        self.what.headers()
    }

    fn payload(&self) -> &Bytes {
        self.what.payload()
    }

    fn sequence(&self) -> u64 {
        self.what.sequence()
    }

    fn received_at(&self) -> Timestamp {
        self.what.received_at()
    }

    async fn ack(&self) -> Result<(), BusError> {
        over(&self.line, self.what.ack()).await
    }
}

impl CancelSignal for LinkedBus {
    async fn cancel(&self, request: &CancelRequest, wait: Duration) -> Result<bool, BusError> {
        self.over(self.bus.cancel(request, wait)).await
    }
}

impl<N: CancelNotice> CancelNotice for Linked<N> {
    fn request(&self) -> &CancelRequest {
        self.what.request()
    }

    async fn in_hand(&self) -> Result<(), BusError> {
        over(&self.line, self.what.in_hand()).await
    }
}

impl CancelListener for LinkedBus {
    type Notice = Linked<<MemoryBus as CancelListener>::Notice>;

    async fn cancels(&self, queue: &QueueId) -> Result<BoxStream<'static, Self::Notice>, BusError> {
        let heard = told(&self.line, self.over(self.bus.cancels(queue)).await?, false);
        let line = self.line.clone();
        Ok(heard.map(move |what| Linked { what, line: line.clone() }).boxed())
    }
}

impl QueueReader for LinkedBus {
    type Delivery = Linked<<MemoryBus as QueueReader>::Delivery>;

    async fn fetch(
        &self,
        queue: &QueueId,
        limit: usize,
        wait: Duration,
    ) -> Result<Vec<Self::Delivery>, BusError> {
        Ok(self.linked(self.over(self.bus.fetch(queue, limit, wait)).await?))
    }

    fn ack_wait(&self) -> Duration {
        self.bus.ack_wait()
    }
}

impl<D: Delivery> Delivery for Linked<D> {
    fn order(&self) -> &Result<Order, OrderProblem> {
        self.what.order()
    }

    fn payload(&self) -> &Bytes {
        self.what.payload()
    }

    fn raw_headers(&self) -> &BTreeMap<String, String> {
        self.what.raw_headers()
    }

    fn subject(&self) -> &str {
        self.what.subject()
    }

    fn sequence(&self) -> u64 {
        self.what.sequence()
    }

    fn stored_at(&self) -> Timestamp {
        self.what.stored_at()
    }

    fn delivered(&self) -> u32 {
        self.what.delivered()
    }

    async fn ack(&self) -> Result<(), BusError> {
        over(&self.line, self.what.ack()).await
    }

    async fn nak(&self, delay: Duration) -> Result<(), BusError> {
        over(&self.line, self.what.nak(delay)).await
    }

    async fn term(&self, reason: &str) -> Result<(), BusError> {
        over(&self.line, self.what.term(reason)).await
    }

    async fn notes(&self) -> Result<Notes, BusError> {
        over(&self.line, self.what.notes()).await
    }

    async fn note(&self, notes: &Notes) -> Result<(), BusError> {
        over(&self.line, self.what.note(notes)).await
    }

    async fn in_progress(&self) -> Result<(), BusError> {
        over(&self.line, self.what.in_progress()).await
    }
}
