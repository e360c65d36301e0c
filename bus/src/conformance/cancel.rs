//! The cancel signal.

use std::time::Duration;

use futures_util::StreamExt;
use model::run::Generation;

use super::{GLANCE, PATIENCE, World, none, publication, queue};
use crate::cancel::{CancelListener, CancelNotice, CancelRequest, CancelSignal};
use crate::queue::{Delivery, QueueReader};
use crate::runs::RunStream;

fn request(queue_name: &str) -> CancelRequest {
    CancelRequest {
        queue: queue(queue_name),
        run_id: "billing/nightly@2026-11-22T06:45:00Z".parse().expect("a run id"),
        generation: Generation(1),
        by: Some("ann@host".into()),
        reason: None,
    }
}

pub async fn who_has_the_run_in_hand_says_so(world: &impl World) {
    let (first, second) = (world.other().await, world.other().await);
    let queue = queue("reports");
    let mut with = first.cancels(&queue).await.expect("heard");
    let mut without = second.cancels(&queue).await.expect("heard");
    let executors = async {
        loop {
            let notice = with.next().await.expect("a notice");
            assert_eq!(notice.request(), &request("reports"));
            let _ = without.next().await.expect("a notice");
            notice.in_hand().await.expect("answered");
        }
    };
    let signals = async {
        // A subscription isn't acknowledged; asks until it is there.
        for _ in 0..20 {
            if world.bus().cancel(&request("reports"), GLANCE * 4).await.expect("signalled") {
                return;
            }
        }
        panic!("nobody answers");
    };
    tokio::select! {
        () = executors => {}
        () = signals => {}
    }
}

pub async fn without_anybody_who_has_it_in_hand_nobody_says_so(world: &impl World) {
    // Nobody listens: at once.
    let request = request("reports");
    let asked = world.bus().cancel(&request, PATIENCE * 10);
    assert_eq!(tokio::time::timeout(PATIENCE, asked).await.expect("at once"), Ok(false));
    // Somebody listens and hasn't got it; somebody else's queue isn't even told.
    let (listens, elsewhere) = (world.other().await, world.other().await);
    let mut heard = listens.cancels(&queue("reports")).await.expect("heard");
    let mut other = elsewhere.cancels(&queue("others")).await.expect("heard");
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(world.bus().cancel(&request, GLANCE).await, Ok(false));
    tokio::time::timeout(PATIENCE, heard.next()).await.expect("in time").expect("a notice");
    assert!(tokio::time::timeout(GLANCE, other.next()).await.is_err());
}

pub async fn a_withdrawn_run_is_gone_for_good(world: &impl World) {
    let reports = queue("reports");
    let runs = vec![publication(&reports, "job", 1), publication(&reports, "job", 2)];
    let stored: Vec<_> =
        world.bus().publish(runs.clone()).await.into_iter().map(|run| run.expect("stored")).collect();
    let found = world.bus().stored_run(stored[0].sequence).await.expect("an answer").expect("the run");
    assert_eq!((found.message_id, found.queue), (runs[0].message_id.clone(), Some(reports.clone())));
    assert_eq!(world.bus().withdraw(stored[0].sequence).await, Ok(true));
    assert_eq!(world.bus().stored_run(stored[0].sequence).await, Ok(None));
    assert_eq!(world.bus().withdraw(stored[0].sequence).await, Ok(false));
    assert_eq!(world.bus().withdraw(stored[1].sequence + 9).await, Ok(false));
    assert_eq!(world.bus().stored_message_id(stored[0].sequence).await, Ok(None));
    let left = super::one(world.bus(), &reports).await;
    assert_eq!(left.sequence(), stored[1].sequence);
    // Also one that is in somebody's hands: the answer changes nothing any more.
    assert_eq!(world.bus().withdraw(stored[1].sequence).await, Ok(true));
    let _ = left.nak(Duration::ZERO).await;
    none(world.bus(), &reports).await;
    assert_eq!(world.bus().fetch(&reports, 1, GLANCE).await.map(|batch| batch.len()), Ok(0));
}
