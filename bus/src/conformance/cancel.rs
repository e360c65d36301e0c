//! The cancel signal.

use std::time::Duration;

use futures_util::StreamExt;
use model::run::Generation;

use super::{GLANCE, PATIENCE, World, queue};
use crate::cancel::{CancelListener, CancelNotice, CancelRequest, CancelSignal};

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
