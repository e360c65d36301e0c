//! Dead letters.

use model::run::Generation;
use serde_json::json;

use super::headers::publication_headers;
use super::link::{Link, Outgoing};
use super::runs::{StoredMessage, delete_message, stored_message};
use super::{NatsBus, PUBLISH_TIMEOUT};
use crate::checkpoints::Cluster;
use crate::dead::{DeadLetter, DeadLetters, Redriven, StoredDeadLetter};
use crate::error::BusError;
use crate::order::Publication;
use crate::subjects::{DEAD_ALL, QueueSubject, STREAM_DEAD, dead};
use crate::wire::dead::{decode_letter, encode_letter, fit_letter, letter_id, queue_of, redrive_order};
use crate::wire::headers::MESSAGE_ID;
use crate::wire::message_id;

/// Letters in one page.
pub const LETTERS_PAGE_MAX: usize = 1_000;

fn decode(stored: StoredMessage) -> StoredDeadLetter {
    let letter = decode_letter(&stored.subject, &stored.headers, stored.payload, stored.stored_at);
    StoredDeadLetter { number: stored.sequence, letter }
}

/// Stores a letter, cut to what the server takes in one message: one that it refused would circle for ever.
pub(super) async fn park(link: &Link, letter: &DeadLetter) -> Result<u64, BusError> {
    let letter = fit_letter(letter, link.payload_bytes_max());
    let mut headers = encode_letter(&letter);
    headers.insert(MESSAGE_ID.into(), letter_id(&letter));
    let subject = dead(queue_of(&letter).as_ref());
    let message = Outgoing::new(subject, &headers, letter.payload);
    link.store_only(message, PUBLISH_TIMEOUT).await.map(|stored| stored.sequence)
}

impl DeadLetters for NatsBus {
    async fn park(&self, letter: &DeadLetter) -> Result<u64, BusError> {
        // Boxed, because what hardly any attempt does would make the future of every one large.
        Box::pin(park(self.link(), letter)).await
    }

    async fn letters(&self, from: u64, limit: usize) -> Result<Vec<StoredDeadLetter>, BusError> {
        let mut letters = Vec::new();
        let mut next = from.max(1);
        while letters.len() < limit.min(LETTERS_PAGE_MAX) {
            let which = json!({"seq": next, "next_by_subj": DEAD_ALL});
            let Some(stored) = stored_message(self.link(), STREAM_DEAD, &which).await? else { break };
            next = stored.sequence + 1;
            letters.push(decode(stored));
        }
        Ok(letters)
    }

    async fn letter(&self, number: u64) -> Result<Option<StoredDeadLetter>, BusError> {
        if number == 0 {
            return Ok(None);
        }
        let stored = stored_message(self.link(), STREAM_DEAD, &json!({"seq": number})).await?;
        Ok(stored.map(decode))
    }

    async fn resend(&self, stored: &StoredDeadLetter) -> Result<Redriven, BusError> {
        let StoredDeadLetter { number, letter } = stored;
        let order = match redrive_order(letter) {
            Ok(order) => order,
            Err(problem) => return Ok(Redriven::Unreadable { problem: format!("failed to {problem}") }),
        };
        let (run_id, revision, generation) = (order.run_id.clone(), order.revision, order.generation);
        let subject = QueueSubject::Run.of(&order.queue);
        let message_id = self.redrive_message_id(&order.run_id, order.generation, *number).await?;
        let publication = Publication { order, message_id, payload: letter.payload.clone() };
        let headers = publication_headers(&publication);
        let message = Outgoing { subject, headers, payload: publication.payload };
        let stored = self.link().store_only(message, PUBLISH_TIMEOUT).await?;
        Ok(Redriven::Sent { run_id, revision, generation, sequence: stored.sequence })
    }

    async fn purge(&self, number: u64) -> Result<bool, BusError> {
        if number == 0 || self.letter(number).await?.is_none() {
            return Ok(false);
        }
        delete_message(self.link(), STREAM_DEAD, number).await
    }
}

impl NatsBus {
    /// The message id of a redrive: the run's, in its next generation, with the letter's number. Keyed like those of
    /// scheduled runs, so that no publisher can make a redrive look like a duplicate.
    async fn redrive_message_id(
        &self,
        run_id: &model::id::RunId,
        generation: Generation,
        number: u64,
    ) -> Result<String, BusError> {
        let key = self.cluster().await?.map_or([0; 16], |cluster: Cluster| cluster.message_id_key);
        Ok(format!("{}/letter-{number}", message_id(&key, run_id, generation, 0)))
    }
}
