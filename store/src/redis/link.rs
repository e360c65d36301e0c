//! The connection: one multiplexed connection that is made anew when it fails.
//!
//! Whether an operation failed before it was sent is known only here, which is why the crate's own connection manager
//! isn't used: a failure to connect is `Failed`, anything after that may have happened. A connection on which an answer
//! was overdue is given up, too: it may be half open. Nothing is retried; whoever calls has a loop of its own.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, Value};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::error::{classify, classify_connecting};
use super::info::Info;
use super::script::Script;
use crate::error::StoreError;

/// How long an answer may take. Beyond it nobody waits for the store: leases are shorter than two of these.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long connecting may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// After a failed attempt to connect, others fail at once for this long, instead of queueing for the same failure.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);
/// Commands that may wait to be written before callers are held up.
const WRITE_QUEUE_MAX: usize = 1024;
/// Calls that may wait for the server at once; further ones wait here, where the time that an answer may take doesn't count
/// yet. The server does one after another anyway, so more would only make every answer later: with a herd's scripts of
/// 10 ms each, two hundred at once are overdue together, though nothing is wrong.
const IN_FLIGHT_MAX: usize = 8;

/// How to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisOptions {
    /// Shown by `CLIENT LIST`.
    pub client_name: String,
    pub connect_timeout: Duration,
    pub response_timeout: Duration,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            client_name: "ecron".into(),
            connect_timeout: CONNECT_TIMEOUT,
            response_timeout: RESPONSE_TIMEOUT,
        }
    }
}

/// One connection; its identity tells whether it was replaced meanwhile.
type Live = Arc<MultiplexedConnection>;

pub(super) struct Link {
    client: Client,
    options: RedisOptions,
    live: RwLock<Option<Live>>,
    /// Held while connecting; the last failure to do so.
    connecting: tokio::sync::Mutex<Option<(Instant, StoreError)>>,
    in_flight: Semaphore,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The address may carry a password: it isn't shown.
        f.debug_struct("Link").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Link {
    /// Connects for the first time.
    pub(super) async fn open(url: &str, options: RedisOptions) -> Result<Self, StoreError> {
        let client = Client::open(url).map_err(|error| classify_connecting(&error))?;
        let link = Self {
            client,
            options,
            live: RwLock::default(),
            connecting: tokio::sync::Mutex::default(),
            in_flight: Semaphore::new(IN_FLIGHT_MAX),
        };
        link.connection().await?;
        Ok(link)
    }

    fn present(&self) -> Option<Live> {
        self.live.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, live: Option<Live>) {
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = live;
    }

    /// Gives a connection up, unless it was replaced already.
    fn give_up(&self, failed: &Live) {
        let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        if live.as_ref().is_some_and(|present| Arc::ptr_eq(present, failed)) {
            *live = None;
        }
    }

    async fn connection(&self) -> Result<Live, StoreError> {
        if let Some(live) = self.present() {
            return Ok(live);
        }
        let mut last_failure = self.connecting.lock().await;
        if let Some(live) = self.present() {
            return Ok(live);
        }
        if let Some((at, error)) = &*last_failure
            && at.elapsed() < RECONNECT_PAUSE
        {
            return Err(error.clone());
        }
        match self.connect().await {
            Ok(connection) => {
                let live = Arc::new(connection);
                self.replace(Some(Arc::clone(&live)));
                *last_failure = None;
                Ok(live)
            }
            Err(error) => {
                *last_failure = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// Connects, says who it is, and refuses a server that is too old.
    async fn connect(&self) -> Result<MultiplexedConnection, StoreError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.options.connect_timeout))
            .set_response_timeout(Some(self.options.response_timeout))
            .set_pipeline_buffer_size(WRITE_QUEUE_MAX);
        let mut connection = self
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(|error| classify_connecting(&error))?;
        let mut hello = redis::pipe();
        hello.cmd("CLIENT").arg("SETNAME").arg(&self.options.client_name).ignore();
        hello.cmd("INFO").arg("server");
        let (info,): (String,) =
            hello.query_async(&mut connection).await.map_err(|error| classify_connecting(&error))?;
        Info::parse(&info).check_version()?;
        Ok(connection)
    }

    /// A place among the calls in flight, in the order of asking. `None` can't be: nobody closes the semaphore.
    async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.in_flight.acquire().await.ok()
    }

