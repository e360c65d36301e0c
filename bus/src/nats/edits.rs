//! Announced edits. Those that are announced at the same time to the same queue share a message.

use std::collections::BTreeMap;

use async_nats::jetstream::ErrorCode;
use bytes::Bytes;
use futures_util::StreamExt;
use model::name::QueueId;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::link::{Link, Outgoing};
use super::runs::{UnreadMessage, unread_message_unless};
use super::{NatsBus, PUBLISH_TIMEOUT, REQUEST_TIMEOUT, lock};
use crate::edits::{EDITS_KEPT_MAX, Edit, EditMark, EditReader, EditWriter, Edits, MESSAGE_EDITS_MAX};
use crate::error::BusError;
use crate::subjects::{STREAM_EDITS, edit};
use crate::wire::edit::{decode_edits, encode_edits};
use crate::wire::headers::Headers;

/// Announcements that are taken up at once.
const GROUP_MAX: usize = 4_096;

type Done = oneshot::Sender<Result<(), BusError>>;

/// An edit, where to announce it, and who waits until that is stored.
struct Waiting {
    queue: QueueId,
    edit: Edit,
    done: Done,
}

/// Announces edits. Cheap to clone; its task ends with the last clone.
#[derive(Clone)]
pub(super) struct Announcer(mpsc::UnboundedSender<Waiting>);

impl Announcer {
    fn spawn(link: Link) -> Self {
        // Bounded by the installs in flight.
        let (edits, received) = mpsc::unbounded_channel();
        tokio::spawn(announce_all(link, received));
        Self(edits)
    }
}

async fn announce_all(link: Link, mut edits: mpsc::UnboundedReceiver<Waiting>) {
    let mut group = Vec::new();
    while edits.recv_many(&mut group, GROUP_MAX).await > 0 {
        let (messages, waiting): (Vec<Outgoing>, Vec<Vec<Done>>) = pack(group.drain(..)).into_iter().unzip();
        let stored = link.store(messages, PUBLISH_TIMEOUT).await;
        for (waiting, stored) in waiting.into_iter().zip(stored) {
            let outcome = stored.map(drop);
            for done in waiting {
                // Nobody waits any more: then nobody needs to know.
                let _ = done.send(outcome.clone());
            }
        }
    }
}

/// Messages, each with those who wait for it.
fn pack(waiting: impl Iterator<Item = Waiting>) -> Vec<(Outgoing, Vec<Done>)> {
    let mut queues: BTreeMap<String, Vec<Waiting>> = BTreeMap::new();
    for one in waiting {
        queues.entry(edit(&one.queue)).or_default().push(one);
    }
    let mut messages = Vec::with_capacity(queues.len());
    for (subject, mut waiting) in queues {
        while !waiting.is_empty() {
            let (edits, done): (Vec<Edit>, Vec<Done>) = waiting
                .drain(..waiting.len().min(MESSAGE_EDITS_MAX))
                .map(|waiting| (waiting.edit, waiting.done))
                .unzip();
            messages.push((Outgoing::new(subject.clone(), &Headers::new(), encode_edits(&edits)), done));
        }
    }
    messages
}

