//! A connection of its own for each consumer that is read.
//!
//! What strangers publish can kill the connection that reads it (see `header_block`). So nothing else is on it: neither
//! another queue, nor publishing, nor the buckets. When it is lost while the trusted one lives, or its client is
//! dead, it is mended or replaced, and no message is asked for before a sweep has looked for the culprit.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Message, Subscriber};
use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::NatsOptions;
use super::connect;
use super::link::Link;
use super::streams::ConsumerSpec;
use super::sweep::{Swept, sweep};
use crate::error::BusError;

/// Before a dead connection is replaced.
const REPLACE_DELAY: Duration = Duration::from_millis(100);
/// After a sweep that found something, for how long messages are asked for one by one: what the server had sent behind a message that cuts the
/// connection is lost with it until the ack wait is over, and who publishes one such message may go on.
const CAREFUL_FOR: Duration = Duration::from_secs(60);
/// For how long a reader may be without its first connection before a fetch says so; until then nothing has come yet.
const CONNECTING_MAX: Duration = Duration::from_secs(2);

/// How readers get their connections.
#[derive(Clone)]
pub(super) struct Access {
    /// The connection for everything but reading.
    pub(super) trusted: Link,
    pub(super) url: Arc<str>,
    pub(super) options: Arc<NatsOptions>,
}

/// Where one consumer's messages arrive.
pub(super) struct Reader {
    access: Access,
    consumer: ConsumerSpec,
    connection: Option<Connection>,
    gate: Gate,
    /// Whether a client died since the last sweep.
    suspicious: bool,
    careful_until: Option<Instant>,
    /// How often the trusted connection had been lost when this one was last made.
    trusted_losses: u64,
}

struct Connection {
    link: Link,
    inbox: String,
    subscription: Subscriber,
    connections: watch::Receiver<u64>,
}

/// Whether messages may be asked for.
enum Gate {
    Connecting {
        since: Instant,
        replace_at: Instant,
    },
    /// Says at the end whether to be careful from now on.
    Sweeping(JoinHandle<bool>),
    Open,
}

/// What a reader says.
pub(super) enum Heard {
    Message(Message),
    /// Ask for messages: the server has forgotten all pulls, or never knew one.
    Ready,
}

enum Woken {
    Message(Option<Message>),
    Connected,
    Swept { careful: bool },
    Replace,
}

impl Reader {
    pub(super) fn new(access: Access, consumer: ConsumerSpec) -> Self {
        let now = Instant::now();
        let trusted_losses = access.trusted.loss_count();
        let gate = Gate::Connecting { since: now, replace_at: now };
        Self {
            access,
            consumer,
            connection: None,
            gate,
            suspicious: false,
            careful_until: None,
            trusted_losses,
        }
    }

    /// Whether messages may be asked for now.
    pub(super) fn is_ready(&self) -> bool {
        matches!(self.gate, Gate::Open)
    }

    /// How many messages to ask for at once.
    pub(super) fn batch(&self, wanted: usize) -> usize {
        let careful = self.careful_until.is_some_and(|until| Instant::now() < until);
        if careful { wanted.min(1) } else { wanted }
    }

    /// Why nothing can come, if that is worth telling.
    pub(super) fn problem(&self) -> Option<BusError> {
        let lost = |connection: &Connection| !connection.link.is_connected();
        let text = match &self.gate {
            _ if !self.access.trusted.is_connected() => "not connected to NATS",
            Gate::Open if self.connection.as_ref().is_none_or(lost) => "not connected to NATS",
            Gate::Connecting { since, .. } if since.elapsed() > CONNECTING_MAX => "no connection for reading",
            Gate::Open | Gate::Sweeping(_) | Gate::Connecting { .. } => return None,
        };
        Some(BusError::Failed(text.into()))
    }

    /// Asks the consumer for messages, to come under a number.
    pub(super) async fn pull(&self, id: u64, request: String) -> Result<(), BusError> {
        let Some(Connection { link, inbox, .. }) = &self.connection else {
            return Err(BusError::Failed("no connection for reading".into()));
        };
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", self.consumer.stream, self.consumer.name);
        link.publish_for(subject.into(), Some(format!("{inbox}.{id}").into()), request.into()).await
    }

