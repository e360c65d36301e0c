//! The connection: every request goes through here, with a deadline, and every error is mapped here.
//!
//! What was never handed to a live connection is `Failed`; what may have been is `Unknown`. The client buffers while
//! it is disconnected and sends later, so an unanswered request is `Unknown` even if the connection was lost before.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::client::{PublishErrorKind, Request, RequestError, RequestErrorKind};
use async_nats::connection::State;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::response::Response;
use async_nats::{Client, HeaderMap, Message, Subject, Subscriber};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{OnceCell, watch};
use tokio::time::Instant;

use super::desk::Desk;
use super::headers::header_map;
use super::{REQUEST_TIMEOUT, lock};
use crate::error::BusError;
use crate::wire::headers::Headers;

/// A connection and what is known of it. Cheap to clone.
#[derive(Clone)]
pub(super) struct Link(Arc<Known>);

struct Known {
    client: Client,
    /// Counts connections made; changes after each reconnect.
    connected: watch::Receiver<u64>,
    /// Counts connections lost.
    lost: watch::Receiver<u64>,
    denials: Arc<Mutex<Denials>>,
    /// Opened when it is first needed.
    desk: OnceCell<Desk>,
}

/// Subjects that the server lately said we may not use. It says so to the connection and not to the request, which
/// would otherwise look unanswered.
#[derive(Default)]
pub(super) struct Denials {
    recent: VecDeque<(Instant, String)>,
}

const DENIALS_MAX: usize = 64;
/// The server's own default, for as long as it hasn't said.
const PAYLOAD_BYTES_MAX_DEFAULT: usize = 1_024 * 1_024;

impl Denials {
    /// Keeps the subject of `Permissions Violation for Publish to "ecron.run.a.b"`.
    pub(super) fn note(&mut self, error: &str) {
        if !error.to_ascii_lowercase().contains("permissions violation") {
            return;
        }
        if let Some(subject) = error.split('"').nth(1) {
            self.recent.push_back((Instant::now(), subject.to_owned()));
        }
        while self.recent.len() > DENIALS_MAX {
            self.recent.pop_front();
        }
    }

    fn denied_since(&self, since: Instant, subject: &str) -> bool {
        self.recent.iter().any(|(at, denied)| *at >= since && denied == subject)
    }
}

/// The server's ack of a stored message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stored {
    pub(super) sequence: u64,
    pub(super) duplicate: bool,
}

/// The same as it is sent. A refusal has a sequence, too (of zero).
#[derive(serde::Deserialize)]
struct Ack {
    error: Option<serde::de::IgnoredAny>,
    seq: u64,
    #[serde(default)]
    duplicate: bool,
}

/// A message to be stored by a stream.
pub(super) struct Outgoing {
    pub(super) subject: String,
    /// An error is told instead of sending it.
    pub(super) headers: Result<HeaderMap, BusError>,
    pub(super) payload: Bytes,
}

impl Outgoing {
    pub(super) fn new(subject: String, headers: &Headers, payload: Bytes) -> Self {
        Self { subject, headers: header_map(headers), payload }
    }
}

impl Link {
    pub(super) fn new(
        client: Client,
        connected: watch::Receiver<u64>,
        lost: watch::Receiver<u64>,
        denials: Arc<Mutex<Denials>>,
    ) -> Self {
        Self(Arc::new(Known { client, connected, lost, denials, desk: OnceCell::new() }))
    }

    /// `false` also if the client itself has died (its reader panics on some malformed headers): then the task that
    /// counts losses is gone, while the last state that it told stays "connected" for ever.
    pub(super) fn is_connected(&self) -> bool {
        self.0.client.connection_state() == State::Connected && self.0.lost.has_changed().is_ok()
    }

    pub(super) fn server_version(&self) -> String {
        self.0.client.try_server_info().map(|info| info.version).unwrap_or_default()
    }

    pub(super) fn server_has_jetstream(&self) -> bool {
        self.0.client.try_server_info().is_some_and(|info| info.jetstream)
    }

    /// Bytes of headers and payload that the server takes in one message.
    pub(super) fn payload_bytes_max(&self) -> usize {
        self.0.client.try_server_info().map_or(PAYLOAD_BYTES_MAX_DEFAULT, |info| info.max_payload)
    }

