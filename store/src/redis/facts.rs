//! What a server says of itself, for an operator and for `model::durability`. Reads only.

use std::collections::BTreeMap;

use model::durability::RedisFacts;
use model::shard::ShardCount;
use model::time::Timestamp;

use super::{RedisStore, info, value};
use crate::error::StoreError;
use crate::ownership::ClockSample;

/// Keys that one `SCAN` looks at: some hundred microseconds of the server.
const SCAN_COUNT: usize = 1_000;

impl RedisStore {
    /// What the server says of itself, for `model::durability` to judge.
    pub async fn facts(&self) -> Result<RedisFacts, StoreError> {
        let answer = self.link.query(&redis::cmd("INFO")).await?;
        let text = value::text(answer).unwrap_or_default();
        Ok(info::Info::parse(&text).facts(&self.config().await?))
    }

    /// Settings that `INFO` doesn't tell; empty where `CONFIG` is denied, as hosted servers do.
    async fn config(&self) -> Result<BTreeMap<String, String>, StoreError> {
        let mut command = redis::cmd("CONFIG");
        command.arg("GET").arg("*append*").arg("min-replicas-*");
        let answer = match self.link.query(&command).await {
            Ok(answer) => answer,
            Err(StoreError::Refused(_)) => return Ok(BTreeMap::new()),
            Err(problem) => return Err(problem),
        };
        let texts: Vec<String> =
            value::flat(answer).into_iter().map(|item| value::text(item).unwrap_or_default()).collect();
        Ok(texts.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect())
    }

    /// The server's clock against ours.
    pub async fn clock_sample(&self, local_now: impl Fn() -> Timestamp) -> Result<ClockSample, StoreError> {
        let before = local_now();
        let [seconds, micros] = value::row(self.link.query(&redis::cmd("TIME")).await?, "TIME")?;
        let (seconds, micros) = (value::number(&seconds, "TIME")?, value::number(&micros, "TIME")?);
        Ok(ClockSample::new(before, Timestamp::from_ms(seconds * 1_000 + micros / 1_000), local_now()))
    }

    /// Keys that begin as ours do and that no part of this version writes, and how many keys of ours were looked at.
    /// At most `limit` of the former.
    pub async fn strange_keys(
        &self,
        shards: ShardCount,
        limit: usize,
    ) -> Result<(Vec<String>, u64), StoreError> {
        let (mut strange, mut seen, mut cursor) = (Vec::new(), 0, "0".to_owned());
        loop {
            let mut command = redis::cmd("SCAN");
            command.arg(&cursor).arg("MATCH").arg("ecron:*").arg("COUNT").arg(SCAN_COUNT);
            let [next, keys] = value::row(self.link.query(&command).await?, "SCAN")?;
            let keys = value::items(keys, "SCAN")?.into_iter().filter_map(value::text);
            for key in keys {
                seen += 1;
                if !crate::keys::is_known(&key, shards) && strange.len() < limit {
                    strange.push(key);
                }
            }
            cursor = value::text(next).unwrap_or_else(|| "0".into());
            if cursor == "0" {
                return Ok((strange, seen));
            }
        }
    }
}
