//! The audit, and how queues stand.

use std::time::Duration;

use model::time::Timestamp;

use super::{PATIENCE, World, publication, queue};
use crate::audit::{AuditLog, AuditRecord};
use crate::backlog::QueueBacklog;
use crate::events::{Event, EventDelivery, EventReader};
use crate::queue::{Delivery, QueueReader};
use crate::runs::RunStream;

pub async fn the_audit_is_read_back_in_order(world: &impl World) {
    let record = |second: i64, action: &str| AuditRecord {
        at: Timestamp::from_ms(1_000 * second),
        by: Some("ann@host".into()),
        action: action.into(),
        target: "job a/b".into(),
        count: None,
        detail: None,
        operation: None,
    };
    let (first, second) = (record(10, "apply"), record(20, "delete"));
    world.bus().audit(&first).await.expect("audited");
    world.bus().audit(&second).await.expect("audited");
    let since = async |second: i64| {
        world.other().await.audits(Timestamp::from_ms(1_000 * second)).await.expect("audits")
    };
    assert_eq!(since(0).await, [first.clone(), second.clone()]);
    assert_eq!(since(15).await, [second]);
    // It is an event like others: settlers pass over it, whoever follows events reads it.
    let events = world.bus().fetch_events(10, PATIENCE).await.expect("events");
    assert_eq!(*events[0].event(), Event::Audit(first));
}

pub async fn a_queue_tells_how_it_stands(world: &impl World) {
    let (bus, queue) = (world.bus(), queue("reports"));
    bus.ensure_queue(&queue).await.expect("ensured");
    for number in 1..=3 {
        bus.publish(vec![publication(&queue, "job", number)]).await.remove(0).expect("published");
    }
    let before = bus.backlog(&queue).await.expect("backlog").unwrap_or_default();
    assert_eq!((before.in_hand, before.undelivered, before.delivered_until), (0, 3, 0));
    let taken = bus.fetch(&queue, 2, PATIENCE).await.expect("fetched");
    let during = bus.backlog(&queue).await.expect("backlog").expect("a consumer");
    assert_eq!((during.in_hand, during.undelivered), (2, 1));
    assert_eq!(during.delivered_until, taken[1].sequence());
    for delivery in &taken {
        delivery.ack().await.expect("acknowledged");
    }
    world.pass(Duration::from_millis(50)).await;
    let after = bus.backlog(&queue).await.expect("backlog").expect("a consumer");
    assert_eq!((after.in_hand, after.undelivered), (0, 1));
}
