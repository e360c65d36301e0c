//! A bus that an executor can die with: from the moment of its death nothing that the executor does arrives anywhere, and
//! nothing arrives at it, as when its process is killed. Its tasks wait for ever. On real servers it may keep a test's pace, too.

use std::collections::BTreeMap;
use std::future::{Future, pending};
use std::sync::Arc;
use std::time::Duration;

use bus::BusError;
use bus::api::ApiClient;
use bus::cancel::{CancelListener, CancelNotice, CancelRequest};
use bus::dead::{DeadLetter, DeadLetters, Redriven, StoredDeadLetter};
use bus::edits::{EditMark, EditReader, Edits};
use bus::events::{AttemptReport, EventWriter, ProgressNote};
use bus::logs::{LogBatch, LogWriter};
use bus::order::{Order, OrderProblem};
use bus::queue::{Delivery, Notes, QueueReader};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use model::name::QueueId;
use model::time::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::pace::Pace;

/// Whether somebody still lives. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Life(CancellationToken);

impl Life {
    pub fn end(&self) {
        self.0.cancel();
    }

    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Does something, unless death comes first.
    async fn lives<T>(&self, deed: impl Future<Output = T>) -> T {
        match self.0.run_until_cancelled(deed).await {
            Some(done) if !self.is_over() => done,
            Some(_) | None => pending().await,
        }
    }
}

/// Somebody's way to the bus.
#[derive(Clone, Debug)]
pub struct MortalBus<B> {
    pub bus: Arc<B>,
    pub life: Life,
    /// By which messages that are put back come again; `None`: the bus' own.
    pub pace: Option<Pace>,
}

impl<B> MortalBus<B> {
    async fn heard(&self) {
        if let Some(pace) = &self.pace {
            self.life.lives(pace.hearing()).await;
        }
    }
}

/// A delivery in the hands of a mortal.
#[derive(Debug)]
pub struct MortalDelivery<D> {
    delivery: Arc<D>,
    life: Life,
    pace: Option<Pace>,
}

impl<D: Delivery> MortalDelivery<D> {
    fn ended(&self, answer: Result<(), BusError>) -> Result<(), BusError> {
        if let Some(pace) = self.pace.as_ref().filter(|_| answer.is_ok()) {
            pace.ended(self.delivery.sequence());
        }
        answer
    }
}

/// A signal that only the living answer.
#[derive(Debug)]
pub struct MortalNotice<N> {
    notice: N,
    life: Life,
}

impl<D: Delivery> Delivery for MortalDelivery<D> {
    fn order(&self) -> &Result<Order, OrderProblem> {
        self.delivery.order()
    }

    fn payload(&self) -> &Bytes {
        self.delivery.payload()
    }

    fn raw_headers(&self) -> &BTreeMap<String, String> {
        self.delivery.raw_headers()
    }

    fn subject(&self) -> &str {
        self.delivery.subject()
    }

    fn sequence(&self) -> u64 {
        self.delivery.sequence()
    }

    fn stored_at(&self) -> Timestamp {
        self.delivery.stored_at()
    }

    fn delivered(&self) -> u32 {
        self.delivery.delivered()
    }

    async fn ack(&self) -> Result<(), BusError> {
        self.ended(self.life.lives(self.delivery.ack()).await)
    }

    async fn nak(&self, delay: Duration) -> Result<(), BusError> {
        let Some(pace) = &self.pace else { return self.life.lives(self.delivery.nak(delay)).await };
        let put_back = async { pace.put_back(Arc::clone(&self.delivery), delay) };
        self.life.lives(put_back).await;
        Ok(())
    }

    async fn term(&self, reason: &str) -> Result<(), BusError> {
        self.ended(self.life.lives(self.delivery.term(reason)).await)
    }

    async fn notes(&self) -> Result<Notes, BusError> {
        self.life.lives(self.delivery.notes()).await
    }

