//! The plan: which of a job's occurrences belong in the minute tier now, and where the job waits for the next.
//!
//! horizon → half-hour tier → minute tier, like a hierarchical timing wheel. A job has at most one place in the two
//! coarse tiers: its next occurrence that isn't in the minute tier yet. Two planners given the same input lay out the
//! same entries, so a stale one does no harm.

use crate::bucket::{Placed, Tier};
use crate::misfire::{CatchUp, Interruption};
use crate::run::SkipReason;
use crate::shard::ShardId;
use crate::time::{HOUR_MS, MINUTE_MS, SECOND_MS, Timestamp};
use crate::timeline::Timeline;

/// A job leaves the horizon when its next occurrence is nearer than this.
pub const HALF_HOUR_AHEAD_MS: i64 = HOUR_MS;

/// Occurrences of one job that one step may put into the minute tier beyond the missed ones: two minutes of the
/// shortest interval (100 ms). A step that reaches it goes on in the next pass.
pub const STEP_OCCURRENCES_MAX: usize = 1_200;

/// The instant before which everything should be in the minute tier: the end of the next full minute. A shard is planned
/// in the first half of each minute, so an occurrence enters it half a minute to two minutes before it is due.
#[must_use]
pub fn minute_tier_until(now: Timestamp) -> Timestamp {
    now.floor(MINUTE_MS).plus_ms(2 * MINUTE_MS)
}

/// The instant before which jobs leave the horizon.
#[must_use]
pub fn half_hour_tier_until(now: Timestamp) -> Timestamp {
    now.floor(MINUTE_MS).plus_ms(HALF_HOUR_AHEAD_MS + MINUTE_MS)
}

/// The first seconds of a minute belong to dispatch: most crontabs name them. Shards are planned after that, one
/// second's worth at a time.
const PASS_AFTER_MS: i64 = 3 * SECOND_MS;
/// Over how many seconds of each minute the shards' passes are spread.
const PASS_SPREAD: i64 = 20;

/// Whether a shard that is planned up to `planned_until` should be planned now: at its own second of each minute; at
/// once if it has fallen behind.
#[must_use]
pub fn pass_is_due(planned_until: Timestamp, shard: ShardId, now: Timestamp) -> bool {
    if planned_until >= minute_tier_until(now) {
        return false;
    }
    let minute = now.floor(MINUTE_MS);
    let own_second = PASS_AFTER_MS + i64::from(shard.0) % PASS_SPREAD * SECOND_MS;
    planned_until <= minute || now.ms_since(minute) >= own_second
}

/// The coarse place of an occurrence.
#[must_use]
pub fn place(due_at: Timestamp, now: Timestamp) -> Placed {
    let tier = if due_at < half_hour_tier_until(now) { Tier::HalfHour } else { Tier::Horizon };
    Placed { tier, due_at }
}

/// Where a job's occurrences go.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Layout {
    /// Into the minute tier, ascending.
    pub minute: Vec<Timestamp>,
    /// Due, and not before: missed ones that run, spread out by `catchUp.rate`. Ascending, and not in `minute`.
    pub spaced: Vec<(Timestamp, Timestamp)>,
    /// The first occurrence that isn't in the minute tier.
    pub next: Option<Placed>,
    /// Missed, and left out by the job's catch-up: the newest, as many as its history keeps.
    pub skipped: Vec<(Timestamp, SkipReason)>,
}

/// What a layout depends on besides the timeline.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Occurrences at or before this instant are dealt with.
    pub after: Timestamp,
    /// Occurrences before this instant belong in the minute tier.
    pub until: Timestamp,
    pub now: Timestamp,
    /// The time that nobody planned, if it was long enough to make misfires.
    pub interruption: Option<Interruption>,
}

/// Lays out a job's occurrences after `window.after`. Missed ones are thinned out by the job's catch-up, so that
/// a long absence costs what the job will run, not what it missed; the dispatcher has the last word on them.
#[must_use]
pub fn lay_out(timeline: &Timeline, window: Window, catch_up: &CatchUp, skipped_max: u32) -> Layout {
    let mut layout = Layout::default();
    let mut after = window.after;
    if let Some(interruption) = window.interruption {
        let missed_after = after.max(interruption.since);
        let late = take_ascending(timeline, &mut after, interruption.since.plus_ms(1), &mut layout);
        if let Some(due_at) = late.filter(|due_at| *due_at <= interruption.since) {
            // The step is full before it came to the missed ones: they are the next step's.
            layout.next = Some(place(due_at, window.now));
            return layout;
        }
        let missed = newest_missed(timeline, missed_after, interruption.until, catch_up, skipped_max);
        let verdict = catch_up.resolve(&missed, window.now);
        let first_recorded = verdict.skip.len().saturating_sub(skipped_max as usize);
        layout.minute.extend(verdict.run);
        layout.skipped.extend(
            verdict.skip[first_recorded..].iter().map(|(due, reason)| (*due, SkipReason::Missed(*reason))),
        );
        after = after.max(interruption.until);
    }
    let next = take_ascending(timeline, &mut after, window.until, &mut layout);
    layout.next = next.map(|due_at| place(due_at, window.now));
    layout
}

/// Moves occurrences after `after` and before `until` into the minute tier; answers with the first one left over.
fn take_ascending(
    timeline: &Timeline,
    after: &mut Timestamp,
    until: Timestamp,
    layout: &mut Layout,
) -> Option<Timestamp> {
    for _ in 0..STEP_OCCURRENCES_MAX {
        let due_at = timeline.next_after(*after)?;
        if due_at >= until {
            return Some(due_at);
        }
        layout.minute.push(due_at);
        *after = due_at;
    }
    timeline.next_after(*after)
}

