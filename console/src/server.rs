//! The server: binds, puts the layers in order, and serves until shutdown.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ambient::{Clock, Entropy, Shutdown};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use bus::nats::NatsBus;
use tokio::net::TcpListener;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;

use crate::access::tokens::Credentials;
use crate::access::{guard, headers, session};
use crate::desk::Desk;
use crate::problem::Problem;
use crate::pulse::Pulse;
use crate::{assets, pages, rest};

/// Bytes of a request's body: a manifest with its payload, or several.
const BODY_BYTES_MAX: usize = 768 * 1024;
/// How long open requests may take once shutdown was asked for.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);

/// What a console is told at its start.
#[derive(Debug)]
pub struct Settings {
    pub listen: SocketAddr,
    pub credentials: Credentials,
    /// Who acts, for the audit, where nobody has to say who they are.
    pub by: Option<String>,
}

/// Why a console doesn't start.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    #[error(
        "listen on {0} without credentials: whoever reaches it could do anything; give --token-file, or listen on 127.0.0.1"
    )]
    Open(SocketAddr),
    #[error("listen on {at}: {problem}")]
    Taken { at: SocketAddr, problem: std::io::Error },
    #[error("serve: {0}")]
    Serve(std::io::Error),
}

/// What every request has at hand.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) desk: Desk,
    pub(crate) clock: Clock,
    pub(crate) credentials: Credentials,
    pub(crate) sessions: session::Sessions,
    pub(crate) pulse: Pulse,
    pub(crate) shutdown: Shutdown,
    pub(crate) by: Option<String>,
    pub(crate) watchers: Arc<tokio::sync::Semaphore>,
}

/// A console that has its port.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    at: SocketAddr,
    settings: Settings,
}

/// Takes the port.
///
/// # Errors
/// Refuses to listen beyond loopback without credentials; the port may be taken.
pub async fn bind(settings: Settings) -> Result<Bound, ConsoleError> {
    let at = settings.listen;
    if !at.ip().is_loopback() && settings.credentials.is_empty() {
        return Err(ConsoleError::Open(at));
    }
    let taken = |problem| ConsoleError::Taken { at, problem };
    let listener = TcpListener::bind(at).await.map_err(taken)?;
    let at = listener.local_addr().map_err(taken)?;
    Ok(Bound { listener, at, settings })
}

impl Bound {
    /// Where it is reached.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.at)
    }

    /// Serves until shutdown.
    ///
    /// # Errors
    /// The listener may break.
    pub async fn serve(
        self,
        bus: Arc<NatsBus>,
        clock: Clock,
        shutdown: Shutdown,
    ) -> Result<(), ConsoleError> {
        let Settings { credentials, by, .. } = self.settings;
        let shared = Arc::new(Shared {
            desk: Desk::new(Arc::clone(&bus)),
            pulse: Pulse::begin(clock.now()),
            sessions: session::Sessions::new(Entropy::system()),
            clock: clock.clone(),
            credentials,
            shutdown: shutdown.clone(),
            by,
            watchers: Arc::new(tokio::sync::Semaphore::new(rest::WATCHERS_MAX)),
        });
        let (stopped, drained) = (shutdown.clone(), shutdown.clone());
        let app = app(Arc::clone(&shared));
        let serving =
            axum::serve(self.listener, app).with_graceful_shutdown(async move { stopped.stopped().await });
        let late = async {
            drained.stopped().await;
            clock.sleep(DRAIN_TIMEOUT).await;
        };
        tokio::select! {
            biased;
            served = serving.into_future() => served.map_err(ConsoleError::Serve),
            () = shared.pulse.follow(&*bus, &shared.clock, &shutdown) => Ok(()),
            // Somebody holds a connection open; nothing is lost by closing it.
            () = late => Ok(()),
        }
    }
}

fn app(shared: Arc<Shared>) -> Router {
    let guarded = Router::new()
        .nest(rest::ROOT, rest::router())
        .merge(pages::router())
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), guard::admit));
    Router::new()
        .merge(guarded)
        .merge(assets::router())
        .merge(session::router())
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), guard::same_site))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(CatchPanicLayer::custom(|_| Problem::panicked()))
        .layer(CompressionLayer::new())
        .layer(middleware::map_response(headers::harden))
        .with_state(shared)
}
