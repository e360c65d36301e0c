//! An executor of the campaign: the SDK with handlers that behave as their payload says, and that write down what they
//! see before they do anything else.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bus::cancel::CancelListener;
use bus::dead::{DeadLetter, Redriven, StoredDeadLetter};
use bus::edits::{EditMark, Edits};
use bus::events::{AttemptReport, ProgressNote};
use bus::logs::LogBatch;
use bus::nats::{NatsBus, NatsDelivery, NatsOptions};
use bus::queue::Delivery;
use bus::{ApiClient, BusError, DeadLetters, EditReader, EventWriter, LogWriter, QueueReader};
use bytes::Bytes;
use executor_sdk::{Context, Executor, HandlerError};
use futures_util::stream::BoxStream;
use harness::witness::now_ms;
use model::name::QueueId;

use crate::evidence::{Journal, Seen};
use crate::jobs::{Conduct, Payload, QUEUES};

/// Runs of one queue at the same time.
const CONCURRENCY: usize = 32;
/// How long attempts may go on when it is told to stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two attempts to reach the server at the start.
const CONNECT_DELAY: Duration = Duration::from_millis(250);

/// Works until it is told to stop.
pub(crate) async fn run(nats_url: &str, name: &str, seen: &Path) -> anyhow::Result<()> {
    let seen = Arc::new(Journal::open(seen)?);
    let bus = loop {
        match NatsBus::connect(nats_url, NatsOptions { name: name.into(), ..NatsOptions::default() }).await {
            Ok(bus) => break bus,
            Err(problem) => eprintln!("failed to connect: {problem}"),
        }
        tokio::time::sleep(CONNECT_DELAY).await;
    };
    let witnessed = Witnessed { bus, seen: Arc::clone(&seen) };
    let mut executor = Executor::new(Arc::new(witnessed)).name(name).drain_timeout(DRAIN_TIMEOUT);
    for queue in QUEUES {
        let seen = Arc::clone(&seen);
        executor = executor
            .queue(queue)?
            .concurrency(CONCURRENCY)
            .handle(move |ctx: Context, payload: Payload| handle(ctx, payload, Arc::clone(&seen)));
    }
    Ok(executor.run().await?)
}

async fn handle(ctx: Context, payload: Payload, seen: Arc<Journal>) -> Result<(), HandlerError> {
    let (run, attempt) = (ctx.run_id().to_string(), ctx.attempt());
    let (due_ms, token) = (ctx.due_at().as_ms(), payload.token.clone());
    seen.note(&Seen::Begun { run: run.clone(), attempt, due_ms, token, at_ms: now_ms() });
    tokio::select! {
        () = ctx.cancelled() => return Err("cancelled".into()),
        () = tokio::time::sleep(Duration::from_millis(payload.takes_ms)) => {}
    }
    let succeeded = match payload.conduct {
        Conduct::Succeed => true,
        Conduct::Stumble => attempt > 1,
        Conduct::Fail => false,
    };
    seen.note(&Seen::Ended { run, attempt, succeeded, at_ms: now_ms() });
    if succeeded { Ok(()) } else { Err("as it was told to".into()) }
}

/// The bus, and a note of each message that came and each report that was stored.
struct Witnessed {
    bus: NatsBus,
    seen: Arc<Journal>,
}

impl QueueReader for Witnessed {
    type Delivery = NatsDelivery;

    async fn fetch(
        &self,
        queue: &QueueId,
        limit: usize,
        wait: Duration,
    ) -> Result<Vec<NatsDelivery>, BusError> {
        let deliveries = self.bus.fetch(queue, limit, wait).await?;
        for delivery in &deliveries {
            let Ok(order) = delivery.order() else { continue };
            self.seen.note(&Seen::Delivered {
                run: order.run_id.to_string(),
                generation: order.generation.0,
                sequence: delivery.sequence(),
                delivered: delivery.delivered(),
                at_ms: now_ms(),
            });
        }
        Ok(deliveries)
    }

    fn ack_wait(&self) -> Duration {
        self.bus.ack_wait()
    }
}

impl EventWriter for Witnessed {
    async fn report(&self, report: &AttemptReport) -> Result<(), BusError> {
        self.bus.report(report).await?;
        self.seen.note(&Seen::Reported {
            run: report.run_id.to_string(),
            generation: report.generation.0,
            attempt: report.end.attempt,
            ends_run: report.ends_run.map(|state| state.as_str().to_owned()),
            at_ms: now_ms(),
        });
        Ok(())
    }

    async fn note_progress(&self, note: &ProgressNote) -> Result<(), BusError> {
        self.bus.note_progress(note).await
    }
}

impl EditReader for Witnessed {
    async fn edits_after(&self, queue: &QueueId, mark: Option<EditMark>) -> Result<Edits, BusError> {
        self.bus.edits_after(queue, mark).await
    }
}

impl ApiClient for Witnessed {
    async fn request(&self, verb: &str, body: Bytes, timeout: Duration) -> Result<Bytes, BusError> {
        self.bus.request(verb, body, timeout).await
    }
}

impl LogWriter for Witnessed {
    async fn log(&self, batch: &LogBatch) -> Result<(), BusError> {
        self.bus.log(batch).await
    }
}

impl DeadLetters for Witnessed {
    async fn park(&self, letter: &DeadLetter) -> Result<u64, BusError> {
        self.bus.park(letter).await
    }

    async fn letters(&self, from: u64, limit: usize) -> Result<Vec<StoredDeadLetter>, BusError> {
        self.bus.letters(from, limit).await
    }

    async fn letter(&self, number: u64) -> Result<Option<StoredDeadLetter>, BusError> {
        self.bus.letter(number).await
    }

    async fn resend(&self, stored: &StoredDeadLetter) -> Result<Redriven, BusError> {
        self.bus.resend(stored).await
    }

    async fn purge(&self, number: u64) -> Result<bool, BusError> {
        self.bus.purge(number).await
    }
}

impl CancelListener for Witnessed {
    type Notice = <NatsBus as CancelListener>::Notice;

    async fn cancels(&self, queue: &QueueId) -> Result<BoxStream<'static, Self::Notice>, BusError> {
        self.bus.cancels(queue).await
    }
}