    /// The next thing to act on. May be dropped and called again at any time.
    pub(super) async fn hear(&mut self) -> Heard {
        loop {
            match wait(self.connection.as_mut(), &mut self.gate).await {
                Woken::Message(Some(message)) => return Heard::Message(message),
                Woken::Message(None) => self.on_death(),
                Woken::Connected => self.on_connected(),
                Woken::Swept { careful } => self.on_swept(careful),
                Woken::Replace => self.replace().await,
            }
            if self.is_ready() {
                return Heard::Ready;
            }
        }
    }

    /// The client is dead: its task panicked, or it has given up.
    fn on_death(&mut self) {
        tracing::warn!(consumer = %self.consumer.name, "the connection that reads this consumer died");
        let now = Instant::now();
        self.connection = None;
        self.suspicious = true;
        self.gate = Gate::Connecting { since: now, replace_at: now + REPLACE_DELAY };
    }

    fn on_connected(&mut self) {
        let first = matches!(self.gate, Gate::Connecting { .. });
        let losses = self.access.trusted.loss_count();
        // If the trusted one was lost too, it was the server or the network.
        let cut_alone = !first && losses == self.trusted_losses;
        self.trusted_losses = losses;
        let sweeping = matches!(self.gate, Gate::Sweeping(_));
        if sweeping {
            return;
        }
        self.gate = if cut_alone || std::mem::take(&mut self.suspicious) {
            let (trusted, consumer) = (self.access.trusted.clone(), self.consumer.clone());
            Gate::Sweeping(tokio::spawn(async move { report(&consumer, sweep(&trusted, &consumer).await) }))
        } else {
            Gate::Open
        };
    }

    fn on_swept(&mut self, careful: bool) {
        if careful {
            self.careful_until = Some(Instant::now() + CAREFUL_FOR);
        }
        self.gate = Gate::Open;
    }

    async fn replace(&mut self) {
        match self.open().await {
            Ok(connection) => self.connection = Some(connection),
            Err(error) => {
                tracing::warn!(consumer = %self.consumer.name, %error, "failed to connect for reading");
                if let Gate::Connecting { replace_at, .. } = &mut self.gate {
                    *replace_at = Instant::now() + REPLACE_DELAY;
                }
            }
        }
    }

    async fn open(&self) -> Result<Connection, BusError> {
        let Access { url, options, .. } = &self.access;
        let link = connect::connect_reader(url, options, &self.consumer.name).await?;
        let inbox = link.new_inbox();
        let subscription = link.subscribe_early(format!("{inbox}.*"), None).await?;
        let connections = link.connections();
        Ok(Connection { link, inbox, subscription, connections })
    }
}

/// Nothing that a sweep can't do keeps its queue from being read: what it left shows itself again. `true`: there is or
/// was such a message.
fn report(consumer: &ConsumerSpec, swept: Result<Swept, BusError>) -> bool {
    let consumer = &consumer.name;
    match swept {
        Ok(Swept { read, parked }) => {
            tracing::info!(%consumer, read, parked, "looked for the message that cut the connection");
            parked > 0
        }
        Err(error) => {
            tracing::warn!(%consumer, %error, "failed to look for the message that cut the connection");
            true
        }
    }
}

async fn wait(connection: Option<&mut Connection>, gate: &mut Gate) -> Woken {
    let Some(Connection { subscription, connections, .. }) = connection else {
        if let Gate::Connecting { replace_at, .. } = gate {
            tokio::time::sleep_until(*replace_at).await;
        }
        return Woken::Replace;
    };
    let swept = async {
        match gate {
            Gate::Sweeping(sweep) => sweep.await.unwrap_or(true),
            Gate::Connecting { .. } | Gate::Open => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        message = subscription.next() => Woken::Message(message),
        Ok(()) = connections.changed() => Woken::Connected,
        careful = swept => Woken::Swept { careful },
    }
}
