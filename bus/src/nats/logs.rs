//! Logs.

use model::id::RunId;
use serde_json::json;

use super::link::Outgoing;
use super::runs::unread_message;
use super::{NatsBus, PUBLISH_TIMEOUT};
use crate::error::BusError;
use crate::logs::{LOG_PAGE_MAX, LogBatch, LogReader, LogWriter, StoredLogBatch};
use crate::subjects::{STREAM_LOGS, log, log_anywhere};
use crate::wire::headers::{Headers, MESSAGE_ID};
use crate::wire::log::{decode_log, encode_log, log_id};

impl LogWriter for NatsBus {
    async fn log(&self, batch: &LogBatch) -> Result<(), BusError> {
        let message = Outgoing {
            subject: log(&batch.queue, &batch.run_id),
            headers: Headers::from([(MESSAGE_ID.to_owned(), log_id(batch))]),
            payload: encode_log(batch),
        };
        self.link().store_only(message, PUBLISH_TIMEOUT).await.map(drop)
    }
}

impl LogReader for NatsBus {
    async fn log_batches(
        &self,
        run_id: &RunId,
        from: u64,
        limit: usize,
    ) -> Result<Vec<StoredLogBatch>, BusError> {
        let (mut batches, mut next) = (Vec::new(), from.max(1));
        while batches.len() < limit.min(LOG_PAGE_MAX) {
            let which = json!({"seq": next, "next_by_subj": log_anywhere(run_id)});
            let Some(stored) = unread_message(self.link(), STREAM_LOGS, &which).await? else { break };
            let sequence = stored.sequence;
            next = sequence + 1;
            // Another run may have the same hash; and what can't be read isn't ours.
            let batch = decode_log(&stored.payload).filter(|batch| batch.run_id == *run_id);
            batches.extend(batch.map(|batch| StoredLogBatch { sequence, batch }));
        }
        Ok(batches)
    }
}