    /// Sends one command.
    pub(super) async fn query(&self, command: &Cmd) -> Result<Value, StoreError> {
        let _turn = self.turn().await;
        let live = self.connection().await?;
        let mut connection = (*live).clone();
        command.query_async(&mut connection).await.map_err(|error| self.failed(&live, &error))
    }

    /// Sends some commands in one round trip; an error of one of them stands in its place.
    pub(super) async fn query_all(
        &self,
        pipeline: &mut Pipeline,
    ) -> Result<Vec<Result<Value, StoreError>>, StoreError> {
        if pipeline.is_empty() {
            return Ok(Vec::new());
        }
        let _turn = self.turn().await;
        let live = self.connection().await?;
        let mut connection = (*live).clone();
        let answers: Vec<redis::RedisResult<Value>> = pipeline
            .ignore_errors()
            .query_async(&mut connection)
            .await
            .map_err(|error| self.failed(&live, &error))?;
        Ok(answers.into_iter().map(|answer| answer.map_err(|error| self.failed(&live, &error))).collect())
    }

    /// Runs one script, loading it if the server doesn't know it (any more).
    pub(super) async fn run(&self, call: &Call) -> Result<Value, StoreError> {
        match self.query(&call.command).await {
            Err(error) if is_noscript(&error) => {
                self.query(&call.script.load()).await?;
                self.query(&call.command).await
            }
            answer => answer,
        }
    }

    /// Runs one script several times in one round trip (and once more those that weren't known).
    pub(super) async fn run_all(&self, calls: &[Call]) -> Result<Vec<Value>, StoreError> {
        let pipeline = |calls: &mut dyn Iterator<Item = &Call>| {
            let mut pipeline = redis::pipe();
            for call in calls {
                pipeline.add_command(call.command.clone());
            }
            pipeline
        };
        let mut answers = self.query_all(&mut pipeline(&mut calls.iter())).await?;
        let unknown: Vec<usize> =
            (0..answers.len()).filter(|i| answers[*i].as_ref().err().is_some_and(is_noscript)).collect();
        if let Some(first) = unknown.first() {
            self.query(&calls[*first].script.load()).await?;
            let again = self.query_all(&mut pipeline(&mut unknown.iter().map(|i| &calls[*i]))).await?;
            for (i, answer) in unknown.into_iter().zip(again) {
                answers[i] = answer;
            }
        }
        answers.into_iter().collect()
    }

    fn failed(&self, live: &Live, error: &redis::RedisError) -> StoreError {
        if error.is_io_error() || error.is_unrecoverable_error() {
            self.give_up(live);
        }
        classify(error)
    }
}

fn is_noscript(error: &StoreError) -> bool {
    matches!(error, StoreError::Refused(text) if text.starts_with("NoScript") || text.contains("NOSCRIPT"))
}

/// One call of a script.
#[derive(Debug)]
pub(super) struct Call {
    script: &'static Script,
    command: Cmd,
}

impl Call {
    pub(super) fn new(script: &'static Script, keys: &[String]) -> Self {
        let mut command = redis::cmd("EVALSHA");
        command.arg(script.sha()).arg(keys.len()).arg(keys);
        Self { script, command }
    }

    pub(super) fn arg(mut self, argument: impl redis::ToRedisArgs) -> Self {
        self.command.arg(argument);
        self
    }

    pub(super) fn push(&mut self, argument: impl redis::ToRedisArgs) {
        self.command.arg(argument);
    }
}
