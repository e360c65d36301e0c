//! Change logs and interruptions in Redis.

use model::change::Change;
use model::limits::{CHANGES_MAX, INTERRUPTIONS_MAX};
use model::misfire::Interruption;
use model::name::JobId;
use model::shard::ShardId;

use super::RedisStore;
use super::link::Call;
use super::plan::wrong_type;
use super::script::NOTE_INTERRUPTION;
use super::value;
use crate::changes::{ChangeStore, change_from, interruption_from, interruption_text};
use crate::error::StoreError;
use crate::keys;
use crate::lease::{Epoch, Role};

impl ChangeStore for RedisStore {
    async fn changes(&self, shard: ShardId, job: &JobId) -> Result<Vec<Change>, StoreError> {
        let key = keys::changes(shard, job);
        let mut command = redis::cmd("LRANGE");
        command.arg(&key).arg(0).arg(CHANGES_MAX - 1);
        let answer = self.link.query(&command).await.map_err(|error| wrong_type(&key, error))?;
        let texts = value::items(answer, "LRANGE")?.into_iter().filter_map(value::text);
        Ok(texts.filter_map(|text| change_from(&text)).collect())
    }

    async fn note_interruption(
        &self,
        shard: ShardId,
        epoch: Epoch,
        interruption: Interruption,
    ) -> Result<(), StoreError> {
        let keys = [keys::lease(shard, Role::Dispatcher), keys::interruptions(shard)];
        let call = Call::new(&NOTE_INTERRUPTION, &keys)
            .arg(epoch.0)
            .arg(interruption.until.as_ms())
            .arg(interruption_text(&interruption))
            .arg(INTERRUPTIONS_MAX);
        self.link.run(&call).await.map(drop)
    }

    async fn interruptions(&self, shard: ShardId) -> Result<Vec<Interruption>, StoreError> {
        let key = keys::interruptions(shard);
        let mut command = redis::cmd("ZREVRANGE");
        command.arg(&key).arg(0).arg(-1);
        let answer = self.link.query(&command).await.map_err(|error| wrong_type(&key, error))?;
        let texts = value::items(answer, "ZREVRANGE")?.into_iter().filter_map(value::text);
        Ok(texts.filter_map(|text| interruption_from(&text)).collect())
    }
}
