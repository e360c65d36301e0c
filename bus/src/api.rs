//! Request and reply: the verbs of `ecron.api.v1.<verb>`. Bodies are JSON; what they mean is the planner's business.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::error::BusError;

/// Answers one request: verb and body in, body out.
pub type ApiHandler = std::sync::Arc<dyn Fn(String, Bytes) -> BoxFuture<'static, Bytes> + Send + Sync>;

/// Requests that one server works on at once; more wait.
pub const API_CONCURRENCY_MAX: usize = 64;

pub trait ApiServer: Send + Sync + 'static {
    /// Serves requests, shared with every other server of the cluster, until the future is dropped.
    fn serve(&self, handler: ApiHandler) -> impl Future<Output = Result<(), BusError>> + Send;
}

pub trait ApiClient: Send + Sync + 'static {
    /// Sends a request to any server. `Failed` at once if none is there.
    fn request(
        &self,
        verb: &str,
        body: Bytes,
        timeout: Duration,
    ) -> impl Future<Output = Result<Bytes, BusError>> + Send;
}
