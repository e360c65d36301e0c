//! The cancel signal: core NATS, request and reply.

use std::time::Duration;

use async_nats::Subject;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use model::name::QueueId;

use super::NatsBus;
use super::link::Link;
use crate::cancel::{CancelListener, CancelNotice, CancelRequest, CancelSignal};
use crate::error::BusError;
use crate::subjects::cancel;
use crate::wire::cancel::{IN_HAND, decode_cancel, encode_cancel, says_in_hand};

/// A signal as an executor hears it.
pub struct NatsCancelNotice {
    request: CancelRequest,
    reply: Option<Subject>,
    link: Link,
}

impl std::fmt::Debug for NatsCancelNotice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NatsCancelNotice").field("request", &self.request).finish_non_exhaustive()
    }
}

impl CancelNotice for NatsCancelNotice {
    fn request(&self) -> &CancelRequest {
        &self.request
    }

    async fn in_hand(&self) -> Result<(), BusError> {
        match &self.reply {
            Some(reply) => self.link.publish(reply.to_string(), Bytes::from_static(IN_HAND)).await,
            None => Ok(()),
        }
    }
}

impl CancelSignal for NatsBus {
    async fn cancel(&self, request: &CancelRequest, wait: Duration) -> Result<bool, BusError> {
        let answer = self.link().ask(cancel(&request.queue), encode_cancel(request), wait).await?;
        Ok(answer.is_some_and(|answer| says_in_hand(&answer.payload)))
    }
}

impl CancelListener for NatsBus {
    type Notice = NatsCancelNotice;

    async fn cancels(&self, queue: &QueueId) -> Result<BoxStream<'static, NatsCancelNotice>, BusError> {
        let heard = self.link().subscribe(cancel(queue), None).await?;
        let (link, queue) = (self.link().clone(), queue.clone());
        let notice = move |message: async_nats::Message| {
            let request = decode_cancel(&queue, &message.payload);
            let link = link.clone();
            std::future::ready(request.map(|request| NatsCancelNotice {
                request,
                reply: message.reply,
                link,
            }))
        };
        Ok(heard.filter_map(notice).boxed())
    }
}
