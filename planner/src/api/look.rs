//! `next` and `changes`: what a job does next, and what was done to it. Reads only.

use model::declared::Declared;
use model::forecast::dues;
use model::time::{HOUR_MS, Timestamp};
use serde_json::json;
use store::Store;

use super::Api;
use super::types::{
    ApiError, ChangeView, ChangesReply, ChangesRequest, DayView, NextReply, NextRequest, OccurrenceView,
};
use super::write::job_id;
use crate::service::PlannerBus;

/// Occurrences in an answer of `next`, unless asked otherwise, and at most.
const NEXT_DEFAULT: usize = 10;
const NEXT_MAX: usize = 1_000;
/// Days whose occurrences are counted, and occurrences that are: some milliseconds' work.
const DAYS_MAX: usize = 366;
const COUNTED_MAX: usize = 20_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// `2026-11-22`
const DATE_CHARS: usize = 10;

impl<S: Store, B: PlannerBus> Api<S, B> {
    pub(super) async fn next(&self, request: Result<NextRequest, ApiError>) -> Result<NextReply, ApiError> {
        let NextRequest { job, from, to, count, days } = request?;
        let job = job_id(&job)?;
        let Some(stored) = self.bus.get(self.shards.shard_of(&job), &job).await? else {
            return Err(ApiError::not_found(&format!("the job {job}")));
        };
        let declared = Declared::read(&stored.value, stored.written_at).map_err(|problems| {
            ApiError::refused(format!("foretell {job}: its newest revision can't be read: {problems}"))
        })?;
        let Declared { acceptance, schedule, .. } = &declared;
        let from = instant("from", from.as_deref())?.unwrap_or_else(|| self.clock.now());
        let to = instant("to", to.as_deref())?;
        let count = count.unwrap_or(NEXT_DEFAULT).min(NEXT_MAX);
        let first = schedule.next_after(from.max(acceptance.schedule_since));
        let all = std::iter::successors(first, |due| schedule.next_after(*due));
        let occurrences =
            all.take_while(|due| to.is_none_or(|to| *due < to)).take(count).map(|due| OccurrenceView {
                at: due.to_string(),
                local: schedule.zone().show(due),
                reasons: schedule.reasons(due).iter().map(ToString::to_string).collect(),
            });
        Ok(NextReply {
            job: job.to_string(),
            schedule: schedule.describe(),
            time_zone: schedule.zone().name().into(),
            suspended: acceptance.paused_since().is_some(),
            follows_ends: schedule.after_delay().is_some(),
            occurrences: occurrences.collect(),
            days: days.map_or_else(Vec::new, |days| per_day(&declared, self.clock.now(), days)),
        })
    }

    pub(super) async fn changes(
        &self,
        request: Result<ChangesRequest, ApiError>,
    ) -> Result<ChangesReply, ApiError> {
        let job = job_id(&request?.job)?;
        let changes = self.store.changes(self.shards.shard_of(&job), &job).await?;
        let changes = changes.into_iter().map(|change| ChangeView {
            at: change.at.to_string(),
            revision: change.revision.0,
            change: change.kind.as_str().into(),
            by: change.by,
            schedule: change.schedule.map(|schedule| json!(schedule)),
        });
        Ok(ChangesReply { job: job.to_string(), changes: changes.collect() })
    }
}

/// The occurrences of so many days from today on.
fn per_day(declared: &Declared, now: Timestamp, days: usize) -> Vec<DayView> {
    let days = i64::try_from(days.min(DAYS_MAX)).unwrap_or(0);
    let to = now.floor(DAY_MS).plus_ms(days * DAY_MS);
    let mut counted: Vec<DayView> = Vec::new();
    for due in dues(declared, now, to).take(COUNTED_MAX) {
        let day: String = due.to_string().chars().take(DATE_CHARS).collect();
        match counted.last_mut() {
            Some(last) if last.day == day => last.count += 1,
            _ => counted.push(DayView { day, count: 1 }),
        }
    }
    counted
}

pub(super) fn instant(field: &str, text: Option<&str>) -> Result<Option<Timestamp>, ApiError> {
    let read = |text: &str| {
        text.parse::<Timestamp>()
            .map_err(|problem| ApiError::refused(format!("read {field} {text:?}: {problem}")))
    };
    text.map(read).transpose()
}
