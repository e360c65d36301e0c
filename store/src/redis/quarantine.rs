//! Members that nobody can read: out of the way, into a set that an operator can look at.

use model::shard::ShardId;

use super::RedisStore;
use super::link::Call;
use super::script::QUARANTINE;
use crate::error::StoreError;
use crate::keys;

/// A member that can't be read, and where it is.
pub(super) struct Unreadable {
    /// The bucket's key behind the shard's prefix.
    pub(super) bucket: String,
    /// Tier and slice, by which the bucket is in its index; empty for a set without index.
    pub(super) tier: &'static str,
    pub(super) slice: String,
    pub(super) member: Vec<u8>,
}

impl RedisStore {
    /// Moves members into the quarantine and says so.
    pub(super) async fn quarantine(
        &self,
        shard: ShardId,
        unreadable: &[Unreadable],
    ) -> Result<(), StoreError> {
        if unreadable.is_empty() {
            return Ok(());
        }
        let mut call = Call::new(&QUARANTINE, &[keys::quarantine(shard)]).arg(keys::prefix(shard));
        for Unreadable { bucket, tier, slice, member } in unreadable {
            let shown = String::from_utf8_lossy(member);
            tracing::error!(%shard, bucket, member = %shown, "moved an unreadable entry into quarantine");
            call = call.arg(bucket).arg(*tier).arg(slice).arg(member.as_slice());
        }
        self.link.run(&call).await.map(drop)
    }
}
