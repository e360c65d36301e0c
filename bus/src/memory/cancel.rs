//! The cancel signal in memory.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use model::name::QueueId;
use tokio::sync::mpsc;

use super::MemoryBus;
use super::streams::received_stream;
use crate::cancel::{CancelListener, CancelNotice, CancelRequest, CancelSignal};
use crate::error::BusError;

/// A signal as an executor hears it.
#[derive(Clone, Debug)]
pub struct MemoryCancelNotice {
    request: CancelRequest,
    answers: mpsc::Sender<()>,
}

impl CancelNotice for MemoryCancelNotice {
    fn request(&self) -> &CancelRequest {
        &self.request
    }

    async fn in_hand(&self) -> Result<(), BusError> {
        // One answer is enough; nobody may be waiting any more.
        let _ = self.answers.try_send(());
        Ok(())
    }
}

impl CancelSignal for MemoryBus {
    async fn cancel(&self, request: &CancelRequest, wait: Duration) -> Result<bool, BusError> {
        drop(self.state()?);
        let (answers, mut answered) = mpsc::channel(1);
        if self.shared.cancels.send(MemoryCancelNotice { request: request.clone(), answers }).is_err() {
            return Ok(false);
        }
        Ok(tokio::time::timeout(wait, answered.recv()).await.is_ok_and(|answer| answer.is_some()))
    }
}

impl CancelListener for MemoryBus {
    type Notice = MemoryCancelNotice;

    async fn cancels(&self, queue: &QueueId) -> Result<BoxStream<'static, MemoryCancelNotice>, BusError> {
        drop(self.state()?);
        let queue = queue.clone();
        let heard = received_stream(self.shared.cancels.subscribe());
        Ok(heard.filter(move |notice| std::future::ready(notice.request.queue == queue)).boxed())
    }
}
