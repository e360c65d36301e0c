//! Nudges: "there is near work in this shard", over core NATS. A lost nudge costs a poll's delay, nothing else.

use std::future::Future;

use futures_util::stream::BoxStream;
use model::shard::ShardId;

use crate::error::BusError;

pub trait Nudge: Send + Sync + 'static {
    fn nudge(&self, shard: ShardId) -> impl Future<Output = Result<(), BusError>> + Send;
    fn nudges(&self) -> impl Future<Output = Result<BoxStream<'static, ShardId>, BusError>> + Send;
}
