//! Cancel signals, and taking a run off the stream.

use futures_util::StreamExt;
use model::run::Generation;

use super::{GLANCE, World, none, publication, queue};
use crate::cancel::{CancelAnswer, CancelHeard, CancelRequest, CancelSignal};
use crate::queue::{Delivery, QueueReader};
use crate::runs::RunStream;

fn request() -> CancelRequest {
    CancelRequest {
        run_id: publication(&queue("reports"), "job", 1).order.run_id,
        generation: Generation(2),
        by: "ada@host-1".into(),
        reason: Some("wrong figures".into()),
    }
}

pub async fn whoever_has_the_run_in_hand_hears_of_it_and_answers(world: &impl World) {
    let (reports, other) = (queue("reports"), queue("other"));
    let ask = async || world.bus().cancel(&reports, &request()).await.expect("a signal");
    assert_eq!(ask().await, CancelAnswer::Nobody);
    let mut heard = world.other().await.cancels(&[other, reports.clone()]).await.expect("signals");
    let answering = async {
        let signal = heard.next().await.expect("a signal");
        assert_eq!((signal.queue(), signal.request()), (&reports, &request()));
        signal.in_hand().await.expect("an answer");
    };
    // A subscription isn't acknowledged; asks until it is there.
    let asking = async {
        for _ in 0..50 {
            match ask().await {
                CancelAnswer::Nobody => tokio::time::sleep(GLANCE / 10).await,
                answer => return answer,
            }
        }
        panic!("nobody answers")
    };
    let (answer, ()) = tokio::join!(asking, answering);
    assert_eq!(answer, CancelAnswer::InHand);
}

pub async fn a_signal_for_a_run_in_nobodys_hand_says_so(world: &impl World) {
    let reports = queue("reports");
    let mut heard = world.other().await.cancels(std::slice::from_ref(&reports)).await.expect("signals");
    let listening = async { while heard.next().await.is_some() {} };
    let asking = async {
        for _ in 0..50 {
            match world.bus().cancel(&reports, &request()).await.expect("a signal") {
                CancelAnswer::Nobody => tokio::time::sleep(GLANCE / 10).await,
                answer => return answer,
            }
        }
        panic!("nobody listens")
    };
    tokio::select! {
        () = listening => panic!("the signals ended"),
        answer = asking => assert_eq!(answer, CancelAnswer::NotInHand),
    }
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
    let _ = left.nak(std::time::Duration::ZERO).await;
    none(world.bus(), &reports).await;
    assert_eq!(world.bus().fetch(&reports, 1, GLANCE).await.map(|batch| batch.len()), Ok(0));
}
