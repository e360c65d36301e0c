//! The bus over NATS JetStream. The only place that says `async_nats::`.
//!
//! `NatsBus` is one trusted connection with all traits on it, one file each, and a connection for each consumer that it
//! reads, because a message can kill the one that reads it. `link` owns a connection and sends every request, so that each
//! has a deadline and one mapping of errors; `pull` owns pull consumers, `reader` their connections, `sweep` removes
//! what killed one. What many callers do at once travels together: `desk` hears the acks of whole batches, `acks` and
//! `reports` form groups.

mod acks;
mod api;
mod audit;
mod cancel;
mod checkpoints;
mod connect;
mod dead;
mod desk;
mod edits;
mod events;
mod header_block;
mod headers;
mod intake;
mod link;
mod logs;
mod message;
mod objects;
mod pull;
mod queue;
mod reader;
mod reports;
mod runs;
mod specs;
mod streams;
mod sweep;
mod watch;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::durability::NatsFacts;
use model::name::QueueId;
use tokio::time::Instant;

use crate::error::BusError;
use edits::Announcer;
use link::Link;
use pull::Puller;
use reader::Access;
use reports::Reporter;

pub use cancel::NatsCancelNotice;
pub use dead::LETTERS_PAGE_MAX;
pub use events::NatsEvent;
pub use intake::NatsIntakeDelivery;
pub use queue::NatsDelivery;
pub use streams::{DEAD_DEDUP_WINDOW, DEDUP_WINDOW, EVENTS_AGE_MAX};

/// The oldest NATS whose JetStream keeps what it acknowledged across a crash, and has what we use.
pub const NATS_VERSION_MIN: (u32, u32) = (2, 12);
/// How long a connection attempt may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the server may take to answer a request.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the acks of one batch of publications may take.
pub const PUBLISH_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two pings; a connection with two unanswered ones counts as lost.
pub const PING_INTERVAL: Duration = Duration::from_secs(5);
/// The longest wait between two attempts to reconnect. There is no last attempt.
pub const RECONNECT_DELAY_MAX: Duration = Duration::from_secs(2);
/// How long a silent executor keeps a message from the others, unless set.
pub const ACK_WAIT_DEFAULT: Duration = Duration::from_secs(30);
/// Messages of one queue that may wait for an ack or for their next attempt. Retries wait here, hence so many.
pub const ACK_PENDING_MAX: i64 = 100_000;
/// Pulls that may wait at one queue's consumer: executors of the queue, at most.
pub const PULLS_WAITING_MAX: i64 = 4_096;

/// What differs between deployments.
#[derive(Clone, Debug)]
pub struct NatsOptions {
    /// Shown by the server for this connection.
    pub name: String,
    /// The ack wait of queue consumers that this process creates. An existing consumer's is only ever lengthened.
    pub ack_wait: Duration,
    /// Replicas of every stream and bucket that this process creates.
    pub replicas: usize,
    /// Bytes that the run stream may hold; publishing to a full one is refused. `None`: what the server allows.
    pub run_bytes_max: Option<i64>,
    /// A `.creds` file. Users and tokens may also stand in the URL.
    pub credentials_file: Option<PathBuf>,
    /// Where replies come, for accounts whose users may listen only there. `None`: `_INBOX`.
    pub inbox_prefix: Option<String>,
}

impl Default for NatsOptions {
    fn default() -> Self {
        Self {
            name: "ecron".into(),
            ack_wait: ACK_WAIT_DEFAULT,
            replicas: 1,
            run_bytes_max: None,
            credentials_file: None,
            inbox_prefix: None,
        }
    }
}

/// A connection to NATS, and one for each consumer that is read. Cheap to clone; the clones share them.
#[derive(Clone)]
pub struct NatsBus {
    shared: Arc<Shared>,
}

struct Shared {
    access: Access,
    options: Arc<NatsOptions>,
    /// One puller a consumer, made when it is first read.
    queues: Mutex<HashMap<QueueId, Puller>>,
    /// One a queue that is reported of.
    reporters: Mutex<HashMap<QueueId, Reporter>>,
    announcer: Mutex<Option<Announcer>>,
    settler: Mutex<Option<Puller>>,
    intake: Mutex<Option<Puller>>,
    /// When each queue's consumer was last seen.
    ensured: Mutex<HashMap<QueueId, Instant>>,
}

impl std::fmt::Debug for NatsBus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NatsBus").field("options", &self.shared.options).finish_non_exhaustive()
    }
}

impl NatsBus {
    /// Connects once; afterwards the connection mends itself for ever. `Failed`: nobody answers at that address.
    /// `Refused`: somebody does, but not a NATS that we can use (credentials, version, no JetStream). `url` may name
    /// several servers, separated by commas.
    pub async fn connect(url: &str, options: NatsOptions) -> Result<Self, BusError> {
        let trusted = connect::connect(url, &options).await?;
        let options = Arc::new(options);
        Ok(Self {
            shared: Arc::new(Shared {
                access: Access { trusted, url: url.into(), options: options.clone() },
                options,
                queues: Mutex::default(),
                reporters: Mutex::default(),
                announcer: Mutex::default(),
                settler: Mutex::default(),
                intake: Mutex::default(),
                ensured: Mutex::default(),
            }),
        })
    }

    /// Creates the streams and buckets that are missing. Says in which settings existing ones differ from what we
    /// would have created; those are left as they are.
    pub async fn ensure_streams(&self) -> Result<Vec<String>, BusError> {
        streams::ensure(self.link(), &self.shared.options).await
    }

    /// What there is of streams and buckets, for `model::durability` to judge. Changes nothing.
    pub async fn facts(&self) -> Result<NatsFacts, BusError> {
        streams::look(self.link(), &self.shared.options).await
    }

    /// The server's version, as it says it.
    #[must_use]
    pub fn server_version(&self) -> String {
        self.link().server_version()
    }

    fn link(&self) -> &Link {
        &self.shared.access.trusted
    }
}

/// A lock whose holder panicked still holds good data here: maps of handles.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
