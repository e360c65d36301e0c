//! The load ahead: how many occurrences fall due in each minute, by namespace and queue, by the rules that plan them in earnest.
//!
//! It counts what is planned, not what becomes of it: a run that its overlap policy skips was due all the same. What can't be
//! foretold is named instead: jobs whose runs follow the end of the one before.

use std::collections::BTreeMap;

use crate::declared::Declared;
use crate::limits::{FORECAST_MINUTES_MAX, FORECAST_OCCURRENCES_MAX};
use crate::name::{JobId, Name, QueueId};
use crate::time::{MINUTE_MS, Timestamp};

/// Occurrences of one job that `makers` counts.
const MADE_MAX: usize = 1_000_000;

/// Whose load it is: the jobs' namespace, and the queue that their runs go to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share {
    pub namespace: Name,
    pub queue: QueueId,
}

/// Occurrences per minute, from a full minute on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// The first minute's first instant.
    pub from: Timestamp,
    /// One entry a minute.
    pub minutes: Vec<u32>,
    /// The same, by namespace and queue; only those that have any.
    pub shares: BTreeMap<Share, Vec<u32>>,
    /// Occurrences of all minutes.
    pub total: u64,
    /// Jobs whose runs follow the end of the run before: none of theirs are counted.
    pub unforeseen: Vec<JobId>,
    /// There are more than `FORECAST_OCCURRENCES_MAX`: the jobs from this one on aren't counted.
    pub cut_at: Option<JobId>,
}

impl Forecast {
    /// The minute with the most occurrences, the earliest of several; `None` if there are none at all.
    #[must_use]
    pub fn peak(&self) -> Option<(Timestamp, u32)> {
        let (minute, count) =
            self.minutes.iter().enumerate().max_by_key(|(at, count)| (**count, std::cmp::Reverse(*at)))?;
        (*count > 0).then(|| (self.at(minute), *count))
    }

    /// The first instant of a minute.
    #[must_use]
    pub fn at(&self, minute: usize) -> Timestamp {
        self.from.plus_ms(i64::try_from(minute).unwrap_or(i64::MAX).saturating_mul(MINUTE_MS))
    }
}

/// Counts the occurrences of these jobs in `minutes` minutes (at most `FORECAST_MINUTES_MAX`), the first of which is the one
/// that `from` is in.
#[must_use]
pub fn forecast<'a>(
    jobs: impl IntoIterator<Item = &'a Declared>,
    from: Timestamp,
    minutes: usize,
) -> Forecast {
    let minutes = minutes.min(FORECAST_MINUTES_MAX);
    let from = from.floor(MINUTE_MS);
    let mut ahead = Forecast {
        from,
        minutes: vec![0; minutes],
        shares: BTreeMap::new(),
        total: 0,
        unforeseen: vec![],
        cut_at: None,
    };
    let to = ahead.at(minutes);
    for job in jobs {
        if job.schedule.after_delay().is_some() {
            ahead.unforeseen.push(job.spec.id.clone());
        }
        let mut dues = dues(job, from, to).peekable();
        if dues.peek().is_none() {
            continue;
        }
        let share = Share { namespace: job.spec.id.namespace.clone(), queue: job.spec.queue.clone() };
        let own = ahead.shares.entry(share).or_insert_with(|| vec![0; minutes]);
        for due in dues {
            if ahead.total >= FORECAST_OCCURRENCES_MAX {
                ahead.cut_at = Some(job.spec.id.clone());
                break;
            }
            let Ok(minute) = usize::try_from(due.ms_since(from) / MINUTE_MS) else { continue };
            ahead.total += 1;
            ahead.minutes[minute] += 1;
            own[minute] += 1;
        }
        if ahead.cut_at.is_some() {
            break;
        }
    }
    ahead
}

/// Which jobs have occurrences in a stretch of time, those with the most first, and how many.
#[must_use]
pub fn makers<'a>(
    jobs: impl IntoIterator<Item = &'a Declared>,
    from: Timestamp,
    to: Timestamp,
) -> Vec<(JobId, usize)> {
    let count = |job: &Declared| dues(job, from, to).take(MADE_MAX).count();
    let all = jobs.into_iter().map(|job| (job.spec.id.clone(), count(job)));
    let mut makers: Vec<(JobId, usize)> = all.filter(|(_, count)| *count > 0).collect();
    makers.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    makers
}

/// A job's occurrences from an instant on (included) until another one (not included), as they will be planned.
pub fn dues(job: &Declared, from: Timestamp, to: Timestamp) -> impl Iterator<Item = Timestamp> {
    let is_paused = job.acceptance.paused_since().is_some();
    let since = job.acceptance.schedule_since.max(from.plus_ms(-1));
    let first = if is_paused { None } else { job.schedule.next_after(since) };
    std::iter::successors(first, |due| job.schedule.next_after(*due)).take_while(move |due| *due < to)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::manifest::{Node, decode_job};
    use crate::spec::Acceptance;

    fn at(text: &str) -> Timestamp {
        format!("2026-11-22T{text}Z").parse().unwrap()
    }

    fn job(name: &str, mut spec: serde_json::Value, since: Timestamp) -> Declared {
        let suspend = spec.as_object_mut().unwrap().remove("paused").is_some();
        let document = json!({
            "apiVersion": "ecron/v1", "kind": "Job", "metadata": {"name": name, "namespace": "ops"}, "spec": spec,
        });
        let spec = decode_job(&Node::from_json(document), since).unwrap();
        let acceptance = Acceptance::new(since).in_namespace(suspend, spec.suspend, since);
        Declared::of(spec, acceptance).unwrap()
    }

    #[test]
    fn occurrences_fall_into_their_minutes_and_shares() {
        let since = at("06:00:30");
        let jobs = [
            job("often", json!({"schedule": {"cron": "*/2 * * * *"}, "queue": "a"}), since),
            job("sometimes", json!({"schedule": {"cron": "4 * * * *"}, "queue": "b"}), since),
            job("paused", json!({"schedule": {"cron": "* * * * *"}, "paused": true}), since),
            job("follows", json!({"schedule": {"after": "10s"}}), since),
        ];
        let ahead = forecast(&jobs, at("06:00:45"), 6);
        assert_eq!(ahead.from, at("06:00:00"));
        assert_eq!(ahead.minutes, [0, 0, 1, 0, 2, 0], "what was due before it counted isn't counted");
        assert_eq!((ahead.total, ahead.peak()), (3, Some((at("06:04:00"), 2))));
        assert_eq!(ahead.unforeseen, ["ops/follows".parse().unwrap()]);
        let shares: Vec<_> =
            ahead.shares.iter().map(|(share, own)| (share.queue.to_string(), own.clone())).collect();
        assert_eq!(
            shares,
            [("ops/a".into(), vec![0, 0, 1, 0, 1, 0]), ("ops/b".into(), vec![0, 0, 0, 0, 1, 0])]
        );
        let names: Vec<_> = makers(&jobs, at("06:04:00"), at("06:07:00"))
            .into_iter()
            .map(|(job, count)| (job.to_string(), count))
            .collect();
        assert_eq!(names, [("ops/often".to_owned(), 2), ("ops/sometimes".into(), 1)]);
    }

    #[test]
    fn nothing_ahead_has_no_peak() {
        let ahead = forecast(&[], at("06:00:45"), 6);
        assert_eq!((ahead.peak(), ahead.total, ahead.minutes.len()), (None, 0, 6));
        assert_eq!(forecast(&[], at("06:00:45"), usize::MAX).minutes.len(), FORECAST_MINUTES_MAX);
    }
}
