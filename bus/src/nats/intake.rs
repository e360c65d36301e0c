//! The intake of deferred work.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use model::time::Timestamp;

use super::message::Delivered;
use super::pull::Puller;
use super::streams::ConsumerSpec;
use super::{NatsBus, lock};
use crate::error::BusError;
use crate::intake::{Intake, IntakeDelivery};
use crate::subjects::{CONSUMER_INTAKE, STREAM_INTAKE};

/// One deferred message in hand.
pub struct NatsIntakeDelivery(Delivered);

impl std::fmt::Debug for NatsIntakeDelivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NatsIntakeDelivery")
            .field("sequence", &self.0.position.sequence)
            .finish_non_exhaustive()
    }
}

impl IntakeDelivery for NatsIntakeDelivery {
    fn subject(&self) -> &str {
        &self.0.subject
    }

    fn headers(&self) -> &BTreeMap<String, String> {
        &self.0.headers
    }

    fn payload(&self) -> &Bytes {
        &self.0.payload
    }

    fn sequence(&self) -> u64 {
        self.0.position.sequence
    }

    fn received_at(&self) -> Timestamp {
        self.0.position.stored_at
    }

    async fn ack(&self) -> Result<(), BusError> {
        self.0.ack().await
    }
}

impl NatsBus {
    fn intake_puller(&self) -> Puller {
        let consumer = || ConsumerSpec::shared(STREAM_INTAKE, CONSUMER_INTAKE);
        let new = || Puller::spawn(&self.shared.access, consumer(), Duration::ZERO);
        lock(&self.shared.intake).get_or_insert_with(new).clone()
    }
}

impl Intake for NatsBus {
    type Delivery = NatsIntakeDelivery;

    async fn fetch_intake(&self, limit: usize, wait: Duration) -> Result<Vec<NatsIntakeDelivery>, BusError> {
        let messages = self.intake_puller().fetch(limit, wait).await?;
        Ok(messages.into_iter().map(NatsIntakeDelivery).collect())
    }
}
