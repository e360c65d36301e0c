//! What every bus must do, as tests over the traits: run for memory here, and for a real server from the tests package.
//!
//! A world has one bus and lets time pass, by sleeping or by moving a clock. Each test gets a world of its own.
#![allow(
    clippy::expect_used,
    reason = "these are tests, compiled without cfg(test) so that other packages can run them"
)]

pub mod audit;
pub mod cancel;
pub mod core_nats;
pub mod dead;
pub mod edits;
pub mod events;
pub mod logs;
pub mod objects;
pub mod queues;
pub mod specs;

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use model::id::Revision;
use model::name::QueueId;
use model::retry::RetryPolicy;
use model::run::Generation;
use model::time::Timestamp;

use crate::order::{Order, Publication, WorkKind};
use crate::queue::QueueReader;
use crate::wire::headers::Headers;
use crate::wire::message_id;
use crate::{
    ApiClient, ApiServer, AuditLog, CancelListener, CancelSignal, Checkpoints, DeadLetters, EditReader,
    EditWriter, EventReader, EventWriter, Intake, LogReader, LogWriter, Nudge, ObjectStore, QueueBacklog,
    RunStream, SpecStore,
};

/// The ack wait of a world's queues.
pub const ACK_WAIT: Duration = Duration::from_secs(1);
/// Long enough for anything that is bound to come.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// Long enough to see that nothing comes.
pub const GLANCE: Duration = Duration::from_millis(150);

/// Everything that a bus can do.
pub trait Bus:
    RunStream
    + QueueReader
    + EventWriter
    + EventReader
    + Intake
    + DeadLetters
    + AuditLog
    + QueueBacklog
    + SpecStore
    + ObjectStore
    + Checkpoints
    + Nudge
    + ApiServer
    + ApiClient
    + CancelSignal
    + CancelListener
    + LogWriter
    + LogReader
    + EditWriter
    + EditReader
    + Clone
{
}

impl<T> Bus for T where
    T: RunStream
        + QueueReader
        + EventWriter
        + EventReader
        + Intake
        + DeadLetters
        + AuditLog
        + QueueBacklog
        + SpecStore
        + ObjectStore
        + Checkpoints
        + Nudge
        + ApiServer
        + ApiClient
        + CancelSignal
        + CancelListener
        + LogWriter
        + LogReader
        + EditWriter
        + EditReader
        + Clone
{
}

/// A fresh bus, and what a test needs around it.
pub trait World: Sync {
    type Bus: Bus;
    /// The bus under test: always the same connection.
    fn bus(&self) -> &Self::Bus;
    /// Another process's connection to the same bus.
    fn other(&self) -> impl Future<Output = Self::Bus> + Send;
    /// Publishes as any client would, and waits until it is stored.
    fn publish_raw(&self, subject: &str, headers: Headers, payload: Bytes)
    -> impl Future<Output = ()> + Send;
    /// Lets time pass.
    fn pass(&self, duration: Duration) -> impl Future<Output = ()> + Send;
}

