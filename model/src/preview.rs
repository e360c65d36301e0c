//! What a resume, or the end of a downtime, would start: the same layout that would be made then, only looked at.

use std::time::Duration;

use crate::declared::Declared;
use crate::first::{ShardStanding, first_layout, first_window};
use crate::rate::Rate;
use crate::spec::Acceptance;
use crate::time::Timestamp;

/// Missed occurrences that a preview counts.
pub const MISSED_COUNTED_MAX: u32 = 100_000;

/// What one job would be caught up on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    /// After this instant nothing of the job was dispatched.
    pub since: Timestamp,
    /// Since when it is paused, if it is.
    pub paused_since: Option<Timestamp>,
    /// Occurrences that were missed, at most `MISSED_COUNTED_MAX`.
    pub missed: u32,
    /// The due instants of the runs that would start, in order.
    pub runs: Vec<Timestamp>,
    /// From the first start to the last, by `catchUp.rate`.
    pub over: Duration,
}

/// What would start if the job were resumed (if it is paused) and dispatched from `now` on. `None`: it has missed nothing.
#[must_use]
pub fn preview(job: &Declared, shard: ShardStanding, now: Timestamp) -> Option<Preview> {
    let before: Acceptance = job.acceptance.clone();
    let paused_since = before.paused_since();
    let resumed = Declared { acceptance: before.in_namespace(false, false, now), ..job.clone() };
    let shard = ShardStanding { rebuilding: false, ..shard };
    let window = first_window(&resumed.acceptance, Some(&before), job.spec.delete_when_done, shard, now);
    let interruption = window.interruption?;
    let layout = first_layout(&resumed, Some(&before), shard, now);
    let now_or_later = layout.minute.into_iter().chain(layout.spaced.into_iter().map(|(due_at, _)| due_at));
    let mut runs: Vec<Timestamp> = now_or_later.filter(|due_at| interruption.missed(*due_at)).collect();
    runs.sort_unstable();
    let since = window.after.max(interruption.since);
    let mut missed = 0;
    let mut after = since;
    while missed < MISSED_COUNTED_MAX {
        match job.timeline.next_after(after).filter(|due| *due <= interruption.until) {
            Some(due) => after = due,
            None => break,
        }
        missed += 1;
    }
    let over = job.spec.catch_up.rate.map_or(Duration::ZERO, |rate| spread_over(rate, runs.len()));
    (missed > 0).then_some(Preview { since, paused_since, missed, runs, over })
}

/// How long it takes to start so many runs at a rate: a burst at once, then one each interval.
#[must_use]
pub fn spread_over(rate: Rate, runs: usize) -> Duration {
    let waiting = u64::try_from(runs).unwrap_or(u64::MAX).saturating_sub(u64::from(rate.burst));
    Duration::from_micros(waiting.saturating_mul(rate.interval_us().unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::manifest::{Node, decode_job};
    use crate::plan::minute_tier_until;

    fn at(text: &str) -> Timestamp {
        format!("2026-11-22T{text}Z").parse().unwrap()
    }

    fn declared(catch_up: &serde_json::Value, acceptance: &Acceptance) -> Declared {
        let document = json!({
            "apiVersion": "ecron/v1", "kind": "Job", "metadata": {"name": "a"},
            "spec": {"schedule": {"cron": "* * * * *"}, "catchUp": catch_up},
        });
        let spec = decode_job(&Node::from_json(document), acceptance.created_at).unwrap();
        Declared::of(spec, acceptance.clone()).unwrap()
    }

    #[test]
    fn it_tells_what_a_resume_starts_and_over_what_time() {
        let created = Acceptance::new(at("00:00:00"));
        let paused = created.in_namespace(true, false, at("06:00:30"));
        let now = at("07:00:10");
        let healthy =
            ShardStanding { planned_until: minute_tier_until(now), taken_until: now, rebuilding: false };
        let down = ShardStanding { taken_until: at("06:50:30"), planned_until: at("06:51:00"), ..healthy };
        // (catch-up, acceptance, shard, missed, runs, over)
        let table = [
            (json!({"policy": "latest"}), &created, healthy, None),
            (json!({"policy": "latest"}), &paused, healthy, Some((60, 1, 0))),
            (json!({"policy": "none"}), &paused, healthy, Some((60, 0, 0))),
            (json!({"policy": "all"}), &paused, healthy, Some((60, 60, 0))),
            (json!({"policy": "all", "max": 50}), &paused, healthy, Some((60, 50, 0))),
            (json!({"policy": "all", "window": "30m"}), &paused, healthy, Some((60, 30, 0))),
            (json!({"policy": "all", "rate": "6/1m"}), &paused, healthy, Some((60, 60, 590))),
            (json!({"policy": "all", "rate": "6/1m burst 6"}), &paused, healthy, Some((60, 60, 540))),
            (json!({"policy": "all"}), &created, down, Some((10, 10, 0))),
            (json!({"policy": "all"}), &paused, down, Some((60, 60, 0))),
        ];
        for (catch_up, acceptance, shard, expected) in table {
            let found = preview(&declared(&catch_up, acceptance), shard, now);
            let found = found.map(|found| (found.missed, found.runs.len(), found.over.as_secs()));
            assert_eq!(found, expected, "{catch_up} {shard:?}");
        }
    }
}
