//! The intake: ad-hoc work for later, as it comes from any NATS client on `ecron.defer.<ns>.<queue>`.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use model::time::Timestamp;

use crate::error::BusError;

/// One deferred message in a planner's hands. Acknowledged once it became a job (or was quarantined).
pub trait IntakeDelivery: Send + Sync + 'static {
    fn subject(&self) -> &str;
    fn headers(&self) -> &BTreeMap<String, String>;
    fn payload(&self) -> &Bytes;
    fn sequence(&self) -> u64;
    /// When the server stored it: the anchor of `Ecron-Delay`.
    fn received_at(&self) -> Timestamp;
    fn ack(&self) -> impl Future<Output = Result<(), BusError>> + Send;
}

pub trait Intake: Send + Sync + 'static {
    type Delivery: IntakeDelivery;

    /// Up to `limit` deferred messages; waits up to `wait` for the first.
    fn fetch_intake(
        &self,
        limit: usize,
        wait: Duration,
    ) -> impl Future<Output = Result<Vec<Self::Delivery>, BusError>> + Send;
}
