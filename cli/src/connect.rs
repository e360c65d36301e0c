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
use crate::patience::Setback;

/// How long a request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) async fn nats(servers: &Servers) -> Result<NatsBus, Setback> {
    let url = url(servers, Server::Nats)?;
    let options = NatsOptions { replicas: profile(servers)?.stream_replicas(), ..NatsOptions::default() };
    let connected = NatsBus::connect(&url, options).await;
    connected.map_err(|problem| with_place(problem, &format!("NATS at {}", without_secrets(&url))))
}

pub(crate) async fn redis(servers: &Servers) -> Result<RedisStore, Setback> {
    let url = url(servers, Server::Redis)?;
    let connected = RedisStore::connect(&url, RedisOptions::default()).await;
    connected.map_err(|problem| with_place(problem, &format!("Redis at {}", without_secrets(&url))))
}

fn with_place(problem: impl Into<Setback>, place: &str) -> Setback {
    let note = format!("  {place}: is it running?");
    match problem.into() {
        Setback::Absent(failure) => Setback::Absent(failure.with_note(&note)),
        Setback::Final(failure) => Setback::Final(failure.with_note(&note)),
    }
}

/// URLs as they may be shown: without user and password.
fn without_secrets(urls: &str) -> String {
    let shown = |url: &str| match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        (None, Some((_, host))) => host.to_owned(),
        (_, None) => url.to_owned(),
    };
    urls.split(',').map(|url| shown(url.trim())).collect::<Vec<_>>().join(",")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_secrets() {
        for (url, shown) in [
            ("redis://127.0.0.1:6379", "redis://127.0.0.1:6379"),
            ("redis://me:se@cret@host:6379/1", "redis://host:6379/1"),
            ("nats://token@a:4222, nats://b:4222", "nats://a:4222,nats://b:4222"),
            ("me:secret@host", "host"),
        ] {
            assert_eq!(without_secrets(url), shown);
        }
    }
}