/// The newest missed occurrences, ascending: as many as may run or be recorded as skipped. Older ones can't change
/// what runs, and the job's history would forget them at once.
fn newest_missed(
    timeline: &Timeline,
    after: Timestamp,
    until: Timestamp,
    catch_up: &CatchUp,
    skipped_max: u32,
) -> Vec<Timestamp> {
    let wanted = catch_up.runs_max() as usize + skipped_max as usize;
    let mut missed = Vec::new();
    let mut before = until.plus_ms(1);
    while missed.len() < wanted {
        match timeline.previous_before(before) {
            Some(due_at) if due_at > after => {
                missed.push(due_at);
                before = due_at;
            }
            Some(_) | None => break,
        }
    }
    missed.reverse();
    missed
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::misfire::CatchUpPolicy;
    use crate::schedule::{Identity, Schedule, ScheduleSpec};

    const START: &str = "2026-11-22T06:45:00Z";

    fn at(seconds: i64) -> Timestamp {
        START.parse::<Timestamp>().unwrap().plus_ms(seconds * 1000)
    }

    fn every(seconds: u64) -> Timeline {
        let spec = ScheduleSpec { every: Some(Duration::from_secs(seconds)), ..ScheduleSpec::default() };
        compiled(&spec)
    }

    fn compiled(spec: &ScheduleSpec) -> Timeline {
        let identity = Identity { job: "a/b", created_at: at(0) };
        Timeline::of(Schedule::compile(spec, &identity, &|_| None).unwrap())
    }

    fn window(after: i64, now: i64) -> Window {
        let now = at(now);
        Window { after: at(after), until: minute_tier_until(now), now, interruption: None }
    }

    fn keep(policy: CatchUpPolicy) -> CatchUp {
        CatchUp { policy, ..CatchUp::default() }
    }

    #[test]
    fn the_minute_tier_reaches_to_the_end_of_the_next_minute() {
        assert_eq!(minute_tier_until(at(0)), at(120));
        assert_eq!(minute_tier_until(at(59)), at(120));
        assert_eq!(minute_tier_until(at(60)), at(180));
    }

    #[test]
    fn a_shard_is_planned_once_a_minute_at_its_own_second() {
        let table = [
            (120, 0, 59, false), // planned to the end of the next minute
            (120, 0, 60, false), // dispatch first
            (120, 0, 63, true),
            (120, 1, 63, false),
            (120, 1, 64, true),
            (120, 20, 63, true),
            (60, 19, 60, true), // behind: at once
            (-600, 5, 0, true),
        ];
        for (planned, shard, now, due) in table {
            assert_eq!(pass_is_due(at(planned), ShardId(shard), at(now)), due, "{planned} {shard} {now}");
        }
    }

    #[test]
    fn near_occurrences_go_to_the_minute_tier_and_the_next_waits() {
        let layout = lay_out(&every(50), window(0, 1), &CatchUp::default(), 10);
        assert_eq!(layout.minute, [at(50), at(100)]);
        assert_eq!(layout.next, Some(Placed { tier: Tier::HalfHour, due_at: at(150) }));
        let far = lay_out(&every(86_400), window(0, 1), &CatchUp::default(), 10);
        assert_eq!((far.minute.len(), far.next.unwrap().tier), (0, Tier::Horizon));
    }

    #[test]
    fn an_interruption_is_thinned_out_by_the_policy() {
        let gap = Interruption { since: at(5), until: at(65) };
        let window = Window { interruption: Some(gap), ..window(0, 65) };
        let run = |policy| lay_out(&every(10), window, &keep(policy), 3);
        let upcoming: Vec<_> = (7..18).map(|n| at(n * 10)).collect();
        for (policy, caught_up, skipped) in [
            (CatchUpPolicy::None, vec![], vec![at(40), at(50), at(60)]),
            (CatchUpPolicy::Latest, vec![at(60)], vec![at(30), at(40), at(50)]),
            (CatchUpPolicy::All, (1..7).map(|n| at(n * 10)).collect(), vec![]),
        ] {
            let layout = run(policy);
            assert_eq!(layout.minute, [caught_up, upcoming.clone()].concat(), "{policy:?}");
            assert_eq!(layout.skipped.iter().map(|(due, _)| *due).collect::<Vec<_>>(), skipped, "{policy:?}");
        }
    }

    #[test]
    fn occurrences_from_before_the_interruption_are_merely_late() {
        let gap = Interruption { since: at(25), until: at(65) };
        let layout = lay_out(
            &every(10),
            Window { interruption: Some(gap), ..window(0, 65) },
            &keep(CatchUpPolicy::None),
            9,
        );
        assert_eq!(layout.minute[..3], [at(10), at(20), at(70)]);
    }

    #[test]
    fn a_long_absence_of_a_busy_job_costs_what_it_runs() {
        let gap = Interruption { since: at(0), until: at(30 * 86_400) };
        let window = Window { interruption: Some(gap), ..window(0, 30 * 86_400) };
        let layout = lay_out(&every(1), window, &keep(CatchUpPolicy::Latest), 5);
        assert_eq!(layout.minute[0], at(30 * 86_400));
        assert_eq!(layout.skipped.len(), 5);
    }

    #[test]
    fn a_step_is_bounded_and_goes_on_where_it_stopped() {
        let spec = ScheduleSpec { every: Some(Duration::from_millis(100)), ..ScheduleSpec::default() };
        let busy = compiled(&spec);
        let layout = lay_out(&busy, Window { until: at(600), ..window(0, 1) }, &CatchUp::default(), 1);
        assert_eq!(layout.minute.len(), STEP_OCCURRENCES_MAX);
        assert_eq!(layout.next.unwrap().due_at, layout.minute.last().unwrap().plus_ms(100));
    }
}