impl EditWriter for NatsBus {
    async fn announce(&self, queue: &QueueId, edit: &Edit) -> Result<(), BusError> {
        let announcer = {
            let new = || Announcer::spawn(self.link().clone());
            lock(&self.shared.announcer).get_or_insert_with(new).clone()
        };
        let (done, answer) = oneshot::channel();
        let gone = || BusError::Unknown("the announcements' task is gone".into());
        let waiting = Waiting { queue: queue.clone(), edit: edit.clone(), done };
        announcer.0.send(waiting).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

impl NatsBus {
    /// A message of the edit stream, from its leader. Without a stream nothing was ever announced.
    async fn edit_message(&self, which: &Value) -> Result<Option<UnreadMessage>, BusError> {
        unread_message_unless(self.link(), STREAM_EDITS, which, &[ErrorCode::STREAM_NOT_FOUND]).await
    }

    /// Messages of the edit stream from a sequence on, as many as the server gives at once, so that an executor which is far
    /// behind, or far away, catches up.
    async fn edit_messages(&self, subject: &str, from: u64) -> Result<Vec<(EditMark, Bytes)>, BusError> {
        let link = self.link();
        let inbox = link.new_inbox();
        let mut answers = link.subscribe(inbox.clone(), None).await?;
        let body = json!({"seq": from, "next_by_subj": subject, "batch": EDITS_KEPT_MAX}).to_string();
        let verb = format!("$JS.API.DIRECT.GET.{STREAM_EDITS}");
        link.publish_for(verb.clone().into(), Some(inbox.into()), body.into()).await?;
        let mut read = Vec::new();
        let all = async {
            while let Some(message) = answers.next().await {
                match of_batch(&message)? {
                    Some(message) => read.push(message),
                    None => return Ok(()),
                }
            }
            Err(BusError::Failed(format!("{verb}: the connection was closed")))
        };
        match tokio::time::timeout(REQUEST_TIMEOUT, all).await {
            Ok(done) => done.map(|()| read),
            // What came is good; the rest comes next.
            Err(_) if !read.is_empty() => Ok(read),
            Err(_) => {
                Err(BusError::Unknown(format!("{verb}: no answer in {} ms", REQUEST_TIMEOUT.as_millis())))
            }
        }
    }
}

impl EditReader for NatsBus {
    async fn edits_after(&self, queue: &QueueId, mark: Option<EditMark>) -> Result<Edits, BusError> {
        let subject = edit(queue);
        let Some(last) = self.edit_message(&json!({"last_by_subj": subject})).await? else {
            return Ok(Edits { edits: Vec::new(), mark: None, complete_since: None });
        };
        let last = EditMark { sequence: last.sequence, stored_at: last.stored_at };
        if mark == Some(last) {
            return Ok(Edits { edits: Vec::new(), mark, complete_since: None });
        }
        let after = mark.map_or(0, |mark| mark.sequence);
        // A mark that isn't below the last one is of a stream that was lost since.
        let mut next = if after < last.sequence { after + 1 } else { 1 };
        let (mut edits, mut first, mut messages) = (Vec::new(), None, 0);
        while next <= last.sequence {
            let read = self.edit_messages(&subject, next).await?;
            let Some((newest, _)) = read.last() else {
                // Another replica of the stream answers these, and may be behind; or as many came meanwhile as are kept.
                return Err(BusError::Failed(format!(
                    "{subject}: edits up to {} can't be read yet",
                    last.sequence
                )));
            };
            next = newest.sequence + 1;
            first.get_or_insert(read[0].0.stored_at);
            messages += read.len();
            for (mark, payload) in &read {
                match decode_edits(payload) {
                    Some(announced) => edits.extend(announced),
                    None => {
                        tracing::warn!(%queue, sequence = mark.sequence, "an announced edit can't be read")
                    }
                }
            }
        }
        let complete_since = first.filter(|_| messages >= EDITS_KEPT_MAX);
        Ok(Edits { edits, mark: Some(last), complete_since })
    }
}

/// A message of a batch; `None`: it says that the batch is over.
fn of_batch(message: &async_nats::Message) -> Result<Option<(EditMark, Bytes)>, BusError> {
    if message.status.is_some() {
        return Ok(None);
    }
    let header = |name: &str| {
        message.headers.as_ref().and_then(|headers| headers.get(name)).map(|value| value.as_str())
    };
    let mark = || {
        let sequence = header("Nats-Sequence")?.parse().ok()?;
        Some(EditMark { sequence, stored_at: header("Nats-Time-Stamp")?.parse().ok()? })
    };
    let unreadable = || BusError::Refused("a message of a batch says no sequence or time".into());
    Ok(Some((mark().ok_or_else(unreadable)?, message.payload.clone())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_of_one_queue_share_messages_up_to_their_limit() {
        let waiting = |queue: &str, revision: usize| {
            let (done, _) = oneshot::channel();
            let revision = model::id::Revision(revision as u64);
            Waiting {
                queue: queue.parse().unwrap(),
                edit: Edit { job: "a/b".parse().unwrap(), revision },
                done,
            }
        };
        let all = (0..=MESSAGE_EDITS_MAX).map(|n| waiting("a/one", n)).chain([waiting("a/two", 1)]);
        let packed: Vec<_> =
            pack(all).into_iter().map(|(message, done)| (message.subject, done.len())).collect();
        let (one, two) = ("ecron.edit.a.one".to_owned(), "ecron.edit.a.two".to_owned());
        assert_eq!(packed, [(one.clone(), MESSAGE_EDITS_MAX), (one, 1), (two, 1)]);
    }
}
