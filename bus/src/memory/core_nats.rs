//! The API and nudges in memory.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use model::shard::ShardId;

use super::MemoryBus;
use super::streams::received_stream;
use crate::api::{ApiClient, ApiHandler, ApiServer};
use crate::error::BusError;
use crate::nudge::Nudge;

/// Ends a server when its future is dropped.
struct Serving {
    bus: MemoryBus,
    number: u64,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.bus.lock().servers.retain(|(number, _)| *number != self.number);
    }
}

impl MemoryBus {
    fn register(&self, handler: ApiHandler) -> Result<Serving, BusError> {
        let mut state = self.state()?;
        state.servers_made += 1;
        let number = state.servers_made;
        state.servers.push((number, handler));
        Ok(Serving { bus: self.clone(), number })
    }
}

impl ApiServer for MemoryBus {
    async fn serve(&self, handler: ApiHandler) -> Result<(), BusError> {
        let _serving = self.register(handler)?;
        std::future::pending().await
    }
}

impl ApiClient for MemoryBus {
    async fn request(&self, verb: &str, body: Bytes, timeout: Duration) -> Result<Bytes, BusError> {
        let handler = {
            let mut state = self.state()?;
            let several = usize::from(state.servers.len() > 1);
            state.servers.rotate_left(several);
            state.servers.first().map(|(_, handler)| handler.clone())
        };
        let handler = handler.ok_or_else(|| BusError::Failed(format!("{verb}: nobody listens there")))?;
        let answer = tokio::time::timeout(timeout, handler(verb.to_owned(), body)).await;
        answer.map_err(|_| BusError::Unknown(format!("{verb}: no answer in {} ms", timeout.as_millis())))
    }
}

impl Nudge for MemoryBus {
    async fn nudge(&self, shard: ShardId) -> Result<(), BusError> {
        drop(self.state()?);
        // Nobody listening is fine.
        let _ = self.shared.nudges.send(shard);
        Ok(())
    }

    async fn nudges(&self) -> Result<BoxStream<'static, ShardId>, BusError> {
        Ok(received_stream(self.shared.nudges.subscribe()).boxed())
    }
}
