//! The API's requests and replies, and nudges: core NATS.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use model::shard::ShardId;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{NatsBus, connect};
use crate::api::{API_CONCURRENCY_MAX, ApiClient, ApiHandler, ApiServer};
use crate::error::BusError;
use crate::nudge::Nudge;
use crate::subjects::{API_ALL, API_GROUP, NUDGES_ALL, api, nudge, parse_api, parse_nudge};

impl ApiServer for NatsBus {
    async fn serve(&self, handler: ApiHandler) -> Result<(), BusError> {
        // Requests come from anybody whom the operator allows: their headers may cut the connection that reads them, or
        // kill its client. So they have their own, and whoever serves starts again when it died.
        let shared = &self.shared;
        let requests = connect::connect_reader(&shared.access.url, &shared.options, "requests").await?;
        let mut requests = requests.subscribe_early(API_ALL.into(), Some(API_GROUP)).await?;
        let slots = Arc::new(Semaphore::new(API_CONCURRENCY_MAX));
        let mut working = JoinSet::new();
        while let Some(request) = requests.next().await {
            while working.try_join_next().is_some() {}
            let (Some(verb), Some(reply)) = (parse_api(&request.subject), request.reply.clone()) else {
                continue;
            };
            let Ok(slot) = slots.clone().acquire_owned().await else { break };
            let (link, handler, verb) = (self.link().clone(), handler.clone(), verb.to_owned());
            working.spawn(async move {
                let answer = handler(verb.clone(), request.payload).await;
                if let Err(error) = link.publish(reply.to_string(), answer).await {
                    tracing::warn!(%verb, %error, "failed to answer a request");
                }
                drop(slot);
            });
        }
        Err(BusError::Failed("the connection was closed".into()))
    }
}

impl ApiClient for NatsBus {
    async fn request(&self, verb: &str, body: Bytes, timeout: Duration) -> Result<Bytes, BusError> {
        let reply = self.link().request(api(verb), None, body, timeout).await?;
        Ok(reply.payload)
    }
}

impl Nudge for NatsBus {
    async fn nudge(&self, shard: ShardId) -> Result<(), BusError> {
        self.link().publish(nudge(shard), Bytes::new()).await
    }

    async fn nudges(&self) -> Result<BoxStream<'static, ShardId>, BusError> {
        let subscription = self.link().subscribe(NUDGES_ALL.into(), None).await?;
        Ok(subscription.filter_map(async |message| parse_nudge(&message.subject)).boxed())
    }
}
