//! Connections: to the servers, and to the API behind them.

use std::time::Duration;

use bus::ApiClient;
use bus::nats::{NatsBus, NatsOptions};
use bytes::Bytes;
use planner::api::types::{ApiError, Envelope};
use serde::Serialize;
use serde::de::DeserializeOwned;
use store::redis::{RedisOptions, RedisStore};

use crate::args::Servers;
use crate::config::{Server, profile, url};
use crate::failure::Failure;

/// How long a request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) async fn nats(servers: &Servers) -> Result<NatsBus, Failure> {
    let url = url(servers, Server::Nats)?;
    let options = NatsOptions { replicas: profile(servers)?.stream_replicas(), ..NatsOptions::default() };
    NatsBus::connect(&url, options)
        .await
        .map_err(|problem| Failure::failed(format!("failed to {problem}\n  NATS at {url}: is it running?")))
}

pub(crate) async fn redis(servers: &Servers) -> Result<RedisStore, Failure> {
    let url = url(servers, Server::Redis)?;
    RedisStore::connect(&url, RedisOptions::default())
        .await
        .map_err(|problem| Failure::failed(format!("failed to {problem}\n  Redis at {url}: is it running?")))
}

/// Asks the API one thing.
pub(crate) async fn ask<Q: Serialize, A: DeserializeOwned>(
    bus: &NatsBus,
    verb: &str,
    request: &Q,
) -> Result<A, ApiError> {
    let body = serde_json::to_vec(request)
        .map_err(|problem| ApiError::refused(format!("write the request: {problem}")))?;
    let answer = bus.request(verb, Bytes::from(body), REQUEST_TIMEOUT).await.map_err(|problem| {
        let mut error = ApiError::from(problem);
        error.message.push_str("; is a planner running?");
        error
    })?;
    let envelope: Envelope<A> = serde_json::from_slice(&answer).map_err(|problem| {
        ApiError::refused(format!("read the answer (is the planner of another version?): {problem}"))
    })?;
    match (envelope.ok, envelope.error) {
        (_, Some(error)) => Err(error),
        (Some(ok), None) => Ok(ok),
        (None, None) => Err(ApiError::refused("read the answer: it is empty".into())),
    }
}
