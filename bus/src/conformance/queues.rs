//! Runs and queues.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use model::retry::Tally;
use model::run::{AttemptEnd, Outcome};
use tokio::time::Instant;

use super::{ACK_WAIT, GLANCE, PATIENCE, World, none, one, publication, publish, queue};
use crate::intake::{Intake, IntakeDelivery};
use crate::order::WorkKind;
use crate::queue::{Delivery, Notes, QueueReader, hand_back, hand_back_delay};
use crate::runs::RunStream;
use crate::subjects::QueueSubject;
use crate::wire::headers::Headers;

fn headers(pairs: &[(&str, &str)]) -> Headers {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

pub async fn published_runs_arrive_as_they_were(world: &impl World) {
    let queue = queue("reports");
    let expected = publication(&queue, "nightly", 5);
    let published = world.bus().publish(vec![expected.clone()]).await;
    let sequence = published[0].as_ref().expect("stored").sequence;
    let delivery = one(world.bus(), &queue).await;
    assert_eq!(delivery.order(), &Ok(expected.order));
    assert_eq!(delivery.payload(), &expected.payload);
    assert_eq!(delivery.subject(), "ecron.run.billing.reports");
    assert_eq!((delivery.sequence(), delivery.delivered()), (sequence, 1));
    assert_eq!(delivery.raw_headers()["Nats-Msg-Id"], expected.message_id);
}

pub async fn an_idle_reader_has_a_message_at_once(world: &impl World) {
    let queue = queue("reports");
    none(world.bus(), &queue).await;
    let waiting = async { (world.bus().fetch(&queue, 10, PATIENCE).await.expect("fetch"), Instant::now()) };
    let publishing = async {
        tokio::time::sleep(GLANCE).await;
        let at = Instant::now();
        publish(world.bus(), &queue, 1).await;
        at
    };
    let ((batch, received_at), published_at) = tokio::join!(waiting, publishing);
    assert_eq!(batch.len(), 1);
    let latency = received_at.saturating_duration_since(published_at);
    assert!(latency < Duration::from_millis(500), "{latency:?} although the reader was waiting");
}

pub async fn one_fetch_after_another_is_served_at_once(world: &impl World) {
    let queue = queue("reports");
    for second in 0..5 {
        let waiting = world.bus().fetch(&queue, 10, PATIENCE);
        let publishing = async {
            tokio::time::sleep(GLANCE / 10).await;
            world.bus().publish(vec![publication(&queue, "job", second)]).await
        };
        let started = Instant::now();
        let (batch, _) = tokio::join!(waiting, publishing);
        let batch = batch.expect("fetch");
        assert_eq!(batch.len(), 1);
        assert!(started.elapsed() < PATIENCE / 2, "fetch {second} took {:?}", started.elapsed());
        batch[0].ack().await.expect("ack");
    }
}

pub async fn a_batch_is_what_is_there_up_to_the_limit(world: &impl World) {
    let queue = queue("reports");
    publish(world.bus(), &queue, 5).await;
    let first = world.bus().fetch(&queue, 3, PATIENCE).await.expect("fetch");
    let started = Instant::now();
    let second = world.bus().fetch(&queue, 10, PATIENCE).await.expect("fetch");
    assert_eq!((first.len(), second.len()), (3, 2));
    assert!(started.elapsed() < PATIENCE / 2, "waited for the batch to fill");
    assert_eq!(world.bus().fetch(&queue, 0, PATIENCE).await.expect("fetch").len(), 0);
    for delivery in first.iter().chain(&second) {
        delivery.ack().await.expect("ack");
    }
    none(world.bus(), &queue).await;
}

pub async fn a_repeated_message_id_is_stored_once(world: &impl World) {
    let queue = queue("reports");
    let run = publication(&queue, "nightly", 5);
    let published = world.bus().publish(vec![run.clone(), run.clone()]).await;
    let [Ok(first), Ok(second)] = published.as_slice() else { panic!("{published:?}") };
    assert_eq!((first.duplicate, second.duplicate), (false, true));
    assert_eq!(first.sequence, second.sequence);
    one(world.bus(), &queue).await.ack().await.expect("ack");
    none(world.bus(), &queue).await;
}

pub async fn an_acknowledged_message_leaves_the_stream(world: &impl World) {
    let queue = queue("reports");
    let run = publication(&queue, "nightly", 5);
    world.bus().publish(vec![run.clone()]).await;
    let delivery = one(world.bus(), &queue).await;
    let stored = world.bus().stored_message_id(delivery.sequence()).await;
    assert_eq!(stored, Ok(Some(run.message_id)));
    assert_eq!(world.bus().extent().await.expect("extent").messages, 1);
    delivery.ack().await.expect("ack");
    assert_eq!(world.bus().stored_message_id(delivery.sequence()).await, Ok(None));
    let extent = world.bus().extent().await.expect("extent");
    assert_eq!((extent.messages, extent.last_sequence), (0, delivery.sequence()));
    world.pass(ACK_WAIT).await;
    none(world.bus(), &queue).await;
}

pub async fn an_unconfirmed_ack_counts_too(world: &impl World) {
    let queue = queue("reports");
    publish(world.bus(), &queue, 1).await;
    one(world.bus(), &queue).await.ack_unconfirmed().await.expect("ack");
    world.pass(ACK_WAIT + GLANCE).await;
    none(world.bus(), &queue).await;
}

pub async fn acks_at_once_count_each(world: &impl World) {
    let queue = queue("reports");
    publish(world.bus(), &queue, 300).await;
    let mut deliveries = Vec::new();
    while deliveries.len() < 300 {
        deliveries.extend(world.bus().fetch(&queue, 300, PATIENCE).await.expect("fetch"));
    }
    let last = deliveries.pop().expect("the last");
    for acknowledged in futures_util::future::join_all(deliveries.iter().map(Delivery::ack)).await {
        acknowledged.expect("ack");
    }
    assert_eq!(world.bus().extent().await.expect("extent").messages, 1);
    last.ack().await.expect("ack");
    assert_eq!(world.bus().extent().await.expect("extent").messages, 0);
}

pub async fn a_nak_comes_back_after_its_delay_and_not_before(world: &impl World) {
    let queue = queue("reports");
    publish(world.bus(), &queue, 1).await;
    // Longer than the ack wait, which must not cut it short.
    one(world.bus(), &queue).await.nak(ACK_WAIT * 2).await.expect("nak");
    world.pass(ACK_WAIT + GLANCE).await;
    none(world.bus(), &queue).await;
    world.pass(ACK_WAIT).await;
    let again = one(world.bus(), &queue).await;
    assert_eq!(again.delivered(), 2);
    again.nak(Duration::ZERO).await.expect("nak");
    assert_eq!(one(world.bus(), &queue).await.delivered(), 3);
}

pub async fn an_unanswered_message_comes_back_after_the_ack_wait(world: &impl World) {
    let queue = queue("reports");
    publish(world.bus(), &queue, 1).await;
    drop(one(world.bus(), &queue).await);
    none(world.bus(), &queue).await;
    world.pass(ACK_WAIT).await;
    assert_eq!(one(world.bus(), &queue).await.delivered(), 2);
}

pub async fn work_in_progress_is_not_redelivered(world: &impl World) {
    let queue = queue("reports");
    publish(world.bus(), &queue, 1).await;
    let delivery = one(world.bus(), &queue).await;
    for _ in 0..3 {
        world.pass(ACK_WAIT / 2).await;
        delivery.in_progress().await.expect("in progress");
    }
    none(world.bus(), &queue).await;
    delivery.ack().await.expect("ack");
}

pub async fn two_executors_share_a_queue(world: &impl World) {
    let queue = queue("reports");
    let other = world.other().await;
    publish(world.bus(), &queue, 20).await;
    let mut seen = BTreeSet::new();
    while seen.len() < 20 {
        let (mine, its) = tokio::join!(world.bus().fetch(&queue, 3, GLANCE), other.fetch(&queue, 3, GLANCE));
        for delivery in mine.expect("fetch").iter().chain(&its.expect("fetch")) {
            assert!(seen.insert(delivery.sequence()), "{} was delivered to both", delivery.sequence());
            delivery.ack().await.expect("ack");
        }
    }
    none(&other, &queue).await;
}

pub async fn queues_do_not_see_each_other(world: &impl World) {
    let (reports, invoices) = (queue("reports"), queue("invoices"));
    world.bus().ensure_queue(&reports).await.expect("ensured");
    world.bus().ensure_queue(&reports).await.expect("ensured again");
    publish(world.bus(), &reports, 1).await;
    none(world.bus(), &invoices).await;
    assert_eq!(one(world.bus(), &reports).await.order().as_ref().expect("readable").queue, reports);
}

pub async fn an_unreadable_message_is_handed_out_as_such_and_stalls_nobody(world: &impl World) {
    let queue = queue("reports");
    let (run, submit) = (QueueSubject::Run.of(&queue), QueueSubject::Submit.of(&queue));
    world.publish_raw(&run, Headers::new(), Bytes::from_static(b"no headers")).await;
    world.publish_raw(&run, headers(&[("Ecron-Wire", "9")]), Bytes::new()).await;
    world.publish_raw(&submit, headers(&[("Ecron-Kind", "exec")]), Bytes::new()).await;
    world.publish_raw(&submit, headers(&[("Ecron-Key", "a\nb")]), Bytes::new()).await;
    publish(world.bus(), &queue, 1).await;
    let mut problems = Vec::new();
    for _ in 0..4 {
        let delivery = one(world.bus(), &queue).await;
        problems.push(delivery.order().as_ref().expect_err("unreadable").header.clone());
        delivery.term("unreadable").await.expect("term");
    }
    assert_eq!(problems, ["Ecron-Wire", "Ecron-Wire", "Ecron-Kind", "Ecron-Key"]);
    assert!(one(world.bus(), &queue).await.order().is_ok());
}

pub async fn a_submitted_message_is_an_order(world: &impl World) {
    let queue = queue("reports");
    let subject = QueueSubject::Submit.of(&queue);
    let given = headers(&[("Ecron-Key", "k1"), ("Ecron-Retry", "attempts=9"), ("X-Mine", "1")]);
    world.publish_raw(&subject, given, Bytes::from_static(b"hello")).await;
    world.publish_raw(&subject, Headers::new(), Bytes::new()).await;
    let delivery = one(world.bus(), &queue).await;
    let order = delivery.order().as_ref().expect("readable");
    assert_eq!(order.run_id.to_string(), "billing/reports~k1");
    assert_eq!((order.kind, order.retry.attempts), (WorkKind::Payload, 9));
    assert_eq!(order.headers, headers(&[("X-Mine", "1")]));
    assert_eq!(delivery.payload().as_ref(), b"hello");
    let keyless = one(world.bus(), &queue).await;
    let expected = format!("billing/reports~seq-{}", keyless.sequence());
    assert_eq!(keyless.order().as_ref().expect("readable").run_id.to_string(), expected);
}

pub async fn only_so_many_of_a_limited_queue_are_out(world: &impl World) {
    let queue = queue("reports");
    world.bus().limit_queue(&queue, Some(2)).await.expect("limited");
    world.bus().limit_queue(&queue, Some(2)).await.expect("limited again");
    world.bus().ensure_queue(&queue).await.expect("keeps its limit");
    let submit = QueueSubject::Submit.of(&queue);
    world.publish_raw(&submit, Headers::new(), Bytes::new()).await;
    publish(world.bus(), &queue, 3).await;
    let mut out = vec![one(world.bus(), &queue).await, one(world.bus(), &queue).await];
    none(world.bus(), &queue).await;
    out.pop().expect("two").ack().await.expect("ack");
    out.push(one(world.bus(), &queue).await);
    none(world.bus(), &queue).await;
    // One that waits for its retry is out, too.
    out.pop().expect("two").nak(Duration::from_secs(60)).await.expect("nak");
    none(world.bus(), &queue).await;
    world.bus().limit_queue(&queue, None).await.expect("unlimited");
    one(world.bus(), &queue).await;
}

pub async fn an_abandoned_fetch_loses_no_message(world: &impl World) {
    let queue = queue("reports");
    none(world.bus(), &queue).await;
    // Given up while it waits; then everything comes, and is taken by the next fetch without an ack wait in between.
    let abandoned = world.bus().fetch(&queue, 10, PATIENCE);
    assert!(tokio::time::timeout(GLANCE, abandoned).await.is_err());
    publish(world.bus(), &queue, 3).await;
    let started = Instant::now();
    let mut received = 0;
    while received < 3 {
        for delivery in world.bus().fetch(&queue, 2, PATIENCE).await.expect("fetch") {
            received += 1;
            delivery.ack().await.expect("ack");
        }
    }
    assert!(started.elapsed() < ACK_WAIT, "{:?}: only after the ack wait", started.elapsed());
}

pub async fn an_abandoned_fetch_does_not_keep_messages_from_others(world: &impl World) {
    let queue = queue("reports");
    let other = world.other().await;
    none(world.bus(), &queue).await;
    let abandoned = world.bus().fetch(&queue, 10, PATIENCE);
    assert!(tokio::time::timeout(GLANCE, abandoned).await.is_err());
    publish(world.bus(), &queue, 1).await;
    let started = Instant::now();
    let delivery = one(&other, &queue).await;
    assert!(started.elapsed() < ACK_WAIT, "{:?}: only after the ack wait", started.elapsed());
    let Notes { tally, .. } = delivery.notes().await.expect("notes");
    assert_eq!(tally.lost(delivery.delivered()), 0, "nobody has started it: {tally:?}");
    delivery.ack().await.expect("ack");
}

pub async fn a_message_that_is_handed_back_is_no_lost_attempt(world: &impl World) {
    let queue = queue("reports");
    publish(world.bus(), &queue, 1).await;
    for number in 1..=3 {
        let delivery = one(world.bus(), &queue).await;
        hand_back(&delivery).await.expect("handed back");
        world.pass(hand_back_delay(number)).await;
    }
    let delivery = one(world.bus(), &queue).await;
    let Notes { tally, .. } = delivery.notes().await.expect("notes");
    assert_eq!((delivery.delivered(), tally.handed_back, tally.lost(4)), (4, 3, 0));
}

pub async fn deferred_work_waits_in_the_intake_until_acknowledged(world: &impl World) {
    let subject = QueueSubject::Defer.of(&queue("reports"));
    assert!(world.bus().fetch_intake(1, GLANCE).await.expect("fetch").is_empty());
    let given = headers(&[("Ecron-Delay", "1h"), ("Nats-Msg-Id", "m1")]);
    world.publish_raw(&subject, given.clone(), Bytes::from_static(b"later")).await;
    let batch = world.bus().fetch_intake(10, PATIENCE).await.expect("fetch");
    let [deferred] = batch.as_slice() else { panic!("{} messages", batch.len()) };
    assert_eq!((deferred.subject(), deferred.headers()), (subject.as_str(), &given));
    assert_eq!((deferred.payload().as_ref(), deferred.sequence()), (b"later".as_slice(), 1));
    let request = crate::wire::defer_request(
        deferred.subject(),
        deferred.headers(),
        deferred.payload(),
        deferred.received_at(),
    );
    assert_eq!(request.expect("readable").due_at, deferred.received_at().plus_ms(3_600_000));
    deferred.ack().await.expect("ack");
    assert!(world.bus().fetch_intake(10, GLANCE).await.expect("fetch").is_empty());
}

pub async fn a_tally_is_there_at_the_next_delivery_and_for_no_other_message(world: &impl World) {
    let queue = queue("reports");
    publish(world.bus(), &queue, 2).await;
    let (first, second) = (one(world.bus(), &queue).await, one(world.bus(), &queue).await);
    assert_eq!(first.notes().await, Ok(Notes::default()));
    let tally = Tally { failed: 1, limited: 2, handed_back: 3 };
    let end = AttemptEnd {
        attempt: 1,
        outcome: Outcome::Failed,
        error: Some("no disk".into()),
        started_at: first.stored_at(),
        ended_at: first.stored_at().plus_ms(1_500),
    };
    let notes = Notes::default().after(tally, end);
    first.note(&Notes { tally: Tally { failed: 9, ..tally }, attempts: vec![] }).await.expect("noted");
    first.note(&notes).await.expect("noted again");
    first.nak(Duration::ZERO).await.expect("nak");
    let again = one(&world.other().await, &queue).await;
    assert_eq!((again.delivered(), again.notes().await), (2, Ok(notes)));
    assert_eq!(second.notes().await, Ok(Notes::default()));
}