/// Makes a module of tests out of an expression that awaits a new world.
#[macro_export]
macro_rules! bus_conformance {
    ($world:expr) => {
        $crate::bus_conformance!(@tests $world, queues:
            published_runs_arrive_as_they_were,
            an_idle_reader_has_a_message_at_once,
            one_fetch_after_another_is_served_at_once,
            a_batch_is_what_is_there_up_to_the_limit,
            a_repeated_message_id_is_stored_once,
            an_acknowledged_message_leaves_the_stream,
            an_unconfirmed_ack_counts_too,
            acks_at_once_count_each,
            a_nak_comes_back_after_its_delay_and_not_before,
            an_unanswered_message_comes_back_after_the_ack_wait,
            work_in_progress_is_not_redelivered,
            two_executors_share_a_queue,
            queues_do_not_see_each_other,
            a_tally_is_there_at_the_next_delivery_and_for_no_other_message,
            an_unreadable_message_is_handed_out_as_such_and_stalls_nobody,
            a_submitted_message_is_an_order,
            only_so_many_of_a_limited_queue_are_out,
            an_abandoned_fetch_loses_no_message,
            an_abandoned_fetch_does_not_keep_messages_from_others,
            a_message_that_is_handed_back_is_no_lost_attempt,
            deferred_work_waits_in_the_intake_until_acknowledged,
        );
        $crate::bus_conformance!(@tests $world, events:
            a_report_is_read_once_acknowledged_and_counted,
            repeating_a_report_changes_nothing,
            what_is_reported_at_once_is_counted_one_by_one,
            a_terminated_message_is_an_event,
            watched_events_are_live,
        );
        $crate::bus_conformance!(@tests $world, specs:
            a_spec_is_written_only_at_the_expected_revision,
            a_deleted_spec_can_be_created_again,
            changes_come_in_order_and_then_caught_up,
            changes_go_on_live_and_idle_readers_advance,
            changes_are_those_of_the_shards_asked_for,
            many_shards_are_watched_as_well_as_few,
            a_deletion_is_a_marker_also_for_whoever_starts_late,
            a_change_tells_who_asked_for_it,
            a_bucket_that_was_replaced_is_read_from_its_beginning,
            a_foreign_key_is_named_and_skipped,
            listing_leaves_out_the_deleted_and_other_namespaces,
            the_cluster_is_initialised_once,
            checkpoints_of_all_nodes_are_merged,
        );
        $crate::bus_conformance!(@tests $world, objects:
            an_object_is_written_only_at_the_expected_revision,
            a_deleted_object_can_be_created_again,
            objects_are_listed_by_kind_and_namespace,
            every_change_of_an_object_is_noticed,
        );
        $crate::bus_conformance!(@tests $world, dead:
            a_letter_is_kept_as_it_was,
            parking_the_same_end_twice_keeps_one_letter,
            letters_are_listed_by_number_and_purged,
            a_redriven_run_has_the_next_generation_and_its_letter_is_gone,
            redriving_ad_hoc_work_keeps_its_run_id,
            what_cannot_be_read_is_not_redriven,
        );
        $crate::bus_conformance!(@tests $world, audit:
            the_audit_is_read_back_in_order,
            a_queue_tells_how_it_stands,
        );
        $crate::bus_conformance!(@tests $world, core_nats:
            a_request_is_answered_by_one_server,
            without_a_server_a_request_fails_at_once,
            nudges_are_heard,
        );
        $crate::bus_conformance!(@tests $world, logs:
            a_runs_log_is_read_in_order_and_apart_from_others,
            a_note_of_progress_is_an_event,
        );
        $crate::bus_conformance!(@tests $world, edits:
            announced_edits_are_read_from_a_mark_on,
            edits_that_are_not_kept_any_more_are_said_to_be_missing,
        );
        $crate::bus_conformance!(@tests $world, cancel:
            who_has_the_run_in_hand_says_so,
            without_anybody_who_has_it_in_hand_nobody_says_so,
            a_withdrawn_run_is_gone_for_good,
        );
    };
    (@tests $world:expr, $module:ident: $($test:ident,)*) => {
        mod $module {
            use super::*;
            $(
                #[tokio::test]
                async fn $test() {
                    let world = $world.await;
                    $crate::conformance::$module::$test(&world).await;
                }
            )*
        }
    };
}

/// A queue for tests.
#[must_use]
pub fn queue(name: &str) -> QueueId {
    QueueId { namespace: name_of("billing"), name: name_of(name) }
}

fn name_of(text: &str) -> model::name::Name {
    model::name::Name::new(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// An order of job `billing/<job>`, due at second `second` of the epoch.
#[must_use]
pub fn publication(queue: &QueueId, job: &str, second: i64) -> Publication {
    let due_at = Timestamp::from_ms(second * 1_000);
    let run_id = format!("billing/{job}@{due_at}").parse().unwrap_or_else(|e| panic!("{e}"));
    let message_id = message_id(&[7; 16], &run_id, Generation(0), 0);
    let order = Order {
        run_id,
        queue: queue.clone(),
        kind: WorkKind::Exec,
        revision: Revision(3),
        generation: Generation(0),
        due_at,
        attempt_base: 0,
        timeout: Duration::from_secs(90),
        retry: RetryPolicy { attempts: 5, ..RetryPolicy::default() },
        start_by: Some(due_at.plus_ms(60_000)),
        deadline: None,
        headers: Headers::from([("traceparent".to_owned(), "00-1".to_owned())]),
    };
    Publication { order, message_id, payload: Bytes::from(format!("payload {second}")) }
}

/// Publishes `count` runs and expects all to be stored.
pub async fn publish<B: RunStream>(bus: &B, queue: &QueueId, count: i64) {
    let publications = (0..count).map(|second| publication(queue, "job", second)).collect();
    for published in bus.publish(publications).await {
        assert!(!published.expect("stored").duplicate);
    }
}

/// The one delivery that is bound to come.
pub async fn one<B: QueueReader>(bus: &B, queue: &QueueId) -> B::Delivery {
    let mut batch = bus.fetch(queue, 1, PATIENCE).await.expect("fetch");
    batch.pop().expect("a message within our patience")
}

/// Expects nothing to come.
pub async fn none<B: QueueReader>(bus: &B, queue: &QueueId) {
    let batch = bus.fetch(queue, 10, GLANCE).await.expect("fetch");
    assert!(batch.is_empty(), "{} messages came", batch.len());
}
