//! Cancel signals over core NATS.

use futures_util::StreamExt;
use futures_util::stream::{BoxStream, select_all};
use model::name::QueueId;

use super::NatsBus;
use super::link::Link;
use crate::cancel::{CANCEL_ANSWER_WAIT, CancelAnswer, CancelHeard, CancelRequest, CancelSignal};
use crate::error::BusError;
use crate::subjects::cancel;
use crate::wire::cancel::{decode_cancel, encode_cancel, encode_in_hand, is_in_hand};

/// A signal as it was heard.
pub struct NatsCancel {
    link: Link,
    queue: QueueId,
    request: CancelRequest,
    reply: Option<String>,
}

impl std::fmt::Debug for NatsCancel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NatsCancel")
            .field("queue", &self.queue)
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}

impl CancelHeard for NatsCancel {
    fn queue(&self) -> &QueueId {
        &self.queue
    }

    fn request(&self) -> &CancelRequest {
        &self.request
    }

    async fn in_hand(&self) -> Result<(), BusError> {
        match &self.reply {
            Some(reply) => self.link.publish(reply.clone(), encode_in_hand()).await,
            None => Ok(()),
        }
    }
}

impl CancelSignal for NatsBus {
    type Heard = NatsCancel;

    async fn cancel(&self, queue: &QueueId, request: &CancelRequest) -> Result<CancelAnswer, BusError> {
        self.link().check_connected()?;
        let asked = self.link().request(cancel(queue), None, encode_cancel(request), CANCEL_ANSWER_WAIT);
        match asked.await {
            Ok(answer) if is_in_hand(&answer.payload) => Ok(CancelAnswer::InHand),
            // Whoever listens and doesn't have it says nothing.
            Ok(_) | Err(BusError::Unknown(_)) if self.link().is_connected() => Ok(CancelAnswer::NotInHand),
            Ok(_) => Err(BusError::Failed("not connected to NATS".into())),
            Err(BusError::Failed(_)) if self.link().is_connected() => Ok(CancelAnswer::Nobody),
            Err(problem) => Err(problem),
        }
    }

    async fn cancels(&self, queues: &[QueueId]) -> Result<BoxStream<'static, NatsCancel>, BusError> {
        let mut heard = Vec::with_capacity(queues.len());
        for queue in queues {
            let messages = self.link().subscribe(cancel(queue), None).await?;
            let (link, queue) = (self.link().clone(), queue.clone());
            heard.push(messages.filter_map(move |message| {
                let request = decode_cancel(&message.payload)
                    .inspect_err(|problem| tracing::warn!(%queue, problem, "a cancel signal can't be read"));
                let (link, queue) = (link.clone(), queue.clone());
                let reply = message.reply.map(|reply| reply.to_string());
                std::future::ready(request.ok().map(|request| NatsCancel { link, queue, request, reply }))
            }));
        }
        Ok(select_all(heard).boxed())
    }
}
