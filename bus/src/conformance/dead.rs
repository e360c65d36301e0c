//! Dead letters.

use bytes::Bytes;
use model::run::Generation;
use model::time::Timestamp;

use super::{World, none, one, publication, queue};
use crate::dead::{DeadLetter, DeadLetters, DeadReason, Redriven};
use crate::order::WorkKind;
use crate::queue::Delivery;
use crate::runs::RunStream;
use crate::subjects::QueueSubject;
use crate::wire::headers::Headers;

fn letter_of(delivery: &impl Delivery, id: &str) -> DeadLetter {
    DeadLetter {
        id: id.into(),
        subject: delivery.subject().into(),
        reason: DeadReason::AttemptsExhausted,
        error: "line one\nline two".into(),
        attempts: 5,
        attempt_log: vec![],
        died_at: Timestamp::from_ms(1_000),
        original_headers: delivery.raw_headers().clone(),
        payload: delivery.payload().clone(),
    }
}

/// Publishes a run and parks it, as an executor does: parked, then terminated.
async fn parked(world: &impl World, second: i64) -> (u64, DeadLetter) {
    let queue = queue("reports");
    let run = publication(&queue, "nightly", second);
    world.bus().publish(vec![run.clone()]).await;
    let delivery = one(world.bus(), &queue).await;
    let letter = letter_of(&delivery, &run.order.run_id.to_string());
    let number = world.bus().park(&letter).await.expect("parked");
    delivery.term("parked").await.expect("term");
    (number, letter)
}

pub async fn a_letter_is_kept_as_it_was(world: &impl World) {
    let (number, letter) = parked(world, 5).await;
    let stored = world.bus().letter(number).await.expect("read").expect("there");
    assert_eq!((stored.number, stored.letter), (number, letter));
    assert_eq!(world.bus().letter(number + 1).await, Ok(None));
    assert_eq!(world.bus().letter(0).await, Ok(None));
}

pub async fn parking_the_same_end_twice_keeps_one_letter(world: &impl World) {
    let (number, mut letter) = parked(world, 5).await;
    assert_eq!(world.bus().park(&letter).await, Ok(number));
    letter.original_headers.insert("Ecron-Generation".into(), "1".into());
    assert_ne!(world.bus().park(&letter).await, Ok(number), "the end of the next generation is another");
}

pub async fn letters_are_listed_by_number_and_purged(world: &impl World) {
    let (first, _) = parked(world, 5).await;
    let (second, _) = parked(world, 6).await;
    let (third, _) = parked(world, 7).await;
    let numbers = async |from, limit| {
        let letters = world.bus().letters(from, limit).await.expect("list");
        letters.iter().map(|stored| stored.number).collect::<Vec<_>>()
    };
    assert_eq!(numbers(0, 10).await, [first, second, third]);
    assert_eq!(numbers(second, 1).await, [second]);
    assert_eq!(world.bus().purge(second).await, Ok(true));
    assert_eq!(world.bus().purge(second).await, Ok(false));
    assert_eq!(numbers(0, 10).await, [first, third]);
    assert_eq!(numbers(third + 1, 10).await, Vec::<u64>::new());
}

pub async fn a_redriven_run_has_the_next_generation_and_its_letter_is_gone(world: &impl World) {
    let queue = queue("reports");
    let (number, letter) = parked(world, 5).await;
    let Ok(Redriven::Sent { run_id, sequence, .. }) = world.bus().redrive(number).await else {
        panic!("not sent")
    };
    assert_eq!(run_id.to_string(), letter.id);
    assert_eq!(world.bus().redrive(number).await, Ok(Redriven::NotFound));
    let delivery = one(world.bus(), &queue).await;
    assert_eq!(delivery.sequence(), sequence);
    let order = delivery.order().as_ref().expect("readable");
    assert_eq!((order.run_id.to_string(), order.generation), (letter.id, Generation(1)));
    assert_eq!((order.attempt_base, order.start_by, order.kind), (0, None, WorkKind::Exec));
    assert_eq!(delivery.payload(), &letter.payload);
    delivery.ack().await.expect("ack");
    none(world.bus(), &queue).await;
}

pub async fn redriving_ad_hoc_work_keeps_its_run_id(world: &impl World) {
    let queue = queue("reports");
    let subject = QueueSubject::Submit.of(&queue);
    let headers = Headers::from([("X-Mine".to_owned(), "1".to_owned())]);
    world.publish_raw(&subject, headers, Bytes::from_static(b"hello")).await;
    let delivery = one(world.bus(), &queue).await;
    let run_id = delivery.order().as_ref().expect("readable").run_id.clone();
    let number = world.bus().park(&letter_of(&delivery, &run_id.to_string())).await.expect("parked");
    delivery.term("parked").await.expect("term");
    assert!(matches!(world.bus().redrive(number).await, Ok(Redriven::Sent { .. })));
    let again = one(world.bus(), &queue).await;
    let order = again.order().as_ref().expect("readable");
    assert_eq!((&order.run_id, order.generation, order.kind), (&run_id, Generation(1), WorkKind::Payload));
    assert_eq!(order.headers["X-Mine"], "1");
    assert_eq!(again.payload().as_ref(), b"hello");
}

pub async fn what_cannot_be_read_is_not_redriven(world: &impl World) {
    let letter = DeadLetter {
        id: "ECRON_RUNS/17".into(),
        subject: "ecron.run.billing.reports".into(),
        reason: DeadReason::Undecodable,
        error: "read header Ecron-Wire: is missing".into(),
        attempts: 0,
        attempt_log: vec![],
        died_at: Timestamp::from_ms(1_000),
        original_headers: Headers::new(),
        payload: Bytes::new(),
    };
    let number = world.bus().park(&letter).await.expect("parked");
    let Ok(Redriven::Unreadable { problem }) = world.bus().redrive(number).await else { panic!("sent") };
    assert!(problem.contains("Ecron-Wire"), "{problem}");
    assert!(world.bus().letter(number).await.expect("read").is_some(), "it stays");
}
