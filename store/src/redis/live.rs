//! Runs under way, in Redis: field `live` of a run's record.

use model::id::Occurrence;
use model::progress::Progress;
use model::run::Generation;
use model::shard::ShardId;
use model::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::RedisStore;
use super::link::Call;
use super::script::NOTE_PROGRESS;
use super::value;
use crate::error::StoreError;
use crate::keys;
use crate::live::LiveStore;

/// What stands behind generation, attempt and milliseconds, which the script compares.
#[derive(Serialize, Deserialize)]
struct Said {
    since: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fraction: Option<model::progress::Fraction>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    executor: String,
}

/// `0 2 1795329900250 {"since":"2026-11-22T06:45:00Z","fraction":0.4,…}`.
fn text_of(progress: &Progress) -> String {
    let said = Said {
        since: progress.started_at.to_string(),
        fraction: progress.fraction,
        message: progress.message.clone(),
        executor: progress.executor.clone(),
    };
    // Numbers and texts only: writing them can't fail.
    let said = serde_json::to_string(&said).unwrap_or_default();
    format!("{} {} {} {said}", progress.generation.0, progress.attempt, progress.at.as_ms())
}

fn read(text: &str) -> Option<Progress> {
    let mut parts = text.splitn(4, ' ');
    let (generation, attempt) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let at = Timestamp::from_ms(parts.next()?.parse().ok()?);
    let said: Said = serde_json::from_str(parts.next()?).ok()?;
    Some(Progress {
        generation: Generation(generation),
        attempt,
        started_at: said.since.parse().ok()?,
        at,
        fraction: said.fraction,
        message: said.message,
        executor: said.executor,
    })
}

impl LiveStore for RedisStore {
    async fn note_progress(
        &self,
        shard: ShardId,
        occurrence: &Occurrence,
        progress: &Progress,
    ) -> Result<(), StoreError> {
        let call = Call::new(&NOTE_PROGRESS, &[keys::run(shard, occurrence)])
            .arg(progress.generation.0)
            .arg(progress.attempt)
            .arg(progress.at.as_ms())
            .arg(text_of(progress));
        self.link.run(&call).await.map(drop)
    }

    async fn latest_progress(
        &self,
        shard: ShardId,
        occurrence: &Occurrence,
    ) -> Result<Option<Progress>, StoreError> {
        let key = keys::run(shard, occurrence);
        let mut command = redis::cmd("HMGET");
        command.arg(&key).arg(&["state", "attempt", "live"]);
        let values = value::fields(self.link.query(&command).await?, "HMGET")?;
        let [state, ended, live] = values.as_slice() else { return Ok(None) };
        let Some(progress) = live.as_deref().and_then(read) else { return Ok(None) };
        let ended = ended.as_deref().and_then(|text| text.split(' ').next()?.parse().ok()).unwrap_or(0);
        let goes_on = state.as_deref() == Some("dispatched") && progress.attempt > ended;
        Ok(goes_on.then_some(progress))
    }
}

#[cfg(test)]
mod tests {
    use model::progress::Fraction;

    use super::*;

    #[test]
    fn a_note_reads_back_and_never_changes() {
        let progress = Progress {
            generation: Generation(1),
            attempt: 2,
            started_at: "2026-11-22T06:45:00Z".parse().unwrap(),
            at: Timestamp::from_ms(1_795_329_900_250),
            fraction: Some(Fraction::from(0.4)),
            message: Some("rows 4000/10000".into()),
            executor: "host-1".into(),
        };
        let text = r#"1 2 1795329900250 {"since":"2026-11-22T06:45:00Z","fraction":0.4,"message":"rows 4000/10000","executor":"host-1"}"#;
        assert_eq!(text_of(&progress), text);
        assert_eq!(read(text), Some(progress));
        for bad in ["", "1 2 3", "1 2 3 {}", "x"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
