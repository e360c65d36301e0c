//! One suite of behaviours that every implementation of the store passes, and a property: any two of them answer the
//! same to the same operations.
//!
//! A case is an async function over a fixture with a fresh store. `conformance_tests!` makes each a test.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a case fails by panicking; it runs in tests only")]
#![allow(clippy::missing_panics_doc, missing_docs, reason = "the names of the cases say what they require")]

pub mod adhoc;
pub mod after;
pub mod attempts;
pub mod cancel;
pub mod changes;
pub mod completeness;
pub mod control;
pub mod dispatch;
pub mod gate;
pub mod history;
pub mod leases;
pub mod live;
pub mod overlap;
pub mod plan;
pub mod random;
pub mod space;
pub mod stats;
mod world;

use std::future::Future;
use std::time::Duration;

use model::shard::ShardId;

use crate::Store;
use crate::memory::Loss;

pub use world::World;

/// A store, and what a test may do to its surroundings.
pub trait Fixture: Send + Sync {
    type Store: Store;

    fn store(&self) -> &Self::Store;

    /// Lets time pass for the store: by its injected clock, or really.
    fn pass(&self, time: Duration) -> impl Future<Output = ()> + Send;

    /// Takes something out by hand; `false`: it wasn't there.
    fn lose(&self, shard: ShardId, loss: &Loss) -> impl Future<Output = bool> + Send;

    /// Loses everything that the store remembers.
    fn wipe(&self) -> impl Future<Output = ()> + Send;
}