    /// Connections made so far; its receivers also tell the first one.
    pub(super) fn connections(&self) -> watch::Receiver<u64> {
        self.0.connected.clone()
    }

    /// How often the connection was lost so far.
    pub(super) fn loss_count(&self) -> u64 {
        *self.0.lost.borrow()
    }

    /// Changes after each loss of the connection.
    pub(super) fn losses(&self) -> watch::Receiver<u64> {
        let mut lost = self.0.lost.clone();
        lost.mark_unchanged();
        lost
    }

    pub(super) fn check_connected(&self) -> Result<(), BusError> {
        if self.is_connected() { Ok(()) } else { Err(BusError::Failed("not connected to NATS".into())) }
    }

    /// Sends a message and waits for one reply.
    pub(super) async fn request(
        &self,
        subject: impl Into<Subject>,
        headers: Option<HeaderMap>,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Message, BusError> {
        let subject = subject.into();
        self.check_connected()?;
        let since = Instant::now();
        let mut lost = self.losses();
        let reply = self.send(subject.clone(), headers, payload);
        match race(reply, &mut lost, since + timeout).await {
            Ok(reply) => reply,
            Err(interruption) => Err(self.interrupted(interruption, &subject, since)),
        }
    }

    /// Asks everybody who listens, and waits for the first answer; `None` if none comes in time, or nobody listens.
    pub(super) async fn ask(
        &self,
        subject: String,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Option<Message>, BusError> {
        self.check_connected()?;
        let since = Instant::now();
        let mut lost = self.losses();
        let request = Request::new().payload(payload).timeout(None);
        let reply = self.0.client.send_request(subject.clone(), request);
        match race(reply, &mut lost, since + timeout).await {
            Ok(Ok(reply)) => Ok(Some(reply)),
            Ok(Err(error)) if error.kind() == RequestErrorKind::NoResponders => Ok(None),
            Ok(Err(error)) => Err(request_problem(&subject, &error)),
            Err(Interruption::Late) if !lock(&self.0.denials).denied_since(since, &subject) => Ok(None),
            Err(interruption) => Err(self.interrupted(interruption, &subject, since)),
        }
    }

    fn send(
        &self,
        subject: Subject,
        headers: Option<HeaderMap>,
        payload: Bytes,
    ) -> impl Future<Output = Result<Message, BusError>> + Send + use<> {
        let mut request = Request::new().payload(payload).timeout(None);
        if let Some(headers) = headers {
            request = request.headers(headers);
        }
        let link = self.clone();
        async move {
            let reply = link.0.client.send_request(subject.clone(), request).await;
            reply.map_err(|e| request_problem(&subject, &e))
        }
    }

    /// Sends a message and waits for nothing: `Ok` means handed to a connection that was alive a moment ago.
    pub(super) async fn publish(&self, subject: impl Into<Subject>, payload: Bytes) -> Result<(), BusError> {
        self.publish_for(subject.into(), None, payload).await
    }

    /// Like `publish`, with a subject for replies.
    pub(super) async fn publish_for(
        &self,
        subject: Subject,
        reply: Option<Subject>,
        payload: Bytes,
    ) -> Result<(), BusError> {
        self.check_connected()?;
        let sent = async {
            match reply {
                Some(reply) => self.0.client.publish_with_reply(subject.clone(), reply, payload).await,
                None => self.0.client.publish(subject.clone(), payload).await,
            }
        };
        match tokio::time::timeout(REQUEST_TIMEOUT, sent).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(BusError::Refused(format!("{subject}: {error}"))),
            Err(_) => Err(BusError::Unknown(format!("{subject}: the connection takes nothing"))),
        }
    }

    /// Messages on a subject, from now on, also after reconnects.
    pub(super) async fn subscribe(
        &self,
        subject: String,
        group: Option<&str>,
    ) -> Result<Subscriber, BusError> {
        self.check_connected()?;
        self.subscribe_early(subject, group).await
    }

    /// Like `subscribe`, also before the connection stands.
    pub(super) async fn subscribe_early(
        &self,
        subject: String,
        group: Option<&str>,
    ) -> Result<Subscriber, BusError> {
        let subscribed = match group {
            Some(group) => self.0.client.queue_subscribe(subject.clone(), group.into()).await,
            None => self.0.client.subscribe(subject.clone()).await,
        };
        subscribed.map_err(|e| BusError::Refused(format!("{subject}: {e}")))
    }

    pub(super) fn new_inbox(&self) -> String {
        self.0.client.new_inbox()
    }

    /// One request of the JetStream API.
    pub(super) async fn js<T: DeserializeOwned>(
        &self,
        verb: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<T, BusError> {
        let body = serde_json::to_vec(body).map_err(|e| BusError::Refused(e.to_string()))?;
        let reply = self.request(format!("$JS.API.{verb}"), None, body.into(), REQUEST_TIMEOUT).await?;
        read_response(verb, &reply.payload)
    }

    /// Like `js`, with `None` for answers with one of these codes: the thing asked for doesn't exist.
    pub(super) async fn js_maybe<T: DeserializeOwned>(
        &self,
        verb: &str,
        body: &(impl Serialize + Sync),
        absent: &[ErrorCode],
    ) -> Result<Option<T>, BusError> {
        let body = serde_json::to_vec(body).map_err(|e| BusError::Refused(e.to_string()))?;
        let reply = self.request(format!("$JS.API.{verb}"), None, body.into(), REQUEST_TIMEOUT).await?;
        match serde_json::from_slice::<Response<serde::de::IgnoredAny>>(&reply.payload) {
            Ok(Response::Err { error }) if absent.contains(&error.error_code()) => Ok(None),
            _ => read_response(verb, &reply.payload).map(Some),
        }
    }

    /// Stores messages, all in flight at once; one result each, in order. All acks share one deadline, which begins once
    /// there is room for them.
    pub(super) async fn store(
        &self,
        messages: Vec<Outgoing>,
        timeout: Duration,
    ) -> Vec<Result<Stored, BusError>> {
        let count = messages.len();
        let desk = match self.desk().await {
            Ok(desk) if count > 0 => desk,
            Ok(_) => return Vec::new(),
            Err(failed) => return vec![Err(failed); count],
        };
        let _room = desk.room(count).await;
        let since = Instant::now();
        let mut lost = self.losses();
        let call = desk.open(count);
        let subjects: Vec<Subject> = messages.iter().map(|m| m.subject.as_str().into()).collect();
        let contents = messages.into_iter().map(|m| (m.headers, m.payload));
        let exchange = async {
            for (place, (subject, (headers, payload))) in subjects.iter().zip(contents).enumerate() {
                let reply = call.reply(place);
                if let Err(problem) = self.send_to_store(subject.clone(), reply, headers, payload).await {
                    call.answer(place, Err(problem));
                }
            }
            call.answered().await;
        };
        let interruption =
            race(exchange, &mut lost, since + timeout).await.err().unwrap_or(Interruption::Late);
        let open = |(subject, answer): (&Subject, Option<Result<Stored, BusError>>)| {
            answer.unwrap_or_else(|| Err(self.interrupted(interruption, subject, since)))
        };
        subjects.iter().zip(call.close()).map(open).collect()
    }

    async fn desk(&self) -> Result<&Desk, BusError> {
        self.check_connected()?;
        let open = || async {
            let inbox = self.new_inbox();
            let subscription = self.subscribe_early(format!("{inbox}.>"), None).await?;
            Ok(Desk::new(inbox, subscription))
        };
        self.0.desk.get_or_try_init(open).await
    }

    async fn send_to_store(
        &self,
        subject: Subject,
        reply: Subject,
        headers: Result<HeaderMap, BusError>,
        payload: Bytes,
    ) -> Result<(), BusError> {
        let headers = headers?;
        let sent = if headers.is_empty() {
            self.0.client.publish_with_reply(subject.clone(), reply, payload).await
        } else {
            self.0.client.publish_with_reply_and_headers(subject.clone(), reply, headers, payload).await
        };
        sent.map_err(|error| match error.kind() {
            PublishErrorKind::Send => BusError::Failed(format!("{subject}: {error}")),
            PublishErrorKind::MaxPayloadExceeded | PublishErrorKind::InvalidSubject => {
                BusError::Refused(format!("{subject}: {error}"))
            }
        })
    }

    /// Stores one message.
    pub(super) async fn store_only(&self, message: Outgoing, timeout: Duration) -> Result<Stored, BusError> {
        let mut results = self.store(vec![message], timeout).await;
        results.pop().unwrap_or_else(|| Err(BusError::Failed("nothing was sent".into())))
    }

    fn interrupted(&self, interruption: Interruption, subject: &str, since: Instant) -> BusError {
        match interruption {
            Interruption::Lost => {
                BusError::Unknown(format!("{subject}: the connection was lost before the reply"))
            }
            Interruption::Late if lock(&self.0.denials).denied_since(since, subject) => {
                BusError::Refused(format!("{subject}: no permission"))
            }
            Interruption::Late => {
                BusError::Unknown(format!("{subject}: no answer in {} ms", since.elapsed().as_millis()))
            }
        }
    }
}

/// What kept a reply from being waited for.
#[derive(Clone, Copy)]
enum Interruption {
    Lost,
    Late,
}

async fn race<T>(
    work: impl Future<Output = T>,
    lost: &mut watch::Receiver<u64>,
    deadline: Instant,
) -> Result<T, Interruption> {
    tokio::select! {
        biased;
        done = work => Ok(done),
        _ = lost.changed() => Err(Interruption::Lost),
        () = tokio::time::sleep_until(deadline) => Err(Interruption::Late),
    }
}

fn request_problem(subject: &str, error: &RequestError) -> BusError {
    match error.kind() {
        RequestErrorKind::NoResponders => BusError::Failed(format!("{subject}: nobody listens there")),
        RequestErrorKind::MaxPayloadExceeded | RequestErrorKind::InvalidSubject => {
            BusError::Refused(format!("{subject}: {error}"))
        }
        RequestErrorKind::TimedOut | RequestErrorKind::Other => {
            BusError::Unknown(format!("{subject}: {error}"))
        }
    }
}

/// An ack of JetStream, or its refusal in our classes.
pub(super) fn read_stored(payload: &[u8]) -> Result<Stored, BusError> {
    match serde_json::from_slice::<Ack>(payload) {
        Ok(Ack { error: None, seq, duplicate }) => Ok(Stored { sequence: seq, duplicate }),
        Ok(_) | Err(_) => match read_response::<serde::de::IgnoredAny>("store a message", payload) {
            Ok(_) => Err(BusError::Unknown("store a message: unreadable ack".into())),
            Err(problem) => Err(problem),
        },
    }
}

/// An answer of JetStream, or its refusal in our classes.
fn read_response<T: DeserializeOwned>(what: &str, payload: &[u8]) -> Result<T, BusError> {
    match serde_json::from_slice::<Response<T>>(payload) {
        Ok(Response::Ok(answer)) => Ok(answer),
        Ok(Response::Err { error }) => Err(refusal(what, error.error_code(), &error.to_string())),
        Err(error) => Err(BusError::Unknown(format!("{what}: unreadable answer: {error}"))),
    }
}

/// JetStream's error codes in our classes. A leader that is changing may have stored what it can't confirm; whatever
/// isn't listed was understood and refused.
fn refusal(what: &str, code: ErrorCode, text: &str) -> BusError {
    let text = format!("{what}: {text} (code {})", code.0);
    match code {
        ErrorCode::STREAM_WRONG_LAST_SEQUENCE | ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT => {
            BusError::Conflict
        }
        ErrorCode::STREAM_DUPLICATE_MESSAGE_CONFLICT
        | ErrorCode::CLUSTER_NOT_AVAILABLE
        | ErrorCode::CLUSTER_NOT_LEADER
        | ErrorCode::CLUSTER_NOT_ACTIVE
        | ErrorCode::CLUSTER_INCOMPLETE
        | ErrorCode::RAFT_GENERAL => BusError::Unknown(text),
        ErrorCode::STREAM_NOT_FOUND
        | ErrorCode::CONSUMER_NOT_FOUND
        | ErrorCode::STREAM_OFFLINE
        | ErrorCode::STREAM_OFFLINE_REASON
        | ErrorCode::CONSUMER_OFFLINE
        | ErrorCode::CONSUMER_OFFLINE_REASON
        | ErrorCode::STREAM_TOO_MANY_REQUESTS => BusError::Failed(text),
        _ => BusError::Refused(text),
    }
}
