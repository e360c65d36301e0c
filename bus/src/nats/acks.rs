//! Acknowledging, many at once: what waits when the last group was confirmed goes out together, and only the last of it
//! asks the server for a confirmation.
//!
//! The server works through one consumer's acks in the order in which a connection sent them (`processInboundAcks`), so
//! that one confirmation stands for all before it on the same connection. A single ack is confirmed as soon as ever.

use async_nats::Subject;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::REQUEST_TIMEOUT;
use super::link::Link;
use crate::error::BusError;

/// Acks in one group.
const GROUP_MAX: usize = 512;

const ACK: Bytes = Bytes::from_static(b"+ACK");

/// The acks to one consumer. Cheap to clone; its task ends with the last clone.
#[derive(Clone)]
pub(super) struct Acker(mpsc::UnboundedSender<Ack>);

struct Ack {
    reply: Subject,
    done: oneshot::Sender<Result<(), BusError>>,
}

impl Acker {
    pub(super) fn spawn(link: Link) -> Self {
        // Bounded by the messages in somebody's hands.
        let (acks, received) = mpsc::unbounded_channel();
        tokio::spawn(run(link, received));
        Self(acks)
    }

    /// `Ok` once the server has said that it heard.
    pub(super) async fn ack(&self, reply: Subject) -> Result<(), BusError> {
        let (done, answer) = oneshot::channel();
        let gone = || BusError::Unknown("the acks' task is gone".into());
        self.0.send(Ack { reply, done }).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

async fn run(link: Link, mut acks: mpsc::UnboundedReceiver<Ack>) {
    let mut group = Vec::new();
    while acks.recv_many(&mut group, GROUP_MAX).await > 0 {
        let outcome = send(&link, &group).await;
        for ack in group.drain(..) {
            // Nobody waits any more: then nobody needs to know.
            let _ = ack.done.send(outcome.clone());
        }
    }
}

async fn send(link: &Link, group: &[Ack]) -> Result<(), BusError> {
    let Some((last, before)) = group.split_last() else { return Ok(()) };
    let losses = link.loss_count();
    for ack in before {
        link.publish(ack.reply.clone(), ACK).await?;
    }
    link.request(last.reply.clone(), None, ACK, REQUEST_TIMEOUT).await?;
    if link.loss_count() != losses {
        return Err(BusError::Unknown("the connection was lost between some acks".into()));
    }
    Ok(())
}
