//! Deferred work is a job that occurs once; when its run has ended, nobody needs its spec any more.

use bus::{BusError, SpecStore};
use model::id::Occurrence;
use model::shard::ShardId;

/// Deletes the spec of deferred work whose run has ended. (A dead letter holds all that a redrive needs.) Leaves every
/// other job alone.
pub(crate) async fn forget<B: SpecStore>(
    bus: &B,
    shard: ShardId,
    occurrence: &Occurrence,
) -> Result<(), BusError> {
    if !occurrence.job.name.as_str().starts_with("defer-") {
        return Ok(());
    }
    let Some(stored) = bus.get(shard, &occurrence.job).await? else { return Ok(()) };
    let deferred = model::manifest::from_bytes(&stored.value, stored.written_at)
        .is_ok_and(|(spec, _)| spec.delete_when_done && spec.schedule.at == [occurrence.due_at]);
    if !deferred {
        return Ok(());
    }
    match bus.delete(shard, &occurrence.job, stored.revision).await {
        // Somebody else deleted it, or declared it anew.
        Ok(_) | Err(BusError::Conflict) => Ok(()),
        Err(problem) => Err(problem),
    }
}
