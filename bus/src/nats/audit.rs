//! The audit in the event stream, and how queues stand.

use async_nats::jetstream::ErrorCode;
use model::name::QueueId;
use model::time::Timestamp;
use serde_json::json;

use super::link::Outgoing;
use super::runs::stored_message;
use super::{NatsBus, PUBLISH_TIMEOUT};
use crate::audit::{AUDITS_MAX, AuditLog, AuditRecord};
use crate::backlog::{Backlog, QueueBacklog};
use crate::error::BusError;
use crate::subjects::{AUDIT_EVENT, STREAM_EVENTS, STREAM_RUNS, queue_consumer};
use crate::wire::audit::{decode_audit, encode_audit};
use crate::wire::headers::Headers;

impl AuditLog for NatsBus {
    async fn audit(&self, record: &AuditRecord) -> Result<(), BusError> {
        let payload = encode_audit(record);
        let message = Outgoing::new(AUDIT_EVENT.into(), &Headers::new(), payload);
        self.link().store_only(message, PUBLISH_TIMEOUT).await.map(drop)
    }

    async fn audits(&self, since: Timestamp) -> Result<Vec<AuditRecord>, BusError> {
        let mut records = Vec::new();
        let mut next = 1;
        while records.len() < AUDITS_MAX {
            let which = json!({"seq": next, "next_by_subj": AUDIT_EVENT});
            let Some(stored) = stored_message(self.link(), STREAM_EVENTS, &which).await? else { break };
            next = stored.sequence + 1;
            // Anybody who may report attempts may write here, too.
            records.extend(decode_audit(&stored.payload).ok().filter(|record| record.at >= since));
        }
        Ok(records)
    }
}

#[derive(serde::Deserialize)]
struct ConsumerState {
    delivered: Sequences,
    num_ack_pending: u64,
    num_pending: u64,
    num_waiting: u64,
}

#[derive(serde::Deserialize)]
struct Sequences {
    stream_seq: u64,
}

impl QueueBacklog for NatsBus {
    async fn backlog(&self, queue: &QueueId) -> Result<Option<Backlog>, BusError> {
        let verb = format!("CONSUMER.INFO.{STREAM_RUNS}.{}", queue_consumer(queue));
        let absent = [ErrorCode::CONSUMER_NOT_FOUND];
        let state: Option<ConsumerState> = self.link().js_maybe(&verb, &json!({}), &absent).await?;
        Ok(state.map(|state| Backlog {
            waiting_pulls: state.num_waiting,
            in_hand: state.num_ack_pending,
            undelivered: state.num_pending,
            delivered_until: state.delivered.stream_seq,
        }))
    }
}
