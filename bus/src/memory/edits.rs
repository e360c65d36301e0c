//! Announced edits in memory.

use model::name::QueueId;

use super::MemoryBus;
use crate::edits::{EDITS_AGE_MAX, EDITS_KEPT_MAX, Edit, EditMark, EditReader, EditWriter, Edits};
use crate::error::BusError;

impl EditWriter for MemoryBus {
    async fn announce(&self, queue: &QueueId, edit: &Edit) -> Result<(), BusError> {
        let stored_at = self.now();
        let mut state = self.state()?;
        let announced = state.edits.entry(queue.clone()).or_default();
        let sequence = announced.last().map_or(0, |(mark, _)| mark.sequence) + 1;
        announced.push((EditMark { sequence, stored_at }, edit.clone()));
        announced.retain(|(mark, _)| stored_at < mark.stored_at.plus(EDITS_AGE_MAX));
        let surplus = announced.len().saturating_sub(EDITS_KEPT_MAX);
        announced.drain(..surplus);
        Ok(())
    }
}

impl EditReader for MemoryBus {
    async fn edits_after(&self, queue: &QueueId, mark: Option<EditMark>) -> Result<Edits, BusError> {
        let state = self.state()?;
        let kept = state.edits.get(queue).map(Vec::as_slice).unwrap_or_default();
        let after = mark.map_or(0, |mark| mark.sequence);
        let new: Vec<_> = kept.iter().filter(|(mark, _)| mark.sequence > after).collect();
        Ok(Edits {
            mark: kept.last().map(|(mark, _)| *mark),
            complete_since: new
                .first()
                .filter(|_| new.len() >= EDITS_KEPT_MAX)
                .map(|(mark, _)| mark.stored_at),
            edits: new.into_iter().map(|(_, edit)| edit.clone()).collect(),
        })
    }
}
