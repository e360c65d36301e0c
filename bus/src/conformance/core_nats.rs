//! The API and nudges.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use model::shard::ShardId;

use super::{GLANCE, PATIENCE, World};
use crate::api::{ApiClient, ApiHandler, ApiServer};
use crate::error::BusError;
use crate::nudge::Nudge;

pub async fn a_request_is_answered_by_one_server(world: &impl World) {
    let handler: ApiHandler = Arc::new(|verb: String, body: Bytes| {
        async move { Bytes::from(format!("{verb}:{}", String::from_utf8_lossy(&body))) }.boxed()
    });
    let (first, second) = (world.other().await, world.other().await);
    let asking = async {
        // A server's subscription isn't acknowledged; asks until one is there.
        for _ in 0..50 {
            match world.bus().request("get", Bytes::from_static(b"x"), PATIENCE).await {
                Err(BusError::Failed(_)) => tokio::time::sleep(GLANCE / 10).await,
                answer => return answer,
            }
        }
        panic!("nobody answers")
    };
    tokio::select! {
        _ = first.serve(handler.clone()) => panic!("a server ended"),
        _ = second.serve(handler.clone()) => panic!("a server ended"),
        answer = asking => assert_eq!(answer, Ok(Bytes::from_static(b"get:x"))),
    }
}

pub async fn without_a_server_a_request_fails_at_once(world: &impl World) {
    let request = world.bus().request("get", Bytes::new(), PATIENCE * 10);
    let answer = tokio::time::timeout(PATIENCE, request).await.expect("at once");
    assert!(matches!(answer, Err(BusError::Failed(_))), "{answer:?}");
}

pub async fn nudges_are_heard(world: &impl World) {
    let mut nudges = world.other().await.nudges().await.expect("nudges");
    for attempt in 0.. {
        world.bus().nudge(ShardId(7)).await.expect("nudge");
        match tokio::time::timeout(GLANCE, nudges.next()).await {
            Ok(heard) => return assert_eq!(heard, Some(ShardId(7))),
            Err(_) => assert!(attempt < 20, "nothing is heard"),
        }
    }
}
