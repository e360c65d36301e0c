//! Where the occurrences of a new revision of a job go at first: what the revision before it dealt with, and what was
//! missed because the job was paused or because nobody planned.

use std::time::Duration;

use crate::declared::Declared;
use crate::misfire::{CatchUp, Interruption};
use crate::plan::{Layout, Window, lay_out};
use crate::run::SkipReason;
use crate::spec::Acceptance;
use crate::time::{MINUTE_MS, Timestamp, duration_ms};

/// After a wipe, a job that was resumed no longer than this before the checkpoint is caught up on once more: its runs
/// may not have been published yet. Well within the time in which the bus drops copies of what was.
pub const RESUME_REDONE_MS: i64 = MINUTE_MS;

/// How far a job's shard has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardStanding {
    /// Every occurrence due before this instant has been put into the minute tier.
    pub planned_until: Timestamp,
    /// Every occurrence due up to this instant has been taken by a dispatcher.
    pub taken_until: Timestamp,
    /// The shard's state was lost, and is made anew from the specs and the last checkpoint.
    pub rebuilding: bool,
}

/// The first layout of a revision that replaces `old`, if there is one. A paused job has what was due before its pause,
/// and no next place.
#[must_use]
pub fn first_layout(
    new: &Declared,
    old: Option<&Acceptance>,
    shard: ShardStanding,
    now: Timestamp,
) -> Layout {
    let (accepted, spec) = (&new.acceptance, &new.spec);
    let window = first_window(accepted, old, spec.delete_when_done, shard, now);
    let mut layout = lay_out(&new.timeline, window, &spec.catch_up, spec.history.skipped);
    if let Some(idle) = idle(accepted) {
        layout.minute.retain(|due_at| !idle.missed(*due_at));
        layout.skipped.retain(|(due_at, _)| !idle.missed(*due_at));
    }
    if accepted.paused_since().is_some() {
        layout.next = None;
    }
    let Some(interruption) = window.interruption else { return layout };
    if let Some(deadline) = spec.starting_deadline {
        skip_too_late(&mut layout, deadline, interruption, now);
    }
    space(&mut layout, &spec.catch_up, interruption, now);
    layout
}

/// The time of the newest pause in which a schedule counted that has been superseded since: nobody owes what it named then,
/// however late the shard is.
fn idle(accepted: &Acceptance) -> Option<Interruption> {
    let pause = accepted.pause?;
    let until = pause.until.map_or(accepted.schedule_since, |until| until.min(accepted.schedule_since));
    Some(Interruption { since: pause.since, until }).filter(|idle| idle.since < idle.until)
}

/// What `first_layout` covers.
#[must_use]
pub fn first_window(
    new: &Acceptance,
    old: Option<&Acceptance>,
    one_off: bool,
    shard: ShardStanding,
    now: Timestamp,
) -> Window {
    let since = new.schedule_since;
    let known_since = new.known_since();
    let held_since = match old {
        Some(old) => old.paused_since(),
        // Nobody has seen it paused: it is new, or its record was lost.
        None => new
            .pause
            .filter(|pause| {
                let redone = |until| shard.taken_until.ms_since(until) < RESUME_REDONE_MS;
                !shard.rebuilding || pause.until.is_none_or(redone)
            })
            .map(|pause| pause.since),
    };
    let held_until = new.pause.map_or(now, |pause| pause.until.unwrap_or(pause.since));
    let held = held_since
        .map(|held_since| Interruption { since: since.max(held_since), until: held_until })
        .filter(|held| held.since < held.until);

    // Everything up to here was taken, as a schedule said that the old revision knew; or it was dispatched before the wipe.
    // What was due later belongs to whichever schedule was in force then, however late it is. A one-off that is still
    // declared hasn't ended, so it goes in again whatever the checkpoint says.
    let reached = match old {
        Some(old) => {
            let unseen = new.unseen_since(old.schedule_since).unwrap_or(shard.taken_until);
            known_since.max(shard.taken_until.min(unseen))
        }
        None if shard.rebuilding && !one_off => known_since.max(shard.taken_until),
        None => known_since,
    };
    let after = held_since.map_or(reached, |held_since| reached.min(since.max(held_since)));
    let unplanned =
        Interruption::between(reached, now).filter(|_| !shard.rebuilding).and_then(|gap| {
            match new.paused_since() {
                Some(until) if until <= gap.since => None,
                Some(until) => Some(Interruption { until, ..gap }),
                None => Some(gap),
            }
        });
    // What touches is caught up on together.
    let interruption = match (held, unplanned) {
        (Some(held), Some(gap)) => {
            Some(Interruption { since: held.since.min(gap.since), until: held.until.max(gap.until) })
        }
        (held, gap) => held.or(gap),
    };
    let until = new.paused_since().map_or(shard.planned_until, |paused_since| paused_since.plus_ms(1));
    Window { after, until, now, interruption }
}