    async fn note(&self, notes: &Notes) -> Result<(), BusError> {
        self.life.lives(self.delivery.note(notes)).await
    }

    async fn in_progress(&self) -> Result<(), BusError> {
        self.life.lives(self.delivery.in_progress()).await
    }
}

impl<B: QueueReader> QueueReader for MortalBus<B> {
    type Delivery = MortalDelivery<B::Delivery>;

    async fn fetch(
        &self,
        queue: &QueueId,
        limit: usize,
        wait: Duration,
    ) -> Result<Vec<Self::Delivery>, BusError> {
        let deliveries = self.life.lives(self.bus.fetch(queue, limit, wait)).await?;
        if let Some(pace) = &self.pace {
            deliveries.iter().for_each(|delivery| pace.delivered(delivery));
        }
        let mortal = |delivery| MortalDelivery {
            delivery: Arc::new(delivery),
            life: self.life.clone(),
            pace: self.pace.clone(),
        };
        Ok(deliveries.into_iter().map(mortal).collect())
    }

    fn ack_wait(&self) -> Duration {
        self.bus.ack_wait()
    }
}

impl<B: EventWriter> EventWriter for MortalBus<B> {
    async fn report(&self, report: &AttemptReport) -> Result<(), BusError> {
        self.heard().await;
        self.life.lives(self.bus.report(report)).await
    }

    async fn note_progress(&self, note: &ProgressNote) -> Result<(), BusError> {
        self.heard().await;
        self.life.lives(self.bus.note_progress(note)).await
    }
}

impl<B: EditReader> EditReader for MortalBus<B> {
    async fn edits_after(&self, queue: &QueueId, mark: Option<EditMark>) -> Result<Edits, BusError> {
        self.life.lives(self.bus.edits_after(queue, mark)).await
    }
}

impl<B: ApiClient> ApiClient for MortalBus<B> {
    async fn request(&self, verb: &str, body: Bytes, timeout: Duration) -> Result<Bytes, BusError> {
        self.life.lives(self.bus.request(verb, body, timeout)).await
    }
}

impl<B: LogWriter> LogWriter for MortalBus<B> {
    async fn log(&self, batch: &LogBatch) -> Result<(), BusError> {
        self.life.lives(self.bus.log(batch)).await
    }
}

impl<B: DeadLetters> DeadLetters for MortalBus<B> {
    async fn park(&self, letter: &DeadLetter) -> Result<u64, BusError> {
        self.life.lives(self.bus.park(letter)).await
    }

    async fn letters(&self, from: u64, limit: usize) -> Result<Vec<StoredDeadLetter>, BusError> {
        self.life.lives(self.bus.letters(from, limit)).await
    }

    async fn letter(&self, number: u64) -> Result<Option<StoredDeadLetter>, BusError> {
        self.life.lives(self.bus.letter(number)).await
    }

    async fn resend(&self, stored: &StoredDeadLetter) -> Result<Redriven, BusError> {
        self.life.lives(self.bus.resend(stored)).await
    }

    async fn purge(&self, number: u64) -> Result<bool, BusError> {
        self.life.lives(self.bus.purge(number)).await
    }
}

impl<N: CancelNotice> CancelNotice for MortalNotice<N> {
    fn request(&self) -> &CancelRequest {
        self.notice.request()
    }

    async fn in_hand(&self) -> Result<(), BusError> {
        self.life.lives(self.notice.in_hand()).await
    }
}

impl<B: CancelListener> CancelListener for MortalBus<B> {
    type Notice = MortalNotice<B::Notice>;

    async fn cancels(&self, queue: &QueueId) -> Result<BoxStream<'static, Self::Notice>, BusError> {
        let life = self.life.clone();
        let notices = self.life.lives(self.bus.cancels(queue)).await?;
        Ok(notices.map(move |notice| MortalNotice { notice, life: life.clone() }).boxed())
    }
}
