//! The audit in the event stream, and how queues stand, in memory.

use model::name::QueueId;
use model::time::Timestamp;

use super::MemoryBus;
use super::log::Stored;
use crate::audit::{AUDITS_MAX, AuditLog, AuditRecord};
use crate::backlog::{Backlog, QueueBacklog};
use crate::error::BusError;
use crate::subjects::AUDIT_EVENT;
use crate::wire::audit::{decode_audit, encode_audit};
use crate::wire::headers::Headers;

impl AuditLog for MemoryBus {
    async fn audit(&self, record: &AuditRecord) -> Result<(), BusError> {
        let (payload, stored_at) = (encode_audit(record), self.now());
        let subject = AUDIT_EVENT.to_owned();
        let message =
            Stored { subject: subject.clone(), headers: Headers::new(), payload: payload.clone(), stored_at };
        self.state()?.append_event(message);
        // Nobody watching is fine.
        let _ = self.shared.events.send((subject, payload));
        self.wake();
        Ok(())
    }

    async fn audits(&self, since: Timestamp) -> Result<Vec<AuditRecord>, BusError> {
        let state = self.state()?;
        let audits = state.events.messages.values().filter(|stored| stored.subject == AUDIT_EVENT);
        let records = audits.filter_map(|stored| decode_audit(&stored.payload).ok());
        Ok(records.filter(|record| record.at >= since).take(AUDITS_MAX).collect())
    }
}

impl QueueBacklog for MemoryBus {
    async fn backlog(&self, queue: &QueueId) -> Result<Option<Backlog>, BusError> {
        Ok(self.state()?.queues.get(queue).map(super::log::Hands::backlog))
    }
}