/// What was missed too long ago to be started goes no further: the dispatcher can't tell it from what it took before.
fn skip_too_late(layout: &mut Layout, deadline: Duration, interruption: Interruption, now: Timestamp) {
    let too_late =
        |due_at: &Timestamp| interruption.missed(*due_at) && now.ms_since(*due_at) > duration_ms(deadline);
    let skipped =
        layout.minute.iter().copied().filter(too_late).map(|due| (due, SkipReason::StartingDeadline));
    layout.skipped.extend(skipped);
    layout.minute.retain(|due_at| !too_late(due_at));
}

/// What was missed and runs starts no faster than the catch-up's rate, from now on.
fn space(layout: &mut Layout, catch_up: &CatchUp, interruption: Interruption, now: Timestamp) {
    let mut index = 0;
    layout.minute.retain(|due_at| {
        if !interruption.missed(*due_at) {
            return true;
        }
        let not_before = catch_up.start_at(index, now);
        index += 1;
        if not_before > now {
            layout.spaced.push((*due_at, not_before));
        }
        not_before <= now
    });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::manifest::{Node, accept, decode_job};
    use crate::pause::Pause;
    use crate::plan::minute_tier_until;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn declared(spec: serde_json::Value, acceptance: &Acceptance) -> Declared {
        let document =
            json!({"apiVersion": "ecron/v1", "kind": "Job", "metadata": {"name": "a"}, "spec": spec});
        let spec = decode_job(&Node::from_json(document), acceptance.created_at).unwrap();
        Declared::of(spec, acceptance.clone()).unwrap()
    }

    /// A shard that is where it should be.
    fn healthy(now: Timestamp) -> ShardStanding {
        ShardStanding { planned_until: minute_tier_until(now), taken_until: now, rebuilding: false }
    }

    fn resumed(from: &Acceptance, now: Timestamp) -> Acceptance {
        from.in_namespace(false, false, now)
    }

    /// A paused job gets another schedule, and goes on, while its dispatcher is away.
    #[test]
    fn what_a_superseded_schedule_named_in_a_pause_is_not_owed() {
        let spec = |every: &str, suspend: bool| {
            let spec = json!({"schedule": {"every": every, "start": "2020-01-01T00:00:00Z"}, "suspend": suspend,
                "catchUp": {"policy": "all", "max": 10_000}});
            let document =
                json!({"apiVersion": "ecron/v1", "kind": "Job", "metadata": {"name": "a"}, "spec": spec});
            decode_job(&Node::from_json(document), at("2026-11-22T06:00:00Z")).unwrap()
        };
        let (old, paused, new) = (spec("10s", false), spec("10s", true), spec("1h", false));
        let created = accept(&old, None, at("2026-11-22T06:45:00Z"));
        let held = accept(&paused, Some((&old, &created)), at("2026-11-22T06:50:25Z"));
        let now = at("2026-11-22T07:11:25Z");
        let resumed = accept(&new, Some((&paused, &held)), now);
        let resumed = Declared::of(new, resumed).unwrap();
        for (taken_until, owed) in [
            ("2026-11-22T07:11:00Z", vec![]),
            ("2026-11-22T06:50:05Z", vec![at("2026-11-22T06:50:10Z"), at("2026-11-22T06:50:20Z")]),
        ] {
            let shard = ShardStanding { taken_until: at(taken_until), ..healthy(now) };
            let layout = first_layout(&resumed, Some(&held), shard, now);
            assert_eq!((layout.minute, layout.skipped), (owed, vec![]), "taken until {taken_until}");
            assert_eq!(layout.next.map(|next| next.due_at), Some(at("2026-11-22T08:00:00Z")));
        }
    }

    /// The user's example: at 10:30, 11:30 and 12:30 on weekdays; last run on Thursday at 10:30, resumed on Friday at
    /// 16:30.
    #[test]
    fn an_irregular_schedule_is_caught_up_on_at_the_right_instant() {
        let created = Acceptance::new(at("2026-11-16T00:00:00Z"));
        let paused = created.in_namespace(false, true, at("2026-11-19T10:31:00Z"));
        let now = at("2026-11-20T16:30:00Z");
        let missed = ["19T11:30", "19T12:30", "20T10:30", "20T11:30", "20T12:30"]
            .map(|text| at(&format!("2026-11-{text}:00Z")));
        for (policy, count) in [("none", 0), ("latest", 1), ("all", 5)] {
            let spec = json!({
                "schedule": {"cron": "30 10,11,12 * * 1-5"}, "catchUp": {"policy": policy, "window": "48h"},
            });
            let new = declared(spec, &resumed(&paused, now));
            let layout = first_layout(&new, Some(&paused), healthy(now), now);
            assert_eq!(layout.minute, missed[5 - count..], "{policy}");
            assert_eq!(layout.skipped.len(), 5 - count, "{policy}");
            assert_eq!(layout.next.unwrap().due_at, at("2026-11-23T10:30:00Z"), "{policy}");
        }
        let within_a_day = json!({"schedule": {"cron": "30 10,11,12 * * 1-5"}, "catchUp": {"policy": "all"}});
        let new = declared(within_a_day, &resumed(&paused, now));
        assert_eq!(
            first_layout(&new, Some(&paused), healthy(now), now).minute,
            missed[2..],
            "the window is 24 h"
        );
    }

    fn every_minute(acceptance: &Acceptance, more: &serde_json::Value) -> Declared {
        let mut spec = json!({"schedule": {"cron": "* * * * *"}, "catchUp": {"policy": "all"}});
        for (key, value) in more.as_object().unwrap() {
            spec[key] = value.clone();
        }
        declared(spec, acceptance)
    }

    fn minutes(layout: &Layout) -> Vec<i64> {
        layout.minute.iter().map(|due| due.ms_since(at("2026-11-22T06:00:00Z")) / MINUTE_MS).collect()
    }

    #[test]
    fn what_was_due_outside_the_pause_is_no_business_of_it() {
        let m = |minutes: i64| at("2026-11-22T06:00:00Z").plus_ms(minutes * MINUTE_MS);
        let running = Acceptance::new(m(-60));
        let paused = running.in_namespace(false, true, m(10).plus_ms(500));
        let now = m(15).plus_ms(200);
        let back = resumed(&paused, now);
        let none = json!({"catchUp": {"policy": "none"}});
        let all = json!({});
        let born_paused = resumed(&Acceptance::new(m(10)).in_namespace(false, true, m(10)), now);
        // (what, new, old, more of the spec, what goes into the minute tier)
        let table = [
            ("pausing leaves nothing ahead", &paused, Some(&running), &all, vec![]),
            ("resumed, all", &back, Some(&paused), &all, vec![11, 12, 13, 14, 15, 16]),
            ("resumed, none", &back, Some(&paused), &none, vec![16]),
            ("an edit while paused", &paused, Some(&paused), &all, vec![]),
            ("an edit after the resume", &back, Some(&back), &all, vec![16]),
            ("the pause was never seen", &back, Some(&running), &all, vec![16]),
            ("born paused, resumed, all", &born_paused, None, &all, vec![11, 12, 13, 14, 15, 16]),
            ("born paused, resumed, none", &born_paused, None, &none, vec![16]),
        ];
        for (what, new, old, more, expected) in table {
            let layout = first_layout(&every_minute(new, more), old, healthy(now), now);
            assert_eq!(minutes(&layout), expected, "{what}");
            assert_eq!(layout.next.is_none(), new.paused_since().is_some(), "{what}");
        }
    }

    #[test]
    fn a_downtime_and_a_pause_are_caught_up_on_together() {
        let m = |minutes: i64| at("2026-11-22T06:00:00Z").plus_ms(minutes * MINUTE_MS);
        let paused = Acceptance::new(m(-60)).in_namespace(false, true, m(10).plus_ms(500));
        let now = m(15).plus_ms(200);
        let back = resumed(&paused, now);
        let down = ShardStanding { taken_until: m(7), planned_until: m(8), rebuilding: false };
        let latest = json!({"catchUp": {"policy": "latest"}});
        let layout = first_layout(&every_minute(&back, &latest), Some(&paused), down, now);
        assert_eq!(minutes(&layout), [15]);
        let layout = first_layout(&every_minute(&back, &json!({})), Some(&paused), down, now);
        assert_eq!(minutes(&layout), [8, 9, 10, 11, 12, 13, 14, 15]);
        // Installed while still paused: what was missed before the pause waits for nobody.
        let layout =
            first_layout(&every_minute(&paused, &json!({})), Some(&Acceptance::new(m(-60))), down, now);
        assert_eq!((minutes(&layout), layout.next), (vec![8, 9, 10], None));
    }

    #[test]
    fn a_resume_survives_a_wipe_and_an_old_pause_does_not_come_back() {
        let m = |minutes: i64| at("2026-11-22T06:00:00Z").plus_ms(minutes * MINUTE_MS);
        let paused = Acceptance::new(m(-60)).in_namespace(false, true, m(10).plus_ms(500));
        let back = resumed(&paused, m(15));
        let wiped = |checkpoint: Timestamp| ShardStanding {
            taken_until: checkpoint,
            planned_until: checkpoint,
            rebuilding: true,
        };
        let layout =
            |checkpoint| first_layout(&every_minute(&back, &json!({})), None, wiped(checkpoint), m(40));
        assert_eq!(minutes(&layout(m(15).plus_ms(900))), [11, 12, 13, 14, 15]);
        assert_eq!(minutes(&layout(m(30))), Vec::<i64>::new());
        let late = first_layout(&every_minute(&paused, &json!({})), None, wiped(m(12)), m(40));
        assert_eq!((minutes(&late), late.next), (vec![], None), "still paused");
    }

    #[test]
    fn what_may_not_start_any_more_is_skipped_with_its_reason() {
        let m = |minutes: i64| at("2026-11-22T06:00:00Z").plus_ms(minutes * MINUTE_MS);
        let paused = Acceptance::new(m(-60)).in_namespace(false, true, m(10));
        let now = m(15).plus_ms(200);
        let new = every_minute(&resumed(&paused, now), &json!({"startingDeadline": "90s"}));
        let layout = first_layout(&new, Some(&paused), healthy(now), now);
        assert_eq!(minutes(&layout), [14, 15, 16]);
        assert_eq!(layout.skipped, [11, 12, 13].map(|n| (m(n), SkipReason::StartingDeadline)));
    }

    #[test]
    fn a_resume_starts_no_faster_than_the_rate() {
        let m = |minutes: i64| at("2026-11-22T06:00:00Z").plus_ms(minutes * MINUTE_MS);
        let paused = Acceptance::new(m(-60)).in_namespace(false, true, m(10).plus_ms(500));
        let now = m(15).plus_ms(200);
        let rated = json!({"catchUp": {"policy": "all", "rate": "2/1m burst 2"}});
        let new = every_minute(&resumed(&paused, now), &rated);
        let layout = first_layout(&new, Some(&paused), healthy(now), now);
        assert_eq!(minutes(&layout), [11, 12, 16], "its own occurrences don't wait for them");
        let spaced: Vec<_> = layout
            .spaced
            .iter()
            .map(|(due, not_before)| (due.ms_since(m(0)) / MINUTE_MS, not_before.ms_since(now) / 1_000))
            .collect();
        assert_eq!(spaced, [(13, 30), (14, 60), (15, 90)]);
    }

    #[test]
    fn an_edit_of_the_schedule_while_paused_forgets_the_old_one() {
        let m = |minutes: i64| at("2026-11-22T06:00:00Z").plus_ms(minutes * MINUTE_MS);
        let paused = Acceptance::new(m(-60)).in_namespace(false, true, m(5));
        let edited = Acceptance { schedule_since: m(10), ..paused.clone() };
        let now = m(13).plus_ms(200);
        let new = every_minute(&resumed(&edited, now), &json!({}));
        let layout = first_layout(&new, Some(&edited), healthy(now), now);
        assert_eq!(minutes(&layout), [11, 12, 13, 14]);
        assert_eq!(new.acceptance.pause, Some(Pause { since: m(5), until: Some(now) }));
    }
}
