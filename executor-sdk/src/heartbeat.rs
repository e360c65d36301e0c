//! Heartbeats: as long as an attempt lives, its message is kept from the other executors.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use ambient::Clock;
use bus::queue::Delivery;

/// Heartbeats within one ack wait: two may get lost before another executor takes over.
const BEATS_PER_ACK_WAIT: u32 = 3;

/// Does some work on a delivery while telling the server, every third of the ack wait, that we are still at it.
pub(crate) async fn while_beating<T>(
    delivery: &impl Delivery,
    ack_wait: Duration,
    clock: &Clock,
    work: impl Future<Output = T>,
) -> T {
    tokio::select! {
        biased;
        done = work => done,
        never = beat(delivery, ack_wait / BEATS_PER_ACK_WAIT, clock) => match never {},
    }
}

async fn beat(delivery: &impl Delivery, interval: Duration, clock: &Clock) -> Infallible {
    loop {
        clock.sleep(interval).await;
        if let Err(error) = delivery.in_progress().await {
            // The work goes on: if the message is given to another executor meanwhile, at worst it is done twice.
            tracing::debug!(sequence = delivery.sequence(), %error, "failed to send a heartbeat");
        }
    }
}
