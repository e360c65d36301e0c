//! The intake: each deferred message becomes a job that occurs once, or a dead letter that says what is wrong with it.
//!
//! The message is acknowledged only after its job (or letter) is durable; a repetition finds it there already.

use std::collections::BTreeMap;
use std::time::Duration;

use ambient::{Clock, Shutdown};
use bus::dead::{DeadLetter, DeadReason};
use bus::intake::IntakeDelivery;
use bus::wire::{Deferred, defer_request};
use model::misfire::{CatchUp, CatchUpPolicy};
use model::name::{JobId, Name};
use model::overlap::Overlap;
use model::priority::Priority;
use model::schedule::ScheduleSpec;
use model::shard::stable_hash;
use model::spec::{HistoryLimits, JobSpec, Work};
use model::time::Timestamp;
use store::Store;

use crate::api::Api;
use crate::api::types::ApiError;
use crate::service::{PlannerBus, pause_after};

/// Messages in one fetch.
const INTAKE_BATCH_MAX: usize = 64;
/// How long a fetch waits for the first message.
const INTAKE_WAIT: Duration = Duration::from_secs(5);

/// Takes deferred messages until shutdown.
pub(crate) async fn run<S: Store, B: PlannerBus>(
    api: &Api<S, B>,
    bus: &B,
    clock: &Clock,
    shutdown: &Shutdown,
) {
    while !shutdown.stopping() {
        let fetched = tokio::select! {
            biased;
            () = shutdown.stopped() => return,
            fetched = bus.fetch_intake(INTAKE_BATCH_MAX, INTAKE_WAIT) => fetched,
        };
        let outcome = match fetched {
            Ok(deliveries) => {
                let all = deliveries.iter().map(|delivery| accept(api, bus, delivery, clock.now()));
                futures_util::future::try_join_all(all).await.map(|_| ())
            }
            Err(problem) => Err(problem.into()),
        };
        if let Err(problem) = outcome {
            pause_after(&problem, "the intake of deferred work", clock, shutdown).await;
        }
    }
}

/// One message. An error leaves it unacknowledged: it comes again.
async fn accept<S: Store, B: PlannerBus, D: IntakeDelivery>(
    api: &Api<S, B>,
    bus: &B,
    delivery: &D,
    now: Timestamp,
) -> Result<(), ApiError> {
    let refusal = match defer_request(
        delivery.subject(),
        delivery.headers(),
        delivery.payload(),
        delivery.received_at(),
    ) {
        Ok(deferred) => {
            let spec = one_shot(&deferred, delivery.sequence());
            let accepted = api.put_once(&spec, deferred.due_at, now).await?;
            (!accepted)
                .then(|| (DeadReason::Undecodable, format!("there is a job named {} already", spec.id)))
        }
        Err(problem) => Some((DeadReason::MalformedHeaders, problem.to_string())),
    };
    if let Some((reason, error)) = refusal {
        tracing::warn!(subject = delivery.subject(), error, "deferred work is quarantined as a dead letter");
        let letter = DeadLetter {
            id: format!("intake-{}", delivery.sequence()),
            subject: delivery.subject().into(),
            reason,
            error,
            attempts: 0,
            attempt_log: vec![],
            died_at: now,
            original_headers: delivery.headers().clone(),
            payload: delivery.payload().clone(),
        };
        bus.park(&letter).await?;
    }
    delivery.ack().await?;
    Ok(())
}

/// The job of a deferred message. Its name is a function of the publisher's key, or else of the message's sequence,
/// so that a second delivery, or a second submission with the same key, finds it.
#[must_use]
pub fn one_shot(deferred: &Deferred, sequence: u64) -> JobSpec {
    let name = match &deferred.key {
        Some(key) => {
            format!("defer-{:016x}", stable_hash(&[deferred.queue.name.as_str(), "~", key.as_str()]))
        }
        None => format!("defer-{sequence}"),
    };
    // Both forms are letters, digits and a hyphen, within the limit.
    let name = Name::new(&name).unwrap_or_else(|_| Name::default_name());
    JobSpec {
        id: JobId { namespace: deferred.queue.namespace.clone(), name },
        labels: BTreeMap::new(),
        schedule: ScheduleSpec { at: vec![deferred.due_at], ..ScheduleSpec::default() },
        calendars: BTreeMap::new(),
        queue: deferred.queue.clone(),
        work: Work::Bytes(deferred.payload.to_vec()),
        headers: deferred.headers.clone(),
        // Accepted work is never dropped for being late.
        catch_up: CatchUp {
            policy: CatchUpPolicy::All,
            window: model::limits::CATCH_UP_WINDOW_MAX,
            max: model::limits::CATCH_UP_RUNS_MAX,
            rate: None,
        },
        overlap: Overlap::Allow,
        max_active: None,
        starting_deadline: None,
        timeout: deferred.timeout,
        retry: deferred.retry,
        deadline: None,
        priority: Priority::Normal,
        rate_key: None,
        suspend: false,
        history: HistoryLimits::default(),
        delete_when_done: true,
    }
}
