//! Ad-hoc work, in Redis.

use model::id::RunId;
use model::run::{AttemptEnd, Generation, Outcome, RunState};
use model::shard::ShardId;
use model::stats::FirstStart;
use model::time::duration_ms;
use model::unique::{Freed, UniqueKey, Until};
use serde::{Deserialize, Serialize};

use super::RedisStore;
use super::link::Call;
use super::script::{KEY_CLAIM, KEY_CONFIRM, KEY_FREE, NOTE_AD_HOC};
use super::value;
use crate::adhoc::{AD_HOC_KEPT, AdHocRun, AdHocStore, Claimed};
use crate::error::StoreError;
use crate::keys;
use crate::record::first_from;

/// What stands beside generation, end and attempt, which the script compares.
#[derive(Serialize, Deserialize)]
struct Stored {
    state: String,
    due_at: String,
    outcome: String,
    started_at: String,
    ended_at: String,
    executor: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    output: Option<String>,
}

fn text_of(run: &AdHocRun) -> String {
    let stored = Stored {
        state: run.state.as_str().into(),
        due_at: run.due_at.to_string(),
        outcome: run.last.outcome.as_str().into(),
        started_at: run.last.started_at.to_string(),
        ended_at: run.last.ended_at.to_string(),
        executor: run.executor.clone(),
        error: run.last.error.clone(),
        output: run.output.clone(),
    };
    // Texts only: writing them can't fail.
    serde_json::to_string(&stored).unwrap_or_default()
}

/// A run from its text and what stands beside it; `first` is missing in what an older build wrote.
fn read(
    run_id: &RunId,
    generation: &str,
    attempt: &str,
    text: &str,
    first: Option<&str>,
) -> Option<AdHocRun> {
    let stored: Stored = serde_json::from_str(text).ok()?;
    let generation = Generation(generation.parse().ok()?);
    let started_at = stored.started_at.parse().ok()?;
    Some(AdHocRun {
        run_id: run_id.clone(),
        generation,
        state: RunState::from_word(&stored.state)?,
        due_at: stored.due_at.parse().ok()?,
        last: AttemptEnd {
            attempt: attempt.parse().ok()?,
            outcome: Outcome::from_word(&stored.outcome)?,
            error: stored.error,
            started_at,
            ended_at: stored.ended_at.parse().ok()?,
        },
        first: FirstStart::after(first.and_then(first_from), generation, started_at),
        executor: stored.executor,
        output: stored.output,
    })
}

impl AdHocStore for RedisStore {
    async fn claim_key(
        &self,
        shard: ShardId,
        key: &UniqueKey,
        run_id: &RunId,
        until: Until,
    ) -> Result<Claimed, StoreError> {
        let key = keys::unique(shard, key);
        let call = Call::new(&KEY_CLAIM, std::slice::from_ref(&key))
            .arg(run_id.to_string())
            .arg(until.as_str())
            .arg(duration_ms(until.bound()));
        let taken = value::fields(self.link.run(&call).await?, "claim_key")?;
        match taken.as_slice() {
            [Some(run), published] => {
                let corrupt = || StoreError::Corrupt { key, problem: format!("field run holds {run:?}") };
                let run_id = run.parse().map_err(|_| corrupt())?;
                Ok(Claimed::Taken { run_id, published: published.is_some() })
            }
            _ => Ok(Claimed::New),
        }
    }

    async fn confirm_key(&self, shard: ShardId, key: &UniqueKey, run_id: &RunId) -> Result<(), StoreError> {
        let call = Call::new(&KEY_CONFIRM, &[keys::unique(shard, key)]).arg(run_id.to_string());
        self.link.run(&call).await.map(drop)
    }

    async fn free_key(
        &self,
        shard: ShardId,
        key: &UniqueKey,
        run_id: &RunId,
        freed: Freed,
    ) -> Result<(), StoreError> {
        let mut call = Call::new(&KEY_FREE, &[keys::unique(shard, key)]).arg(run_id.to_string());
        let all = [Until::Started, Until::Done, Until::Period(std::time::Duration::ZERO)];
        for until in all.into_iter().filter(|until| until.is_freed_by(freed)) {
            call = call.arg(until.as_str());
        }
        self.link.run(&call).await.map(drop)
    }

    async fn note_ad_hoc(&self, shard: ShardId, run: &AdHocRun) -> Result<(), StoreError> {
        let (generation, ended, attempt) = run.age();
        let call = Call::new(&NOTE_AD_HOC, &[keys::ad_hoc(shard, &run.run_id)])
            .arg(generation)
            .arg(u8::from(ended))
            .arg(attempt)
            .arg(AD_HOC_KEPT.as_secs())
            .arg(text_of(run))
            .arg(run.last.started_at.as_ms());
        self.link.run(&call).await.map(drop)
    }

    async fn ad_hoc(&self, shard: ShardId, run_id: &RunId) -> Result<Option<AdHocRun>, StoreError> {
        let key = keys::ad_hoc(shard, run_id);
        let mut command = redis::cmd("HMGET");
        command.arg(&key).arg(&["generation", "attempt", "run", "first"]);
        match value::fields(self.link.query(&command).await?, "HMGET")?.as_slice() {
            [Some(generation), Some(attempt), Some(text), first] => {
                let corrupt = || StoreError::Corrupt { key, problem: "field run can't be read".into() };
                read(run_id, generation, attempt, text, first.as_deref()).ok_or_else(corrupt).map(Some)
            }
            _ => Ok(None),
        }
    }
}