/// Makes a test of every case. The argument is an async expression that gives a fresh fixture.
#[macro_export]
macro_rules! conformance_tests {
    ($fixture:expr) => {
        $crate::conformance_tests! { @cases $fixture;
            leases: [
                a_free_lease_is_granted_and_renewed,
                a_lease_of_another_is_refused_and_named,
                a_lease_runs_out_and_its_epoch_never_comes_back,
                a_lease_given_back_is_free_at_once,
                a_lease_of_another_is_not_given_back,
                epochs_grow_through_a_wipe,
                roles_and_shards_are_apart,
                every_write_for_a_shard_is_fenced,
                nodes_are_announced_and_forgotten,
                the_clock_moves,
            ];
            plan: [
                a_shard_is_begun_once,
                progress_never_goes_back,
                progress_from_beyond_the_cursor_is_fenced,
                progress_without_a_cursor_is_fenced,
                a_job_is_created_edited_and_deleted,
                an_edit_of_another_revision_is_a_conflict,
                an_edit_moves_entries_and_the_coarse_place,
                an_edit_leaves_what_was_taken,
                an_edit_is_in_force_once_the_shard_was_taken_again,
                an_edit_is_in_force_once_executors_must_have_asked,
                an_occurrence_that_ran_is_not_planned_again,
                an_edit_records_what_it_skips,
                a_new_job_is_planned_even_in_the_past_if_unseen,
                waiting_jobs_come_in_order_of_tier_and_time,
                waiting_is_limited,
                advance_moves_a_job_through_the_tiers,
                advance_refuses_what_has_changed,
                advance_takes_one_step_of_a_job,
                advance_records_what_it_skips,
                advance_carries_many_occurrences,
                buckets_show_the_plan,
            ];
            dispatch: [
                nothing_is_taken_from_a_shard_without_a_cursor,
                due_entries_come_in_order_and_stay,
                take_stops_before_what_is_not_planned_yet,
                take_stops_at_its_limit,
                many_at_one_instant_are_taken_in_parts,
                the_taken_mark_never_goes_back,
                old_minutes_are_found,
                take_tells_the_jobs_present_revision,
                missed_entries_are_looked_at_only,
                missed_entries_of_one_instant_come_whole,
                confirm_moves_an_entry_into_sent,
                confirm_after_settle_changes_nothing,
                settle_after_confirm_ends_the_run,
                confirm_of_the_same_occurrence_under_another_revision_only_clears_it,
                a_repair_updates_what_was_sent,
                an_older_repair_changes_nothing,
                skipped_entries_are_recorded_with_a_reason,
                skip_leaves_others_alone,
                dropped_entries_leave_no_record,
                large_batches_are_carried_out,
            ];
            space: [
                spaced_entries_come_back_when_their_time_has_come,
                what_an_install_spaces_out_comes_later,
                what_is_spaced_out_goes_on_after_an_interruption,
            ];
            overlap: [
                a_claimed_run_counts_and_is_known_again,
                no_more_are_claimed_than_may_be_under_way,
                a_claim_needs_the_present_revision,
                a_claim_of_a_known_run_only_clears_the_entry,
                a_run_waits_for_an_earlier_one_and_is_released,
                those_that_wait_go_in_order_of_due,
                nobody_waits_if_there_is_room,
                only_the_newest_waits_if_asked_so,
                a_waiting_run_can_be_settled,
                a_released_run_that_is_skipped_makes_room,
                an_edit_of_the_limit_lets_waiting_runs_go,
                a_deleted_job_skips_those_that_wait,
                a_deleted_job_may_leave_its_history,
                held_runs_count_and_come_back,
                a_held_run_that_ended_does_not_come_back,
                runs_that_wait_are_listed,
            ];
            cancel: [
                a_future_run_is_withdrawn_for_good,
                a_withdrawn_run_outlives_its_jobs_history,
                a_run_that_nobody_named_is_unknown,
                a_waiting_run_is_cancelled_at_once,
                a_run_on_its_way_is_only_marked,
                a_limited_run_that_was_not_claimed_is_cancelled_at_once,
                a_published_run_is_marked_and_comes_up,
                a_published_run_can_be_ended_by_force,
                what_is_cancelled_at_once_is_counted,
                what_is_cancelled_at_once_leaves_nothing_behind,
                runs_under_way_are_listed,
            ];
            after: [
                the_next_run_follows_the_end_of_the_last,
                every_kind_of_end_is_followed,
                nothing_follows_while_another_is_under_way,
                an_edit_keeps_what_is_planned_and_moves_it_with_the_delay,
                nothing_follows_after_the_last_instant,
            ];
            attempts: [
                overdue_runs_come_by_worry,
                worry_can_be_put_off,
                worry_about_an_ended_run_changes_nothing,
                a_failed_attempt_is_noted,
                only_the_newest_attempt_is_noted,
                attempts_of_ended_runs_are_not_noted,
                terms_are_remembered,
            ];
            adhoc: [
                a_key_is_taken_once,
                a_key_is_freed_by_its_own_run_as_it_asked,
                a_key_is_free_when_its_period_is_over,
                the_newest_of_an_ad_hoc_run_is_remembered,
                an_ad_hoc_run_keeps_its_first_start,
            ];
            live: [
                the_newest_note_of_an_attempt_under_way_is_shown,
                the_end_of_an_attempt_ends_its_notes,
                nothing_is_noted_of_a_run_without_a_record,
            ];
            control: [
                a_trigger_takes_the_next_free_millisecond,
                a_trigger_takes_no_place_of_another_run,
                a_key_names_one_run_of_a_job,
                a_key_is_lost_with_the_store,
                a_payload_is_kept_until_its_run_ends,
                a_backfill_starts_what_has_no_run_yet,
                the_end_of_a_backfills_run_is_kept_until_it_is_counted,
            ];
            history: [
                a_settlement_is_recorded_once,
                settlements_follow_the_generation_rule,
                a_settlement_without_a_record_counts,
                a_settlement_in_an_open_state_is_refused,
                a_batch_of_settlements_is_answered_in_order,
                each_kind_of_end_is_trimmed_apart,
                a_limit_of_none_keeps_none,
                runs_come_newest_first,
                a_redriven_run_moves_between_lists,
                a_deleted_job_takes_its_history_along,
                an_open_run_survives_its_job,
            ];
            stats: [
                ends_are_counted_and_edits_keep_the_counts,
                skips_are_counted,
                all_attempts_of_a_run_are_kept,
                a_run_is_as_late_as_its_first_attempt_and_takes_as_long_as_all,
                backfilled_runs_tell_nothing_about_lateness,
                a_dead_letter_is_reopened_once,
                a_reopened_run_ends_in_its_new_generation,
                an_epoch_is_told_as_its_node,
                an_entry_is_found_by_its_revision,
            ];
            changes: [
                a_change_is_noted_with_its_install,
                the_log_of_a_job_is_bounded_and_outlives_it,
                interruptions_are_noted_and_bounded,
            ];
            completeness: [
                what_is_held_of_occurrences_is_told,
                a_history_tells_how_far_it_reaches,
                a_place_or_an_entry_that_was_taken_out_is_missed,
                a_chain_that_broke_off_is_told,
                a_run_goes_where_its_record_says,
                who_waits_and_was_taken_out_goes_at_once_if_there_is_room,
                a_run_that_is_named_and_has_no_record_is_planned_again,
                what_audits_came_to_is_remembered,
            ];
            gate: [
                only_so_many_go_and_an_end_lets_the_next_go,
                asking_the_gate_again_changes_nothing,
                a_key_without_a_token_is_passed_over,
                a_paused_gate_keeps_who_asks,
                priorities_and_namespaces_take_turns,
                who_ended_while_waiting_is_forgotten,
                gates_are_listed_while_they_hold_anything,
                active_runs_that_nobody_saw_are_found,
                a_run_is_planned_until_it_is_published,
                large_batches_pass_the_gate,
            ];
        }
    };
    (@cases $fixture:expr; $($module:ident: [$($case:ident),* $(,)?];)*) => {
        $(mod $module {
            use super::*;
            $(#[tokio::test]
            async fn $case() {
                $crate::conformance::$module::$case(&$fixture.await).await;
            })*
        })*
    };
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use model::time::Timestamp;

    use super::*;
    use crate::memory::MemoryStore;

    struct Memory {
        store: MemoryStore,
        now_ms: Arc<AtomicI64>,
    }

    impl Fixture for Memory {
        type Store = MemoryStore;

        fn store(&self) -> &MemoryStore {
            &self.store
        }

        async fn pass(&self, time: Duration) {
            self.now_ms.fetch_add(model::time::duration_ms(time), Ordering::Relaxed);
        }

        async fn lose(&self, shard: ShardId, loss: &Loss) -> bool {
            self.store.lose(shard, loss)
        }

        async fn wipe(&self) {
            self.store.wipe();
        }
    }

    async fn memory() -> Memory {
        let now_ms = Arc::new(AtomicI64::new(1_700_000_000_000));
        let clock = Arc::clone(&now_ms);
        let store = MemoryStore::new(Arc::new(move || Timestamp::from_ms(clock.load(Ordering::Relaxed))));
        Memory { store, now_ms }
    }

    crate::conformance_tests!(memory());

    #[tokio::test]
    async fn two_stores_in_memory_agree() {
        let (one, two) = (memory().await, memory().await);
        for seed in 0..20 {
            random::agree(&one, &two, seed, 200).await;
            crate::conformance::gate::agree(&one, &two, seed, 200).await;
        }
    }

    #[tokio::test]
    async fn a_triggers_key_is_forgotten_after_a_day() {
        use model::limits::TRIGGER_KEY_KEPT;
        let memory = memory().await;
        let w = World::begun(&memory).await;
        w.planned("a/b", 1, &[]).await;
        let first = w.trigger("a/b", world::at("07:00:00.5"), Some("k")).await;
        let tick = Duration::from_millis(1);
        memory.pass(TRIGGER_KEY_KEPT - tick).await;
        let again = w.trigger("a/b", world::at("07:00:09.5"), Some("k")).await;
        assert_eq!((again.due_at, again.duplicate), (first.due_at, true));
        memory.pass(tick).await;
        let other = w.trigger("a/b", world::at("07:00:09.5"), Some("k")).await;
        assert_eq!(
            (other.due_at, other.duplicate),
            (world::at("07:00:09.5"), false),
            "asking didn't prolong it"
        );
    }

    #[tokio::test]
    async fn faults_come_before_or_after_the_effect() {
        use crate::lease::Role;
        use crate::memory::Fault;
        use crate::{Inspect, LeaseStore, StoreError};
        let memory = memory().await;
        let error = StoreError::Unknown("injected".into());
        let world = World::begun(&memory).await;
        let leases = async || memory.store.leases(&[world.shard]).await.unwrap().len();
        let release = async || memory.store.release(Role::Planner, "node-a", &[world.shard]).await;
        memory.store.fail_next(Fault::Before(error.clone()));
        assert_eq!((release().await, leases().await), (Err(error.clone()), 2));
        memory.store.fail_next(Fault::After(error.clone()));
        assert_eq!(
            (release().await, leases().await),
            (Err(error), 1),
            "carried out, though it said otherwise"
        );
    }
}
