//! What was done to jobs, and when nobody worked on a shard: what an explanation of a run needs beside the run itself.

use std::future::Future;

use model::change::{Change, ChangeKind};
use model::id::Revision;
use model::misfire::Interruption;
use model::name::JobId;
use model::schedule::ScheduleSpec;
use model::shard::ShardId;
use model::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::lease::Epoch;

pub trait ChangeStore: Send + Sync + 'static {
    /// A job's change log, newest first: the newest `CHANGES_MAX`, written by `PlanStore::install`. That of a deleted
    /// job is kept for a week.
    fn changes(
        &self,
        shard: ShardId,
        job: &JobId,
    ) -> impl Future<Output = Result<Vec<Change>, StoreError>> + Send;

    /// Remembers an interruption of a shard; of all, the newest `INTERRUPTIONS_MAX`.
    fn note_interruption(
        &self,
        shard: ShardId,
        epoch: Epoch,
        interruption: Interruption,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The remembered interruptions of a shard, newest first.
    fn interruptions(
        &self,
        shard: ShardId,
    ) -> impl Future<Output = Result<Vec<Interruption>, StoreError>> + Send;
}

/// One entry of a change log as it is stored.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    v: u32,
    at: String,
    revision: u64,
    change: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    schedule: Option<ScheduleSpec>,
}

const VERSION: u32 = 1;

/// A change as JSON: `{"v":1,"at":"2026-11-22T06:45:00Z","revision":17,"change":"edited","by":"ann@host"}`.
#[must_use]
pub fn change_text(change: &Change) -> String {
    let stored = Stored {
        v: VERSION,
        at: change.at.to_string(),
        revision: change.revision.0,
        change: change.kind.as_str().into(),
        by: change.by.clone(),
        schedule: change.schedule.clone(),
    };
    // Strings, numbers and a schedule that was read from JSON: serialising them can't fail.
    serde_json::to_string(&stored).unwrap_or_default()
}

/// A change from its JSON; `None` if this build can't read it: a log with a hole is better than none.
#[must_use]
pub fn change_from(text: &str) -> Option<Change> {
    let stored: Stored = serde_json::from_str(text).ok()?;
    Some(Change {
        at: stored.at.parse().ok()?,
        revision: Revision(stored.revision),
        kind: ChangeKind::from_word(&stored.change)?,
        by: stored.by,
        schedule: stored.schedule,
    })
    .filter(|_| stored.v == VERSION)
}

/// An interruption as a member of its sorted set: `2026-11-22T06:45:00Z 2026-11-22T06:46:30Z`.
#[must_use]
pub fn interruption_text(interruption: &Interruption) -> String {
    format!("{} {}", interruption.since, interruption.until)
}

/// An interruption from its text.
#[must_use]
pub fn interruption_from(text: &str) -> Option<Interruption> {
    let (since, until) = text.split_once(' ')?;
    let instant = |text: &str| text.parse::<Timestamp>().ok();
    Some(Interruption { since: instant(since)?, until: instant(until)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_forms_never_change() {
        let change = Change {
            at: "2026-11-22T06:45:00Z".parse().unwrap(),
            revision: Revision(17),
            kind: ChangeKind::Edited,
            by: Some("ann@host".into()),
            schedule: Some(ScheduleSpec { cron: vec!["30 2 * * *".into()], ..ScheduleSpec::default() }),
        };
        let text = r#"{"v":1,"at":"2026-11-22T06:45:00Z","revision":17,"change":"edited","by":"ann@host","schedule":{"cron":"30 2 * * *"}}"#;
        assert_eq!((change_text(&change).as_str(), change_from(text)), (text, Some(change)));
        assert_eq!(change_from(&text.replacen("1", "2", 1)), None, "another version");
        assert_eq!(change_from("{}"), None);
        let gap = Interruption {
            since: "2026-11-22T06:45:00Z".parse().unwrap(),
            until: "2026-11-22T06:46:30Z".parse().unwrap(),
        };
        let text = "2026-11-22T06:45:00Z 2026-11-22T06:46:30Z";
        assert_eq!((interruption_text(&gap).as_str(), interruption_from(text)), (text, Some(gap)));
    }
}
