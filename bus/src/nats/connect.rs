//! Connecting: options, and which servers we refuse.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::{ConnectErrorKind, ConnectOptions, Event, ServerError};
use tokio::sync::watch;

use super::link::{Denials, Link};
use super::{
    CONNECT_TIMEOUT, NATS_VERSION_MIN, NatsOptions, PING_INTERVAL, RECONNECT_DELAY_MAX, REQUEST_TIMEOUT, lock,
};
use crate::error::BusError;

/// Commands that may wait for the connection's task.
const SEND_QUEUE_MAX: usize = 4_096;

/// Connects, and checks the server.
pub(super) async fn connect(url: &str, options: &NatsOptions) -> Result<Link, BusError> {
    let link = open(url, options, |settings| settings.name(&options.name)).await?;
    check_server(&link).await?;
    Ok(link)
}

/// A further connection, to a server that was checked, for reading a consumer. Doesn't wait until it stands.
pub(super) async fn connect_reader(
    url: &str,
    options: &NatsOptions,
    consumer: &str,
) -> Result<Link, BusError> {
    let name = format!("{} reads {consumer}", options.name);
    open(url, options, |settings| settings.name(name).retry_on_initial_connect()).await
}

async fn open(
    url: &str,
    options: &NatsOptions,
    more: impl FnOnce(ConnectOptions) -> ConnectOptions,
) -> Result<Link, BusError> {
    let (connections, connected) = watch::channel(0_u64);
    let (losses, lost) = watch::channel(0_u64);
    let denials = Arc::new(Mutex::new(Denials::default()));
    let connections = Arc::new(connections);
    let losses = Arc::new(losses);
    let events = {
        let denials = denials.clone();
        move |event: Event| {
            match event {
                Event::Connected => connections.send_modify(|n| *n += 1),
                Event::Disconnected | Event::Closed => losses.send_modify(|n| *n += 1),
                Event::ServerError(ServerError::Other(text)) => lock(&denials).note(&text),
                Event::SlowConsumer(subscription) => {
                    tracing::warn!(subscription, "a subscription's buffer is full: messages were dropped");
                }
                Event::ServerError(_) | Event::ClientError(_) | Event::LameDuckMode | Event::Draining => {}
            }
            async {}
        }
    };
    let mut settings = more(ConnectOptions::new())
        .ping_interval(PING_INTERVAL)
        .connection_timeout(CONNECT_TIMEOUT)
        .request_timeout(Some(REQUEST_TIMEOUT))
        .client_capacity(SEND_QUEUE_MAX)
        .max_reconnects(None)
        .reconnect_delay_callback(reconnect_delay)
        .event_callback(events);
    if let Some(prefix) = &options.inbox_prefix {
        settings = settings.custom_inbox_prefix(prefix);
    }
    if let Some(file) = &options.credentials_file {
        settings = settings
            .credentials_file(file)
            .await
            .map_err(|e| BusError::Refused(format!("credentials file {}: {e}", file.display())))?;
    }
    settings = match user_info(url) {
        Some((user, Some(password))) => settings.user_and_password(user.into(), password.into()),
        Some((token, None)) => settings.token(token.into()),
        None => settings,
    };
    let servers: Vec<String> = url.split(',').map(|one| one.trim().to_owned()).collect();
    let client = settings.connect(servers).await.map_err(|e| refusal(url, &e))?;
    Ok(Link::new(client, connected, lost, denials))
}

/// 50 ms, doubling up to the maximum.
fn reconnect_delay(attempt: usize) -> Duration {
    let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    Duration::from_millis(50).saturating_mul(1 << doublings).min(RECONNECT_DELAY_MAX)
}

fn refusal(url: &str, error: &async_nats::ConnectError) -> BusError {
    let place = without_secrets(url);
    match error.kind() {
        ConnectErrorKind::ServerParse => BusError::Refused(format!("{place} is no NATS URL: {error}")),
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            BusError::Refused(format!("NATS at {place} doesn't accept the credentials: {error}"))
        }
        ConnectErrorKind::Tls => BusError::Refused(format!("TLS with NATS at {place}: {error}")),
        ConnectErrorKind::Dns
        | ConnectErrorKind::TimedOut
        | ConnectErrorKind::Io
        | ConnectErrorKind::MaxReconnects => BusError::Failed(format!("no NATS answers at {place}: {error}")),
    }
}

/// User and password, or a token, of the first server that names some: the client itself reads none out of a URL.
fn user_info(url: &str) -> Option<(&str, Option<&str>)> {
    let (before, _) = url.split(',').find_map(|one| one.rsplit_once('@'))?;
    let info = before.split_once("://").map_or(before, |(_, info)| info).trim();
    Some(info.split_once(':').map_or((info, None), |(user, password)| (user, Some(password))))
}

/// The URL without user, password or token.
fn without_secrets(url: &str) -> String {
    let host = |one: &str| one.rsplit_once('@').map_or(one, |(_, host)| host).trim().to_owned();
    url.split(',').map(host).collect::<Vec<_>>().join(",")
}

async fn check_server(link: &Link) -> Result<(), BusError> {
    let version = link.server_version();
    let (major, minor) = NATS_VERSION_MIN;
    if parse_version(&version).is_none_or(|found| found < NATS_VERSION_MIN) {
        return Err(BusError::Refused(format!(
            "this NATS is version {version}; ecron needs {major}.{minor} or newer, because older ones forget \
             streams or messages after a crash"
        )));
    }
    if !link.server_has_jetstream() {
        return Err(BusError::Refused(
            "this NATS runs without JetStream (start it with -js, or `jetstream {}` in its configuration)"
                .into(),
        ));
    }
    match link.js::<serde_json::Value>("INFO", &serde_json::json!({})).await {
        Err(BusError::Refused(text)) => Err(BusError::Refused(format!("JetStream for this account: {text}"))),
        Err(other) => Err(other),
        Ok(_) => Ok(()),
    }
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.trim_start_matches('v').split(['.', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        for (text, fits) in
            [("2.15.1", true), ("2.12.0-RC.1", true), ("3.0.0", true), ("2.9.10", false), ("", false)]
        {
            assert_eq!(parse_version(text).is_some_and(|found| found >= NATS_VERSION_MIN), fits, "{text}");
        }
    }

    #[test]
    fn reconnects_back_off_to_a_maximum() {
        assert_eq!(reconnect_delay(0), Duration::from_millis(50));
        assert_eq!(reconnect_delay(3), Duration::from_millis(200));
        assert_eq!(reconnect_delay(usize::MAX), RECONNECT_DELAY_MAX);
    }

    #[test]
    fn credentials_in_a_url_are_read() {
        assert_eq!(user_info("nats://me:s:cret@host:4222"), Some(("me", Some("s:cret"))));
        assert_eq!(user_info("nats://a,nats://token@host"), Some(("token", None)));
        assert_eq!(user_info("nats://host:4222"), None);
    }

    #[test]
    fn an_error_names_the_place_and_no_secret() {
        assert_eq!(without_secrets("nats://me:secret@host:4222, nats://other"), "host:4222,nats://other");
    }
}
