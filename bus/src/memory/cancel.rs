//! Cancel signals in memory.

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use model::name::QueueId;
use tokio::sync::mpsc;

use super::MemoryBus;
use super::streams::received_stream;
use crate::cancel::{CANCEL_ANSWER_WAIT, CancelAnswer, CancelHeard, CancelRequest, CancelSignal};
use crate::error::BusError;

/// A signal on its way. When everybody has dropped theirs, nobody has the run in hand.
#[derive(Clone, Debug)]
pub struct MemoryCancel {
    queue: QueueId,
    request: CancelRequest,
    answers: mpsc::Sender<()>,
}

impl CancelHeard for MemoryCancel {
    fn queue(&self) -> &QueueId {
        &self.queue
    }

    fn request(&self) -> &CancelRequest {
        &self.request
    }

    async fn in_hand(&self) -> Result<(), BusError> {
        // The asker may have stopped waiting.
        let _ = self.answers.try_send(());
        Ok(())
    }
}

impl CancelSignal for MemoryBus {
    type Heard = MemoryCancel;

    async fn cancel(&self, queue: &QueueId, request: &CancelRequest) -> Result<CancelAnswer, BusError> {
        drop(self.state()?);
        let (answers, mut answered) = mpsc::channel(1);
        let signal = MemoryCancel { queue: queue.clone(), request: request.clone(), answers };
        if self.shared.cancels.send(signal).is_err() {
            return Ok(CancelAnswer::Nobody);
        }
        let answer = tokio::time::timeout(CANCEL_ANSWER_WAIT, answered.recv()).await;
        Ok(if matches!(answer, Ok(Some(()))) { CancelAnswer::InHand } else { CancelAnswer::NotInHand })
    }

    async fn cancels(&self, queues: &[QueueId]) -> Result<BoxStream<'static, MemoryCancel>, BusError> {
        drop(self.state()?);
        let queues = queues.to_vec();
        let received = received_stream(self.shared.cancels.subscribe());
        Ok(received.filter(move |heard| std::future::ready(queues.contains(&heard.queue))).boxed())
    }
}
