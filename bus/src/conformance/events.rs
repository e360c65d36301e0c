//! Events.

use std::collections::BTreeSet;

use futures_util::StreamExt;
use futures_util::future::join_all;
use model::id::Revision;
use model::run::{AttemptEnd, Generation, Outcome, RunState};
use model::time::Timestamp;

use super::{GLANCE, PATIENCE, World, one, publish, queue};
use crate::events::{AttemptReport, Event, EventDelivery, EventProgress, EventReader, EventWriter};
use crate::queue::Delivery;

fn report(attempt: u32) -> AttemptReport {
    AttemptReport {
        run_id: "billing/nightly@2026-11-22T06:45:00Z".parse().expect("a run id"),
        queue: queue("reports"),
        revision: Revision(3),
        generation: Generation(0),
        end: AttemptEnd {
            attempt,
            outcome: Outcome::Succeeded,
            error: None,
            started_at: Timestamp::from_ms(1_000),
            ended_at: Timestamp::from_ms(2_000),
        },
        ends_run: Some(RunState::Succeeded),
        reason: None,
        due_at: Timestamp::from_ms(0),
        executor: "e1".into(),
        output: Some("done".into()),
    }
}

async fn progress(world: &impl World) -> (u64, u64) {
    let EventProgress { last_sequence, settled_until } =
        world.bus().event_progress().await.expect("progress");
    (last_sequence, settled_until)
}

pub async fn a_report_is_read_once_acknowledged_and_counted(world: &impl World) {
    assert!(world.bus().fetch_events(1, GLANCE).await.expect("fetch").is_empty());
    assert_eq!(progress(world).await, (0, 0));
    for attempt in 1..=3 {
        world.bus().report(&report(attempt)).await.expect("reported");
    }
    let batch = world.bus().fetch_events(10, PATIENCE).await.expect("fetch");
    let events: Vec<&Event> = batch.iter().map(EventDelivery::event).collect();
    assert_eq!(events, [&Event::Attempt(report(1)), &Event::Attempt(report(2)), &Event::Attempt(report(3))]);
    // Another settler gets none of these.
    assert!(world.other().await.fetch_events(10, GLANCE).await.expect("fetch").is_empty());
    batch[0].ack().await.expect("ack");
    batch[2].ack().await.expect("ack");
    assert_eq!(progress(world).await, (3, 1), "the second is open");
    batch[1].ack().await.expect("ack");
    assert_eq!(progress(world).await, (3, 3));
}

pub async fn repeating_a_report_changes_nothing(world: &impl World) {
    world.bus().report(&report(1)).await.expect("reported");
    world.bus().report(&report(1)).await.expect("reported again");
    assert_eq!(world.bus().fetch_events(10, PATIENCE).await.expect("fetch").len(), 1);
    assert_eq!(progress(world).await.0, 1);
}

pub async fn what_is_reported_at_once_is_counted_one_by_one(world: &impl World) {
    const REPORTS: u32 = 200;
    let queues = [queue("reports"), queue("letters")];
    let reports: Vec<AttemptReport> = (1..=REPORTS)
        .map(|attempt| AttemptReport { queue: queues[attempt as usize % 2].clone(), ..report(attempt) })
        .collect();
    for stored in join_all(reports.iter().map(|report| world.bus().report(report))).await {
        stored.expect("reported");
    }
    let mut events = Vec::new();
    while events.len() < REPORTS as usize {
        events.extend(world.bus().fetch_events(10, PATIENCE).await.expect("fetch"));
    }
    let attempt = |event: &Event| match event {
        Event::Attempt(report) => report.end.attempt,
        other => panic!("{other:?}"),
    };
    let read: BTreeSet<u32> = events.iter().map(|delivery| attempt(delivery.event())).collect();
    assert_eq!((events.len(), read.len()), (REPORTS as usize, REPORTS as usize));
    let (last, others) = events.split_last().expect("some");
    for acknowledged in join_all(others.iter().chain(&others[..1]).map(EventDelivery::ack)).await {
        acknowledged.expect("ack");
    }
    let (newest, settled_until) = progress(world).await;
    assert!(settled_until < newest, "the last one is open");
    last.ack().await.expect("ack");
    assert_eq!(progress(world).await, (newest, newest));
}

pub async fn a_terminated_message_is_an_event(world: &impl World) {
    let queue = queue("reports");
    publish(world.bus(), &queue, 1).await;
    let delivery = one(world.bus(), &queue).await;
    delivery.term("can't be\ndone").await.expect("term");
    let batch = world.bus().fetch_events(10, PATIENCE).await.expect("fetch");
    let events: Vec<&Event> = batch.iter().map(EventDelivery::event).collect();
    let [Event::Terminated { sequence, deliveries, reason, queue: from }] = events.as_slice() else {
        panic!("{events:?}");
    };
    assert_eq!((*sequence, *deliveries), (delivery.sequence(), 1));
    assert_eq!((from, reason.replace('\n', " ")), (&Some(queue), "can't be done".to_owned()));
}

pub async fn watched_events_are_live(world: &impl World) {
    let mut watched = world.other().await.watch_events().await.expect("watched");
    // A subscription isn't acknowledged; reports until the first is heard.
    for attempt in 1.. {
        world.bus().report(&report(attempt)).await.expect("reported");
        match tokio::time::timeout(GLANCE, watched.next()).await {
            Ok(Some(Event::Attempt(heard))) => return assert_eq!(heard.run_id, report(1).run_id),
            Ok(other) => panic!("{other:?}"),
            Err(_) => assert!(attempt < 20, "nothing is heard"),
        }
    }
}
