//! Asking the planners: the verbs of `ecron.api.v1.*`, and what any client reads from NATS by itself.

use std::sync::Arc;
use std::time::Duration;

use bus::ApiClient;
use bus::nats::NatsBus;
use bytes::Bytes;
use planner::api::types::{ApiError, Envelope};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::problem::Problem;

/// How long a planner may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Whom the console asks.
#[derive(Debug)]
pub(crate) struct Desk {
    bus: Arc<NatsBus>,
}

impl Desk {
    pub(crate) fn new(bus: Arc<NatsBus>) -> Self {
        Self { bus }
    }

    pub(crate) fn bus(&self) -> &Arc<NatsBus> {
        &self.bus
    }

    /// Asks the API one thing.
    pub(crate) async fn ask<Q: Serialize, A: DeserializeOwned>(
        &self,
        verb: &str,
        request: &Q,
    ) -> Result<A, Problem> {
        let body = serde_json::to_vec(request)
            .map_err(|problem| ApiError::refused(format!("write the request: {problem}")))?;
        let answer = self.bus.request(verb, Bytes::from(body), REQUEST_TIMEOUT).await.map_err(|problem| {
            let mut error = ApiError::from(problem);
            error.message.push_str("; is a planner running?");
            error
        })?;
        let envelope: Envelope<A> = serde_json::from_slice(&answer).map_err(|problem| {
            ApiError::refused(format!("read the answer (is the planner of another version?): {problem}"))
        })?;
        match (envelope.ok, envelope.error) {
            (_, Some(error)) => Err(error.into()),
            (Some(ok), None) => Ok(ok),
            (None, None) => Err(ApiError::refused("read the answer: it is empty".into()).into()),
        }
    }
}
