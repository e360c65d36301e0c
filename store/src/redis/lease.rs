//! Leases in Redis: a string with a time to live for each shard and role.

use std::time::Duration;

use model::limits::OWNERS_MAX;
use model::shard::ShardId;
use model::time::{Timestamp, duration_ms};

use super::error::unexpected;
use super::link::Call;
use super::script::{LEASE_HOLD, LEASE_RELEASE};
use super::{RedisStore, value};
use crate::error::StoreError;
use crate::keys;
use crate::lease::{Epoch, LeaseReply, LeaseStore, Role};

impl LeaseStore for RedisStore {
    async fn hold(
        &self,
        role: Role,
        node: &str,
        shards: &[ShardId],
        ttl: Duration,
    ) -> Result<Vec<LeaseReply>, StoreError> {
        let calls: Vec<_> = shards
            .iter()
            .map(|shard| {
                Call::new(
                    &LEASE_HOLD,
                    &[keys::lease(*shard, role), keys::cursor(*shard), keys::owners(*shard)],
                )
                .arg(node)
                .arg(duration_ms(ttl).max(1))
                .arg(format!("{}_epoch", role.as_str()))
                .arg(role.as_str())
                .arg(OWNERS_MAX)
            })
            .collect();
        self.keeper.run_all(&calls).await?.into_iter().map(reply).collect()
    }

    async fn release(&self, role: Role, node: &str, shards: &[ShardId]) -> Result<(), StoreError> {
        let calls: Vec<_> = shards
            .iter()
            .map(|shard| Call::new(&LEASE_RELEASE, &[keys::lease(*shard, role)]).arg(node))
            .collect();
        self.keeper.run_all(&calls).await.map(drop)
    }

    async fn now(&self) -> Result<Timestamp, StoreError> {
        let answer = self.keeper.query(&redis::cmd("TIME")).await?;
        let [seconds, micros] = value::row(answer, "TIME")?;
        let (seconds, micros) = (value::number(&seconds, "TIME")?, value::number(&micros, "TIME")?);
        Ok(Timestamp::from_ms(seconds * 1000 + micros / 1000))
    }
}

fn reply(answer: redis::Value) -> Result<LeaseReply, StoreError> {
    const WHAT: &str = "lease_hold";
    let items = value::items(answer, WHAT)?;
    match items.as_slice() {
        [redis::Value::Int(1), epoch, fresh] => Ok(LeaseReply::Granted {
            epoch: Epoch(u64::try_from(value::number(epoch, WHAT)?).map_err(|_| unexpected(WHAT))?),
            fresh: value::number(fresh, WHAT)? == 1,
        }),
        [redis::Value::Int(0), holder] => {
            Ok(LeaseReply::Held { by: value::text(holder.clone()).unwrap_or_default() })
        }
        _ => Err(unexpected(WHAT)),
    }
}
